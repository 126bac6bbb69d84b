"""Segmentation from frozen features by a linear layer. ``LinearProbe`` is the way in."""

from ..progress import ProbeCancelled
from .dice import dice_report
from .linear import LinearProbe
from .model import Recipe

__all__ = ["LinearProbe", "ProbeCancelled", "Recipe", "dice_report"]
