"""What is said: the library's own bands and reach, nothing certain that is not, and every verdict plainly."""

from __future__ import annotations

import subprocess
import sys

import pytest

from napari_tapct.follow_up.proposals import sentences as words
from napari_tapct.follow_up.proposals.sentences import (
    band_of,
    candidate_words,
    chance,
    explain,
    percent,
    surely_gone,
    title_of,
)
from tapct_core.lesions import STATES, Candidate, Finding
from tapct_core.matching.confidence import BANDS
from tapct_core.matching.matcher import GATE_MM


def test_bands_and_reach_are_the_librarys():
    assert words.BANDS == BANDS and words.GATE_MM == GATE_MM


def test_the_widget_is_imported_without_torch():
    script = "import sys, napari_tapct.follow_up.widget; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True)
    assert run.stdout.strip() == "False", run.stderr


@pytest.mark.parametrize(
    ("probability", "said"),
    [(1.0, ">99 %"), (0.991, ">99 %"), (0.99, "99 %"), (0.5, "50 %"), (0.01, "1 %"), (0.001, "<1 %")],
)
def test_nothing_is_said_to_be_certain(probability, said):
    assert percent(probability) == said


def test_bands_and_similarity_where_nothing_was_calibrated():
    assert [band_of(p) for p in (0.95, 0.9, 0.7, 0.1, None)] == ["high", "high", "moderate", "low", ""]
    assert candidate_words(Candidate((0, 0, 0), 0.873), Finding()) == "alike 0.87"
    assert candidate_words(Candidate((0, 0, 0), 0.9, 1.0, 0.42), Finding()) == "here: 42 %"
    uncalibrated = Finding(point_lps_mm=(0, 0, 0), candidates=(Candidate((0, 0, 0), 0.9),))
    assert "not calibrated" in explain(uncalibrated, None)


@pytest.mark.parametrize(
    ("finding", "sure", "says", "key"),
    [
        (Finding("proposed", (0, 0, 0), confidence=0.9, presence=0.8), False, "72 %", "⇧A accepts."),
        (Finding("disappeared", presence=0.05), True, "gone with a probability of 95 %", "⇧A accepts that"),
        (Finding("disappeared", presence=0.8), False, "gone with a probability of 20 %, which is not sure", "⇧X"),
        (Finding("disappeared"), False, "was not calibrated", "⇧X"),
        (Finding("proposed", verdict="out of view"), False, "Out of view", "⇧D"),
        (Finding("proposed", verdict="refused", reason="it is air"), False, "Not looked for: it is air", "⇧D"),
    ],
)
def test_one_sentence_with_one_probability_and_the_key_that_follows(finding, sure, says, key):
    words = explain(finding, None)
    assert says in words and key in words and surely_gone(finding) is sure
    assert words.count(" %") <= 1
    assert ("⇧A" in words) == (finding.present or finding.state == "disappeared")


@pytest.mark.parametrize("state", ["accepted", "moved", "new", "not present"])
def test_nothing_is_said_of_calibration_where_a_person_has_spoken(state):
    place = None if state == "not present" else (0, 0, 0)
    words = explain(Finding(state, place, "AB"), None)
    assert "calibrated" not in words and "AB" in words and "%" not in words


def test_candidates_of_a_lesion_that_was_not_found_have_no_chance_of_their_own():
    candidate = Candidate((0, 0, 0), 0.9, 1.0, 0.99)
    assert chance(candidate, Finding("disappeared", presence=0.8)) is None
    assert chance(candidate, Finding(presence=0.5)) == pytest.approx(0.495)


def test_what_was_searched_elsewhere_is_not_made_up():
    gone = Finding("disappeared", presence=0.2, verdict="not found")
    assert explain(gone, None).startswith("Not found: it has gone") and "looked for" not in explain(gone, None)
    assert explain(Finding(verdict="out of view"), None).startswith(
        "Out of view: its place lies outside what this scan shows"
    )
    assert explain(None, None) == "Nothing was looked for here yet."


@pytest.mark.parametrize("state", STATES)
def test_titles_tell_proposals_from_decisions(state):
    assert title_of(Finding(state, decided_by="AB")) == f"{state}, by AB"
    assert "by" not in title_of(Finding(state))
    assert title_of(None) == "not looked for yet"
