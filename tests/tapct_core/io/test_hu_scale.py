"""Are these HU? Real CTs as they are and with their intercept lost, with every kind of padding, and what is no CT."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from tapct_core.io import load_ct
from tapct_core.io.checks import LooksLikeLabels
from tapct_core.io.hu_scale import OFFSETS, offset_of
from tapct_core.volume import AIR_HU

DEV = ["ct/crlm_ct_1006", "ct/pyradiomics_lung2", "ct_limbs/sts_024", "ct_limbs/sts_025"]


@pytest.fixture(params=DEV)
def stored(request, data_dir):
    return np.asanyarray(nib.load(data_dir / f"{request.param}_ct.nii.gz").dataobj).astype(np.int32)


def save(path, values):
    nib.save(nib.Nifti1Image(values, np.diag([-1.5, -1.5, 2.5, 1])), path)
    return path


@pytest.mark.parametrize("offset", [*OFFSETS, 1000])
def test_a_lost_intercept_is_told_and_by_a_persons_word_taken_off(tmp_path, refused, stored, offset):
    outside = np.zeros(stored.shape, bool)
    outside[:6] = outside[-6:] = True
    for padding in (None, -2000, -3024, -32768, 0, AIR_HU):
        values = (stored + offset).astype(np.int16)
        if padding is not None:
            values[outside] = padding
        path = save(tmp_path / "a.nii", values)
        refused(load_ct, path, f"--hu-offset -{8192 if offset == 8192 else 1024}", limit=1 << 30)
        shifted = load_ct(path, hu_offset=-offset)
        back = shifted.source.orientation.undo(shifted.hu)
        assert np.array_equal(back[~outside], np.maximum(stored, AIR_HU)[~outside])


def test_what_is_in_hu_is_not_doubted_whatever_its_padding(tmp_path, stored):
    for padding in (None, -2000, -3024, -32768, AIR_HU):
        values = stored.astype(np.int16)
        if padding is not None:
            values[:6] = padding
        volume = load_ct(save(tmp_path / "a.nii", values))
        assert volume.hu.min() >= AIR_HU


def test_a_persons_word_stands(tmp_path, stored):
    path = save(tmp_path / "a.nii", (stored + 1024).astype(np.int16))
    volume = load_ct(path, hu_offset=0)
    assert np.array_equal(volume.source.orientation.undo(volume.hu), np.maximum(stored + 1024, AIR_HU))


def test_an_organ_alone_has_no_fat_and_no_air_and_is_hu():
    noise = np.random.default_rng(0).normal(0, 15, 20000)
    for hu in (55, 110, 20):
        assert offset_of(np.rint(hu + noise).astype(np.int16)) == 0
    assert offset_of(np.empty(0, np.int16)) == 0


@pytest.mark.parametrize("kind", ["phase", "ringing", "negative label", "pet", "adc", "z score", "padded mr"])
def test_values_below_0_make_no_ct(tmp_path, refused, kind):
    rng = np.random.default_rng(0)
    body = np.zeros((40, 40, 20), bool)
    body[8:32, 8:32] = True
    mr = np.where(body, rng.normal(900, 250, body.shape), 0)
    made = {
        "phase": rng.uniform(-4096, 4095, body.shape).astype(np.int16),
        "ringing": np.where(rng.random(body.shape) < 2e-4, -3, mr).astype(np.int16),
        "negative label": np.where(body, 2, -1).astype(np.int16),
        "pet": np.where(body, rng.exponential(9000, body.shape), rng.normal(0, 30, body.shape)).astype(np.int32),
        "adc": np.where(body, rng.normal(1500, 500, body.shape), 0).astype(np.int16),
        "z score": rng.normal(0, 1, body.shape).astype(np.float32),
        "padded mr": np.where(np.arange(40)[:, None, None] < 4, -2000, mr).astype(np.int16),
    }[kind]  # fmt: skip
    message = refused(load_ct, save(tmp_path / "x.nii", made))
    assert "not" in message


def test_a_label_map_with_a_negative_value_may_be_read_as_labels(tmp_path):
    with pytest.raises(LooksLikeLabels):
        load_ct(save(tmp_path / "x.nii", np.where(np.arange(8000).reshape(20, 20, 20) < 900, 2, -1).astype(np.int16)))
