"""The window at the sizes of screens: nothing is higher than the screen, decisions are seen, so are eight rows."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint
from qtpy.QtWidgets import QApplication, QDockWidget

from napari_tapct.layers import ct_image
from tapct_core.geometry import Geometry
from tapct_core.volume import CTVolume


@pytest.mark.parametrize("size", [(1280, 720), (1366, 768), (1600, 1000)])
def test_it_fits_the_screen(make_napari_viewer_proxy, qtbot, size):
    viewer = make_napari_viewer_proxy(show=True)
    hu = np.full((8, 30, 32), -1000, np.int16)
    for name in "ab":
        viewer.add_layer(ct_image(CTVolume(hu, Geometry.from_spacing(hu.shape, (3, 2, 2))), name))
    viewer.window.resize(*size)
    _, widget = viewer.window.add_plugin_dock_widget("napari-tapct", "Follow-up")
    qtbot.waitUntil(lambda: widget.linked.shown)
    widget.editor.do("many", lambda s: [s.add_lesion(f"L{k}", "a", (20.0, 20.0, 9.0), "AB") for k in range(1, 13)])
    widget.find.say("advice that grows " * 40)
    qtbot.wait(100)
    window = viewer.window._qt_window
    assert (window.width(), window.height()) == size and window.minimumSizeHint().height() <= 700
    button = widget.decide.accept_button
    assert button.visibleRegion().boundingRect().size() == button.size(), "decisions are scrolled away"
    assert widget.study_fold.open is False
    table = widget.overview.table
    last = table.view.visualRect(table.proxy.index(7, 0))
    assert last.bottom() <= table.view.viewport().height() and table.shown()[:3] == ["L1", "L2", "L3"]
    second = widget.linked.qt_viewer.canvas.native
    assert second.mapTo(second.window(), QPoint(0, second.height())).y() <= size[1]
    own = [dock for dock in window.findChildren(QDockWidget) if dock.objectName() == "layer list"]
    assert own[0].isVisible() == (size[0] >= 1900)
    area = window.centralWidget().width() * window.centralWidget().height() + second.width() * second.height()
    assert area > 0.25 * size[0] * size[1], f"images get {area / size[0] / size[1]:.0%}"
    QApplication.processEvents()
