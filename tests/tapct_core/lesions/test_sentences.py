"""One sentence, one probability: what is said of every state, and whether accepting will do."""

from __future__ import annotations

import re

import pytest

from tapct_core.errors import UserError
from tapct_core.lesions import STATES, Candidate, Finding, Study, Timepoint
from tapct_core.lesions.sentences import is_sure, percent, probability, sentence

P = (1.0, 2.0, 3.0)
ONE = (Candidate(P, 0.8, 1.0, 0.9),)
CASES = [
    (Finding("proposed", P, candidates=ONE, confidence=0.9, presence=0.8), "It is here, within 10 mm", "72 %"),
    (Finding("proposed", P, candidates=ONE, confidence=0.9), "It is here, within 10 mm", "90 %"),
    (Finding("proposed", P, candidates=(Candidate(P, 0.8),)), "not calibrated for these features", None),
    (Finding("disappeared", presence=0.05, verdict="not found"), "it has gone", "95 %"),
    (Finding("disappeared", presence=0.43, verdict="not found"), "which is not sure", "57 %"),
    (Finding("disappeared"), "How sure that is was not calibrated", None),
    (Finding("proposed", verdict="out of view"), "Out of view", None),
    (Finding("proposed", verdict="refused", reason="the point lies in the air"), "Not looked for: the point", None),
    (Finding("proposed", P, verdict="marked"), "already here", None),
    (Finding("new", P), "no lesion of an earlier one", None),
    (Finding("split", P, related=("2.25.1",)), "split from another lesion", None),
    (Finding("merged", P, candidates=ONE, confidence=1.0, presence=0.999, related=("2.25.1",)), "merged into", ">99 %"),
    (Finding("not present", None, "AB"), "Not present, says AB.", None),
    (Finding("accepted", P, "AB", presence=0.3, confidence=0.2, candidates=ONE), "Accepted, says AB.", None),
    (Finding("accepted", P, "AB", too_small=True), "Accepted, too small to be measured, says AB.", None),
    (Finding("moved", P, "AB"), "Moved, says AB.", None),
    (Finding("proposed", P, candidates=ONE, confidence=0.9, reason="at the rim"), "In doubt: at the rim.", "90 %"),
]


@pytest.mark.parametrize(("finding", "words", "number"), CASES)
def test_each_state_is_said_with_one_probability_at_most(finding, words, number):
    said = sentence(finding)
    numbers = re.findall(r"[<>]?\d+ %", said)
    assert words in said and numbers == ([number] if number else [])
    assert "calibrated" not in said or finding.candidates or finding.state == "disappeared"
    if number and not finding.decided:
        assert percent(probability(finding)) == number


def test_every_state_has_its_case():
    assert {finding.state for finding, _, _ in CASES} == set(STATES)
    assert sentence(None) == "Nothing was looked for here yet."


@pytest.mark.parametrize("presence", [0.01, 0.19, 0.2, 0.21, 0.4, 0.49])
def test_accepting_does_what_the_sentence_says(presence):
    finding = Finding("disappeared", presence=presence, verdict="not found")
    study = Study("p", [Timepoint("a", "a"), Timepoint("b", "b")])
    lesion = study.add_lesion("l", "a", P, "AB")
    study.propose(lesion.uid, "b", finding)
    assert is_sure(finding) == ("not sure" not in sentence(finding)) == (presence <= 0.2)
    if is_sure(finding):
        assert study.accept(lesion.uid, "b", "AB").state == "not present"
    else:
        with pytest.raises(UserError, match="probability"):
            study.accept(lesion.uid, "b", "AB")
