"""*Import …*: findings of other programs into the study that is open, listed, undone, and placed by a person's word."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_tapct.follow_up.study.bar import StudyBar
from napari_tapct.follow_up.study.editor import editor_of
from napari_tapct.follow_up.study.importing import Importer, ImportResult
from napari_tapct.jobs import JobBar
from napari_tapct.scans.opening import opener_of
from napari_tapct.session import session_of
from tapct_core.export import write_seg, write_sr
from tapct_core.io import load_ct
from tapct_core.lesions import Mask, Study, Timepoint
from tests.tapct_core.io import writing

LONG = 60_000
WEEKS = {"week0": "20240105", "week8": "20240301"}


@pytest.fixture
def scans(tmp_path):
    """Two series of one patient -> their folders."""
    z, y, x = np.ogrid[:8, :40, :48]
    body = ((y - 20) / 16) ** 2 + ((x - 24) / 20) ** 2 + 0 * z < 1
    for number, (name, date) in enumerate(WEEKS.items(), start=1):
        hu = (np.where(body, 50, -1000) + np.random.default_rng(number).integers(-9, 10, body.shape)).astype(np.int16)
        (tmp_path / name).mkdir()
        for k, plane in enumerate(hu):
            over = {"SeriesInstanceUID": f"1.2.{number}", "SOPInstanceUID": f"1.2.{number}.{k + 1}"}
            over |= {"FrameOfReferenceUID": f"1.2.{number}.99", "SeriesDescription": name}
            over |= {"StudyDate": date, "SeriesDate": date}
            (tmp_path / name / f"{k}.dcm").write_bytes(writing.ct_slice(plane, k, **over))
    return [tmp_path / name for name in WEEKS]


@pytest.fixture
def files(scans, tmp_path):
    """SEG and SR of two lesions at week 0, as another program might send them, and the study they were made of."""
    volume = load_ct(scans[0])
    study = Study("p", [Timepoint("their week", str(scans[0]))])
    for name, column in (("liver", 14), ("node", 30)):
        mask = np.zeros(volume.geometry.shape, bool)
        mask[2:5, 16:22, column : column + 5] = True
        lesion = study.add_lesion(name, "their week", tuple(volume.geometry.to_world([3, 18, column + 2])), "XY")
        study.set_mask(lesion.uid, "their week", Mask.from_array(mask), volume, by="XY")
    paths = [write_seg(study, "their week", volume, tmp_path / "seg.dcm"),
             write_sr(study, "their week", volume, tmp_path / "sr.dcm")]  # fmt: skip
    return paths, study


@pytest.fixture
def bar(make_napari_viewer, scans, qtbot):
    """The study bar of a viewer with both scans."""
    viewer = make_napari_viewer()
    opener = opener_of(session_of(viewer))
    for scan in scans:
        with qtbot.waitSignal(opener.opened, timeout=LONG):
            opener.open([scan])
    bar = StudyBar(editor_of(viewer), JobBar())
    qtbot.addWidget(bar)
    bar.show()
    return bar


def result_of(bar, qtbot):
    qtbot.waitUntil(lambda: any(d.isVisible() for d in bar.findChildren(ImportResult)), timeout=LONG)
    return next(d for d in bar.findChildren(ImportResult) if d.isVisible())


def rows_of(dialog):
    return [[dialog.table.item(r, c).text() for c in range(3)] for r in range(dialog.table.rowCount())]


def test_findings_come_in_as_one_step(bar, files, qtbot, monkeypatch):
    paths, theirs = files
    monkeypatch.setattr(
        "napari_tapct.follow_up.study.exchange.QFileDialog.getOpenFileNames", lambda *_: ([str(p) for p in paths], "")
    )
    qtbot.mouseClick(bar.exchange.import_button, Qt.LeftButton)
    dialog = result_of(bar, qtbot)
    editor = bar.editor
    first = editor.study.timepoints[0].name
    assert [lesion.uid for lesion in editor.study.lesions] == [lesion.uid for lesion in theirs.lesions]
    for own, other in zip(editor.study.lesions, theirs.lesions, strict=True):
        mine, given = own.findings[first], other.findings["their week"]
        assert np.array_equal(mine.mask.to_array(), given.mask.to_array()) and mine.measurement == given.measurement
    assert editor.selected == theirs.lesions[0].uid
    assert len(rows_of(dialog)) == 4 and not hasattr(dialog, "place_button")
    dialog.reject()
    assert editor.undo() == "import 4 findings" and not editor.study.lesions
    editor.redo()
    assert len(editor.study.lesions) == 2


def test_what_could_not_be_placed_is_listed_and_placed_by_a_persons_word(bar, tmp_path, qtbot):
    table = tmp_path / "points.csv"
    table.write_text("name,x,y,z,timepoint\na,0,0,-90,\nb,5,0,-92,\nfar,900,0,0,\nother,0,0,-90,week 77\n")
    bar.exchange.import_files([table])
    dialog = result_of(bar, qtbot)
    rows = rows_of(dialog)
    assert [row[1] for row in rows] == ["not placed"] * 4 and "--" not in str(rows)
    assert not bar.editor.study.lesions and bar.editor.undo_words is None
    second = bar.editor.study.timepoints[1].name
    dialog.choice.setCurrentText(second)
    with qtbot.waitSignal(dialog.finished):
        qtbot.mouseClick(dialog.place_button, Qt.LeftButton)
    qtbot.waitUntil(lambda: len(bar.editor.study.lesions) == 2, timeout=LONG)
    found = {lesion.name: dict(lesion.findings) for lesion in bar.editor.study.lesions}
    assert set(found) == {"a", "b"} and set(found["a"]) == {second}
    said = {row[0]: row[2] for row in rows_of(result_of(bar, qtbot))}
    assert said["far"] == "it lies outside the scan" and "no time point 'week 77'" in said["other"]


def test_a_closed_scan_is_read_and_a_broken_file_changes_nothing(bar, files, tmp_path, qtbot, monkeypatch):
    viewer, editor = bar.editor.session.viewer, bar.editor
    viewer.layers.clear()
    assert len(editor.study.timepoints) == 2
    bar.exchange.import_files(files[0])
    result_of(bar, qtbot).reject()
    assert len(editor.study.lesions) == 2
    said = []
    monkeypatch.setattr("napari_tapct.follow_up.study.bar.show_error", said.append)
    (tmp_path / "broken.dcm").write_bytes(files[0][0].read_bytes()[:900])
    before = editor.study
    bar.exchange.import_files([files[0][1], tmp_path / "broken.dcm"])
    qtbot.waitUntil(lambda: bool(said), timeout=LONG)
    assert "broken.dcm" in said[0] and editor.study is before and editor.undo_words == "import 4 findings"


def test_what_a_person_did_meanwhile_stays(bar, files):
    editor = bar.editor
    first = editor.study.timepoints[0].name
    importer = Importer(editor, files[0])
    placed = importer.read(None)
    own = editor.do("mark", lambda study: study.add_lesion("own", first, (0.0, 0.0, -90.0), "AB"))
    importer.bring(placed)
    assert [lesion.name for lesion in editor.study.lesions] == ["own", "liver", "node"]
    again = Importer(editor, files[0])
    placed = again.read(None)
    gone = editor.study.lesions[1].uid
    editor.do("delete", lambda study: study.lesions.remove(study.lesion(gone)))
    again.bring(placed)
    assert [lesion.name for lesion in editor.study.lesions] == ["own", "node"] and editor.study.lesion(own.uid)
