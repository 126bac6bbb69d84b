"""Corresponding points of two scans: a CSV, one point a line.

    baseline,followup,x0,y0,z0,x1,y1,z1,patient
    ct/a_1.nii.gz,ct/a_2.nii.gz,-46.0,-112.0,-62.0,-45.1,-110.2,-70.4,p1

``x0,y0,z0`` in the baseline and ``x1,y1,z1`` in the follow-up are LPS mm (x, y, z). Paths are taken from the CSV's own
folder; a scan may be a DICOM folder. ``patient`` groups pairs for the intervals; without it a pair is its own patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tapct_core.errors import UserError

from .cases import Case, Dataset
from .folder import case_name, read_rows

LISTING = "points.csv"
BEFORE, AFTER = ("x0", "y0", "z0"), ("x1", "y1", "z1")


@dataclass(frozen=True, eq=False)
class Pair:
    """Two scans, by case id, and corresponding points (n, 3) LPS mm of each."""

    id: str
    baseline: str
    followup: str
    patient: str
    points: np.ndarray
    truth: np.ndarray


def read(root: Path) -> tuple[Dataset, dict[str, Pair]]:
    """The scans of ROOT/points.csv, or of the CSV that ``root`` is, and the pairs by id. Raises UserError by line."""
    listing = root / LISTING if root.is_dir() else root
    found: dict[tuple[str, str], list[list[float]]] = {}
    patients: dict[tuple[str, str], str] = {}
    for line, row in enumerate(
        read_rows(listing, ("baseline", "followup", *BEFORE, *AFTER), (*BEFORE, *AFTER)), start=2
    ):
        where = f"{listing.name}, line {line}"
        pair = row["baseline"], row["followup"]
        if not all(pair):
            raise UserError(f"{where}: baseline or followup is empty; name the files")
        if patients.setdefault(pair, row.get("patient", "")) != row.get("patient", ""):
            raise UserError(f"{where}: the pair has another patient than on an earlier line; give it one")
        found.setdefault(pair, []).append(_point(row))
    names = _names({path for pair in found for path in pair})
    pairs = {}
    for (before, after), rows in found.items():
        id = f"{names[before]} to {names[after]}"
        values = np.array(rows)
        pairs[id] = Pair(id, names[before], names[after], patients[before, after] or id, values[:, :3], values[:, 3:])
    cases = tuple(Case(name, listing.parent / path) for path, name in names.items())
    count = sum(len(pair.points) for pair in pairs.values())
    note = f"{count} given correspondences in {len(pairs)} pairs of scans."
    return Dataset(listing.parent.resolve().name if listing.name == LISTING else listing.stem, cases, note=note), pairs


def _point(row: dict[str, str]) -> list[float]:
    return [float(row[axis]) for axis in (*BEFORE, *AFTER)]


def _names(paths: set[str]) -> dict[str, str]:
    """A short name for each path: the file's, or the path itself where two files are called alike."""
    short = [case_name(path).casefold() for path in paths]
    return {path: case_name(path) if short.count(case_name(path).casefold()) == 1 else path for path in sorted(paths)}
