"""One set of colours for lesions, states and responses, wherever they are shown: (on dark, on light) ground.

Each stands at 4.5 : 1 or more against the ground it is for (WCAG 2.1, 1.4.3), and none tells by red against green
alone: what nobody has decided is drawn hollow, and every colour has its word beside it.
"""

from __future__ import annotations

QUIET = ("#a3adb8", "#59636e")
UNDECIDED = ("#ffd166", "#8a5a00")
"""Waits for a person."""
GROWN, SHRUNK = ("#ff8a7a", "#b3301a"), ("#63d3a2", "#14683f")

STATES: dict[str, tuple[str, str]] = {
    "proposed": UNDECIDED,
    "accepted": SHRUNK,
    "moved": SHRUNK,
    "new": ("#c9a6ff", "#6f39b0"),
    "not present": QUIET,
    "disappeared": QUIET,
    "split": ("#62cdf2", "#0a6484"),
    "merged": ("#62cdf2", "#0a6484"),
}

CATEGORIES: dict[str, tuple[str, str]] = {
    "CR": SHRUNK,
    "PR": SHRUNK,
    "SD": ("#9cc4ea", "#2f5d8a"),
    "PD": GROWN,
    "NE": QUIET,
    "Non-CR/Non-PD": QUIET,
}
CATEGORIES |= {"iCR": SHRUNK, "iPR": SHRUNK, "iSD": CATEGORIES["SD"], "iUPD": UNDECIDED, "iCPD": GROWN}
CATEGORIES |= {"Non-iCR/Non-iUPD": QUIET}

LESIONS: tuple[tuple[str, str], ...] = (
    ("#6cb6ff", "#1a5fcc"),
    ("#ffab5e", "#9c4a00"),
    ("#5fd3bc", "#0b6659"),
    ("#f28bc0", "#a32a6d"),
    ("#e6d35c", "#6f5d00"),
    ("#b79cff", "#6140bd"),
    ("#9ad36a", "#3e6b16"),
    ("#a9bccf", "#4d6277"),
)
"""A lesion's own, by its place among the study's lesions, over and over."""


def lesion_colour(number: int) -> tuple[str, str]:
    """The colour of the lesion at this place, from 0."""
    return LESIONS[number % len(LESIONS)]
