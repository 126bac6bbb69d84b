"""A scan in a zip archive: one volume or one series, within bounds; nothing stays behind."""

from __future__ import annotations

import tempfile
import zipfile

import nibabel as nib
import numpy as np
import pytest

from tapct_core.errors import UserError
from tapct_core.io import load_ct, load_labels


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Make ``a.zip`` from name -> bytes; temporary folders lie where the test sees them."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))

    def made(entries):
        with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in entries.items():
                file.writestr(name, content)
        return tmp_path / "a.zip"

    yield made
    assert list((tmp_path / "tmp").iterdir()) == []


def nifti(tmp_path, values):
    nib.Nifti1Image(values, np.diag([-1, -1, 2, 1])).to_filename(tmp_path / "x.nii.gz")
    return (tmp_path / "x.nii.gz").read_bytes()


def test_a_series_and_a_volume(write, archive, tmp_path, small_hu):
    folder = write()
    series = archive({f"study/ct/{path.name}": path.read_bytes() for path in folder.iterdir()})
    volume = load_ct(series)
    assert volume.content_hash == load_ct(folder).content_hash and volume.source.path == series
    path = archive({"scan/ct.nii.gz": nifti(tmp_path, small_hu), "__MACOSX/._ct.nii.gz": b"x", ".DS_Store": b"y"})
    assert np.array_equal(load_ct(path).hu.shape, small_hu.shape[::-1])
    labels = archive({"seg.nii.gz": nifti(tmp_path, (small_hu > 0).astype(np.uint8))})
    assert load_labels(labels).labels.max() == 1


def test_options_reach_what_is_inside(write, archive, refused):
    path = archive({path.name: path.read_bytes() for path in write().iterdir()})
    refused(lambda p: load_ct(p, series="9.9"), path, "no CT series '9.9'")


def test_what_cannot_be_chosen_or_held_is_refused(archive, tmp_path, small_hu, refused):
    one = nifti(tmp_path, small_hu)
    refused(load_ct, archive({"a.nii.gz": one, "b.nii.gz": one}), "holds 2 volumes")
    refused(load_ct, archive({"readme.txt": b"nothing"}), "no DICOM files")
    refused(load_ct, archive({"a/": b""}), "holds 0 files|damaged")
    path = archive({"ct.nii": small_hu.tobytes()})
    whole = path.read_bytes()
    for cut in (8, 40, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:cut])
        refused(load_ct, path, "truncated or damaged")


def test_an_archive_that_claims_more_than_it_can_hold_is_not_unpacked(archive, refused):
    path = archive({"ct.nii": b"x" * 1000})
    whole = bytearray(path.read_bytes())
    at = whole.index(b"PK\x01\x02") + 24
    whole[at : at + 4] = (2**31).to_bytes(4, "little")
    path.write_bytes(whole)
    refused(load_ct, path, "claims to hold 2,147,483,648 bytes")


def test_a_refusal_names_the_archive(write, archive, refused):
    series = {f"a/{path.name}": path.read_bytes() for path in write().iterdir()}
    other = {f"b/{p.name}": p.read_bytes() for p in write(second, folder="other").iterdir()}
    assert refused(load_ct, archive(series | other), "--series UID").startswith("a.zip holds 2 CT series")
    assert refused(load_ct, archive({"inner.zip": archive(series).read_bytes()}), "no DICOM files").startswith("a.zip")


def second(dataset, number):
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID = "1.2.9", f"1.2.9.{number + 1}"


def test_names_that_climb_out_stay_inside(archive, tmp_path, small_hu):
    path = archive({"../../evil.nii.gz": nifti(tmp_path, small_hu)})
    assert load_ct(path).hu.shape == small_hu.shape[::-1]
    assert not (tmp_path / "evil.nii.gz").exists() and not (tmp_path.parent / "evil.nii.gz").exists()


def test_a_password_is_said(archive, tmp_path, small_hu, refused):
    path = archive({"ct.nii.gz": nifti(tmp_path, small_hu)})
    whole = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        whole[whole.index(magic) + offset] |= 1
    path.write_bytes(whole)
    refused(load_ct, path, "has a password")


@pytest.mark.parametrize(
    "names", [("a", "a/b.nii"), ("x" * 300 + ".nii",), ("a.nii\0b",)], ids=["a folder too", "too long", "cut"]
)
def test_names_that_the_system_refuses_are_one_line(tmp_path, names):
    path = tmp_path / "scan.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x" * 400)
    with pytest.raises(UserError) as caught:
        load_ct(path)
    assert "\n" not in str(caught.value)


def test_an_entry_that_lies_before_the_file_is_damage(tmp_path):
    path = tmp_path / "scan.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.nii", b"x" * 400)
    whole = bytearray(path.read_bytes())
    end = whole.rindex(b"PK\5\6")
    whole[end + 16 : end + 20] = (int.from_bytes(whole[end + 16 : end + 20], "little") + 500).to_bytes(4, "little")
    path.write_bytes(whole)
    with pytest.raises(UserError, match="truncated or damaged"):
        load_ct(path)


def test_what_an_archive_unpacks_to_is_bounded(tmp_path, monkeypatch):
    path = tmp_path / "scan.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.nii", bytes(20_000_000))
    monkeypatch.setenv("TAPCT_LARGEST_GB", "0.01")
    with pytest.raises(UserError, match="TAPCT_LARGEST_GB"):
        load_ct(path)
