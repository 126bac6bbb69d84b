"""Configs are typed, complete, and refuse what cannot be meant, naming the key and the remedy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tapct_core.errors import UserError
from tapct_core.vit import VisionTransformer3D
from training.run.config import Config, load_config, save_config
from training.run.run_folder import recipe
from training.run.run_schedule import RunSchedule
from training.run.settings import apply_overrides, build, read_yaml

CONFIGS = sorted((Path(__file__).resolve().parents[3] / "training" / "configs").glob("*.yaml"))
XS = next(path for path in CONFIGS if path.stem == "tap_ct_xs_3d")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_loads_and_survives_being_written(path, tmp_path):
    config = load_config(path)
    save_config(config, tmp_path / "again.yaml")
    assert load_config(tmp_path / "again.yaml") == config
    assert config.input_spec().window_tokens == config.model.vit().grid


def test_there_is_a_config_for_each_model():
    assert {path.stem for path in CONFIGS} == {
        "tap_ct_b_3d",
        "tap_ct_s_3d",
        "tap_ct_s_2_5d",
        "tap_ct_s_2d",
        "tap_ct_xs_3d",
    }


@pytest.mark.parametrize(("name", "parameters"), [("tap_ct_b_3d", 87_083_520), ("tap_ct_s_3d", 22_308_096)])
def test_sizes_are_the_releases(name, parameters):
    # 87.1 M is the release's safetensors count; both numbers follow from the published shapes
    import torch

    config = load_config(next(path for path in CONFIGS if path.stem == name))
    with torch.device("meta"):
        model = VisionTransformer3D(config.model.vit())
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("name", ["tap_ct_b_3d", "tap_ct_s_3d", "tap_ct_s_2_5d", "tap_ct_s_2d"])
def test_warm_up_is_the_papers(name):
    assert load_config(next(path for path in CONFIGS if path.stem == name)).schedule.warmup_steps == 25_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["schedule.step=3"], "did you mean schedule.steps"),
        (["modle.depth=3"], "modle is no setting; did you mean model"),
        (["optim.lr=fast"], "optim.lr is a number, not 'fast'"),
        (["batch.per_rank=2.5"], "batch.per_rank is a whole number"),
        (["batch.per_rank=true"], "batch.per_rank is a whole number"),
        (["optim.weight_decay=[0.4]"], "takes 2 values"),
        (["engine.parallel=fsdp1"], "one of ddp, fsdp2"),
        (["data.block=[4,72,72]"], "set data.block"),
        (["views.local_size=[12,25,24]"], "whole number of patches"),
        (["schedule.head_only_steps=5"], "model.init_from"),
        (["online.every=5"], "online.cases"),
        (["loss.ibot=1", "mask.probability=0"], "loss.ibot=0"),
        (["loss.dino=0", "loss.ibot=0", "loss.dense=0"], "loss"),
        (["model.embed_dim=190"], "heads"),
        (["steps"], "key=value"),
        (["data=3"], "data is a section"),
        (["schedule.momentum=[1.0,0.9]"], "momentum"),
        (["augment.noise_chance=2"], "noise_chance"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(words, said):
    with pytest.raises(UserError, match=said.replace("[", r"\[")):
        load_config(XS, words)


def test_missing_and_repeated_keys_are_named(tmp_path):
    with pytest.raises(UserError, match="data.block is missing"):
        build(Config, {"data": {"root": "s"}})
    path = tmp_path / "twice.yaml"
    path.write_text("seed: 1\ndata:\n  root: a\n  root: b\n")
    with pytest.raises(UserError, match="root stands twice"):
        read_yaml(path)
    with pytest.raises(UserError, match="tap_ct_xs_3d.yaml"):
        read_yaml(tmp_path / "nowhere.yaml")


def test_overrides_reach_nested_values():
    values = apply_overrides({"a": {"b": 1}}, ["a.b=2", "a.c=[1, 2]", "d.e=1e-3", "f=none"])
    assert values == {"a": {"b": 2, "c": [1, 2]}, "d": {"e": "1e-3"}, "f": "none"}
    assert load_config(XS, ["optim.lr=1e-3"]).optim.lr == 1e-3
    assert load_config(XS, ["run.stop_after=7"]).run.stop_after == 7


def test_a_warm_up_longer_than_the_run_is_scaled_with_a_warning():
    with pytest.warns(UserWarning, match="schedule.warmup_steps=100 does not fit a run of 50 steps; taking 5"):
        schedule = load_config(
            XS, ["schedule.steps=50", "schedule.teacher_temperature_steps=20", "schedule.freeze_last_layer_steps=1"]
        ).schedule
    assert (schedule.steps, schedule.warmup_steps) == (50, 5)
    with pytest.warns(UserWarning, match="taking 0"):
        assert RunSchedule(load_config(XS, ["schedule.steps=1"]), 1.0).lr(0) > 0  # one step is a run, too
    assert load_config(XS, ["schedule.steps=1200"]).schedule.warmup_steps == 100


def test_the_rate_follows_the_square_root_of_the_batch():
    optim = load_config(CONFIGS[0]).optim
    assert optim.peak_lr(1024) == optim.lr and optim.peak_lr(256) == pytest.approx(optim.lr / 2)
    assert load_config(XS).optim.peak_lr(8) == load_config(XS).optim.lr


def test_where_and_how_long_a_run_goes_is_not_its_recipe():
    a = load_config(XS)
    b = load_config(
        XS,
        [
            "run.dir=elsewhere",
            "run.stop_after=5",
            "engine.threads=2",
            "data.root=moved",
            "batch.per_rank=4",
            "batch.accumulate=2",
        ],
    )
    assert recipe(a) == recipe(b)
    assert recipe(a) != recipe(load_config(XS, ["seed=1"])) and recipe(a) != recipe(
        load_config(XS, ["views.n_local=2"])
    )


@pytest.mark.parametrize("path", [path for path in CONFIGS if path != XS], ids=lambda path: path.stem)
def test_what_shapes_the_recipe_stands_in_the_file(path):
    """Not in a default that a later version could change under a run, and with its source beside it."""
    written, config = read_yaml(path), load_config(path)
    for section in ("augment", "mask", "optim"):
        assert set(written[section]) == set(config.as_dict()[section]), section
    assert {"aspect", "depth_scale", "global_scale", "local_scale", "flip"} <= set(written["views"])


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a: &a [1]\nb: [*a, *a]\n", "aliases"),
        ("[" * 5000, "YAML"),
        ("data: {root: 2024-99-99}\n", "YAML"),
        ("data: {root: " + "9" * 5000 + "}\n", "YAML"),
        ("\udce4".encode("utf-8", "surrogateescape").decode("latin-1"), "sections"),
        ("# " + "x" * (2 << 20), "bytes"),
    ],
)
def test_a_settings_file_that_would_be_a_bomb_is_one_line(tmp_path, text, word):
    path = tmp_path / "a.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=word) as caught:
        load_config(path, [])
    assert "\n" not in str(caught.value)


def test_a_pipe_is_no_settings_file(tmp_path):
    os.mkfifo(tmp_path / "a.yaml")
    with pytest.raises(UserError, match="pipe"):
        load_config(tmp_path / "a.yaml", [])
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UserError, match="UTF-8"):
        load_config(tmp_path / "b.yaml", [])
