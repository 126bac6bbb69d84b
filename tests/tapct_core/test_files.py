"""Other people's files: pipes do not hang, size is asked before reading, and caps can be raised."""

from __future__ import annotations

import os
import socket

import pytest

from tapct_core.errors import UserError
from tapct_core.files import largest_bytes, number_from_environment, open_regular, read_limited, require_fits


def test_a_regular_file_is_read(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("a")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"abc"
    assert read_limited(tmp_path / "a", 3) == b"abc"
    with pytest.raises(UserError, match="more than 2 bytes"):
        read_limited(tmp_path / "a", 2)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "socket"))
    for name in ("pipe", "/dev/zero", "socket"):
        with pytest.raises(UserError, match="pipe, a socket or a device"):
            open_regular(tmp_path / name)
    listening.close()
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "nothing")


def test_a_sparse_file_is_measured_not_read(tmp_path):
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(100 * 10**9)
    with pytest.raises(UserError, match="more than"):
        read_limited(tmp_path / "sparse", 1 << 20)


def test_the_cap_is_absolute_and_can_be_raised(monkeypatch):
    monkeypatch.delenv("TAPCT_LARGEST_GB", raising=False)
    require_fits(8 * 10**9, "it")
    with pytest.raises(UserError, match="it would take 17.0 GB .* TAPCT_LARGEST_GB"):
        require_fits(17 * 10**9, "it")
    monkeypatch.setenv("TAPCT_LARGEST_GB", "40.5")
    require_fits(40 * 10**9, "it")
    monkeypatch.setenv("TAPCT_LARGEST_GB", "inf")
    assert largest_bytes() > 10**15


@pytest.mark.parametrize("text", ["fifty", "nan", "-1", "1,5", "50GB", "-inf"])
def test_an_environment_variable_that_is_no_number_is_one_line(monkeypatch, text):
    monkeypatch.setenv("TAPCT_X", text)
    with pytest.raises(UserError, match="TAPCT_X is .*; give a number of GB"):
        number_from_environment("TAPCT_X", 50.0)


def test_an_empty_environment_variable_is_none(monkeypatch):
    monkeypatch.setenv("TAPCT_X", " ")
    assert number_from_environment("TAPCT_X", 50.0) == 50.0
    monkeypatch.setenv("TAPCT_X", "0")
    assert number_from_environment("TAPCT_X", 50.0) == 0.0


def test_what_a_file_said_cannot_break_a_line_or_drive_a_terminal():
    said = str(UserError("a\nb\x1b[31m\u202ec\ud800 d  e \u00e9\u00a0f"))
    assert said == "a b [31m c  d  e \u00e9\u00a0f" and said.encode()
    assert str(UserError()) == ""
