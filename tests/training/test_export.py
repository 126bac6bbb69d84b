"""From a real run to an encoder that embeds a CT: the loss falls, health stays clean, equal weights are equal bytes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tapct_core import embed, load_ct, load_encoder
from tapct_core.cli import main as tapct
from tapct_core.errors import UserError
from training.export import export, main
from training.monitor import main as monitor
from training.pretrain import main as pretrain
from training.run.checkpoint import checkpoint_path, load_tensors
from training.run.log import read_log

TRAIN = [
    "ct/crlm_ct_1004", "ct/lidc_0314", "ct/ts_aorta_cta", "ct/cip_chest_64", "ct/pyradiomics_lung1",
    *(f"ct_limbs/sts_{n}" for n in ("001", "002", "003", "006")),
]  # fmt: skip


@pytest.fixture(scope="module")
def run(store, tiny, data_dir, tmp_path_factory):
    """60 small steps on real scans of the train split."""
    folder = tmp_path_factory.mktemp("run")
    case = f"online.cases=[{{ct: {data_dir / 'ct' / 'cip_chest_64_ct.nii.gz'}}}]"
    words = ["schedule.steps=60", "schedule.warmup_steps=10", "run.log_every=2", "online.every=30", case,
             "input.plan=spacing", "input.spacing_mm=[4,4,4]", "data.cache_gb=1", "optim.lr=0.001",
             "loss.entropy_target=0.6"]  # fmt: skip
    assert pretrain([str(tiny), f"data.root={store}", f"run.dir={folder}", *words]) == 0
    return folder


def test_the_loss_falls_and_health_stays_clean(run):
    records = read_log(run, "train")
    early, late = ([r["total"] for r in part] for part in (records[:5], records[-5:]))
    assert np.mean(late) < 0.9 * np.mean(early)
    assert read_log(run, "alarm") == [] and read_log(run, "non_finite") == []
    assert all(r["effective_rank"] > 1.05 and np.isfinite(r["gradient_norm"]) for r in records)
    assert [r["step"] for r in read_log(run, "online")] == [30, 60]


def test_the_plain_recipe_collapses_at_this_batch_and_the_run_says_so(store, tiny, tmp_path, capsys):
    words = [
        "schedule.steps=60",
        "schedule.warmup_steps=10",
        "data.cache_gb=1",
        "optim.lr=0.001",
        "loss.entropy_target=0",
    ]
    assert pretrain([str(tiny), f"data.root={store}", f"run.dir={tmp_path}", *words]) == 0
    assert {record["words"].split(":")[0] for record in read_log(tmp_path, "alarm")} == {"COLLAPSE (uniform)"}
    said = capsys.readouterr().err
    assert "!! COLLAPSE (uniform): the DINO loss stands at ln 64" in said and "| !! COLLAPSE" in said


def test_the_export_is_the_teacher_and_embeds_a_ct(run, tmp_path, data_dir):
    assert main([str(run), "--to", str(tmp_path / "mine"), "--dtype", "float32"]) == 0
    encoder = load_encoder(tmp_path / "mine", device="cpu")
    teacher = load_tensors(checkpoint_path(run / "checkpoints", 60), "teacher.backbone")
    state = encoder.vit.state_dict()
    assert state.keys() == teacher.keys() and all(torch.equal(state[name], teacher[name]) for name in state)
    features = embed(load_ct(data_dir / "ct" / "cip_chest_64_ct.nii.gz"), encoder)
    assert features.dim == 32 and np.isfinite(features.tokens).all()
    tokens = features.tokens[features.valid].astype(np.float32)
    assert tokens.std(axis=0).mean() > 0.05, "all tokens alike"


@pytest.mark.slow
def test_tapct_embed_takes_the_export(run, tmp_path, data_dir):
    main([str(run), "--to", str(tmp_path / "mine")])
    scan = data_dir / "ct" / "cip_chest_64_ct.nii.gz"
    assert tapct(["embed", str(scan), "--encoder", str(tmp_path / "mine"), "--out", str(tmp_path / "features")]) == 0
    assert any((tmp_path / "features").iterdir())


def test_blocks_side_by_side_are_exported_and_named_in_the_card(run, tmp_path, capsys):
    words = ["--blocks", "0", "1", "--scales", "0.3", "1"]
    assert main([str(run), "--to", str(tmp_path / "two"), *words]) == 0
    encoder = load_encoder(tmp_path / "two", device="cpu")
    assert encoder.embed_dim == 2 * encoder.vit.config.embed_dim and encoder.outputs.scales == (0.3, 1.0)
    assert "blocks 1 (times 0.3), 2 (times 1) of 2 side by side" in (tmp_path / "two" / "MODEL_CARD.md").read_text()
    assert json.loads((tmp_path / "two" / "provenance.json").read_text())["output_blocks"] == [0, 1]
    for wrong, said in ((["--blocks", "1", "0"], "ascending"), (["--blocks", "7"], "names block 7 of 2")):
        assert main([str(run), "--to", str(tmp_path / "bad"), *wrong]) == 2
        assert said in capsys.readouterr().err and not (tmp_path / "bad").exists()


def test_equal_weights_are_equal_bytes_and_nothing_names_this_machine(run, tmp_path):
    for name in ("a", "b"):
        export(run, tmp_path / name / "enc")
    files = sorted(path.name for path in (tmp_path / "a" / "enc").iterdir())
    assert files == ["MODEL_CARD.md", "config.json", "model.safetensors", "provenance.json"]
    for file in files:
        a, b = ((tmp_path / name / "enc" / file).read_bytes() for name in ("a", "b"))
        assert a == b
        assert str(tmp_path).encode() not in a and b"/tmp" not in a and str(run).encode() not in a
    card = (tmp_path / "a" / "enc" / "MODEL_CARD.md").read_text()
    assert "step 60 of 60" in card and "240 samples from 3 scans" in card and "Not a medical device" in card


def test_provenance_repeats_the_run(run, tmp_path):
    from training.run.config import Config
    from training.run.settings import build

    facts = export(run, tmp_path / "enc")
    config = build(Config, json.loads((tmp_path / "enc" / "provenance.json").read_text())["config"])
    assert config.schedule.steps == 60 and config.seed == 3
    assert facts["weights_sha256"] == load_encoder(tmp_path / "enc", device="cpu").weights_hash


def test_the_run_goes_on_from_its_export_with_the_heads_first(run, store, tiny, tmp_path):
    export(run, tmp_path / "enc", dtype="float32")
    words = [str(tiny), f"data.root={store}", f"model.init_from={tmp_path / 'enc'}", "schedule.head_only_steps=3"]
    for stop in (3, 6):
        assert pretrain([*words, f"run.dir={tmp_path / 'more'}", f"run.stop_after={stop}"]) == 0
    start = load_encoder(tmp_path / "enc", device="cpu").vit.state_dict()
    after3, after6 = (
        load_tensors(checkpoint_path(tmp_path / "more" / "checkpoints", step), "student") for step in (3, 6)
    )
    assert all(torch.equal(after3[f"backbone.{name}"], value) for name, value in start.items()), (
        "the encoder moved with the heads alone"
    )
    assert not torch.equal(after3["dino_head.mlp.0.weight"], after6["dino_head.mlp.0.weight"])
    assert not torch.equal(after6["backbone.blocks.0.attn.qkv.weight"], start["blocks.0.attn.qkv.weight"])


def test_weights_of_another_shape_are_refused(run, store, tiny, tmp_path, capsys):
    export(run, tmp_path / "enc")
    words = [
        str(tiny),
        f"data.root={store}",
        f"run.dir={tmp_path / 'r'}",
        f"model.init_from={tmp_path / 'enc'}",
        "model.depth=3",
    ]
    assert pretrain(words) == 2
    assert "depth" in capsys.readouterr().err


def test_what_is_no_run_or_no_step_is_refused(run, tmp_path, capsys):
    for words in ([str(tmp_path), "--to", "x"], [str(run), "--to", str(tmp_path / "x"), "--step", "7"]):
        assert main(words) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "x").exists()
    with pytest.raises(UserError, match="step 7"):
        export(run, tmp_path / "x", 7)


def test_the_monitor_draws_the_page(run, capsys):
    assert monitor([str(run)]) == 0
    page = run / "monitor.png"
    assert capsys.readouterr().out.strip() == str(page)
    assert page.read_bytes().startswith(b"\x89PNG") and page.stat().st_size > 40_000


@pytest.mark.slow
def test_the_small_config_learns_on_the_train_split(data_dir, tmp_path):
    from training.ingest import Layout, ingest

    listing = tmp_path / "train.txt"
    listing.write_text("".join(f"{data_dir / name}_ct.nii.gz\n" for name in TRAIN))
    ingest(listing, tmp_path / "store", Layout(spacing_mm=(2.5, 2.0, 2.0), crop_body=True))
    words = [f"data.root={tmp_path / 'store'}", f"run.dir={tmp_path / 'run'}", "schedule.steps=60",
             "schedule.warmup_steps=10",
             "schedule.teacher_temperature_steps=30", "schedule.freeze_last_layer_steps=5", "run.log_every=2",
             "batch.per_rank=4"]  # fmt: skip
    assert pretrain(["training/configs/tap_ct_xs_3d.yaml", *words]) == 0
    records = read_log(tmp_path / "run", "train")
    assert np.mean([r["total"] for r in records[-5:]]) < np.mean([r["total"] for r in records[:5]])
    assert read_log(tmp_path / "run", "alarm") == []
    export(tmp_path / "run", tmp_path / "xs")
    features = embed(load_ct(data_dir / "ct" / "crlm_ct_1006_ct.nii.gz"), load_encoder(tmp_path / "xs", device="cpu"))
    assert np.isfinite(features.tokens).all() and features.dim == 192


def test_the_card_carries_the_data_and_the_results(run, tmp_path):
    data, results = tmp_path / "data.md", tmp_path / "results.md"
    data.write_text("Three scans of nobody, CC0.\n")
    results.write_text("# Quality\n\nmedian 3 mm\n")
    words = ["--licence", "Apache-2.0", "--data", str(data), "--results", str(results)]
    assert main([str(run), "--to", str(tmp_path / "encoder"), *words]) == 0
    card = (tmp_path / "encoder" / "MODEL_CARD.md").read_text()
    assert "Three scans of nobody, CC0." in card and "Name the scans' sources" not in card
    assert "## Measured afterwards\n\nmedian 3 mm\n" in card and "# Quality" not in card
    assert load_encoder(tmp_path / "encoder").licence == "Apache-2.0"


def test_a_page_that_is_not_there_leaves_nothing(run, tmp_path, capsys):
    assert main([str(run), "--to", str(tmp_path / "encoder"), "--data", str(tmp_path / "none.md")]) == 2
    assert "none.md does not exist" in capsys.readouterr().err and not (tmp_path / "encoder").exists()
