"""Label maps (NIfTI, NRRD, MetaImage): each value a finding, in parts where it is in parts."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..io import load_labels
from .found import MOST_FINDINGS, Found, Region, made_uid

CORNERS = np.ones((3, 3, 3), bool)
"""Voxels that touch at a corner are one part."""
CRUMB = 0.01


def read_label_map(path: Path) -> list[Found]:
    """Each part of each value, named after the value's name. Raises UserError as ``load_labels`` does."""
    labels = load_labels(path)
    content = hashlib.sha256(np.ascontiguousarray(labels.labels)).hexdigest()
    found: list[Found] = []
    values = np.unique(labels.labels[labels.labels > 0])
    if len(values) > MOST_FINDINGS:
        raise UserError(f"{path.name} has {len(values)} values, so it is no map of lesions; give one of fewer")
    for value in values:
        whole = Region(labels.labels == value, labels.geometry)
        for part, (name, region) in enumerate(parts_of(labels.names.get(int(value), f"label {value}"), whole)):
            found.append(Found(path.name, name, made_uid(content, value, part), (region,)))
    return found


def parts_of(name: str, region: Region) -> list[tuple[str, Region]]:
    """The connected parts of a mask, foot to head, numbered where there are several; each a tight box.

    Crumbs, below a hundredth of the largest part, are no lesions of their own and stay with the largest.
    """
    from scipy import ndimage

    labelled, _ = ndimage.label(region.mask, CORNERS)
    sizes = np.bincount(labelled.ravel())
    sizes[0] = 0
    kept = np.flatnonzero(sizes >= CRUMB * sizes.max())
    number = np.full(len(sizes), sizes.argmax())
    number[kept], number[0] = kept, 0
    labelled = number[labelled]
    if (kept > 0).sum() > MOST_FINDINGS:
        raise UserError(f"{name} is in {(kept > 0).sum()} separate parts, so it is no lesion; take it out of the file")
    boxes = ndimage.find_objects(labelled)
    parts = []
    for count, part in enumerate(kept[kept > 0], start=1):
        box = boxes[part - 1]
        mask = labelled[box] == part
        geometry = region.geometry.cropped(tuple(s.start for s in box), mask.shape)
        parts.append((f"{name} {count}" if (kept > 0).sum() > 1 else name, Region(mask, geometry)))
    return parts
