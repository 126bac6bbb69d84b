"""Callbacks that outlive their widget do nothing: napari and psygnal know nothing of Qt's deletions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

from qtpy.compat import isalive


def living(method: Callable) -> Callable[..., Any]:
    """A function that calls a widget's bound ``method`` for as long as the widget lives, and does not keep it alive."""
    weak = WeakMethod(method)

    def call(*arguments: Any) -> Any:
        found = weak()
        if found is not None and isalive(found.__self__):
            return found(*arguments)
        return None

    return call


def weakly(method: Callable[[], object]) -> Callable[..., None]:
    """Calls a bound method for as long as its object lives: Qt's signals would keep it alive."""
    weak = WeakMethod(method)

    def call(*_: object) -> None:
        found = weak()
        if found is not None:
            found()

    return call
