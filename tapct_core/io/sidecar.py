"""Names and colours of a label map in a small JSON file beside its image, for formats that have no place for them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..atomic import atomic_path
from ..errors import UserError
from ..volume import LabelMap
from .suffixes import suffix_of

log = logging.getLogger(__name__)


def sidecar_of(path: Path) -> Path:
    """Where the names and colours of an image lie: ``seg.nii.gz`` -> ``seg.labels.json``."""
    return path.with_name(path.name[: len(path.name) - len(suffix_of(path))] + ".labels.json")


def read_sidecar(path: Path) -> tuple[dict[int, str], dict[int, tuple[int, int, int]]]:
    """Names and colours beside the image ``path``; empty where there are none or they cannot be read."""
    names: dict[int, str] = {}
    colours: dict[int, tuple[int, int, int]] = {}
    try:
        for value, entry in json.loads(sidecar_of(path).read_text(encoding="utf-8"))["labels"].items():
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


def write_sidecar(path: Path, labels: LabelMap) -> None:
    """Put names and colours beside the image, and remove those of an image that was replaced; a NRRD keeps its own."""
    sidecar = sidecar_of(path)
    values = sorted({*labels.names, *labels.colours})
    if suffix_of(path) == ".nrrd" or not values:
        sidecar.unlink(missing_ok=True)
        return
    entries = {
        str(value): ({"name": labels.names[value]} if value in labels.names else {})
        | ({"colour": list(labels.colours[value])} if value in labels.colours else {})
        for value in values
    }
    with written(sidecar) as part:
        part.write_text(json.dumps({"labels": entries}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """:func:`~tapct_core.atomic.atomic_path`, with what the operating system refuses said in one line."""
    try:
        with atomic_path(path) as part:
            yield part
    except OSError as error:
        raise UserError(
            f"cannot write {path.name}: {error.strerror or 'the disk refused'}; "
            "choose a folder with space that you may write to"
        ) from None
