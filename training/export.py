"""From a run to an encoder that anyone can load:

    python -m training.export RUN --to DIR
    python -m training.export RUN --to DIR --step 4000 --dtype float32 --name my-encoder
    python -m training.export RUN --to DIR --blocks 1 3 5 --scales 0.3 0.3 1

DIR gets ``config.json`` and ``model.safetensors`` (the teacher's backbone, nothing pickled; load it with
``tapct embed CT --encoder DIR``), ``MODEL_CARD.md`` for people and ``provenance.json`` for machines. Equal
weights give equal bytes: what differs from run to run stands in provenance.json alone.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path

import torch

from tapct_core import __version__
from tapct_core.encoders import load_encoder, save_encoder
from tapct_core.encoders.input_config import BLOCKS_KEY, SCALES_KEY
from tapct_core.encoders.outputs import LAST, Outputs
from tapct_core.errors import UserError
from tapct_core.terminal import print_any_name
from tapct_core.vit import VisionTransformer3D

from .run.checkpoint import checkpoint_path, list_checkpoints, load_tensors
from .run.config import Config
from .run.log import read_log
from .run.run_folder import read_run

DTYPES = {"float16": torch.float16, "float32": torch.float32}


def pick_step(run: Path, step: int | None) -> int:
    """The step to export: the newest whole checkpoint, or the one asked for. Raises UserError where there is none."""
    steps = list_checkpoints(run / "checkpoints")
    if not steps:
        raise UserError(f"{run} has no checkpoint yet; let it run to its first run.save_every, or stop it with SIGTERM")
    if step is not None and step not in steps:
        raise UserError(f"{run} has no checkpoint of step {step}; there are {', '.join(map(str, steps))}")
    return steps[-1] if step is None else step


def load_backbone(run: Path, config: Config, step: int) -> VisionTransformer3D:
    """The teacher's network at a step, on the CPU, in evaluation mode. Raises CheckpointError where it is damaged."""
    vit = VisionTransformer3D(config.model.vit())
    vit.load_state_dict(load_tensors(checkpoint_path(run / "checkpoints", step), "teacher.backbone"))
    return vit.eval()


def export(
    run: Path,
    to: Path,
    step: int | None = None,
    dtype: str = "float16",
    name: str | None = None,
    licence: str | None = None,
    data: Path | None = None,
    results: Path | None = None,
    outputs: Outputs = LAST,
) -> dict:
    """Write the encoder folder; returns its provenance. Raises UserError, and leaves nothing half-written.

    ``licence``: a line for ``config.json``, shown wherever encoders are listed. ``data`` and ``results``: Markdown
    files that say which scans were used under which licences, and what was measured; they go into the model card.
    ``outputs``: the blocks whose tokens the encoder gives; the last alone is what was trained.
    """
    config = read_run(run)
    data_words, result_words = (_page(path) for path in (data, results))
    step = pick_step(run, step)
    vit = load_backbone(run, config, step)
    name = name or to.resolve().name
    extra = {"name": name, "trained": True, **({"licence": licence} if licence else {})}
    save_encoder(to, vit, config.input_spec(), outputs, dtype=DTYPES[dtype], extra=extra)
    encoder = load_encoder(to, device="cpu")  # strict: a folder that does not load is not an export
    facts = provenance(run, config, step, name, encoder.weights_hash, dtype) | outputs.written()
    (to / "provenance.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (to / "MODEL_CARD.md").write_text(model_card(facts, config, data_words, result_words), encoding="utf-8")
    return facts


def _page(path: Path | None) -> str:
    """A Markdown file's text without its title; "" for none."""
    if path is None:
        return ""
    if not path.is_file():
        raise UserError(f"{path} does not exist; name a Markdown file, or leave the option out")
    lines = path.read_text(encoding="utf-8").strip().splitlines()
    return "\n".join(lines[1:] if lines and lines[0].startswith("# ") else lines).strip()


def provenance(run: Path, config: Config, step: int, name: str, weights: str, dtype: str) -> dict:
    """Where the weights come from, without a path of this machine or anything about a patient."""
    settings = config.as_dict()
    settings["data"]["root"] = Path(config.data.root).name
    settings["run"]["dir"] = Path(config.run.dir).name
    for case in settings["online"]["cases"]:
        case.update({key: Path(value).name for key, value in case.items() if value})
    if settings["model"]["init_from"]:
        settings["model"]["init_from"] = Path(settings["model"]["init_from"]).name
    log = [record for record in read_log(run) if record["step"] <= step] if (run / "log.jsonl").is_file() else []
    last = {kind: next((r for r in reversed(log) if r["kind"] == kind), {}) for kind in ("start", "train", "online")}
    return {
        "name": name,
        "weights_sha256": weights,
        "dtype": dtype,
        "step": step,
        "samples_seen": step * last["start"].get("global_batch", 0),
        "scans": last["start"].get("scans"),
        "checkpoint_files": json.loads((checkpoint_path(run / "checkpoints", step) / "state.json").read_text())[
            "files"
        ],
        "last_losses": {key: value for key, value in last["train"].items() if key not in ("kind", "step", "time")},
        "online_scores": {key: value for key, value in last["online"].items() if key not in ("kind", "time")},
        "alarms": [record["words"] for record in log if record["kind"] == "alarm"],
        "config": settings,
        "napari_tapct": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def model_card(facts: dict, config: Config, data: str = "", results: str = "") -> str:
    """MODEL_CARD.md: what it is, how it was made, what it scored, what it is not for."""
    unnamed = (
        "The weights inherit what the licences of the scans ask for. Name the scans' sources and notices here\n"
        "before you share this folder."
    )
    model, scale = config.model, config.input
    z, y, x = model.patch_size
    pitch = " x ".join(f"{p * s:g}" for p, s in zip(model.patch_size, scale.spacing_mm, strict=True))
    grid = (
        f"{pitch} mm (z, y, x) at the spacing plan's own spacing"
        if scale.plan == "spacing"
        else "as the release plan gives"
    )
    lines = [
        f"# {facts['name']}",
        "",
        f"A 3D vision transformer for CT, {model.embed_dim} channels x {model.depth} blocks, patch {z} x {y} x {x},",
        "pretrained without labels by this project's `training/`, with the losses named below.",
        "",
        "For research only. Not a medical device; not tested for any clinical use. Not the TAP-CT release.",
        "",
        "## Use",
        "",
        "    tapct embed CT.nii.gz --encoder THIS_FOLDER --out features",
        "",
        f"Input: HU clipped to {list(scale.clip_hu)}, minus {scale.mean_hu}, over {scale.std_hu}.",
        f"Plan `{scale.plan}`; tokens {grid}.",
        *_output_words(facts, model.depth),
        "",
        "## Made",
        "",
        f"- step {facts['step']:,} of {config.schedule.steps:,}, {facts['samples_seen']:,} samples "
        f"from {facts['scans']} scans, seed {config.seed}",
        f"- weights of the losses: DINO {config.loss.dino:g}, iBOT {config.loss.ibot:g}, KoLeo {config.loss.koleo:g}, "
        f"dense correspondence {config.loss.dense:g}",
        "- started from random weights"
        if model.init_from is None
        else f"- started from {Path(model.init_from).name}; its licence goes on to apply",
        "- every setting stands in `provenance.json` under `config`; written to a YAML file it repeats the run:",
        "  `python -m training.pretrain THAT.yaml data.root=STORE run.dir=RUN`",
        "",
        "## Scored during the run",
        "",
        *_score_words(facts["online_scores"]),
        *(
            [f"- {len(facts['alarms'])} health alarms; the first: {facts['alarms'][0]}"]
            if facts["alarms"]
            else ["- no health alarm"]
        ),
        "",
        *(["## Measured afterwards", "", results, ""] if results else []),
        "## Data and licence",
        "",
        data or unnamed,
        "",
    ]
    return "\n".join(lines)


def _outputs(blocks: list[int], scales: list[float] | None) -> Outputs:
    try:
        return Outputs(tuple(blocks), tuple(scales or [1.0] * len(blocks)))
    except ValueError as error:
        raise UserError(f"{error}; see --blocks and --scales") from None


def _score_words(scores: dict) -> list[str]:
    found = [f"- {key}: {value:.3f}" for key, value in scores.items() if isinstance(value, float)]
    return found or ["No online scores were asked for."]


def _output_words(facts: dict, depth: int) -> list[str]:
    """What a token is made of, where it is not the last block's alone."""
    blocks, scales = facts.get(BLOCKS_KEY, []), facts.get(SCALES_KEY, [])
    if not blocks:
        return []
    named = ", ".join(f"{block + 1} (times {scale:g})" for block, scale in zip(blocks, scales, strict=True))
    return [f"A token is those of blocks {named} of {depth} side by side, each under the final norm."]


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    print_any_name()
    parser = argparse.ArgumentParser(prog="python -m training.export", description="From a run to an encoder folder.")
    parser.add_argument("run", type=Path, metavar="RUN", help="the run.dir of a pretraining")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR")
    parser.add_argument("--step", type=int, metavar="N", help="a checkpoint's step (default: the newest)")
    parser.add_argument(
        "--dtype", choices=list(DTYPES), default="float16", help="how matrices are kept (default float16)"
    )
    parser.add_argument(
        "--blocks",
        type=int,
        nargs="+",
        default=[],
        metavar="B",
        help="blocks that make up a token (default: the last)",
    )
    parser.add_argument("--scales", type=float, nargs="+", metavar="S", help="a factor for each of them (default: 1)")
    parser.add_argument("--name", help="the encoder's name (default: DIR's)")
    parser.add_argument("--licence", help="one line for config.json; it is shown wherever encoders are listed")
    parser.add_argument("--data", type=Path, metavar="PAGE.md", help="scans, sources and licences, for the model card")
    parser.add_argument("--results", type=Path, metavar="PAGE.md", help="what was measured, for the model card")
    args = parser.parse_args(argv)
    try:
        outputs = _outputs(args.blocks, args.scales)
        how = {"licence": args.licence, "data": args.data, "results": args.results, "outputs": outputs}
        facts = export(args.run, args.to, args.step, args.dtype, args.name, **how)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        f"{args.to}: {facts['name']}, step {facts['step']}, weights {facts['weights_sha256'][:12]}; "
        f"try: tapct embed CT --encoder {args.to} --out FEATURES"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
