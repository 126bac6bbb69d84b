"""SEG and SR on enhanced multi-frame CT and on slices that were resampled: what is written comes back the same."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pydicom
import pytest

from tapct_core.export import write_seg, write_sr
from tapct_core.imports import import_findings
from tapct_core.io import load_ct
from tapct_core.lesions import Mask, Study, Timepoint
from tests.tapct_core.io import writing
from tests.tapct_core.io.conftest import real_series, real_slices
from tests.tapct_core.io.test_dicom_frames import ENHANCED, enhanced

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


def in_two_images(path):
    """The frames of an enhanced CT as two images of one series, which take them by turns."""
    whole = pydicom.dcmread(path)
    for part in (0, 1):
        half = deepcopy(whole)
        half.SOPInstanceUID = half.file_meta.MediaStorageSOPInstanceUID = f"1.2.9.1.{part + 1}"
        half.PerFrameFunctionalGroupsSequence = whole.PerFrameFunctionalGroupsSequence[part::2]
        half.PixelData = np.ascontiguousarray(whole.pixel_array[part::2]).tobytes()
        half.NumberOfFrames = len(half.PerFrameFunctionalGroupsSequence)
        half.save_as(path.with_name(f"{part}.dcm"))
    path.unlink()
    return path.parent


KINDS = pytest.mark.parametrize("kind", ["one image", "the second of two phases", "two images"])


@pytest.fixture
def on_enhanced(enhanced, tmp_path):
    """``of(kind)`` -> (study, its lesion's UID, volume, SEG, SR) on an enhanced CT of that kind."""

    def of(kind):
        path = enhanced(phases=2 if "phases" in kind else 1)
        place = in_two_images(path) if kind == "two images" else path
        volume = load_ct(path.parent, phase=2 if "phases" in kind else None)
        mask = np.zeros(volume.geometry.shape, bool)
        mask[1:4, 20:30, 15:24] = True
        study, uid = studied(volume, mask, place)
        return study, uid, volume, *exported(study, volume, tmp_path)

    return of


@KINDS
def test_enhanced_ct(on_enhanced, kind):
    study, uid, volume, seg, sr = on_enhanced(kind)
    path, mask = study.timepoints[0].path, study.lesion(uid).findings["now"].mask.to_array()
    sources = {image.SOPInstanceUID: image for image in map(pydicom.dcmread, set(volume.source.dicom.files))}
    written = pydicom.dcmread(seg)
    assert written.NumberOfFrames == 3
    listed = written.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert sorted(one.ReferencedSOPInstanceUID for one in listed) == sorted(sources)
    phase = 2 if "phases" in kind else None
    for group, frame in zip(written.PerFrameFunctionalGroupsSequence, written.pixel_array, strict=True):
        (item,) = group.DerivationImageSequence[0].SourceImageSequence
        assert item.ReferencedSOPClassUID == ENHANCED
        source = sources[item.ReferencedSOPInstanceUID]
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


UNEVEN = np.cumsum([0] + [2.0] * 5 + [5.0] * 4 + [3.0] * 3)
SLICES = pytest.mark.parametrize(("heights", "tilt"), [(np.arange(12) * 2.0, 14.0), (UNEVEN, 0.0), (UNEVEN, -9.0)])


@pytest.fixture
def on_leaning(tmp_path):
    """``of(heights, tilt)`` -> (study, its lesion's UID, volume, SEG, SR): a ball about the seventh slice's middle."""

    def of(heights, tilt):
        folder = leaning(tmp_path / "ct", heights, tilt)
        volume = load_ct(folder, resample=True)
        index = np.stack(np.meshgrid(*map(np.arange, volume.geometry.shape), indexing="ij"), axis=-1)
        mask = np.linalg.norm(volume.geometry.to_world(index) - middle_of(heights, tilt), axis=-1) < 9
        study, uid = studied(volume, mask, folder)
        return study, uid, volume, *exported(study, volume, tmp_path)

    return of


def middle_of(heights, tilt):
    return np.array([0.0, np.tan(np.radians(tilt)) * heights[6], heights[6]])


@SLICES
def test_slices_that_were_resampled(on_leaning, tmp_path, heights, tilt):
    study, uid, volume, seg, sr = on_leaning(heights, tilt)
    folder, even, middle = tmp_path / "ct", heights is not UNEVEN, middle_of(heights, tilt)
    mask = study.lesion(uid).findings["now"].mask.to_array()
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


@KINDS
def test_an_independent_checker_accepts_them_on_enhanced_ct(checker_errors, on_enhanced, kind):
    *_, seg, sr = on_enhanced(kind)
    assert checker_errors(seg) == [] and checker_errors(sr) == []


@SLICES
def test_an_independent_checker_accepts_them_on_slices_that_were_resampled(checker_errors, on_leaning, heights, tilt):
    *_, seg, sr = on_leaning(heights, tilt)
    assert checker_errors(seg) == [] and checker_errors(sr) == []
