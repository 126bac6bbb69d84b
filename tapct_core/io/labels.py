"""Label maps to disk: onto the grid of the scan they belong to, whole or not at all, with names and colours."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..geometry import Orientation, orient
from ..volume import CTVolume, LabelMap, Source
from ..write_lock import write_lock
from .itk_writing import write_itk
from .nifti import write_nifti
from .sidecar import with_names
from .suffixes import WRITTEN, suffix_of

HOUSE_AS_FILE = Orientation(axes=(2, 1, 0))
"""For a volume that came from no file: stored (x, y, z), as NIfTI, NRRD and MetaImage count their axes."""


def save_labels(labels: LabelMap, path: str | os.PathLike, like: Source | CTVolume | None = None) -> Path:
    """Write labels on the grid of the file they belong to; returns the path written.

    The format follows the name: .nii.gz (also when there is no suffix), .nii, .nrrd or .mha. The
    file has the source's shape and world coordinates, from NIfTI to NIfTI also its header's two
    forms, their codes and the units. ``like`` is the scan (or its Source); by default the labels'
    own source. Names and colours go into a NRRD as 3D Slicer's segment keys, otherwise into
    ``<name>.labels.json`` beside the image. Image and names are replaced together, or not at all.
    Raises UserError when the labels lie on another grid than the source, when the source's grid is
    not known, for an unknown suffix, and when the disk refuses.
    """
    path = with_suffix(Path(path))
    source = _source_on_grid(labels, like)
    stored = source.orientation.undo(labels.labels).reshape(source.file_shape)
    write = write_nifti if WRITTEN[suffix_of(path)] == "NIfTI" else write_itk
    with write_lock(path), with_names(path, labels) as part:
        write(part, np.asfortranarray(stored), source, labels)
    return path


def with_suffix(path: Path) -> Path:
    """Where labels are written to, .nii.gz if nothing is said. Raises UserError for a suffix that is not known."""
    if suffix_of(path) in WRITTEN:
        return path
    if path.suffix and not path.suffix[1:].isdigit():
        raise UserError(f"label maps are not written as {path.suffix}; name the file {' or '.join(WRITTEN)}")
    return path.with_name(path.name + ".nii.gz")


def _source_on_grid(labels: LabelMap, like: Source | CTVolume | None) -> Source:
    """The Source whose file grid the labels go onto, checked to be the labels' own grid."""
    if isinstance(like, CTVolume):
        if not labels.geometry.matches(like.geometry):
            raise UserError(_other_grid(labels, like.geometry.shape))
        like = like.source
    source = like or labels.source
    if source.file_affine is None:
        if source.kind not in ("array", "synthetic"):
            raise UserError(
                f"the grid of the {source.kind} source is not known, so labels cannot be placed; load it again"
            )
        # No file to go back to: the labels' own grid, counted (x, y, z).
        shape, affine = labels.geometry.shape[::-1], labels.geometry.affine[:, [2, 1, 0, 3]]
        return Source(source.kind, file_shape=shape, file_affine=affine, orientation=HOUSE_AS_FILE)
    _, grid = orient(source.file_shape[:3], source.file_affine)
    if not labels.geometry.matches(grid):
        raise UserError(_other_grid(labels, grid.shape))
    return source


def _other_grid(labels: LabelMap, shape: tuple[int, ...]) -> str:
    return (
        f"the labels' grid {labels.geometry.shape} is not the source's {shape}, or lies elsewhere in the patient; "
        "resample the labels to the scan first"
    )
