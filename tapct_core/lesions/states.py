"""What can be said of a lesion at a time point, and which of it a person says by a word alone."""

from __future__ import annotations

from typing import Literal, get_args

State = Literal["proposed", "accepted", "moved", "not present", "new", "disappeared", "split", "merged"]
STATES = get_args(State)
ABSENT: tuple[State, ...] = ("not present", "disappeared")
"""States in which there is nothing at this time point."""
SAID: tuple[State, ...] = ("not present",)
"""States that a person sets by a word alone, whatever was proposed: each has a button and key of its name."""
