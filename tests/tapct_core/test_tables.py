"""What a spreadsheet writes is read rightly or refused with its row, and never read as other numbers."""

from __future__ import annotations

import pytest

from tapct_core.cli.options import read_points
from tapct_core.errors import UserError
from tapct_core.tables import read_table


def points(tmp_path, content) -> list:
    path = tmp_path / "points.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_points(path)


NO_NUMBERS = ("nan", "inf", "1_0", "0x1", "\u0661", "1e999", "1e6", "- 1", "1mm", "--1", "1e")
RIGHT = [("T1", (-46.5, -112.0, -62.25)), ("T2", (1.0, 2.0, 3.5))]


@pytest.mark.parametrize(
    "content",
    [
        "name,x,y,z\nT1,-46.5,-112,-62.25\nT2,1,2,3.5\n",
        "name;x;y;z\nT1;-46,5;-112;-62,25\nT2;1;2;3,5\n",
        "name;x;y;z\nT1;-46.5;-112;-62.25\nT2;1;2;3.5\n",
        "name\tx\ty\tz\nT1\t-46,5\t-112\t-62,25\nT2\t1\t2\t3,5",
        "\ufeffname;x;y;z\r\nT1;-46,5;-112;-62,25\r\nT2;1;2;3,5\r\n",
        "\ufeff\"name\",\"x\",\"y\",\"z\"\n\"T1\",\"-46.5\",\"-112\",\"-62.25\"\n\n T2 , 1 , 2 , 3.5 ,,\n",
        "z,y,name,x\n-62.25,-112,T1,-46.5\n3.5,2,T2,1e0\n",
        "name,x,y,z,note\nT1,-46.5,-112,-62.25\nT2,1,2,3.5,\"a, b\"\n",
        "name;x;y;z\nT1;-46,5;-112;-62,25\nT2;1;2;3,5\n".encode("utf-16"),
    ],
)  # fmt: skip
def test_what_is_certain_is_read(tmp_path, content):
    assert points(tmp_path, content) == RIGHT


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name,x,y,z\nT1,-46,5,-112,3,-62,1\n", "line 2: 7 values for 4 columns"),
        ("x,y,z\n-46,5,-112,0,-62,1\n", "line 2: 6 values for 3 columns"),
        ("name,x,y,z\nT1,1,2,3\nT2,1,2,3,4\n", "line 3: 5 values"),
        ("name,x,y,z\nT1,\"-46,5\",1,2\n", "line 2: x '-46,5' is not a number"),
        ("name;x;y;z\nT1;-46,5;1;2\nT2;1.5;1;2\n", "line 3: x '1.5' has a decimal point"),
        ("name;x;y;z\nT1;1.234,5;1;2\n", "line 2: x '1.234,5'"),
        ("name;x;y;z\nT1;1,234,5;1;2\n", "line 2: x '1,234,5' is not a number"),
        ("name,x,y,z\nT1,1,2,3\n\nT1,4,5,6\n", "line 4: 'T1' stands in line 2 already"),
        ("name,x,y,z\n2,1,2,3\n,4,5,6\n", "name of a row and the number of another"),
        ("name,x,x,y,z\nT,1,2,3,4\n", "column 'x' twice"),
        ("name,x,y\nT,1,2\n", "no column z"),
        ("name,x,y,z\n", "no rows"),
        ("", "no rows"),
        ("name,x,y,z\nT1,1,2\n", "line 2: z ''"),
        ("name,x,y,z\n\"T1,1,2,3\n", "line 2"),
        (b"name,x,y,z\nT\xe4,1,2,3\n", "cannot be read as text"),
        *((f"name,x,y,z\nT1,1,2,{bad}\n", "line 2: z") for bad in NO_NUMBERS),
    ],
)  # fmt: skip
def test_what_is_not_certain_is_refused_with_its_row(tmp_path, content, said):
    with pytest.raises(UserError, match=said) as caught:
        points(tmp_path, content)
    assert len(str(caught.value).splitlines()) == 1


def test_numbers_in_other_tables_are_read_alike(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("ct;bx\na.nii;1,5\n")
    assert read_table(path, ("ct", "bx"), ("bx",)) == [(2, {"ct": "a.nii", "bx": "1.5"})]


def test_a_list_of_scans_may_have_a_byte_order_mark(tmp_path):
    from tapct_core.cli.embed import read_list

    (tmp_path / "list.txt").write_bytes("\ufeffa.nii.gz\r\n# no\r\nb.nii\r\n".encode())
    assert read_list(tmp_path / "list.txt") == [tmp_path / "a.nii.gz", tmp_path / "b.nii"]
    (tmp_path / "binary").write_bytes(bytes(100))
    with pytest.raises(UserError, match="not a text file"):
        read_list(tmp_path / "binary")
