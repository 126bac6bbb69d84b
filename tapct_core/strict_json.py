"""JSON as the standard has it (RFC 8259), with bounds: what is read can be written again, and costs what it should.

Python's reader takes NaN, Infinity, integers of any length, half of a surrogate pair and two keys of one name; each
of them ends in a traceback, or in another file, somewhere later. Here they are refused where they stand.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from .files import read_limited

DEPTH = 64
"""Brackets within brackets; what is read here has at most six."""
LARGEST_INTEGER = 2**63
ELEMENTS = 5_000_000
"""Commas in a text, as the bound of what it can make of memory: each is one object of Python's more."""
LIMIT = 4 << 20
"""Bytes of a file, where no other number is given."""

_TOKENS = re.compile(r'"(?:[^"\\]|\\.|\\\Z)*+(?:"|\Z)|[\[{]|[\]}]', re.DOTALL)
"""Strings (one that is never closed goes to the end, so that the search is linear) and brackets."""
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


class JSONError(ValueError):
    """What is wrong with a JSON text, in words without its place; ``line`` counts from 1, 0 where it is not known."""

    def __init__(self, words: str, line: int = 0) -> None:
        super().__init__(f"line {line}: {words}" if line else words)
        self.line = line


def read_json(path: str | Path, limit: int = LIMIT) -> Any:
    """What a JSON file of at most ``limit`` bytes says. Raises JSONError, OSError, and UserError for what is too large
    or no regular file."""
    return parse_json(read_limited(path, limit))


def parse_json(text: str | bytes) -> Any:
    """What a JSON text (bytes: UTF-8, with or without a byte-order mark) says. Raises JSONError for anything else."""
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise JSONError("it is not UTF-8 text") from None
    _require_flat(text)
    constants: list[_Constant] = []

    def constant(word: str) -> _Constant:
        constants.append(_Constant(word))
        return constants[-1]

    try:
        data = json.loads(
            text, parse_int=_integer, parse_float=_float, parse_constant=constant, object_pairs_hook=_object
        )
    except json.JSONDecodeError as error:
        raise JSONError(error.msg, error.lineno) from None
    except RecursionError:
        raise JSONError("its brackets are nested too deeply") from None
    if constants:
        raise JSONError(f"{constants[0]} is no number that JSON knows")
    if _HALF_PAIR.search(text):
        _require_whole_characters(data)
    return data


class _Constant(str):
    """NaN or an infinity, for as long as it takes to say where."""


def _require_flat(text: str) -> None:
    if text.count(",") > ELEMENTS:
        raise JSONError(f"it holds more than {ELEMENTS:,} values")
    if text.count("[") + text.count("{") <= DEPTH:
        return
    depth = 0
    for token in _TOKENS.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth > DEPTH:
                raise JSONError(
                    f"its brackets are nested more than {DEPTH} deep", text.count("\n", 0, token.start()) + 1
                )
        elif token[0] in "]}":
            depth -= 1


def _integer(digits: str) -> int:
    if len(digits) > 20 or abs(int(digits)) >= LARGEST_INTEGER:
        raise JSONError(f"a whole number of {len(digits.lstrip('-'))} digits is out of range")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits) if len(digits) <= 1000 else math.inf
    if not math.isfinite(value):
        raise JSONError("a number is out of range")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        keys = [key for key, _ in pairs]
        raise JSONError(f"the key {next(k for k in keys if keys.count(k) > 1)[:80]!a} stands twice in one object")
    for key, value in pairs:
        if isinstance(value, _Constant):
            raise JSONError(f"{key[:80]!a} is {value}, which is no number that JSON knows")
    return data


def _require_whole_characters(data: Any) -> None:
    """Raise JSONError for half of a surrogate pair, which no text encoding can write."""
    if isinstance(data, str):
        try:
            data.encode()
        except UnicodeEncodeError:
            raise JSONError("an escape stands for half a character (a lone surrogate)") from None
    elif isinstance(data, dict):
        for key, value in data.items():
            _require_whole_characters(key)
            _require_whole_characters(value)
    elif isinstance(data, list):
        for value in data:
            _require_whole_characters(value)
