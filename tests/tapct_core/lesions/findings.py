"""Studies written as tables: a lesion a row, a finding a column, diameters in mm."""

from __future__ import annotations

from tapct_core.lesions import Finding, Lesion, Plausibility, Study, Timepoint
from tapct_core.lesions.assessment import assess
from tapct_core.lesions.recist import Measurement

P = (0.0, 0.0, 0.0)
WHEN = "2024-01-01T00:00:00+00:00"


def measured(long: float, short: float | None = None, ml: float = 1.0) -> Measurement:
    """A measurement of these axes."""
    short = long * 0.8 if short is None else short
    return Measurement(float(long), float(short), float(ml), 40.0, 10.0, 0, (P, P), (P, P))


def seen(long: float, short: float | None = None, state: str = "accepted", ml: float = 1.0) -> Finding:
    """There, measured, decided."""
    return Finding(state, P, "AB", WHEN, measurement=measured(long, short, ml))


def gone() -> Finding:
    """A person says that it is not there."""
    return Finding("not present", None, "AB", WHEN)


def placed() -> Finding:
    """There, not measured, decided by hand."""
    return Finding("accepted", P, "AB", WHEN)


def small() -> Finding:
    """A person says that it is there and too small to be measured."""
    return Finding("accepted", P, "AB", WHEN, too_small=True)


def doubtful(long: float) -> Finding:
    """A measurement that nobody would believe."""
    found = seen(long)
    found.plausibility = Plausibility(0.1, ("51 mm, where it was 12 mm",))
    found.mask_by = "grown"
    return found


def study_of(lesions, criterion: str = "RECIST 1.1") -> Study:
    """(name, role, node, [finding or None, ...]) each."""
    names = [f"t{i}" for i in range(max(len(found) for *_, found in lesions))]
    study = Study("p", [Timepoint(name, name) for name in names], criterion=criterion)
    for name, role, node, found in lesions:
        findings = {t: f for t, f in zip(names, found, strict=False) if f is not None}
        study.lesions.append(Lesion(name, role=role, node=node, organ="liver", findings=findings))
    return study


def categories(study: Study) -> list[str]:
    """Of the follow-ups, in order."""
    return [one.response.category for one in assess(study)]
