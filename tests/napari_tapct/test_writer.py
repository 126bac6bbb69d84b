"""Labels painted in a real viewer and saved: on the grid of the CT's file, voxel for voxel."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from napari_tapct.layers import GEOMETRY
from tapct_core.io import load_labels
from tapct_core.samples import sample_paths

from .conftest import STORED, file_to_lps

PLUGIN = "napari-tapct"


@pytest.mark.parametrize("name", STORED)
def test_painted_voxel_is_that_voxel_of_the_file(make_napari_viewer, ct_files, tmp_path, name):
    """The whole way of a user: open, 'New labels layer', paint at a place in the patient, save, read elsewhere.

    make_napari_viewer and not its proxy, because the button's own method is private.
    """
    viewer = make_napari_viewer()
    (image,) = viewer.open(ct_files[name], plugin=PLUGIN)
    values, affine = file_to_lps(ct_files[name])
    index = (5, 9, 3)
    drawn = image.data_to_world(image.metadata[GEOMETRY].to_index((affine @ (*index, 1))[:3]))
    viewer.layers.selection.active = image
    viewer._new_labels()
    labels = viewer.layers[-1]
    viewer.dims.set_point(range(3), drawn)
    labels.brush_size = 1
    labels.paint(np.round(labels.world_to_data(drawn)).astype(int), 7)

    suffix = name[name.index(".") :]
    (written,) = labels.save(str(tmp_path / f"seg{suffix}"), plugin=PLUGIN)
    stored, stored_affine = file_to_lps(tmp_path / f"seg{suffix}")
    assert written == str(tmp_path / f"seg{suffix}")
    assert stored.shape == values.shape and stored.dtype == np.uint8
    assert stored[index] == 7 and np.count_nonzero(stored) == 1
    np.testing.assert_allclose(stored_affine, affine, atol=1e-4)
    if ".nii" in name:
        before, after = nibabel.load(ct_files[name]).header, nibabel.load(written).header
        for code in ("qform_code", "sform_code"):
            assert before[code] == after[code]


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_labels_survive_a_round_through_the_viewer(make_napari_viewer_proxy, tmp_path, suffix):
    viewer = make_napari_viewer_proxy()
    viewer.open_sample(PLUGIN, "abdomen_pelvis")
    path = tmp_path / f"organs{suffix}"
    viewer.layers["organs"].save(str(path), plugin=PLUGIN)
    before, after = load_labels(sample_paths("abdomen_pelvis")["labels"]), load_labels(path)
    np.testing.assert_array_equal(after.labels, before.labels)
    assert after.geometry.matches(before.geometry)
    assert after.names[1] == "spleen" and len(after.names) == 117


def test_labels_that_lie_nowhere_are_refused_with_the_remedy(make_napari_viewer_proxy, tmp_path):
    viewer = make_napari_viewer_proxy()
    layer = viewer.add_labels(np.ones((4, 5, 6), np.uint8), name="stray")
    with pytest.raises(RuntimeError, match="lies on no open CT.*New labels layer"):
        layer.save(str(tmp_path / "stray.nii.gz"), plugin=PLUGIN)
    assert not list(tmp_path.iterdir())
