"""What was found, said plainly: where it was looked for, how sure it is, and what that leaves a person to do."""

from __future__ import annotations

from tapct_core.lesions import Candidate, Finding
from tapct_core.matching.limits import BANDS, GATE_MM

from .finder import Found

SEARCHED = {
    "gate": f"within {GATE_MM:.0f} mm of where the patient's motion takes it",
    "whole scan": "in the whole scan, since nothing near the expected place fitted well",
}
BAND_COLOURS = {"high": "#57cc99", "moderate": "#ffd166", "low": "#ff7b6b", "": "#8ecae6"}
"""By band of confidence; the last where nothing was calibrated."""


def band_of(confidence: float | None) -> str:
    """ "high", "moderate" or "low"; "" where the confidence is not known."""
    if confidence is None:
        return ""
    return next(name for lowest, name in BANDS if confidence >= lowest)


def percent(probability: float) -> str:
    """A probability in whole per cent; what is nearly certain is not said to be certain."""
    return "<1%" if probability < 0.01 else ">99%" if probability > 0.99 else f"{probability:.0%}"


def candidate_words(candidate: Candidate) -> str:
    """How sure a candidate is, on a line of its card."""
    if candidate.confidence is None:
        return f"alike {candidate.similarity:.2f}"
    return f"{percent(candidate.confidence)} sure"


def title_of(finding: Finding | None) -> str:
    """The finding's state in a few words, with who decided it."""
    if finding is None:
        return "not looked for yet"
    if finding.decided:
        return f"{finding.state}, by {finding.decided_by}"
    if finding.verdict == "out of view":
        return "out of view"
    if finding.state == "disappeared":
        return "not found"
    return "proposed" if finding.state == "proposed" else f"proposed as {finding.state}"


def explain(finding: Finding | None, found: Found | None) -> str:
    """Sentences on what was found and what was searched; ``found`` None where it was searched in another session."""
    if finding is None:
        return "Nothing was looked for here yet."
    where = f" It was looked for {SEARCHED[found.match.searched]}, on {found.evidence}." if found is not None else ""
    if finding.verdict == "out of view":
        return _out_of_view(found)
    if finding.state == "disappeared":
        return _not_found(finding) + where
    return _placed(finding) + where


def _out_of_view(found: Found | None) -> str:
    beyond = -found.match.signs[0].get("inside_mm", 0.0) if found is not None else 0.0
    how_far = f"{beyond:.0f} mm outside" if beyond >= 0.5 else "outside"
    return (
        f"Out of view: its place lies {how_far} what this scan shows, so it cannot be looked for there. "
        "No place is proposed. If you can see it, choose a candidate or place it."
    )


def _not_found(finding: Finding) -> str:
    known = finding.presence is not None
    chance = f" It is still there with a probability of {percent(finding.presence)}." if known else ""
    return f"Not found.{chance} The candidates are the places most like it. Accept says that it is gone."


def _placed(finding: Finding) -> str:
    if finding.confidence is None:
        sure = "How sure this is was not calibrated for these features: look at the candidates."
    else:
        sure = f"The place is right within 10 mm with a probability of {percent(finding.confidence)}."
    if finding.presence is not None and finding.confidence is not None:
        sure = sure.removesuffix(".") + f", and the lesion is still there with {percent(finding.presence)}."
    if finding.related:
        sure += f" It may have {'split from' if finding.state == 'split' else 'merged into'} another lesion."
    return sure
