"""Two histograms of HU and what they say between the two tissues."""

from __future__ import annotations

import numpy as np

from tapct_core.lesions.appearance import CLIP, log_ratio


def told(own: float, other: float, noise: float, values) -> np.ndarray:
    rng = np.random.default_rng(0)
    hu = np.concatenate([rng.normal(own, noise, 400), rng.normal(other, noise, 1200), values]).astype(np.float32)
    where = np.arange(len(hu))
    return log_ratio(hu, where < 400, (where >= 400) & (where < 1600))[1600:]


def test_each_tissue_is_known_and_half_way_is_undecided():
    for own, other in ((20, -800), (110, 40), (-10, 60)):
        inside, nearer, further, outside = told(
            own, other, 12, [own, 0.6 * own + 0.4 * other, 0.4 * own + 0.6 * other, other]
        )
        assert inside > 1 and outside < -1
        assert nearer > 0 > further


def test_what_noise_hides_says_little():
    clear, hidden = (told(60, 40, noise, [60.0])[0] for noise in (3, 40))
    assert abs(hidden) < 0.4 < clear <= CLIP


def test_a_third_tissue_that_was_never_met_is_left_open():
    assert abs(told(40, -100, 10, [1200.0])[0]) < CLIP
