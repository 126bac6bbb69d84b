"""The interface thread stays free while real work runs: open, embed, look, paint, predict, save, resume from the cache.

No clock is looked at. Each piece of long work, when it is called, first waits until the interface thread has gone round
its event loop a few more times, which it cannot while it waits for that work, by a call or by a lock; and none is ever
called on the interface thread itself. How long a person waits, `python -m benchmarks.plugin` measures.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from functools import wraps
from importlib import import_module

import pytest
from qtpy.QtCore import Qt, QTimer
from qtpy.QtTest import QTest

from napari_tapct import autosave, torch_loading
from napari_tapct.autosave import autosave_of
from napari_tapct.features import views
from napari_tapct.segment import live
from napari_tapct.session import session_of
from tapct_core import embedding, io, samples, store
from tapct_core.delineation import engine
from tapct_core.matching import token_map
from tapct_core.probe import LinearProbe

from .conftest import canvas_of, centre_on, place_on_canvas

LONG = 500_000
ROUNDS = 3
NEVER_S = 60
"""An interface thread that has not gone round by then is blocked."""
WORK = (
    (io, "load_ct"),
    (io, "save_labels"),
    (samples, "load_sample"),
    (torch_loading, "load_torch"),
    (embedding, "embed_cached"),
    (store.FeatureStore, "get"),
    (store.FeatureStore, "put"),
    (views, "pca_colours"),
    (token_map, "similarity_map"),
    (live, "delineate"),
    (live, "fitted"),
    (engine.Delineation, "_solved"),
    (LinearProbe, "fit"),
    (LinearProbe, "save"),
    (autosave, "_write"),
)


class Watch:
    """Counts pieces of long work by name, and keeps those for which the interface thread stood still."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.blocking: list[str] = []
        self._interface = threading.get_ident()
        self._round, self._gone_round = 0, threading.Condition()
        self._timer = QTimer()
        self._timer.timeout.connect(self._on_round)
        self._timer.start(5)

    def _on_round(self) -> None:
        with self._gone_round:
            self._round += 1
            self._gone_round.notify_all()

    def note(self, name: str) -> None:
        """A piece of work is called, on whatever thread."""
        self.calls[name] += 1
        if threading.get_ident() == self._interface:
            self.blocking.append(f"{name} on the interface thread")
            return
        with self._gone_round:
            wanted = self._round + ROUNDS
            if not self._gone_round.wait_for(lambda: self._round >= wanted, NEVER_S):
                self.blocking.append(f"{name}, for which the interface thread waits")

    def over(self, monkeypatch, owner: object, name: str) -> None:
        """Watches a function, wherever it has been imported, or a method."""
        plain = owner.__dict__[name]
        function = plain.__func__ if isinstance(plain, classmethod) else plain

        @wraps(function)
        def watched(*args, **kwargs):
            self.note(name)
            return function(*args, **kwargs)

        instead = classmethod(watched) if isinstance(plain, classmethod) else watched
        monkeypatch.setattr(owner, name, instead)
        for module in list(sys.modules.values()):
            ours = getattr(module, "__name__", "").startswith(("tapct_core", "napari_tapct"))
            if ours and module.__dict__.get(name) is plain:
                monkeypatch.setattr(module, name, instead)

    def stop(self) -> None:
        self._timer.stop()


@pytest.fixture
def watch(qapp, monkeypatch):
    for name in ("_samples", "features.widget", "scans.widget", "segment.widget"):
        import_module(f"napari_tapct.{name}")  # what takes names from elsewhere is there before they are watched
    watch = Watch()
    for owner, name in WORK:
        watch.over(monkeypatch, owner, name)
    yield watch
    watch.stop()


def test_the_watch_sees_what_blocks(qtbot, monkeypatch):
    """Work on the interface thread, and work for which it waits, are seen; work beside it is not blamed."""
    monkeypatch.setattr(f"{__name__}.NEVER_S", 0.2)
    watch = Watch()
    watch.note("here")
    waited_for = threading.Thread(target=watch.note, args=("there",))
    waited_for.start()
    waited_for.join()
    beside = threading.Thread(target=watch.note, args=("beside",))
    monkeypatch.setattr(f"{__name__}.NEVER_S", 60)
    beside.start()
    qtbot.waitUntil(lambda: not beside.is_alive())
    watch.stop()
    assert watch.blocking == ["here on the interface thread", "there, for which the interface thread waits"]
    assert watch.calls == {"here": 1, "there": 1, "beside": 1}


@pytest.mark.parametrize("name", ["breathing_pair", "abdomen_pelvis"])
def test_the_window_goes_on_while_a_sample_is_read(make_napari_viewer_proxy, watch, name):
    viewer = make_napari_viewer_proxy(show=True)
    layers = viewer.open_sample("napari-tapct", name)
    assert len(layers) > 1 and all(layer in viewer.layers for layer in layers)
    assert watch.calls["load_sample"] == 1 and watch.blocking == []


@pytest.mark.slow
def test_interface_thread_is_never_blocked(make_napari_viewer_proxy, qtbot, tmp_path, watch):
    viewer = make_napari_viewer_proxy(show=True)
    _, scans = viewer.window.add_plugin_dock_widget("napari-tapct", "Scans")
    _, features = viewer.window.add_plugin_dock_widget("napari-tapct", "Features")
    _, segment = viewer.window.add_plugin_dock_widget("napari-tapct", "Segment")
    session = session_of(viewer)

    with qtbot.waitSignal(scans.opened, timeout=LONG):
        scans.open_files([samples.sample_paths("abdomen_pelvis")["ct"]])
    features.embed(session.active)
    qtbot.waitUntil(lambda: session.active.features is not None and not features.job.running, timeout=LONG)
    with qtbot.waitSignal(features.shown, timeout=LONG):
        features.show_pca()
    z, y, x = centre_on(viewer, session.active)
    with qtbot.waitSignal(features.shown, timeout=LONG):
        features.show_similarity(session.active, session.active.lps_mm(session.active.layer.data_to_world((z, y, x))))
    for role in ("pca", "similarity"):
        session.active.parts[role].visible = False
    for value, row in ((1, y - 12), (2, y + 12)):
        segment.classes.select(value)
        QTest.mouseClick(segment.paint_button, Qt.LeftButton)
        canvas = canvas_of(viewer)
        QTest.mousePress(canvas, Qt.LeftButton, pos=place_on_canvas(viewer, session.active, (z, row, x - 15)))
        for step in range(-14, 16):
            QTest.mouseMove(canvas, place_on_canvas(viewer, session.active, (z, row, x + step)))
            qtbot.wait(10)
        QTest.mouseRelease(canvas, Qt.LeftButton, pos=place_on_canvas(viewer, session.active, (z, row, x + 15)))
    qtbot.waitUntil(lambda: "Up to date" in segment.state.text(), timeout=LONG)
    with qtbot.waitSignal(segment.keep.saved, timeout=LONG):
        segment.keep.save_probe(tmp_path / "probe.safetensors")
    with qtbot.waitSignal(segment.keep.saved, timeout=LONG):
        segment.keep.export(tmp_path / "out.nii.gz")
    with qtbot.waitSignal(autosave_of(session).saved, timeout=LONG):
        autosave_of(session).save()
    session.active.features = None
    features.embed(session.active)
    qtbot.waitUntil(lambda: session.active.features is not None and not features.job.running, timeout=LONG)

    assert watch.blocking == []
    assert set(watch.calls) == {name for _, name in WORK} - {"load_sample"}
