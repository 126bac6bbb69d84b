"""Frozen encoders by name or folder.

``list_encoders`` and the presets load no torch; what is named below waits until somebody asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..lazy import fetch
from .input_config import Written, written_encoder
from .presets import PACKAGED, PRESETS, RELEASE_LICENCE, UNTRAINED, Preset, list_encoders

if TYPE_CHECKING:
    from .checkpoint import save_encoder
    from .encoder import Encoder, load_encoder, untrained_encoder, untrained_twin

__all__ = [
    "PACKAGED",
    "PRESETS",
    "RELEASE_LICENCE",
    "UNTRAINED",
    "Encoder",
    "Preset",
    "Written",
    "list_encoders",
    "load_encoder",
    "save_encoder",
    "untrained_encoder",
    "untrained_twin",
    "written_encoder",
]

_WITH_TORCH = {
    "Encoder": "encoder",
    "load_encoder": "encoder",
    "save_encoder": "checkpoint",
    "untrained_encoder": "encoder",
    "untrained_twin": "encoder",
}


def __getattr__(name: str) -> Any:
    return fetch(__name__, _WITH_TORCH, name)
