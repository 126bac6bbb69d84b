"""Blocks side by side as one token: order and factors, a folder that says so, and everything wrong refused by name."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from tapct_core.embedding import embed
from tapct_core.encoders import (
    list_encoders,
    load_encoder,
    save_encoder,
    untrained_encoder,
    untrained_twin,
    written_encoder,
)
from tapct_core.encoders.outputs import LAST, Outputs
from tapct_core.errors import UserError
from tapct_core.geometry import Geometry
from tapct_core.preprocessing import InputSpec
from tapct_core.provenance import feature_key
from tapct_core.vit import ViTConfig
from tapct_core.volume import CTVolume

CONFIG = ViTConfig(patch_size=(2, 4, 4), img_size=(4, 16, 16), embed_dim=24, depth=4, num_heads=3, layer_scale_init=1.0)
SPEC = InputSpec(patch_size=(2, 4, 4), img_size=(4, 16, 16), plan="spacing", spacing_mm=(3, 2, 2))
TWO = Outputs((1, 3), (0.5, 1.0))


def encoder(outputs=TWO):
    return untrained_encoder(CONFIG, SPEC, outputs=outputs)


def hu(*shape):
    return torch.from_numpy(np.random.default_rng(0).integers(-1000, 800, shape).astype(np.int16))


def test_blocks_stand_side_by_side_each_times_its_factor():
    both, voxels = encoder(), hu(2, 4, 16, 16)
    found, early, last = both.encode(voxels), both.encode(voxels, block=1), encoder(LAST).encode(voxels)
    assert both.embed_dim == found.patches.shape[-1] == 48 and found.grid == (2, 4, 4)
    for part in ("cls", "registers", "patches"):
        joined, first, second = (getattr(tokens, part) for tokens in (found, early, last))
        torch.testing.assert_close(joined[..., :24], 0.5 * first, rtol=0, atol=0)
        torch.testing.assert_close(joined[..., 24:], second, rtol=0, atol=0)


def test_nothing_said_is_the_last_block_and_the_hash_of_before():
    one = encoder(LAST)
    assert one.embed_dim == 24 and LAST.written() == {}
    assert one.weights_hash != encoder().weights_hash != encoder(replace(TWO, scales=(0.4, 1.0))).weights_hash


def test_a_scan_is_embedded_with_all_of_them_and_kept_apart_from_the_last_alone():
    both, volume = encoder(), CTVolume(hu(12, 40, 40).numpy(), Geometry.from_spacing((12, 40, 40), (3, 2, 2)))
    features, last = embed(volume, both), embed(volume, encoder(LAST))
    assert features.dim == 48 and features.cls.shape[1] == 48
    np.testing.assert_allclose(features.tokens[..., 24:].astype(float), last.tokens.astype(float), atol=2e-2)
    assert feature_key(volume, both, SPEC, 0.0) != feature_key(volume, encoder(LAST), SPEC, 0.0)


def test_a_folder_keeps_them(tmp_path):
    both = encoder()
    save_encoder(tmp_path / "e", both.vit, SPEC, TWO, dtype=torch.float32)
    loaded = load_encoder(tmp_path / "e", device="cpu")
    assert loaded.outputs == TWO and loaded.embed_dim == 48
    assert loaded.weights_hash == both.weights_hash == written_encoder(tmp_path / "e").weights_hash
    voxels = hu(1, 4, 16, 16)
    assert torch.equal(loaded.encode(voxels).patches, both.encode(voxels).patches)
    assert untrained_twin(loaded).embed_dim == 48


def test_the_list_says_how_long_a_token_is(tmp_path, monkeypatch):
    from tapct_core.encoders import presets

    monkeypatch.setattr(presets, "WEIGHTS_DIR", tmp_path)
    save_encoder(tmp_path / presets.PACKAGED, encoder().vit, SPEC, TWO)
    assert list_encoders()[0]["embed_dim"] == 48


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"output_blocks": [1, 4]}, "names block 4 of 4"),
        ({"output_blocks": [3, 1]}, "ascending"),
        ({"output_blocks": [1, 1]}, "ascending"),
        ({"output_blocks": [-1, 3]}, "ascending"),
        ({"output_blocks": 3}, "not lists of numbers"),
        ({"output_blocks": [1.5, 3]}, "not lists of numbers"),
        ({"output_scales": [1.0]}, "2 output blocks need as many scales"),
        ({"output_scales": [0.0, 1.0]}, "not all above 0"),
        ({"output_scales": ["a", 1.0]}, "not lists of numbers"),
        ({"output_scales": [0.7, 1.0]}, "do not belong together"),
        ({"output_blocks": [2, 3]}, "do not belong together"),
    ],
)
def test_what_is_wrong_in_a_folder_is_said_in_one_line(tmp_path, change, said):
    save_encoder(tmp_path / "e", encoder().vit, SPEC, TWO)
    path = tmp_path / "e" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=said) as caught:
        load_encoder(tmp_path / "e", device="cpu")
    assert "\n" not in str(caught.value)


def test_a_block_that_is_not_there_is_not_saved(tmp_path):
    with pytest.raises(UserError, match="names block 9 of 4"):
        save_encoder(tmp_path / "e", encoder().vit, SPEC, Outputs((1, 9), (1.0, 1.0)))
    assert not (tmp_path / "e").exists()


def test_equal_folders_are_equal_bytes(tmp_path):
    for name in "ab":
        save_encoder(tmp_path / name, encoder().vit, SPEC, TWO)
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    shutil.rmtree(tmp_path / "a")
