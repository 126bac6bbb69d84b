"""Names of a package that are fetched on first use: importing it then costs nothing, and torch waits until needed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any


def fetch(package: str, home: Mapping[str, str], name: str) -> Any:
    """What a package's ``__getattr__`` (PEP 562) answers: ``name`` from where ``home`` says, kept from then on.

    ``home``: name -> module, relative to ``package``. Any other name raises AttributeError.
    """
    if name not in home:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    value = getattr(import_module(f".{home[name]}", package), name)
    setattr(sys.modules[package], name, value)
    return value
