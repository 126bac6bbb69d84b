"""LUNA16 in its own layout, made from a real CT; places are checked in the image, by what lies there."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from tapct_core import load_ct
from tapct_core.errors import UserError
from tests.training.evaluate import labelled_data as data
from training.evaluate.datasets import luna16


@pytest.fixture(scope="module")
def made(tmp_path_factory, data_dir):
    root = tmp_path_factory.mktemp("luna") / "LUNA16"
    return root, data.luna16(root, data_dir)


@pytest.fixture
def root(made, tmp_path):
    """A copy to break."""
    shutil.copytree(made[0], tmp_path / "LUNA16")
    return tmp_path / "LUNA16"


def test_nodules_lie_where_the_image_has_them(made):
    """Also where the header turns the axes round: candidates of class 1 are in a ball of 1500 HU, others are not."""
    root, _ = made
    found = luna16.read(root)
    assert found.classes == ("no nodule", "nodule") and found.by_point
    for case in found.dataset.cases:
        volume, target = load_ct(case.ct), found.targets[case.id]
        index = np.rint(volume.geometry.to_index(target.points)).astype(int)
        assert np.array_equal(volume.hu[tuple(index.T)] == 1500, target.labels == 1)


def test_subsets_are_the_splits_and_scans_the_cases(made):
    root, nodules = made
    found = luna16.read(root)
    assert [case.id for case in found.dataset.cases] == sorted(nodules)
    assert [case.split for case in found.dataset.cases] == [f"subset{n // 2}" for n in range(6)]
    assert found.dataset.left_out == () and "12 candidates that are nodules" in found.dataset.note


def test_negatives_are_drawn_by_seed_and_by_scan_alone(made, root):
    whole = luna16.read(made[0], negatives=0)
    some = luna16.read(made[0], negatives=3, seed=1)
    for id, target in some.targets.items():
        assert (target.labels == 1).sum() == 2 and (target.labels == 0).sum() == 3
        assert {tuple(p) for p in target.points} <= {tuple(p) for p in whole.targets[id].points}
    again, other = luna16.read(made[0], 3, 1), luna16.read(made[0], 3, 2)
    assert all(np.array_equal(again.targets[id].points, some.targets[id].points) for id in some.targets)
    assert any(not np.array_equal(other.targets[id].points, some.targets[id].points) for id in some.targets)
    shutil.rmtree(root / "subset0")
    fewer = luna16.read(root, 3, 1)
    assert all(np.array_equal(fewer.targets[id].points, some.targets[id].points) for id in fewer.targets)
    assert "2 scans of candidates_V2.csv are not in the folder" in fewer.dataset.left_out


def test_the_older_list_is_read_where_there_is_no_other(root):
    (root / "candidates_V2.csv").rename(root / "candidates.csv")
    assert "candidates.csv:" in luna16.read(root).dataset.note


def test_subsets_may_have_been_unpacked_one_level_deeper(made, root):
    deeper = root / "subset1" / "subset1"
    (root / "subset1").rename(root / "moved")
    deeper.parent.mkdir()
    (root / "moved").rename(deeper)
    found = luna16.read(root)
    assert [c.split for c in found.dataset.cases] == [c.split for c in luna16.read(made[0]).dataset.cases]


def test_nodules_without_a_candidate_are_counted(root):
    with open(root / "annotations.csv", "a", encoding="utf-8") as file:
        uid = next(iter(luna16.read(root).targets))
        file.write(f"{uid},-80.0,-20.0,60.0,5.0\n")
    assert "1 of 13 annotated nodules have no candidate within their radius" in luna16.read(root).dataset.left_out


def _empty(name):
    def spoil(root):
        text = (root / name).read_text().splitlines()
        (root / name).write_text(text[0] + "\n")

    return spoil


def _replace(name, old, new):
    def spoil(root):
        (root / name).write_text((root / name).read_text().replace(old, new, 1))

    return spoil


def _twice(root):
    path = next((root / "subset0").glob("*.mhd"))
    shutil.copy(path, root / "subset2" / path.name)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda root: shutil.rmtree(root), "no folder"),
        (lambda root: [shutil.rmtree(root / f"subset{n}") for n in range(3)], "unpack subset0.zip"),
        (lambda root: (root / "candidates_V2.csv").unlink(), "neither candidates_V2.csv nor candidates.csv"),
        (lambda root: (root / "annotations.csv").unlink(), "annotations.csv does not exist"),
        (_empty("annotations.csv"), "annotations.csv lists nothing"),
        (_empty("candidates_V2.csv"), "candidates_V2.csv lists nothing"),
        (_replace("candidates_V2.csv", ",class", ",kind"), "no column class"),
        (_replace("candidates_V2.csv", ",1\n", ",2\n"), "line 2: class is '2'"),
        (_replace("annotations.csv", ",32.0", ",wide"), "annotations.csv, line 2: diameter_mm"),
        (_twice, "keep one"),
    ],
)
def test_another_layout_is_named(root, spoil, said):
    spoil(root)
    with pytest.raises(UserError, match=said):
        luna16.read(root)


def test_places_that_are_no_numbers_are_named_with_their_line(root):
    lines = (root / "candidates_V2.csv").read_text().splitlines()
    uid, _, *rest = lines[4].split(",")
    lines[4] = ",".join([uid, "nan", *rest])
    (root / "candidates_V2.csv").write_text("\n".join(lines))
    with pytest.raises(UserError, match="candidates_V2.csv, line 5: .* LPS mm"):
        luna16.read(root)


def test_one_class_alone_is_refused(root):
    text = (root / "candidates_V2.csv").read_text().splitlines()
    (root / "candidates_V2.csv").write_text("\n".join(line for line in text if not line.endswith(",1")))
    with pytest.raises(UserError, match="no candidates of both classes"):
        luna16.read(root)
