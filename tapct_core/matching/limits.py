"""Limits that whoever shows a match must name too; no torch is needed to read them."""

from __future__ import annotations

BANDS = ((0.9, "high"), (0.6, "moderate"), (0.0, "low"))
"""Lowest probability of each band."""
GATE_MM = 40.0
"""How far from where the patient's motion takes a point it is looked for first."""
