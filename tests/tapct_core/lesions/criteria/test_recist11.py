"""RECIST 1.1 section by section: what the guideline and EORTC's published questions and answers say of each case."""

from __future__ import annotations

import pytest

from tapct_core.lesions import Finding
from tapct_core.lesions.assessment import assess

from ..findings import WHEN, P, categories, doubtful, gone, placed, seen, small, study_of

T, N, O = "target", "non-target", ""  # noqa: E741

CASES = [
    # 3.1, 4.1 and appendix II: nodes, measurability
    ("4.3.1 target node under 10 mm is CR", [("n", T, True, [seen(20, 16), seen(12, 9.9)])], ["CR"]),
    ("4.3.1 target node at 10 mm is not", [("n", T, True, [seen(20, 16), seen(12, 10.0)])], ["PR"]),
    ("4.3.1 node and lesion: both must be normal",
     [("l", T, False, [seen(30), gone()]), ("n", T, True, [seen(20, 16), seen(14, 11)])], ["PR"]),
    ("4.3.1 a node's sum need not be 0 for CR",
     [("l", T, False, [seen(30), gone()]), ("n", T, True, [seen(20, 16), seen(9, 8)])], ["CR"]),
    ("4.1 present and too small to measure is 5 mm", [("l", T, False, [seen(30), small()])], ["PR"]),
    ("4.1 the same, placed by hand without a mask", [("l", T, False, [seen(30), placed()])], ["PR"]),
    ("4.1 5 mm counts for growth from a nadir",
     [("a", T, False, [seen(12), small(), seen(11)])], ["PR", "PD"]),
    ("Q&A: measurable under 5 mm is recorded as measured", [("l", T, False, [seen(10), seen(3)])], ["PR"]),
    ("4.1 a node too small to measure is normal", [("n", T, True, [seen(20, 16), small()])], ["CR"]),
    ("not measured at baseline", [("l", T, False, [placed(), seen(10)])], ["NE"]),
    # 4.3.1 thresholds
    ("4.3.1 exactly -30 %", [("l", T, False, [seen(100), seen(70)])], ["PR"]),
    ("4.3.1 just less", [("l", T, False, [seen(100), seen(70.1)])], ["SD"]),
    ("4.3.1 exactly +20 % and +5 mm", [("l", T, False, [seen(25), seen(30)])], ["PD"]),
    ("4.3.1 +20 % without 5 mm", [("l", T, False, [seen(20), seen(24.9)])], ["SD"]),
    ("4.3.1 5 mm without +20 %", [("l", T, False, [seen(100), seen(119)])], ["SD"]),
    ("4.3.1 the nadir may be the baseline", [("l", T, False, [seen(50), seen(55), seen(60)])], ["SD", "PD"]),
    ("4.3.1 from the nadir, though below baseline",
     [("l", T, False, [seen(100), seen(40), seen(50)])], ["PR", "PD"]),
    ("Q&A: a response goes on until progression",
     [("l", T, False, [seen(165), seen(63), seen(65)])], ["PR", "PR"]),
    ("Q&A: also above -30 %", [("l", T, False, [seen(100), seen(70), seen(80), seen(83)])], ["PR", "PR", "PR"]),
    ("a gap is no nadir", [("l", T, False, [seen(100), None, seen(70)])], ["NE", "PR"]),
    # Table 1
    ("T1 CR, non-target gone", [("l", T, False, [seen(30), gone()]), ("o", N, False, [placed(), gone()])], ["CR"]),
    ("T1 CR, non-target remains", [("l", T, False, [seen(30), gone()]), ("o", N, False, [placed(), placed()])], ["PR"]),
    ("T1 CR, non-target not evaluated",
     [("l", T, False, [seen(30), gone()]), ("o", N, False, [placed(), None])], ["PR"]),
    ("T1 PR, non-target not evaluated",
     [("l", T, False, [seen(30), seen(10)]), ("o", N, False, [placed(), None])], ["PR"]),
    ("T1 SD, non-target not evaluated",
     [("l", T, False, [seen(30), seen(29)]), ("o", N, False, [placed(), None])], ["SD"]),
    ("T1 not all targets evaluated",
     [("a", T, False, [seen(30), seen(10)]), ("b", T, False, [seen(30), None])], ["NE"]),
    ("T1 PD of what was measured overrides NE",
     [("a", T, False, [seen(30), seen(80)]), ("b", T, False, [seen(30), None])], ["PD"]),
    ("T1 a new lesion overrides NE",
     [("a", T, False, [seen(30), None]), ("x", O, False, [None, seen(8, state="new")])], ["PD"]),
    ("T1 a new lesion overrides CR",
     [("a", T, False, [seen(30), gone()]), ("x", O, False, [None, seen(8, state="new")])], ["PD"]),
    # Table 2
    ("T2 all gone", [("o", N, False, [placed(), gone()])], ["CR"]),
    ("T2 remains", [("o", N, False, [placed(), placed()])], ["Non-CR/Non-PD"]),
    ("T2 not evaluated", [("o", N, False, [placed(), None])], ["NE"]),
    ("T2 one remains, one is not evaluated",
     [("o", N, False, [placed(), placed()]), ("p", N, False, [placed(), None])], ["NE"]),
    ("T2 out of view is not evaluated", [("o", N, False, [placed(), Finding(verdict="out of view")])], ["NE"]),
    ("T2 new lesion", [("o", N, False, [placed(), placed()]), ("x", O, False, [None, seen(8, state="new")])], ["PD"]),
    ("no lesion at all", [("o", O, False, [placed(), placed()])], ["NE"]),
    # 4.3.3: non-target nodes
    ("4.3.3 non-target node to 6 mm",
     [("l", T, False, [seen(30), gone()]), ("n", N, True, [seen(18, 13), seen(9, 6)])], ["CR"]),
    ("4.3.3 non-target node at 10 mm remains",
     [("l", T, False, [seen(30), gone()]), ("n", N, True, [seen(18, 13), seen(14, 10)])], ["PR"]),
    ("4.3.3 non-target node, too small", [("n", N, True, [seen(18, 13), small()])], ["CR"]),
    ("4.3.3 non-target node, there but not measured", [("n", N, True, [seen(18, 13), placed()])], ["Non-CR/Non-PD"]),
    ("4.3.3 a non-target that is no node must vanish", [("o", N, False, [seen(13), seen(6)])], ["Non-CR/Non-PD"]),
    # 4.3.5 new lesions
    ("4.3.5 lasts", [("l", T, False, [seen(30), seen(30), seen(30)]),
                     ("x", O, False, [None, seen(8, state="new"), gone()])], ["PD", "PD"]),
    ("4.3.5 a new node under 10 mm is normal",
     [("l", T, False, [seen(30), seen(30)]), ("x", O, True, [None, seen(12, 9, state="new")])], ["SD"]),
    ("4.3.5 from 10 mm on it is pathological",
     [("l", T, False, [seen(30), seen(30)]), ("x", O, True, [None, seen(14, 11, state="new")])], ["PD"]),
    ("4.3.5 and from 15 mm on without reserve",
     [("l", T, False, [seen(30), seen(30)]), ("x", O, True, [None, seen(20, 16, state="new")])], ["PD"]),
    ("a new lesion whose mark was moved is new",
     [("l", T, False, [seen(30), seen(30)]), ("x", O, False, [None, seen(8, state="moved")])], ["PD"]),
    ("a new lesion called a target is no target",
     [("l", T, False, [seen(30), seen(30)]), ("x", T, False, [None, seen(8, state="new")])], ["PD"]),
    # Q&A: what disappears and comes back
    ("Q&A back after CR, 4 mm", [("l", T, False, [seen(30), gone(), seen(4)])], ["CR", "PD"]),
    ("Q&A back after CR, too small to measure", [("l", T, False, [seen(30), gone(), small()])], ["CR", "PD"]),
    ("Q&A back after CR and a scan that was not evaluated",
     [("l", T, False, [seen(30), gone(), None, seen(4)])], ["CR", "NE", "PD"]),
    ("Q&A non-target back after CR",
     [("l", T, False, [seen(30), gone(), gone()]), ("o", N, False, [placed(), gone(), placed()])], ["CR", "PD"]),
    ("Q&A back without CR counts in the sum",
     [("a", T, False, [seen(30), gone(), seen(4)]), ("b", T, False, [seen(30), seen(30), seen(30)])], ["PR", "PR"]),
    ("Q&A target node back from 10 mm on", [("n", T, True, [seen(20, 16), seen(9, 8), seen(14, 11)])], ["CR", "PD"]),
    ("Q&A target node under 10 mm is still CR",
     [("n", T, True, [seen(20, 16), seen(9, 7), seen(12, 9)])], ["CR", "CR"]),
    ("Q&A non-target node back is a person's word",
     [("l", T, False, [seen(30), gone(), gone()]), ("n", N, True, [seen(18, 13), seen(9, 6), seen(14, 11)])],
     ["CR", "PR"]),
    ("progression by what came back lasts", [("l", T, False, [seen(30), gone(), seen(4), gone()])], ["CR", "PD", "PD"]),
    # 4.3.5 and Q&A once more: nodes on both sides of 10 and 15 mm, nadir, NE beside PD
    ("a new node at exactly 10 mm", [("l", T, False, [seen(30), seen(30)]),
                                     ("x", O, True, [None, seen(14, 10.0, state="new")])], ["PD"]),
    ("a new node at 9.9 mm grows to 10", [("l", T, False, [seen(30), seen(30), seen(30)]),
                                          ("x", O, True, [None, seen(14, 9.9, state="new"), seen(14, 10)])],
     ["SD", "PD"]),
    ("a target node above 15 at the nadir of 9 that grows to 14",
     [("n", T, True, [seen(30, 20), seen(12, 9), seen(16, 14)])], ["CR", "PD"]),
    ("4.3.1 the nadir is the smallest, not the last",
     [("l", T, False, [seen(100), seen(40), seen(46), seen(48)])], ["PR", "PR", "PD"]),
    ("4.3.1 a scan that was not evaluated hides no progression",
     [("l", T, False, [seen(50), seen(40), None, seen(48)])], ["SD", "NE", "PD"]),
    ("T1 non-target progress is not read from sizes",
     [("l", T, False, [seen(30), seen(30)]), ("o", N, False, [seen(12), seen(40)])], ["SD"]),
    ("back after CR, then not evaluated", [("l", T, False, [seen(30), gone(), seen(4), None])], ["CR", "PD", "PD"]),
    # appendix II: what is doubtful
    ("a doubtful measurement enters no sum", [("l", T, False, [seen(12), doubtful(51)])], ["NE"]),
    ("of a non-target node neither", [("n", N, True, [seen(18, 13), doubtful(5)])], ["Non-CR/Non-PD"]),
]  # fmt: skip


@pytest.mark.parametrize(("what", "lesions", "expected"), CASES, ids=[case[0] for case in CASES])
def test_category(what, lesions, expected):
    assert categories(study_of(lesions)) == expected


def test_merged_targets_count_once_and_parts_add_up():
    study = study_of([("a", T, False, [seen(30), seen(50)]), ("b", T, False, [seen(20), seen(50)])])
    study.relate(study.lesions[1].uid, "t1", "merged", study.lesions[0].uid, "AB")
    assert assess(study)[0].response.sum_mm == pytest.approx(50) and categories(study) == ["SD"]
    study = study_of([("a", T, False, [seen(40), seen(10), seen(10)]), ("p", O, False, [None, seen(8), None])])
    study.relate(study.lesions[1].uid, "t1", "split", study.lesions[0].uid, "AB")
    first, second = assess(study)
    assert (first.response.category, first.response.sum_mm, first.new_lesions) == ("PR", pytest.approx(18), ())
    assert second.response.category == "NE"  # a part that was not looked at


def test_what_has_merged_stays_one_at_later_scans():
    """The tracker proposes both at one place again, and each is measured there: the sum holds it once."""
    both = [seen(30), seen(40), seen(44)]
    study = study_of([("a", T, False, both), ("b", T, False, [seen(20), seen(40), seen(44)])])
    study.relate(study.lesions[1].uid, "t1", "merged", study.lesions[0].uid, "AB")
    assert [one.response.sum_mm for one in assess(study)] == [pytest.approx(40), pytest.approx(44)]
    study.lesions[1].findings.pop("t2")  # nor is it missed where nobody looked for it again
    assert categories(study) == ["SD", "SD"]
    study.lesions[0].findings["t2"] = gone()
    assert categories(study) == ["SD", "CR"]
    study.move(study.lesions[1].uid, "t2", P, "AB")  # a person places it elsewhere: there are two again
    assert categories(study) == ["SD", "NE"]


def test_a_part_of_a_non_target_remains_where_the_rest_has_gone():
    lesions = [("l", T, False, [seen(30), gone()]), ("o", N, False, [placed(), gone()])]
    study = study_of([*lesions, ("p", O, False, [None, placed()])])
    study.relate(study.lesions[2].uid, "t1", "split", study.lesions[1].uid, "AB")
    assert categories(study) == ["PR"]
    assert assess(study)[0].new_lesions == ()


def test_a_non_target_that_merged_into_a_target_goes_with_it():
    study = study_of([("l", T, False, [seen(30), seen(32), gone()]), ("o", N, False, [placed(), placed(), None])])
    assert categories(study) == ["SD", "PR"]
    study.relate(study.lesions[1].uid, "t1", "merged", study.lesions[0].uid, "AB")
    assert categories(study) == ["SD", "CR"]


def test_a_node_below_10_mm_is_no_lesion_and_that_is_said():
    study = study_of([("l", T, False, [seen(30), seen(30)]), ("n", N, True, [seen(12, 9), seen(12, 9)])])
    assert "n: short axis 9.0 mm; a node below 10 mm is normal" in assess(study)[0].objections


def test_where_a_person_may_overrule_that_is_said_to_the_window():
    back = study_of([("l", T, False, [seen(30), gone(), seen(4)])])
    assert [one.asks_of_recurrence for one in assess(back)] == [False, True]
    node = study_of([("l", T, False, [seen(30)] * 2), ("x", O, True, [None, seen(14, 11, "new")])])
    assert assess(node)[0].asks_of_recurrence
    assert not assess(study_of([("l", T, False, [seen(30), seen(60)])]))[0].asks_of_recurrence


def test_a_node_that_merged_is_no_hindrance_to_a_complete_response():
    study = study_of([("a", T, True, [seen(30, 16), seen(9, 8)]), ("b", T, True, [seen(20, 15), seen(9, 8)])])
    study.relate(study.lesions[1].uid, "t1", "merged", study.lesions[0].uid, "AB")
    assert categories(study) == ["CR"]


def test_unequivocal_progression_is_a_persons_word_and_goes_before_all_else():
    study = study_of([("l", T, False, [seen(30), None]), ("o", N, False, [placed(), placed()])])
    assert categories(study) == ["NE"]
    study.judge_non_targets("t1", True, "AB")
    assert categories(study) == ["PD"]


def test_a_person_may_say_that_what_came_back_is_no_progression():
    study = study_of([("l", T, False, [seen(30), gone(), seen(4), seen(4)])])
    _, back, _ = assess(study)
    assert "back after a complete response: l" in back.response.rule and "a person may say" in back.remarks[0]
    study.judge_recurrence("t2", False, "CD", "scar")
    _, back, later = assess(study)
    assert (back.response.category, later.response.category) == ("PR", "PR") and "says CD" in back.remarks[0]
    study.judge_recurrence("t2", True, "CD")
    assert categories(study) == ["CR", "PD", "PD"]


def test_a_new_node_below_15_mm_may_wait_for_the_next_scan_by_a_persons_word():
    study = study_of([("l", T, False, [seen(30)] * 3), ("x", O, True, [None, seen(14, 11, "new"), seen(20, 16)])])
    one = assess(study)[0]
    assert one.response.category == "PD" and "below 15 mm" in one.remarks[0]
    study.judge_recurrence("t1", False, "AB")
    assert categories(study) == ["SD", "PD"]  # at the next scan it has grown past 15 mm


def test_what_was_assumed_or_is_doubtful_is_said_and_leaves_the_response_provisional():
    one = assess(study_of([("l", T, False, [seen(30), placed()])]))[0]
    assert one.provisional and "counted as too small to measure (5 mm)" in one.remarks[0]
    assert not assess(study_of([("l", T, False, [seen(30), small()])]))[0].provisional
    study = study_of([("l", T, False, [seen(12), doubtful(51)])])
    assert "doubtful (51 mm, where it was 12 mm)" in assess(study)[0].remarks[0]
    study.confirm_measurement(study.lesions[0].uid, "t1", "AB")
    assert categories(study) == ["PD"] and assess(study)[0].remarks == ()


def test_what_a_program_placed_and_nobody_measured_is_not_taken_for_small():
    found = Finding("accepted", P, "AB", WHEN, inputs="0123")
    assert categories(study_of([("l", T, False, [seen(30), found])])) == ["NE"]
    proposal = Finding("proposed", P)
    assert categories(study_of([("l", T, False, [seen(30), proposal])])) == ["NE"]


def test_the_choice_of_targets_is_objected_to():
    lesions = [(f"l{i}", T, False, [seen(12), seen(12)]) for i in range(3)]
    lesions += [("n", T, True, [seen(16, 12), seen(16, 12)]), ("x", T, False, [None, seen(20, state="new")])]
    objections = "; ".join(assess(study_of(lesions))[0].objections)
    for words in ("3 targets in liver", "n: short axis 12.0 mm", "x: not there at baseline"):
        assert words in objections
