"""The folder of a run: whose it is, whether it may go on there, how it ended.

RUN/
  config.yaml      every setting of the run, as it was last started
  log.jsonl        one JSON object a line: start, train, online, alarm, non_finite, damaged_scan, end
  tensorboard/
  checkpoints/     see checkpoint.py
  status.json      how it ended: finished, stopped, not finite; and at which step
  monitor.png      training.monitor's page
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

from tapct_core.atomic import atomic_path
from tapct_core.errors import UserError

from ..data.crop_store import CropStore
from ..data.sampler import BatchPlan
from . import distributed
from .config import Config, save_config
from .dotted import flat
from .settings import build, read_yaml


def read_run(run: Path) -> Config:
    """The config a run was started with. Raises UserError where ``run`` is no run."""
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run} is not a run: it has no config.yaml; give the run.dir of a pretraining")
    return build(Config, read_yaml(run / "config.yaml"))


def claim_folder(folder: Path, config: Config) -> None:
    """Write RUN/config.yaml, or check that the run there has the same recipe. Raises UserError naming what differs."""
    if (folder / "config.yaml").is_file():
        old, new = flat(recipe(read_run(folder))), flat(recipe(config))
        changed = [
            f"{key} was {old.get(key)}, now {new.get(key)}"
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)
        ]
        if changed and not config.run.change_recipe:
            raise UserError(
                f"{folder} holds a run of another recipe "
                f"({'; '.join(changed[:3])}{' ...' if len(changed) > 3 else ''}); "
                "use another run.dir, or say run.change_recipe=true to go on with the new one"
            )
    distributed.barrier()  # all have read before one writes
    if distributed.is_main():
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / "config.yaml") as part:
            save_config(config, part)


def recipe(config: Config) -> dict:
    """What must not change when a run is resumed: all but where it lives, how long it goes and what it runs on."""
    values = config.as_dict()
    for free in ("run", "engine", "online"):
        values.pop(free)
    for key in ("root", "threads", "prefetch", "cache_gb"):
        values["data"].pop(key)
    # the same global batch may be cut otherwise on resuming
    values["batch"] = "global"
    return values


def data_facts(store: CropStore, plan: BatchPlan) -> dict:
    """What the position in the data means: it is the step, given these."""
    return {
        "global_batch": plan.size,
        "scans": len(store),
        "first_scan": store.scans[0].scan_id,
        "last_scan": store.scans[-1].scan_id,
    }


def check_data(facts: dict | None, store: CropStore, plan: BatchPlan) -> None:
    """Say so where a resumed run will not see what it would have seen. Raises UserError for another global batch."""
    if facts is None:
        return
    if facts["global_batch"] != plan.size:
        raise UserError(
            f"the run was going with {facts['global_batch']} samples a step, now it would be {plan.size} "
            f"({plan.world} ranks x {plan.accumulate} x {plan.per_rank}); set batch.per_rank and batch.accumulate "
            "to keep it"
        )
    if any(facts[key] != value for key, value in data_facts(store, plan).items()):
        warnings.warn(
            "the store is not the one of the last checkpoint; crops come in another order from here", stacklevel=2
        )


def write_status(folder: Path, done: int, ended: str) -> None:
    """Say in RUN/status.json how the run ended, once its last checkpoint is whole."""
    if distributed.is_main():
        with atomic_path(folder / "status.json") as part:
            part.write_text(json.dumps({"state": ended.split(":")[0], "reason": ended, "step": done}) + "\n")
