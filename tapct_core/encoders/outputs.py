"""Which blocks of the network make up an encoder's tokens.

Training shapes the last block for its own task. Where that is telling places apart, a block in the middle knows
better what a place is made of, and a probe wants both: DINOv2's linear evaluations, too, read several blocks side by
side (Oquab et al. 2023, arXiv 2304.07193). Measured for the packaged encoder in docs/results/readout.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..vit import Tokens
from .input_config import BLOCKS_KEY, SCALES_KEY


@dataclass(frozen=True)
class Outputs:
    """Blocks whose tokens, each under the final norm, stand side by side in an encoder's.

    ``blocks`` are 0-based and ascending; empty: the last alone, as it is. ``scales``: a factor for each. Cosines, and
    so matching and similarity, hear a block by the square of its factor; a probe, which standardises every channel,
    hears all alike.
    """

    blocks: tuple[int, ...] = ()
    scales: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if list(self.blocks) != sorted(set(self.blocks)) or any(b < 0 for b in self.blocks):
            raise ValueError(f"output blocks {list(self.blocks)} are not ascending block numbers from 0")
        if len(self.scales) != len(self.blocks):
            raise ValueError(f"{len(self.blocks)} output blocks need as many scales, not {len(self.scales)}")
        if not all(math.isfinite(s) and s > 0 for s in self.scales):
            raise ValueError(f"output scales {list(self.scales)} are not all above 0")

    @property
    def parts(self) -> int:
        """How many blocks speak: a token is so many times as long as the network is wide."""
        return max(1, len(self.blocks))

    def join(self, found: list[Tokens]) -> Tokens:
        """Tokens of each of ``blocks`` -> the encoder's tokens, channels in the order of the blocks."""
        scaled = [[part * scale for part in one[:3]] for one, scale in zip(found, self.scales, strict=True)]
        cls, registers, patches = (torch.cat(parts, dim=-1) for parts in zip(*scaled, strict=True))
        return Tokens(cls, registers, patches, found[0].grid)

    def written(self) -> dict[str, list]:
        """Its keys in ``config.json``; none for the last block alone."""
        return {BLOCKS_KEY: list(self.blocks), SCALES_KEY: list(self.scales)} if self.blocks else {}


LAST = Outputs()


def read_outputs(config: Mapping[str, Any], depth: int, path: Path) -> Outputs:
    """Outputs from a ``config.json``, of a network of ``depth`` blocks. Raises UserError naming what is wrong."""
    blocks = config.get(BLOCKS_KEY, [])
    scales = config.get(SCALES_KEY, [1.0] * len(blocks) if isinstance(blocks, list) else [])
    good = isinstance(blocks, list) and all(isinstance(b, int) and not isinstance(b, bool) for b in blocks)
    if not good or not isinstance(scales, list) or not all(isinstance(s, int | float) for s in scales):
        raise UserError(f"{path}: {BLOCKS_KEY} and {SCALES_KEY} are not lists of numbers; correct the file")
    try:
        outputs = Outputs(tuple(blocks), tuple(float(s) for s in scales))
    except ValueError as error:
        raise UserError(f"{path}: {error}; correct the file") from None
    if outputs.blocks and outputs.blocks[-1] >= depth:
        raise UserError(f"{path}: {BLOCKS_KEY} names block {outputs.blocks[-1]} of {depth}; they count from 0")
    return outputs
