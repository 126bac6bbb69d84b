"""The run folder: what was asked for, and one small JSON for each finished piece of work.

    OUT/
      settings.json              task, data set and every choice that changes a number
      split.json                 which cases are learnt from and tested
      rows/ROW/row.json          a row of the table: encoder, plan, weights, licence
      rows/ROW/PART/CASE.json    one finished case: {"id", "key", "result"} or {"id", "key", "broken"}

:func:`each` does the work: the files are its only state, so an interrupted run goes on where it stopped, and the
ranks of ``torchrun`` share cases by number and gather through the folder (which all of them must see). A case that
fails is written down with its reason and left out; the next start tries it again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tapct_core.atomic import atomic_path
from tapct_core.disk import DiskFullError
from tapct_core.errors import UserError

from ...run import distributed
from ...run.dotted import flat
from .progress import ProgressLine

log = logging.getLogger(__name__)

T = TypeVar("T")
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Outcome:
    """What became of all items of a part, in their order: results by id, and reasons of the broken ones by id."""

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)


class RunFolder:
    """One evaluation on disk. Cheap to make; nothing is written before :meth:`claim`."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def claim(self, task: str, settings: Mapping[str, Any]) -> None:
        """Write settings.json, or check that the folder holds the same task with the same settings.

        ``settings`` are the choices that change a number, JSON only: not the device, not the rows (a row may be
        added to a finished run). Raises UserError naming what differs, or that the folder holds something else.
        """
        mine = {"task": task, "settings": to_json(settings)}
        file = self.path / "settings.json"
        if file.is_file():
            there = read_json(file)
            if there.get("task") != task:
                raise UserError(f"{self.path} holds a run of {there.get('task')}; choose another --out for {task}")
            old, new = flat(there.get("settings", {})), flat(mine["settings"])
            changed = [
                f"{name} was {old.get(name)}, now {new.get(name)}"
                for name in sorted({*old, *new})
                if old.get(name) != new.get(name)
            ]
            if changed:
                raise UserError(
                    f"{self.path} holds a run with other settings ({'; '.join(changed[:3])}"
                    f"{' ...' if len(changed) > 3 else ''}); choose another --out or use the same settings"
                )
        elif self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise UserError(f"{self.path} is there already and is no run; choose another --out")
        distributed.barrier()  # all have looked before one writes
        if distributed.is_main():
            self.write_json("settings.json", mine)
        distributed.barrier()

    def settings(self) -> dict[str, Any]:
        """{"task", "settings"}. Raises UserError where the folder is no run."""
        if not (self.path / "settings.json").is_file():
            raise UserError(f"{self.path} is no run of training.evaluate; give the --out folder of one")
        return read_json(self.path / "settings.json")

    def rows(self) -> dict[str, dict[str, Any]]:
        """row.json of every row, by its name, in the order in which they were added."""
        found = [read_json(file) for file in sorted((self.path / "rows").glob("*/row.json"))]
        return {row["name"]: row for row in sorted(found, key=lambda row: (row.get("number", 0), row["name"]))}

    def add_row(self, name: str, facts: Mapping[str, Any]) -> None:
        """Write rows/NAME/row.json. Raises UserError where a row of that name has other facts, such as weights."""
        file = self.path / self.part(name, "row.json")
        mine = to_json(facts)
        if file.is_file():
            there = {key: value for key, value in read_json(file).items() if key not in ("name", "number")}
            different = [key for key in sorted({*there, *mine}) if there.get(key) != mine.get(key)]
            if different:
                raise UserError(
                    f"row {name!r} of {self.path} was made with other {' and '.join(different)}; "
                    "choose another --out, or name the encoder's folder differently"
                )
        number = len(list((self.path / "rows").glob("*/row.json")))
        distributed.barrier()
        if distributed.is_main() and not file.is_file():
            self.write_json(self.part(name, "row.json"), {"name": name, "number": number, **mine})
        distributed.barrier()

    @staticmethod
    def part(row: str, name: str) -> str:
        """The place, inside the folder, of a part of one row: "rows/ROW/NAME"."""
        return f"rows/{file_name(row)}/{name}"

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write one JSON file whole; numbers that are not finite become null. Raises DiskFullError."""
        try:
            with atomic_path(self.path / name) as part:
                part.write_text(
                    json.dumps(to_json(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8"
                )
        except OSError as error:
            raise DiskFullError(
                f"{self.path} cannot be written ({error.strerror}); free some space, run again"
            ) from None

    def record(self, part: str, id: str) -> dict[str, Any] | None:
        """The record of one item, or None where it is not there (or was cut off by a crash)."""
        try:
            return read_json(self.path / part / f"{file_name(id)}.json")
        except UserError:
            return None

    def outcome(self, part: str) -> Outcome:
        """All records of a part, by id in the order of their file names; for pages made later."""
        outcome = Outcome()
        for file in sorted((self.path / part).glob("*.json")):
            record = read_json(file)
            if "broken" in record:
                outcome.broken[record["id"]] = record["broken"]
            else:
                outcome.results[record["id"]] = record["result"]
        return outcome


def each(
    run: RunFolder,
    part: str,
    items: Mapping[str, T],
    work: Callable[[T], Mapping[str, Any]],
    key: str | Callable[[str], str] = "",
    what: str = "",
) -> Outcome:
    """``work(item)`` for every item that has no record yet; returns the results of all, on every rank alike.

    ``part``  the folder of the records, such as ``run.part(row, "embed")`` or "repeats".
    ``key``   what a result depends on besides the item (a head's hash, an encoder's weights), or a function of the
              id: a record with another key is done again.
    ``what``  the words of the progress line on stderr, such as "embedding tap-ct-b-3d".

    A failure of ``work`` is that item's: its reason is recorded and the others go on. Raises DiskFullError and
    KeyboardInterrupt at once, and UserError with the first reason when every item is broken.
    """
    keys = {id: key(id) if callable(key) else key for id in items}
    mine = list(items)[distributed.rank() :: distributed.world_size()]
    todo = [id for id in mine if not _is_done(run.record(part, id), keys[id])]
    for id in todo:  # stale and broken records go before another rank could take them for new ones
        (run.path / part / f"{file_name(id)}.json").unlink(missing_ok=True)
    distributed.barrier()
    line = ProgressLine(what or part, len(todo))
    for id in todo:
        record: dict[str, Any] = {"id": id, "key": keys[id]}
        try:
            record["result"] = work(items[id])
        except DiskFullError:
            raise
        except Exception as error:  # whatever is wrong with one case, the others go on
            log.debug("%s: %s failed", part, id, exc_info=True)
            record["broken"] = reason(error)
        run.write_json(f"{part}/{file_name(id)}.json", record)
        line.step(broken="broken" in record)
    line.close()
    outcome = _gather(run, part, keys)
    if items and not outcome.results:
        first, why = next(iter(outcome.broken.items()))
        raise UserError(f"{what or part}: none of {len(items)} worked; the first, {first}: {why}")
    return outcome


def reason(error: Exception) -> str:
    """One line for a person; other errors than ours are named by their type."""
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) and text else f"{type(error).__name__}: {text}"


def file_name(id: str) -> str:
    """A file's name for an id: itself where it is plain, else with a hash, so that no two ids share one."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", id).strip("-.")[:80]
    return plain if plain and plain == id else f"{plain or 'case'}-{hashlib.sha256(id.encode()).hexdigest()[:8]}"


def read_json(file: Path) -> dict[str, Any]:
    """One JSON object. Raises UserError naming the file."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file} does not exist; check the path") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{file} cannot be read ({error}); remove it and run the command again") from None
    if not isinstance(value, dict):
        raise UserError(f"{file} does not hold an object; remove it and run the command again")
    return value


def to_json(value: Any) -> Any:
    """Plain JSON: numpy becomes Python, tuples lists, paths words, and numbers that are not finite null."""
    if isinstance(value, Mapping):
        return {str(name): to_json(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return to_json(value.tolist())
    if isinstance(value, np.generic):
        return to_json(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, os.PathLike) else value


def say(words: str) -> None:
    """One line on stderr, from the first rank only."""
    if distributed.is_main():
        print(words, file=sys.stderr, flush=True)


def say_broken(broken: Mapping[str, str], total: int, what: str) -> None:
    """Name every broken case and its reason, and how many there are."""
    for id, why in broken.items():
        say(f"left out: {id}: {why}")
    if broken:
        say(f"{what}: {len(broken)} of {total} cases are left out of every mean, each is named above")


def _is_done(record: Mapping[str, Any] | None, key: str) -> bool:
    return record is not None and record.get("key") == key and "result" in record


def _gather(run: RunFolder, part: str, keys: Mapping[str, str]) -> Outcome:
    """Waits until every item of every rank has its record. A rank that dies is torchrun's to end."""
    outcome = Outcome()
    for id, key in keys.items():
        while True:
            record = run.record(part, id)
            if record is not None and record.get("key") == key:
                break
            time.sleep(POLL_SECONDS)
        if "broken" in record:
            outcome.broken[id] = record["broken"]
        else:
            outcome.results[id] = record["result"]
    return outcome
