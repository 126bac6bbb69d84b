"""RTSTRUCT contours: a planning system's, by volume and centroid; holes, XOR and keyholes, exactly."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from tapct_core.geometry import Geometry
from tapct_core.imports import read_findings
from tapct_core.imports.regions import even_odd, filled
from tapct_core.io import load_ct

CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
GRID = Geometry.from_spacing((6, 40, 40), (2.5, 1.0, 1.0))


def square(half, z, centre=(20.0, 20.0)):
    """Corners of a square (4, 3) LPS mm, a tenth of a voxel off its grid so that no edge runs through a centre."""
    x, y = centre
    corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * (half + 0.1)
    return corners + (x, y, z)


def structure_set(path, rois, series="1.2.3", frame="1.2.4"):
    """Write ``rois``: name -> [(geometric type, points (n, 3))]."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = CLASS
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = "1.2.9"
    made.Modality = "RTSTRUCT"
    referred, study, one = Dataset(), Dataset(), Dataset()
    one.SeriesInstanceUID, study.RTReferencedSeriesSequence = series, [one]
    referred.FrameOfReferenceUID, referred.RTReferencedStudySequence = frame, [study]
    made.ReferencedFrameOfReferenceSequence = [referred]
    made.StructureSetROISequence, made.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(rois.items(), start=1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber = drawn.ReferencedROINumber = number
        roi.ROIName, roi.ReferencedFrameOfReferenceUID = name, frame
        drawn.ContourSequence = []
        for kind, points in contours:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = kind, len(points)
            contour.ContourData = [f"{c:.4f}" for c in np.ravel(points)]
            drawn.ContourSequence.append(contour)
        made.StructureSetROISequence.append(roi)
        made.ROIContourSequence.append(drawn)
    made.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
def test_a_contour_within_a_contour_is_a_hole_and_one_in_the_hole_is_not(tmp_path, kind):
    contours = [(kind, square(half, z)) for z in (2.5, 5.0) for half in (12, 7, 3)]
    (found,) = read_findings(structure_set(tmp_path / "rt.dcm", {"ring": contours}))
    y, x = np.mgrid[:40, :40]
    away = np.maximum(abs(y - 20), abs(x - 20))
    expected = np.zeros(GRID.shape, bool)
    expected[1:3] = (away <= 12) & ~((away <= 7) & ~(away <= 3))
    assert np.array_equal(filled(found.what[0], GRID), expected)
    assert found.series_uids == {"1.2.3"} and found.frame_uid == "1.2.4" and found.name == "ring"


def test_a_keyhole_is_a_hole(tmp_path):
    outer, inner = square(12, 5.0), square(5, 5.0)[::-1]
    keyhole = np.concatenate([outer, outer[:1], inner, inner[:1]])
    (found,) = read_findings(structure_set(tmp_path / "rt.dcm", {"key": [("CLOSED_PLANAR", keyhole)]}))
    mask = filled(found.what[0], GRID)[2]
    assert mask[20, 9] and not mask[20, 20] and mask.sum() == 25**2 - 11**2


def test_planes_further_apart_than_slices_fill_what_lies_between(tmp_path):
    contours = [("CLOSED_PLANAR", square(5, z)) for z in (0.0, 5.0, 10.0)]
    (found,) = read_findings(structure_set(tmp_path / "rt.dcm", {"thick": contours}))
    assert filled(found.what[0], GRID).any(axis=(1, 2)).tolist() == [True] * 5 + [True]


def test_points_are_points_and_open_lines_nothing(tmp_path):
    rois = {
        "isocentre": [("POINT", np.array([[1.0, 2, 3]]))],
        "line": [("OPEN_PLANAR", square(3, 5.0))],
        "lesion": [("CLOSED_PLANAR", square(3, 5.0))],
    }
    found = read_findings(structure_set(tmp_path / "rt.dcm", rois))
    assert [one.name for one in found] == ["isocentre", "lesion"]
    assert np.allclose(found[0].what[0].points, [[1, 2, 3]])


def test_even_odd_agrees_with_counting_crossings():
    rng = np.random.default_rng(0)
    for _ in range(20):
        polygons = [rng.uniform(-3, 23, (rng.integers(3, 9), 2)) for _ in range(2)]
        expected = np.zeros((20, 22), bool)
        for row, column in np.ndindex(20, 22):
            crossings = 0
            for points in polygons:
                for (r0, c0), (r1, c1) in zip(points, np.roll(points, -1, axis=0), strict=True):
                    if (r0 <= row) != (r1 <= row):
                        crossings += c0 + (row - r0) * (c1 - c0) / (r1 - r0) <= column
            expected[row, column] = crossings % 2
        assert np.array_equal(even_odd(polygons, (20, 22)), expected)


def test_a_planning_systems_structures_have_its_volumes_and_centroids(data_dir):
    folder = data_dir / "rtstruct"
    if not folder.is_dir():
        pytest.skip("the planning system's RTSTRUCT is not among the data")
    volume = load_ct(folder / "ct")
    with open(folder / "structures.csv", newline="") as file:
        known = {row["name"]: row for row in csv.DictReader(file)}
    found = {one.name: one for one in read_findings(folder / "structures.dcm")}
    assert set(known) <= set(found)
    for name, row in known.items():
        mask = filled(found[name].what[0], volume.geometry)
        millilitres = mask.sum() * np.prod(volume.geometry.spacing_mm) / 1000
        centroid = volume.geometry.to_world(np.argwhere(mask)).mean(axis=0)
        assert millilitres == pytest.approx(float(row["volume_ml"]), rel=0.02), name
        assert np.linalg.norm(centroid - [float(row[axis]) for axis in "xyz"]) < 0.5, name
        assert found[name].series_uids == {volume.source.dicom.series_instance_uid}
