"""The widget's own work: keys, what it says, asking before findings go, two viewers, files of earlier versions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QMessageBox

from napari_tapct.follow_up.study import decisions
from napari_tapct.follow_up.study.editor import editor_of
from napari_tapct.keys import SHORTCUTS, Shortcut
from napari_tapct.layers import ct_image
from tapct_core.errors import UserError
from tapct_core.export import colours
from tapct_core.geometry import Geometry
from tapct_core.io import load_ct
from tapct_core.lesions import Candidate, Finding, Mask, Plausibility, states
from tapct_core.lesions import study_json as study_json_module
from tapct_core.lesions.recist import Measurement
from tapct_core.lesions.study_file import load_study, study_json
from tapct_core.volume import CTVolume

OLD = Path(__file__).parent / "old_studies"


@pytest.fixture
def docked(make_napari_viewer_proxy):
    """A shown viewer with the widget; no scans."""
    viewer = make_napari_viewer_proxy(show=True)
    viewer.window.resize(1200, 700)
    _, widget = viewer.window.add_plugin_dock_widget("napari-tapct", "Follow-up")
    QApplication.processEvents()
    return viewer, widget


def add_scan(viewer, name: str, date: str = "") -> None:
    """Nothing but air: matching refuses such a scan at once, so that no test waits for it."""
    hu = np.full((8, 30, 32), -1000, np.int16)
    layer = ct_image(CTVolume(hu, Geometry.from_spacing(hu.shape, (3, 2, 2))), name)
    layer.metadata["tapct_date"] = date
    viewer.add_layer(layer)
    QApplication.processEvents()


def propose(widget, name: str = "L1", **facts) -> str:
    """A lesion marked in the first scan and proposed in the second; its tracking UID."""
    editor = widget.editor
    uid = decisions.mark(editor, "a", (30.0, 30.0, 12.0)).uid
    facts = {"point_lps_mm": (32.0, 28.0, 12.0)} | facts
    places = ((32.0, 28.0, 12.0), (20.0, 20.0, 9.0))
    candidates = tuple(Candidate(p, 0.9 - i, 1.0, 0.95 - 0.9 * i) for i, p in enumerate(places))
    finding = Finding(candidates=candidates, confidence=0.95, **facts)
    editor.note(lambda study: [study.propose(uid, "b", finding) for one in study.lesions if one.uid == uid])
    return uid


def open_two(viewer, widget) -> None:
    """Two time points in the order of their dates."""
    add_scan(viewer, "a", "2024-01-01")
    add_scan(viewer, "b", "2024-02-01")


def test_it_says_what_to_do_from_the_first_moment_on(docked):
    viewer, widget = docked
    assert "Open" in widget.lesion.title.text() and not widget.find.mark_button.isEnabled()
    add_scan(viewer, "a")
    assert "Mark lesions" in widget.find.state.text() or "second scan" in widget.find.state.text()
    assert widget.find.mark_button.isEnabled() and not widget.decide.accept_button.isEnabled()


def test_single_keys_decide_wherever_the_keyboard_is(docked, qtbot):
    viewer, widget = docked
    open_two(viewer, widget)
    uid = propose(widget)
    finding = lambda: widget.editor.study.lesion(uid).findings["b"]  # noqa: E731
    first = viewer.__wrapped__.window._qt_viewer.canvas.native
    second = widget.linked.qt_viewer.canvas.native
    QTest.keyClick(first, Qt.Key_A, Qt.ShiftModifier)
    assert finding().state == "accepted" and finding().decided_by == widget.editor.reader
    QTest.keyClick(second, Qt.Key_X, Qt.ShiftModifier)
    assert finding().state == "not present" and finding().point_lps_mm is None
    QTest.keyClick(second, Qt.Key_Q, Qt.ShiftModifier)
    QTest.keyClick(first, Qt.Key_Q, Qt.ShiftModifier)
    assert finding().state == "proposed" and not finding().decided
    QTest.keyClick(first, Qt.Key_R, Qt.ShiftModifier)
    assert finding().state == "accepted"


def test_another_state_takes_a_line_in_three_tables(make_napari_viewer_proxy, monkeypatch, tmp_path):
    monkeypatch.setattr(states, "SAID", (*states.SAID, "calcified"))
    monkeypatch.setattr(study_json_module, "STATES", (*states.STATES, "calcified"))
    monkeypatch.setitem(colours.STATES, "calcified", colours.QUIET)
    key = Shortcut("Follow-up", "calcified", "Shift-H", "Calcified", "The lesion has healed and is a scar")
    monkeypatch.setitem(SHORTCUTS, "calcified", key)
    viewer = make_napari_viewer_proxy(show=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-tapct", "Follow-up")
    open_two(viewer, widget)
    uid = propose(widget)
    button = widget.decide.said_buttons["calcified"]
    assert button.isEnabled() and button.text() == "Calcified  ⇧H" and "scar" in button.toolTip()
    QTest.keyClick(viewer.__wrapped__.window._qt_viewer.canvas.native, Qt.Key_H, Qt.ShiftModifier)
    found = widget.editor.study.lesion(uid).findings["b"]
    assert (found.state, found.decided_by) == ("calcified", widget.editor.reader)
    assert found.point_lps_mm == (32.0, 28.0, 12.0)
    assert not button.isEnabled() and "calcified" in widget.lesion.title.text()
    for timepoint in widget.editor.study.timepoints:
        timepoint.path = timepoint.path or str(tmp_path / timepoint.name)
    widget.editor.save(tmp_path / "study.json")
    assert load_study(tmp_path / "study.json").lesion(uid).findings["b"].state == "calcified"
    widget.undo()
    assert widget.editor.study.lesion(uid).findings["b"].state == "proposed" and button.isEnabled()


def test_another_candidate_is_chosen_by_key_and_accepting_it_moves_the_lesion_there(docked):
    viewer, widget = docked
    open_two(viewer, widget)
    uid = propose(widget)
    assert widget.candidates.index == 0
    canvas = viewer.__wrapped__.window._qt_viewer.canvas.native
    QTest.keyClick(canvas, Qt.Key_Period)
    assert widget.candidates.index == 1 and not widget.editor.study.lesion(uid).findings["b"].decided
    QTest.keyClick(canvas, Qt.Key_Period)
    assert widget.candidates.index == 0
    QTest.keyClick(canvas, Qt.Key_Comma)
    assert widget.candidates.index == 1
    widget.accept()
    finding = widget.editor.study.lesion(uid).findings["b"]
    assert finding.state == "moved" and finding.point_lps_mm == (20.0, 20.0, 9.0)
    assert widget.overlay.rings is not None and len(widget.overlay.rings.data) == 2


def test_accepting_a_lesion_that_was_not_found_says_so_on_the_button_and_commits_only_then(docked):
    viewer, widget = docked
    open_two(viewer, widget)
    uid = propose(widget, state="disappeared", point_lps_mm=None, verdict="not found", presence=0.1)
    assert "gone" in widget.decide.accept_button.text() and widget.lesion.words.text().startswith(
        "Not found: it has gone"
    )
    assert "90 %" in widget.lesion.words.text() and not widget.editor.study.lesion(uid).findings["b"].decided
    QTest.mouseClick(widget.decide.accept_button, Qt.LeftButton)
    assert widget.editor.study.lesion(uid).findings["b"].state == "not present"


@pytest.mark.parametrize("presence", [0.8, 0.5, 0.3, None])
def test_a_disappearance_that_is_not_sure_is_not_accepted_by_the_fast_key_but_by_its_own(docked, presence):
    viewer, widget = docked
    open_two(viewer, widget)
    uid = propose(widget, state="disappeared", point_lps_mm=None, verdict="not found", presence=presence)
    finding = lambda: widget.editor.study.lesion(uid).findings["b"]  # noqa: E731
    canvas = viewer.__wrapped__.window._qt_viewer.canvas.native
    assert not widget.decide.accept_button.isEnabled() and "⇧X" in widget.lesion.words.text()
    QTest.keyClick(canvas, Qt.Key_A, Qt.ShiftModifier)
    assert not finding().decided
    QTest.keyClick(canvas, Qt.Key_X, Qt.ShiftModifier)
    assert finding().state == "not present" and "calibrated" not in widget.lesion.words.text()


def test_axes_in_doubt_are_drawn_stay_in_the_queue_and_count_when_a_person_says_so(docked):
    viewer, widget = docked
    open_two(viewer, widget)
    uid = propose(widget)
    editor = widget.editor
    ends = ((32.0, 20.0, 12.0), (32.0, 40.0, 12.0)), ((26.0, 28.0, 12.0), (38.0, 28.0, 12.0))
    measured = Measurement(20.0, 12.0, 3.0, 40.0, 5.0, slice_index=4, long_axis_ends=ends[0], short_axis_ends=ends[1])
    array = np.zeros((8, 30, 32), bool)
    array[4, 10:20, 13:19] = True
    doubt = Plausibility(0.2, ("20 mm, where it was 6 mm",))
    editor.do("grow", lambda study: study.put_mask(uid, "b", Mask.from_array(array), measured, plausibility=doubt))
    assert "⚠" in widget.masks.text.text() and "20 mm, where it was 6 mm" in widget.masks.text.text()
    layer = widget.axes.layer(widget.linked.viewer_model)
    widget.linked.second.look(ends[0][0])
    assert layer.visible and len(layer.data) == 2 and widget.overview.table.shown() == ["L1"]
    np.testing.assert_allclose(np.linalg.norm(layer.data[:, 1] * 1024, axis=1), [20.0, 12.0], atol=1e-6)
    canvas = viewer.__wrapped__.window._qt_viewer.canvas.native
    QTest.keyClick(canvas, Qt.Key_A, Qt.ShiftModifier)
    finding = lambda: editor.study.lesion(uid).findings["b"]  # noqa: E731
    assert finding().state == "accepted" and finding().counted is None, "the place is accepted, the axes are not"
    assert "1 still to verify" in widget.decide.queue.text()
    QTest.keyClick(canvas, Qt.Key_M, Qt.ControlModifier | Qt.ShiftModifier)
    assert finding().counted is measured and finding().measured_by == editor.reader
    assert "Nothing is left" in widget.decide.queue.text() and "⚠" not in widget.masks.text.text()
    QTest.keyClick(canvas, Qt.Key_X, Qt.ControlModifier | Qt.ShiftModifier)
    assert finding().too_small and finding().mask is None and "too small" in widget.masks.text.text()


def test_out_of_view_cannot_be_accepted_but_a_candidate_can(docked):
    viewer, widget = docked
    open_two(viewer, widget)
    uid = propose(widget, point_lps_mm=None, verdict="out of view")
    assert "Out of view" in widget.lesion.words.text() and not widget.decide.accept_button.isEnabled()
    QTest.mouseClick(widget.candidates.cards[1], Qt.LeftButton)
    assert widget.decide.accept_button.isEnabled()
    widget.accept()
    assert widget.editor.study.lesion(uid).findings["b"].point_lps_mm == (20.0, 20.0, 9.0)


def test_the_review_queue_goes_round_and_ends(docked):
    viewer, widget = docked
    open_two(viewer, widget)
    uids = [propose(widget, f"L{i}") for i in range(3)]
    widget.editor.select(None)
    assert "3 still to verify" in widget.decide.queue.text()
    seen = []
    for _ in range(4):
        widget.go_on()
        seen.append(widget.editor.selected)
    assert seen == [*uids, uids[0]]
    for uid in uids:
        widget.editor.select(uid)
        widget.say("not present")
    assert "Nothing is left" in widget.decide.queue.text() and not widget.decide.verify_button.isEnabled()


def test_removing_a_time_point_with_findings_asks_first(docked, monkeypatch):
    viewer, widget = docked
    open_two(viewer, widget)
    propose(widget)
    asked = []
    answer = [QMessageBox.No]
    monkeypatch.setattr(QMessageBox, "question", lambda *words: asked.append(words[2]) or answer[0])
    before = study_json(widget.editor.study)
    assert not widget.study_bar.timepoints.remove("b")
    assert study_json(widget.editor.study) == before and "1 lesion (L1)" in asked[0]
    answer[0] = QMessageBox.Yes
    assert widget.study_bar.timepoints.remove("b")
    assert [t.name for t in widget.editor.study.timepoints] == ["a"] and "b" not in viewer.layers
    assert all("b" not in lesion.findings for lesion in widget.editor.study.lesions)
    widget.undo()
    assert study_json(widget.editor.study) == before


def test_a_date_decides_the_order_and_one_that_another_scan_has_is_asked_about(docked, monkeypatch):
    viewer, widget = docked
    open_two(viewer, widget)
    bar, editor = widget.study_bar, widget.editor
    answers = [QMessageBox.No]
    monkeypatch.setattr(QMessageBox, "question", lambda *_: answers[0])
    bar.timepoints.give_date("b", "2024-01-01")
    assert [t.date for t in editor.study.timepoints] == ["2024-01-01", "2024-02-01"]
    answers[0] = QMessageBox.Yes
    bar.timepoints.give_date("b", "2024-01-01")
    assert [t.date for t in editor.study.timepoints] == ["2024-01-01", "2024-01-01"]
    bar.timepoints.give_date("b", "2023-05-06")
    assert [t.name for t in editor.study.timepoints] == ["b", "a"] and editor.timepoint == "a"
    for wrong in ("00000000", "2024-02-30", "yesterday"):
        with pytest.raises(UserError, match="not a date"):
            bar.timepoints.give_date("b", wrong)


def test_undated_scans_change_places_by_the_menu_and_dates_that_rise_do_not(docked):
    viewer, widget = docked
    for name in "ab":
        add_scan(viewer, name)
    bar, editor = widget.study_bar, widget.editor
    actions = menu_of(bar)
    assert [words for words in actions if "was before" in words] == ["b was before a"]
    actions["b was before a"].trigger()
    assert [t.name for t in editor.study.timepoints] == ["b", "a"]
    assert editor.timepoint_of(widget.session.active) == "b" and editor.timepoint == "a"
    widget.undo()
    assert [t.name for t in editor.study.timepoints] == ["a", "b"]
    bar.timepoints.give_date("a", "2024-01-01")
    bar.timepoints.give_date("b", "2024-02-01")
    assert not [words for words in menu_of(bar) if "was before" in words]


def menu_of(bar) -> dict:
    """The time points' menu as it would be shown now, by its lines."""
    bar.timepoints.menu().aboutToShow.emit()
    return {action.text(): action for action in bar.timepoints.menu().actions()}


def test_removing_one_without_findings_does_not_ask(docked, monkeypatch):
    viewer, widget = docked
    open_two(viewer, widget)
    monkeypatch.setattr(QMessageBox, "question", lambda *words: pytest.fail("asked"))
    assert widget.study_bar.timepoints.remove("b") and [t.name for t in widget.editor.study.timepoints] == ["a"]


@pytest.mark.parametrize("version", [1, 2])
def test_a_study_of_an_earlier_version_opens_and_is_saved_whole(docked, qtbot, pair, tmp_path, version):
    viewer, widget = docked
    text = (OLD / f"version_{version}.json").read_text(encoding="utf-8").replace("BASELINE", str(pair.before))
    path = tmp_path / "old.json"
    path.write_text(text, encoding="utf-8")
    with qtbot.waitSignal(widget.study_bar.opened, timeout=60_000):
        widget.study_bar.open_study(path)
    editor = widget.editor
    assert [t.name for t in editor.study.timepoints] == ["baseline", "week 8"]
    assert editor.scan_of("baseline") is not None and editor.scan_of("week 8") is None
    first, second = editor.study.lesions
    assert first.findings["baseline"].measurement.long_axis_mm == pytest.approx(14.56, abs=0.01)
    mask = first.findings["baseline"].mask
    again = mask.measure(editor.scan_of("baseline").volume)
    assert again.long_axis_mm == pytest.approx(first.findings["baseline"].measurement.long_axis_mm, abs=1e-3)
    assert second.findings["week 8"].state == "disappeared" and not second.findings["week 8"].decided
    assert "Not open: week 8" in widget.study_bar.state.text()
    editor.select(second.uid)
    widget.say("not present")
    editor.save()
    assert load_study(path).lesion(second.uid).findings["week 8"].state == "not present"


def test_two_viewers_do_not_share_anything_and_one_file_is_worked_on_once(
    make_napari_viewer, qtbot, pair, tmp_path, monkeypatch
):
    widgets = []
    for _ in range(2):
        viewer = make_napari_viewer(show=True)
        viewer.window.resize(900, 600)
        widgets.append(viewer.window.add_plugin_dock_widget("napari-tapct", "Follow-up")[1])
        add_scan(viewer, "a")
        QApplication.processEvents()
    one, other = widgets
    decisions.mark(one.editor, "a", (30.0, 30.0, 12.0))
    assert len(one.editor.study.lesions) == 1 and other.editor.study.lesions == []
    assert one.overview.table.shown() == ["L1"] and other.overview.table.shown() == []
    path = tmp_path / "study.json"
    path.write_text(json.dumps({"timepoints": [{"name": "a", "path": str(pair.before)}]}))
    with qtbot.waitSignal(one.study_bar.opened, timeout=60_000):
        one.study_bar.open_study(path)
    with pytest.raises(UserError, match="being worked on in another window"):
        other.study_bar.open_study(path)
    assert other.editor.path is None and [t.name for t in other.editor.study.timepoints] == ["a"]


def test_closing_the_widget_takes_its_docks_with_it_and_opening_it_again_shows_the_same_study(
    make_napari_viewer, qtbot
):
    viewer = make_napari_viewer(show=True)
    dock, widget = viewer.window.add_plugin_dock_widget("napari-tapct", "Follow-up")
    add_scan(viewer, "a")
    QApplication.processEvents()
    decisions.mark(widget.editor, "a", (30.0, 30.0, 12.0))
    assert "Lesions" in viewer.window.dock_widgets
    viewer.window.remove_dock_widget(widget)
    QApplication.processEvents()
    assert "Lesions" not in viewer.window.dock_widgets
    _, again = viewer.window.add_plugin_dock_widget("napari-tapct", "Follow-up")
    QApplication.processEvents()
    assert again.overview.table.shown() == ["L1"] and again.editor is editor_of(viewer)


def test_the_load_of_the_pair_is_what_the_fixtures_expect(pair):
    """The fixture files hold masks on this grid."""
    assert load_ct(pair.before).hu.shape == (36, 100, 84)
