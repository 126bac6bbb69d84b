"""Where a file should be there is something else: each format's reader says so in one line, and waits for nobody."""

from __future__ import annotations

from .hostile import run_child

KINDS = """
import os, shutil, signal, socket
from tests.tapct_core.hostile_formats import formats
import logging
logging.disable(logging.CRITICAL)

def fifo(path): os.mkfifo(path)
def listening(path):
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's name has at most 107 letters
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path.name)
    os.chdir(here)
def endless(path): path.symlink_to("/dev/zero")
def nothing(path): path.symlink_to(path.parent / "nowhere")
def loop(path): path.symlink_to(path.name)
def directory(path): path.mkdir()
def empty(path): path.touch()
def sparse(path):
    path.touch()
    os.truncate(path, 60 * 10**9)
def gone(path): pass
def tail(path):
    shutil.copy(whole, path)
    os.truncate(path, 60 * 10**9)

def too_long(*_): raise AssertionError("it hangs")
signal.signal(signal.SIGALRM, too_long)
whole = folder / "whole"
for name, (path, load) in formats(folder).items():
    shutil.move(path, whole)
    for kind in (fifo, listening, endless, nothing, loop, directory, empty, sparse, gone, tail):
        kind(path)
        signal.alarm(30)
        attempt(load, f"{name} {kind.__name__}")
        signal.alarm(0)
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        counts["inputs"] += 1
    shutil.move(whole, path)
    load()
"""


def test_what_is_no_file_or_far_too_large_is_one_line(tmp_path):
    """Pipes, sockets, devices, links to nowhere and to themselves, folders, empty and sparse files, none at all."""
    counts = run_child(KINDS, tmp_path, memory_gb=2)
    assert counts["inputs"] == 320 and counts["refused"] > 250, counts
