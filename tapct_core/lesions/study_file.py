"""A Study as one JSON file a patient: readable and writable by hand, whole or not there, with a version.

The least a person writes: ``timepoints`` with a ``path`` each, and ``lesions`` with a point at one of them
(:mod:`.study_json` says what else there may be).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..atomic import atomic_path, clean
from ..errors import UserError
from ..files import read_limited
from ..strict_json import JSONError, parse_json
from ..write_lock import write_lock
from .study import Study, Timepoint
from .study_json import NOTICE, VERSION, require_readable, study_json, study_of
from .timepoints import calendar_date

__all__ = ["VERSION", "load_study", "read_study", "save_study", "scan_path", "study_json", "update_study"]

UNCHECKED = 2
"""Up to this version dates were written as headers had them: those that cannot be are left out on reading."""
log = logging.getLogger(__name__)

LARGEST_STUDY = 2**28
"""Bytes of a study's file."""


def load_study(path: str | Path) -> Study:
    """Read a study. Raises UserError that names the place in the file, for a newer version too."""
    return read_study(path)[0]


def read_study(path: str | Path) -> tuple[Study, str]:
    """A study, and the stamp of the file it came from, which :func:`save_study` asks for. Raises UserError as above.

    Dates that a program of an earlier version took over from headers, and that nobody could open again, are left out;
    a copy of the file as it was is kept beside it.
    """
    path = Path(path)
    try:
        written = read_limited(path, LARGEST_STUDY)
        data = parse_json(written)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; give a study's JSON file") from None
    except (JSONError, IsADirectoryError, NotADirectoryError) as error:
        where = f" ({error})" if isinstance(error, JSONError) else ""
        raise UserError(f"{path.name} is not a study's JSON file{where}; see docs/follow_up.md") from None
    except OSError as error:
        raise UserError(f"{path.name} cannot be read ({error.strerror}); check the path and its permissions") from None
    try:
        if _without_wrong_dates(data):
            _keep_copy(path, written)
        return study_of(data), _stamp(written)
    except UserError as error:
        raise UserError(f"{path.name}: {' '.join(str(error).split())[:500]}") from None


def save_study(study: Study, path: str | Path, known: str | None = None) -> str:
    """Write a study, whole or not at all, and return the file's stamp; a file that says the same already is left alone.

    Raises UserError for a study that could not be opened again, and nothing is written.

    ``known`` is the stamp from when the study was read or saved last: where another program has changed or removed
    the file since, UserError is raised and the file stays. Without it what lies there is replaced.
    """
    path = Path(path)
    with write_lock(path):
        if known is not None and known != (_stamp(path.read_bytes()) if path.is_file() else ""):
            raise UserError(
                f"{path.name} was changed by another program since it was opened; save under another name, "
                "or open it again"
            )
        return _write(study, path)


def update_study(path: str | Path, change: Callable[[Study], None]) -> Study:
    """Read a study, change it and write it back, with nobody else writing in between; returns it."""
    path = Path(path)
    with write_lock(path):
        study = load_study(path)
        change(study)
        _write(study, path)
    return study


def scan_path(study_path: str | Path, timepoint: Timepoint) -> Path:
    """Where a time point's scan lies: relative paths count from the study's folder."""
    return Path(study_path).parent / timepoint.path


def _write(study: Study, path: Path) -> str:
    try:
        require_readable(study)
    except UserError as error:
        raise UserError(f"the study cannot be saved as it is, since nobody could open it again: {error}") from None
    text = study_json(study).encode()
    if not path.is_file() or path.read_bytes() != text:
        with atomic_path(path, private=True) as part:
            part.write_bytes(text)
    else:
        clean(path)  # what a killed writer of it left
    return _stamp(text)


def _without_wrong_dates(data: Any) -> bool:
    """Takes dates out of what a program of an earlier version has written, where nobody could open it; whether it did.

    Nothing is done to a file that a person wrote: there, a wrong date is a slip that is said.
    """
    programs = (
        isinstance(data, dict) and data.get("notice") == NOTICE and data.get("version") in range(1, UNCHECKED + 1)
    )
    timepoints = data.get("timepoints") if programs else None
    if not isinstance(timepoints, list) or not all(isinstance(one, dict) for one in timepoints):
        return False
    latest, changed = "", False
    for one in timepoints:
        when = one.get("date")
        if not isinstance(when, str) or not when:
            continue
        if calendar_date(when) == when and when >= latest:
            latest = when
        else:
            del one["date"]
            changed = True
    return changed


def _keep_copy(path: Path, written: bytes) -> None:
    """The file as it was, beside it; one that is kept already stays. Where nothing can be written, nothing is lost."""
    copy = path.with_name(f"{path.stem}.before-repair.json")
    log.warning("%s had dates that cannot be; they were left out, and the file as it was is kept as %s", path, copy)
    with contextlib.suppress(OSError):
        if not copy.exists():
            with atomic_path(copy, private=True) as part:
                part.write_bytes(written)


def _stamp(written: bytes) -> str:
    return hashlib.sha256(written).hexdigest()
