"""The editor: every change can be undone, nothing half-done, time points follow the scans, files are whole."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel

from napari_tapct.follow_up.study.editor import StudyEditor, editor_of
from napari_tapct.follow_up.study.history import STEPS
from napari_tapct.layers import ct_image
from napari_tapct.session import Session, session_of
from tapct_core.errors import UserError
from tapct_core.geometry import Geometry
from tapct_core.io import load_ct
from tapct_core.lesions import Finding, Mask
from tapct_core.lesions.study_file import load_study, save_study, study_json
from tapct_core.lesions.timepoints import remove_timepoint, snapshot
from tapct_core.volume import CTVolume

POINT = (1.0, 2.0, 3.0)


def editor_with(*names: str, dates: tuple[str, ...] = ()) -> tuple[ViewerModel, StudyEditor]:
    """An editor on empty scans that are in no file."""
    viewer = ViewerModel()
    session = Session(viewer)
    editor = StudyEditor(session)
    for place, name in enumerate(names):
        layer = ct_image(CTVolume(np.zeros((4, 5, 6), np.int16), Geometry.from_spacing((4, 5, 6), (1, 1, 1))), name)
        if dates:
            layer.metadata["tapct_date"] = dates[place]
        viewer.add_layer(layer)
    return viewer, editor


def mark(editor: StudyEditor, name: str, timepoint: str = "a") -> str:
    return editor.do(f"mark {name}", lambda study: study.add_lesion(name, timepoint, POINT, "AB")).uid


def test_each_change_is_undone_and_redone_exactly_and_says_its_words():
    _, editor = editor_with("a", "b")
    states = [study_json(editor.study)]
    uid = mark(editor, "L1")
    states.append(study_json(editor.study))
    editor.do("move L1", lambda study: study.move(uid, "b", (4, 5, 6), "AB"))
    states.append(study_json(editor.study))
    editor.do("gone", lambda study: study.not_present(uid, "b", "AB"))
    states.append(study_json(editor.study))
    for words, state in zip(("gone", "move L1", "mark L1"), states[-2::-1], strict=True):
        assert editor.undo_words == words and editor.undo() == words
        assert study_json(editor.study) == state
    assert editor.undo() is None and editor.undo_words is None
    for words, state in zip(("mark L1", "move L1", "gone"), states[1:], strict=True):
        assert editor.redo_words == words and editor.redo() == words
        assert study_json(editor.study) == state
    assert editor.redo() is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["mark", "move", "gone", "undo", "redo", "note"]), max_size=30))
def test_undo_all_the_way_leads_back_and_redo_all_the_way_forth_whatever_was_done(steps):
    _, editor = editor_with("a", "b")
    first = study_json(editor.study)
    for number, step in enumerate(steps):
        lesions = editor.study.lesions
        if step == "mark":
            mark(editor, f"L{number}")
        elif step == "move" and lesions:
            editor.do("move", lambda s, n=number: s.move(s.lesions[-1].uid, "b", (n, 0, 0), "AB"))
        elif step == "gone" and lesions:
            editor.do("gone", lambda s: s.not_present(s.lesions[0].uid, "b", "AB"))
        elif step == "undo":
            editor.undo()
        elif step == "redo":
            editor.redo()
        elif step == "note":
            editor.note(lambda s: [s.propose(one.uid, "b", Finding()) for one in s.lesions])
    while editor.redo():
        pass
    last = study_json(editor.study)
    while editor.undo():
        pass
    assert study_json(editor.study) == first
    while editor.redo():
        pass
    assert study_json(editor.study) == last


def test_a_change_that_fails_leaves_nothing_behind_and_one_that_changes_nothing_leaves_no_step():
    _, editor = editor_with("a", "b")
    uid = mark(editor, "L1")
    before, told = study_json(editor.study), []
    editor.changed.connect(lambda: told.append(1))

    def half(study):
        study.lesion(uid).name = "spoilt"
        study.lesion(uid).findings["a"].point_lps_mm = (9, 9, 9)
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        editor.do("half", half)
    editor.do("nothing", lambda study: None)
    assert study_json(editor.study) == before and editor.undo_words == "mark L1" and not told


def test_undo_goes_far_but_not_for_ever():
    _, editor = editor_with("a", "b")
    uid = mark(editor, "L1")
    for number in range(STEPS + 5):
        editor.do("rename", lambda study, number=number: setattr(study.lesion(uid), "name", str(number)))
    steps = 0
    while editor.undo():
        steps += 1
    assert steps == STEPS and editor.study.lesion(uid).name == "4"


def test_snapshots_share_masks_and_cost_little():
    _, editor = editor_with("a", "b")
    uid = mark(editor, "L1")
    mask = Mask((0, 0, 0), np.ones((2, 2, 2), bool), (4, 5, 6))
    editor.study.lesion(uid).findings["a"].mask = mask
    assert snapshot(editor.study).lesion(uid).findings["a"].mask is mask


def test_what_is_noted_survives_undo_of_what_came_after_it_and_before_it():
    _, editor = editor_with("a", "b")
    uid = mark(editor, "L1")
    mark(editor, "L2")
    editor.note(lambda s: [s.propose(uid, "b", Finding(point_lps_mm=(7, 8, 9))) for one in s.lesions if one.uid == uid])
    assert editor.undo_words == "mark L2"
    editor.undo()
    assert editor.study.lesion(uid).findings["b"].point_lps_mm == (7, 8, 9)
    editor.undo()
    assert editor.study.lesions == []
    editor.redo()
    assert editor.study.lesion(uid).findings["b"].point_lps_mm == (7, 8, 9)


def test_selection_goes_when_its_lesion_goes():
    _, editor = editor_with("a", "b")
    uid, told = mark(editor, "L1"), []
    editor.selection_changed.connect(lambda: told.append(editor.selected))
    editor.select(uid)
    editor.select(uid)
    editor.undo()
    assert told == [uid, None] and editor.lesion is None and editor.finding() is None
    with pytest.raises(UserError, match="no lesion"):
        editor.select("1.2.3")


def test_scans_become_time_points_in_the_order_of_their_dates():
    _, editor = editor_with("late", "early", "middle", dates=("2024-05-01", "2023-01-01", "2023-06-01"))
    assert [t.name for t in editor.study.timepoints] == ["early", "middle", "late"]
    assert editor.timepoint == "late" or editor.timepoint in ("middle", "late")
    editor.set_timepoint("middle")
    editor.session.set_date(editor.scan_of("middle"), "2025-01-01")
    assert [t.name for t in editor.study.timepoints] == ["early", "late", "middle"]
    assert editor.study.timepoints[2].date == "2025-01-01" and editor.timepoint == "middle"


def test_without_dates_the_order_of_opening_counts_and_not_what_is_looked_at_now():
    """Whoever opens the baseline and then the follow-up looks at the follow-up."""
    viewer, _ = editor_with("a", "b", "c")
    session = Session(viewer)
    session.show(session.scans[1])
    assert [t.name for t in StudyEditor(session).study.timepoints] == ["a", "b", "c"]


def test_a_hidden_scan_that_is_opened_before_the_shown_one_is_not_the_baseline():
    viewer, editor = editor_with()
    for name, visible in (("later", False), ("first", True)):
        layer = ct_image(CTVolume(np.zeros((4, 5, 6), np.int16), Geometry.from_spacing((4, 5, 6), (1, 1, 1))), name)
        layer.visible = visible
        viewer.add_layer(layer)
    assert [t.name for t in editor.study.timepoints] == ["first", "later"] and editor.timepoint == "later"


def test_closing_a_scan_keeps_its_findings_and_a_new_name_is_everywhere_even_after_undo():
    viewer, editor = editor_with("a", "b")
    uid = mark(editor, "L1")
    editor.do("move", lambda study: study.move(uid, "b", POINT, "AB"))
    viewer.layers["b"].name = "week 8"
    assert editor.timepoint == "week 8" and editor.scan_of("week 8") is not None
    assert set(editor.study.lesion(uid).findings) == {"a", "week 8"}
    editor.undo()
    editor.redo()
    assert set(editor.study.lesion(uid).findings) == {"a", "week 8"}
    viewer.layers.remove("week 8")
    assert editor.scan_of("week 8") is None and editor.study.lesion(uid).findings["week 8"].state == "moved"
    assert editor.timepoint_of(editor.scan_of("a")) == "a" and editor.timepoint_of(None) is None


def test_a_removed_time_point_takes_its_findings_and_undo_brings_both_back():
    viewer, editor = editor_with("a", "b")
    uid = mark(editor, "L1")
    only_there = mark(editor, "L2", "b")
    editor.do("move", lambda study: study.move(uid, "b", POINT, "AB"))
    before = study_json(editor.study)
    editor.do("remove b", lambda study: remove_timepoint(study, "b"))
    assert [t.name for t in editor.study.timepoints] == ["a"] and list(editor.study.lesion(uid).findings) == ["a"]
    assert only_there not in [one.uid for one in editor.study.lesions] and editor.timepoint is None
    assert [scan.name for scan in editor.left_out] == ["b"] and editor.scan_of("b") is None
    viewer.layers.selection.active = viewer.layers["b"]  # whatever the session says, it does not come back by itself
    editor.session.scans_changed.emit()
    assert [t.name for t in editor.study.timepoints] == ["a"]
    editor.undo()
    assert study_json(editor.study) == before and editor.timepoint == "b"
    editor.add(editor.left_out[0])
    assert editor.scan_of("b") is not None and study_json(editor.study) == before


def test_unknown_time_points_are_refused():
    _, editor = editor_with("a", "b")
    with pytest.raises(UserError, match="no time point 'z'; it has a, b"):
        editor.set_timepoint("z")


def test_save_and_load_by_relative_paths_from_anywhere(pair, tmp_path):
    folder = tmp_path / "patient"
    (folder / "scans").mkdir(parents=True)
    shutil.copy(pair.before, folder / "scans" / "one.nii.gz")
    viewer = ViewerModel()
    editor = StudyEditor(Session(viewer))
    viewer.add_layer(ct_image(load_ct(folder / "scans" / "one.nii.gz"), "one"))
    viewer.add_layer(ct_image(load_ct(pair.after), "two"))
    uid = mark(editor, "L1", "one")
    editor.save(folder / "study.json")
    on_disk = load_study(folder / "study.json")
    assert [t.path for t in on_disk.timepoints] == ["scans/one.nii.gz", str(pair.after)]
    folder.rename(tmp_path / "elsewhere")
    other = ViewerModel()
    again = StudyEditor(Session(other))
    again.load(tmp_path / "elsewhere" / "study.json")
    assert again.study.timepoints[0].path == str(tmp_path / "elsewhere" / "scans" / "one.nii.gz")
    assert again.study.lesion(uid).name == "L1" and again.undo_words is None


def test_scans_are_found_again_by_their_file_whatever_their_name_and_others_are_left_out(pair, tmp_path):
    viewer = ViewerModel()
    editor = StudyEditor(Session(viewer))
    viewer.add_layer(ct_image(load_ct(pair.before), "baseline"))
    mark(editor, "L1", "baseline")
    editor.do("date", lambda study: setattr(study.timepoints[0], "date", "2024-03-01"))
    editor.save(tmp_path / "study.json")
    other = ViewerModel()
    session = Session(other)
    known = StudyEditor(session)
    other.add_layer(ct_image(load_ct(pair.after), "of somebody else"))
    other.add_layer(ct_image(load_ct(pair.before), "renamed"))
    known.load(tmp_path / "study.json")
    assert [t.name for t in known.study.timepoints] == ["baseline"]
    assert known.scan_of("baseline").name == "renamed" and known.scan_of("baseline").date == "2024-03-01"
    assert [scan.name for scan in known.left_out] == ["of somebody else"]
    session.scans_changed.emit()
    assert [t.name for t in known.study.timepoints] == ["baseline"]


def test_a_file_that_another_program_changed_is_not_overwritten(pair, tmp_path):
    viewer = ViewerModel()
    editor = StudyEditor(Session(viewer))
    viewer.add_layer(ct_image(load_ct(pair.before), "baseline"))
    uid = mark(editor, "L1", "baseline")
    path = editor.save(tmp_path / "study.json")
    theirs = load_study(path)
    theirs.lesion(uid).organ = "lung"
    save_study(theirs, path)
    mark(editor, "L2", "baseline")
    with pytest.raises(UserError, match="changed by another program"):
        editor.save()
    assert len(load_study(path).lesions) == 1
    editor.save(tmp_path / "mine.json")
    editor.save()
    assert len(load_study(tmp_path / "mine.json").lesions) == 2


def test_a_study_whose_scans_are_in_no_file_is_not_saved_as_something_nobody_can_open(tmp_path):
    _, editor = editor_with("a")
    mark(editor, "L1")
    with pytest.raises(UserError, match="'a' is in no file"):
        editor.save(tmp_path / "study.json")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="no file yet"):
        editor.save()


def test_each_viewer_has_its_own_editor():
    first, second = ViewerModel(), ViewerModel()
    assert editor_of(first) is editor_of(first) and editor_of(first) is not editor_of(second)
    assert editor_of(first).session is session_of(first)
