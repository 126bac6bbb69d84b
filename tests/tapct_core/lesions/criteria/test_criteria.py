"""The other criteria: each by the cases in which it differs from RECIST 1.1, and all behind one shape."""

from __future__ import annotations

import pytest

from tapct_core.errors import UserError
from tapct_core.export.csv import rows
from tapct_core.lesions import criteria
from tapct_core.lesions.assessment import assess, sum_mm, total
from tapct_core.lesions.criteria import CRITERIA
from tapct_core.lesions.study_file import load_study, save_study, study_json
from tapct_core.lesions.timepoints import snapshot

from ..findings import categories, gone, placed, seen, small, study_of

T, N, O = "target", "non-target", ""  # noqa: E741


def new(long, short=None):
    return seen(long, short, "new")


IRECIST = [
    ("progression is unconfirmed at first", [("l", T, False, [seen(50), seen(65)])], ["iUPD"]),
    ("confirmed by another 5 mm", [("l", T, False, [seen(50), seen(65), seen(70)])], ["iUPD", "iCPD"]),
    ("not confirmed by less", [("l", T, False, [seen(50), seen(65), seen(69)])], ["iUPD", "iUPD"]),
    ("small steps add up", [("l", T, False, [seen(50), seen(65), seen(69), seen(70)])], ["iUPD", "iUPD", "iCPD"]),
    ("confirmed progression lasts", [("l", T, False, [seen(50), seen(65), seen(70), seen(20)])],
     ["iUPD", "iCPD", "iCPD"]),
    ("a response resets the bar, and the next progression is unconfirmed again",
     [("l", T, False, [seen(50), seen(65), seen(30), seen(40)])], ["iUPD", "iPR", "iUPD"]),
    ("back to stable resets it too", [("l", T, False, [seen(50), seen(65), seen(55), seen(66)])],
     ["iUPD", "iSD", "iUPD"]),
    ("a new lesion does not stand in the way of a response",
     [("l", T, False, [seen(50), seen(50), seen(30)]), ("x", O, False, [None, new(10), seen(10)])], ["iUPD", "iPR"]),
    ("a new lesion that stays leaves it open",
     [("l", T, False, [seen(50), seen(50), seen(50)]), ("x", O, False, [None, new(10), seen(12)])], ["iUPD", "iUPD"]),
    ("new lesions that grow by 5 mm confirm it",
     [("l", T, False, [seen(50), seen(50), seen(50)]), ("x", O, False, [None, new(10), seen(15)])], ["iUPD", "iCPD"]),
    ("another new lesion confirms it",
     [("l", T, False, [seen(50)] * 3), ("x", O, False, [None, new(10), seen(10)]),
      ("y", O, False, [None, None, new(8)])], ["iUPD", "iCPD"]),
    ("progression in another category confirms it",
     [("l", T, False, [seen(50), seen(50), seen(65)]), ("x", O, False, [None, new(10), seen(10)])], ["iUPD", "iCPD"]),
    ("no complete response while a new lesion is there",
     [("l", T, False, [seen(50), gone(), gone()]), ("x", O, False, [None, new(10), gone()])], ["iUPD", "iCR"]),
    ("what was not measured leaves it open", [("l", T, False, [seen(50), seen(65), None, seen(70)])],
     ["iUPD", "NE", "iCPD"]),
    ("what is back after a complete response is unconfirmed progression",
     [("l", T, False, [seen(50), gone(), seen(4), seen(9)])], ["iCR", "iUPD", "iCPD"]),
    ("after a reset the next progression is measured from the nadir, and is unconfirmed",
     [("l", T, False, [seen(50), seen(65), seen(30), seen(36), seen(41)])], ["iUPD", "iPR", "iUPD", "iCPD"]),
    ("without progression as RECIST 1.1", [("l", T, False, [seen(50), seen(30), gone()])], ["iPR", "iCR"]),
]  # fmt: skip
MRECIST = [
    ("no least growth in mm", [("l", T, False, [seen(15), seen(18)])], ["PD"]),
    ("a new nodule below 10 mm does not count",
     [("l", T, False, [seen(30), seen(30)]), ("x", O, False, [None, new(9)])], ["SD"]),
    ("from 10 mm on it does", [("l", T, False, [seen(30), seen(30)]), ("x", O, False, [None, new(10)])], ["PD"]),
    ("nothing viable left is a complete response", [("l", T, False, [seen(30), gone()])], ["CR"]),
    ("nothing there is no growth", [("l", T, False, [seen(30), gone(), gone()])], ["CR", "CR"]),
]  # fmt: skip
LUGANO = [
    ("nodes up to 15 mm in long axis are normal", [("n", T, True, [seen(30, 20), seen(15, 12)])], ["CR"]),
    ("above it they are not", [("n", T, True, [seen(30, 20), seen(15.1, 12)])], ["PR"]),
    ("-50 % of the products", [("n", T, True, [seen(40, 20), seen(20, 20)])], ["PR"]),
    ("less is stable", [("n", T, True, [seen(40, 20), seen(21, 20)])], ["SD"]),
    ("one node +50 % and +5 mm, though the sum shrinks",
     [("n", T, True, [seen(60, 40), seen(30, 20)]), ("m", T, True, [seen(16, 12), seen(21, 14)])], ["PD"]),
    ("+50 % with less than 5 mm", [("n", T, True, [seen(16, 8), seen(18, 12)])], ["SD"]),
    ("a node above 20 mm must grow by 10 mm", [("n", T, True, [seen(24, 12), seen(30, 16)])], ["SD"]),
    ("and then it has progressed", [("n", T, True, [seen(24, 12), seen(34, 16)])], ["PD"]),
    ("a new node of 15 mm is none", [("n", T, True, [seen(30, 20)] * 2), ("x", O, True, [None, new(15, 12)])], ["SD"]),
    ("one over 15 mm is", [("n", T, True, [seen(30, 20)] * 2), ("x", O, True, [None, new(16, 12)])], ["PD"]),
    ("an extranodal one over 10 mm is", [("n", T, True, [seen(30, 20)] * 2), ("x", O, False, [None, new(11)])], ["PD"]),
    ("one that had gone and is back", [("e", T, False, [seen(30, 20), gone(), seen(12, 9)])], ["CR", "PD"]),
    ("too small to measure is 5 x 5 mm", [("e", T, False, [seen(30, 20), small()])], ["PR"]),
    ("not evaluated", [("n", T, True, [seen(30, 20), None])], ["NE"]),
    ("another site remains", [("n", T, True, [seen(30, 20), seen(12, 9)]), ("o", N, False, [placed()] * 2)], ["PR"]),
]  # fmt: skip
VOLUME = [
    ("-65 %", [("l", T, False, [seen(30, ml=10), seen(20, ml=3.5)])], ["PR"]),
    ("less", [("l", T, False, [seen(30, ml=10), seen(20, ml=3.6)])], ["SD"]),
    ("+73 % over the nadir", [("l", T, False, [seen(30, ml=10), seen(20, ml=2), seen(20, ml=3.46)])], ["PR", "PD"]),
    ("gone", [("l", T, False, [seen(30, ml=10), gone()])], ["CR"]),
    ("a diameter alone says nothing", [("l", T, False, [seen(30, ml=10), seen(60, ml=10)])], ["SD"]),
]  # fmt: skip
TABLE = [
    (name, *case)
    for name, cases in (("iRECIST", IRECIST), ("mRECIST", MRECIST), ("Lugano (CT)", LUGANO), ("volume", VOLUME))
    for case in cases
]


@pytest.mark.parametrize(("criterion", "what", "lesions", "expected"), TABLE, ids=[f"{c[0]}: {c[1]}" for c in TABLE])
def test_category(criterion, what, lesions, expected):
    assert categories(study_of(lesions, criterion)) == expected


@pytest.mark.parametrize("name", CRITERIA)
def test_every_criterion_is_a_pure_function_that_names_itself(name, tmp_path):
    study = study_of([("l", T, False, [seen(40, ml=9), seen(20, ml=2)]), ("o", N, False, [placed(), placed()])], name)
    before = snapshot(study)
    first = assess(study)
    assert assess(study) == first and study == before
    assert [one.criterion for one in first] == [name] and name in [row["criterion"] for row in rows(study)]
    assert total(study, "t0") is not None and (sum_mm(study, "t0") is None) == (CRITERIA[name].unit != "mm")
    assert first[0].response.unit == CRITERIA[name].unit and first[0].response.total == total(study, "t1")
    save_study(study, tmp_path / "s.json")
    assert study_json(load_study(tmp_path / "s.json")) == study_json(study)


def test_what_was_split_or_has_merged_is_in_lugano_s_sum_once():
    study = study_of(
        [("a", T, True, [seen(40, 20), seen(20, 10)]), ("p", O, True, [None, seen(20, 10)])], "Lugano (CT)"
    )
    study.relate(study.lesions[1].uid, "t1", "split", study.lesions[0].uid, "AB")
    one = assess(study)[0]
    assert (one.response.category, one.response.total) == ("PR", pytest.approx(400))
    both = [seen(40, 20), seen(50, 20)]
    study = study_of([("a", T, True, both), ("b", T, True, both)], "Lugano (CT)")
    study.relate(study.lesions[1].uid, "t1", "merged", study.lesions[0].uid, "AB")
    assert assess(study)[0].response.total == pytest.approx(1000)


def test_progression_of_non_targets_is_confirmed_by_a_second_word():
    study = study_of([("l", T, False, [seen(50)] * 4), ("o", N, False, [placed()] * 4)], "iRECIST")
    study.judge_non_targets("t1", True, "AB")
    assert categories(study) == ["iUPD", "iUPD", "iUPD"]
    study.judge_non_targets("t2", True, "AB")
    assert categories(study) == ["iUPD", "iCPD", "iCPD"]


def test_a_criterion_that_nobody_knows_is_neither_saved_nor_read(tmp_path):
    study = study_of([("l", T, False, [seen(50)])], "WHO")
    with pytest.raises(UserError, match="cannot be saved.*criterion is 'WHO'; it is one of RECIST 1.1"):
        save_study(study, tmp_path / "s.json")
    assert not (tmp_path / "s.json").exists()


NEW = """'The longest diameter alone.'
from tapct_core.lesions.criteria.criterion import Criterion
from tapct_core.lesions.criteria.sums import Rules, walk

def assess(study, slice_mm):
    return walk(study, slice_mm, Rules("longest"))

def total(study, timepoint):
    found = [lesion.findings.get(timepoint) for lesion in study.lesions]
    return max((one.counted.long_axis_mm for one in found if one is not None and one.counted), default=None)

CRITERION = Criterion("longest", "a test", "mm", assess, total)
"""


def test_another_criterion_is_one_file(tmp_path, monkeypatch):
    (tmp_path / "longest.py").write_text(NEW)
    monkeypatch.setattr(criteria, "__path__", [*criteria.__path__, str(tmp_path)])
    found = criteria._listed()
    assert list(found)[0] == "RECIST 1.1" and found.keys() - CRITERIA.keys() == {"longest"}
    monkeypatch.setitem(CRITERIA, "longest", found["longest"])
    study = study_of([("l", T, False, [seen(50), seen(20)]), ("m", T, False, [seen(30), seen(30)])], "longest")
    save_study(study, tmp_path / "s.json")
    again = load_study(tmp_path / "s.json")
    assert (total(again, "t0"), total(again, "t1")) == (50, 30) and categories(again) == ["PR"]
    assert {row["criterion"] for row in rows(again)} == {"longest"}
