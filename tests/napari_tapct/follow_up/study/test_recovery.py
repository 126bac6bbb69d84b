"""Autosave and resume: what is on disk after each end, who may write, and scans that came from no file."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_tapct.follow_up.study.editor import StudyEditor
from napari_tapct.follow_up.study.recovery import (
    StudyRecovery,
    bring_scans,
    is_kept,
    studies_folder,
    unfinished_studies,
)
from napari_tapct.layers import ct_image
from napari_tapct.session import Session
from tapct_core.errors import UserError
from tapct_core.geometry import Geometry
from tapct_core.io import load_ct
from tapct_core.lesions.study_file import load_study
from tapct_core.lesions.timepoints import snapshot
from tapct_core.volume import CTVolume

PLACE = (6.0, 4.0, 3.0)


@pytest.fixture
def kept(qapp):
    """A viewer with two scans that are in no file, its editor and its recovery."""
    viewer = ViewerModel()
    editor = StudyEditor(Session(viewer))
    for seed, name in enumerate(("a", "b")):
        viewer.add_layer(ct_image(volume(seed), name))
    recovery = StudyRecovery(editor)
    yield viewer, editor, recovery
    recovery.close()


def volume(seed: int, turn: np.ndarray | None = None) -> CTVolume:
    hu = np.random.default_rng(seed).integers(-1000, 1000, (6, 7, 8)).astype(np.int16)
    affine = Geometry.from_spacing(hu.shape, (2.5, 1.25, 1.5), (-3.0, 7.0, 11.0)).affine.copy()
    if turn is not None:
        affine[:3, :3] = turn @ affine[:3, :3]
    return CTVolume(hu, Geometry(hu.shape, affine))


def mark(editor: StudyEditor, name: str, timepoint: str = "a") -> str:
    return editor.do(name, lambda study: study.add_lesion(name, timepoint, PLACE, "AB")).uid


def files() -> set[str]:
    return {path.name for path in studies_folder().glob("*.json")}


def test_nothing_is_kept_before_there_is_something_to_lose(kept):
    _, _, recovery = kept
    recovery.save()
    assert not studies_folder().exists()


def test_a_study_without_a_file_is_kept_with_its_scans_and_comes_back_the_same(kept, qtbot):
    _, editor, recovery = kept
    uid = mark(editor, "L1")
    with qtbot.waitSignal(recovery.saved, timeout=30_000):
        recovery.save()
    study = load_study(recovery.entry)
    assert study.lesion(uid).findings["a"].point_lps_mm == PLACE
    for seed, timepoint in enumerate(study.timepoints):
        assert is_kept(timepoint.path)
        again = load_ct(timepoint.path)
        np.testing.assert_array_equal(again.hu, volume(seed).hu)
        np.testing.assert_allclose(again.geometry.affine, volume(seed).geometry.affine, atol=1e-5)
    assert unfinished_studies() == []  # somebody is at it


def test_what_a_killed_process_was_working_on_is_offered_and_can_be_discarded(tmp_path, qapp):
    script = """
import os, sys
sys.path.insert(0, sys.argv[1])
from qtpy.QtWidgets import QApplication
app = QApplication([])
from tests.napari_tapct.follow_up.study.test_recovery import *
viewer = ViewerModel()
editor = StudyEditor(Session(viewer))
viewer.add_layer(ct_image(volume(0), "a"))
recovery = StudyRecovery(editor)
mark(editor, "L1")
recovery.save(wait=True)
os.kill(os.getpid(), 9)
"""
    root = str(Path(__file__).resolve().parents[4])
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", script, root], capture_output=True, text=True)
    assert run.returncode == -9, run.stderr[-2000:]
    (left,) = unfinished_studies()
    assert left.file is None and left.lesions == 1 and "1 lesion, of" in left.words
    (scan,) = (studies_folder() / "scans").iterdir()
    left.discard()
    assert unfinished_studies() == [] and not scan.exists()


def test_a_study_with_a_file_is_saved_into_it_and_a_clean_end_leaves_only_that(kept, tmp_path):
    viewer, editor, recovery = kept
    mark(editor, "L1")
    paths = bring_scans(snapshot(editor.study), {n: editor.volume_of(n) for n in "ab"}, tmp_path / "p.json", print)
    for timepoint in editor.study.timepoints:
        timepoint.path = str(paths[timepoint.name])
    editor.save(tmp_path / "p.json")
    mark(editor, "L2")
    recovery.save()
    assert len(load_study(tmp_path / "p.json").lesions) == 2
    assert json.loads(recovery.entry.read_text()) == {"opened": str(tmp_path / "p.json")}
    mark(editor, "L3")
    recovery.close()
    assert len(load_study(tmp_path / "p.json").lesions) == 3 and files() == set()
    assert {path.name for path in tmp_path.iterdir()} == {"p.json", "p_scans", "state"}
    assert {t.path for t in load_study(tmp_path / "p.json").timepoints} == {
        "p_scans/01_a.nii.gz", "p_scans/02_b.nii.gz"
    }  # fmt: skip


def test_a_clean_end_without_a_file_is_still_offered(kept, qtbot):
    _, editor, recovery = kept
    mark(editor, "L1")
    recovery.close()
    (left,) = unfinished_studies()
    assert left.lesions == 1 and left.file is None


def test_another_study_comes_and_the_first_is_not_lost(kept):
    _, editor, recovery = kept
    mark(editor, "L1")
    first = recovery.entry
    recovery.leave()
    assert recovery.entry != first and load_study(first).lesions[0].name == "L1"
    assert [one.entry for one in unfinished_studies()] == [first]


def test_a_scan_in_no_file_that_is_closed_is_kept_if_something_was_found_in_it(kept):
    viewer, editor, recovery = kept
    mark(editor, "L1", "b")
    viewer.layers.remove("b")
    viewer.layers.remove("a")
    assert [t.name for t in editor.study.timepoints] == ["b"]  # nothing was found in a
    assert editor.scan_of("b") is None and editor.volume_of("b") is not None
    recovery.save(wait=True)
    (timepoint,) = load_study(recovery.entry).timepoints
    np.testing.assert_array_equal(load_ct(timepoint.path).hu, volume(1).hu)


def test_one_file_is_worked_on_by_one_window(kept, tmp_path):
    _, editor, recovery = kept
    other = StudyRecovery(StudyEditor(Session(viewer := ViewerModel())))
    recovery.take(tmp_path / "p.json")
    recovery.take(tmp_path / "p.json")
    with pytest.raises(UserError, match="being worked on in another window"):
        other.take(tmp_path / "p.json")
    recovery.take(None)
    other.take(tmp_path / "p.json")
    other.close()
    assert viewer is not None and not list(tmp_path.glob(".p.json*"))


def test_what_cannot_be_saved_is_said_once_and_tried_again(kept, tmp_path, qtbot):
    _, editor, recovery = kept
    mark(editor, "L1")
    said = []
    recovery.failed.connect(said.append)
    studies_folder().parent.mkdir(parents=True)
    studies_folder().write_text("in the way")
    recovery.save(wait=True)
    assert len(said) == 1 and said[0].startswith("The study could not be saved")
    studies_folder().unlink()
    recovery.save(wait=True)
    assert len(said) == 1 and load_study(recovery.entry).lesions


def test_damaged_entries_are_passed_over(qapp):
    studies_folder().mkdir(parents=True)
    for name, text in (("a", "{"), ("b", "[]"), ("c", '{"opened": "/nowhere.json"}'), ("d", '{"opened": 3}')):
        (studies_folder() / f"{name}.json").write_text(text)
    assert unfinished_studies() == []


@pytest.mark.parametrize(
    ("number", "says"),
    [(errno.EACCES, "may not be written in"), (errno.EROFS, "may not be written in"), (errno.ENOSPC, "is full")],
)
def test_a_folder_that_cannot_be_written_is_one_sentence_with_another_way(kept, tmp_path, monkeypatch, number, says):
    _, editor, recovery = kept
    mark(editor, "L1")
    recovery.save(wait=True)
    path = tmp_path / "study.json"
    editor.save(path)
    part = tmp_path / ".study.json.part-1"
    error = OSError(number, os.strerror(number), str(part))
    monkeypatch.setattr(editor, "save", lambda *_: (_ for _ in ()).throw(error))
    said = []
    recovery.failed.connect(said.append)
    mark(editor, "L2")
    recovery.save(wait=True)
    assert len(said) == 1 and says in said[0] and "Save as …" in said[0] and str(tmp_path) in said[0]
    assert "part" not in said[0].replace(str(tmp_path), "") and "Errno" not in said[0]
