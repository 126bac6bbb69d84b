"""Callbacks that outlive their widget do nothing: napari and psygnal know nothing of Qt's deletions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod, ref

from qtpy.compat import isalive

if TYPE_CHECKING:
    from napari.viewer import Viewer
    from qtpy.QtWidgets import QAbstractButton


def living(method: Callable) -> Callable[..., Any]:
    """A function that calls a widget's bound ``method`` for as long as the widget lives, and does not keep it alive."""
    weak = WeakMethod(method)

    def call(*arguments: Any) -> Any:
        found = weak()
        if found is not None and isalive(found.__self__):
            return found(*arguments)
        return None

    return call


def bind_key(viewer: Viewer, key: str, button: QAbstractButton) -> None:
    """Clicks ``button`` on ``key`` while it lives. Layers swallow most keys, but not Shift with a letter."""
    weak = ref(button)

    def pressed(_viewer: Viewer) -> None:
        found = weak()
        if found is not None and isalive(found):
            found.click()

    viewer.bind_key(key, pressed, overwrite=True)
