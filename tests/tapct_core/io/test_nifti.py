"""NIfTI: real files and broken copies, against nibabel's own numbers."""

from __future__ import annotations

import gzip
import logging
import struct
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from tapct_core.geometry import RAS_FROM_LPS, Geometry
from tapct_core.io import load_ct, load_labels, save_labels, scan_info
from tapct_core.io.nifti import write_scan
from tapct_core.volume import AIR_HU, CTVolume, LabelMap

RAS = np.array([[-2.0, 0.1, 0, 50], [0.1, 2.0, 0, -80], [0, 0, 5.0, 300], [0, 0, 0, 1]])
ALL_48 = [(axes, signs) for axes in permutations(range(3)) for signs in product((1, -1), repeat=3)]


def make(path, values, affine=RAS, kind=nib.Nifti1Image, qform=None, sform=1, **fields):
    image = kind(values, affine, dtype=values.dtype)
    image.set_qform(affine if qform is None else qform, code=0 if qform is None else 1)
    image.set_sform(affine, code=sform)
    for key, value in fields.items():
        image.header[key] = value
    image.to_filename(path)
    return path


def same_values_at_same_places(volume, path, tolerance=0):
    """Every voxel of ``volume`` has nibabel's value at nibabel's place, looked up through world coordinates."""
    image = nib.load(path)
    values = np.asanyarray(image.dataobj).reshape(image.shape[:3])
    index = np.stack(np.meshgrid(*[np.arange(n) for n in volume.geometry.shape], indexing="ij"), -1)
    there = volume.geometry.to_world(index) @ RAS_FROM_LPS[:3, :3]
    theirs = nib.affines.apply_affine(np.linalg.inv(image.affine), there)
    nearest = np.rint(theirs).astype(int)
    assert np.abs(theirs - nearest).max() < 1e-3
    array = volume.hu if hasattr(volume, "hu") else volume.labels
    assert np.abs(array - values[tuple(np.moveaxis(nearest, -1, 0))].astype(float)).max() <= tolerance


def test_real_cts_have_nibabels_values_and_places(data_dir):
    for path in [*(data_dir / "ct").glob("c*_ct.nii.gz"), data_dir / "ct_limbs" / "sts_024_ct.nii.gz"]:
        same_values_at_same_places(load_ct(path), path, tolerance=0.5)


def test_every_real_ct_is_taken_and_no_label_map(data_dir, refused):
    paths = sorted([*(data_dir / "ct").glob("*.nii.gz"), *(data_dir / "ct_limbs").glob("sts_02*.nii.gz")])
    for path in paths:
        if path.name.endswith("_ct.nii.gz"):
            if path.stat().st_size < 2_000_000:
                assert load_ct(path).hu.min() < -900
        else:
            refused(load_ct, path, "label map")
            same_values_at_same_places(load_labels(path), path)


@pytest.mark.parametrize(("axes", "signs"), ALL_48)
@pytest.mark.parametrize("oblique", [False, True])
def test_labels_return_to_their_file_exactly(tmp_path, small_hu, axes, signs, oblique):
    affine = RAS_FROM_LPS @ np.diag([2.0, 2.0, 5.0, 1.0])
    if oblique:
        turn = nib.eulerangles.euler2mat(0.2, -0.15, 0.3)
        affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = (12.5, -80.0, 301.0)
    permuted = np.zeros((4, 4))
    for i, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        permuted[:, i] = sign * affine[:, axis]
    permuted[:, 3] = affine[:, 3]
    values = np.transpose(small_hu, axes)
    path = make(tmp_path / "ct.nii", values, permuted, qform=permuted)
    volume = load_ct(path)
    same_values_at_same_places(volume, path)
    labels = LabelMap((volume.hu > 0).astype(np.uint8), volume.geometry, volume.source)
    save_labels(labels, tmp_path / "seg.nii.gz")
    ours, theirs = nib.load(tmp_path / "seg.nii.gz"), nib.load(path)
    assert np.array_equal(np.asanyarray(ours.dataobj), values > 0)
    for key in ("pixdim", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d", "xyzt_units", "dim"):
        assert np.array_equal(ours.header[key], theirs.header[key]), key
    assert (ours.header["qform_code"], ours.header["sform_code"]) == (1, 1)
    assert np.array_equal(load_labels(tmp_path / "seg.nii.gz").labels, labels.labels)


@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 2), (3, 4)])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_codes_units_and_both_forms_go_back_unchanged(tmp_path, small_hu, codes, kind):
    qform = np.diag([-2.0, 2.0, 5.0, 1.0])
    path = make(tmp_path / "ct.nii.gz", small_hu, kind=kind, qform=qform, xyzt_units=2 | 8)
    image = nib.load(path)
    image.header["qform_code"], image.header["sform_code"] = codes
    with gzip.open(path, "wb") as file:
        file.write(image.header.binaryblock + bytes(4) + small_hu.tobytes(order="F"))
    volume = load_ct(path)
    assert volume.source.codes == codes
    expected = RAS if codes[1] else qform if codes[0] else np.diag([2.0, 2.0, 5.0, 1.0])
    assert np.allclose(volume.source.file_affine, RAS_FROM_LPS @ expected, atol=1e-6)
    saved = save_labels(LabelMap(np.ones(volume.hu.shape, np.uint8), volume.geometry, volume.source), tmp_path / "seg")
    ours = nib.load(saved)
    assert isinstance(ours, kind)
    for key in ("qform_code", "sform_code", "xyzt_units", "pixdim", "srow_x", "quatern_b", "qoffset_x"):
        assert np.array_equal(ours.header[key], image.header[key]), key


def test_a_guessed_left_and_right_is_said(tmp_path, small_hu, caplog):
    path = make(tmp_path / "ct.nii", small_hu, sform=0)
    with caplog.at_level(logging.WARNING):
        load_ct(path)
    assert "left and right are a guess" in caplog.text


@pytest.mark.parametrize(("code", "factor"), [(1, 1e-3), (2, 1.0), (3, 1e3), (0, 1.0)])
def test_units_become_millimetres(tmp_path, small_hu, code, factor):
    affine = np.diag([factor, factor, factor, 1.0]) @ RAS
    volume = load_ct(make(tmp_path / "ct.nii", small_hu, affine, xyzt_units=code))
    assert np.allclose(volume.source.file_affine, RAS_FROM_LPS @ RAS, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", ["int16", ">i2", "int32", "float32", ">f4", "float64", "int64"])
def test_every_stored_type_gives_the_same_hu(tmp_path, small_hu, dtype):
    header = nib.Nifti1Header(endianness=">" if dtype[0] == ">" else "<")
    image = nib.Nifti1Image(small_hu.astype(dtype), RAS, header, dtype=np.dtype(dtype))
    image.to_filename(tmp_path / "ct.nii")
    volume = load_ct(tmp_path / "ct.nii")
    assert volume.hu.dtype == np.int16 and volume.hu.dtype.isnative
    same_values_at_same_places(volume, tmp_path / "ct.nii")


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, -1024.0), (0.5, -1000.0), (2.0, 3.0)])
def test_scaling_is_honoured(tmp_path, small_hu, slope, intercept):
    stored = np.rint((small_hu - intercept) / slope).astype(np.uint16 if intercept < 0 else np.int16)
    path = make(tmp_path / "ct.nii", stored)
    data = bytearray(path.read_bytes())
    data[112:120] = struct.pack("<ff", slope, intercept)
    path.write_bytes(data)
    same_values_at_same_places(load_ct(path), path, tolerance=0.5)


def test_padding_and_nan_become_air(tmp_path, small_hu):
    padded = small_hu.copy()
    padded[:5] = -3024
    assert (load_ct(make(tmp_path / "a.nii", padded)).hu == AIR_HU).sum() >= padded[:5].size
    holes = small_hu.astype(np.float32)
    holes[:5] = np.nan
    volume = load_ct(make(tmp_path / "b.nii", holes))
    assert (volume.source.orientation.undo(volume.hu)[:5] == AIR_HU).all()


def test_a_fourth_axis_of_one_is_fine_and_goes_back(tmp_path, small_hu):
    path = make(tmp_path / "ct.nii", small_hu[..., None])
    volume = load_ct(path)
    saved = save_labels(
        LabelMap(np.ones(volume.hu.shape, np.uint8), volume.geometry, volume.source), tmp_path / "s.nii"
    )
    assert nib.load(saved).shape == nib.load(path).shape == (*small_hu.shape, 1)


def test_the_name_does_not_matter(tmp_path, small_hu):
    for name, made in (("scan.dcm", "a.nii"), ("scan", "b.nii.gz"), ("scan.nii", "c.nii.gz"), ("scan.nii.gz", "d.nii")):
        make(tmp_path / made, small_hu).rename(tmp_path / name)
        assert scan_info(tmp_path / name)["kind"] == "nifti"


def test_info_says_what_a_person_asks(tmp_path, small_hu):
    info = scan_info(make(tmp_path / "ct.nii", small_hu, np.diag([-2.0, -2.0, 5.0, 1.0])))
    assert info["shape"] == [20, 30, 40] and info["spacing_mm"] == [5.0, 2.0, 2.0] and info["orientation"] == "LPS"
    assert info["hu_range"] == [small_hu.min(), small_hu.max()]


SHEARED = np.array([[-2.0, 0, 0, 0], [0, 2.0, 0.9, 0], [0, 0, 5.0, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda hu: (np.stack([hu, hu], -1), RAS), "4D"),
        (lambda hu: (hu[..., 0], RAS), "2D image"),
        (lambda hu: (np.full(hu.shape, np.nan, np.float32), RAS), "all NaN"),
        (lambda hu: (hu.astype(np.complex64), RAS), "complex"),
        (lambda hu: (np.zeros(hu.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")]), RAS), "colour"),
        (lambda hu: (hu, np.diag([2.0, 2.0, 0.0, 1.0])), "singular"),
        (lambda hu: (hu, np.diag([2.0, np.nan, 5.0, 1.0])), "finite"),
        (lambda hu: (hu, SHEARED), "tilted gantry"),
        (lambda hu: (hu, np.diag([2e4, 2e4, 5e4, 1.0])), "mm .* cannot be right"),
        (lambda hu: ((hu + 1024).clip(0).astype(np.int16), RAS), "rescale intercept"),
        (lambda hu: (((hu + 1024) / 4096).astype(np.float32), RAS), "normalising"),
        (lambda hu: (((hu > 0) * 7).astype(np.uint8), RAS), "label map"),
        (lambda hu: (np.zeros(hu.shape, np.int16), RAS), "every voxel is 0"),
    ],
    ids=[
        "4d",
        "2d",
        "nan",
        "complex",
        "rgb",
        "singular",
        "nan_affine",
        "shear",
        "huge_voxels",
        "unscaled",
        "normalised",
        "labels",
        "constant",
    ],
)
def test_refusals_say_why(tmp_path, small_hu, refused, change, words):
    values, affine = change(small_hu)
    image = nib.Nifti1Image(values, RAS, dtype=values.dtype)
    for row, key in enumerate(("srow_x", "srow_y", "srow_z")):
        image.header[key] = affine[row]
    content = image.header.binaryblock[:252] + struct.pack("<hh", 0, 1) + image.header.binaryblock[256:]
    (tmp_path / "x.nii").write_bytes(content + bytes(4) + values.tobytes(order="F"))
    refused(load_ct, tmp_path / "x.nii", words)


def test_an_mr_is_refused_and_a_crop_of_an_organ_is_not(tmp_path, small_hu, refused):
    rng = np.random.default_rng(0)
    mr = np.abs(rng.normal(0, 5, small_hu.shape) + 700 * (small_hu > -50)).astype(np.int16)
    refused(load_ct, make(tmp_path / "mr.nii", mr), "MR")
    liver = rng.normal(110, 15, small_hu.shape).clip(1).astype(np.int16)
    assert load_ct(make(tmp_path / "liver.nii", liver)).hu.min() >= 0


def test_labels_must_be_labels(tmp_path, small_hu, refused):
    refused(load_labels, make(tmp_path / "ct.nii", small_hu), "no label map")
    refused(load_labels, make(tmp_path / "half.nii", np.full(small_hu.shape, 0.5, np.float32)), "fractional")
    refused(load_labels, make(tmp_path / "nan.nii", np.full(small_hu.shape, np.nan, np.float32)), "no label map")
    whole = (small_hu > 0).astype(np.float32) * 300
    assert load_labels(make(tmp_path / "whole.nii", whole)).labels.dtype == np.uint16


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_truncated_at_ten_places(tmp_path, small_hu, refused, suffix):
    whole = make(tmp_path / f"ct{suffix}", small_hu).read_bytes()
    cuts = [0, 1, 10, 100, 347, 352, len(whole) // 3, len(whole) // 2, len(whole) - 9, len(whole) - 1]
    for cut in cuts:
        (tmp_path / "cut").write_bytes(whole[:cut])
        refused(load_ct, tmp_path / "cut", "empty" if cut == 0 else "truncated|damaged|not a format")


@pytest.mark.parametrize("packed", [False, True])
def test_any_flipped_header_byte_ends_in_a_volume_or_a_line(tmp_path, small_hu, right_or_refused, packed, caplog):
    whole = make(tmp_path / "ct.nii", small_hu, qform=np.diag([-2.0, 2.0, 5.0, 1.0])).read_bytes()
    volumes = 0
    for at in range(0, 352, 3 if packed else 1):
        for mask in (0x01, 0xFF):
            broken = bytearray(whole)
            broken[at] ^= mask
            path = tmp_path / "flipped"
            path.write_bytes(gzip.compress(broken, 1) if packed else broken)
            volume = right_or_refused(load_ct, path)
            volumes += volume is not None
            if volume is not None and volume.geometry.shape == small_hu.shape[::-1] and not 70 <= at < 120:
                assert set(np.unique(volume.hu)) == set(np.unique(small_hu))
    assert volumes > 20  # descriptions and times may be anything


def test_a_flipped_byte_in_the_compressed_data_is_noticed(tmp_path, small_hu, refused):
    whole = make(tmp_path / "ct.nii.gz", small_hu).read_bytes()
    for at in np.linspace(12, len(whole) - 5, 10).astype(int):
        broken = bytearray(whole)
        broken[at] ^= 0x10
        (tmp_path / "flipped").write_bytes(broken)
        refused(load_ct, tmp_path / "flipped", "damaged|truncated|not a format")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "dims", [(32767, 32767, 32767), (4000, 3000, 2000), (40, 30, 21), (40, 30, 19), (40, 30, 0), (-40, 30, 20)]
)
def test_wrong_dims_allocate_nothing(tmp_path, small_hu, refused, packed, dims):
    data = bytearray(make(tmp_path / "ct.nii", small_hu).read_bytes())
    data[42:48] = struct.pack("<3h", *dims)
    path = tmp_path / "wrong"
    path.write_bytes(gzip.compress(data) if packed else data)
    refused(load_ct, path, "truncated|more data|no valid size")


def test_a_bomb_is_not_unpacked(tmp_path, small_hu, refused):
    data = make(tmp_path / "ct.nii", small_hu).read_bytes() + bytes(300 << 20)
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(data, 1))
    del data
    refused(load_ct, path, "more data", limit=8 << 20)


def test_gzip_in_several_members_is_read(tmp_path, small_hu):
    data = make(tmp_path / "ct.nii", small_hu).read_bytes()
    path = tmp_path / "members.nii.gz"
    path.write_bytes(b"".join(gzip.compress(data[at : at + 10000]) for at in range(0, len(data), 10000)))
    assert np.array_equal(load_ct(path).hu, load_ct(tmp_path / "ct.nii").hu)


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04" + bytes(500), b"hello\n" * 100, bytes(1000), b"\x1f\x8b" + bytes(100)]
)
def test_other_files_are_named_as_such(tmp_path, refused, content):
    (tmp_path / "scan.nii").write_bytes(content)
    refused(load_ct, tmp_path / "scan.nii", "not a format|damaged")
    refused(load_labels, tmp_path / "scan.nii", "not a format|damaged")


def test_a_missing_file_is_named(tmp_path, refused):
    refused(load_ct, tmp_path / "nowhere.nii", "does not exist")


def test_free_text_of_a_header_goes_nowhere(tmp_path, small_hu, caplog):
    path = make(tmp_path / "ct.nii", small_hu, sform=0, descrip=b"DOE^JANE", aux_file=b"DOE^JANE", db_name=b"DOE^JANE")
    with caplog.at_level(logging.DEBUG):
        volume = load_ct(path)
        info = scan_info(path)
    saved = save_labels(
        LabelMap(np.ones(volume.hu.shape, np.uint8), volume.geometry, volume.source), tmp_path / "s.nii"
    )
    assert b"DOE" not in saved.read_bytes() and "DOE" not in caplog.text + str(info)


@pytest.mark.parametrize("angles", [(0, 0, 0), (7, -11, 13)])
def test_a_scan_that_is_written_reads_back_on_the_same_grid(tmp_path, small_hu, angles):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag([2.5, 0.75, 0.5])[::-1]
    affine[:3, 3] = (30, -20, 7)
    made = CTVolume(np.ascontiguousarray(small_hu.T), Geometry(small_hu.T.shape, affine))
    again = load_ct(write_scan(made, tmp_path / "x" / "scan.nii.gz"))
    np.testing.assert_array_equal(again.hu, made.hu)
    np.testing.assert_allclose(again.geometry.affine, made.geometry.affine, atol=1e-5)


@pytest.mark.parametrize("qfac", [1, -1, 0, 3, -0.5])
@pytest.mark.parametrize(
    "quaternion", [(0.7071073, 0.7071073, 0), (1.0000001, 0, 0), (0.57735032, 0.57735032, 0.57735032), (0.1, 0.2, 0.3)]
)
def test_a_quaternion_a_hair_too_long_is_read_as_itk_reads_it(tmp_path, small_hu, quaternion, qfac):
    header = nib.Nifti1Header()
    header.set_data_shape(small_hu.shape)
    header.set_data_dtype(np.int16)
    header["pixdim"][:4] = qfac, 1.5, 1.25, 2.5
    header["qform_code"], header["vox_offset"], header["xyzt_units"] = 1, 352, 2
    header["quatern_b"], header["quatern_c"], header["quatern_d"] = quaternion
    header["qoffset_x"], header["qoffset_y"], header["qoffset_z"] = 30, 20, -90
    path = tmp_path / "q.nii"
    path.write_bytes(header.binaryblock + bytes(4) + small_hu.tobytes(order="F"))
    affine, image = load_ct(path).source.file_affine, sitk.ReadImage(str(path))
    theirs = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    assert np.allclose(affine[:3, :3], theirs, atol=1e-4) and np.allclose(affine[:3, 3], image.GetOrigin(), atol=1e-4)


@pytest.mark.parametrize("broken", [{"quatern_b": 5.0}, {"quatern_c": np.nan}, {"pixdim": [1, -1.5, 1, 1]}])
def test_a_qform_that_is_none_is_refused(tmp_path, small_hu, refused, broken):
    header = nib.Nifti1Header()
    header.set_data_shape(small_hu.shape)
    header.set_data_dtype(np.int16)
    header["pixdim"][:4] = 1, 1.5, 1.25, 2.5
    header["qform_code"], header["vox_offset"] = 1, 352
    for key, value in broken.items():
        if key == "pixdim":
            header[key][:4] = value
        else:
            header[key] = value
    (tmp_path / "q.nii").write_bytes(header.binaryblock + bytes(4) + small_hu.tobytes(order="F"))
    refused(load_ct, tmp_path / "q.nii", "not a valid rotation")


@pytest.mark.parametrize("tail", [b"\r\n--boundary--\r\n", b"\n", b"\0" * 512, b"PK\x03\x04 rest"])
def test_bytes_behind_the_gzip_stream_are_ignored_and_said(tmp_path, small_hu, tail, caplog):
    path = make(tmp_path / "t.nii.gz", small_hu)
    expected = load_ct(path).content_hash
    path.write_bytes(path.read_bytes() + tail)
    assert load_ct(path).content_hash == expected
    assert ("ignored" in caplog.text) == bool(tail.strip(b"\0"))


def test_a_second_member_that_is_damaged_is_no_tail(tmp_path, small_hu, refused):
    whole = make(tmp_path / "t.nii", small_hu).read_bytes()
    half = len(whole) // 2
    first, second = gzip.compress(whole[:half]), bytearray(gzip.compress(whole[half:]))
    (tmp_path / "t.nii.gz").write_bytes(first + bytes(second))
    assert load_ct(tmp_path / "t.nii.gz").hu.shape == small_hu.shape[::-1]
    second[40] ^= 0xFF
    (tmp_path / "t.nii.gz").write_bytes(first + bytes(second))
    refused(load_ct, tmp_path / "t.nii.gz", "damaged|truncated")


@pytest.mark.parametrize("kind", ["plain", "intercept", "padding"])
def test_a_scan_is_made_into_hu_where_it_lies(tmp_path, kind):
    """What loading holds at most, beside the scan: buffers of a few megabytes, and no second scan."""
    import tracemalloc

    from tapct_core.samples import load_sample

    hu = np.tile(load_sample("abdomen_pelvis")["ct"].hu, (3, 3, 3))[:128, :256, :256]
    stored = {"plain": hu, "intercept": (hu + 1024).astype(np.uint16), "padding": np.where(hu < -1000, -2000, hu)}[kind]
    image = nib.Nifti1Image(np.ascontiguousarray(stored.T), np.diag([-1, -1, 2, 1.0]))
    image.header.set_slope_inter(1, -1024 if kind == "intercept" else 0)
    nib.save(image, tmp_path / "scan.nii")
    tracemalloc.start()
    try:
        found = load_ct(tmp_path / "scan.nii").hu
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    expected = np.where(hu < -1000, AIR_HU, hu) if kind == "padding" else np.maximum(hu, AIR_HU)
    np.testing.assert_array_equal(found, expected)
    assert peak < 1.8 * found.nbytes
