"""Layers are removed while the OpenGL context that drew them is current; elsewhere the next draw may crash."""

from __future__ import annotations

import numpy as np
from qtpy.QtGui import QOffscreenSurface, QOpenGLContext
from vispy.gloo import glir

from napari_tapct.inner import canvas_widget, main_window
from napari_tapct.session import session_of


def test_a_removed_layer_is_deleted_in_the_context_that_drew_it(make_napari_viewer, qtbot, monkeypatch):
    """The deletions themselves are watched, for the crash that follows from a wrong one depends on freed memory."""
    viewer = make_napari_viewer(show=True)
    session_of(viewer)
    viewer.add_image(np.zeros((4, 20, 20)))
    viewer.add_labels(np.ones((4, 20, 20), np.uint8))
    qtbot.wait(300)  # both are drawn
    own = canvas_widget(viewer).context()
    # One that shares objects with the canvas's, as that has in which Qt puts the window together.
    surface, other = QOffscreenSurface(), QOpenGLContext()
    surface.create()
    other.setShareContext(own)
    assert other.create() and other.makeCurrent(surface)
    deleted = []

    def watched(kind):
        delete = kind.delete

        def watch(self):
            deleted.append((kind.__name__, QOpenGLContext.currentContext() == own))
            delete(self)

        monkeypatch.setattr(kind, "delete", watch)

    for kind in (glir.GlirProgram, glir.GlirBuffer, glir.GlirTexture):
        watched(kind)
    viewer.layers.clear()
    qtbot.wait(100)
    assert {name for name, _ in deleted} == {"GlirProgram", "GlirBuffer", "GlirTexture"}
    assert all(right for _, right in deleted), deleted


def test_a_viewer_that_is_closed_or_was_never_shown_has_nothing_to_keep_current(make_napari_viewer):
    hidden = make_napari_viewer(show=False)
    session_of(hidden)
    hidden.add_image(np.zeros((4, 20, 20)))
    hidden.layers.clear()
    assert main_window(hidden) is not None
    hidden.close()
    assert main_window(hidden) is None and canvas_widget(hidden) is None
