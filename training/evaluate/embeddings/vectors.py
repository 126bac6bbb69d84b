"""What heads see: labelled scans, or labelled points of scans, and their vectors taken from a FeatureMap.

A scan with one label gives one sample, a point of a scan (a nodule candidate) another:

    cls        the class token: a scan's mean over its windows; a point's is that of the window nearest to it
    mean       the mean patch token: of the whole scan (``FeatureMap.scan_embedding``); of the 27 tokens round a point
    point      the patch token at the point, interpolated; points only
    instances  the bag for attention: the class tokens of all windows of a scan; the 27 tokens round a point

The 27 are the point and its neighbours on a grid of 10 mm; those outside the scan are left out of the bag.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tapct_core.atomic import atomic_path
from tapct_core.disk import DiskFullError
from tapct_core.errors import UserError
from tapct_core.features import FeatureMap

from ..datasets.labelled import Labelled, Target
from ..heads.classifiers import Bags, Inputs
from ..runs.run_folder import Outcome, RunFolder, each, file_name
from .embed_cases import Embedded

AROUND_MM = 10.0
CHUNK = 64
"""Points sampled at once: eight tokens of float32 are gathered for each of the 27."""
VECTORS_PER_POINT = 30


def describe(features: FeatureMap, target: Target) -> dict[str, np.ndarray]:
    """The vectors of one scan's samples, float16: (n, C) each, "instances" (T, C) and "sizes" (n,) of the n bags.

    Raises UserError for features without tokens, and for a point outside the scan.
    """
    if features.dim == 0 or len(features.cls) == 0:
        raise UserError("these features hold no tokens to classify by; use an encoder, or untrained:NAME as a control")
    found = _of_scan(features) if target.points is None else _of_points(features, target.points)
    return {name: values if name == "sizes" else values.astype(np.float16) for name, values in found.items()}


def _of_scan(features: FeatureMap) -> dict[str, np.ndarray]:
    cls = features.cls.astype(np.float32)
    return {
        "cls": cls.mean(axis=0)[None],
        "mean": features.scan_embedding()[None],
        "instances": features.cls,
        "sizes": np.array([len(cls)]),
    }


def _of_points(features: FeatureMap, points: np.ndarray) -> dict[str, np.ndarray]:
    outside = ~features.hu_geometry.contains(points)
    if outside.any():
        x, y, z = points[outside][0]
        raise UserError(
            f"{int(outside.sum())} of its {len(points)} points lie outside the scan, the first at "
            f"({x:.1f}, {y:.1f}, {z:.1f}) LPS mm; check that scan and coordinates belong together"
        )
    parts = [_round_points(features, points[first : first + CHUNK]) for first in range(0, len(points), CHUNK)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _round_points(features: FeatureMap, points: np.ndarray) -> dict[str, np.ndarray]:
    ticks = (-AROUND_MM, 0.0, AROUND_MM)
    offsets = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 3)
    around = (points[:, None] + offsets).reshape(-1, 3)  # (n * 27, 3)
    tokens = features.sample(around).reshape(len(points), len(offsets), -1)
    covered = features.covers(around).reshape(len(points), -1)
    covered[~covered.any(axis=1), len(offsets) // 2] = True  # in air that was not embedded: one token of zeros
    sizes = covered.sum(axis=1)
    return {
        "cls": features.cls[_nearest_window(features, points)],
        "mean": (tokens * covered[..., None]).sum(axis=1) / sizes[:, None],
        "point": tokens[:, len(offsets) // 2],
        "instances": tokens[covered],
        "sizes": sizes,
    }


def _nearest_window(features: FeatureMap, points: np.ndarray) -> np.ndarray:
    """Number of the window whose centre lies nearest to each point (n, 3) -> (n,)."""
    middle = features.windows + (np.array(features.window_tokens) - 1) / 2
    centres = features.geometry.to_world(middle)
    return np.linalg.norm(points[:, None] - centres, axis=2).argmin(axis=1)


def make_samples(run: RunFolder, embedded: Embedded, labelled: Labelled) -> Outcome:
    """rows/ROW/samples: :func:`describe` of every embedded case, once; each result holds "features", a key of them."""
    part = run.part(embedded.row.name, "samples")

    def work(id: str) -> dict:
        found = describe(embedded.features(id), labelled.targets[id])
        try:
            with atomic_path(_file(run, embedded.row.name, id)) as file:
                save_file({name: np.ascontiguousarray(values) for name, values in found.items()}, file)
        except OSError as error:
            raise DiskFullError(f"{run.path} cannot be written ({error.strerror}); free some space") from None
        return {"features": embedded.key(id), "samples": len(found["sizes"]), "instances": int(found["sizes"].sum())}

    ids = {id: id for id in embedded.outcome.results}
    for id in ids:
        if not _file(run, embedded.row.name, id).is_file():  # removed by hand: then its record is worth nothing
            (run.path / part / f"{file_name(id)}.json").unlink(missing_ok=True)
    return each(run, part, ids, work, key=embedded.key, what=f"sampling {embedded.row.name}")


def load_samples(run: RunFolder, row: str, ids: Sequence[str], kind: str) -> Inputs:
    """One kind of vector of all samples of these cases, in order: (N, C) float16, or the bags. Raises UserError."""
    vectors, sizes = [], []
    for id in ids:
        file = _file(run, row, id)
        try:
            with safe_open(file, framework="numpy") as found:
                vectors.append(found.get_tensor(kind))
                sizes.append(found.get_tensor("sizes"))
        except (OSError, SafetensorError) as error:
            raise UserError(f"{file} cannot be read ({error}); remove it and run the command again") from None
    together = np.concatenate(vectors)
    return Bags(together, np.cumsum([0, *np.concatenate(sizes)])) if kind == "instances" else together


def _file(run: RunFolder, row: str, id: str) -> Path:
    return run.path / run.part(row, "samples") / f"{file_name(id)}.safetensors"
