"""NRRD and MetaImage: against SimpleITK's own places and values, and broken copies."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from tapct_core.geometry import RAS_FROM_LPS
from tapct_core.io import load_ct, load_labels, save_labels
from tapct_core.volume import LabelMap

FORMATS = [
    ("ct.nrrd", True),
    ("ct.nrrd", False),
    ("ct.mha", True),
    ("ct.mha", False),
    ("ct.mhd", False),
    ("ct.nhdr", False),
]
TURN = nib.eulerangles.euler2mat(0.2, -0.1, 1.4)


def make(path, values, direction=TURN, compressed=False, metadata=None):
    """Write (x, y, z) values with SimpleITK."""
    image = sitk.GetImageFromArray(values.T, isVector=False)
    image.SetSpacing([0.7, 0.9, 2.5, 1.0][: values.ndim])
    if values.ndim == 3:
        image.SetOrigin([-120.0, 33.5, 700.25])
        image.SetDirection(np.asarray(direction).ravel().tolist())
    for key, value in (metadata or {}).items():
        image.SetMetaData(key, value)
    sitk.WriteImage(image, str(path), useCompression=compressed)
    return path


@pytest.mark.parametrize(("name", "compressed"), FORMATS)
def test_values_and_places_are_itks(tmp_path, small_hu, name, compressed):
    path = make(tmp_path / name, small_hu, compressed=compressed)
    volume = load_ct(path)
    image = sitk.ReadImage(str(path))
    for index in np.random.default_rng(0).integers(0, volume.geometry.shape, (100, 3)):
        x, y, z = image.TransformPhysicalPointToIndex(volume.geometry.to_world(index).tolist())
        assert image[x, y, z] == volume.hu[tuple(index)]
        assert np.allclose(image.TransformIndexToPhysicalPoint((x, y, z)), volume.geometry.to_world(index), atol=1e-6)
    assert volume.source.kind == ("nrrd" if "rrd" in name or "hdr" in name else "metaimage")


@pytest.mark.parametrize("space", ["right-anterior-superior", "left-posterior-superior", "left-anterior-superior"])
def test_nrrd_spaces_become_lps(tmp_path, small_hu, space):
    path = tmp_path / "ct.nrrd"
    signs = {"right": -1, "anterior": -1, "left": 1, "posterior": 1}
    to_lps = np.diag([*(signs[word] for word in space.split("-")[:2]), 1])
    header = (
        f"NRRD0004\ntype: short\ndimension: 3\nspace: {space}\nsizes: 40 30 20\n"
        "space directions: (2,0,0) (0,3,0) (0,0,4)\nendian: little\nencoding: raw\n"
        "space origin: (10,20,30)\n\n"
    )
    path.write_bytes(header.encode() + small_hu.tobytes(order="F"))
    volume = load_ct(path)
    assert np.allclose(volume.source.file_affine[:3, 3], to_lps @ [10, 20, 30])
    assert np.allclose(volume.source.file_affine[:3, :3], to_lps @ np.diag([2, 3, 4]))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("source", ["ct.nrrd", "ct.mha", "ct.nii"])
def test_labels_go_from_any_format_to_any(tmp_path, small_hu, source, suffix):
    volume = load_ct(make(tmp_path / source, small_hu, np.array([[0, 0, 1], [-1, 0, 0], [0, 1, 0]])))
    values = np.where(volume.hu > 100, 300, 0).astype(np.uint16)
    labels = LabelMap(values, volume.geometry, volume.source, {300: "bone, dense: α"}, {300: (255, 128, 0)})
    saved = save_labels(labels, tmp_path / f"seg{suffix}")
    again = load_labels(saved)
    assert again.labels.dtype == np.uint16 and np.array_equal(again.labels, values)
    assert again.geometry.matches(volume.geometry, 1e-4)
    assert again.source.file_shape == volume.source.file_shape
    assert again.names == {300: "bone, dense: α"} and again.colours == {300: (255, 128, 0)}
    theirs = sitk.ReadImage(str(saved))
    affine = np.array(theirs.GetDirection()).reshape(3, 3) * theirs.GetSpacing()
    assert np.allclose(affine, volume.source.file_affine[:3, :3], atol=1e-4)
    assert np.allclose(theirs.GetOrigin(), volume.source.file_affine[:3, 3], atol=1e-3)


@pytest.mark.parametrize(("name", "compressed"), FORMATS[:4])
def test_truncated_at_ten_places(tmp_path, small_hu, refused, name, compressed):
    whole = make(tmp_path / name, small_hu, compressed=compressed).read_bytes()
    for cut in [0, 3, 20, 100, 200, 300, len(whole) // 3, len(whole) // 2, len(whole) - 500, len(whole) - 1]:
        (tmp_path / "cut").write_bytes(whole[:cut])
        refused(load_ct, tmp_path / "cut")


@pytest.mark.parametrize(("name", "compressed"), FORMATS[:4])
def test_flipped_header_bytes_end_in_a_volume_or_a_line(tmp_path, small_hu, right_or_refused, name, compressed):
    whole = make(tmp_path / name, small_hu, compressed=compressed).read_bytes()
    end = whole.index(b"\n\n") if name.endswith("nrrd") else whole.index(b"LOCAL\n")
    for at in range(0, end, 2):
        broken = bytearray(whole)
        broken[at] ^= 0x01 if at % 4 else 0x81
        (tmp_path / "flipped").write_bytes(broken)
        right_or_refused(load_ct, tmp_path / "flipped")


@pytest.mark.parametrize(("name", "compressed"), FORMATS[:4])
@pytest.mark.parametrize("dims", ["99999 99999 99999", "40 30 21", "0 30 20", "-40 30 20", "40 30", "1 2 x"])
def test_wrong_dims_allocate_nothing(tmp_path, small_hu, refused, name, compressed, dims):
    path = make(tmp_path / name, small_hu, compressed=compressed)
    path.write_bytes(path.read_bytes().replace(b"40 30 20", dims.encode()))
    refused(load_ct, path)


def test_refusals_say_why(tmp_path, small_hu, refused):
    refused(load_ct, make(tmp_path / "rgb.nrrd", np.stack([small_hu] * 2, -1)), "4D")
    vectors = sitk.GetImageFromArray(np.stack([small_hu.T] * 3, -1), isVector=True)
    sitk.WriteImage(vectors, str(tmp_path / "vector.mha"))
    refused(load_ct, tmp_path / "vector.mha", "3 values a voxel")
    refused(load_ct, make(tmp_path / "nan.mha", np.full(small_hu.shape, np.nan, np.float32)), "all NaN")
    refused(load_ct, make(tmp_path / "labels.nrrd", (small_hu > 0).astype(np.uint8)), "label map")
    make(tmp_path / "mr.mha", small_hu)
    text = (tmp_path / "mr.mha").read_bytes()
    (tmp_path / "mr.mha").write_bytes(text.replace(b"ElementSpacing", b"Modality = MET_MOD_MR\nElementSpacing"))
    refused(load_ct, tmp_path / "mr.mha", "modality MR")
    (tmp_path / "bare.mha").write_bytes(text.replace(b"ElementSpacing", b"Unspoken"))
    refused(load_ct, tmp_path / "bare.mha", "how large its voxels are")
    make(tmp_path / "lonely.mhd", small_hu)
    (tmp_path / "lonely.raw").unlink()
    refused(load_ct, tmp_path / "lonely.mhd", "needs its data file")


def test_a_sheared_nrrd_is_refused(tmp_path, small_hu, refused):
    path = tmp_path / "ct.nrrd"
    header = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 40 30 20\n"
        "space directions: (2,0,0) (0,3,0) (0,1,4)\nendian: little\nencoding: raw\nspace origin: (0,0,0)\n\n"
    )
    path.write_bytes(header.encode() + small_hu.tobytes(order="F"))
    refused(load_ct, path, "right angles|damaged")


def test_the_name_does_not_matter(tmp_path, small_hu):
    for made, name in (("a.nrrd", "scan.mha"), ("b.mha", "scan.nrrd"), ("c.mha", "scan.dcm")):
        make(tmp_path / made, small_hu).rename(tmp_path / name)
        assert load_ct(tmp_path / name).hu.shape == load_ct(tmp_path / name).geometry.shape


def test_slicers_own_segment_keys_are_read(tmp_path, small_hu):
    keys = {"Segment0_LabelValue": "3", "Segment0_Name": "spleen", "Segment0_Color": "0.5 1 0", "Segment0_Layer": "0"}
    labels = load_labels(make(tmp_path / "a.seg.nrrd", (small_hu > 0).astype(np.uint8) * 3, metadata=keys))
    assert labels.names == {3: "spleen"} and labels.colours == {3: (128, 255, 0)}


def test_nifti_and_nrrd_of_one_scan_are_one_volume(tmp_path, small_hu):
    affine = np.diag([0.75, 0.5, 2.5, 1.0])
    affine[:3, 3] = (-8, 16, 32)
    nib.Nifti1Image(small_hu, RAS_FROM_LPS @ affine).to_filename(tmp_path / "a.nii")
    image = sitk.ReadImage(str(tmp_path / "a.nii"))
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    assert load_ct(tmp_path / "a.nii").content_hash == load_ct(tmp_path / "a.nrrd").content_hash
