"""The packaged samples: whole, small, licensed, and with points that lie in both scans."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from tapct_core.errors import UserError
from tapct_core.samples import FOLDER, SAMPLES, load_sample, load_sample_points, sample_paths


def test_every_file_belongs_to_a_sample_and_its_licence_lies_beside_it():
    named = {file for sample in SAMPLES.values() for file in sample.files.values()}
    assert named == {path.name for path in FOLDER.iterdir()}
    for name, sample in SAMPLES.items():
        assert sample.citation and sample.caution and sample.licence
        assert len(sample_paths(name)["licence"].read_text()) > 1000


def test_samples_are_small_enough_for_a_wheel():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 12e6


def test_breathing_points_lie_in_both_scans_in_like_tissue():
    volumes, (names, before, after) = load_sample("breathing_pair"), load_sample_points()
    assert len(names) == len(set(names)) == len(before) == len(after) == 150
    hu = []
    for role, points in (("baseline", before), ("followup", after)):
        geometry = volumes[role].geometry
        assert geometry.contains(points).all()
        hu.append(volumes[role].hu[tuple(np.rint(geometry.to_index(points)).astype(int).T)].astype(float))
    assert np.corrcoef(hu[0], hu[1])[0, 1] > 0.9
    lung = np.array([name.startswith("lung") for name in names])
    assert (hu[0][lung] < -400).all() and (hu[0][~lung] >= -400).all()


def test_cutting_to_the_body_moved_no_voxel(data_dir):
    original = nibabel.load(data_dir / "ct" / "plastimatch_t5_ct.nii.gz")
    kept = nibabel.load(sample_paths("breathing_pair")["followup"])
    start = np.rint((np.linalg.inv(original.affine) @ kept.affine[:, 3])[:3]).astype(int)
    np.testing.assert_allclose(original.affine[:3, :3] @ start + original.affine[:3, 3], kept.affine[:3, 3], atol=1e-4)
    box = tuple(slice(a, a + n) for a, n in zip(start, kept.shape, strict=True))
    np.testing.assert_array_equal(np.asanyarray(original.dataobj)[box], np.asanyarray(kept.dataobj))
    assert kept.header["qform_code"] == original.header["qform_code"]


def test_organ_labels_lie_on_their_ct_and_have_names():
    sample = load_sample("abdomen_pelvis")
    assert sample["labels"].geometry.matches(sample["ct"].geometry)
    assert set(np.unique(sample["labels"].labels)) - {0} <= set(sample["labels"].names)
    assert sample["labels"].names[5] == "liver"


def test_unknown_sample_is_refused_with_the_names():
    with pytest.raises(UserError, match="breathing_pair, abdomen_pelvis"):
        sample_paths("brain")
