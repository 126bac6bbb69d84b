"""A probe that meets a scan unlike those it learned from says so."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.embedding import embed
from tapct_core.encoders import load_encoder
from tapct_core.io import load_ct
from tapct_core.probe import LinearProbe
from tapct_core.probe.likeness import MOST_UNLIKE, unlikeness, warning_if_unlike
from tapct_core.samples import load_sample
from tapct_core.volume import LabelMap


@pytest.fixture(scope="module")
def encoder():
    return load_encoder(device="cpu")


@pytest.fixture(scope="module")
def chest(encoder):
    return embed(load_sample("breathing_pair")["baseline"], encoder)


@pytest.fixture(scope="module")
def probe(chest):
    labels = np.where(chest.hu > -500, 1, 2).astype(np.uint8)
    return LinearProbe.fit([(chest, LabelMap(labels, chest.hu_geometry, names={1: "body", 2: "lung"}))])


def test_the_scan_fitted_on_and_the_patient_s_next_are_alike(probe, chest, encoder):
    assert unlikeness(probe, chest) < 1e-3 and warning_if_unlike(probe, chest) == ""
    after = embed(load_sample("breathing_pair")["followup"], encoder)
    assert unlikeness(probe, after) < MOST_UNLIKE / 2


def test_another_patient_s_trunk_is_no_reason_to_warn(probe, encoder):
    assert warning_if_unlike(probe, embed(load_sample("abdomen_pelvis")["ct"], encoder)) == ""


def test_a_thigh_is(probe, encoder, data_dir):
    thigh = embed(load_ct(data_dir / "ct_limbs" / "sts_024_ct.nii.gz"), encoder)
    said = warning_if_unlike(probe, thigh)
    assert "unlike" in said and "Look at each mask" in said
