"""Time points are stepped through in place, by key, while the place in view stays."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_tapct.layers import ct_image

from ..two_views import ball, canvases, open_two


def test_one_key_steps_through_time_and_the_view_stays(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    linked = open_two(viewer)
    viewer.add_layer(ct_image(ball(tilted=True), "later"))
    linked.session.show(linked.session.scans[0])
    linked.editor.set_timepoint("after")
    QApplication.processEvents()
    canvas = canvases(viewer, linked)[0]
    both = Qt.ControlModifier | Qt.ShiftModifier
    zoom, focus = linked.second.zoom, linked.first.focus
    QTest.keyClick(canvas, Qt.Key_K, both)
    QApplication.processEvents()
    assert linked.editor.timepoint == "later" and linked.scan.name == "later"
    assert linked.second.zoom == zoom and np.allclose(linked.first.focus, focus)
    QTest.keyClick(canvas, Qt.Key_K, both)  # there is none after it
    assert linked.editor.timepoint == "later"
    QTest.keyClick(canvas, Qt.Key_J, both)
    QApplication.processEvents()
    assert linked.editor.timepoint == "after"
