"""Whole or not there: what stands on disk when a block ends well, badly, or is read in between."""

from __future__ import annotations

import os

import pytest

from tapct_core.atomic import atomic_folder, atomic_path


def test_a_file_appears_whole_and_replaces_the_old_one(tmp_path):
    target = tmp_path / "sub" / "a.nii.gz"
    for text in ("one", "two"):
        with atomic_path(target) as part:
            assert part.name == target.name
            part.write_text(text)
            assert not target.exists() or target.read_text() == "one"
        assert target.read_text() == text
    assert [path.name for path in target.parent.iterdir()] == ["a.nii.gz"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(OSError, match="disk full"), atomic_path(target) as part:
        part.write_text("half")
        raise OSError("disk full")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_replaces_the_old_one_whole(tmp_path):
    target = tmp_path / "store"
    for name in ("one", "two"):
        with atomic_folder(target) as part:
            (part / name).write_text(name)
        assert [path.name for path in target.iterdir()] == [name]
    with pytest.raises(RuntimeError), atomic_folder(target) as part:
        (part / "three").write_text("half")
        raise RuntimeError
    assert [path.name for path in target.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [target]
    assert target.stat().st_mode & 0o777 == tmp_path.joinpath("store", "two").parent.stat().st_mode & 0o777


def test_what_a_library_wrote_for_its_owner_alone_is_readable_afterwards(tmp_path):
    """safetensors makes files that nobody else can read; an encoder or a probe is there to be shared."""
    old = os.umask(0o022)
    try:
        with atomic_path(tmp_path / "file") as part:
            part.write_text("x")
            part.chmod(0o600)
        with atomic_folder(tmp_path / "folder") as part:
            (part / "inner").mkdir()
            (part / "inner" / "file").write_text("x")
            (part / "inner" / "file").chmod(0o600)
    finally:
        os.umask(old)
    for file in (tmp_path / "file", tmp_path / "folder" / "inner" / "file"):
        assert file.stat().st_mode & 0o777 == 0o644
