"""Numbers as people read them, and colours that can be told from their ground."""

from __future__ import annotations

import pytest

from tapct_core.export.colours import CATEGORIES, GROWN, LESIONS, QUIET, SHRUNK, STATES, UNDECIDED, lesion_colour
from tapct_core.export.words import local_time, millilitres, millimetres, percent
from tapct_core.lesions import STATES as ALL_STATES

GROUNDS = (("#23242b", "#14181d"), ("#ebe7e6", "#ffffff"))
"""Dark and light ones of napari and of the report."""


def contrast(a: str, b: str) -> float:
    """WCAG 2.1's ratio of two colours."""
    values = []
    for colour in (a, b):
        rgb = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        values.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(values) + 0.05) / (min(values) + 0.05)


def test_every_colour_can_be_read_on_its_ground():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for pair in (*STATES.values(), *CATEGORIES.values(), *LESIONS, QUIET, UNDECIDED, GROWN, SHRUNK):
        for colour, grounds in zip(pair, GROUNDS, strict=True):
            assert all(contrast(colour, ground) >= 4.5 for ground in grounds), pair


def test_all_states_have_a_colour_and_lesions_never_run_out():
    assert set(STATES) == set(ALL_STATES)
    assert lesion_colour(0) == lesion_colour(len(LESIONS)) != lesion_colour(1)


@pytest.mark.parametrize(
    ("value", "digits", "words"),
    [
        (None, 0, "–"),
        (12.4, 0, "+12 %"),
        (-29.96, 1, "−30.0 %"),
        (0.2, 0, "±0 %"),
        (-0.2, 0, "±0 %"),
        (20, 1, "+20.0 %"),
    ],
)
def test_changes_have_their_sign(value, digits, words):
    assert percent(value, digits) == words


def test_sizes_and_times():
    assert [millilitres(ml) for ml in (None, 0.034, 9.99, 9.996, 99.96)] == ["–", "0.03", "9.99", "10.0", "100"]
    assert (millimetres(None), millimetres(12.34)) == ("–", "12.3")
    assert local_time("2025-06-01T12:00:00+00:00").startswith("2025-06-01 ")
    assert local_time("") == local_time("in May") == ""
