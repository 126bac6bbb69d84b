"""Widgets of the plugin that are opened from napari's menu share one dock."""

from __future__ import annotations

import pytest
from qtpy.QtWidgets import QApplication

from napari_tapct.tabs import dock_over


@pytest.mark.parametrize("first", ["Follow-up", "Segment"])
def test_scans_opens_as_a_tab_and_takes_no_room(make_napari_viewer_proxy, qtbot, first):
    viewer = make_napari_viewer_proxy(show=True)
    viewer.window.resize(1200, 700)
    _, widget = viewer.window.add_plugin_dock_widget("napari-tapct", first)
    if first == "Follow-up":
        qtbot.waitUntil(lambda: widget.linked.shown)
        qtbot.wait(100)
    height = widget.height()
    _, scans = viewer.window.add_plugin_dock_widget("napari-tapct", "Scans")
    qtbot.waitUntil(lambda: dock_over(scans) in dock_over(widget).parentWidget().tabifiedDockWidgets(dock_over(widget)))
    QApplication.processEvents()
    dock_over(widget).raise_()
    qtbot.waitUntil(lambda: not widget.visibleRegion().isEmpty())
    assert widget.height() > height - 60
