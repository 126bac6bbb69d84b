"""What was found, said plainly: one sentence with one probability, where it was looked for, and the keys to go on."""

from __future__ import annotations

from tapct_core.lesions import Candidate, Finding
from tapct_core.lesions.sentences import is_sure, percent, sentence
from tapct_core.lesions.tracking import OUT_OF_VIEW, REFUSED
from tapct_core.matching.limits import BANDS, GATE_MM

from ...keys import SHORTCUTS
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


def chance(candidate: Candidate, finding: Finding) -> float | None:
    """That the lesion is at a candidate, within 10 mm: that it is still there, and this is the place.

    None where that is not calibrated, and for a lesion that was not found: its candidates are what is most like it.
    """
    if candidate.confidence is None or finding.state == "disappeared":
        return None
    return candidate.confidence * (1.0 if finding.presence is None else finding.presence)


def candidate_words(candidate: Candidate, finding: Finding) -> str:
    """What is known of a candidate, on a line of its card."""
    known = chance(candidate, finding)
    return f"alike {candidate.similarity:.2f}" if known is None else f"here: {percent(known)}"


def surely_gone(finding: Finding | None) -> bool:
    """Whether a proposed disappearance may simply be accepted. One whose chance is not known may not."""
    return (
        finding is not None
        and finding.state == "disappeared"
        and finding.gone_probability is not None
        and is_sure(finding)
    )


def title_of(finding: Finding | None) -> str:
    """The finding's state in a few words, with who decided it."""
    if finding is None:
        return "not looked for yet"
    if finding.decided:
        return f"{finding.state}, by {finding.decided_by}"
    if finding.verdict in (OUT_OF_VIEW, REFUSED) and not finding.present:
        return finding.verdict
    if finding.state == "disappeared":
        return "not found" if surely_gone(finding) else "not found, not sure"
    return "proposed" if finding.state == "proposed" else f"proposed as {finding.state}"


def explain(finding: Finding | None, found: Found | None) -> str:
    """What is known and what can be done; ``found`` None where it was searched in another session."""
    words = sentence(finding)
    if finding is not None and finding.present and finding.doubtful:
        words += f" ⚠ {doubt_of(finding)}"
    if finding is None or finding.decided:
        return words
    return " ".join(part for part in (words, _keys(finding), _where(finding, found)) if part)


def doubt_of(finding: Finding) -> str:
    """Why axes are in doubt, what follows from that, and the keys that end it."""
    keys = f"{SHORTCUTS['confirm axes'].shown} confirms them as drawn, {SHORTCUTS['paint mask'].shown} redraws"
    return f"The axes are in doubt: {'; '.join(finding.plausibility.doubts)}. They do not count. {keys}."


def _where(finding: Finding, found: Found | None) -> str:
    """What was searched, and on what; how far out of view a place lies."""
    if found is None or finding.verdict == REFUSED:
        return ""
    if finding.verdict == OUT_OF_VIEW and not finding.present:
        beyond = -found.match.signs[0].get("inside_mm", 0.0) if found.match.signs else 0.0
        return f"It lies {beyond:.0f} mm outside." if beyond >= 0.5 else ""
    return f"It was looked for {SEARCHED[found.match.searched]}, on {found.evidence}."


def _keys(finding: Finding) -> str:
    """Which key leads on from a proposal."""
    shown = {name: one.shown for name, one in SHORTCUTS.items()}
    if finding.present:
        return f"{shown['accept']} accepts."
    if finding.state == "disappeared" and surely_gone(finding):
        return f"{shown['accept']} accepts that."
    if finding.state == "disappeared":
        return (
            f"{shown['not present']}: it is not there. {shown['candidate before']} {shown['candidate after']} and "
            f"{shown['accept']}: it is at a candidate. {shown['move here']}: it is at the mouse."
        )
    return f"{shown['move here']}: it is at the mouse."
