"""Open, paint with the mouse, save, read with another library: the painted voxels of the source's own grid."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pydicom
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_tapct.session import session_of

from .conftest import canvas_of, centre_on, drag, file_to_lps, place_on_canvas

PLUGIN = "napari-tapct"
SAMPLES = ("breathing_pair", "abdomen_pelvis", "synthetic_follow_up")


def painted_by_mouse(viewer, widget, scan) -> np.ndarray:
    """Two strokes on two slices, by the mouse; returns the strokes (z, y, x)."""
    widget.session.show(scan)
    z, y, x = centre_on(viewer, scan)
    for value, row, step in ((1, y - 6, 0), (2, y + 5, 2)):
        widget.classes.select(value)
        QTest.mouseClick(widget.paint_button, Qt.LeftButton)
        widget.session.look_at(scan, (z + step, y, x))
        ends = [place_on_canvas(viewer, scan, (z + step, row, x + off)) for off in (-7, 4)]
        drag(canvas_of(viewer), *ends)
    strokes = scan.parts["strokes"].data
    assert set(np.unique(strokes)) == {0, 1, 2} and len(set(np.nonzero(strokes)[0])) == 2
    return strokes


def places(labels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Rows of LPS mm and value of every labelled voxel, in an order that does not depend on the axes."""
    index = np.argwhere(labels)
    lps = index @ affine[:3, :3].T + affine[:3, 3]
    rows = np.column_stack([lps, labels[tuple(index.T)]])
    return rows[np.lexsort(np.round(rows, 1).T)]


def check(scan, strokes: np.ndarray, path: Path, shape: tuple, affine: np.ndarray) -> np.ndarray:
    """The file's labels: on the grid of ``shape`` and ``affine`` (LPS), where they were painted in the patient."""
    stored, stored_affine = file_to_lps(path)
    assert stored.shape == shape and np.issubdtype(stored.dtype, np.integer)
    np.testing.assert_allclose(stored_affine, affine, atol=1e-4)
    # The scan's (z, y, x) array read as (x, y, z), under its geometry.
    geometry = scan.volume.geometry
    origin = geometry.to_world(np.zeros(3))
    columns = [geometry.to_world(np.eye(3)[axis]) - origin for axis in (2, 1, 0)]
    drawn = np.eye(4)
    drawn[:3, :3], drawn[:3, 3] = np.column_stack(columns), origin
    np.testing.assert_allclose(places(stored, stored_affine), places(strokes.T, drawn), atol=0.02)
    return stored


def saved(scan, tmp_path: Path, suffix: str = ".nii.gz") -> Path:
    """Saves the strokes' layer the way the File menu does."""
    path = tmp_path / f"{scan.name.replace(' ', '_')}{suffix}"
    (written,) = scan.parts["strokes"].save(str(path), plugin=PLUGIN)
    return Path(written)


@pytest.mark.parametrize("sample", SAMPLES)
def test_samples(make_napari_viewer, qtbot, tmp_path, sample):
    viewer = make_napari_viewer(show=True)
    viewer.open_sample(PLUGIN, sample)
    session = session_of(viewer)
    qtbot.waitUntil(lambda: len(session.scans) >= (1 if sample == "abdomen_pelvis" else 2), timeout=120_000)
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Segment")
    for scan in session.scans:
        for layer in viewer.layers:  # organs and points take no part
            layer.visible = layer is scan.layer
        strokes = painted_by_mouse(viewer, widget, scan)
        path = saved(scan, tmp_path)
        source = scan.volume.source
        if source.path:
            values, affine = file_to_lps(Path(source.path))
            stored = check(scan, strokes, path, values.shape, affine)
            # The file's own voxels there are those that were painted on.
            assert sorted(values[stored > 0].tolist()) == sorted(scan.volume.hu[strokes > 0].tolist())
        else:  # made up: its own grid, x first
            stored, affine = file_to_lps(path)
            check(scan, strokes, path, strokes.shape[::-1], affine)


@pytest.mark.parametrize("name", ["oblique.nii.gz", "permuted.nii", "oblique.mha"])
def test_files_of_all_kinds_of_axes(make_napari_viewer, ct_files, tmp_path, name):
    viewer = make_napari_viewer(show=True)
    viewer.open(ct_files[name], plugin=PLUGIN)
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Segment")
    (scan,) = widget.session.scans
    strokes = painted_by_mouse(viewer, widget, scan)
    values, affine = file_to_lps(ct_files[name])
    stored = check(scan, strokes, saved(scan, tmp_path, name[name.index(".") :]), values.shape, affine)
    assert sorted(values[stored > 0].tolist()) == sorted(scan.volume.hu[strokes > 0].tolist())


def test_dicom_series(make_napari_viewer, data_dir, tmp_path):
    """The grid by pydicom alone: the corners of the series' box, and the pixels under the strokes."""
    folder = data_dir / "dicom" / "ts_example_series"
    viewer = make_napari_viewer(show=True)
    viewer.open(folder, plugin=PLUGIN)
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Segment")
    (scan,) = widget.session.scans
    strokes = painted_by_mouse(viewer, widget, scan)
    path = saved(scan, tmp_path)
    stored, affine = file_to_lps(path)
    headers = sorted((pydicom.dcmread(file) for file in folder.iterdir()), key=lambda one: one.ImagePositionPatient[2])
    across, down = np.array(headers[0].ImageOrientationPatient, float).reshape(2, 3)
    spacing = [float(s) for s in headers[0].PixelSpacing]

    def place(slice_, row, column):
        start = np.array(headers[slice_].ImagePositionPatient, float)
        return start + across * spacing[1] * column + down * spacing[0] * row

    rows, columns = headers[0].pixel_array.shape
    assert sorted(stored.shape) == sorted((len(headers), rows, columns))
    ours = [(affine @ (*corner, 1))[:3] for corner in product(*[(0, n - 1) for n in stored.shape])]
    theirs = [place(*corner) for corner in product((0, len(headers) - 1), (0, rows - 1), (0, columns - 1))]
    box = [np.array(sorted(map(tuple, np.round(corners, 2)))) for corners in (ours, theirs)]
    np.testing.assert_allclose(*box, atol=0.011)
    check(scan, strokes, path, stored.shape, affine)
    for lps_and_value in places(stored, affine)[:: max(1, np.count_nonzero(stored) // 20)]:
        lps = lps_and_value[:3]
        slice_ = min(range(len(headers)), key=lambda i: abs(place(i, 0, 0)[2] - lps[2]))
        away = lps - place(slice_, 0, 0)
        row, column = round(away @ down / spacing[0]), round(away @ across / spacing[1])
        np.testing.assert_allclose(place(slice_, row, column), lps, atol=0.02)
        header = headers[slice_]
        value = header.pixel_array[row, column] * float(header.RescaleSlope) + float(header.RescaleIntercept)
        index = np.rint(scan.volume.geometry.to_index(lps)).astype(int)
        assert scan.volume.hu[tuple(index)] == max(value, -1024)
