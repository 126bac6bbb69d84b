"""Lugano for lymphoma, the part that CT alone gives: Cheson et al., J Clin Oncol 32 (2014) 3059-3068, table 3.

The sum is over products of the two perpendicular diameters (SPD). Spleen and bone marrow are not read, nor is PET: a
response that rests on them is a person's.
"""

from __future__ import annotations

from ..burden import (
    Assessment,
    absent,
    doubts,
    evaluated_whole,
    merged_into,
    non_targets_of,
    parts_of,
    target_at,
    targets_of,
)
from ..recist import TOO_SMALL_MM, Measurement, Response
from ..study import Lesion, Study
from .criterion import Criterion
from .sums import new_lesions, provisional

NAME, SOURCE = "Lugano (CT)", "Cheson et al., J Clin Oncol 32 (2014) 3059–3068"
MOST_TARGETS = 6
NODE_MM, EXTRANODAL_MM = 15.0, 10.0
"""Long axis above which a node, or another lesion, is abnormal."""
PARTIAL, PROGRESS = -50.0, 50.0
"""Per cent of the baseline's SPD; of one lesion's product over its nadir."""
SMALL_MM, GROWTH_SMALL_MM, GROWTH_LARGE_MM = 20.0, 5.0, 10.0
"""A lesion up to 20 mm must grow by 5 mm in one of its diameters, a larger one by 10 mm."""


def assess(study: Study, slice_mm: float) -> list[Assessment]:
    """See :class:`.Criterion`."""
    targets, others = targets_of(study), non_targets_of(study)
    first, out = study.timepoints[0].name, []
    objections = [f"{len(targets)} targets; Lugano allows {MOST_TARGETS}"] if len(targets) > MOST_TARGETS else []
    for one in targets:
        found, limit = one.findings.get(first), NODE_MM if one.node else EXTRANODAL_MM
        if found is not None and found.counted is not None and found.counted.long_axis_mm <= limit:
            objections.append(
                f"{one.name}: longest diameter {found.counted.long_axis_mm:.1f} mm; needs over {limit:.0f} mm"
            )
    for i, timepoint in enumerate(study.timepoints[1:], start=1):
        name = timepoint.name
        newcomers, remarks = _new(study, name)
        judged = next((t.non_target_progress for t in study.timepoints[1 : i + 1] if t.non_target_progress), None)
        grounds = [f"new: {', '.join(lesion.name for lesion in newcomers)}"] if newcomers else []
        grounds += [words for lesion in targets if (words := _progress(study, lesion, i))]
        grounds += ["unequivocal progression of non-targets"] if judged is not None else []
        response = _response(study, targets, others, name, grounds)
        remarks += doubts(study, targets + others, name)
        new = tuple(lesion.name for lesion in newcomers)
        open_ = provisional(study, targets + others, targets, newcomers, name)
        out.append(Assessment(name, response, open_, tuple(objections), new, judged, NAME, tuple(remarks)))
    return out


def total(study: Study, timepoint: str) -> float | None:
    """The sum of products of diameters (SPD), mm²."""
    sizes = [target_at(study, one, timepoint, _area, _small).diameter_mm for one in targets_of(study)]
    return None if any(size is None for size in sizes) else sum(sizes)


def _response(study: Study, targets: list[Lesion], others: list[Lesion], name: str, grounds: list[str]) -> Response:
    now, base = total(study, name), total(study, study.timepoints[0].name)
    earlier = [total(study, t.name) for t in study.timepoints[: study.order(name)]]
    nadir = min((one for one in earlier if one is not None), default=None)
    if not targets:
        now = base = nadir = None

    def answer(category: str, rule: str) -> Response:
        changes = [None if now is None or not of else 100 * (now - of) / of for of in (base, nadir)]
        return Response(category, rule, None, *changes, now, "mm²")

    if grounds:
        return answer("PD", "; ".join(grounds))
    if not targets and not others:
        return answer("NE", "no lesion was named at baseline")
    if targets and (now is None or base is None):
        return answer("NE", "not all targets were measured" + (" at baseline" if base is None else ""))
    if not all(evaluated_whole(study, one, name) for one in others):
        if not targets or all(_normal_whole(study, one, name) for one in targets):
            return answer("NE" if not targets else "PR", "not all other lesions were evaluated")
    elif all(_normal_whole(study, one, name) for one in targets + others):
        return answer("CR", "nodes at most 15 mm in long axis, nothing else left")
    if targets and base and 100 * (now - base) / base <= PARTIAL + 1e-9:
        return answer(
            "PR", f"sum of products {100 * (now - base) / base:.0f} % from baseline (at least {PARTIAL:.0f} %)"
        )
    return answer("SD", f"no {PARTIAL:.0f} % from baseline, and no lesion has progressed from its nadir")


def _progress(study: Study, lesion: Lesion, i: int) -> str:
    """Why one target has progressed from its nadir, "" where it has not."""
    found = lesion.findings.get(study.timepoints[i].name)
    now = found.counted if found is not None else None
    limit = NODE_MM if lesion.node else EXTRANODAL_MM
    if now is None or now.long_axis_mm <= limit:
        return ""
    before = [lesion.findings.get(t.name) for t in study.timepoints[:i]]
    if any(absent(one) for one in before):
        return f"{lesion.name} had gone and is back"
    known = [one.counted for one in before if one is not None and one.counted is not None]
    if not known:
        return ""
    product = min(one.long_axis_mm * one.short_axis_mm for one in known)
    grown = 100 * (now.long_axis_mm * now.short_axis_mm - product) / product
    more = max(
        now.long_axis_mm - min(one.long_axis_mm for one in known),
        now.short_axis_mm - min(one.short_axis_mm for one in known),
    )
    least = GROWTH_SMALL_MM if min(one.long_axis_mm for one in known) <= SMALL_MM else GROWTH_LARGE_MM
    if grown < PROGRESS - 1e-9 or more < least - 1e-9:
        return ""
    return f"{lesion.name}: product +{grown:.0f} % and +{more:.1f} mm over its nadir"


def _new(study: Study, name: str) -> tuple[list[Lesion], list[str]]:
    """New lesions: nodes over 15 mm, others over 10 mm; what was not measured is a person's word and counts."""
    found, remarks = [], []
    for lesion in new_lesions(study, name, 0.0)[0]:
        limit = NODE_MM if lesion.node else EXTRANODAL_MM
        sizes = [f.counted.long_axis_mm for f in lesion.findings.values() if f.counted is not None]
        if sizes and max(sizes) <= limit:
            remarks.append(f"{lesion.name}: {max(sizes):.1f} mm, not over {limit:.0f} mm, and not counted as new")
        else:
            found.append(lesion)
    return found, remarks


def _normal(lesion: Lesion, name: str) -> bool:
    found = lesion.findings.get(name)
    if absent(found):
        return True
    if found is None or not lesion.node or not found.present:
        return False
    return found.too_small or (found.counted is not None and found.counted.long_axis_mm <= NODE_MM)


def _normal_whole(study: Study, lesion: Lesion, name: str) -> bool:
    """With all that was split from it; of a lesion that has merged, what it merged into."""
    whole = merged_into(study, lesion, name) or [lesion, *parts_of(study, lesion, name)]
    return all(_normal(one, name) for one in whole)


def _small(node: bool) -> float:
    return TOO_SMALL_MM**2


def _area(measured: Measurement, node: bool) -> float:
    return measured.long_axis_mm * measured.short_axis_mm


CRITERION = Criterion(NAME, SOURCE, "mm²", assess, total)
