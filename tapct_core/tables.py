"""Tables that people write: a CSV with a header, read rightly where the header makes it certain, else refused by row.

A spreadsheet set to German or French writes semicolons and decimal commas. Read as if it had written points, ``-46,5``
becomes two columns, and a point lands somewhere else with nothing to show for it. So the header decides what separates
columns, a row with more of them is refused, and so is whatever is no number.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from .errors import UserError
from .files import read_limited

LIMIT = 64 << 20
FARTHEST = 1e5
"""Numbers are millimetres in the patient; no scanner reaches so far."""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How a formula begins, in wide letters too."""
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")

Row = tuple[int, dict[str, str]]
"""A row's line in the file, and its fields by column."""


def read_text(path: Path, what: str) -> str:
    """A text file, UTF-8 with or without a byte-order mark or UTF-16 with one. Raises UserError naming ``what``."""
    try:
        data = read_limited(path, LIMIT)
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; give {what}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} cannot be read as text ({error.reason}); save it as UTF-8: {what}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); give {what}") from None


def read_table(path: Path, needed: Sequence[str], numbers: Sequence[str] = (), unique: str = "") -> list[Row]:
    """The rows of a CSV with the columns ``needed``, values stripped; those of ``numbers`` are numbers with a point.

    Columns are separated by what separates ``needed`` in the header: commas, semicolons or tabs. Between semicolons
    and tabs numbers may have decimal commas, if all have. No two rows may have the same ``unique``. Raises UserError
    that names the line for whatever does not fit.
    """
    what = f"a CSV with the columns {','.join(needed)}"
    text = read_text(path, what)
    lines = csv.reader(
        io.StringIO(text, newline=""), delimiter=_delimiter(text, needed), skipinitialspace=True, strict=True
    )
    rows: list[Row] = []
    columns: list[str] = []
    try:
        for fields in lines:
            fields = [field.strip() for field in fields]
            if not any(fields):
                continue
            if not columns:
                columns = _columns(path, fields, needed)
                continue
            if any(fields[len(columns) :]):
                raise UserError(
                    f"{path}, line {lines.line_num}: {len(fields)} values for {len(columns)} columns; where numbers "
                    "have decimal commas, separate columns by semicolons, in the header too"
                )
            rows.append((lines.line_num, dict.fromkeys(columns, "") | dict(zip(columns, fields, strict=False))))
    except csv.Error as error:
        raise UserError(f"{path}, line {lines.line_num}: this is not CSV ({error}); give {what}") from None
    if not columns:
        raise UserError(f"{path} has no rows; give {what}")
    if unique:
        _require_unique(path, rows, unique)
    decimal = _decimal(rows, numbers, lines.dialect.delimiter)
    return [(line, row | _points(path, line, row, numbers, decimal)) for line, row in rows]


def as_text(value: str) -> str:
    """A cell that no spreadsheet takes for a formula: one that begins like it gets an apostrophe, a number does not.

    https://owasp.org/www-community/attacks/CSV_Injection
    """
    return f"'{value}" if value[:1] in FORMULA and not _NUMBER.fullmatch(value) else value


def _delimiter(text: str, needed: Sequence[str]) -> str:
    """What separates the needed columns in the first line that says anything; a comma where nothing does."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    for mark in ",;\t":
        if set(needed) <= {part.strip().strip('"') for part in header.split(mark)}:
            return mark
    return max(",;\t", key=header.count) if header else ","


def _columns(path: Path, fields: list[str], needed: Sequence[str]) -> list[str]:
    while fields and not fields[-1]:
        fields.pop()
    missing = [name for name in needed if name not in fields]
    if missing:
        raise UserError(
            f"{path} has no column {' or '.join(missing)}; it has {', '.join(fields)[:200]} and needs "
            f"{','.join(needed)}"
        )
    twice = next((name for name in fields if fields.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{path} has the column {twice!r} twice; name each once")
    return fields


def _require_unique(path: Path, rows: list[Row], column: str) -> None:
    seen: dict[str, int] = {}
    for line, row in rows:
        name = row.get(column, "")
        if name and name in seen:
            raise UserError(f"{path}, line {line}: {name!r} stands in line {seen[name]} already; give each its own")
        seen[name] = line


def _decimal(rows: list[Row], numbers: Sequence[str], delimiter: str) -> str:
    """The decimal mark: a comma where a row has one in its numbers, which between commas it cannot have."""
    if delimiter == ",":
        return "."
    return "," if any("," in row.get(name, "") for _, row in rows for name in numbers) else "."


def _points(path: Path, line: int, row: dict[str, str], numbers: Sequence[str], decimal: str) -> dict[str, str]:
    found = {}
    for name in numbers:
        text = row.get(name, "")
        plain = text.replace(",", ".") if decimal == "," and "." not in text and text.count(",") < 2 else text
        mixed = decimal == "," and "." in text
        if mixed or not _NUMBER.fullmatch(plain) or abs(float(plain)) > FARTHEST:
            why = "has a decimal point and other rows decimal commas" if mixed else "is not a number"
            raise UserError(f"{path}, line {line}: {name} {text[:40]!r} {why}; {','.join(numbers)} are in LPS mm")
        found[name] = plain
    return found
