"""How far a mask's measurement can be believed, whoever made it: by what it measures, and what it was before.

What the image has for or against it (contrast at its border, other masks that fit as well) a grown mask knows itself.
The least plausible part decides, and all doubts are said.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..volume import CTVolume
from .finding import Finding, Mask, Plausibility
from .recist import Measurement
from .study import Lesion, Study

FEWEST_PIXELS, ENOUGH_PIXELS = 1.0, 3.0
"""A lesion as wide as one pixel cannot be measured; from three on it can. Between them trust rises evenly."""
GROWTH, MOST_GROWTH = 2.0, 3.0
"""Times the long axis of the scan before: up to the first it is growth, from the second on another structure."""
FULL, LEAST_FULL = 0.35, 0.15
"""Share of the ellipsoid of its axes that a mask fills: lesions more than the first, leaks along vessels less than the
second."""
FLAT, FLATTER = 0.6, 0.3
"""Short to long axis as a share of what it was before: down to the first it is the lesion's shape."""


def check_measurement(mask: Mask, measured: Measurement, volume: CTVolume, before: Measurement | None) -> Plausibility:
    """Of one measurement; ``before`` is the lesion's at an earlier scan.

    A mask with a ``plausibility`` (0 to 1) and a ``reason`` of its own brings them in.
    """
    rows, columns = (n * s for n, s in zip(mask.voxels.shape[1:], volume.geometry.spacing_mm[1:], strict=True))
    pixels = min(rows, columns, measured.short_axis_mm) / max(volume.geometry.spacing_mm[1:])
    checks = [(_between(pixels, FEWEST_PIXELS, ENOUGH_PIXELS), f"only {pixels:.1f} pixels across")]
    ellipsoid = np.pi / 6 * measured.long_axis_mm * measured.short_axis_mm**2 / 1000
    if len(mask.voxels) > 2 and ellipsoid > 0:  # through one or two slices there is no depth to compare
        full = measured.volume_ml / ellipsoid
        checks.append((_between(full, LEAST_FULL, FULL), f"it fills {full:.0%} of what its axes span, as a leak does"))
    if before is not None and before.long_axis_mm > 0:
        times = measured.long_axis_mm / before.long_axis_mm
        words = f"{measured.long_axis_mm:.0f} mm, where it was {before.long_axis_mm:.0f} mm"
        checks.append((_between(times, MOST_GROWTH, GROWTH), words))
        if pixels >= ENOUGH_PIXELS:
            shape = measured.short_axis_mm / measured.long_axis_mm
            share = shape * before.long_axis_mm / max(before.short_axis_mm, 1e-6)
            checks.append((_between(share, FLATTER, FLAT), f"{1 / share:.1f} times as long for its width as before"))
    own = float(getattr(mask, "plausibility", 1.0))
    checks.append((own, getattr(mask, "reason", "")))
    found = [Plausibility(value, (words,) if value < 1 and words else ()) for value, words in checks]
    doubts = tuple(words for one in found for words in one.doubts)
    return Plausibility(round(min(one.value for one in found), 3), doubts)


def earlier_measurement(study: Study, lesion: Lesion, timepoint: str) -> Measurement | None:
    """The latest measurement before a time point that may be counted on; None where there is none."""
    names = [one.name for one in study.timepoints][: study.order(timepoint)]
    found = [lesion.findings[name].counted for name in names if name in lesion.findings]
    return next((one for one in reversed(found) if one is not None), None)


def set_judged_mask(study: Study, uid: str, timepoint: str, mask: Mask, volume: CTVolume, by: str = "") -> Finding:
    """As :meth:`Study.set_mask`, with the measurement judged: a slip of the brush counts in no sum unseen."""
    measured = mask.measure(volume)
    before = earlier_measurement(study, study.lesion(uid), timepoint)
    believed = check_measurement(mask, measured, volume, before)
    return study.put_mask(uid, timepoint, mask, measured, by, believed)


def judged(study: Study, lesion: Lesion, timepoint: str, volume: CTVolume) -> Finding | None:
    """A finding with its measurement judged anew; None where no mask was measured."""
    finding = lesion.findings.get(timepoint)
    if finding is None or finding.mask is None or finding.measurement is None:
        return None
    before = earlier_measurement(study, lesion, timepoint)
    return replace(finding, plausibility=check_measurement(finding.mask, finding.measurement, volume, before))


def _between(value: float, none: float, all_: float) -> float:
    """0 at ``none``, 1 at ``all_``, evenly between."""
    return float(np.clip((value - none) / (all_ - none), 0, 1))
