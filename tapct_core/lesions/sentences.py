"""What is known of a finding, in one sentence with one probability, from which the state and what to do follow."""

from __future__ import annotations

from .finding import Finding
from .study import SURELY_GONE
from .tracking import MARKED, OUT_OF_VIEW, REFUSED


def percent(probability: float) -> str:
    """A probability in whole per cent; what is nearly certain is not said to be certain."""
    return "<1 %" if probability < 0.01 else ">99 %" if probability > 0.99 else f"{probability:.0%}".replace("%", " %")


def probability(finding: Finding) -> float | None:
    """Of what the finding proposes: that the lesion has gone, or that it is at its place; None where that is not known.

    It is at its place when it is still there at all and the place is right within 10 mm.
    """
    if finding.state == "disappeared":
        return finding.gone_probability
    if not finding.present or finding.confidence is None:
        return None
    return finding.confidence * (1.0 if finding.presence is None else finding.presence)


def is_sure(finding: Finding) -> bool:
    """Whether accepting is enough. A disappearance that is not sure takes more: a person says it expressly."""
    gone = finding.gone_probability
    return finding.state != "disappeared" or gone is None or gone >= SURELY_GONE - 1e-9


def sentence(finding: Finding | None) -> str:
    """The finding, in one sentence; what a person can do follows where it is not plain."""
    if finding is None:
        return "Nothing was looked for here yet."
    if finding.decided:
        return _decided(finding)
    if finding.verdict == REFUSED:
        return f"Not looked for: {finding.reason}. Place it yourself if you can see it."
    if finding.verdict == OUT_OF_VIEW and not finding.present:
        return "Out of view: its place lies outside what this scan shows. If you can see it, place it."
    if finding.state == "disappeared":
        return _gone(finding)
    return _placed(finding)


def _decided(finding: Finding) -> str:
    size = ", too small to be measured" if finding.too_small else ""
    return f"{finding.state[:1].upper()}{finding.state[1:]}{size}, says {finding.decided_by}."


def _gone(finding: Finding) -> str:
    known = probability(finding)
    if known is None:
        return "Not found. How sure that is was not calibrated: look at the candidates, then say whether it is there."
    if is_sure(finding):
        return f"Not found: it has gone with a probability of {percent(known)}."
    return (
        f"Not found: it has gone with a probability of {percent(known)}, which is not sure. "
        "Look at the candidates, then say that it is not present, or where it is."
    )


def _placed(finding: Finding) -> str:
    known = probability(finding)
    if known is not None:
        words = f"It is here, within 10 mm, with a probability of {percent(known)}."
    elif finding.verdict == MARKED:
        words = "It is the mark that was already here."
    elif finding.state in ("new", "split") and not finding.candidates:
        words = "A mark in this scan that is no lesion of an earlier one."
    elif finding.candidates:
        words = "How sure this place is was not calibrated for these features: look at the candidates."
    else:
        words = "A mark that nobody has confirmed."
    if finding.related:
        words += f" It may have {'split from' if finding.state == 'split' else 'merged into'} another lesion."
    return f"{words} In doubt: {finding.reason}." if finding.reason else words
