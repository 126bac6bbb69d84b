"""The response cards: the assessment's numbers and words, clicks, and what a reader says of the non-targets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_tapct.follow_up.response.panel import NO_FOLLOW_UP, NO_TARGETS, ResponsePanel
from tapct_core.lesions import Finding, Lesion
from tapct_core.lesions.assessment import assess
from tapct_core.lesions.criteria import CRITERIA
from tests.tapct_core.lesions.findings import WHEN, measured

from ..studies import editor_with_study


@pytest.fixture
def panel(qtbot):
    viewer, editor, _ = editor_with_study()
    editor.set_timepoint("week 8")
    widget = ResponsePanel(editor)
    qtbot.addWidget(widget)
    widget.resize(520, 420)
    widget.show()
    qtbot.waitExposed(widget)
    widget.kept = viewer
    return widget


def test_cards_say_sum_changes_category_and_rule(panel):
    responses = assess(panel._editor.study)
    assert [card.timepoint for card in panel.cards] == ["week 8", "week 16", "week 24"]
    for card, one in zip(panel.cards, responses, strict=True):
        assert card.category.text() == one.response.category
        assert f"{one.response.sum_mm:.1f}" in card.numbers.text()
        assert card.rule.text().startswith(one.response.rule)
        assert ("provisional" in card.rule.text()) == one.provisional
    assert "a new lesion: lung 3" in panel.cards[1].rule.text()
    assert not panel.objections.isVisible()


def test_a_click_compares_and_what_was_is_gone(panel):
    card = panel.cards[2]
    QTest.mouseClick(card, Qt.LeftButton)
    assert panel._editor.timepoint == "week 24"
    QApplication.processEvents()
    assert not card.isVisible() and len([one for one in panel.cards if one.isVisible()]) == 3


def test_a_reader_judges_the_non_targets(panel):
    editor = panel._editor
    assert panel.progressed.isVisible() and "week 8" in panel.progressed.text() and not panel.note.isVisible()
    QTest.mouseClick(panel.progressed, Qt.LeftButton, pos=panel.progressed.rect().center() * 0.1)
    assert editor.study.timepoints[1].non_target_progress.by == "AB"
    assert panel.cards[0].category.text() == "PD"
    QTest.keyClicks(panel.note, "effusion")
    QTest.keyClick(panel.note, Qt.Key_Return)
    assert editor.study.timepoints[1].non_target_progress.note == "effusion"
    assert "non-targets judged by AB: effusion" in panel.cards[0].rule.text()
    editor.undo()
    editor.undo()
    assert panel.cards[0].category.text() == "SD" and not panel.progressed.isChecked()
    editor.redo()
    assert panel.progressed.isChecked()


def test_it_says_what_is_missing(panel):
    editor = panel._editor
    editor.do("no targets", lambda study: [setattr(lesion, "role", "") for lesion in study.lesions])
    assert panel.objections.text() == NO_TARGETS and not panel.progressed.isVisible()
    editor.do("one scan", lambda study: study.timepoints.__delitem__(slice(1, None)))
    assert panel.objections.text() == NO_FOLLOW_UP and panel.cards == []


def test_objections_to_targets_are_said(panel):
    editor = panel._editor
    editor.do("a node that is too small", lambda study: setattr(study.lesions[3], "node", True))
    editor.do("as a target", lambda study: setattr(study.lesions[3], "role", "target"))
    assert "a nodal target needs 15 mm" in panel.objections.text() and panel.objections.isVisible()


def test_words_of_people_are_no_markup(panel):
    editor = panel._editor
    editor.do("name", lambda study: setattr(study.lesions[4], "name", "<i>x"))
    assert "<i>x" in panel.cards[1].rule.text() and panel.cards[1].rule.textFormat() == Qt.PlainText


def test_a_reader_says_that_what_is_back_or_a_small_new_node_is_no_progression(panel):
    editor = panel._editor
    assert not panel.no_recurrence.isVisible()  # nothing is back, nothing to say

    def new_node(study) -> None:
        found = Finding("new", (0.0, 0.0, 0.0), "AB", WHEN, measurement=measured(14, 11))
        study.lesions.append(Lesion("node 9", node=True, findings={"week 8": found}))

    editor.do("a new node", new_node)
    assert panel.no_recurrence.isVisible() and panel.cards[0].category.text() == "PD"
    QTest.mouseClick(panel.no_recurrence, Qt.LeftButton, pos=panel.no_recurrence.rect().center() * 0.1)
    assert editor.study.timepoints[1].no_recurrence.by == "AB" and panel.cards[0].category.text() == "SD"
    assert "says AB" in panel.no_recurrence.text() and panel.no_recurrence.isChecked()
    editor.undo()
    assert panel.cards[0].category.text() == "PD" and not panel.no_recurrence.isChecked()


def test_a_criterion_of_the_table_can_be_chosen(qtbot, monkeypatch):
    monkeypatch.setitem(CRITERIA, "mine", replace(CRITERIA["volume"], name="mine", source="a rule of our own"))
    viewer, editor, _ = editor_with_study()
    panel = ResponsePanel(editor)
    qtbot.addWidget(panel)
    place = panel.criterion.findText("mine")
    assert panel.criterion.itemData(place, Qt.ToolTipRole) == "a rule of our own"
    panel.criterion.setCurrentIndex(place)
    panel.criterion.activated.emit(place)
    assert editor.study.criterion == "mine" and viewer is not None
    assert assess(editor.study)[0].response.unit == "ml"
