"""Uneven and tilted slices on a person's word: everything where it is in the patient, and labels back on the slices."""

from __future__ import annotations

import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest

from tapct_core.export.dicom_source import file_order
from tapct_core.io import load_ct
from tests.tapct_core.io import writing

STEPS = {"even": np.arange(24) * 2.0, "uneven": np.cumsum([0] + [1.0] * 8 + [3.0] * 8 + [2.2] * 7)}
CENTRE, RADIUS = np.array([0.0, 0.0, 22.0]), 9.0


def oriented(tilt):
    """(along a row, down a column) of slices leaning by ``tilt`` degrees about the x axis."""
    angle = np.radians(tilt)
    return np.array([[1.0, 0, 0], [0, np.cos(angle), np.sin(angle)]])


def inside(places):
    return np.linalg.norm(places - CENTRE, axis=-1) <= RADIUS


@pytest.fixture
def series(tmp_path):
    """Write a ball in air, scanned in slices that lean and stand where the table moved -> (folder, masks (n, r, c))."""

    def written(steps, tilt):
        axes, masks = oriented(tilt), []
        (tmp_path / "ct").mkdir(exist_ok=True)
        y, x = np.mgrid[:40, :48]
        for k, z in enumerate(STEPS[steps]):
            first = np.array([-24.0, -20.0, 0.0]) + (0, 0, z)
            masks.append(inside(first + x[..., None] * axes[0] + y[..., None] * axes[1]))
            hu = np.where(masks[-1], 60, -900).astype(np.int16)
            hu += np.random.default_rng(k).normal(0, 5, hu.shape).astype(np.int16)
            facts = {"ImagePositionPatient": first.tolist(), "ImageOrientationPatient": axes.ravel().tolist(),
                     "PixelSpacing": [1, 1], "SOPInstanceUID": f"1.2.3.{k}"}  # fmt: skip
            (tmp_path / "ct" / f"{k:02}.dcm").write_bytes(writing.ct_slice(hu, k, **facts))
        return tmp_path / "ct", np.array(masks)

    return written


@pytest.mark.parametrize(("steps", "tilt"), [("uneven", 0), ("even", 12), ("even", -16.5), ("uneven", 9)])
def test_what_is_scanned_stays_where_it_is(series, refused, steps, tilt):
    folder, masks = series(steps, tilt)
    refused(load_ct, folder, "--resample")
    volume = load_ct(folder, resample=True)
    bright = volume.hu > -420
    places = volume.geometry.to_world(np.argwhere(bright))
    assert np.linalg.norm(places.mean(axis=0) - CENTRE) < 0.35
    expected = inside(volume.geometry.to_world(np.argwhere(np.ones(volume.hu.shape, bool)))).reshape(volume.hu.shape)
    overlap = 2 * (bright & expected).sum() / (bright.sum() + expected.sum())
    assert overlap > 0.9
    assert bright.sum() * np.prod(volume.geometry.spacing_mm) == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.06)
    back = file_order(expected, volume)
    assert back.shape == masks.shape
    assert 2 * (back & masks).sum() / (back.sum() + masks.sum()) > 0.93


def test_a_regular_series_is_not_touched(write):
    folder = write()
    assert load_ct(folder, resample=True).content_hash == load_ct(folder).content_hash
    assert load_ct(folder, resample=True).source.native is None


def test_missing_slices_stay_missing(write, refused):
    refused(lambda path: load_ct(path, resample=True), write(lambda d, n: n != 3), "a slice is missing")


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix (Debian) is not installed")
@pytest.mark.parametrize(
    ("name", "pattern"), [("philips_phantom_tilted", "*_Tilt_1.nii"), ("ge_head_variable", "*_Tilt_Eq_1.nii")]
)
def test_real_series_agree_with_dcm2niix(data_dir, tmp_path, name, pattern):
    folder = data_dir / "tilt" / name
    if not folder.is_dir():
        pytest.skip("the tilted series are not among the data")
    volume = load_ct(folder, resample=True)
    ours = volume.source.orientation.undo(volume.hu).T.astype(np.float64)
    subprocess.run(["dcm2niix", "-z", "n", "-f", "%p_%s", "-o", tmp_path, folder], check=True, capture_output=True)
    image = nib.load(next(tmp_path.glob(pattern)))
    theirs = np.maximum(np.asanyarray(image.dataobj).T[:, ::-1], -1024)  # its rows run the other way
    at = np.arange(len(theirs)) * image.header.get_zooms()[2] / volume.geometry.spacing_mm[0]
    at = at[at < len(ours) - 1 + 1e-3]
    low = np.minimum(at.astype(int), len(ours) - 2)
    share = (at - low)[:, None, None]
    sampled = ours[low] * (1 - share) + ours[low + 1] * share
    assert sampled.shape[1:] == theirs.shape[1:]
    assert np.corrcoef(sampled.ravel(), theirs[: len(at)].ravel())[0, 1] > 0.998
