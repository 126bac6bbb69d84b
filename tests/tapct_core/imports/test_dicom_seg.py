"""SEG of other programs, voxel for voxel against masks that their own tools wrote; and every kind, made here."""

from __future__ import annotations

import highdicom as hd
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.sr.codedict import codes

from tapct_core.geometry import Geometry
from tapct_core.imports import read_findings
from tapct_core.imports.regions import resampled
from tapct_core.io import load_ct
from tests.tapct_core.io import writing


@pytest.fixture
def dcmqi(data_dir):
    if not (data_dir / "dcmqi").is_dir():
        pytest.skip("the SEG objects of dcmqi are not among the data")
    return data_dir / "dcmqi"


def reference(path):
    """Labels (z, y, x) and their Geometry, read by SimpleITK."""
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = (np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing())[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image), Geometry(image.GetSize()[::-1], affine)


@pytest.mark.parametrize(
    ("seg", "masks"),
    [
        ("liver.dcm", {"Liver": ("liver_seg.nrrd", 1)}),
        (
            "partial_overlaps.dcm",
            {
                "GREEN": ("partial_overlaps-1.nrrd", 1),
                "ORANGE": ("partial_overlaps-2.nrrd", 2),
                "PURPLE": ("partial_overlaps-3.nrrd", 3),
                "LIGHT_BLUE": ("partial_overlaps-1.nrrd", 4),
                "DARK_BLUE": ("partial_overlaps-1.nrrd", 5),
            },
        ),
        ("sparse-labelmap-noppv.dcm", {"Liver": ("sparse_labelmap_noppv_seg.nrrd", 1)}),
        ("sparse-labelmap-ppv5.dcm", {"Liver": ("sparse_labelmap_ppv5_seg.nrrd", 1)}),
    ],
)
def test_other_programs_segments_are_equal_voxel_for_voxel(dcmqi, seg, masks):
    found = {one.name: one for one in read_findings(dcmqi / seg)}
    assert set(found) == set(masks)
    for name, (file, value) in masks.items():
        labels, grid = reference(dcmqi / file)
        assert np.array_equal(resampled(found[name].what[0], grid), labels == value), name


@pytest.fixture
def series(tmp_path):
    """Six slices of a made-up CT as data sets, and the volume."""
    rng = np.random.default_rng(0)
    (tmp_path / "ct").mkdir()
    for k in range(6):
        hu = (np.where(rng.random((20, 24)) < 0.5, 40, -900) + rng.normal(0, 9, (20, 24))).astype(np.int16)
        (tmp_path / "ct" / f"{k}.dcm").write_bytes(writing.ct_slice(hu, k, PatientID="T1", StudyTime="", StudyID="",
            AccessionNumber="", PatientBirthDate="", PatientSex="", ReferringPhysicianName="",
            PositionReferenceIndicator=""))  # fmt: skip
    return [dcmread(tmp_path / "ct" / f"{k}.dcm") for k in range(6)], load_ct(tmp_path / "ct")


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_each_kind_made_by_highdicom_comes_back(series, tmp_path, kind):
    images, volume = series
    masks = np.zeros((6, 20, 24, 2), np.uint8)
    masks[1:3, 3:9, 4:10, 0] = 1
    masks[2:5, 7 if kind != "LABELMAP" else 12 : 16, 8:20, 1] = 1  # a label map's segments cannot overlap
    describe = [
        hd.seg.SegmentDescription(
            number,
            f"node {number}",
            codes.SCT.MorphologicallyAbnormalStructure,
            codes.SCT.Lesion,
            hd.seg.SegmentAlgorithmTypeValues.MANUAL,
            tracking_uid=f"1.2.3.{number}",
            tracking_id=f"node {number}",
        )
        for number in (1, 2)
    ]
    pixels = masks if kind == "BINARY" else masks * 0.6 if kind == "FRACTIONAL" else masks
    if kind == "FRACTIONAL":
        pixels[..., 0] += 0.3 * (masks[..., 0] == 0)
    seg = hd.seg.Segmentation(
        images, pixels, kind, describe, "1.2.3.4", 2, "1.2.3.5", 1, "m", "n", "1", "0", omit_empty_frames=True
    )
    seg.save_as(tmp_path / "seg.dcm")
    found = read_findings(tmp_path / "seg.dcm")
    assert [one.uid for one in found] == ["1.2.3.1", "1.2.3.2"]
    for number, one in enumerate(found):
        mask = resampled(one.what[0], volume.geometry)
        assert np.array_equal(volume.source.orientation.undo(mask).T, masks[..., number] > 0)
        assert one.series_uids == {volume.source.dicom.series_instance_uid}
        assert one.frame_uid == volume.source.dicom.frame_of_reference_uid


def test_a_segment_in_parts_without_a_tracking_uid_is_several_lesions(series, tmp_path):
    images, _ = series
    mask = np.zeros((6, 20, 24), np.uint8)
    mask[1:4, 2:8, 2:8] = mask[1:4, 12:18, 12:20] = 1
    mask[5, 0, 23] = 1  # a crumb
    describe = hd.seg.SegmentDescription(
        1, "metastases", codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Lesion,
        hd.seg.SegmentAlgorithmTypeValues.MANUAL)  # fmt: skip
    seg = hd.seg.Segmentation(images, mask, "BINARY", [describe], "1.2.3.4", 2, "1.2.3.5", 1, "m", "n", "1", "0")
    seg.save_as(tmp_path / "seg.dcm")
    first, again = read_findings(tmp_path / "seg.dcm"), read_findings(tmp_path / "seg.dcm")
    assert [one.name for one in first] == ["metastases 1", "metastases 2"]
    assert [one.uid for one in first] == [one.uid for one in again] and first[0].uid != first[1].uid
    assert sum(int(one.what[0].mask.sum()) for one in first) == int(mask.sum())


def test_a_sop_class_lost_in_the_data_set_is_in_the_meta_header(dcmqi, tmp_path):
    dataset = dcmread(dcmqi / "liver.dcm")
    del dataset.SOPClassUID
    dataset.save_as(tmp_path / "seg.dcm")
    assert [one.name for one in read_findings(tmp_path / "seg.dcm")] == ["Liver"]
