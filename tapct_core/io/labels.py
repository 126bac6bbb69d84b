"""Label maps to disk: onto the grid of the scan they belong to, whole or not at all, with names and colours."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..atomic import atomic_path
from ..errors import UserError
from ..geometry import RAS_FROM_LPS, Orientation, orient
from ..volume import CTVolume, LabelMap, Source

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
HOUSE_AS_FILE = Orientation(axes=(2, 1, 0))
"""For a volume that came from no file: stored (x, y, z), as NIfTI, NRRD and MetaImage count their axes."""

log = logging.getLogger(__name__)


def save_labels(labels: LabelMap, path: str | os.PathLike, like: Source | CTVolume | None = None) -> Path:
    """Write labels on the grid of the file they belong to; returns the path written.

    The format follows the name: .nii.gz (also when there is no suffix), .nii, .nrrd or .mha. The
    file has the source's shape and world coordinates, from NIfTI to NIfTI also its header's two
    forms, their codes and the units. ``like`` is the scan (or its Source); by default the labels'
    own source. Names and colours go into a NRRD as 3D Slicer's segment keys, otherwise into
    ``<name>.labels.json`` beside the image. The image is replaced in one step, or not at all.
    Raises UserError when the labels lie on another grid than the source, when the source's grid is
    not known, for an unknown suffix, and when the disk refuses.
    """
    path, suffix = _with_suffix(Path(path))
    source = _source_on_grid(labels, like)
    stored = source.orientation.undo(labels.labels).reshape(source.file_shape)
    if suffix in (".nii.gz", ".nii"):
        from .nifti import write_nifti as write
    else:
        from .itk import write_itk as write
    with _written(path) as part:
        write(part, np.asfortranarray(stored), source, labels)
    _write_sidecar(path, labels, suffix)
    return path


@contextmanager
def _written(path: Path) -> Iterator[Path]:
    """:func:`~tapct_core.atomic.atomic_path`, with what the operating system refuses said in one line."""
    try:
        with atomic_path(path) as part:
            yield part
    except OSError as error:
        raise UserError(
            f"cannot write {path.name}: {error.strerror or 'the disk refused'}; "
            "choose a folder with space that you may write to"
        ) from None


def sidecar_of(path: Path) -> Path:
    """Where the names and colours of an image lie: ``seg.nii.gz`` -> ``seg.labels.json``."""
    suffix = next((s for s in (*SUFFIXES, ".mhd") if path.name.lower().endswith(s)), "")
    return path.with_name(path.name[: len(path.name) - len(suffix)] + ".labels.json")


def read_sidecar(path: Path) -> tuple[dict[int, str], dict[int, tuple[int, int, int]]]:
    """Names and colours beside the image ``path``; empty where there are none or they cannot be read."""
    names: dict[int, str] = {}
    colours: dict[int, tuple[int, int, int]] = {}
    try:
        for value, entry in json.loads(sidecar_of(path).read_text(encoding="utf-8"))["labels"].items():
            label = int(value)
            if "name" in entry:
                names[label] = str(entry["name"])
            if "colour" in entry:
                red, green, blue = (int(c) for c in entry["colour"])
                colours[label] = (red, green, blue)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        log.warning("the label names beside the label map cannot be read; going on without them")
        return {}, {}
    return names, colours


def _write_sidecar(path: Path, labels: LabelMap, suffix: str) -> None:
    """Put names and colours beside the image, and remove those of an image that was replaced."""
    sidecar = sidecar_of(path)
    values = sorted({*labels.names, *labels.colours})
    if suffix == ".nrrd" or not values:
        sidecar.unlink(missing_ok=True)
        return
    entries = {
        str(value): ({"name": labels.names[value]} if value in labels.names else {})
        | ({"colour": list(labels.colours[value])} if value in labels.colours else {})
        for value in values
    }
    with _written(sidecar) as part:
        part.write_text(json.dumps({"labels": entries}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _with_suffix(path: Path) -> tuple[Path, str]:
    suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)
    if suffix:
        return path, suffix
    if path.suffix and not path.suffix[1:].isdigit():
        raise UserError(f"label maps are not written as {path.suffix}; name the file {' or '.join(SUFFIXES)}")
    return path.with_name(path.name + ".nii.gz"), ".nii.gz"


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


def ras_affine(source: Source) -> np.ndarray:
    """Index in the file's order -> RAS mm, as NIfTI headers keep it."""
    return RAS_FROM_LPS @ source.file_affine
