"""A mask that is still being painted, on disk: it comes back after a crash as the step that *Done* would have been.

studies/
  3f2a….painting    a study of one lesion, with the masks as they were painted last
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tapct_core.lesions import Finding, Lesion, Study
from tapct_core.lesions.measurement_check import set_judged_mask
from tapct_core.lesions.study_file import load_study, save_study
from tapct_core.lesions.timepoints import snapshot

if TYPE_CHECKING:
    from tapct_core.volume import CTVolume

SUFFIX = ".painting"


def painting_of(entry: Path) -> Path:
    """Where the painting of an entry is kept."""
    return entry.with_suffix(SUFFIX)


def write_painting(entry: Path, study: Study, lesion: Lesion | None) -> None:
    """Keeps what is painted on a lesion beside an entry; None: nothing is."""
    if lesion is None:
        painting_of(entry).unlink(missing_ok=True)
        return
    kept = snapshot(study)
    kept.lesions = [lesion]
    for timepoint in kept.timepoints:
        timepoint.path = timepoint.path or "in no file"  # a study's file names one; nobody opens it from here
    save_study(kept, painting_of(entry))


def read_painting(entry: Path) -> Lesion | None:
    """The lesion that was being painted, its findings as far as they were. Raises UserError for a damaged file."""
    path = painting_of(entry)
    return load_study(path).lesions[0] if path.is_file() else None


def put_painting(study: Study, painted: Lesion, volumes: dict[str, CTVolume], by: str) -> None:
    """The painted masks into a study, measured on the scans; ``volumes`` by time point are those that are open."""
    if painted.uid not in [lesion.uid for lesion in study.lesions]:
        study.lesions.append(replace(painted, findings={}))
    lesion = study.lesion(painted.uid)
    for name, found in painted.findings.items():
        if found.mask is None or name not in volumes:
            continue
        known = lesion.findings.get(name)
        if known is None or not known.present:
            lesion.findings[name] = _bare(found)
        set_judged_mask(study, lesion.uid, name, found.mask, volumes[name], found.decided_by or by)


def _bare(found: Finding) -> Finding:
    return replace(found, mask=None, mask_by="", measurement=None)
