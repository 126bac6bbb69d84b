"""Two rows compared: real differences are seen, equal rows hardly ever told apart, and words have the figures' sign."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluate.metrics.paired import against_first, few_patients_note, gap_words, paired_gap


def mean(values: np.ndarray) -> float:
    return float(np.nanmean(values))


def rows(seed: int, patients: int, gain: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dice (N, 3) of two encoders, two cases a patient: the patient's own level, and noise that is each encoder's."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), 2)
    level = rng.normal(0.7, 0.1, (patients, 1))[patient] + rng.normal(0, 0.03, (2 * patients, 3))
    own = [rng.normal(0, 0.05, (patients, 3))[patient] + rng.normal(0, 0.02, (2 * patients, 3)) for _ in range(2)]
    return level + own[0] + gain, level + own[1], patient


def called_better(patients: int, experiments: int, draws: int) -> float:
    """Share of experiments with two equal encoders in which one is called the better."""
    found = 0
    for seed in range(experiments):
        first, second, patient = rows(1000 * patients + seed, patients)
        gap = paired_gap(first, second, patient, mean, draws=draws, seed=seed)
        found += "is better" in gap_words("A", "B", gap, "Dice")
    return found / experiments


def test_under_ten_patients_nothing_is_called_better_however_large_the_difference():
    assert called_better(5, 20, 60) == 0
    first, second, patient = rows(0, 5, gain=0.3)
    words = gap_words("A", "B", paired_gap(first, second, patient, mean, draws=100), "Dice")
    assert "too few to tell, with 5 patients" in words
    assert "5 patients" in few_patients_note(patient) and few_patients_note(np.arange(10)) == ""


@pytest.mark.slow
@pytest.mark.parametrize("patients", [5, 10, 20, 50])
def test_equal_encoders_are_hardly_ever_told_apart(patients):
    # A true rate of 5 % comes out above 6 % once in five runs of 300 experiments, and once in twelve of 900.
    assert called_better(patients, 900, 300) <= 0.06


def test_a_real_difference_is_seen_with_the_sign_of_the_sentence():
    first, second, patient = rows(3, 20, gain=0.1)
    gap = paired_gap(first, second, patient, mean, draws=200)
    assert gap.p < 0.02 and gap.difference.low > 0
    assert gap_words("A", "B", gap, "Dice").startswith("A is better than B: Dice +0.1")
    back = paired_gap(second, first, patient, mean, draws=200)
    assert back.p == gap.p and back.difference.value == pytest.approx(-gap.difference.value)
    assert gap_words("B", "A", back, "Dice").startswith("A is better than B: Dice +0.1")
    assert gap_words("B", "A", back, "error", more_is_better=False).startswith("B is better than A: error -0.1")


def test_the_exchange_goes_by_patient_and_is_exact_where_patients_are_few():
    """Three patients whose cases all favour the first: 2 of 2^3 exchanges are as far apart."""
    first = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    assert paired_gap(first, first - [0.1, 0.2, 0.1, 0.3, 0.2, 0.1], np.repeat([0, 1, 2], 2), mean).p == 0.25
    assert paired_gap(first, first, np.arange(6), mean).p == 1.0


def test_rows_are_adjusted_for_their_number():
    first, second, patient = rows(4, 12, gain=0.03)
    alone = against_first({"A": second, "B": first}, patient, mean)["B"]
    among = against_first({"A": second, "B": first, "C": rows(5, 12)[0], "D": rows(6, 12)[0]}, patient, mean)
    assert alone.p < 0.1 and among["B"].p == pytest.approx(3 * alone.p)
    assert list(among) == ["B", "C", "D"]


def test_what_is_not_defined_is_not_compared():
    nothing = np.full((4, 1), np.nan)
    gap = paired_gap(nothing, nothing, np.arange(4), lambda values: float("nan"))
    assert "cannot be compared" in gap_words("A", "B", gap, "Dice")
