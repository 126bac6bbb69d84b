"""The Features widget: words before a download, embedding and cancel, cached scans, colours, similarity at a click."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QMessageBox

from napari_tapct.features.encoder_choice import PACKAGED, UNTRAINED, choices
from napari_tapct.preferences import DEFAULTS, preference

from ..conftest import canvas_of, centre_on, place_on_canvas

LONG = 180_000


@pytest.fixture
def docked(make_napari_viewer_proxy, ct_files):
    """A shown viewer with the Features widget, one small scan and the control encoder chosen."""
    viewer = make_napari_viewer_proxy(show=True)
    viewer.open(ct_files["straight.nii.gz"], plugin="napari-tapct")
    _, widget = viewer.window.add_plugin_dock_widget("napari-tapct", "Features")
    widget.form.choose(UNTRAINED)
    return viewer, widget


def wait_for_features(widget, qtbot):
    qtbot.waitUntil(lambda: widget.session.active.features is not None, timeout=LONG)
    qtbot.waitUntil(lambda: not widget.job.running, timeout=LONG)


def test_choices_are_the_library_s_the_default_first(monkeypatch, tmp_path):
    from tapct_core.encoders import PRESETS, list_encoders, presets

    rows = {row["name"]: row for row in list_encoders()}
    found = choices()
    assert rows[found[0].name]["default"] and set(PRESETS) < {choice.name for choice in found}
    assert {choice.name: choice.download_mb for choice in found} == {
        choice.name: rows[choice.name]["download_mb"] for choice in found
    }
    monkeypatch.setattr(presets, "WEIGHTS_DIR", tmp_path)
    assert choices()[0].name == UNTRAINED  # a build without a packaged encoder
    (tmp_path / PACKAGED).mkdir()
    (tmp_path / PACKAGED / "config.json").write_text('{"licence": "CC BY 4.0"}')
    assert choices()[0].name == PACKAGED and "CC BY 4.0" in choices()[0].words


def test_every_choice_says_licence_size_and_place():
    for choice in choices():
        assert "icen" in choice.words and ("MB" in choice.words or "no files" in choice.words), choice
        assert ("download" in choice.words.lower()) or choice.download_mb == 0


def test_preferences_are_those_of_the_manifest():
    import yaml

    from napari_tapct import __file__ as package

    manifest = yaml.safe_load(Path(package).with_name("napari.yaml").read_text())
    page = manifest["contributions"]["configurations"]["general"]["properties"]
    assert {name: entry["default"] for name, entry in page.items()} == DEFAULTS
    assert preference("device") == "auto"


def test_embed_then_open_from_the_cache_at_once(docked, ct_files, qtbot):
    viewer, widget = docked
    assert "no features yet" in widget.state.text() and widget.warning.text()
    QTest.keyClick(canvas_of(viewer), Qt.Key_E, Qt.ShiftModifier)
    wait_for_features(widget, qtbot)
    first = widget.session.active.features
    assert first.provenance["encoder"] == UNTRAINED and "features of" in widget.state.text()
    assert widget.bar.isHidden()
    viewer.layers.clear()
    viewer.open(ct_files["straight.nii.gz"], plugin="napari-tapct")
    qtbot.waitUntil(lambda: "in the cache" in widget.state.text(), timeout=LONG)
    assert widget.embed_button.text().startswith("Open cached")
    QTest.mouseClick(widget.embed_button, Qt.LeftButton)
    wait_for_features(widget, qtbot)
    np.testing.assert_array_equal(widget.session.active.features.tokens, first.tokens)


def test_cancel_in_the_middle_leaves_no_features_and_can_be_gone_on_with(
    make_napari_viewer_proxy, qtbot, monkeypatch, tmp_path
):
    monkeypatch.setenv("TAPCT_CACHE", str(tmp_path))  # another test may have embedded this scan
    viewer = make_napari_viewer_proxy(show=True)
    viewer.open_sample("napari-tapct", "abdomen_pelvis")
    _, widget = viewer.window.add_plugin_dock_widget("napari-tapct", "Features")
    QTest.mouseClick(widget.embed_button, Qt.LeftButton)
    qtbot.waitUntil(lambda: widget.job.steps > 0, timeout=LONG)
    assert widget.bar.isVisible() and "left" in widget.bar.text.text()
    QTest.mouseClick(widget.bar.cancel_button, Qt.LeftButton)
    qtbot.waitUntil(lambda: not widget.job.running, timeout=LONG)
    done = widget.job.steps
    assert widget.session.active.features is None and widget.embed_button.isEnabled() and not widget.bar.isVisible()
    QTest.mouseClick(widget.embed_button, Qt.LeftButton)
    qtbot.waitUntil(lambda: widget.job.total > 0, timeout=LONG)
    assert widget.job.steps >= done
    viewer.layers.clear()  # in the middle of a job
    qtbot.waitUntil(lambda: not widget.job.running, timeout=LONG)
    assert widget.session.active is None and "Open a scan" in widget.state.text()


def test_viewer_closed_in_the_middle(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    viewer.open_sample("napari-tapct", "abdomen_pelvis")
    _, widget = viewer.window.add_plugin_dock_widget("napari-tapct", "Features")
    QTest.mouseClick(widget.embed_button, Qt.LeftButton)
    job = widget.job
    qtbot.waitUntil(lambda: job.steps > 0, timeout=LONG)
    viewer.close()
    qtbot.waitUntil(lambda: not job.running, timeout=LONG)


def test_colours_and_similarity_at_a_click(docked, qtbot):
    from tapct_core.matching import similarity_map

    viewer, widget = docked
    QTest.mouseClick(widget.embed_button, Qt.LeftButton)
    wait_for_features(widget, qtbot)
    scan = widget.session.active
    steps = viewer.dims.nsteps
    with qtbot.waitSignal(widget.shown, timeout=LONG):
        QTest.keyClick(canvas_of(viewer), Qt.Key_C, Qt.ShiftModifier)
    pca = scan.parts["pca"]
    assert pca.rgb and pca.data.shape == (*scan.features.geometry.shape, 3) and pca.data.std() > 20

    QTest.mouseClick(widget.click_button, Qt.LeftButton)
    index = centre_on(viewer, scan)
    with qtbot.waitSignal(widget.shown, timeout=LONG):
        QTest.mouseClick(canvas_of(viewer), Qt.LeftButton, pos=place_on_canvas(viewer, scan, index))
    heat = scan.parts["similarity"]
    place = scan.volume.geometry.to_world(np.array(index))
    x, y, z = (float(word) for word in re.findall(r"-?\d+", widget.click_hint.text()))
    assert np.abs(place - (x, y, z)).max() <= 3  # a voxel's size: the click is a pixel
    expected = similarity_map(scan.features, scan.features.sample(place)[0])
    np.testing.assert_allclose(heat.data, expected, atol=0.2)
    best = (1, 2, 3)
    # What is drawn over the scan is drawn where it lies: the same voxel, the same place.
    np.testing.assert_allclose(
        heat.data_to_world(best), scan.layer.data_to_world(scan.volume.geometry.to_index(
            scan.features.geometry.to_world(np.array(best)))), atol=1e-2,
    )  # fmt: skip
    assert np.abs(np.array(viewer.dims.nsteps) - steps).max() <= 6
    viewer.layers.remove(heat)
    assert "similarity" not in scan.parts


def test_hub_encoder_asks_before_it_uses_the_network(docked, monkeypatch):
    viewer, widget = docked
    widget.form.choose("tap-ct-b-3d")
    asked = []
    monkeypatch.setattr(QMessageBox, "question", lambda *words: asked.append(words[-1]) or QMessageBox.No)
    QTest.mouseClick(widget.embed_button, Qt.LeftButton)
    assert len(asked) == 1 and "CC BY-NC" in asked[0] and "350 MB" in asked[0]
    assert widget.job is None


OPENS = """
import json, sys
import napari
viewer = napari.Viewer(show=False)
loaded = {}
for name in NAMES:
    before = set(sys.modules)
    viewer.window.add_plugin_dock_widget("napari-tapct", name)
    loaded[name] = sorted(set(sys.modules) - before)
print("RESULT", json.dumps(loaded))
viewer.close()
"""
MOST_MODULES = 120
"""What a widget may load when it is opened, beyond what napari holds by itself: modules are what opening waits for."""


def test_widgets_load_little_and_nothing_heavy():
    import yaml

    from napari_tapct import __file__ as package

    manifest = yaml.safe_load(Path(package).with_name("napari.yaml").read_text())
    names = [one["display_name"] for one in manifest["contributions"]["widgets"]]
    code = OPENS.replace("NAMES", repr(names))
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    (said,) = [line for line in run.stdout.splitlines() if line.startswith("RESULT")] or [run.stderr]
    loaded = json.loads(said.removeprefix("RESULT"))
    assert list(loaded) == names
    for name, modules in loaded.items():
        assert not {"torch", "sklearn", "SimpleITK", "highdicom", "skimage"} & {m.split(".")[0] for m in modules}, name
        assert len(modules) <= MOST_MODULES, (name, len(modules))
