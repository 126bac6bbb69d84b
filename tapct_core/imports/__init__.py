"""Other people's findings into a study: DICOM SEG, RTSTRUCT and SR, label maps, tables of points.

    found.py       what a file says of one lesion, before it has a place in a study
    dicom_seg.py   rtstruct.py   dicom_sr.py   label_map.py   points.py      one reader each -> [Found]
    regions.py     contours and masks onto a scan's voxels
    placing.py     the time point each belongs to, and the lesion it becomes

A finding goes to the time point whose series, images or frame of reference it names; a label map to the one on whose
grid it lies. Tracking UIDs are kept, so what was exported comes back to the same lesions; what a person has decided in
the study stays. What cannot be placed is listed with its reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import UserError
from ..io import kind_of
from ..lesions import Study
from ..volume import CTVolume
from .dicom_sr import read_sr
from .found import Found, checked
from .label_map import read_label_map
from .placing import Placed, belongs, lies_on, merged, place
from .points import read_points
from .rtstruct import read_rtstruct

__all__ = ["Found", "Placed", "import_findings", "read_findings"]

LABELMAP_SEG = "1.2.840.10008.5.1.4.1.1.66.7"
READERS = {
    "1.2.840.10008.5.1.4.1.1.66.4": "seg",
    LABELMAP_SEG: "seg",
    "1.2.840.10008.5.1.4.1.1.481.3": "rtstruct",
    "1.2.840.10008.5.1.4.1.1.88.22": "sr",  # Enhanced SR
    "1.2.840.10008.5.1.4.1.1.88.33": "sr",  # Comprehensive SR
    "1.2.840.10008.5.1.4.1.1.88.34": "sr",  # Comprehensive 3D SR
}
"""SOP classes (DICOM PS3.6) that hold findings."""


def read_findings(path: str | Path) -> list[Found]:
    """What one file says. Raises UserError for what is none of the formats, or holds no finding."""
    path = Path(path)
    if path.suffix.lower() in (".csv", ".tsv") and path.is_file():
        return checked(read_points(path), path.name)
    kind = kind_of(path)
    if path.is_dir():
        raise UserError(f"{path.name} is a folder; name the SEG, RTSTRUCT, SR, label map or CSV file itself")
    found = _read_dicom(path) if kind == "dicom" else read_label_map(path)
    if not found:
        raise UserError(f"{path.name} holds no finding; choose a SEG, RTSTRUCT, SR, label map or CSV of points")
    return checked(found, path.name)


def _read_dicom(path: Path) -> list[Found]:
    from ..io.dicom_opening import open_findings
    from ..io.dicom_slices import quiet, text
    from .dicom_seg import read_seg

    with quiet():
        try:
            dataset = open_findings(path)
            kind = text(dataset, "SOPClassUID") or text(dataset.file_meta, "MediaStorageSOPClassUID")
            reader = READERS.get(kind)
            if reader is None:
                what = text(dataset, "Modality") or "no modality"
                raise UserError(f"{path.name} is DICOM of another kind ({what}); give a SEG, RTSTRUCT or SR")
            return {"seg": read_seg, "rtstruct": read_rtstruct, "sr": read_sr}[reader](dataset, path.name)
        except UserError:
            raise
        except MemoryError:
            raise UserError(f"there is not enough memory to read {path.name}; close other programs") from None
        except Exception:  # a broken file can raise anything; its words help nobody
            raise UserError(f"{path.name} is truncated or damaged, or not as its standard says; get it again") from None


def import_findings(
    study: Study,
    files: Sequence[str | Path],
    load: Callable[[str], CTVolume],
    timepoint: str = "",
) -> list[Placed]:
    """Put the findings of files into the study -> one Placed each, those with masks first.

    ``load`` reads the scan of a time point by name, and is asked only until all findings have a place.
    ``timepoint`` is a person's word for findings that do not say where they belong.
    Raises UserError for a file that cannot be read, before the study is changed.
    """
    if timepoint:
        study.order(timepoint)
    waiting = merged([found for file in files for found in read_findings(file)])
    placed: dict[int, Placed] = {}
    on_grid_of: dict[int, list[str]] = defaultdict(list)
    for name in [t.name for t in study.timepoints]:
        open_ = [i for i in range(len(waiting)) if i not in placed]
        if not open_:
            break
        volume = load(name)
        for i in open_:
            if belongs(study, name, volume, waiting[i], timepoint):
                placed[i] = place(study, name, volume, waiting[i])
            elif not timepoint and not waiting[i].names_a_scan and lies_on(waiting[i], volume):
                on_grid_of[i].append(name)
    for i, names in on_grid_of.items():
        if len(names) == 1:
            placed[i] = place(study, names[0], load(names[0]), waiting[i])
    return [placed.get(i, Placed(found, "", found.nowhere)) for i, found in enumerate(waiting)]
