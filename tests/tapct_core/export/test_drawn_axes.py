"""Axes that a person has drawn go into an SR with their lines and come back as they were, in the image and across."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

from tapct_core.export import write_seg, write_sr
from tapct_core.export.csv import rows
from tapct_core.imports import read_findings
from tapct_core.imports.placing import merged, place
from tapct_core.lesions import Mask, Study, Timepoint
from tapct_core.lesions.calipers import drawn_axes, set_axes


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_axes_come_back(dicom_pair, tmp_path, across, masked):
    volume = dicom_pair.volumes[0]
    to_world = volume.geometry.to_world
    study = Study("p", [Timepoint("baseline", str(dicom_pair.folders[0]))])
    lesion = study.add_lesion("L1", "baseline", tuple(to_world((9, 70, 60))), "AB")
    mask = None
    if masked:
        voxels = np.zeros(volume.geometry.shape, bool)
        voxels[8:11, 66:75, 56:65] = True
        mask = Mask.from_array(voxels)
        study.set_mask(lesion.uid, "baseline", mask, volume)
    long = to_world(np.array([(5, 70, 60), (13, 70, 61)] if across else [(9, 60.25, 55), (9, 80, 70.5)], float))
    short = to_world(np.array([(9, 66, 60), (9, 74, 60)] if across else [(9, 75, 58), (9, 66, 66)], float))
    measured = drawn_axes(volume, long, short, mask)
    set_axes(study, lesion.uid, "baseline", measured, "AB")
    assert rows(study)[0]["axes_by"] == "person"
    sr = write_sr(study, "baseline", volume, tmp_path / "sr.dcm")
    written = pydicom.dcmread(sr)
    assert ("3D" in written.SOPClassUID.name) == across
    files = [sr] + ([write_seg(study, "baseline", volume, tmp_path / "seg.dcm")] if masked else [])
    again = Study("p", [Timepoint("baseline", str(dicom_pair.folders[0]))])
    found = merged([one for file in files for one in read_findings(file)])
    assert all(not place(again, "baseline", volume, one).failed for one in found)
    (came,) = again.lesions
    finding = came.findings["baseline"]
    assert came.uid == lesion.uid and (finding.mask is not None) == masked
    assert finding.measurement.drawn and finding.counted is not None
    assert finding.measurement.long_axis_mm == pytest.approx(measured.long_axis_mm, abs=1e-3)
    assert np.array(finding.measurement.long_axis_ends) == pytest.approx(np.array(measured.long_axis_ends), abs=1e-3)
    assert np.array(finding.measurement.short_axis_ends) == pytest.approx(np.array(measured.short_axis_ends), abs=1e-3)
    assert (finding.measurement.volume_ml is not None) == masked
