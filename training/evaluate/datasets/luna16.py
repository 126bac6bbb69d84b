"""LUNA16 as it is distributed (luna16.grand-challenge.org): 888 chest CTs in ten subsets, and nodule candidates.

    ROOT/subset0/SERIESUID.mhd  .raw    ... subset9; some archives unpack to subset0/subset0
    ROOT/annotations.csv                seriesuid,coordX,coordY,coordZ,diameter_mm
    ROOT/candidates_V2.csv              seriesuid,coordX,coordY,coordZ,class        (or candidates.csv, the older list)

The task is the challenge's false positive reduction: is a candidate a nodule (class 1) or not (0)? Coordinates are the
mhd's own world, LPS mm. The challenge's ten subsets are the folds. Candidates of scans that are not there are left out
with a count, so that some of the subsets make a (smaller) data set too.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from tapct_core.errors import UserError

from .cases import Case, Dataset
from .folder import read_rows
from .labelled import Labelled, Target

CANDIDATES = ("candidates_V2.csv", "candidates.csv")
CLASSES = ("no nodule", "nodule")
SAME_PLACE_MM = 1e-3


def read(root: Path, negatives: int = 50, seed: int = 0) -> Labelled:
    """The scans that have candidates, with up to ``negatives`` of class 0 a scan, drawn by ``seed``; 0 keeps all.

    A scan's draw depends on the seed and its own candidates alone. Raises UserError where the layout is another one,
    a line cannot be read, or a class is missing.
    """
    scans = _scans(root)
    listing = _listing(root)
    by_scan: dict[str, list[tuple[float, float, float, int]]] = {}
    absent: set[str] = set()
    for line, row in enumerate(read_rows(listing, ("seriesuid", "coordX", "coordY", "coordZ", "class")), start=2):
        if row["seriesuid"] in scans:
            by_scan.setdefault(row["seriesuid"], []).append(_candidate(row, f"{listing.name}, line {line}"))
        else:
            absent.add(row["seriesuid"])
    nodules, unmatched = _nodules(root, by_scan)
    targets, total = {}, 0
    for uid in sorted(by_scan):
        rows = np.array(by_scan[uid])
        total += len(rows)
        kept = _thinned(rows[:, 3].astype(int), negatives, seed, uid)
        targets[uid] = Target(rows[kept, 3].astype(int), rows[kept, :3])
    cases = tuple(Case(uid, scans[uid], split=scans[uid].relative_to(root).parts[0]) for uid in targets)
    labels = np.concatenate([target.labels for target in targets.values()]) if targets else np.zeros(0, int)
    if len(np.unique(labels)) < 2:
        raise UserError(f"{listing} gives the scans of {root} no candidates of both classes; unpack more subsets")
    left_out = []
    if absent:
        left_out.append(f"{len(absent)} scans of {listing.name} are not in the folder")
    without = len(scans) - len(targets)
    if without:
        left_out.append(f"{without} scans have no candidates")
    if unmatched:
        left_out.append(f"{unmatched} of {nodules} annotated nodules have no candidate within their radius")
    kept_words = "all" if negatives == 0 else f"at most {negatives} without a nodule from each scan (seed {seed})"
    note = (
        f"LUNA16 (Setio et al. 2017, Medical Image Analysis 42), {listing.name}: {int((labels == 1).sum())} candidates "
        f"that are nodules and {int((labels == 0).sum())} that are not ({kept_words}), of {total} in {len(cases)} "
        "scans; classes and folds are the challenge's. "
        "LUNA16 does not say which scans share a patient: intervals go by scan."
    )
    return Labelled(Dataset("LUNA16", cases, left_out=tuple(left_out), note=note), targets, CLASSES)


def _scans(root: Path) -> dict[str, Path]:
    """SERIESUID -> its mhd in one of the subset folders."""
    if not root.is_dir():
        raise UserError(f"{root} is no folder; give the one that holds LUNA16's subset0 to subset9")
    found: dict[str, Path] = {}
    for path in sorted(root.glob("subset[0-9]*/**/*.mhd")):
        if path.stem in found:
            raise UserError(f"{path.name} lies in {found[path.stem].parent.name} and {path.parent.name}; keep one")
        found[path.stem] = path
    if not found:
        raise UserError(f"{root} has no subset folders with .mhd scans; unpack subset0.zip to subset9.zip there")
    return found


def _listing(root: Path) -> Path:
    for name in CANDIDATES:
        if (root / name).is_file():
            return root / name
    raise UserError(f"{root} has neither {' nor '.join(CANDIDATES)}; copy LUNA16's candidates there")


def _candidate(row: dict[str, str], where: str) -> tuple[float, float, float, int]:
    x, y, z = _place(row, where)
    if row["class"] not in ("0", "1"):
        raise UserError(f"{where}: class is {row['class']!r}; it is 0 or 1")
    return x, y, z, int(row["class"])


def _place(row: dict[str, str], where: str) -> tuple[float, float, float]:
    try:
        point = tuple(float(row[f"coord{axis}"]) for axis in "XYZ")
    except ValueError:
        point = (math.nan,)
    if not all(map(math.isfinite, point)):
        raise UserError(f"{where}: coordX, coordY and coordZ must be numbers, in LPS mm")
    return point


def _nodules(root: Path, by_scan: dict[str, list[tuple[float, float, float, int]]]) -> tuple[int, int]:
    """Annotated nodules of the scans that are there, and how many of them no candidate of class 1 lies in.

    A missing or empty annotations.csv is refused: then the candidates' classes could not have been made from it.
    """
    count = missed = 0
    for line, row in enumerate(
        read_rows(root / "annotations.csv", ("seriesuid", "coordX", "coordY", "coordZ", "diameter_mm")), start=2
    ):
        where = f"annotations.csv, line {line}"
        centre = np.array(_place(row, where))
        try:
            radius = float(row["diameter_mm"]) / 2
        except ValueError:
            raise UserError(f"{where}: diameter_mm must be a number") from None
        if row["seriesuid"] in by_scan:
            hits = np.array([one[:3] for one in by_scan[row["seriesuid"]] if one[3] == 1]).reshape(-1, 3)
            count += 1
            missed += not (np.linalg.norm(hits - centre, axis=1) <= max(radius, SAME_PLACE_MM)).any()
    return count, missed


def _thinned(labels: np.ndarray, negatives: int, seed: int, uid: str) -> np.ndarray:
    """Numbers of all candidates of class 1 and of up to ``negatives`` others, in the list's order."""
    rest = np.flatnonzero(labels == 0)
    if negatives and len(rest) > negatives:
        rng = np.random.default_rng([seed, *uid.encode()])
        rest = rng.choice(rest, size=negatives, replace=False)
    return np.sort(np.append(np.flatnonzero(labels == 1), rest))
