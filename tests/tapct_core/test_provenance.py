"""Equal scans give equal words, and one function says which maps may be compared."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.geometry import Geometry
from tapct_core.preprocessing import InputSpec
from tapct_core.provenance import IDENTITY, comparable, difference, feature_key, provenance
from tapct_core.volume import CTVolume

from .test_store import make_map


def test_the_key_changes_with_all_that_changes_tokens_and_with_nothing_else():
    hu = np.zeros((4, 5, 6), np.int16)
    scan = CTVolume(hu, Geometry.from_spacing(hu.shape, (1.0, 1.0, 1.0)))
    spec = InputSpec(plan="spacing")
    base = feature_key(scan, None, spec, 0.0)
    assert base == feature_key(CTVolume(hu.copy(), Geometry.from_spacing(hu.shape, (1.0, 1.0, 1.0))), None, spec, 0.0)
    other_hu = hu.copy()
    other_hu[1, 2, 3] = 1
    keys = {
        base,
        feature_key(CTVolume(other_hu, scan.geometry), None, spec, 0.0),
        feature_key(CTVolume(hu, Geometry.from_spacing(hu.shape, (1.0, 1.0, 1.00001))), None, spec, 0.0),
        feature_key(CTVolume(hu, Geometry.from_spacing(hu.shape, (1.0, 1.0, 1.0), (0, 0, 1))), None, spec, 0.0),
        feature_key(scan, None, spec.with_plan("release", None), 0.0),
        feature_key(scan, None, spec.with_plan(None, (1.0, 0.8, 0.80001)), 0.0),
        feature_key(scan, None, InputSpec(plan="spacing", img_size=(16, 224, 224)), 0.0),
        feature_key(scan, None, InputSpec(plan="spacing", mean_hu=-86.8087), 0.0),
        feature_key(scan, None, spec, 0.25),
    }
    assert len(keys) == 9


def test_maps_differ_in_the_first_word_that_both_know():
    words = dict.fromkeys(IDENTITY, "1")
    assert difference(words, dict(words), (8, 8)) == ""
    for word in IDENTITY:
        assert difference(words, words | {word: "2"}, (8, 8)) == word
        assert difference(words, {w: v for w, v in words.items() if w != word}, (8, 8)) == ""
    assert difference(words, words | {"overlap": "0.5", "scan": "another", "key": "k"}, (8, 8)) == ""
    assert difference(words, words, (8, 4)) == "dim"


@pytest.mark.parametrize(("dims", "same"), [((8, 8), True), ((8, 4), False), ((0, 0), False)])
def test_maps_without_tokens_have_nothing_to_compare(dims, same):
    one, other = (make_map(dim=dim) for dim in dims)
    assert comparable(one, other) is same


def test_provenance_names_every_word_of_the_identity():
    hu = np.zeros((4, 5, 6), np.int16)
    facts = provenance(CTVolume(hu, Geometry.from_spacing(hu.shape, (1, 1, 1))), None, InputSpec(plan="spacing"), 0.0)
    assert set(IDENTITY) < set(facts)
