"""YAML and ``key=value`` into frozen dataclasses: every value typed, every unknown key refused by name.

What the dataclasses are is config.py's matter; here is only how text becomes one. A field's type is its
check: int, float, str, bool, fixed tuples, Literal words, optional values, and dataclasses within.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from tapct_core.errors import UserError
from tapct_core.files import read_limited

T = TypeVar("T")


LARGEST = 1 << 20
"""Bytes of a settings file."""


class _Loader(yaml.SafeLoader):
    """Plain YAML in which a key may stand only once in a section."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """A mapping; a key that stands there twice is a mistake and not a choice."""
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise UserError(f"{key} stands twice in one section (line {node.start_mark.line + 1}); keep one")
        return super().construct_mapping(node, deep)


def _parsed(text: str) -> object:
    """What a YAML text says. Raises YAMLError for all that is none, and UserError as the loader does.

    An alias repeats what it names as often as it stands, and aliases of aliases make gigabytes of ten lines.
    """
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.SafeLoader)):
            raise yaml.YAMLError("aliases (*name) are not read; write out what they stand for")
        return yaml.load(text, Loader=_Loader)
    except (ValueError, OverflowError, RecursionError) as error:  # a date that is none, a number of 5,000 digits
        if isinstance(error, UserError):
            raise
        raise yaml.YAMLError(str(error) or "it is nested too deeply") from None


def read_yaml(path: Path) -> dict:
    """A settings file as nested dicts. Raises UserError where it is missing or not YAML."""
    try:
        values = _parsed(read_limited(path, LARGEST).decode("utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(f.name for f in (Path(__file__).parents[1] / "configs").glob("*.yaml")))
        raise UserError(f"{path} does not exist; the configs that come with training are {known}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); give a settings file") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no UTF-8 text; give a settings file") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no sections; begin with `data:`, `model:` and so on")
    return values


def apply_overrides(values: dict, overrides: list[str]) -> dict:
    """Put ``section.key=value`` words over nested dicts; values are read as YAML. Raises UserError without =."""
    for word in overrides:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise UserError(f"{word!r} is not key=value; write for example schedule.steps=1000")
        *sections, last = key.split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise UserError(f"{key}: {section} is a value, not a section")
        try:
            place[last] = _parsed(text)
        except yaml.YAMLError:
            raise UserError(f"{key}: {text!r} cannot be read; quote it, or write lists as [1,2,3]") from None
    return values


Check = Callable[[str, Any], None]


def build(kind: type[T], values: Any, where: str = "", check: Check | None = None) -> T:
    """Nested dicts -> the dataclass ``kind``. Raises UserError naming the key, what was expected and what was found.

    ``check(name, value)`` sees every value of the right type before its section is made, and may refuse it.
    """
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise UserError(f"{where or 'the config'} is a section, not the value {values!r}")
    hints = get_type_hints(kind)
    known = [f.name for f in fields(kind) if f.init]
    for key in values:
        if key not in known:
            near = get_close_matches(str(key), known, 1, 0.5)
            hint = f"did you mean {_join(where, near[0])}?" if near else f"known here: {', '.join(known)}"
            raise UserError(f"{_join(where, key)} is no setting; {hint}")
    given = {}
    for f in fields(kind):
        name = _join(where, f.name)
        if f.name in values:
            given[f.name] = _value(hints[f.name], values[f.name], name, check)
        elif f.init and f.default is MISSING and f.default_factory is MISSING:
            raise UserError(f"{name} is missing; set it in the config or as {name}=... after it")
    try:
        return kind(**given)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{where or 'the config'}: {error}") from None


def _join(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def _value(hint: Any, value: Any, where: str, check: Check | None = None) -> Any:
    found = _typed(hint, value, where, check)
    if check is not None and not is_dataclass(found):
        check(where, found)
    return found


def _typed(hint: Any, value: Any, where: str, check: Check | None) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return build(hint, value, where, check)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _typed(next(arg for arg in args if arg is not type(None)), value, where, check)
    if origin is Literal:
        if value not in args:
            raise UserError(f"{where} is one of {', '.join(map(str, args))}, not {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{where} is a list, not {value!r}")
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_typed(args[0], item, f"{where}[{i}]", check) for i, item in enumerate(value))
        if len(value) != len(args):
            raise UserError(f"{where} takes {len(args)} values, not {len(value)}: {list(value)}")
        pairs = enumerate(zip(args, value, strict=True))
        return tuple(_typed(arg, item, f"{where}[{i}]", check) for i, (arg, item) in pairs)
    return _scalar(hint, value, where)


def _scalar(hint: type, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, str):  # 1e-4 has no point, so YAML 1.1 calls it a word
        try:
            return float(value)
        except ValueError:
            pass
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if hint is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        name = {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}.get(hint, hint.__name__)
        raise UserError(f"{where} is {name}, not {value!r}")
    return value
