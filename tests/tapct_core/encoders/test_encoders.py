"""Encoder folders: what is written is read back, and everything that is not certain is refused by name."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tapct_core.encoders import (
    PRESETS,
    hub,
    list_encoders,
    load_encoder,
    presets,
    save_encoder,
    untrained_encoder,
    untrained_twin,
)
from tapct_core.encoders.encoder import _copied
from tapct_core.errors import UserError
from tapct_core.preprocessing import InputSpec
from tapct_core.vit import VisionTransformer3D, ViTConfig

CONFIG = ViTConfig(patch_size=(2, 4, 4), img_size=(6, 16, 12), embed_dim=24, depth=2, num_heads=3)
SPEC = InputSpec(
    patch_size=(2, 4, 4),
    img_size=(6, 16, 12),
    clip_hu=(-900, 700),
    mean_hu=5.5,
    std_hu=210,
    plan="spacing",
    spacing_mm=(3, 2, 1),
)


def network(**changes) -> VisionTransformer3D:
    torch.manual_seed(3)
    vit = VisionTransformer3D(ViTConfig(**{**vars(CONFIG), **changes})).requires_grad_(False)
    for parameter in vit.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.2)
    return vit


def release_folder(folder: Path, vit: VisionTransformer3D, prefix: str = "model.", config: dict | None = None) -> Path:
    """A folder as the release ships it: prefixed names, a config that says little, foreign keys in it."""
    folder.mkdir(exist_ok=True)
    save_file({prefix + name: tensor for name, tensor in vit.state_dict().items()}, folder / "model.safetensors")
    stated = {"architectures": ["X"], "patch_size": [2, 4, 4], "img_size": [6, 16, 12], "num_heads": 3}
    (folder / "config.json").write_text(json.dumps(stated if config is None else config))
    return folder


def edited(folder: Path, change) -> Path:
    """Rewrite a folder's tensors after ``change(dict)`` has had its way with them."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    return folder


def configured(folder: Path, **changes) -> Path:
    config = json.loads((folder / "config.json").read_text())
    config = {key: value for key, value in {**config, **changes}.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def voxels(encoder) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(-1024, 1500, (2, *encoder.spec.img_size), generator=generator, dtype=torch.int16)


@pytest.mark.parametrize("ffn", ["mlp", "swiglu"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_what_is_saved_is_loaded(tmp_path, dtype, ffn):
    vit = network(ffn_layer=ffn)
    save_encoder(tmp_path / "e", vit, SPEC, dtype=dtype, extra={"name": "mine", "licence": "CC0", "trained": False})
    encoder = load_encoder(tmp_path / "e", device="cpu")
    assert (encoder.name, encoder.licence, encoder.trained) == ("mine", "CC0", False)
    assert encoder.spec == SPEC and encoder.vit.config == vit.config
    assert not encoder.vit.training and not any(p.requires_grad for p in encoder.vit.parameters())
    difference = (
        encoder.encode(voxels(encoder)).patches - vit.eval()(SPEC.normalise(voxels(encoder))[:, None]).patches
    ).abs()
    assert difference.max() < (1e-5 if dtype == torch.float32 else 0.05)


def test_equal_weights_give_equal_bytes_and_one_hash(tmp_path):
    vit = network()
    for name in "ab":
        save_encoder(tmp_path / name, vit, SPEC)
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    # The hash is of values: the same numbers in another type, order or wrapping are the same weights.
    first = load_encoder(tmp_path / "a")
    as_float = save_encoder(tmp_path / "c", first.vit, SPEC, dtype=torch.float32)
    bare = release_folder(tmp_path / "d", first.vit, prefix="")
    assert {load_encoder(p).weights_hash for p in (as_float, bare)} == {first.weights_hash}
    first.vit.norm.bias[0] += 1e-6
    other = save_encoder(tmp_path / "f", first.vit, SPEC, dtype=torch.float32)
    assert load_encoder(other).weights_hash != load_encoder(as_float).weights_hash


def test_small_factors_survive_half_precision(tmp_path):
    """LayerScale at its start is below float16's normal range."""
    vit = network()
    vit.blocks[0].ls1.gamma.fill_(1.2345e-6)
    save_encoder(tmp_path / "e", vit, SPEC, dtype=torch.float16)
    assert torch.equal(load_encoder(tmp_path / "e").vit.blocks[0].ls1.gamma, vit.blocks[0].ls1.gamma)


def test_saving_again_keeps_other_files_and_leaves_nothing_beside(tmp_path):
    folder = save_encoder(tmp_path / "e", network(), SPEC)
    (folder / "NOTICE").write_text("kept")
    save_encoder(folder, network(ffn_layer="swiglu"), SPEC)
    assert sorted(p.name for p in folder.iterdir()) == ["NOTICE", "config.json", "model.safetensors"]
    assert [p.name for p in tmp_path.iterdir()] == ["e"]
    assert load_encoder(folder).vit.config.ffn_layer == "swiglu"


def test_a_failed_save_leaves_the_old_encoder(tmp_path):
    folder = save_encoder(tmp_path / "e", network(), SPEC)
    before = load_encoder(folder).weights_hash
    broken = network()
    broken.norm.weight[0] = float("nan")
    with pytest.raises(UserError, match=r"norm\.weight is not finite"):
        save_encoder(folder, broken, SPEC)
    assert load_encoder(folder).weights_hash == before and [p.name for p in tmp_path.iterdir()] == ["e"]


def test_files_of_two_encoders_are_not_taken_for_one(tmp_path):
    a, b = save_encoder(tmp_path / "a", network(), SPEC), save_encoder(tmp_path / "b", network(), SPEC)
    edited(b, lambda tensors: tensors["model.norm.bias"].add_(1))
    (a / "model.safetensors").write_bytes((b / "model.safetensors").read_bytes())
    with pytest.raises(UserError, match="do not belong together"):
        load_encoder(a)


@pytest.mark.parametrize("prefix", ["model.", ""])
def test_a_release_shaped_folder_gives_its_network(tmp_path, prefix):
    vit = network()
    encoder = load_encoder(release_folder(tmp_path / "r", vit, prefix))
    assert encoder.vit.config == CONFIG and encoder.name == "r" and encoder.trained
    assert encoder.spec == InputSpec(patch_size=(2, 4, 4), img_size=(6, 16, 12))  # the release's HU scaling
    tokens = encoder.encode(voxels(encoder))
    torch.testing.assert_close(tokens.patches, vit.eval()(encoder.spec.normalise(voxels(encoder))[:, None]).patches)


@pytest.mark.parametrize("img_size", [[6, 16, 16], [16, 16], 16])
def test_a_table_in_plane_gives_its_depth(tmp_path, img_size):
    """One side or two are certain too: the count of positions gives the slabs."""
    vit = network(img_size=(6, 16, 16))
    folder = release_folder(tmp_path / "r", vit, config={"img_size": img_size, "num_heads": 3, "patch_size": 4})
    assert load_encoder(folder).vit.config.img_size == (6, 16, 16)


def test_a_2d_release_is_a_3d_network_of_patch_depth_one(tmp_path):
    vit = network(patch_size=(1, 4, 4), img_size=(1, 16, 16))
    folder = release_folder(tmp_path / "r", vit, config={"num_heads": 3})

    def flatten(tensors):
        tensors["model.patch_embed.proj.weight"] = tensors["model.patch_embed.proj.weight"].squeeze(2).clone()

    encoder = load_encoder(edited(folder, flatten))
    assert encoder.vit.config == vit.config
    slices = torch.randint(-1000, 1000, (1, 3, 16, 16), dtype=torch.int16)
    assert encoder.encode(slices).grid == (3, 4, 4)


def test_no_layer_scale_is_a_factor_of_one(tmp_path):
    vit = network()
    for block in vit.blocks:
        block.ls1.gamma.fill_(1)
        block.ls2.gamma.fill_(1)
    folder = release_folder(tmp_path / "r", vit)
    wanted = load_encoder(folder).encode(voxels(load_encoder(folder))).patches

    def drop(tensors):
        for name in [name for name in tensors if "gamma" in name]:
            del tensors[name]

    encoder = load_encoder(edited(folder, drop))
    assert torch.equal(encoder.encode(voxels(encoder)).patches, wanted)


def test_no_registers_are_none(tmp_path):
    folder = release_folder(tmp_path / "r", network(num_register_tokens=0))
    assert (
        load_encoder(
            edited(folder, lambda tensors: tensors.pop("model.register_tokens"))
        ).vit.config.num_register_tokens
        == 0
    )


REFUSED_TENSORS = {
    "missing": (lambda t: t.pop("model.blocks.1.attn.proj.bias"), r"missing: blocks\.1\.attn\.proj\.bias"),
    "half a LayerScale": (lambda t: t.pop("model.blocks.1.ls2.gamma"), r"missing: blocks\.1\.ls2\.gamma"),
    "unknown": (lambda t: t.update({"model.rope.freqs": torch.ones(3)}), r"unknown: rope\.freqs"),
    "misshaped": (lambda t: t.update({"model.norm.bias": torch.ones(23)}), r"misshaped: norm\.bias \(23,\)"),
    "NaN": (lambda t: t["model.norm.bias"].fill_(float("nan")), r"norm\.bias holds NaN"),
    "infinity": (lambda t: t["model.cls_token"].fill_(float("inf")), r"cls_token holds NaN or inf"),
    "quantised": (lambda t: t.update({"model.norm.bias": torch.ones(24).char()}), r"norm\.bias is torch\.int8"),
    "colour": (
        lambda t: t.update({"model.patch_embed.proj.weight": torch.ones(24, 3, 2, 4, 4)}),
        "one channel",
    ),
    "no patches": (lambda t: t.pop("model.patch_embed.proj.weight"), r"patch_embed\.proj\.weight is missing"),
    "no table": (lambda t: t.pop("model.pos_embed"), "pos_embed is missing"),
    "another table": (lambda t: t.update({"model.pos_embed": torch.ones(1, 50, 24)}), "49 patch positions"),
    "a flat table": (lambda t: t.update({"model.pos_embed": torch.ones(37, 24)}), r"pos_embed is \(37, 24\)"),
    "no MLP": (lambda t: t.pop("model.blocks.0.mlp.fc1.weight"), r"mlp\.fc1\.weight is missing"),
    "gap in the blocks": (
        lambda t: t.update({f"model.blocks.5.{n[15:]}": t.pop(n) for n in list(t) if n.startswith("model.blocks.1.")}),
        r"missing: blocks\.1",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), REFUSED_TENSORS.values(), ids=REFUSED_TENSORS)
def test_tensors_that_do_not_fit_are_refused_by_name(tmp_path, change, message):
    folder = edited(release_folder(tmp_path / "r", network()), change)
    with pytest.raises(UserError, match=message) as caught:
        load_encoder(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


REFUSED_CONFIGS = {
    "no heads": ({"num_heads": ...}, 'num_heads is missing.*add "num_heads"'),
    "wrong heads": ({"num_heads": 5}, "num_heads is 5"),
    "no window": ({"img_size": ...}, "img_size is missing, and 36 positions fit several grids"),
    "wrong window": ({"img_size": [12, 16, 12]}, "36 patch positions"),
    "broken window": ({"img_size": [6, 16, 13]}, "36 patch positions"),
    "window in words": ({"img_size": "large"}, "img_size is 'large'"),
    "fractional window": ({"img_size": [6, 16, 12.5]}, "whole numbers"),
    "other depth": ({"depth": 12}, "says depth 12, the tensors 2"),
    "other width": ({"embed_dim": 384}, "says embed_dim 384, the tensors 24"),
    "other patch": ({"patch_size": [4, 8, 8]}, "says patch_size"),
    "other registers": ({"num_register_tokens": 0}, "says num_register_tokens 0, the tensors 4"),
    "clip in words": ({"clip_hu": "lung"}, "clip_hu is 'lung'"),
    "descending clip": ({"clip_hu": [100, -100]}, "clip_hu ascending"),
    "NaN mean": ({"mean_hu": float("nan")}, "mean_hu"),
    "no deviation": ({"std_hu": 0}, "standard deviation must be positive"),
    "unknown plan": ({"plan": "magic"}, "plan must be one of"),
    "two spacings": ({"spacing_mm": [1, 2]}, "spacing_mm is"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED_CONFIGS.values(), ids=REFUSED_CONFIGS)
def test_a_config_that_is_wrong_or_says_too_little_is_refused_by_key(tmp_path, changes, message):
    folder = configured(release_folder(tmp_path / "r", network()), **changes)
    with pytest.raises(UserError, match=message) as caught:
        load_encoder(folder)
    assert "\n" not in str(caught.value)


def test_damaged_files_are_refused_with_the_remedy(tmp_path):
    folder = release_folder(tmp_path / "r", network())
    whole = (folder / "model.safetensors").read_bytes()
    for size in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        (folder / "model.safetensors").write_bytes(whole[:size])
        with pytest.raises(UserError, match="damaged or no safetensors"):
            load_encoder(folder)
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(UserError, match="Git LFS pointer"):
        load_encoder(folder)
    (folder / "model.safetensors").write_bytes(whole)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        load_encoder(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(UserError, match="not a JSON object"):
        load_encoder(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"config\.json is missing"):
        load_encoder(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "teacher.pt", "last.ckpt", "w.pth"])
def test_pickles_are_never_opened(tmp_path, name):
    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "ran").touch, ())

    torch.save(Evil(), tmp_path / name)
    for target in (tmp_path, tmp_path / name):
        with pytest.raises(UserError, match="pickle, which can run code"):
            load_encoder(target)
    assert not (tmp_path / "ran").exists()


def test_names_that_are_nothing_are_refused(tmp_path):
    with pytest.raises(UserError, match="no encoder and no folder is called 'tap-ct-xl'"):
        load_encoder("tap-ct-xl")
    with pytest.raises(UserError, match="does not exist"):
        load_encoder(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds no model\.safetensors"):
        load_encoder(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="is a file; give the folder"):
        load_encoder(tmp_path / "notes.txt")


@pytest.mark.parametrize("device", ["tpu", "mps", "cuda:x", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(UserError, match=f"device '?{device}"):
        load_encoder("untrained-xs-3d", device=device)


def test_the_default_is_the_packaged_encoder_where_there_is_one(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(presets, "WEIGHTS_DIR", tmp_path)
    with caplog.at_level(logging.WARNING):
        fallback = load_encoder()
    assert not fallback.trained and fallback.name == "untrained-xs-3d"
    assert "random weights, not trained" in caplog.text
    with pytest.raises(UserError, match="no packaged encoder; use --encoder untrained-xs-3d or --encoder none"):
        load_encoder("tap-ct-xs-3d")
    save_encoder(tmp_path / "tap-ct-xs-3d", network(), SPEC, extra={"licence": "CC BY 4.0"})
    caplog.clear()
    packaged = load_encoder()
    assert packaged.trained and packaged.name == "tap-ct-xs-3d" and not caplog.text


def test_the_list_says_what_is_here(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "_cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(presets, "WEIGHTS_DIR", tmp_path)
    rows = {row["name"]: row for row in list_encoders()}
    assert set(rows) == {"tap-ct-xs-3d", "untrained-xs-3d", *PRESETS}
    assert json.loads(json.dumps(list(rows.values()))) == list(rows.values())
    assert [name for name, row in rows.items() if row["default"]] == ["untrained-xs-3d"]
    assert rows["tap-ct-b-3d"]["patch_size"] == [4, 8, 8] and rows["tap-ct-b-3d"]["embed_dim"] == 768
    assert rows["tap-ct-b-2d"]["patch_size"] is None  # not known until it is read
    assert all("non-commercial" in rows[name]["licence"] for name in PRESETS)
    assert all(row["folder"] is None for row in rows.values())
    assert {name: row["download_mb"] for name, row in rows.items() if row["download_mb"]} == {
        name: 90 if "-s-" in name else 350 for name in PRESETS
    }
    save_encoder(tmp_path / "tap-ct-xs-3d", network(), SPEC, extra={"licence": "CC BY 4.0"})
    row = next(row for row in list_encoders() if row["name"] == "tap-ct-xs-3d")
    assert row["folder"] == str(tmp_path / "tap-ct-xs-3d")
    assert row["default"] and row["available"] and row["licence"] == "CC BY 4.0"
    assert row["embed_dim"] == 24 and row["patch_size"] == [2, 4, 4]


def test_the_list_loads_no_torch():
    code = "import sys; from tapct_core.encoders import list_encoders; list_encoders(); print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_random_weights_follow_their_seed_and_leave_the_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    a, b, c = (untrained_encoder(CONFIG, SPEC, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    assert a.weights_hash == b.weights_hash != c.weights_hash
    assert not a.trained and "seed 1" in c.origin
    twin = untrained_twin(c)
    assert twin.weights_hash == a.weights_hash and twin.spec == SPEC and not twin.trained and "untrained" in twin.name


def test_encode_takes_hu_and_only_hu():
    encoder = untrained_encoder(CONFIG, SPEC)
    hu = voxels(encoder)
    tokens = encoder.encode(hu)
    assert (
        tokens.patches.shape == (2, 36, 24) and tokens.patches.dtype == torch.float32 and tokens.patches.is_inference()
    )
    assert not torch.equal(encoder.encode(hu, block=0).patches, tokens.patches)
    # What lies beyond the clip is the same to the network.
    assert torch.equal(encoder.encode(hu.clamp(-900, 700)).patches, tokens.patches)
    with pytest.raises(TypeError, match="int16 HU"):
        encoder.encode(hu.float())


def test_a_copy_for_another_device_leaves_the_first_alone():
    encoder = untrained_encoder(CONFIG, SPEC)
    assert encoder.to("cpu") is encoder
    copy = _copied(encoder.vit, torch.device("cpu"))
    hu = SPEC.normalise(voxels(encoder))[:, None]
    before = encoder.vit(hu).patches
    assert torch.equal(copy(hu).patches, before)
    copy.norm.bias += 1
    assert torch.equal(encoder.vit(hu).patches, before)
    assert not copy.training and not any(parameter.requires_grad for parameter in copy.parameters())


def test_presets_say_what_is_known():
    assert set(PRESETS) == {f"tap-ct-{size}-{kind}" for size in "sb" for kind in ("2d", "2-5d", "3d")}
    for name, preset in PRESETS.items():
        assert preset.repo_id == f"fomofo/{name}"
        assert preset.embed_dim == 64 * preset.num_heads == {"s": 384, "b": 768}[name[7]]
        assert preset.revision is None or re.fullmatch(r"[0-9a-f]{40}", preset.revision)
    known = PRESETS["tap-ct-b-3d"]
    assert np.prod([i // p for i, p in zip(known.img_size, known.patch_size, strict=True)]) == 2352
