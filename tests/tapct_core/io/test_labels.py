"""Saving label maps: whole or not at all, only onto the grid they belong to."""

from __future__ import annotations

import errno
import resource
import stat
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from tapct_core.errors import UserError
from tapct_core.geometry import Geometry
from tapct_core.io import load_ct, load_labels, save_labels
from tapct_core.volume import LabelMap, Source


@pytest.fixture
def volume(data_dir):
    return load_ct(data_dir / "ct" / "cip_chest_64_ct.nii.gz")


@pytest.fixture
def labels(volume):
    values = np.random.default_rng(0).integers(0, 200, volume.hu.shape).astype(np.uint8)
    return LabelMap(values, volume.geometry, volume.source)


def test_real_labels_return_byte_for_byte(data_dir, tmp_path):
    for path in [*(data_dir / "ct").glob("*_seg.nii.gz"), data_dir / "ct_limbs" / "sts_026_tumour.nii.gz"]:
        saved = save_labels(load_labels(path), tmp_path / path.name)
        ours, theirs = nib.load(saved), nib.load(path)
        assert np.array_equal(np.asanyarray(ours.dataobj), np.asanyarray(theirs.dataobj))
        assert np.array_equal(ours.affine, theirs.affine)
        for key in (
            "qform_code",
            "sform_code",
            "pixdim",
            "srow_x",
            "srow_y",
            "srow_z",
            "quatern_b",
            "xyzt_units",
            "dim",
        ):
            assert np.array_equal(ours.header[key], theirs.header[key]), (path.name, key)


def test_saving_twice_gives_the_same_bytes(labels, tmp_path):
    first, second = save_labels(labels, tmp_path / "a.nii.gz"), save_labels(labels, tmp_path / "b.nii.gz")
    assert first.read_bytes() == second.read_bytes()


def test_an_array_is_saved_on_its_own_grid(tmp_path):
    grid = Geometry.from_spacing((3, 4, 5), (2.0, 1.0, 0.5), (10.0, 20.0, 30.0))
    values = np.arange(60).reshape(3, 4, 5).astype(np.uint8)
    for suffix in (".nii.gz", ".nrrd"):
        again = load_labels(save_labels(LabelMap(values, grid), tmp_path / f"a{suffix}"))
        assert np.array_equal(again.labels, values) and again.geometry.matches(grid)


def test_another_grid_is_refused(labels, volume, tmp_path, data_dir):
    other = load_ct(data_dir / "ct" / "crlm_ct_1004_ct.nii.gz")
    shifted = Geometry(labels.geometry.shape, labels.geometry.affine + np.eye(4, k=3) * 5.0)
    moved = LabelMap(labels.labels, shifted, volume.source)
    for one, like in ((labels, other), (labels, other.source), (moved, None), (moved, volume)):
        with pytest.raises(UserError, match="grid"):
            save_labels(one, tmp_path / "no.nii.gz", like=like)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_grid_is_refused(labels, tmp_path):
    with pytest.raises(UserError, match="not known"):
        save_labels(replace(labels, source=Source("nifti")), tmp_path / "no.nii.gz")


def test_an_unknown_suffix_is_refused(labels, tmp_path):
    with pytest.raises(UserError, match="not written as .png"):
        save_labels(labels, tmp_path / "seg.png")
    assert save_labels(labels, tmp_path / "seg").name == "seg.nii.gz"


@pytest.fixture
def full_disk():
    """No file of this process may grow beyond 4 kB: the operating system fails the write itself."""
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("name", ["seg.nii.gz", "seg.nii", "seg.nrrd", "seg.mha"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(labels, tmp_path, name, full_disk):
    (tmp_path / name).write_text("the old one")
    with pytest.raises(UserError, match="cannot write") as caught:
        save_labels(labels, tmp_path / name)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "the old one"


def test_a_failed_rename_leaves_nothing(labels, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(UserError, match="No space left on device"):
        save_labels(labels, tmp_path / "seg.nii.gz")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_a_file_is_named(labels, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        save_labels(labels, tmp_path / "file" / "seg.nii.gz")


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha"])
def test_a_label_map_and_its_names_are_their_owners_alone(tmp_path, name):
    """A mask with the names of lesions is a finding; a file that was there keeps what its owner gave it."""
    labels = LabelMap(np.ones((3, 4, 5), np.uint8), Geometry.from_spacing((3, 4, 5), (2.0, 1.0, 1.0)), names={1: "x"})
    for _ in range(2):
        save_labels(labels, tmp_path / name)
        assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    (tmp_path / name).chmod(0o640)
    save_labels(labels, tmp_path / name)
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o640
