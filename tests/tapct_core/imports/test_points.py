"""Tables of points are read rightly where the header makes it certain, and refused by their line where it does not."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tapct_core.errors import UserError
from tapct_core.imports import read_findings


@pytest.mark.parametrize(
    "text",
    [
        "name,x,y,z,role\na,-46.5,-112,1e1,target\n",
        "\ufeffname;x;y;z;role\r\na;-46,5;-112;10,0;target\r\n",
        "name\tx\ty\tz\trole\na\t-46,5\t-112\t10\ttarget\n",
    ],
)
def test_what_the_header_makes_certain(tmp_path, text):
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8")
    (found,) = read_findings(path)
    assert np.allclose(found.what[0].points, [[-46.5, -112, 10]]) and (found.name, found.role) == ("a", "target")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("name,x,y,z\na,-46,5,-112,10,0\n", "line 2"),
        ("name,x,y,z\na,1,2,3\nb,1,nan,3\n", "line 3"),
        ("name,x,y,z\na,1,2,1e9\n", "line 2"),
        ("name,x,x,z,y\na,1,2,3,4\n", "twice"),
        ("name,x,y,z,role\na,1,2,3,other\n", "line 2"),
        ("name,x,y,z\n", "no rows"),
        ("", "no rows"),
    ],
)
def test_what_is_not_certain_is_refused(tmp_path, text, word):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=word):
        read_findings(path)


def test_a_pipe_hangs_nobody(tmp_path):
    for name in ("a.dcm", "b.nii", "c.nrrd"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(UserError, match="pipe"):
            read_findings(tmp_path / name)
    os.mkfifo(tmp_path / "d.csv")
    with pytest.raises(UserError):
        read_findings(tmp_path / "d.csv")


def test_an_identifier_that_is_no_uid_becomes_one(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("uid,x,y,z\nlesion-7,1,2,3\n1.2.3,1,2,4\n")
    first, second = read_findings(path)
    assert first.uid.startswith("2.25.") and second.uid == "1.2.3"
