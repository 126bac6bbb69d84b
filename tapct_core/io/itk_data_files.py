"""The data files that a NRRD or MetaImage header names: one, or one a slice, as a list or a numbered pattern.

Formats: https://teem.sourceforge.net/nrrd/format.html#detached, https://itk.org/Wiki/ITK/MetaIO/Documentation.
"""

from __future__ import annotations

import re
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath

from ..errors import UserError

MOST_FILES = 20_000
"""More than any scan has slices."""
KEYS = ("data file", "datafile", "elementdatafile")
LISTED = "\n"
"""Where :func:`.itk_headers.text_header` keeps the lines behind ``LIST``; no key of a header holds a line break."""
NUMBERED = re.compile(r"(?P<before>[^%]*)%(?P<width>0?\d{0,2})[diu](?P<after>[^%]*?)(?P<range>(\s+-?\d+){3,4})?")
"""printf's pattern, then first number, last number and step; a fourth says how many axes each file has."""


def lists_files(key: str, value: str) -> bool:
    """Whether a field says that the names of the data files follow, one a line (``LIST``, or ``LIST 2``)."""
    return key in KEYS and re.fullmatch(r"LIST(\s+\d+D?)?", value.strip(), re.IGNORECASE) is not None


def data_files(path: Path, name: str, fields: dict[str, str], shape: tuple[int, ...]) -> tuple[Path, ...]:
    """The files that the header ``path`` names in the field of value ``name``, in the order of their values.

    How many values each holds follows from their number: all hold as many. Raises UserError for names that lead outside
    the header's folder, and for another number of files than can share ``shape`` in whole slices.
    """
    if LISTED in fields:
        names = [line.strip() for line in fields[LISTED].splitlines() if line.strip()]
    elif "%" in name and not (path.parent / name).is_file():
        names = _numbered(path, name, shape)
    else:
        return (_data_file(path, name),)
    slices = prod(shape[2:])
    if not names or min(shape) < 1 or len(names) > min(slices, MOST_FILES) or slices % len(names):
        raise UserError(f"{path.name} names {len(names)} data files for {slices} slices; correct its header")
    return tuple(_data_file(path, one) for one in names)


def _numbered(path: Path, pattern: str, shape: tuple[int, ...]) -> list[str]:
    """``s%03d.raw 1 20 1`` -> s001.raw to s020.raw. Without numbers, MetaIO counts the slices from 1."""
    found = NUMBERED.fullmatch(pattern)
    first, last, step = [int(n) for n in (found["range"] or f"1 {shape[-1]} 1").split()[:3]] if found else (0, 0, 0)
    if not step or not 0 <= (last - first) // step < MOST_FILES:
        raise UserError(f"{path.name} names its data files in a way that is not read ({pattern[:60]}); list them")
    numbers = range(first, last + (1 if step > 0 else -1), step)
    before, width, after = found["before"], found["width"], found["after"]
    return [f"{before}{n:{width}d}{after}" for n in numbers]


def _data_file(path: Path, name: str) -> Path:
    """The file that a header names, in its own folder or below. Raises UserError for one that lies elsewhere."""
    try:
        inside = PurePosixPath(name if (path.parent / name).is_file() else name.replace("\\", "/"))
        (path.parent / inside).is_file()
    except (OSError, ValueError):  # longer than the system takes, or with a zero byte
        raise UserError(f"{path.name} names a data file that cannot be ({name[:40]!r}); correct its header") from None
    if inside.is_absolute() and inside.is_relative_to(path.parent.absolute()):  # as some programs write it
        inside = inside.relative_to(path.parent.absolute())
    if inside.is_absolute() or ".." in inside.parts or PureWindowsPath(name).drive:
        raise UserError(f"{path.name} names a data file outside its own folder ({inside.name}); put it beside it")
    return path.parent / inside
