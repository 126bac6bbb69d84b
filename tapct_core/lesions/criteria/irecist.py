"""iRECIST for immunotherapy: Seymour et al., Lancet Oncol 18 (2017) e143-e152, with EORTC's questions and answers.

Progression is unconfirmed (iUPD) until the next assessment confirms it (iCPD) or the bar is reset: what RECIST
1.1 calls progression may be followed by a response.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ..burden import Assessment, appeared, doubts, evaluated_whole, non_targets_of, size_of, target_at, targets_of
from ..burden import axis as axis_of
from ..recist import TOO_SMALL_MM, Response, respond
from ..study import Lesion, Study
from .criterion import Criterion
from .recist11 import RULES, total
from .sums import new_lesions, non_targets_gone, objections_to, provisional, recurrences, small_new_nodes

NAME, SOURCE = "iRECIST", "Seymour et al., Lancet Oncol 18 (2017) e143–e152"
FURTHER_MM = 5.0
"""How much a sum must grow further to confirm progression; small steps add up."""
_NAMES = {"CR": "iCR", "PR": "iPR", "SD": "iSD", "NE": "NE", "Non-CR/Non-PD": "Non-iCR/Non-iUPD"}

__all__ = ["NAME", "assess", "total"]


@dataclass
class _Bar:
    """What has happened since the last reset. ``kinds`` of progression that are unconfirmed, ``total`` and ``new`` the
    smallest sums of targets and of new lesions since, mm; ``counted`` the new lesions known by then."""

    kinds: set[str] = field(default_factory=set)
    total: float | None = None
    new: float | None = None
    counted: int = 0


def assess(study: Study, slice_mm: float) -> list[Assessment]:
    """See :class:`.Criterion`."""
    names = [timepoint.name for timepoint in study.timepoints]
    targets, others = targets_of(study), non_targets_of(study)
    readings = {name: [target_at(study, one, name, RULES.size, RULES.small) for one in targets] for name in names}
    objections = objections_to(study, slice_mm)
    out: list[Assessment] = []
    sums: list[float] = []
    bar, confirmed = _Bar(), ""
    for i, name in enumerate(names[1:], start=1):
        newcomers, remarks = new_lesions(study, name, RULES.new_mm)
        returned, said = recurrences(study, name, out, targets, others)
        judged = study.timepoints[i].non_target_progress
        plain = respond(
            readings[names[0]],
            sums,
            readings[name],
            non_targets_gone=non_targets_gone(study, others, name),
            non_targets_evaluated=all(evaluated_whole(study, one, name) for one in others),
            responded=any(one.response.category in ("iCR", "iPR") for one in out),
        )
        kinds = {"targets"} if plain.category == "PD" or returned else set()
        kinds |= {"non-targets"} if judged is not None else set()
        kinds |= {"new lesions"} if any(appeared(study, one) == name for one in newcomers) else set()
        if confirmed:
            response = replace(plain, category="iCPD", rule=f"progression was confirmed at {confirmed}")
        elif bar.kinds:
            response = _after_iupd(study, name, bar, plain, kinds, newcomers)
            confirmed = name if response.category == "iCPD" else ""
        else:
            response = _before_iupd(study, name, plain, kinds, newcomers)
        _keep(bar, response, kinds, plain, _sum_of_new(study, newcomers, name), len(newcomers))
        if plain.total is not None:
            sums.append(plain.total)
        remarks += said + doubts(study, targets + others, name)
        new = tuple(lesion.name for lesion in newcomers)
        open_ = provisional(study, targets + others, targets, newcomers, name)
        asks = bool(returned) or bool(small_new_nodes(study, newcomers, name))
        out.append(Assessment(name, response, open_, objections, new, judged, NAME, tuple(remarks), asks))
    return out


def _before_iupd(study: Study, name: str, plain: Response, kinds: set[str], new: list[Lesion]) -> Response:
    if kinds:
        return replace(plain, category="iUPD", rule=f"unconfirmed progression: {', '.join(sorted(kinds))}")
    category = "PR" if plain.category == "CR" and _any_there(new, name) else plain.category
    return replace(plain, category=_NAMES[category])


def _after_iupd(study: Study, name: str, bar: _Bar, plain: Response, kinds: set[str], new: list[Lesion]) -> Response:
    """The assessment that follows unconfirmed progression: confirms it, leaves it open, or resets the bar."""
    grounds = []
    if plain.total is not None and bar.total is not None and "targets" in bar.kinds:
        if plain.total - bar.total >= FURTHER_MM - 1e-9:
            grounds.append(f"the sum of targets grew by another {plain.total - bar.total:.1f} mm")
    elif "targets" in kinds:
        grounds.append("now the targets have progressed too")
    if len(new) > bar.counted:
        grounds.append("more new lesions")
    size = _sum_of_new(study, new, name)
    if size is not None and bar.new is not None and size - bar.new >= FURTHER_MM - 1e-9:
        grounds.append(f"the new lesions grew by {size - bar.new:.1f} mm")
    if "non-targets" in kinds:
        grounds.append(
            "the non-targets have progressed further" if "non-targets" in bar.kinds else "now the non-targets"
        )
    if grounds:
        return replace(plain, category="iCPD", rule=f"progression confirmed: {'; '.join(grounds)}")
    still_new = "new lesions" in bar.kinds and _any_there(new, name)
    if "targets" in kinds or (still_new and plain.category not in ("PR", "CR")):
        return replace(plain, category="iUPD", rule="progression is neither confirmed nor gone")
    if "non-targets" in bar.kinds and plain.category not in ("PR", "CR"):
        return replace(plain, category="iUPD", rule="progression of the non-targets is neither confirmed nor gone")
    if plain.category == "NE":
        return replace(plain, category="NE")
    category = "PR" if plain.category == "CR" and still_new else plain.category
    return replace(plain, category=_NAMES[category], rule=f"the bar is reset: {plain.rule}")


def _keep(bar: _Bar, response: Response, kinds: set[str], plain: Response, new: float | None, counted: int) -> None:
    if response.category == "iUPD":
        first = not bar.kinds
        bar.kinds |= kinds
        bar.total = plain.total if first or bar.total is None else min(bar.total, plain.total or bar.total)
        bar.new = new if first or bar.new is None else min(bar.new, bar.new if new is None else new)
        bar.counted = counted
    elif response.category not in ("NE", "iCPD"):
        bar.kinds, bar.total, bar.new, bar.counted = set(), None, None, counted


def _any_there(lesions: list[Lesion], name: str) -> bool:
    return any((found := one.findings.get(name)) is not None and found.present for one in lesions)


def _sum_of_new(study: Study, lesions: list[Lesion], name: str) -> float | None:
    """The sum of the new lesions' diameters, mm; None where one was not measured."""
    sizes = [size_of(one.findings.get(name), one.node, axis_of, TOO_SMALL_MM) for one in lesions]
    return None if not sizes or any(size is None for size in sizes) else sum(sizes)


CRITERION = Criterion(NAME, SOURCE, "mm", assess, total)
