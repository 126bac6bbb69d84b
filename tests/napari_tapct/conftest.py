"""Files of every format for the plugin's tests: one real CT, stored straight, turned and tilted."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
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
