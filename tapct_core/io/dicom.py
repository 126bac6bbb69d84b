"""A DICOM CT series as a volume: pydicom for the files, positions and orientations for the grid.

Slices are grouped by series and orientation, and by phase where positions repeat; sorted along their common
normal; spaced by their positions, never by SliceThickness. What a regular grid cannot hold (a gap, a duplicate, a
tilted gantry) is refused, since it would shift every lesion behind it, and so is a series of which only a part has a
place.
Standard: DICOM PS3.3 C.7.6.2 (Image Plane), C.8.2.1 (CT Image), https://dicom.nema.org.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import NeedsWord, UserError
from ..patient_key import patient_key
from ..volume import CTVolume, DicomSeries, Source
from .checks import house_array, place
from .dicom_frames import frames_of
from .dicom_groups import one_stack
from .dicom_pixels import read_pixels
from .dicom_resample import resampled_slices
from .dicom_slices import (
    Slice,
    date_of,
    is_ct_image,
    is_dicom,
    number,
    plane_of,
    quiet,
    read_header,
    series_of,
    text,
    window_of,
)
from .dicom_stack import stack

__all__ = ["SeriesInfo", "is_dicom", "list_series", "read_ct"]


@dataclass(frozen=True)
class SeriesInfo:
    """One series of a folder, as a person chooses it. ``shape`` is (slices, rows, columns); no patient name."""

    uid: str
    description: str
    date: str
    slices: int
    shape: tuple[int, int, int]
    modality: str
    kernel: str
    middle_file: Path
    """The slice half way along, for a thumbnail."""

    def __str__(self) -> str:
        words = [f"{self.slices} slices", self.description or "no description", self.kernel, self.date or "no date"]
        return f"{self.uid or '(no UID)'} ({', '.join(word for word in words if word)})"


def list_series(folder: str | Path) -> list[SeriesInfo]:
    """The image series of a folder (and its subfolders), CT or not, in order of date and description.

    Localizers and objects without an image plane are left out. Raises UserError when nothing is left.
    """
    folder = Path(folder)
    with quiet():
        groups = _by_series(_image_slices(_files_under(folder), folder.name)[0])
    return sorted(
        (_info(slices) for slices in groups.values()), key=lambda info: (info.date, info.description, info.uid)
    )


def read_ct(
    path: Path,
    series: str | None = None,
    hu_offset: float | None = None,
    phase: int | None = None,
    resample: bool = False,
) -> CTVolume:
    """A folder (with subfolders), or one file and its series beside it -> CTVolume with its DicomSeries.

    ``series`` is the SeriesInstanceUID to take from a folder with several CT series, ``phase`` (from 1) the phase of
    a 4D one, ``hu_offset`` what a person wants added to the values, ``resample`` their word that slices which are
    uneven or lean may be put on a regular grid.
    Raises UserError for what :mod:`tapct_core.io` refuses.
    """
    with quiet():
        return _read(path, series, hu_offset, phase, resample)


def _read(path: Path, series: str | None, hu_offset: float | None, phase: int | None, resample: bool) -> CTVolume:
    one = path if path.is_file() else None
    files = sorted(p for p in path.parent.iterdir() if p.is_file()) if one else _files_under(path)
    slices, placeless = _image_slices(files, path.name)
    slices = _choose_series(_by_series(slices), path, one, series)
    lost = [file.name for file, key in placeless if key == slices[0].series]
    if lost:
        raise UserError(
            f"{len(lost)} of {len(lost) + len(slices)} images of this DICOM series have no place in the patient "
            f"({', '.join(lost[:3])}{' ...' if len(lost) > 3 else ''}), so they would be left out; get them again, or "
            "remove them"
        )
    slices = one_stack(slices, one, phase)
    geometry_of_file, slices, native = stack(slices, resample)
    columns, rows = slices[0].size[::-1]
    shape = (columns, rows, len(slices)) if native is None else native.grid[::-1]
    orientation, geometry = place(shape, geometry_of_file, "this DICOM series")
    hu = read_pixels(slices, hu_offset)
    if native is not None:
        hu = resampled_slices(hu, native)
    header = slices[0].header
    source = Source(
        "dicom",
        path=path,
        file_shape=shape,
        file_affine=geometry_of_file,
        orientation=orientation,
        dicom=_series_of(slices),
        window=window_of(header),
        native=native,
    )
    return CTVolume(house_array(hu.T, orientation), geometry, source)


def _files_under(folder: Path) -> list[Path]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return sorted(p for p in files if not p.name.startswith(".") and p.name.upper() != "DICOMDIR")


def _image_slices(files: list[Path], name: str) -> tuple[list[Slice], list[tuple[Path, tuple[str, ...]]]]:
    """The files that hold one image plane each, and CT images (with their series) that have none; localizers left out.

    Raises UserError when there are no planes.
    """
    slices: list[Slice] = []
    placeless: list[tuple[Path, tuple[str, ...]]] = []
    stubs: list[Path] = []
    modalities: Counter[str] = Counter()
    dicom_files = multiframe = 0
    for path in files:
        header = read_header(path)
        if header is None:
            if path.stat().st_size < 132:
                stubs.append(path)
            continue
        dicom_files += 1
        modalities[text(header, "Modality") or "no modality"] += 1
        multiframe += number(header, "NumberOfFrames", 1) > 1
        if "LOCALIZER" in text(header, "ImageType").upper():
            continue
        frames = frames_of(path, header)
        slices += frames
        plane = plane_of(path, header)
        if frames:
            continue
        if plane is not None:
            slices.append(Slice(path, header, *plane))
        elif is_ct_image(header):
            placeless.append((path, series_of(header)))
    for path in stubs:  # an empty file among slices is a slice that was lost in copying, even at the end of the stack
        if any(path.suffix == s.path.suffix and path.parent == s.path.parent for s in slices):
            raise UserError(f"{path.name} is empty or truncated; copy it again, or remove it if it is no slice")
    if slices:
        return slices, placeless
    if not dicom_files:
        raise UserError(f"{name} holds no DICOM files that can be read; choose the folder with the CT's slices")
    if multiframe:
        raise UserError(
            f"{name} holds a multi-frame DICOM image whose frames have no place in the patient; choose a CT's folder"
        )
    kinds = ", ".join(f"{count} {modality}" for modality, count in modalities.most_common())
    raise UserError(f"{name} holds no CT slices with a place in the patient (found: {kinds}); choose a CT's folder")


def _by_series(slices: list[Slice]) -> dict[tuple[str, ...], list[Slice]]:
    groups: dict[tuple[str, ...], list[Slice]] = defaultdict(list)
    for one in slices:
        groups[one.series].append(one)
    return groups


def _info(slices: list[Slice]) -> SeriesInfo:
    header = slices[0].header
    normal = np.cross(*slices[0].axes)
    count = len({(s.uid or str(s.path), *s.position) for s in slices})  # a copy of a file is no second slice
    middle = sorted(slices, key=lambda one: float(one.position @ normal))[len(slices) // 2]
    return SeriesInfo(
        uid=text(header, "SeriesInstanceUID"),
        description=text(header, "SeriesDescription"),
        date=date_of(header),
        slices=count,
        shape=(count, *slices[0].size),
        modality=text(header, "Modality"),
        kernel=text(header, "ConvolutionKernel").split("\\")[0],
        middle_file=middle.path,
    )


def _choose_series(
    groups: dict[tuple[str, ...], list[Slice]], path: Path, one: Path | None, uid: str | None
) -> list[Slice]:
    """The slices of the one CT series meant: that of the file given, of the UID, or the only one.

    A series of a single image is no volume and stands in nobody's way, unless it is the only one.
    """
    ct = {key: found for key, found in groups.items() if text(found[0].header, "Modality") in ("CT", "")}
    if one is not None and uid is None:
        for found in groups.values():
            if any(s.path == one for s in found):
                modality = text(found[0].header, "Modality")
                if found[0].series not in ct:
                    raise UserError(f"{path.name} is not a CT: its modality is {modality}; choose a CT series")
                return found
        raise UserError(f"{path.name} is no slice of a CT (a localizer, or a report); choose a slice or the folder")
    if not ct:
        kinds = ", ".join(f"{text(g[0].header, 'Modality')} ({len(g)} images)" for g in groups.values())
        raise UserError(f"{path.name} is not a CT: its modality is {kinds}; choose a CT series")
    infos = "; ".join(str(_info(found)) for found in ct.values())
    if uid is not None:
        chosen = [found for key, found in ct.items() if key[0] == uid]
        if len(chosen) != 1:
            raise UserError(f"{path.name} has no CT series {uid!r}; give one of these with --series UID: {infos}")
        return chosen[0]
    volumes = [found for found in ct.values() if len(found) > 1] or list(ct.values())
    if len(volumes) > 1:
        choices = tuple((str(info), {"series": info.uid}) for info in map(_info, volumes))
        reason = f"{path.name} holds {len(volumes)} CT series"
        raise NeedsWord(reason, f"choose one with --series UID: {infos}", choices)
    return volumes[0]


def _series_of(slices: list[Slice]) -> DicomSeries:
    header = slices[0].header
    patient = text(header, "PatientID")
    return DicomSeries(
        study_instance_uid=text(header, "StudyInstanceUID"),
        series_instance_uid=text(header, "SeriesInstanceUID"),
        frame_of_reference_uid=text(header, "FrameOfReferenceUID"),
        sop_instance_uids=tuple(s.uid for s in slices),
        files=tuple(s.path for s in slices),
        date=date_of(header),
        description=text(header, "SeriesDescription"),
        patient_key=patient_key(patient),
        frames=tuple(s.frame + 1 for s in slices if s.frame is not None),
        sex=text(header, "PatientSex"),
    )
