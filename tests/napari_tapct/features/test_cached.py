"""Features in the cache are found and opened by what the encoder's config says, without loading it or torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from napari_tapct.features.cached import is_cached, open_cached
from napari_tapct.features.embedding_job import EmbeddingChoice
from tapct_core.encoders import PACKAGED, UNTRAINED, load_encoder, written_encoder
from tapct_core.encoders.presets import packaged_folder
from tapct_core.errors import UserError
from tapct_core.geometry import Geometry
from tapct_core.store import FeatureStore
from tapct_core.volume import CTVolume

PLANS = (EmbeddingChoice(PACKAGED), EmbeddingChoice(PACKAGED, plan="release"), EmbeddingChoice(PACKAGED, overlap=0.25))


@pytest.fixture
def volume():
    hu = np.random.default_rng(0).integers(-100, 200, (16, 48, 48)).astype(np.int16)
    return CTVolume(hu, Geometry(hu.shape, np.diag([-3.0, -3.0, 3.0, 1.0])))


@pytest.fixture
def cached(volume, tmp_path, monkeypatch):
    """A cache with the packaged encoder's features of the volume, by its own plan without overlap."""
    from tapct_core.embedding import embed_cached

    monkeypatch.setenv("TAPCT_CACHE", str(tmp_path / "cache"))
    return embed_cached(volume, load_encoder(PACKAGED, device="cpu"))


def test_what_is_written_is_what_is_loaded(tmp_path):
    encoder, written = load_encoder(PACKAGED, device="cpu"), written_encoder(packaged_folder())
    assert (written.name, written.weights_hash, written.spec) == (encoder.name, encoder.weights_hash, encoder.spec)
    folder = shutil.copytree(packaged_folder(), tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "weights_sha256"}))
    assert written_encoder(folder) is None  # as the release's: only the tensors can tell
    (folder / "config.json").write_text(json.dumps({**config, "spacing_mm": "fine"}))
    with pytest.raises(UserError, match="spacing_mm"):
        written_encoder(folder)


def test_only_the_plan_that_is_there_is_found(volume, cached):
    assert [is_cached(volume, choice) for choice in PLANS] == [True, False, False]
    assert [open_cached(volume, choice) is None for choice in PLANS] == [False, True, True]
    np.testing.assert_array_equal(open_cached(volume, PLANS[0]).tokens, cached.tokens)
    other = CTVolume(volume.hu + np.int16(1), volume.geometry)
    assert not is_cached(other, PLANS[0]) and open_cached(other, PLANS[0]) is None


def test_a_folder_goes_by_its_weights_and_not_by_its_name(volume, cached, tmp_path):
    folder = shutil.copytree(packaged_folder(), tmp_path / "renamed")
    assert is_cached(volume, EmbeddingChoice(str(folder)))
    config = json.loads((folder / "config.json").read_text())
    other = shutil.copytree(folder, tmp_path / "other" / PACKAGED)
    (other / "config.json").write_text(json.dumps({**config, "weights_sha256": "0" * 64}))
    assert (
        not is_cached(volume, EmbeddingChoice(str(other))) and open_cached(volume, EmbeddingChoice(str(other))) is None
    )
    (other / "config.json").write_text("{")
    assert open_cached(volume, EmbeddingChoice(str(other))) is None  # loading it will say what is wrong


def test_without_a_hash_in_a_config_the_mark_goes_by_name(volume, cached):
    from tapct_core.embedding import embed_cached

    assert not is_cached(volume, EmbeddingChoice(UNTRAINED))
    embed_cached(volume, load_encoder(UNTRAINED, device="cpu"))
    assert is_cached(volume, EmbeddingChoice(UNTRAINED)) and open_cached(volume, EmbeddingChoice(UNTRAINED)) is None


def test_a_damaged_entry_is_dropped_and_said_to_be_damaged(volume, cached, caplog):
    entry = FeatureStore().path(cached.provenance["key"])
    (entry / "zarr.json").write_text("{}")
    assert open_cached(volume, PLANS[0]) is None and not entry.exists()
    assert "damaged and dropped" in caplog.text


def test_opening_loads_no_torch(volume, cached, tmp_path):
    np.save(tmp_path / "hu.npy", volume.hu)
    words = f"""
import sys, numpy as np
from napari_tapct.features.cached import is_cached, open_cached
from napari_tapct.features.embedding_job import EmbeddingChoice
from tapct_core.geometry import Geometry
from tapct_core.volume import CTVolume
hu = np.load({str(tmp_path / "hu.npy")!r})
volume = CTVolume(hu, Geometry(hu.shape, np.diag([-3.0, -3.0, 3.0, 1.0])))
choice = EmbeddingChoice({PACKAGED!r})
assert is_cached(volume, choice) and open_cached(volume, choice).dim == {cached.dim}
assert "torch" not in sys.modules, "opening cached features loaded torch"
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", words], check=True)
