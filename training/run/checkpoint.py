"""Checkpoints that are either whole or not there, and hold all that a run is.

    RUN/checkpoints/
      step_00001000/             whole: it got its name by a rename, when everything in it was written
        .metadata  __0_0.distcp  torch.distributed.checkpoint (DCP): student, teacher, optimiser, loss centres,
        __1_0.distcp ...         random state of every rank; readable by any number of ranks
        state.json               step, ranks, position in the data, CRC-32 and size of every file
      step_00002000/
      .part-step_00003000/       being written; removed when a run starts

The position in the data and all schedules are functions of the step, so the step is all that is kept of
them. DCP's own metadata is a pickle: a run's folder is to be trusted like the code; what is given to others
is what ``training.export`` writes, which holds none.
"""

from __future__ import annotations

import json
import random
import shutil
import warnings
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException

from tapct_core.atomic import publish
from tapct_core.errors import UserError

from . import distributed

warnings.filterwarnings("ignore", message="torch.distributed is disabled")


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or of another model."""


def optimiser_state(optimiser: torch.optim.Optimizer, names: dict[Tensor, str]) -> dict[str, dict[str, Tensor]]:
    """An optimiser's moments by parameter name; parameters never stepped have none.

    Rates and weight decays are not here: they are functions of the step.
    """
    return {names[p]: dict(moments) for p, moments in optimiser.state.items() if moments}


def parameter_names(*modules: nn.Module) -> dict[Tensor, str]:
    """Parameters of the modules -> a name that is the same in every run and on every rank."""
    return {p: f"{i}.{name}" for i, module in enumerate(modules) for name, p in module.named_parameters()}


def random_state() -> dict[str, Any]:
    """State of every generator of this process that something could draw from."""
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),
        "python": random.getstate(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Put back what :func:`random_state` gave."""
    torch.set_rng_state(state["torch"])
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def list_checkpoints(folder: Path) -> list[int]:
    """Steps of the whole checkpoints under ``folder``, ascending."""
    return sorted(int(path.parent.name.removeprefix("step_")) for path in folder.glob("step_*/state.json"))


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of ``step`` lies."""
    return folder / f"step_{step:08d}"


class Checkpointer:
    """Writes and reads the checkpoints of a run; every rank holds one and calls it at the same steps."""

    def __init__(self, folder: Path, keep_last: int = 3, asynchronous: bool = True) -> None:
        self.folder, self.keep_last, self.asynchronous = folder, keep_last, asynchronous
        # a thread of its own talks over a group of its own, so that it cannot meet the training's messages
        self._group = dist.new_group(backend="gloo") if distributed.is_distributed() else None
        self._finisher = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future | None = None
        self._error: Exception | None = None
        if distributed.is_main():
            folder.mkdir(parents=True, exist_ok=True)
            for part in folder.glob(".part-*"):
                shutil.rmtree(part, ignore_errors=True)
        distributed.barrier()

    def save(self, step: int, state: dict[str, Any], facts: dict[str, Any], wait: bool = False) -> None:
        """Copy ``state`` now and write it in the background; with ``wait``, return when it is on disk.

        ``state``: nested dicts of tensors (or sharded DTensors) and small objects. Random state of every rank is
        added. What goes wrong with it later is told by :meth:`failure`, or raised by :meth:`wait`.
        """
        self._settle()
        state = {**state, "random": {f"rank_{distributed.rank()}": random_state()}}
        part = self.folder / f".part-{checkpoint_path(self.folder, step).name}"
        writer = dcp.FileSystemWriter(part, single_file_per_rank=True, overwrite=True)
        written = dcp.async_save(state, storage_writer=writer, process_group=self._group, no_dist=self._group is None)
        facts = {**facts, "step": step, "ranks": distributed.world_size(), "torch": torch.__version__}
        self._pending = (
            self._finisher.submit(self._finish, written, part, step, facts) if distributed.is_main() else written
        )
        if wait or not self.asynchronous:
            self.wait()
            distributed.barrier()

    def wait(self) -> None:
        """Until the last save is on disk. Raises what went wrong with it."""
        self._settle()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def failure(self) -> str:
        """What went wrong with a save, in one line and once; "" where nothing did, or it is still being written."""
        if self._pending is not None and self._pending.done():
            self._settle()
        error, self._error = self._error, None
        return "" if error is None else in_words(error)

    def _settle(self) -> None:
        """Wait for the save under way and keep its error."""
        pending, self._pending = self._pending, None
        if pending is not None:
            try:
                pending.result()
            except Exception as error:  # a disk that is full, or whatever DCP makes of one
                self._error = error

    def _finish(self, written: Future, part: Path, step: int, facts: dict[str, Any]) -> None:
        """On rank 0, once DCP's coordinator has heard from all ranks: sums, rename, prune."""
        try:
            written.result()
            self._publish(part, step, facts)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)  # a part of a checkpoint is of use to nobody, and takes space
            raise

    def _publish(self, part: Path, step: int, facts: dict[str, Any]) -> None:
        files = {path.name: {"bytes": path.stat().st_size, "crc32": _crc32(path)} for path in sorted(part.iterdir())}
        (part / "state.json").write_text(json.dumps({**facts, "files": files}, indent=1))
        # The same step may be there, saved before by a run that went on from an earlier one.
        publish(part, checkpoint_path(self.folder, step))
        for old in list_checkpoints(self.folder)[: -self.keep_last]:
            shutil.rmtree(checkpoint_path(self.folder, old))

    def load_latest(
        self, state: dict[str, Any], modules: tuple, optimiser, fall_back: bool = False
    ) -> dict[str, Any] | None:
        """Fill ``state`` and the optimiser in place from the newest checkpoint; None where there is none yet.

        Returns the facts that were saved. A damaged checkpoint raises CheckpointError with its name; with
        ``fall_back`` it is passed over, with a warning, for the one before.
        """
        steps = list_checkpoints(self.folder)[::-1]
        for i, step in enumerate(steps):
            path = checkpoint_path(self.folder, step)
            problem = distributed.gather_objects(check_files(path) if distributed.is_main() else "")[0]
            if not problem:
                return load(path, state, modules, optimiser)
            before = (
                f"run.fall_back=true goes on from step {steps[i + 1]}"
                if i + 1 < len(steps)
                else "there is none before it"
            )
            if not fall_back or i + 1 == len(steps):
                raise CheckpointError(f"the checkpoint {path} is damaged ({problem}); {before}")
            warnings.warn(f"passing over the damaged checkpoint {path} ({problem})", stacklevel=2)
        return None


def in_words(error: Exception) -> str:
    """One line about a save that failed; DCP wraps what happened on a rank in its own exception."""
    inner = next((one[0] for one in getattr(error, "failures", {}).values()), error)
    words = getattr(inner, "strerror", None) or (str(inner).strip().splitlines() or [type(inner).__name__])[0]
    return str(words)[:200]


def check_files(path: Path) -> str:
    """What is wrong with a checkpoint's files, in words; "" if nothing."""
    try:
        files = json.loads((path / "state.json").read_text())["files"]
    except (OSError, ValueError, KeyError) as error:
        return f"state.json: {type(error).__name__}"
    for name, expected in files.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != expected["bytes"] or _crc32(file) != expected["crc32"]:
            return f"{name} is not what was written"
    return ""


def load(path: Path, state: dict[str, Any], modules: tuple[nn.Module, ...], optimiser) -> dict[str, Any]:
    """Fill ``state`` in place from the checkpoint at ``path``, then optimiser and random state; returns its facts.

    Any number of ranks may read what any number wrote. A rank that has no random state there keeps its own.
    Raises CheckpointError where names or shapes are not this run's.
    """
    saved = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
    names = parameter_names(*modules)
    moments = {
        name: {
            key: torch.empty_like(p) if tuple(found.size) == tuple(p.shape) and p.ndim else torch.empty(found.size)
            for key in ("exp_avg", "exp_avg_sq", "step")
            if (found := saved.get(f"optimiser.{name}.{key}")) is not None
        }
        for p, name in names.items()
    }
    moments = {name: values for name, values in moments.items() if values}
    wanted = {**state, "optimiser": moments}
    mine = f"rank_{distributed.rank()}"
    if f"random.{mine}.torch" in saved:
        wanted["random"] = {mine: random_state()}
    try:
        dcp.load(wanted, storage_reader=dcp.FileSystemReader(path), no_dist=not distributed.is_distributed())
    except (CheckpointException, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise CheckpointError(
            f"{path} is a checkpoint of another model ({reason}); use the config of that run"
        ) from None
    for p, name in names.items():
        if name in moments:
            optimiser.state[p] = moments[name]
    if "random" in wanted:
        set_random_state(wanted["random"][mine])
    return json.loads((path / "state.json").read_text())


def load_tensors(path: Path, prefix: str) -> dict[str, Tensor]:
    """All tensors of a checkpoint whose name begins with ``prefix.``, on the CPU, without a process group.

    Raises CheckpointError for a damaged checkpoint.
    """
    problem = check_files(path)
    if problem:
        raise CheckpointError(f"the checkpoint {path} is damaged ({problem}); use another step")
    saved = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
    flat = {
        name: torch.empty(found.size, dtype=found.properties.dtype)
        for name, found in saved.items()
        if name.startswith(f"{prefix}.") and hasattr(found, "size")
    }
    dcp.load(flat, storage_reader=dcp.FileSystemReader(path), no_dist=True)
    return {name.removeprefix(f"{prefix}."): tensor for name, tensor in flat.items()}


def _crc32(path: Path) -> int:
    value = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 24):
            value = zlib.crc32(block, value)
    return value
