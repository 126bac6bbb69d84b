"""A probe comes back from disk as it was; what is no probe is refused and nothing is overwritten."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from tapct_core.errors import UserError
from tapct_core.features import FeatureMap
from tapct_core.probe import LinearProbe
from tapct_core.volume import LabelMap
from tests.tapct_core.probe.noise import VOXELS, scan_of


def fitted(features: FeatureMap) -> LinearProbe:
    truth = np.ones(VOXELS.shape, np.uint8)
    truth[:, 20:] = 2
    labels = LabelMap(truth, VOXELS, names={1: "front", 2: "Rücken"}, colours={1: (1, 2, 3)})
    return LinearProbe.fit([(features, labels)], hu_features="token")


@pytest.mark.parametrize("name", ["organs.probe", "organs.safetensors"])
def test_a_saved_probe_predicts_the_same_and_carries_its_words(features, tmp_path, name):
    probe = fitted(scan_of(features.hu, provenance={"encoder": "e", "weights": "w", "scan": "secret", "key": "k"}))
    path = probe.save(tmp_path / name)
    again = LinearProbe.load(path)
    assert np.array_equal(again.predict(features).labels, probe.predict(features).labels)
    assert again.names == {1: "front", 2: "Rücken"} and again.colours == {1: (1, 2, 3)}
    assert again.recipe == probe.recipe and again.facts["samples"] == probe.facts["samples"]
    assert again.provenance == {"encoder": "e", "weights": "w"}
    assert [p.name for p in tmp_path.iterdir()] == [name]
    if name == "organs.probe":
        assert json.loads((path / "probe.json").read_text())["names"]["2"] == "Rücken"
    probe.save(path)  # over itself
    LinearProbe.load(path)


def test_what_is_no_probe_is_refused(features, tmp_path):
    probe = fitted(features)
    with pytest.raises(UserError, match="is no probe"):
        LinearProbe.load(tmp_path / "nothing")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(UserError, match="damaged or no probe"):
        LinearProbe.load(tmp_path / "text.safetensors")
    save_file({"a": np.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="not a probe of this version"):
        LinearProbe.load(tmp_path / "other.safetensors")
    cut = probe.save(tmp_path / "cut.safetensors").read_bytes()[:-40]
    (tmp_path / "cut.safetensors").write_bytes(cut)
    with pytest.raises(UserError, match="damaged or no probe"):
        LinearProbe.load(tmp_path / "cut.safetensors")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="folder with other things"):
        probe.save(tmp_path / "work")
    assert (tmp_path / "work" / "thesis.txt").read_text() == "precious"


def test_a_probe_saved_before_columns_had_a_limit_reads_them_as_it_did(features, tmp_path, monkeypatch):
    hu = features.hu.copy()
    hu[3:5, 8:10, 8:10] = 3000  # a clip: far beyond any limit
    scan = scan_of(hu)
    old = fitted(scan)
    old = replace(old, recipe=replace(old.recipe, clip=None), standard=replace(old.standard, clip=None))
    old.save(tmp_path / "old.safetensors")
    with safe_open(tmp_path / "old.safetensors", "np") as file:
        words = json.loads(file.metadata()["probe"])
        arrays = {name: file.get_tensor(name) for name in ("weights", "constants", "mean", "std")}
    del words["recipe"]["clip"]
    words["format"] = "tapct-probe-2"
    save_file(arrays, tmp_path / "old.safetensors", {"probe": json.dumps(words)})
    again = LinearProbe.load(tmp_path / "old.safetensors")
    assert again.recipe.clip is None
    assert np.array_equal(again.probabilities(scan, value=1), old.probabilities(scan, value=1))
    limited = replace(old, recipe=replace(old.recipe, clip=5.0))
    assert not np.array_equal(limited.probabilities(scan, value=1), old.probabilities(scan, value=1))
