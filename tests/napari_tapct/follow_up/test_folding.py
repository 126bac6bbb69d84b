"""What folds, and words that are cut."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QLabel

from napari_tapct.follow_up.folding import ElidedLabel, Folding


def test_what_is_done_folds_once_and_a_person_decides_from_then_on(qtbot):
    folding = Folding("Study", QLabel("inside"))
    qtbot.addWidget(folding)
    folding.resize(300, 200)
    folding.show()
    folding.say("s.json: 2 scans")
    assert folding.part.isVisible() and folding.button.text() == "Study"
    folding.done(True)
    assert not folding.part.isVisible() and folding.button.text() == "Study: s.json: 2 scans"
    folding.done(False)
    assert folding.part.isVisible()
    QTest.mouseClick(folding.button, Qt.LeftButton)
    assert not folding.part.isVisible()
    QTest.mouseClick(folding.button, Qt.LeftButton)
    folding.done(True)
    assert folding.part.isVisible(), "a person has opened it"


def test_words_are_cut_with_an_ellipsis_and_whole_in_the_tooltip(qtbot):
    label, words = ElidedLabel(), "a long sentence about 12 lesions at week 24"
    qtbot.addWidget(label)
    label.resize(60, 20)
    label.show()
    label.setText(words)
    QApplication.processEvents()
    assert label.text().endswith("…") and label.toolTip() == label.whole() == words
    label.resize(900, 20)
    QApplication.processEvents()
    assert label.text() == words and label.toolTip() == ""
