"""The public names of ``tapct_core`` and how they are called: what scripts outside the project rest on.

``public_names.txt`` beside this holds every name of ``tapct_core.__all__`` with its signature, and those of its public
methods. A change there is a promise that changes: add freely; what goes or is renamed stays one release with a
DeprecationWarning first (docs/developing.md). To write the file anew after a change that is meant:

    python -m tests.tapct_core.test_public_names
"""

from __future__ import annotations

import inspect
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

import tapct_core as tc

FROZEN = Path(__file__).with_name("public_names.txt")


def lines() -> list[str]:
    """One line a name; classes with their public methods, properties and fields below them."""
    found = []
    for name in sorted(tc.__all__):
        value = getattr(tc, name)
        if inspect.isclass(value):
            found += [f"class {name}{_signature(value)}", *(f"    {name}.{line}" for line in _members(value))]
        elif callable(value):
            found.append(f"{name}{_signature(value)}")
        else:
            found.append(name)
    return found


def _members(cls: type) -> list[str]:
    stored = {field.name for field in fields(cls)} if is_dataclass(cls) else set()
    out = []
    for name in sorted(n for n in dir(cls) if not n.startswith("_") and n not in stored):
        value = inspect.getattr_static(cls, name)
        if getattr(BaseException, name, None) is not None and issubclass(cls, BaseException):
            continue
        if isinstance(value, property) or not callable(getattr(cls, name)):
            out.append(name)
        else:
            out.append(f"{name}{_signature(getattr(cls, name))}")
    return [*sorted(stored), *out]


def _signature(value: object) -> str:
    try:
        return str(inspect.signature(value)).replace("'", "")
    except ValueError:
        return "(...)"


def test_the_names_and_signatures_are_those_that_were_promised():
    now, before = lines(), FROZEN.read_text(encoding="utf-8").splitlines()
    gone, new = sorted(set(before) - set(now)), sorted(set(now) - set(before))
    assert not gone and not new, f"changed or gone: {gone}; new: {new}; if it is meant, write {FROZEN.name} anew"


@pytest.mark.parametrize("name", sorted(set(tc.__all__) - {"__version__"}))
def test_every_name_says_what_it_is_for(name):
    value = getattr(tc, name)
    assert vars(value).get("__doc__") or not inspect.isclass(value), f"help(tapct_core.{name}) says nothing of its own"
    assert len((inspect.getdoc(value) or "").split()) > 3, f"help(tapct_core.{name}) says next to nothing"
    for method in (m for m in vars(value).values() if inspect.isclass(value) and inspect.isfunction(m)):
        assert method.__name__.startswith("_") or inspect.getdoc(method), f"{name}.{method.__name__} has no docstring"


if __name__ == "__main__":
    FROZEN.write_text("\n".join(lines()) + "\n", encoding="utf-8", newline="\n")
