"""Names and colours of a label map in a small JSON file beside its image, for formats that have no place for them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..atomic import atomic_path
from ..errors import UserError
from ..strict_json import read_json
from ..volume import LabelMap
from .suffixes import suffix_of

log = logging.getLogger(__name__)


def sidecar_of(path: Path) -> Path:
    """Where the names and colours of an image lie: ``seg.nii.gz`` -> ``seg.labels.json``."""
    return path.with_name(path.name[: len(path.name) - len(suffix_of(path))] + ".labels.json")


def read_sidecar(path: Path) -> tuple[dict[int, str], dict[int, tuple[int, int, int]]]:
    """Names and colours beside the image ``path``; empty where there are none or they cannot be read.

    A sidecar that was left by a save cut short holds the names before and after it; those of the image that is there
    are given.
    """
    names: dict[int, str] = {}
    colours: dict[int, tuple[int, int, int]] = {}
    try:
        for value, entry in _entries(path).items():
            label = int(value)
            if "name" in entry:
                names[label] = str(entry["name"])
            if "colour" in entry:
                red, green, blue = (int(c) for c in entry["colour"])
                colours[label] = (red, green, blue)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        log.warning("the label names beside the label map cannot be read; going on without them")
        return {}, {}
    return names, colours


@contextmanager
def with_names(path: Path, labels: LabelMap) -> Iterator[Path]:
    """A temporary name for the image ``path``, which takes its place with its names and colours, both or neither.

    Two files cannot be renamed in one step. So before the image is, the sidecar says which names belong to the image
    that stands there and which to the one that comes, each by its SHA-256; afterwards it is cut down to the latter.
    A NRRD keeps its names itself. Raises UserError, with what stood there untouched, where the disk refuses.
    """
    sidecar = sidecar_of(path)
    entries = {} if suffix_of(path) == ".nrrd" else _written_entries(labels)
    try:
        before = _entries(path)
    except (OSError, ValueError, KeyError, TypeError):  # none, or none that can be read
        before = {}
    with written(path) as part:
        yield part
        if entries != before:
            old = {"labels": before, "image": _sha256(path)} if path.is_file() else None
            _write(sidecar, {"labels": entries, "image": _sha256(part)} | ({"before": old} if old else {}))
    if entries:
        _write(sidecar, {"labels": entries})
    else:
        sidecar.unlink(missing_ok=True)


def _entries(path: Path) -> dict[str, dict]:
    """What the sidecar says of the image that is there now. Raises as :func:`read_json`, and for other content."""
    found = read_json(sidecar_of(path))
    before = found.get("before")
    if isinstance(before, dict) and path.is_file() and before["image"] == _sha256(path):
        return before["labels"]
    return found["labels"]


def _written_entries(labels: LabelMap) -> dict[str, dict]:
    return {
        str(value): ({"name": labels.names[value]} if value in labels.names else {})
        | ({"colour": list(labels.colours[value])} if value in labels.colours else {})
        for value in sorted({*labels.names, *labels.colours})
    }


def _write(sidecar: Path, content: dict) -> None:
    with written(sidecar) as part:
        part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """:func:`~tapct_core.atomic.atomic_path`, with what the operating system refuses said in one line."""
    try:
        with atomic_path(path, private=True) as part:
            yield part
    except OSError as error:
        raise UserError(
            f"cannot write {path.name}: {error.strerror or 'the disk refused'}; "
            "choose a folder with space that you may write to"
        ) from None
