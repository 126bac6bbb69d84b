"""Header fields of NRRD and MetaImage that decide where values are and what they mean: used as ITK does, or refused."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from tapct_core.io import load_ct, load_labels


@pytest.fixture
def hu(small_hu):
    return np.ascontiguousarray(small_hu.T)


def nrrd(path, hu, lines):
    attached = "data file" not in lines
    head = f"NRRD0004\ntype: short\ndimension: 3\nsizes: 40 30 20\n{lines}endian: little\nencoding: raw\n"
    path.write_bytes(head.encode() + (b"\n" + hu.tobytes() if attached else b""))
    return path


def mhd(path, name, lines=""):
    path.write_text(
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 40 30 20\nElementSpacing = 1.5 1.2 2.5\n"
        f"{lines}ElementType = MET_SHORT\nElementDataFile = {name}\n"
    )
    return path


def same_place_as_itk(path):
    image, affine = sitk.ReadImage(str(path)), load_ct(path).source.file_affine
    theirs = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    assert np.allclose(affine[:3, :3], theirs) and np.allclose(affine[:3, 3], image.GetOrigin())


@pytest.mark.parametrize("name", ["raw/ct.raw", "./ct.raw", "a/b/ct 1.raw"])
@pytest.mark.parametrize("kind", ["mhd", "nhdr"])
def test_the_file_named_is_the_file_read(tmp_path, hu, name, kind):
    target = tmp_path / name
    target.parent.mkdir(parents=True, exist_ok=True)
    hu.tofile(target)
    other = tmp_path / target.name
    if not other.exists():
        (hu + 1).tofile(other)  # another scan's file, which happens to lie beside the header
    path = tmp_path / f"p07.{kind}"
    mhd(path, name) if kind == "mhd" else nrrd(path, hu, f"spacings: 1.5 1.2 2.5\ndata file: {name}\n")
    assert np.array_equal(load_ct(path).hu, hu)
    same_place_as_itk(path)


def test_backslashes_of_windows_are_folders(tmp_path, hu):
    (tmp_path / "raw").mkdir()
    hu.tofile(tmp_path / "raw" / "ct.raw")
    assert np.array_equal(load_ct(mhd(tmp_path / "a.mhd", "raw\\ct.raw")).hu, hu)


@pytest.mark.parametrize("name", ["../ct.raw", "/etc/ct.raw", "C:\\data\\ct.raw", "a/../../ct.raw", "..\\ct.raw"])
def test_a_file_outside_the_folder_is_refused_even_if_one_of_its_name_lies_beside(tmp_path, hu, refused, name):
    (tmp_path / "in" / "a").mkdir(parents=True)
    hu.tofile(tmp_path / "ct.raw")
    hu.tofile(tmp_path / "in" / "ct.raw")
    refused(load_ct, mhd(tmp_path / "in" / "x.mhd", name), "outside its own folder")
    refused(load_ct, nrrd(tmp_path / "in" / "x.nhdr", hu, f"spacings: 1 1 1\ndata file: {name}\n"), "outside its own")


def test_a_full_path_into_the_own_folder_is_read(tmp_path, hu):
    (tmp_path / "raw").mkdir()
    hu.tofile(tmp_path / "raw" / "ct.raw")
    name = tmp_path / "raw" / "ct.raw"
    assert np.array_equal(load_ct(mhd(tmp_path / "a.mhd", name)).hu, hu)
    assert np.array_equal(load_ct(nrrd(tmp_path / "a.nhdr", hu, f"spacings: 1 1 1\ndata file: {name}\n")).hu, hu)


def test_a_missing_file_is_named(tmp_path, refused):
    assert "raw/ct.raw" in refused(load_ct, mhd(tmp_path / "x.mhd", "raw/ct.raw"), "needs its data file")


@pytest.mark.parametrize(
    "lines",
    [
        "spacings: 1.5 1.2 2.5\n",
        "spacings: 1.5 1.2 2.5\naxis mins: 10 20 30\n",
        "spacings: 1.5 1.2 2.5\naxis mins: 10 20 30\ncenterings: cell cell cell\n",
        "spacings: 1.5 1.2 2.5\naxis mins: -10 20 30\ncenterings: node cell node\n",
        "spacings: 1.5 1.2 2.5\naxismins: 10 20 30\ncenters: node node node\n",
    ],
)
def test_places_given_axis_by_axis_are_itks(tmp_path, hu, lines):
    same_place_as_itk(nrrd(tmp_path / "a.nrrd", hu, lines))


def test_mins_and_maxs_give_the_spacing(tmp_path, hu):
    cell = load_ct(nrrd(tmp_path / "a.nrrd", hu, "axis mins: 0 0 0\naxis maxs: 40 60 50\n"))
    assert np.allclose(cell.geometry.spacing_mm, (2.5, 2, 1)) and np.allclose(cell.geometry.origin_mm, (0.5, 1, 1.25))
    node = load_ct(nrrd(tmp_path / "b.nrrd", hu, "axis mins: 0 0 0\naxis maxs: 39 58 38\ncenters: node node node\n"))
    assert np.allclose(node.geometry.spacing_mm, (2, 2, 1)) and np.allclose(node.geometry.origin_mm, 0)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('spacings: 1 1 1\nspace units: "cm" "cm" "cm"\n', "measured in cm"),
        ("spacings: 1 1 1\naxis mins: 1 2\n", "truncated or damaged"),
        ("spacings: 1 1 1\naxis mins: nan 2 3\n", "finite"),
        ("axis mins: 1 2 3\n", "how large"),
        ("spacings: 1 1 1\nspace: scanner-xyz\n", "no patient space"),
    ],
)
def test_what_cannot_be_placed_is_refused(tmp_path, hu, refused, lines, words):
    refused(load_ct, nrrd(tmp_path / "a.nrrd", hu, lines), words)


def test_units_that_are_mm_are_read(tmp_path, hu):
    load_ct(nrrd(tmp_path / "a.nrrd", hu, 'spacings: 1 1 1\nspace units: "mm" "mm" "mm"\n'))


def test_metaimage_units_and_scale(tmp_path, hu, refused):
    hu.tofile(tmp_path / "ct.raw")
    refused(load_ct, mhd(tmp_path / "a.mhd", "ct.raw", "DistanceUnits = cm\n"), "measured in cm")
    scaled = "ElementToIntensityFunctionSlope = 2\nElementToIntensityFunctionOffset = -10\n"
    assert np.array_equal(load_ct(mhd(tmp_path / "a.mhd", "ct.raw", scaled)).hu, np.maximum(hu * 2 - 10, -1024))
    (hu > 0).astype(np.int16).tofile(tmp_path / "seg.raw")
    again = load_labels(mhd(tmp_path / "b.mhd", "seg.raw", "ElementToIntensityFunctionSlope = 3\n"))
    assert np.array_equal(again.labels, (hu > 0) * 3)


@pytest.mark.parametrize("tail", [b"\n", b"\r\n--boundary--\r\n", b"\0" * 512, b"garbage" * 9])
def test_bytes_behind_compressed_data_are_left_alone(tmp_path, hu, tail):
    for name in ("a.nrrd", "a.mha"):
        sitk.WriteImage(sitk.GetImageFromArray(hu), str(tmp_path / name), useCompression=True)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole + tail)
        assert np.array_equal(load_ct(tmp_path / name).hu, hu)
