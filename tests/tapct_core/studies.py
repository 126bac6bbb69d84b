"""A patient with four scans of one real chest, and five lesions painted into them: all is known exactly."""

from __future__ import annotations

from copy import deepcopy
from datetime import date, timedelta
from functools import cache

import numpy as np

from tapct_core.lesions import Candidate, Finding, Mask, Study, Timepoint
from tapct_core.samples import load_sample
from tapct_core.volume import CTVolume

WEEKS = ("baseline", "week 8", "week 16", "week 24")
PLACES = {
    "lung 1": (-82.0, -58.0, -22.0),
    "lung 2": (-64.0, -28.0, 32.0),
    "node 1": (8.0, -45.0, -70.0),
    "pleura": (-95.0, 20.0, -110.0),
    "lung 3": (-94.0, -28.0, -52.0),
}
"""LPS mm in the first scan."""
RADII = {
    "lung 1": ((14, 10), (10, 8), (8, 6), (12, 10)),
    "lung 2": ((11, 9), (9, 7), None, None),
    "node 1": ((12, 9), (10, 7), (9, 6), (9, 7)),
    "pleura": ((9, 6), (9, 6), (10, 6), (13, 9)),
    "lung 3": (None, None, (5, 4), (8, 7)),
}
"""Half axes in x and y, mm, at each time point; None: not there."""


def study_and_volumes() -> tuple[Study, dict[str, CTVolume]]:
    """All decided but the last time point, which is proposed. A study of its own for every caller."""
    study, volumes = _made()
    return deepcopy(study), volumes


@cache
def _made() -> tuple[Study, dict[str, CTVolume]]:
    scans = load_sample("breathing_pair")
    first = date(2025, 1, 6)
    days = (0, 56, 115, 168)
    study = Study(
        "p07", [Timepoint(n, f"{n}.nii.gz", str(first + timedelta(d))) for n, d in zip(WEEKS, days, strict=True)]
    )
    volumes = {}
    for order, week in enumerate(WEEKS):
        base = scans["followup" if order % 2 else "baseline"]
        hu, masks = base.hu.copy(), {}
        for name, radii in RADII.items():
            if radii[order] is not None:
                masks[name] = _ellipsoid(base, PLACES[name], radii[order])
                hu[masks[name]] = np.clip(40 + (hu[masks[name]] % 23) - 11, -1024, 3071)
        volumes[week] = CTVolume(hu, base.geometry)
        _put(study, order, week, volumes[week], masks)
    return study, volumes


def _put(study: Study, order: int, week: str, volume: CTVolume, masks: dict) -> None:
    for name, place in PLACES.items():
        lesion = next((one for one in study.lesions if one.name == name), None)
        if lesion is None:
            if name in masks:
                role = {"pleura": "non-target", "lung 3": ""}.get(name, "target")
                organ = "pleura" if name == "pleura" else "" if name == "node 1" else "lung"
                lesion = study.add_lesion(name, week, place, "AB", role=role, organ=organ, node=name == "node 1")
        elif name not in masks:
            study.not_present(lesion.uid, week, "AB")
        elif order == len(WEEKS) - 1:
            candidates = (Candidate(place, 0.8, 1.2, 0.91), Candidate(tuple(c + 20 for c in place), 0.4, 9.0, 0.1))
            study.propose(lesion.uid, week, Finding("proposed", place, candidates=candidates, confidence=0.91))
        else:
            study.propose(lesion.uid, week, Finding("proposed", place))
            study.accept(lesion.uid, week, "CD")
        if name in masks:
            study.set_mask(lesion.uid, week, Mask.from_array(masks[name]), volume)


def _ellipsoid(volume: CTVolume, place: tuple[float, float, float], radii: tuple[float, float]) -> np.ndarray:
    mask = np.zeros(volume.hu.shape, bool)
    middle = volume.geometry.to_index(place)
    reach = max(radii) / np.array(volume.geometry.spacing_mm)
    low, high = np.maximum(0, np.floor(middle - reach)).astype(int), np.ceil(middle + reach).astype(int) + 1
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    index = np.moveaxis(np.mgrid[box], 0, -1)
    away = (volume.geometry.to_world(index) - place) / (radii[0], radii[1], radii[1])
    mask[box] = (away**2).sum(axis=-1) <= 1
    return mask
