"""A CSV of corresponding points: pairs, patients, and every slip named by its line."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.errors import UserError
from training.evaluate.datasets import correspondences

HEADER = "baseline,followup,x0,y0,z0,x1,y1,z1,patient\n"


@pytest.fixture
def listing(tmp_path):
    def write(text: str):
        (tmp_path / "points.csv").write_text(text)
        return tmp_path / "points.csv"

    return write


def test_points_are_gathered_by_pair(listing):
    root = listing(HEADER + "a.nii,b.nii,1,2,3,4,5,6,p\nc/1.nii,c/2.nii,0,0,0,1,1,1,\na.nii,b.nii,7,8,9,-1,-2,-3.5,p\n")
    dataset, pairs = correspondences.read(root)
    assert list(pairs) == ["a to b", "1 to 2"]
    assert np.array_equal(pairs["a to b"].points, [[1, 2, 3], [7, 8, 9]])
    assert np.array_equal(pairs["a to b"].truth, [[4, 5, 6], [-1, -2, -3.5]])
    assert pairs["a to b"].patient == "p" and pairs["1 to 2"].patient == "1 to 2"
    assert {case.id: case.ct for case in dataset.cases}["1"] == root.parent / "c" / "1.nii"
    assert correspondences.read(root.parent)[1].keys() == pairs.keys()  # the folder stands for its points.csv


def test_scans_of_one_file_name_are_told_apart_by_their_folder(listing):
    dataset, pairs = correspondences.read(listing(HEADER + "p1/ct.nii,p2/ct.nii,1,2,3,4,5,6,p\n"))
    assert {case.id for case in dataset.cases} == {"p1/ct.nii", "p2/ct.nii"}
    assert next(iter(pairs.values())).baseline == "p1/ct.nii"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "no column"),
        (HEADER, "lists nothing"),
        (HEADER + "a.nii,,1,2,3,4,5,6,p\n", "line 2: baseline or followup is empty"),
        (HEADER + "a.nii,b.nii,1,2,3,4,5,6,p\na.nii,b.nii,1,2,here,4,5,6,p\n", "line 3: .* LPS mm"),
        (HEADER + "a.nii,b.nii,1,2,3,4,5,inf,p\n", "line 2: .* LPS mm"),
        (HEADER + "a.nii,b.nii,1,2,3,4,5,6,p\na.nii,b.nii,1,2,3,4,5,6,q\n", "line 3: the pair has another patient"),
    ],
)
def test_slips_are_named(listing, text, said):
    with pytest.raises(UserError, match=said):
        correspondences.read(listing(text))
