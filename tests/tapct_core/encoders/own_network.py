"""Somebody else's network: a small convolutional one, as a lab might bring it."""

from __future__ import annotations

import torch
from torch import nn

from tapct_core.encoders import Encoder
from tapct_core.preprocessing import InputSpec

SPEC = InputSpec(
    patch_size=(4, 4, 4), img_size=(16, 32, 32), clip_hu=(-1000, 500), mean_hu=-100, std_hu=300,
    plan="spacing", spacing_mm=(3.0, 3.0, 3.0),
)  # fmt: skip


class ConvNet(nn.Module):
    """One token of 24 numbers a 4 x 4 x 4 patch, which has also seen its neighbours."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.stem = nn.Conv3d(1, 16, 4, stride=4)
            self.norm = nn.BatchNorm3d(16)
            self.head = nn.Conv3d(16, 24, 3, padding=1)

    def forward(self, voxels: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.norm(self.stem(voxels))))


def make() -> Encoder:
    """What an entry point would name."""
    return Encoder.from_module(ConvNet(), SPEC, name="conv-net", licence="CC0", device="cpu")
