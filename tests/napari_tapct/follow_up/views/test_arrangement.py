"""Earlier on the left, later on the right: whatever is opened in what order, chosen, closed or dated."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication

from napari_tapct.follow_up.study.editor import StudyEditor
from napari_tapct.follow_up.views.arrangement import Arrangement, Sides, arranged
from napari_tapct.follow_up.views.link_bar import LinkBar
from napari_tapct.follow_up.views.linked import LinkedView
from napari_tapct.layers import ct_image
from napari_tapct.session import Session
from tapct_core.geometry import Geometry
from tapct_core.volume import CTVolume

DATES = {"a": "2024-01-01", "b": "2024-02-01", "c": "2024-03-01", "d": "2024-04-01"}


@pytest.mark.parametrize(
    ("open_", "now", "moved", "keep", "wanted"),
    [
        ("", (None, None), "", False, (None, None)),
        ("a", ("a", None), "", False, ("a", None)),
        ("b", ("b", "b"), "left", False, ("b", "b")),  # alone: the view leaves the right side empty
        ("ab", ("b", "b"), "", False, ("a", "b")),
        ("abc", ("c", "c"), "", False, ("a", "b")),
        ("abc", ("c", "c"), "", True, ("a", "c")),
        ("abc", ("b", "c"), "left", False, ("b", "c")),
        ("abc", ("c", "b"), "left", False, ("b", "c")),
        ("abc", ("b", "b"), "left", False, ("b", "c")),
        ("abc", ("b", "b"), "right", False, ("a", "b")),
        ("abc", ("a", "c"), "right", False, ("a", "c")),
        ("abc", ("b", "a"), "right", False, ("a", "a")),  # the first of all is looked at alone
        ("abc", (None, "b"), "right", False, ("a", "b")),
    ],
)
def test_sides(open_, now, moved, keep, wanted):
    assert arranged(tuple(open_), Sides(*now), moved, keep) == wanted


@pytest.fixture
def opened(qapp):
    """Opens scans one by one as the window does: each is shown when it comes. -> editor, linked, and how to open."""
    viewer = ViewerModel()
    session = Session(viewer)
    editor = StudyEditor(session)
    linked = LinkedView(session, editor)
    arrangement = Arrangement(session, editor)
    linked.arrangement, linked.viewer = arrangement, viewer  # kept alive

    def open_(name: str, dated: bool = True, hidden: bool = False) -> None:
        layer = ct_image(CTVolume(np.zeros((4, 5, 6), np.int16), Geometry.from_spacing((4, 5, 6), (1, 1, 1))), name)
        layer.metadata["tapct_date"] = DATES[name] if dated else ""
        layer.visible = not hidden
        viewer.add_layer(layer)
        if not hidden:
            session.show(session.scan_of(layer))
        QApplication.processEvents()

    return editor, linked, open_


def sides(editor, linked) -> tuple[str | None, str | None]:
    """What is really drawn on the two sides."""
    name = editor.timepoint_of
    return name(editor.session.active), name(linked.scan)


@pytest.mark.parametrize("order", list(permutations("abc")), ids="".join)
def test_dated_scans_stand_by_their_dates_in_whatever_order_they_are_opened(opened, order):
    editor, linked, open_ = opened
    for name in order:
        open_(name)
        left, right = sides(editor, linked)
        assert left == min(editor.study.timepoints, key=lambda one: one.date).name and left != right
    assert sides(editor, linked) == ("a", "b")


def test_without_dates_the_order_of_opening_is_the_order_of_time(opened):
    editor, linked, open_ = opened
    for name in "cab":
        open_(name, dated=False)
    assert [one.name for one in editor.study.timepoints] == ["c", "a", "b"] and sides(editor, linked) == ("c", "a")


def test_a_scan_that_came_hidden_is_later_than_those_that_were_shown(opened):
    editor, linked, open_ = opened
    open_("b", dated=False, hidden=True)
    open_("a", dated=False)
    assert [one.name for one in editor.study.timepoints] == ["a", "b"] and sides(editor, linked) == ("a", "b")


def test_no_step_puts_one_scan_on_both_sides_and_what_was_chosen_stays(opened):
    editor, linked, open_ = opened
    for name in "abc":
        open_(name)
    bar = LinkBar(linked)
    assert not bar.earlier.isEnabled() and bar.later.isEnabled()
    bar.later.click()
    assert sides(editor, linked) == ("a", "c")
    open_("d")
    assert sides(editor, linked) == ("a", "c"), "a person chose c"
    bar.earlier.click()
    assert sides(editor, linked) == ("a", "b") and not bar.earlier.isEnabled()
    bar.deleteLater()


def test_a_scan_that_is_clicked_in_the_list_goes_left_and_the_last_one_right(opened):
    editor, linked, open_ = opened
    for name in "abc":
        open_(name)
    editor.session.show(editor.scan_of("b"))
    assert sides(editor, linked) == ("b", "c")
    editor.session.show(editor.scan_of("a"))
    assert sides(editor, linked) == ("a", "c")
    editor.session.show(editor.scan_of("c"))
    assert sides(editor, linked) == ("b", "c")


def test_the_first_scan_is_looked_at_alone(opened):
    editor, linked, open_ = opened
    for name in "ab":
        open_(name)
    editor.set_timepoint("a")
    assert sides(editor, linked) == ("a", None) and editor.timepoint == "a" and linked.motion is None
    editor.set_timepoint("b")
    assert sides(editor, linked) == ("a", "b")


def test_a_new_date_and_a_closed_scan_turn_the_sides_round(opened):
    editor, linked, open_ = opened
    for name in "abc":
        open_(name)
    editor.session.set_date(editor.scan_of("a"), "2025-01-01")
    assert sides(editor, linked) == ("b", "c")
    linked.viewer.layers.remove(editor.scan_of("b").layer)
    assert sides(editor, linked) == ("c", "a")
