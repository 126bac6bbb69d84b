"""Files opened in a real viewer: the voxel under a place in the patient is the file's own voxel there."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

from napari_tapct._reader import get_reader, read
from napari_tapct.layers import GEOMETRY, SOURCE
from tapct_core.errors import UserError
from tapct_core.samples import sample_paths

from .conftest import STORED, file_to_lps

PLUGIN = "napari-tapct"


@pytest.mark.parametrize("name", STORED)
def test_voxel_under_a_place_in_the_patient(make_napari_viewer_proxy, ct_files, name):
    viewer = make_napari_viewer_proxy()
    (layer,) = viewer.open(ct_files[name], plugin=PLUGIN)
    values, affine = file_to_lps(ct_files[name])
    assert str(layer.units[0]) == "millimeter" and tuple(layer.axis_labels) == ("z", "y", "x")
    for index in ((0, 0, 0), (3, 7, 11), tuple(n - 1 for n in values.shape), (5, 1, 2)):
        lps = (affine @ (*index, 1))[:3]
        drawn = np.array(layer.data_to_world(layer.metadata[GEOMETRY].to_index(lps)))
        if "oblique" not in name:
            np.testing.assert_allclose(drawn, (-lps[2], lps[1], lps[0]), atol=1e-3)
        for dims in ((0, 1, 2), (1, 0, 2), (2, 0, 1)):  # axial, coronal, sagittal
            viewer.dims.order = dims
            viewer.dims.set_point(range(3), drawn)
            assert layer.get_value(drawn, world=True) == values[index]
        assert layer.get_value(drawn - 1e4, world=True) is None


def test_slider_takes_one_step_for_one_slice(make_napari_viewer_proxy, ct_files):
    viewer = make_napari_viewer_proxy()
    viewer.open(ct_files["oblique.nii.gz"], plugin=PLUGIN)
    assert viewer.dims.nsteps == (20, 36, 40)


def test_contrast_slider_reaches_all_values(ct_files):
    (layer,) = read(str(ct_files["straight.nii.gz"]))
    low, high = layer.contrast_limits_range
    assert tuple(layer.contrast_limits) == (-160, 240)
    assert low <= layer.data.min() and high >= layer.data.max()


def test_label_map_opens_as_labels():
    (layer,) = read(str(sample_paths("abdomen_pelvis")["labels"]))
    assert layer._type_string == "labels" and layer.data.max() == 117 and layer.name == "abdomen_pelvis_labels"


def test_name_is_the_file_s_without_suffixes(ct_files):
    assert read(str(ct_files["permuted.nii"]))[0].name == "permuted"
    assert read(str(ct_files["straight.nii.gz"]))[0].name == "straight"


def test_what_is_no_ct_is_refused_in_one_line(make_napari_viewer_proxy, tmp_path):
    path = tmp_path / "broken.nii.gz"
    path.write_bytes(b"\x1f\x8b" + bytes(100))
    viewer = make_napari_viewer_proxy()
    with pytest.raises(Exception, match="broken.nii.gz is damaged: its compressed data cannot be unpacked") as caught:
        viewer.open(path, plugin=PLUGIN)
    assert "\n" not in str(caught.value).strip() and len(viewer.layers) == 0


def test_reader_takes_what_it_is_given():
    assert get_reader("a.nii.gz") is get_reader(["a.dcm", "b.dcm"]) is read


def test_dicom_folder_opens_every_series_and_shows_the_longest(make_napari_viewer_proxy, two_series):
    viewer = make_napari_viewer_proxy()
    layers = viewer.open(two_series, plugin=PLUGIN)
    assert [layer.data.shape for layer in layers] == [(20, 512, 512), (8, 512, 512)]
    assert [layer.visible for layer in layers] == [True, False]
    assert "shorter" in layers[1].name


def test_dicom_voxel_under_its_place(make_napari_viewer_proxy, data_dir):
    """Position and pixel by pydicom alone: PixelSpacing is (row, column), the first cosine runs along a row."""
    folder = data_dir / "dicom" / "ts_example_series"
    viewer = make_napari_viewer_proxy()
    (layer,) = viewer.open(folder, plugin=PLUGIN)
    header = pydicom.dcmread(sorted(folder.iterdir())[3])
    across, down = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
    row, column = 200, 301
    spacing = [float(s) for s in header.PixelSpacing]
    lps = np.array(header.ImagePositionPatient, float) + across * spacing[1] * column + down * spacing[0] * row
    value = header.pixel_array[row, column] * float(header.RescaleSlope) + float(header.RescaleIntercept)
    drawn = np.array([-lps[2], lps[1], lps[0]])
    viewer.dims.set_point(range(3), drawn)
    assert layer.get_value(drawn, world=True) == max(value, -1024)


def test_slices_dropped_one_by_one_open_their_series_once(make_napari_viewer_proxy, two_series):
    viewer = make_napari_viewer_proxy()
    viewer.open(sorted(two_series.glob("b*.dcm"))[2:5], plugin=PLUGIN)
    assert len(viewer.layers) == 1 and viewer.layers[0].data.shape[0] == 8
    assert {path.parent for path in viewer.layers[0].metadata[SOURCE].dicom.files} == {two_series}


def test_folder_without_a_ct_says_so(tmp_path):
    with pytest.raises(UserError, match="no DICOM files"):
        read(str(tmp_path))


def test_several_files_are_several_scans(ct_files):
    paths = [str(ct_files["straight.nii.gz"]), str(ct_files["permuted.nii"])]
    layers = read(paths)
    assert [layer.name for layer in layers] == ["straight", "permuted"] and layers[0].visible
