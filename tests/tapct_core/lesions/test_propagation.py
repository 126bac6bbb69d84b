"""The whole-study run on a real pair with known truth: what is proposed, measured, skipped, and left alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tapct_core.embedding import embed
from tapct_core.errors import UserError
from tapct_core.lesions import Finding, Lesion, Study, Timepoint, growing_on, propagation
from tapct_core.lesions.propagation import Step, refusals, run_all, summary, to_verify
from tapct_core.lesions.timepoints import snapshot
from tapct_core.lesions.tracking import propose
from tapct_core.progress import MatchingCancelled

from ..pairs import moved_pair

NAMES = ("before", "after")


class Scans(dict):
    """Scans in memory, compared by HU; it counts how often two are asked for together."""

    compared = 0

    def volume(self, name):
        return self[name][0]

    def features(self, name):
        return None

    def maps(self, before, after):
        self.compared += 1
        return self[before][1], self[after][1]


@pytest.fixture(scope="module")
def maps():
    """The scans of the pair with what they are compared by, made once."""
    made = moved_pair()
    return {name: (volume, embed(volume, None)) for name, volume in zip(NAMES, (made.before, made.after), strict=True)}


@pytest.fixture
def scans(maps) -> Scans:
    """Both scans at hand."""
    return Scans(maps)


@pytest.fixture
def study() -> Study:
    """Three lesions that a person has marked in the first scan."""
    made = Study("p", [Timepoint(name, f"{name}.nii") for name in NAMES])
    for number, place in enumerate(moved_pair().places, start=1):
        made.add_lesion(f"L{number}", "before", tuple(place), "AB")
    return made


def test_the_run_proposes_and_measures_all_and_touches_no_decision(scans, study):
    pair = moved_pair()
    decided = study.lesions[1].uid
    study.move(decided, "after", tuple(pair.places[1] + pair.shift_mm + 1), "AB")
    own, seen = snapshot(study), []
    steps = list(run_all(own, scans, lambda done, total: seen.append((done, total))))
    assert [step.timepoint for step in steps] == list(NAMES) and seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    for step in steps:
        step.put_into(study)
    first, second, third = study.lesions
    for lesion, radius in ((first, 7.0), (second, 6.0), (third, 6.5)):
        assert lesion.findings["before"].measurement.long_axis_mm == pytest.approx(2 * radius, abs=2.5)
    assert first.findings["after"].measurement.long_axis_mm == pytest.approx(18, abs=3)
    assert not first.findings["after"].decided and first.findings["after"].mask_by == "grown"
    assert second.findings["after"].state == "moved" and second.findings["after"].decided_by == "AB"
    assert third.findings["after"].state == "disappeared" and third.findings["after"].mask is None
    assert to_verify(study) == [(first.uid, "after"), (third.uid, "after")]


def test_what_rests_on_nothing_new_is_not_looked_for_again(scans, study, monkeypatch):
    calls = []
    real = propagation.propose
    monkeypatch.setattr(propagation, "propose", lambda *args: calls.append(args[1:3]) or real(*args))
    list(run_all(study, scans))
    assert calls == [("after", "before")] and scans.compared == 1
    again = list(run_all(study, scans))
    assert len(calls) == 1 and all(step.findings == {} and step.masks == {} for step in again)
    study.accept(study.lesions[0].uid, "after", "AB")  # the others must suit what was decided: looked for anew
    list(run_all(study, scans))
    assert len(calls) == 2


def test_a_place_that_is_refused_is_a_finding_with_its_reason_and_stops_no_other(scans, study):
    outside = study.add_lesion("L4", "before", (0.0, 0.0, 9000.0), "AB")
    _, after = run_all(study, scans)
    found = outside.findings["after"]
    assert (found.verdict, found.present, found.decided) == ("refused", False, False)
    assert "outside the baseline scan" in found.reason
    assert study.lesions[0].findings["after"].present and after.failures == []
    assert summary(after.findings.values()) == "4 looked for: 2 found, 1 not found, 0 out of view, 1 refused"
    assert refusals(study, after) == [f"L4 at after: {found.reason}"]
    with pytest.raises(UserError, match="nothing was proposed"):
        study.accept(outside.uid, "after", "AB")


def test_grown_masks_carry_how_far_they_are_believed_and_history_counts(scans, study):
    _, after = run_all(study, scans)
    assert study.lesions[0].findings["before"].plausibility.value > 0.5
    assert after.masks[study.lesions[0].uid].plausibility == study.lesions[0].findings["after"].plausibility
    again = snapshot(study)
    first = again.lesions[0]
    first.findings["before"].measurement = replace(first.findings["before"].measurement, long_axis_mm=5.0)
    first.findings["after"].mask = first.findings["after"].measurement = None
    (_, later) = run_all(again, scans)
    assert later.masks[first.uid].plausibility.value < 0.5 and first.findings["after"].doubtful


def test_a_mask_starts_from_the_earlier_one_and_not_where_that_scan_cannot_be_read(scans, study, monkeypatch):
    """The earlier scan's file is gone: what was placed by hand is all the same measured."""
    pair, lesion, starts = moved_pair(), study.lesions[0], []
    real = growing_on.grow_on
    monkeypatch.setattr(growing_on, "grow_on", lambda *args: starts.append(args[-1]) or real(*args))
    list(run_all(study, Scans(before=scans["before"])))
    assert starts == [None] * 3, "there is nothing before the first scan"
    study.move(lesion.uid, "after", tuple(pair.places[0] + pair.shift_mm), "AB")

    class Moved(Scans):
        def volume(self, name):
            if name == "before":
                raise UserError("no such file")
            return super().volume(name)

    for at_hand in (scans, Moved(scans)):
        notes: list[str] = []
        found = propagation.grown(study, lesion, "after", at_hand, notes)[lesion.uid]
        assert notes == [] and found.measurement.long_axis_mm == pytest.approx(18, abs=3)
    carried, none = starts[3:]
    assert carried.mask is lesion.findings["before"].mask and carried.volume is pair.before and none is None
    np.testing.assert_allclose(carried.motion[:3, 3], pair.shift_mm, atol=1e-6)


def test_the_run_stops_when_asked_and_says_why_something_is_missing(scans, study):
    assert list(run_all(snapshot(study), scans, cancelled=lambda: True)) == []
    only = Scans(after=scans["after"])
    (step,) = run_all(snapshot(study), only)
    assert step.findings == {} and "before is not open" in step.notes[0]


def test_a_step_that_comes_too_late_changes_nothing_that_is_gone_or_decided(study):
    uid = study.lesions[0].uid
    study.accept(study.lesions[1].uid, "before", "AB")
    step = Step("after", {uid: Finding(point_lps_mm=(1, 1, 1))})
    study.not_present(uid, "after", "AB")
    step.put_into(study)
    assert study.lesions[0].findings["after"].state == "not present"
    study.lesions = [Lesion("other")]
    step.put_into(study)
    assert study.lesions[0].findings == {}
    study.timepoints.pop()
    step.put_into(study)


def test_a_mask_grown_elsewhere_is_not_taken(scans, study):
    (before, _) = run_all(snapshot(study), scans)
    uid = study.lesions[0].uid
    study.move(uid, "before", tuple(np.add(study.lesions[0].findings["before"].point_lps_mm, 1)), "AB")
    before.put_into(study)
    assert study.lesions[0].findings["before"].mask is None and study.lesions[1].findings["before"].mask is not None


def test_a_run_stops_in_the_middle_of_comparing_two_scans(scans, study):
    """Between the steps of getting two scans ready, not only between lesions: nothing was measured by then."""
    asked = []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) > 4

    for name in NAMES:  # maps of their own, which nothing has got ready yet
        scans[name] = (scans[name][0], replace(scans[name][1]))
    steps = list(run_all(snapshot(study), scans, cancelled=cancelled))
    assert [step.timepoint for step in steps] in ([], ["before"]) and all(not step.findings for step in steps)
    with pytest.raises(MatchingCancelled):
        propose(study, "after", "before", scans["before"][1], scans["after"][1], cancel=lambda: True)
