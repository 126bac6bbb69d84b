"""Which recipe teaches a small encoder most in the same CPU time: short runs, judged on the dev patients alone.

    python -m benchmarks.recipes --minutes 6                every recipe; a finished one is not run again
    python -m benchmarks.recipes --only "no turns"          one of them, say beside another process
    python -m benchmarks.recipes --out docs/results/recipes.md

A recipe is `training/configs/tap_ct_xs_3d.yaml` with a few settings changed. How many steps it gets follows from
the CPU time of its first ones (user and system time of the process, so that a busy machine costs no recipe steps),
and its learning rate falls to nothing by the last. Then the teacher is exported and asked for points in synthetic
HARD follow-ups of dev patients (`benchmarks.encoder_quality`: tokens alone, the whole volume searched, no prior).
One seed each: differences of a few points are noise.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.encoder_quality.measures import measure
from benchmarks.encoder_quality.rows import encoder_row

from benchmarks.common import markdown_table, write_page
from tapct_core.encoders import load_encoder
from training.run.log import read_log

CONFIG = "training/configs/tap_ct_xs_3d.yaml"
LIMBS = ("001", "002", "003", "006", "008", "010", "012", "014", "015", "018", "019", "023")
TRAIN = (
    "crlm_ct_1004", "lidc_0314", "ts_aorta_cta", "pyradiomics_lung1", *(f"sts_{n}" for n in LIMBS),
)  # fmt: skip
"""The train patients' CTs, by the beginning of the file's name."""
_SHORT = {"schedule.warmup_steps": 40}
_TURNED_MORE = {"views.turn": [15, 5, 5], "views.global_scale": [0.3, 0.7], "data.block": [28, 88, 88]}
_FINER = {"input.spacing_mm": [2.5, 2.0, 2.0]}
_COARSE = {
    "model.patch_size": [4, 8, 8], "model.img_size": [12, 96, 96], "views.global_size": [12, 96, 96],
    "data.block": [16, 144, 144], "input.spacing_mm": [2.5, 2.0, 2.0],
}  # fmt: skip
_FLAT = {"model.patch_size": [2, 4, 4], "model.img_size": [8, 48, 48], "views.global_size": [8, 48, 48]}
_WIDE = {"model.img_size": [16, 64, 64], "views.global_size": [16, 64, 64], "data.block": [20, 104, 104]}
_CUBE = {"model.img_size": [24, 36, 36], "views.global_size": [24, 36, 36], "data.block": [32, 60, 60]}
_JOINED = {
    "loss.dino": 0.3, "loss.ibot": 0.3, "loss.koleo": 0.005, "views.n_local": 2, "mask.probability": 0.5,
}  # fmt: skip
RECIPES: dict[str, dict] = {
    "the packaged recipe": {},
    "the packaged recipe, second seed": {"seed": 1},
    "no turns": {"views.turn": [0, 0, 0], "views.global_scale": [0.22, 0.6]},
    "turns of up to 15, 5, 5 degrees": _TURNED_MORE,
    "2.5 x 2 x 2 mm": _FINER,
    "2.5 x 2 x 2 mm, patch 4 x 8 x 8": _COARSE,
    "patch 2 x 4 x 4": _FLAT,
    "crops of 16 x 64 x 64": _WIDE,
    "crops of 24 x 36 x 36": _CUBE,
    "with 0.3 DINO, 0.3 iBOT, 0.005 KoLeo": _JOINED,
    "the teacher's positives": {"loss.dense_positives": "teacher"},
    "temperature 0.05": {"loss.dense_temperature": 0.05},
}
"""By name: what differs from the config."""


def words(settings: dict) -> list[str]:
    """Settings as the command line takes them."""
    return [f"{key}={json.dumps(value)}" for key, value in settings.items()]


def cpu_seconds(arguments: list[str]) -> float:
    """Run a Python module in a process of its own on one thread -> its CPU time. Raises where it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", *arguments], env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments)
    return usage.ru_utime + usage.ru_stime


def pretrain(settings: dict, store: Path, run: Path, steps: int, seed: int) -> float:
    """One run of ``steps`` steps -> its CPU time in seconds."""
    changes = {**settings, "data.root": str(store), "run.dir": str(run), "schedule.steps": steps, "engine.threads": 1,
               "schedule.warmup_steps": min(settings["schedule.warmup_steps"], steps // 2),
               "seed": settings.get("seed", seed)}  # fmt: skip
    return cpu_seconds(["training.pretrain", CONFIG, *words(changes)])


def ingest(data: Path, runs: Path, spacing: list[float]) -> Path:
    """The train CTs at a spacing, as a store of crops; what is there already is not made again."""
    store = runs / ("store-" + "x".join(f"{s:g}" for s in spacing))
    listed = runs / "train.txt"
    found = [p for name in TRAIN for p in sorted(data.rglob(f"{name}_ct.nii.gz"))]
    runs.mkdir(parents=True, exist_ok=True)
    listed.write_text("\n".join(str(p.resolve()) for p in found) + "\n", encoding="utf-8")
    words_ = ["--spacing", *(f"{s:g}" for s in spacing), "--crop-body", "--workers", "1"]
    cpu_seconds(["training.ingest", str(listed), "--out", str(store), *words_])
    return store


def steps_within(settings: dict, store: Path, scratch: Path, seconds: float) -> int:
    """How many steps fit: from the CPU time of 4 and of 12."""
    few, more = (pretrain(settings, store, scratch / str(n), n, 0) for n in (4, 12))
    return max(20, int(seconds / ((more - few) / 8)))


def run_recipe(name: str, folder: Path, minutes: float, data: Path, seed: int) -> dict:
    """Train, export and judge one recipe; what is there already is not made again."""
    settings = {**_SHORT, **RECIPES[name]}
    done = folder / "result.json"
    if done.exists():
        return json.loads(done.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    store = ingest(data, folder.parent, settings.get("input.spacing_mm", [3.0, 3.0, 3.0]))
    trained = folder / "trained.json"
    if not trained.exists():
        steps = steps_within(settings, store, folder / "timing", minutes * 60)
        spent = pretrain(settings, store, folder / "run", steps, seed)
        trained.write_text(json.dumps({"steps": steps, "cpu_minutes": spent / 60}), encoding="utf-8")
    cpu_seconds(["training.export", str(folder / "run"), "--to", str(folder / "encoder")])
    encoder = load_encoder(str(folder / "encoder"))
    row = measure(encoder_row(encoder, 0.25), data, "dev", (1, 2), 100, ("hard",))
    last = read_log(folder / "run", "train")[-1]
    cost = json.loads(trained.read_text(encoding="utf-8"))
    result = {**row, **cost, "dense": last.get("dense"), "dino": last.get("dino")}
    done.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return result


def page(results: dict[str, dict]) -> str:
    """The results, one recipe a row, the best on HARD first."""
    rows = []
    for name, r in sorted(results.items(), key=lambda item: -item[1]["hard"]["le10"]):
        hard = f"{r['hard']['median']:.1f}, {r['hard']['le5']:.0%}, {r['hard']['le10']:.0%}"
        rows.append([name, r["steps"], f"{r['cpu_minutes']:.1f}", f"{r['dense']:.2f}", hard, f"{r['rank']:.0f}"])
    header = ["recipe", "steps", "CPU min", "last dense loss", "HARD: median mm, ≤ 5, ≤ 10 mm", "effective rank"]
    return markdown_table(header, rows)


def main() -> None:
    """Trains and measures what is missing of the recipes and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/recipes"))
    parser.add_argument("--minutes", type=float, default=6.0, help="CPU time of a recipe")
    parser.add_argument("--only", nargs="+", choices=tuple(RECIPES), metavar="RECIPE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TAPCT_DATA", "../shared/data")))
    parser.add_argument("--out", type=Path, help="write the table to this Markdown file")
    args = parser.parse_args()
    results = {}
    for name in args.only or RECIPES:
        folder = args.runs / "".join(c if c.isalnum() else "-" for c in name)
        results[name] = run_recipe(name, folder, args.minutes, args.data, args.seed)
        print(name, json.dumps(results[name]), flush=True)
    print(page(results))
    if args.out:
        changed = {name: words(RECIPES[name]) for name in results if RECIPES[name]}
        settings = [f"- {name}: " + ", ".join(f"`{w}`" for w in changed[name]) for name in changed]
        notes = __doc__.split("\n\n", 2)[2].strip()
        parts = [notes, page(results), "What differs from the config:", "\n".join(settings)]
        write_page(args.out, "Recipes for the small encoder", "python -m benchmarks.recipes", parts)


if __name__ == "__main__":
    main()
