"""RTSTRUCT against plastimatch, which rasterises contours independently: volumes and centroids."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest
import SimpleITK as sitk

from tapct_core.imports import read_findings
from tapct_core.imports.regions import filled
from tapct_core.io import load_ct
from tests.tapct_core.imports.test_rtstruct import square, structure_set
from tests.tapct_core.io import writing

pytestmark = pytest.mark.skipif(
    shutil.which("plastimatch") is None, reason="no plastimatch on this machine: apt-get install plastimatch"
)
VOLUME, CENTROID_MM = 0.02, 0.5


def rasterised(structures, ct, folder):
    """Masks (z, y, x) by name, and (spacing (3,), origin (3,)) as (x, y, z): plastimatch's, on the CT's grid."""
    command = ["plastimatch", "convert", "--input", str(structures), "--referenced-ct", str(ct), "--prefix-format",
               "nrrd", "--xor-contours", "--output-prefix", str(folder / "masks")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    images = {path.stem: sitk.ReadImage(str(path)) for path in (folder / "masks").iterdir()}
    first = next(iter(images.values()))
    return (
        {name: sitk.GetArrayFromImage(image) > 0 for name, image in images.items()},
        (np.array(first.GetSpacing()), np.array(first.GetOrigin())),
    )


def compared(structures, ct, folder):
    """Names of the structures; asserts that both programs fill them alike."""
    volume = load_ct(ct)
    theirs, (spacing, origin) = rasterised(structures, ct, folder)
    found = read_findings(structures)
    assert {one.name for one in found} == set(theirs)
    for one in found:
        own = filled(one.what[0], volume.geometry)
        mask = theirs[one.name]
        ml = own.sum() * np.prod(volume.geometry.spacing_mm), mask.sum() * np.prod(spacing)
        assert abs(ml[0] - ml[1]) <= VOLUME * ml[1], one.name
        centre = volume.geometry.to_world(np.argwhere(own).mean(axis=0))
        other = origin + np.argwhere(mask).mean(axis=0)[::-1] * spacing
        assert np.linalg.norm(centre - other) < CENTROID_MM, one.name
    return {one.name for one in found}


@pytest.mark.slow
def test_a_planning_systems_structures(data_dir, tmp_path):
    folder = data_dir / "rtstruct"
    if not folder.is_dir():
        pytest.skip("the planning system's RTSTRUCT is not among the data")
    assert len(compared(folder / "structures.dcm", folder / "ct", tmp_path)) == 7


def test_structures_with_holes_and_two_parts(tmp_path):
    (tmp_path / "ct").mkdir()
    rng = np.random.default_rng(1)
    for k in range(10):
        hu = (np.where(np.arange(96) < 70, 45, -900) + rng.normal(0, 9, (96, 96))).astype(np.int16)
        place = [0.0, 0.0, 2.5 * k]
        over = {"ImagePositionPatient": place, "PixelSpacing": [1, 1], "StudyInstanceUID": "1.2.2",
                "SeriesInstanceUID": "1.2.3", "FrameOfReferenceUID": "1.2.4"}  # fmt: skip
        (tmp_path / "ct" / f"{k}.dcm").write_bytes(writing.ct_slice(hu, k, **over))
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)[:, None]
    circle = np.hstack([48 + 20 * np.cos(angle), 48 + 14 * np.sin(angle)])
    rois = {
        "ellipse": [("CLOSED_PLANAR", np.column_stack([circle, np.full(60, z)])) for z in (5.0, 7.5, 10.0, 12.5)],
        "two": [("CLOSED_PLANAR", square(9, z, centre)) for z in (7.5, 10.0) for centre in ((25, 25), (70, 60))],
        "ring": [("CLOSED_PLANAR", square(half, z, (48, 48))) for z in (5.0, 7.5) for half in (25, 12)],
    }
    assert compared(structure_set(tmp_path / "rt.dcm", rois), tmp_path / "ct", tmp_path) == set(rois)
