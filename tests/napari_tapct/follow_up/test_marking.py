"""Marks with the real mouse: first ones, later ones that are asked about, and clicks that mean nothing."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QPushButton, QWidget

from napari_tapct.follow_up.marking import Marking
from napari_tapct.follow_up.study import decisions
from napari_tapct.follow_up.views.lesion_points import LesionPoints
from tapct_core.errors import UserError

from .two_views import BALL_LPS, canvases, moved, open_two, pixel


@pytest.fixture
def marking(make_napari_viewer, monkeypatch):
    """Two linked views with the switch on; what was refused is in ``refused``."""
    viewer = make_napari_viewer(show=True)
    linked = open_two(viewer)
    parent, button, said, refused = QWidget(), QPushButton(), [], []
    button.setCheckable(True)
    button.setChecked(True)
    monkeypatch.setattr("napari_tapct.follow_up.form.show_error", refused.append)
    points = LesionPoints(linked.session, linked.editor, linked)
    marking = Marking(linked.session, linked.editor, linked, points, button, said.append, parent)
    marking.viewer, marking.said, marking.refused, marking.kept = viewer, said, refused, parent
    yield marking
    parent.deleteLater()


def click(marking: Marking, number: int) -> None:
    """On the ball, in one of the two views."""
    view = (marking.linked.first, marking.linked.second)[number]
    canvas = canvases(marking.viewer, marking.linked)[number]
    place = view.drawn((BALL_LPS, moved(BALL_LPS))[number])
    QTest.mouseClick(canvas, Qt.LeftButton, pos=pixel(view.viewer, canvas, place))
    QApplication.processEvents()


def answer(marking: Marking, words: str) -> None:
    """A click on the first answer that begins so."""
    action = next(one for one in marking.menu.actions() if one.text().startswith(words))
    QTest.mouseClick(marking.menu, Qt.LeftButton, pos=marking.menu.actionGeometry(action).center())
    QApplication.processEvents()


def states(marking: Marking) -> list[tuple[str, dict[str, str]]]:
    lesions = marking.editor.study.lesions
    return [(one.name, {name: found.state for name, found in one.findings.items()}) for one in lesions]


def test_a_mark_in_the_first_scan_is_a_lesion_and_a_second_click_selects_it(marking):
    click(marking, 0)
    assert states(marking) == [("L1", {"before": "accepted"})] and marking.menu is None
    point = np.array(marking.editor.study.lesions[0].findings["before"].point_lps_mm)
    np.testing.assert_allclose(point, BALL_LPS, atol=2.6)
    click(marking, 0)
    assert len(marking.editor.study.lesions) == 1


def test_a_mark_in_a_later_scan_is_new_only_when_a_person_says_so(marking):
    click(marking, 1)
    assert states(marking) == [] and marking.menu is not None and marking.menu.isVisible()
    answer(marking, "New: it was not there at before")
    assert states(marking) == [("L1", {"after": "new"})]


def test_a_mark_in_a_later_scan_can_be_the_selected_lesion(marking):
    click(marking, 0)
    click(marking, 1)
    answer(marking, "It is L1")
    assert states(marking) == [("L1", {"before": "accepted", "after": "moved"})]
    assert marking.editor.undo_words == "move L1 at after"


def test_a_lesion_that_was_there_before_is_marked_there_first(marking):
    marking.linked.linked = False
    marking.linked.first.look(BALL_LPS + np.array([15.0, 10.0, 5.0]))
    marking.linked.linked = True
    marking.linked.set_transform(marking.linked.motion.affine)
    view = marking.linked.second
    view.look(moved(BALL_LPS))
    click(marking, 1)
    answer(marking, "It was there before")
    assert states(marking) == [] and "on the left" in marking.said[-1]
    np.testing.assert_allclose(marking.linked.first.focus, BALL_LPS, atol=3.0)


@pytest.mark.parametrize("how", ["escape", "nothing"])
def test_no_answer_marks_nothing(marking, how):
    click(marking, 1)
    if how == "escape":
        QTest.keyClick(marking.menu, Qt.Key_Escape)
    else:
        answer(marking, "Nothing")
    QApplication.processEvents()
    assert states(marking) == []


def test_a_click_in_3d_has_no_depth_and_marks_nothing(marking):
    marking.viewer.dims.ndisplay = 3
    QApplication.processEvents()
    for number in (0, 1):
        canvas = canvases(marking.viewer, marking.linked)[number]
        QTest.mouseClick(canvas, Qt.LeftButton, pos=canvas.rect().center())
    QApplication.processEvents()
    assert states(marking) == [] and marking.menu is None
    assert len(marking.refused) == 2 and all("3D" in words for words in marking.refused)
    with pytest.raises(UserError, match="3D"):
        marking.at_mouse()
    marking.viewer.dims.ndisplay = 2


def test_a_scan_of_another_study_is_not_marked(marking):
    scan = marking.session.active
    decisions.mark(marking.editor, "before", tuple(BALL_LPS))
    marking.editor.do("remove", lambda study: study.timepoints.pop(0))
    marking.session.show(scan)
    click(marking, 0)
    assert marking.refused and "not of the study" in marking.refused[0]
