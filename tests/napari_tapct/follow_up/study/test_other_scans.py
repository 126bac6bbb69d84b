"""Two patients: said before anything is linked or compared, and a person has the last word."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication

from napari_tapct.follow_up.study.editor import StudyEditor
from napari_tapct.follow_up.study.other_scans import OtherScans
from napari_tapct.follow_up.views.arrangement import Arrangement
from napari_tapct.follow_up.views.link_bar import LinkBar
from napari_tapct.follow_up.views.linked import LinkedView
from napari_tapct.layers import ct_image
from napari_tapct.session import Session
from tapct_core.geometry import Geometry
from tapct_core.lesions import Study, Timepoint
from tapct_core.volume import CTVolume, DicomSeries, Source


def scan(name: str, patient: str = "", sex: str = "", date: str = ""):
    """A layer of a DICOM series."""
    dicom = DicomSeries("1.2", f"1.2.{name}", "1.3", (), (), date=date, patient_key=patient, sex=sex)
    source = Source("dicom", path=f"/scans/{name}", dicom=dicom)
    return ct_image(CTVolume(np.zeros((4, 5, 6), np.int16), Geometry.from_spacing((4, 5, 6), (1, 1, 1)), source), name)


@pytest.fixture
def panel(qapp):
    """An editor with its panel and its views; the caller adds scans to ``panel.viewer``."""
    viewer = ViewerModel()
    editor = StudyEditor(Session(viewer))
    linked = LinkedView(editor.session, editor)
    removed = []
    dated = []
    panel = OtherScans(editor, removed.append, dated.append)
    panel.viewer, panel.editor, panel.linked, panel.removed, panel.dated = viewer, editor, linked, removed, dated
    panel.bar, panel.arrangement = LinkBar(linked), Arrangement(editor.session, editor)
    yield panel
    panel.bar.deleteLater()
    panel.deleteLater()


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"patient": "p2"}, "another patient ID"),
        ({"patient": "p1", "sex": "M"}, "another sex"),
        ({"patient": "p2", "sex": "M"}, "another patient ID and another sex"),
    ],
)
def test_another_patient_is_said_in_the_panel_and_not_linked_until_a_person_vouches(panel, facts, reason):
    panel.viewer.add_layer(scan("a", "p1", "F", "20240101"))
    panel.viewer.add_layer(scan("b", date="20240301", **facts))
    assert panel.editor.other_patients == {"b": reason}
    assert f"b has {reason}" in panel.words and panel.isVisibleTo(None)
    assert panel.linked.motion is None and "Not linked" in panel.bar.words.text() and reason in panel.bar.words.text()
    panel.button("Same patient").click()
    assert panel.editor.other_patients == {} and panel.words == "" and panel.isHidden()
    assert panel.linked.motion is not None and panel.bar.words.text().startswith("Linked")


def test_it_can_be_taken_out(panel):
    panel.viewer.add_layer(scan("a", "p1", date="20240101"))
    panel.viewer.add_layer(scan("b", "p2", date="20240301"))
    panel.button("Remove").click()
    assert panel.removed == ["b"]


@pytest.mark.parametrize("facts", [{"patient": "p1", "sex": "F"}, {}, {"sex": "F"}, {"patient": "p1"}])
def test_the_same_patient_and_headers_that_say_nothing_are_compared(panel, facts):
    panel.viewer.add_layer(scan("a", "p1", "F", "20240101"))
    panel.viewer.add_layer(scan("b", date="20240301", **facts))
    assert panel.editor.other_patients == {} and panel.linked.motion is not None and panel.isHidden()


def test_what_the_match_doubts_is_said_and_can_be_answered(panel):
    panel.viewer.add_layer(scan("a", date="20240101"))
    panel.viewer.add_layer(scan("b", date="20240301"))
    panel.editor.doubt("b", "hardly looks like the scan before (agreement 0.55)")
    assert "b hardly looks like" in panel.words and "same patient?" in panel.words
    panel.button("Same patient").click()
    assert panel.words == ""
    panel.editor.doubt("b", "")
    assert panel.editor.doubtful == {}


def test_scans_of_another_study_are_not_linked_and_can_be_closed_or_added(panel):
    panel.viewer.add_layer(scan("a1", "p1"))
    panel.viewer.add_layer(scan("a2", "p1"))
    panel.editor.begin(Study("p2", [Timepoint("b1", "/scans/b1"), Timepoint("b2", "/scans/b2")]))
    assert "a1 is open and not of this study" in panel.words and "a2 is open" in panel.words
    for name in ("b1", "b2"):
        panel.viewer.add_layer(scan(name, "p2"))
    session, editor = panel.editor.session, panel.editor
    assert session.active is editor.scan_of("b1") and panel.linked.scan is editor.scan_of("b2")
    assert panel.linked.motion is not None
    QApplication.processEvents()  # what is shown while scans are being opened is no choice
    session.show(editor.left_out[0])
    assert panel.linked.motion is None and "a1 is not of this study" in panel.bar.words.text()
    panel.button("Close").click()
    assert "a1" not in panel.viewer.layers and "a1" not in panel.words
    panel.button("Add").click()
    assert [one.name for one in panel.editor.study.timepoints] == ["b1", "b2", "a2"]
    assert "a2 has another patient ID" in panel.words


def test_a_second_scan_of_one_date_is_asked_about_when_it_is_opened(panel):
    panel.viewer.add_layer(scan("a", "p1", date="20240101"))
    panel.viewer.add_layer(scan("b", "p1", date="20240301"))
    assert panel.words == ""
    panel.viewer.add_layer(scan("c", "p1", date="20240301"))
    assert "c is of 2024-03-01, as b is" in panel.words and panel.editor.same_dates == {"c": "b"}
    panel.button("Date …").click()
    assert panel.dated == ["c"] and panel.words  # until there is another date
    panel.button("Same day").click()
    assert panel.words == "" and [t.name for t in panel.editor.study.timepoints] == ["a", "b", "c"]
    panel.viewer.add_layer(scan("d", "p1", date="20240101"))
    assert "d is of 2024-01-01" in panel.words
    panel.editor.session.set_date(panel.editor.scan_of("d"), "2024-02-01")  # as by the Scans widget
    assert panel.words == "" and [t.name for t in panel.editor.study.timepoints] == ["a", "d", "b", "c"]


def test_a_study_that_holds_two_scans_of_one_date_is_not_asked_about_them_again(panel):
    known = [Timepoint(name, f"/scans/{name}", "2024-01-01", f"1.2.{name}") for name in "ab"]
    panel.editor.begin(Study("p1", known))
    for name in "ab":
        panel.viewer.add_layer(scan(name, "p1", date="20240101"))
    assert panel.editor.scan_of("b") is not None and panel.words == ""
