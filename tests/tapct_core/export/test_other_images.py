"""SEG and SR on enhanced multi-frame CT and on slices that were resampled: what is written comes back the same."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pydicom
import pytest

from tapct_core.export import write_seg, write_sr
from tapct_core.imports import import_findings
from tapct_core.io import load_ct
from tapct_core.lesions import Mask, Study, Timepoint
from tests.tapct_core.io import writing
from tests.tapct_core.io.conftest import real_series, real_slices
from tests.tapct_core.io.test_dicom_frames import enhanced

__all__ = ["enhanced", "real_series", "real_slices"]


def studied(volume, mask, path):
    """A study of one time point with a lesion of that mask."""
    study = Study("p", [Timepoint("now", str(path))])
    place = tuple(volume.geometry.to_world(np.argwhere(mask)[len(np.argwhere(mask)) // 2]))
    lesion = study.add_lesion("L1", "now", place, "AB")
    study.set_mask(lesion.uid, "now", Mask.from_array(mask), volume, by="AB")
    return study, lesion.uid


def exported(study, volume, folder):
    seg = write_seg(study, "now", volume, folder / "seg.dcm")
    return seg, write_sr(study, "now", volume, folder / "sr.dcm")


def without_errors(path):
    """dciodvfy's errors that name an attribute that is wrong."""
    if shutil.which("dciodvfy"):
        said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True).stderr
        assert not [line for line in said.splitlines() if line.startswith("Error")], said


@pytest.mark.parametrize("phase", [None, 2])
def test_enhanced_ct(enhanced, tmp_path, phase):
    path = enhanced(phases=1 if phase is None else 2)
    volume = load_ct(path.parent, phase=phase)
    mask = np.zeros(volume.geometry.shape, bool)
    mask[1:4, 20:30, 15:24] = True
    study, uid = studied(volume, mask, path)
    seg, sr = exported(study, volume, tmp_path)
    source, written = pydicom.dcmread(path), pydicom.dcmread(seg)
    assert written.NumberOfFrames == 3
    for group, frame in zip(written.PerFrameFunctionalGroupsSequence, written.pixel_array, strict=True):
        (item,) = group.DerivationImageSequence[0].SourceImageSequence
        assert item.ReferencedSOPInstanceUID == source.SOPInstanceUID
        own = source.PerFrameFunctionalGroupsSequence[item.ReferencedFrameNumber - 1]
        place = group.PlanePositionSequence[0].ImagePositionPatient
        assert np.allclose(place, own.PlanePositionSequence[0].ImagePositionPatient, atol=1e-3)
        assert phase is None or own.FrameContentSequence[0].TemporalPositionIndex == phase
        assert frame.any()
    for kinds in ((seg,), (seg, sr)):
        again = Study("p", [Timepoint("now", str(path))])
        assert not any(one.failed for one in import_findings(again, kinds, lambda name: volume))
        found = again.lesion(uid).findings["now"]
        assert np.array_equal(found.mask.to_array(), mask)
        assert found.measurement == study.lesion(uid).findings["now"].measurement
    alone = Study("p", [Timepoint("now", str(path))])
    (placed,) = import_findings(alone, [sr], lambda name: volume)
    assert not placed.failed and (alone.lesion(uid).findings["now"].mask.to_array() & mask).sum() > 50
    without_errors(seg)
    without_errors(sr)


def leaning(folder, heights, tilt):
    """Soft tissue in air on slices of these heights (mm), each first pixel ``tilt`` degrees aside of the one before."""
    folder.mkdir()
    y, x = np.ogrid[:40, :48]
    for k, height in enumerate(heights):
        hu = np.where(((y - 20) / 16) ** 2 + ((x - 24) / 20) ** 2 < 1, 50, -1000) + 0 * x
        place = [-24.0, -20.0 + np.tan(np.radians(tilt)) * height, height]
        over = {"ImagePositionPatient": place, "PixelSpacing": [1, 1], "SliceThickness": 2}
        noise = np.random.default_rng(k).integers(-9, 10, hu.shape)
        (folder / f"{k}.dcm").write_bytes(writing.ct_slice((hu + noise).astype(np.int16), k, **over))
    return folder


@pytest.mark.parametrize(
    ("heights", "tilt", "even"),
    [
        (np.arange(12) * 2.0, 14.0, True),
        (np.cumsum([0] + [2.0] * 5 + [5.0] * 4 + [3.0] * 3), 0.0, False),
        (np.cumsum([0] + [2.0] * 5 + [5.0] * 4 + [3.0] * 3), -9.0, False),
    ],
)
def test_slices_that_were_resampled(tmp_path, heights, tilt, even):
    folder = leaning(tmp_path / "ct", heights, tilt)
    volume = load_ct(folder, resample=True)
    index = np.stack(np.meshgrid(*map(np.arange, volume.geometry.shape), indexing="ij"), axis=-1)
    middle = np.array([0.0, np.tan(np.radians(tilt)) * heights[6], heights[6]])
    mask = np.linalg.norm(volume.geometry.to_world(index) - middle, axis=-1) < 9
    study, uid = studied(volume, mask, folder)
    seg, sr = exported(study, volume, tmp_path)
    written = pydicom.dcmread(seg)
    measures = written.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert ("SpacingBetweenSlices" in measures) == even and measures.SliceThickness == 2
    assert not even or measures.SpacingBetweenSlices == pytest.approx(2.0)
    places = {float(p[2]): p for p in (pydicom.dcmread(file).ImagePositionPatient for file in folder.iterdir())}
    for group, frame in zip(written.PerFrameFunctionalGroupsSequence, written.pixel_array, strict=True):
        place = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        assert np.allclose(place, places[place[2]], atol=1e-3)  # each lies on a slice that was scanned
        centre = place[:2] + np.argwhere(frame).mean(axis=0)[::-1]
        assert np.linalg.norm(centre - middle[:2]) < 0.75
    again = Study("p", [Timepoint("now", str(folder))])
    assert not any(one.failed for one in import_findings(again, [seg, sr], lambda name: volume))
    back = again.lesion(uid).findings["now"].mask.to_array()
    assert 2 * (back & mask).sum() / (back.sum() + mask.sum()) > (0.95 if even else 0.85)
    assert np.linalg.norm(np.argwhere(back).mean(axis=0) - np.argwhere(mask).mean(axis=0)) < 0.6
    without_errors(seg)
    without_errors(sr)
