"""One scan of a viewer: its layer and volume, what was made of it, and where it came from."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image, Layer

from tapct_core.volume import CTVolume

if TYPE_CHECKING:
    from tapct_core.features import FeatureMap

    from .jobs import Job

DATE = "tapct_date"
"""Key of ``layer.metadata``: YYYY-MM-DD as a person gave it, where the file has none."""


@dataclass(eq=False)
class Scan:
    """One time point: its layer and volume, and what was made of it. ``parts`` are its further layers by role."""

    layer: Image
    volume: CTVolume = field(repr=False)
    features: FeatureMap | None = field(default=None, repr=False)
    parts: dict[str, Layer] = field(default_factory=dict)
    jobs: set[Job] = field(default_factory=set)
    opened_hidden: bool = False
    """Whether its layer was hidden from the first: whoever opens several scans shows the one to begin with."""
    leaving: Layer | None = None
    """Its strokes, if they were removed just now: whoever removes both, in whatever order, means to close the scan."""

    @property
    def name(self) -> str:
        """As the layer list has it."""
        return self.layer.name

    @property
    def date(self) -> str:
        """YYYY-MM-DD; a person's word counts more than the file's; "" where neither is known."""
        given = self.layer.metadata.get(DATE, "")
        own = self.volume.source.dicom.date if self.volume.source.dicom else ""
        return given or (f"{own[:4]}-{own[4:6]}-{own[6:8]}" if len(own) == 8 else "")

    def lps_mm(self, drawn: tuple[float, ...]) -> np.ndarray | None:
        """Where a drawn position lies in the patient, LPS mm (3,); None outside the scan."""
        point = self.volume.geometry.to_world(np.array(self.layer.world_to_data(drawn)))
        return point if self.volume.geometry.contains(point) else None

    def index(self, drawn: tuple[float, ...]) -> tuple[int, int, int] | None:
        """The voxel (z, y, x) under a drawn position; None outside the scan."""
        place = np.rint(self.layer.world_to_data(drawn)).astype(int)
        inside = ((place >= 0) & (place < self.volume.hu.shape)).all()
        return tuple(int(p) for p in place) if inside else None

    def drop_jobs(self) -> None:
        """Nothing that still runs for this scan may arrive any more."""
        for job in list(self.jobs):
            job.drop()
        self.jobs.clear()


def origin_of(volume: CTVolume) -> tuple[str, str]:
    """The file or folder that a scan came from, absolute as it was named, and its series; "" where there is none."""
    source = volume.source
    path = str(Path(source.path).absolute()) if source.path else ""
    return path, source.dicom.series_instance_uid if source.dicom else ""


def same_path(a: str, b: str) -> bool:
    """Whether two paths lead to the same place."""
    return bool(a) and bool(b) and os.path.realpath(a) == os.path.realpath(b)


def patient_of(volume: CTVolume) -> str:
    """The key that tells a scan's patient from others, "" where it is not known."""
    return volume.source.dicom.patient_key if volume.source.dicom else ""


def differs_in_patient(one: CTVolume, other: CTVolume) -> str:
    """What says that two scans are of different patients, for people; "" where nothing does, or nothing is known."""
    a, b = one.source.dicom, other.source.dicom
    if a is None or b is None:
        return ""
    pairs = (("patient ID", a.patient_key, b.patient_key), ("sex", a.sex, b.sex))
    return " and ".join(f"another {what}" for what, mine, theirs in pairs if mine and theirs and mine != theirs)
