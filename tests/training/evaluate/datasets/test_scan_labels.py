"""A CSV of scans with labels: classes in a known order, and every slip named."""

from __future__ import annotations

import pytest

from tapct_core.errors import UserError
from training.evaluate.datasets import scan_labels


@pytest.fixture
def listing(tmp_path):
    def write(text: str):
        (tmp_path / "scans.csv").write_text(text)
        return tmp_path / "scans.csv"

    return write


def test_cases_labels_and_classes(listing):
    root = listing("case,ct,label,patient\na,ct/a.nii,yes,p\nb,ct/b.nii,no,q\n,ct/c.nii.gz,yes,\nd,d,no,q\ne,e.nii,,\n")
    found = scan_labels.read(root)
    assert found.classes == ("no", "yes") and not found.by_point
    assert {id: int(target.labels[0]) for id, target in found.targets.items()} == {"a": 1, "b": 0, "c": 1, "d": 0}
    assert [case.group for case in found.dataset.cases] == ["p", "q", "", "q"]
    assert found.dataset.cases[2].ct == root.parent / "ct" / "c.nii.gz"
    assert found.dataset.left_out == ("1 scan without a label",)
    assert scan_labels.read(root, positive="no").classes == ("yes", "no")


def test_numbers_are_ordered_by_size_and_any_column_may_be_the_label(listing):
    root = listing("ct,stage\na.nii,10\nb.nii,2\nc.nii,10\nd.nii,2\n")
    assert scan_labels.read(root, "stage").classes == ("2", "10")


def test_a_folder_stands_for_its_cases_csv(listing):
    root = listing("ct,label\na.nii,x\nb.nii,y\nc.nii,x\nd.nii,y\n")
    root.rename(root.with_name("cases.csv"))
    found = scan_labels.read(root.parent)
    assert len(found.dataset.cases) == 4 and found.dataset.name == root.parent.name


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("ct,kind\na.nii,x\n", {}, "no column label"),
        ("ct,label\n", {}, "lists nothing"),
        ("ct,label\n,x\n", {}, "line 2: ct is empty"),
        ("ct,label\na.nii,\nb.nii,\n", {}, "no scan has a label"),
        ("ct,label\na.nii,x\nb.nii,x\n", {}, "every scan has the label x"),
        ("ct,label\na.nii,1.5\nb.nii,1.5\nc.nii,2.25\n", {}, "cut a number into ranges"),
        ("ct,label\na.nii,x\nb.nii,y\nc.nii,x\nd.nii,y\n", {"positive": "z"}, "its labels are x, y"),
        ("ct,label\na/1.nii,x\nb/1.nii,y\nc.nii,x\nd.nii,y\n", {}, "names the case 1 twice"),
        ("ct,label,split\na.nii,x,1\nb.nii,y,\nc.nii,x,1\nd.nii,y,2\n", {}, "some cases a split and others none"),
        ("ct,label,split,patient\na.nii,x,1,p\nb.nii,y,2,p\nc.nii,x,1,q\nd.nii,y,2,r\n", {}, "in two splits"),
    ],
)
def test_slips_are_named(listing, text, options, said):
    with pytest.raises(UserError, match=said):
        scan_labels.read(listing(text), **options)


def test_a_patient_is_never_named(listing):
    root = listing("ct,label,split,patient\na.nii,x,1,Jane Doe\nb.nii,y,2,Jane Doe\nc.nii,x,1,q\nd.nii,y,2,r\n")
    with pytest.raises(UserError) as error:
        scan_labels.read(root)
    assert "Jane" not in str(error.value)
