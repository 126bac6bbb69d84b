"""Moved and renamed scans are found again, with those that moved along; another scan is not taken for them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_tapct.follow_up.study.relocate import missing, require_same_scan, siblings
from tapct_core.errors import UserError
from tapct_core.geometry import Geometry
from tapct_core.lesions import Finding, Lesion, Mask, Study, Timepoint
from tapct_core.lesions.study_file import load_study, save_study
from tapct_core.volume import CTVolume, DicomSeries, Source

LONG = 60_000


def volume(shape=(4, 5, 6), series: str = "") -> CTVolume:
    dicom = DicomSeries("1.2", series, "1.3", (), ()) if series else None
    source = Source("dicom", dicom=dicom) if series else Source("array")
    return CTVolume(np.zeros(shape, np.int16), Geometry.from_spacing(shape, (2, 1, 1)), source)


@pytest.mark.parametrize(
    ("old", "new", "other", "there"),
    [
        ("a/pat/t0/ct.nii", "b/pat/t0/ct.nii", "a/pat/t1/ct.nii", "b/pat/t1/ct.nii"),  # the whole tree moved
        ("a/t0.nii", "b/t0.nii", "a/t1.nii", "b/t1.nii"),
        ("a/t0.nii", "b/first.nii", "a/t1.nii", "b/t1.nii"),  # renamed as well
        ("a/one/t0.nii", "b/t0.nii", "a/two/t1.nii", "b/t1.nii"),  # put into one folder
    ],
)
def test_scans_that_moved_along_are_found(tmp_path, old, new, other, there):
    for path in (new, there):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    study = Study("p", [Timepoint("first", str(tmp_path / old)), Timepoint("second", str(tmp_path / other))])
    assert [one.name for one in missing(study)] == ["first", "second"]
    assert siblings(study, "first", tmp_path / new) == {"second": tmp_path / there}


def test_what_is_where_it_was_and_what_is_nowhere_are_left(tmp_path):
    for name in ("new.nii", "third.nii"):
        (tmp_path / name).touch()
    scans = [("first", "old/new.nii"), ("second", "old/second.nii"), ("third", "third.nii")]
    study = Study("p", [Timepoint(name, str(tmp_path / path)) for name, path in scans])
    assert siblings(study, "first", tmp_path / "new.nii") == {}


def test_another_scan_is_refused_by_series_grid_and_points():
    array = np.zeros((4, 5, 6), bool)
    array[1, 1:3, 1:3] = True
    finding = Finding("accepted", (2.0, 2.0, 2.0), "AB", mask=Mask.from_array(array))
    study = Study("p", [Timepoint("a", "a", series_uid="1.2.3")], [Lesion("L1", findings={"a": finding})])
    require_same_scan(study, "a", volume(series="1.2.3"))
    with pytest.raises(UserError, match="another series"):
        require_same_scan(study, "a", volume(series="1.2.4"))
    study.timepoints[0].series_uid = ""
    with pytest.raises(UserError, match="grid"):
        require_same_scan(study, "a", volume((4, 5, 7)))
    study.lesions[0].findings["a"] = Finding("accepted", (200.0, 2.0, 2.0), "AB")
    with pytest.raises(UserError, match="L1 would lie outside"):
        require_same_scan(study, "a", volume())


def test_a_study_whose_folder_moved_opens_again_from_the_window(make_napari_viewer_proxy, qtbot, pair, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    for name, path in (("first", pair.before), ("second", pair.after)):
        shutil.copy(path, old / f"{name}.nii.gz")
    scans = [Timepoint("first", str(old / "first.nii.gz"), "2024-01-01")]
    scans += [Timepoint("second", str(old / "second.nii.gz"), "2024-02-01")]
    study = tmp_path / "study.json"
    save_study(Study("p", scans), study)
    old.rename(new)
    (new / "first.nii.gz").rename(new / "renamed.nii.gz")
    viewer = make_napari_viewer_proxy(show=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-tapct", "Follow-up")
    bar, editor = widget.study_bar, widget.editor
    with qtbot.waitSignal(bar.opened, timeout=LONG):
        bar.open_study(study)
    assert "first, second" in bar.state.text() and "Locate" in bar.state.text()
    bar.timepoints._fill_menu()
    assert "Locate first …" in [action.text() for action in bar.timepoints.menu().actions()]
    with qtbot.waitSignal(bar.opened, timeout=LONG):
        bar.timepoints.locate("first", new / "renamed.nii.gz")
    QApplication.processEvents()
    assert editor.scan_of("first") is not None and editor.scan_of("second") is not None
    assert [t.name for t in editor.study.timepoints] == ["first", "second"] and "Locate" not in bar.state.text()
    bar.recovery.save()
    saved = [Path(t.path).name for t in load_study(study).timepoints]
    assert saved == ["renamed.nii.gz", "second.nii.gz"]
