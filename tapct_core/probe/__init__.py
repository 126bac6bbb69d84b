"""Segmentation from frozen features by a linear layer. ``LinearProbe`` is the way in."""

from .linear import LinearProbe, Recipe
from .predicting import ProbeCancelled
from .report import dice_report

__all__ = ["LinearProbe", "ProbeCancelled", "Recipe", "dice_report"]
