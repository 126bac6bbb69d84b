"""A scan that opens only by a person's word: the window asks, opens it so, and the study remembers what was said."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QDialogButtonBox, QLabel

from napari_tapct.follow_up.study.bar import StudyBar
from napari_tapct.follow_up.study.editor import editor_of
from napari_tapct.jobs import JobBar
from napari_tapct.scans.asking import Asked, WordDialog
from napari_tapct.scans.opening import opener_of
from napari_tapct.session import session_of
from tapct_core.errors import NeedsWord
from tapct_core.io import load_ct
from tapct_core.lesions.study_file import load_study
from tests.tapct_core.io import writing

LONG = 60_000


def body(count=8):
    """Soft tissue, fat and bone in air: int16 (slice, row, column)."""
    z, y, x = np.ogrid[:count, :40, :48]
    away = ((y - 20) / 16) ** 2 + ((x - 24) / 20) ** 2 + 0 * z
    hu = np.select([away < 0.1, away < 0.6, away < 1], [300, 50, -90], -1000)
    return (hu + np.random.default_rng(3).integers(-12, 13, hu.shape)).astype(np.int16)


@pytest.fixture
def folder(tmp_path):
    """Writes a series by ``change(number)`` -> further attributes of that slice, and HU to add."""

    def made(name, change=lambda number: {}, add=0, repeats=1):
        target = tmp_path / name
        target.mkdir()
        for phase in range(repeats):
            for k, plane in enumerate(body()):
                over = {"SOPInstanceUID": f"1.2.{phase + 1}.{k + 1}", "TemporalPositionIdentifier": phase + 1}
                data = writing.ct_slice((plane + add + 7 * phase).astype(np.int16), k, **over | change(k))
                (target / f"{phase}_{k}.dcm").write_bytes(data)
        return target

    return made


def place(number, x=0.0, more=0.0):
    """``x`` mm aside for each slice, as of a tilted gantry; ``more`` mm further along."""
    return {"ImagePositionPatient": [-36 + x * number, -30, -100 + 2.5 * number + more]}


def asking(window, qtbot):
    """The dialog, once it is there."""
    qtbot.waitUntil(lambda: any(d.isVisible() for d in window.findChildren(WordDialog)), timeout=LONG)
    return next(d for d in window.findChildren(WordDialog) if d.isVisible())


def answer(dialog, words, qtbot):
    """A person ticks the answer that has these words, and presses Open."""
    button = next(b for b in dialog.buttons.buttons() if words in b.text())
    qtbot.mouseClick(button, Qt.LeftButton, pos=QPoint(8, button.height() // 2))
    assert button.isChecked() and dialog.open_button.isEnabled()
    qtbot.mouseClick(dialog.findChild(QDialogButtonBox).button(QDialogButtonBox.Open), Qt.LeftButton)


@pytest.mark.parametrize(
    ("make", "words", "how"),
    [
        ({"add": 1024}, "take 1024 from all values", {"hu_offset": -1024.0}),
        ({"add": 1024}, "as they are", {"hu_offset": 0.0}),
        ({"repeats": 3}, "2 (8 slices)", {"phase": 2}),
        ({"change": lambda k: place(k, x=0.9)}, "rectangular grid", {"resample": True}),
        ({"change": lambda k: place(k, more=0.9 * max(0, k - 4))}, "an even grid", {"resample": True}),
    ],
)
def test_the_window_asks_and_opens_it_so(make_napari_viewer, folder, qtbot, tmp_path, make, words, how):
    path = folder("ct", **make)
    with pytest.raises(NeedsWord):
        load_ct(path)
    viewer = make_napari_viewer()
    opener = opener_of(session_of(viewer))
    opener.open([path])
    dialog = asking(viewer.window._qt_window, qtbot)
    assert dialog.open_button.isEnabled() == (len(dialog.buttons.buttons()) == 1)
    assert not any("--" in label.text() for label in dialog.findChildren(QLabel))  # options are the terminal's
    with qtbot.waitSignal(opener.opened, timeout=LONG):
        answer(dialog, words, qtbot)
    (scan,) = session_of(viewer).scans
    wanted = load_ct(path, **how)
    assert scan.volume.content_hash == wanted.content_hash and dict(scan.volume.source.how) == how
    editor = editor_of(viewer)
    editor.study.add_lesion("L1", scan.name, tuple(scan.volume.geometry.to_world([3, 20, 24])), "AB")
    file = editor.save(tmp_path / "study.json")
    assert load_study(file).timepoints[0].reading == how
    viewer.layers.clear()
    editor.load(file)
    bar = StudyBar(editor, JobBar())
    qtbot.addWidget(bar)
    with qtbot.waitSignal(bar.opened, timeout=LONG):
        bar.open_closed()
    assert session_of(viewer).scans[0].volume.content_hash == wanted.content_hash


def test_who_says_nothing_opens_nothing_and_the_next_scan_still_comes(make_napari_viewer, folder, ct_files, qtbot):
    viewer = make_napari_viewer()
    opener = opener_of(session_of(viewer))
    opener.open([folder("shifted", add=1024), ct_files["straight.nii.gz"]])
    dialog = asking(viewer.window._qt_window, qtbot)
    with qtbot.waitSignal(opener.opened, timeout=LONG):
        qtbot.keyClick(dialog, Qt.Key_Escape)
    assert [scan.name for scan in session_of(viewer).scans] == ["straight"]


def test_two_words_one_after_the_other(make_napari_viewer, folder, qtbot):
    viewer = make_napari_viewer()
    opener = opener_of(session_of(viewer))
    opener.open([folder("both", change=lambda k: place(k, x=0.9), add=1024)])
    answer(asking(viewer.window._qt_window, qtbot), "rectangular grid", qtbot)
    with qtbot.waitSignal(opener.opened, timeout=LONG):
        answer(asking(viewer.window._qt_window, qtbot), "take 1024", qtbot)
    assert dict(session_of(viewer).scans[0].volume.source.how) == {"resample": True, "hu_offset": -1024.0}


def test_a_study_written_by_hand_asks_as_well(make_napari_viewer, folder, qtbot, tmp_path):
    folder("ct", repeats=2)
    (tmp_path / "study.json").write_text(
        '{"schema": "napari-tapct study", "version": 3, "timepoints": [{"name": "now", "path": "ct"}], "lesions": []}'
    )
    viewer = make_napari_viewer()
    editor = editor_of(viewer)
    editor.load(tmp_path / "study.json")
    bar = StudyBar(editor, JobBar())
    qtbot.addWidget(bar)
    bar.open_closed()
    dialog = asking(bar, qtbot)
    answer(dialog, "2 (8 slices)", qtbot)
    qtbot.waitUntil(lambda: editor.scan_of("now") is not None, timeout=LONG)
    assert editor.study.timepoints[0].reading == {"phase": 2}


def test_a_dialog_with_several_answers_has_none_ticked(qtbot, tmp_path):
    error = NeedsWord("it may be either", "say --this or --that", (("This", {"a": 1}), ("That", {"b": 2})))
    dialog = WordDialog(Asked(tmp_path / "x.nii", error))
    qtbot.addWidget(dialog)
    assert not dialog.open_button.isEnabled() and str(error) == "it may be either; say --this or --that"
    dialog.buttons.button(1).setChecked(True)
    assert dialog.open_button.isEnabled() and dialog.chosen == {"b": 2}
