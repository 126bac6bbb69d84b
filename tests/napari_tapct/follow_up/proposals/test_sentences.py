"""What is said: the library's own bands and reach, nothing certain that is not, and every verdict plainly."""

from __future__ import annotations

import subprocess
import sys

import pytest

from napari_tapct.follow_up.proposals import sentences as words
from napari_tapct.follow_up.proposals.sentences import band_of, candidate_words, explain, percent, title_of
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
    ("probability", "said"), [(1.0, ">99%"), (0.991, ">99%"), (0.99, "99%"), (0.5, "50%"), (0.01, "1%"), (0.001, "<1%")]
)
def test_nothing_is_said_to_be_certain(probability, said):
    assert percent(probability) == said


def test_bands_and_similarity_where_nothing_was_calibrated():
    assert [band_of(p) for p in (0.95, 0.9, 0.7, 0.1, None)] == ["high", "high", "moderate", "low", ""]
    assert candidate_words(Candidate((0, 0, 0), 0.873)) == "alike 0.87"
    assert candidate_words(Candidate((0, 0, 0), 0.9, 1.0, 0.42)) == "42% sure"
    assert "not calibrated" in explain(Finding(point_lps_mm=(0, 0, 0)), None)


def test_what_was_searched_elsewhere_is_not_made_up():
    gone = Finding("disappeared", presence=0.2, verdict="not found")
    assert explain(gone, None).startswith("Not found.") and "looked for" not in explain(gone, None)
    assert explain(Finding(verdict="out of view"), None).startswith("Out of view: its place lies outside")
    assert explain(None, None) == "Nothing was looked for here yet."


@pytest.mark.parametrize("state", STATES)
def test_titles_tell_proposals_from_decisions(state):
    assert title_of(Finding(state, decided_by="AB")) == f"{state}, by AB"
    assert "by" not in title_of(Finding(state))
    assert title_of(None) == "not looked for yet"
