"""Whole or not there: what stands on disk when a block ends well, badly, or is read in between."""

from __future__ import annotations

import os
import shutil
import stat

import pytest

from tapct_core import atomic
from tapct_core.atomic import OLD, PART, atomic_folder, atomic_path, clean, restore
from tapct_core.errors import UserError
from tapct_core.exchange import exchange
from tapct_core.folder_lock import FolderLock


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


# Replacing


def fill(path, text):
    with atomic_folder(path) as part:
        (part / "words").write_text(text)


@pytest.fixture(params=["exchange", "two moves"])
def way(request, monkeypatch):
    """Both ways to replace a folder: in one step, and as on a system that cannot."""
    if request.param == "two moves":
        monkeypatch.setattr(atomic, "exchange", lambda one, other: False)
    return request.param


def test_a_folder_is_replaced_either_way_and_nothing_stays(tmp_path, way):
    for text in ("one", "two", "three"):
        fill(tmp_path / "store", text)
        assert (tmp_path / "store" / "words").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_file_in_the_way_of_a_folder_is_replaced(tmp_path, way):
    (tmp_path / "store").write_text("a file")
    fill(tmp_path / "store", "new")
    assert (tmp_path / "store" / "words").read_text() == "new" and len(list(tmp_path.iterdir())) == 1


def test_two_names_are_swapped_in_one_step(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(name)
    if not exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system swaps no names")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "a", tmp_path / "nothing")


@pytest.fixture
def killed_between_the_moves(tmp_path):
    """A folder of which a writer died between its two moves."""
    fill(tmp_path / "store", "old")
    old = tmp_path / f"{OLD}store-0123abcd"
    old.mkdir()
    os.rename(tmp_path / "store", old / "store")
    part = tmp_path / f"{PART}store-4567cdef"
    part.mkdir()
    (part / "words").write_text("new")
    return tmp_path / "store"


def test_a_reader_puts_back_what_a_kill_took_away(killed_between_the_moves):
    path = killed_between_the_moves
    assert restore(path) and (path / "words").read_text() == "old"
    clean(path)
    assert [found.name for found in path.parent.iterdir()] == ["store"]
    assert not restore(path.with_name("nothing"))


def test_the_next_writer_puts_back_and_cleans(killed_between_the_moves):
    path = killed_between_the_moves
    with pytest.raises(RuntimeError), atomic_folder(path):
        assert (path / "words").read_text() == "old"
        raise RuntimeError
    assert [found.name for found in path.parent.iterdir()] == ["store"]


def test_what_somebody_still_writes_is_left_alone(tmp_path):
    target = tmp_path / "a"
    with atomic_path(target) as mine:
        clean(target)
        with atomic_path(target) as other:
            other.write_text("other")
        assert mine.parent.is_dir()
        mine.write_text("mine")
    assert target.read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_leftovers_of_other_names_are_left_alone(tmp_path):
    for name in (".part-other-01234567", ".part-a-b-01234567", ".part-abc", ".old-x"):
        (tmp_path / name).mkdir()
    with atomic_path(tmp_path / "a") as part:
        part.write_text("a")
    assert len(list(tmp_path.iterdir())) == 5


def test_without_locks_only_what_is_old_is_taken_for_left(tmp_path, monkeypatch):
    """Locks that fail, and a clock that ran backwards: what is from the future is no leftover."""
    import fcntl

    def refuse(*args):
        raise OSError(38, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    now = os.stat(tmp_path).st_mtime
    for name, at in (("00000001", now - 2 * 86400), ("00000002", now - 60), ("00000003", now + 86400)):
        folder = tmp_path / f"{PART}a-{name}"
        folder.mkdir()
        os.utime(folder, (at, at))
    with atomic_path(tmp_path / "a") as part:
        part.write_text("a")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".part-a-00000002", ".part-a-00000003", "a"]
    assert not FolderLock(tmp_path / "nothing").take()


def test_content_is_on_the_disk_before_its_name(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(os, "fsync", lambda handle: done.append(os.readlink(f"/proc/self/fd/{handle}")))
    for call in ("rename", "replace"):
        real = getattr(os, call)
        monkeypatch.setattr(os, call, lambda a, b, real=real: (done.append(f"-> {b}"), real(a, b))[1])
    with atomic_path(tmp_path / "file") as part:
        part.write_text("x")
    assert [entry.rsplit("/", 1)[1] for entry in done] == ["file", "file", tmp_path.name] and done[1][:2] == "->"
    done.clear()
    fill(tmp_path / "folder", "x")
    renamed = done.index(f"-> {tmp_path / 'folder'}")
    assert renamed == 2 and done[0].endswith("/words") and done[3] == str(tmp_path)


def test_a_disk_that_says_only_when_flushed_that_it_is_full(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"), atomic_path(tmp_path / "file") as part:
        part.write_text("new")
    assert (tmp_path / "file").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


# Whose file it is


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_permissions_stay_and_new_private_files_are_their_owners_alone(tmp_path):
    path = tmp_path / "study.json"
    with atomic_path(path, private=True) as part:
        part.write_text("a")
    assert mode(path) == 0o600
    for kept in (0o640, 0o600, 0o664):
        path.chmod(kept)
        with atomic_path(path, private=True) as part:
            part.write_text("b")
        assert mode(path) == kept
    (tmp_path / "folder").mkdir(mode=0o700)
    fill(tmp_path / "folder", "x")
    assert mode(tmp_path / "folder") == 0o700


def test_a_link_stays_a_link(tmp_path):
    for name in ("there", "not yet"):
        target, link = tmp_path / "real" / name, tmp_path / name
        target.parent.mkdir(exist_ok=True)
        if name == "there":
            target.write_text("old")
        link.symlink_to(target)
        with atomic_path(link) as part:
            part.write_text("new")
        assert link.is_symlink() and target.read_text() == "new"
    (tmp_path / "folders").symlink_to(tmp_path / "real folder")
    fill(tmp_path / "folders", "one")
    fill(tmp_path / "folders", "two")
    assert (tmp_path / "folders").is_symlink() and (tmp_path / "real folder" / "words").read_text() == "two"


def test_the_umask_is_not_touched(tmp_path, monkeypatch):
    def never(mask):
        raise AssertionError("umask is the whole process's")

    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(os, "umask", never)
            with atomic_path(tmp_path / "file") as part:
                part.write_text("x")
                part.chmod(0o600)
            fill(tmp_path / "folder", "x")
    finally:
        os.umask(before)
    assert mode(tmp_path / "file") == 0o640 and mode(tmp_path / "folder") == 0o750


def test_long_and_strange_names(tmp_path):
    for name in ("n" * 255, "ü" * 120, "[a]*?", "-- x\n"):
        for text in ("one", "two"):
            with atomic_path(tmp_path / name) as part:
                part.write_text(text)
            assert (tmp_path / name).read_text() == text
        shutil.rmtree(tmp_path / name, ignore_errors=True)
    assert len(list(tmp_path.iterdir())) == 4


def test_what_is_no_file_is_not_replaced(tmp_path):
    """A program that runs as root would take /dev/null from everybody."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    for name in ("pipe", "link"):
        for opened in (atomic_path, atomic_folder):
            with pytest.raises(UserError, match="pipe, a socket or a device"), opened(tmp_path / name):
                raise AssertionError
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode) and sorted(p.name for p in tmp_path.iterdir()) == ["link", "pipe"]


def test_nobody_looks_on_while_something_is_made(tmp_path):
    before = os.umask(0)
    try:
        with atomic_path(tmp_path / "a.csv", private=True) as part:
            part.write_text("x")
            assert stat.S_IMODE(part.parent.stat().st_mode) == 0o700
        with atomic_folder(tmp_path / "b", private=True) as part:
            (part / "x").write_text("x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.csv").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o700
