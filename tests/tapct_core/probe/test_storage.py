"""A probe comes back from disk as it was; what is no probe is refused and nothing is overwritten."""

from __future__ import annotations

import json

import numpy as np
import pytest

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
    with pytest.raises(UserError, match="fit it again with the old and the new strokes"):
        again.extend([(features, LabelMap(np.ones(VOXELS.shape, np.uint8), VOXELS))])
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
    from safetensors.numpy import save_file

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
