"""Files of every format for the plugin's tests: one real CT, stored straight, turned and tilted."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget
from scipy.spatial.transform import Rotation

from tapct_core.samples import sample_paths

STORED = ("straight.nii.gz", "permuted.nii", "oblique.nii.gz", "straight.nrrd", "oblique.mha")


def file_to_lps(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The file's array (i, j, k) as another library reads it, and its affine to LPS mm: independent of ours."""
    if ".nii" in path.name:
        image = nibabel.load(path)
        return np.asanyarray(image.dataobj), np.diag([-1, -1, 1, 1]) @ image.affine
    image = SimpleITK.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image).T, affine


@pytest.fixture(autouse=True)
def _own_state(tmp_path, monkeypatch):
    """No test finds or fills the person's own autosaves."""
    monkeypatch.setenv("TAPCT_STATE", str(tmp_path / "state"))


@pytest.fixture(scope="session")
def ct_files(tmp_path_factory) -> dict[str, Path]:
    """A piece of the packaged CT, (i, j, k) = (40, 36, 20) voxels of 3 mm, in each way of STORED."""
    folder = tmp_path_factory.mktemp("stored")
    piece = nibabel.load(sample_paths("abdomen_pelvis")["ct"]).slicer[40:80, 30:66, 40:60]
    values = np.asanyarray(piece.dataobj)
    tilt = np.eye(4)
    tilt[:3, :3] = Rotation.from_euler("xyz", (7, -11, 13), degrees=True).as_matrix()
    files = {name: folder / name for name in STORED}
    _nifti(values, piece.affine, files["straight.nii.gz"])
    turned = piece.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    _nifti(np.asanyarray(turned.dataobj), turned.affine, files["permuted.nii"], codes=(0, 2))
    _nifti(values, tilt @ piece.affine, files["oblique.nii.gz"], codes=(1, 0))
    _itk(values, piece.affine, files["straight.nrrd"])
    _itk(values, tilt @ piece.affine, files["oblique.mha"])
    return files


def _nifti(values: np.ndarray, affine: np.ndarray, path: Path, codes: tuple[int, int] = (1, 1)) -> None:
    image = nibabel.Nifti1Image(values, affine)
    image.set_qform(affine, codes[0])
    image.set_sform(affine, codes[1])
    nibabel.save(image, path)


def _itk(values: np.ndarray, ras: np.ndarray, path: Path) -> None:
    lps = np.diag([-1, -1, 1, 1]) @ ras
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(values.T))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    SimpleITK.WriteImage(image, str(path))


@pytest.fixture
def two_series(data_dir, tmp_path):
    """A folder with the real series, and a shorter one made from it."""
    source = sorted((data_dir / "dicom" / "ts_example_series").iterdir())
    folder = tmp_path / "study"
    folder.mkdir()
    uid = pydicom.uid.generate_uid()
    for i, path in enumerate(source):
        shutil.copy(path, folder / f"a{i:03d}.dcm")
    headers = sorted((pydicom.dcmread(path) for path in source), key=lambda one: one.ImagePositionPatient[2])
    for i, header in enumerate(headers[:8]):
        header.SeriesInstanceUID = uid
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        header.SeriesDescription = "shorter"
        header.save_as(folder / f"b{i:03d}.dcm")
    return folder


def canvas_of(viewer) -> QWidget:
    """The widget that shows the layers and gets mouse and keys: the native one of vispy's canvas."""
    window = getattr(viewer, "__wrapped__", viewer).window
    return window._qt_viewer.canvas.native


def drag(widget: QWidget, start: QPoint, *stops: QPoint) -> None:
    """Presses the left button at ``start``, drags it over ``stops`` and lets it go at the last."""
    QTest.mousePress(widget, Qt.LeftButton, pos=start)
    last = start
    for stop in stops:
        for step in range(1, 5):
            QTest.mouseMove(widget, last + (stop - last) * (step / 4))
            QApplication.processEvents()
        last = stop
    QTest.mouseRelease(widget, Qt.LeftButton, pos=last)
    QApplication.processEvents()


def centre_on(viewer, scan) -> tuple[int, int, int]:
    """Shows a voxel inside the body near the scan's middle, in the middle of the canvas, and returns it (z, y, x)."""
    body = np.argwhere(scan.volume.hu > -100)
    index = body[np.abs(body - np.array(scan.volume.hu.shape) / 2).sum(axis=1).argmin()]
    drawn = scan.layer.data_to_world(index)
    viewer.dims.set_point(range(3), drawn)
    viewer.scene.camera.center = drawn
    QApplication.processEvents()
    return tuple(int(i) for i in index)


def place_on_canvas(viewer, scan, index: tuple[int, int, int]) -> QPoint:
    """The pixel at which a voxel of the slice that is shown is drawn."""
    drawn = np.array(scan.layer.data_to_world(index))
    camera = viewer.scene.camera
    away = (drawn - np.array(camera.center))[1:] * camera.zoom
    size = canvas_of(viewer).size()
    return QPoint(round(size.width() / 2 + away[1]), round(size.height() / 2 + away[0]))
