"""Scans whose files were moved or renamed: found again by a person, checked by what they hold, their siblings too."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tapct_core.errors import UserError
from tapct_core.lesions import Study, Timepoint

if TYPE_CHECKING:
    from tapct_core.volume import CTVolume


def missing(study: Study) -> list[Timepoint]:
    """Time points whose files are not where the study says."""
    return [timepoint for timepoint in study.timepoints if timepoint.path and not Path(timepoint.path).exists()]


def siblings(study: Study, name: str, path: Path) -> dict[str, Path]:
    """Where other missing scans lie, by time point, if one that is called ``name`` was found at ``path``.

    They moved with it: their paths differ from the old ones as this one's does, or they lie in its new folder.
    """
    old = Path(next(timepoint.path for timepoint in study.timepoints if timepoint.name == name))
    before, after = _differing(old, path)
    found = {}
    for timepoint in missing(study):
        other = Path(timepoint.path)
        moved = after / other.relative_to(before) if other.is_relative_to(before) else path.parent / other.name
        for place in (moved, path.parent / other.name):
            if timepoint.name != name and place.exists() and place != path:
                found.setdefault(timepoint.name, place)
    return found


def require_same_scan(study: Study, name: str, volume: CTVolume) -> None:
    """Raises UserError unless ``volume`` can be a time point's scan: by its series, its masks' grid and its points."""
    timepoint = study.timepoints[study.order(name)]
    series = volume.source.dicom.series_instance_uid if volume.source.dicom else ""
    if timepoint.series_uid and series != timepoint.series_uid:
        raise UserError(f"that is another series than {name}'s; choose the folder with the one that was measured")
    for lesion in study.lesions:
        finding = lesion.findings.get(name)
        if finding is None:
            continue
        other_grid = finding.mask is not None and finding.mask.grid != volume.geometry.shape
        outside = finding.present and not volume.geometry.contains(finding.point_lps_mm)
        if other_grid or outside:
            why = "its grid is not that of the masks" if other_grid else f"{lesion.name} would lie outside of it"
            raise UserError(f"that is not the scan of {name}: {why}; choose the one that was measured")


def _differing(old: Path, new: Path) -> tuple[Path, Path]:
    """The folders up to which two paths differ: what follows is the same in both."""
    parts_old, parts_new = old.absolute().parts, new.absolute().parts
    same = len(os.path.commonprefix([parts_old[::-1], parts_new[::-1]]))
    same = max(1, min(same, len(parts_old) - 1, len(parts_new) - 1))  # the file itself may have been renamed
    return Path(*parts_old[:-same]), Path(*parts_new[:-same])
