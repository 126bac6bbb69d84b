"""The 3D vision transformer of TAP-CT: DINOv2's layout with 3D patches and a trilinear position table.

One code path serves a single window, a batch, and DINOv2's multi-crop step: every call is a list of
crops. The linear layers see the tokens of all crops as one matrix (whole GEMMs), attention runs crop
size by crop size, so that nothing is padded or masked out.

Names of parameters are DINOv2's (Oquab et al. 2023, arXiv 2304.07193; registers: Darcet et al. 2023,
arXiv 2309.16588), so that the release's tensors load by name.

Shape letters: B batch, D H W voxels, L tokens of one item, N patch tokens, C width, T tokens of all crops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .cpu_kernels import attention, linear

Grid = tuple[int, int, int]


@dataclass(frozen=True)
class ViTConfig:
    """Shape of the network. Triples are (z, y, x); ``img_size`` fixes the position table's grid."""

    patch_size: Grid = (4, 8, 8)
    img_size: Grid = (12, 224, 224)
    embed_dim: int = 384
    depth: int = 12
    num_heads: int = 6
    num_register_tokens: int = 4
    mlp_ratio: float = 4.0
    ffn_layer: str = "mlp"
    """"mlp" or "swiglu", DINOv2's two kinds; at ratio 4 they differ by under a thousandth in size."""
    layer_norm_eps: float = 1e-6
    layer_scale_init: float = 1e-5
    drop_path: float = 0.0
    """Training only: the chance that a sample skips a residual branch, the same at every depth."""

    def __post_init__(self) -> None:
        if self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim {self.embed_dim} does not divide into {self.num_heads} heads")
        if any(size % patch for size, patch in zip(self.img_size, self.patch_size, strict=True)):
            raise ValueError(f"img_size {self.img_size} is not a whole number of patches {self.patch_size}")
        if self.ffn_layer not in ("mlp", "swiglu"):
            raise ValueError(f"ffn_layer must be mlp or swiglu, not {self.ffn_layer!r}")

    @staticmethod
    def hidden_width(embed_dim: int, mlp_ratio: float, swiglu: bool) -> int:
        """Channels between the MLP's layers; SwiGLU takes two thirds, rounded up to eight, as DINOv2 does."""
        hidden = int(embed_dim * mlp_ratio + 1e-6)
        return (int(hidden * 2 / 3 + 1e-6) + 7) // 8 * 8 if swiglu else hidden

    @property
    def grid(self) -> Grid:
        """Patch tokens (z, y, x) of one ``img_size`` crop."""
        return tuple(size // patch for size, patch in zip(self.img_size, self.patch_size, strict=True))


class Tokens(NamedTuple):
    """What the network says of a batch of equal crops."""

    cls: Tensor  # (B, C)
    registers: Tensor  # (B, R, C)
    patches: Tensor  # (B, N, C), rows in z, y, x order
    grid: Grid

    def map(self) -> Tensor:
        """Patch tokens on their grid, (B, Z, Y, X, C), a view."""
        return self.patches.unflatten(1, self.grid)


class PatchEmbed(nn.Module):
    """Voxels (B, 1, D, H, W) -> patch tokens (B, N, C) and their grid."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.proj = nn.Conv3d(1, config.embed_dim, kernel_size=config.patch_size, stride=config.patch_size)

    def forward(self, x: Tensor) -> tuple[Tensor, Grid]:
        if any(size % patch for size, patch in zip(x.shape[2:], self.patch_size, strict=True)):
            raise ValueError(f"a crop of {tuple(x.shape[2:])} voxels is not whole patches of {self.patch_size}")
        grid = tuple(size // patch for size, patch in zip(x.shape[2:], self.patch_size, strict=True))
        if x.is_cuda:  # one GEMM: CUDA's Conv3d is over ten times slower here; on CPU Conv3d wins
            (gz, gy, gx), (pz, py, px) = grid, self.patch_size
            patches = x.reshape(-1, gz, pz, gy, py, gx, px).permute(0, 1, 3, 5, 2, 4, 6)
            patches = patches.reshape(x.shape[0], gz * gy * gx, -1)
            return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias), grid
        return self.proj(x).flatten(2).transpose(1, 2), grid


class Attention(nn.Module):
    """Multi-head self-attention; ``shapes`` lists the (B, L) of each crop size within the T tokens."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(config.embed_dim, 3 * config.embed_dim)
        self.proj = nn.Linear(config.embed_dim, config.embed_dim)

    def forward(self, x: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
        outputs = []
        for part, (batch, length) in zip(linear(x, self.qkv).split([b * n for b, n in shapes]), shapes, strict=True):
            part = part.view(batch, length, 3, self.num_heads, -1)
            q, k, v = part.permute(2, 0, 3, 1, 4)  # each (B, heads, L, C/heads)
            attended = attention(q, k, v)
            outputs.append(attended.transpose(1, 2).reshape(batch * length, -1))
        return linear(outputs[0] if len(outputs) == 1 else torch.cat(outputs), self.proj)


class Mlp(nn.Module):
    """Two linear layers with the exact (erf) GELU: on CPU the tanh form is three times slower."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        hidden = config.hidden_width(config.embed_dim, config.mlp_ratio, swiglu=False)
        self.fc1 = nn.Linear(config.embed_dim, hidden)
        self.fc2 = nn.Linear(hidden, config.embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        return linear(F.gelu(linear(x, self.fc1)), self.fc2)


class SwiGLU(nn.Module):
    """Gated feed-forward (Shazeer 2020, arXiv 2002.05202): silu of the first half times the second."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        hidden = config.hidden_width(config.embed_dim, config.mlp_ratio, swiglu=True)
        self.w12 = nn.Linear(config.embed_dim, 2 * hidden)
        self.w3 = nn.Linear(hidden, config.embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = linear(x, self.w12).chunk(2, dim=-1)
        return linear(F.silu(gate) * value, self.w3)


class LayerScale(nn.Module):
    """Per-channel factor on a residual branch (Touvron et al. 2021, arXiv 2103.17239)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.init = config.layer_scale_init
        self.gamma = nn.Parameter(torch.full((config.embed_dim,), config.layer_scale_init))


class Block(nn.Module):
    """Pre-norm transformer block with LayerScale and stochastic depth."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.embed_dim, eps=config.layer_norm_eps)
        self.attn = Attention(config)
        self.ls1 = LayerScale(config)
        self.norm2 = nn.LayerNorm(config.embed_dim, eps=config.layer_norm_eps)
        self.mlp = SwiGLU(config) if config.ffn_layer == "swiglu" else Mlp(config)
        self.ls2 = LayerScale(config)
        self.drop_path = config.drop_path

    def forward(self, x: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
        x = self._add(x, self.attn(self.norm1(x), shapes), self.ls1.gamma, shapes)
        return self._add(x, self.mlp(self.norm2(x)), self.ls2.gamma, shapes)

    def _add(self, x: Tensor, branch: Tensor, gamma: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
        if self.training and self.drop_path > 0:
            keep = 1.0 - self.drop_path
            samples = torch.cat([torch.ones(b, device=x.device) for b, _ in shapes]).bernoulli_(keep) / keep
            lengths = torch.tensor([n for b, n in shapes for _ in range(b)], device=x.device)
            branch = branch * samples.repeat_interleave(lengths, output_size=len(x))[:, None].to(branch.dtype)
        return torch.addcmul(x, branch, gamma)  # promotes: under autocast a bf16 branch joins a float32 stream


class VisionTransformer3D(nn.Module):
    """TAP-CT's encoder. Call with one batch of crops (B, 1, D, H, W), or with a list of batches."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.embed_dim
        self.patch_embed = PatchEmbed(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + _count(config.grid), dim))
        self.register_tokens = nn.Parameter(torch.zeros(1, config.num_register_tokens, dim))
        self.mask_token = nn.Parameter(torch.zeros(1, dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(dim, eps=config.layer_norm_eps)
        self.activation_checkpointing = False
        self._positions: dict[tuple, tuple[Tensor, Tensor]] = {}
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """DINOv2's initialisation: normal of 0.02 cut at two deviations, zero biases, tiny tokens."""
        if self.pos_embed.is_meta:
            return  # there are no numbers to draw, and asking for them makes torch import sympy for over a second
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv3d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, LayerScale):
                module.gamma.fill_(module.init)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        nn.init.normal_(self.register_tokens, std=1e-6)
        self.mask_token.zero_()

    def forward(
        self, crops: Tensor | Sequence[Tensor], masks: Sequence[Tensor | None] | None = None, block: int | None = None
    ) -> Tokens | list[Tokens]:
        """Normalised voxels -> Tokens, one for a tensor, a list for a list.

        ``masks``: per batch a bool (B, N), True where a patch is replaced by the mask token, or None.
        ``block``: stop after this block (0-based), see :meth:`after_blocks`. Default: the last.
        """
        single = isinstance(crops, Tensor)
        (found,) = self.after_blocks([crops] if single else crops, [-1 if block is None else block], masks)
        return found[0] if single else found

    def after_blocks(
        self, crops: Sequence[Tensor], blocks: Sequence[int], masks: Sequence[Tensor | None] | None = None
    ) -> list[list[Tokens]]:
        """Tokens of each batch after each of ``blocks`` (0-based, ascending), in one pass that ends with the last.

        The final LayerNorm is applied to each, as DINOv2's ``get_intermediate_layers`` does.
        """
        masks = [None] * len(crops) if masks is None else masks
        prepared = [self._prepare(crop, mask) for crop, mask in zip(crops, masks, strict=True)]
        shapes = [tuple(tokens.shape[:2]) for tokens, _ in prepared]
        x = torch.cat([tokens.flatten(0, 1) for tokens, _ in prepared])  # (T, C)
        wanted = [_checked(block, len(self.blocks)) for block in blocks]
        found = []
        for number, layer in enumerate(self.blocks[: wanted[-1] + 1]):
            if self.activation_checkpointing and self.training:
                x = checkpoint(layer, x, shapes, use_reentrant=False)
            else:
                x = layer(x, shapes)
            if number in wanted:
                found.append(self._split(self.norm(x), shapes, [grid for _, grid in prepared]))
        return found

    def _split(self, x: Tensor, shapes: Sequence[tuple[int, int]], grids: Sequence[Grid]) -> list[Tokens]:
        """All tokens (T, C) -> Tokens of each batch."""
        first = 1 + self.config.num_register_tokens
        outputs = []
        for part, (batch, length), grid in zip(x.split([b * n for b, n in shapes]), shapes, grids, strict=True):
            part = part.view(batch, length, -1)
            outputs.append(Tokens(part[:, 0], part[:, 1:first], part[:, first:], grid))
        return outputs

    def _prepare(self, crop: Tensor, mask: Tensor | None) -> tuple[Tensor, Grid]:
        patches, grid = self.patch_embed(crop)
        if mask is not None:
            patches = torch.where(mask[..., None], self.mask_token.to(patches.dtype), patches)
        # The residual stream keeps the parameters' type: under bf16 autocast a stream in bf16 would round
        # away what LayerScale lets through at the start of training (1e-5 of values near 0.02).
        positions = self.position_table(grid)
        batch = patches.shape[0]
        cls = (self.cls_token + positions[:, :1]).expand(batch, -1, -1)
        registers = self.register_tokens.expand(batch, -1, -1)
        return torch.cat([cls, registers, patches + positions[:, 1:]], dim=1), grid

    def position_table(self, grid: Grid) -> Tensor:
        """Position embedding for a token grid, (1, 1 + N, C): the table itself, or interpolated trilinearly.

        Grids are compared, not counts: 12 x 14 x 14 has as many tokens as 3 x 28 x 28. Kept per grid
        while nothing trains it.
        """
        if tuple(grid) == self.config.grid:
            return self.pos_embed
        training = torch.is_grad_enabled() and self.pos_embed.requires_grad
        # _version counts in-place writes, so freshly loaded or stepped weights are never served stale;
        # inference tensors do not count theirs.
        version = 0 if self.pos_embed.is_inference() else self.pos_embed._version
        key = (tuple(grid), version, self.pos_embed.data_ptr(), self.pos_embed.device, self.pos_embed.dtype)
        source, kept = self._positions.get(key, (None, None))
        if not training and source is self.pos_embed:
            return kept
        table = self.pos_embed[:, 1:].unflatten(1, self.config.grid).permute(0, 4, 1, 2, 3)  # (1, C, Z, Y, X)
        table = F.interpolate(table.float(), size=tuple(grid), mode="trilinear", align_corners=False)
        table = torch.cat([self.pos_embed[:, :1], table.flatten(2).transpose(1, 2).to(self.pos_embed.dtype)], dim=1)
        if not training:
            # Its source is held with each table: freed memory may be given to another table at the same address.
            fresh = {k: pair for k, pair in self._positions.items() if k[1:] == key[1:] and pair[0] is self.pos_embed}
            self._positions = fresh | {key: (self.pos_embed, table)}
        return table


def _count(grid: Grid) -> int:
    return grid[0] * grid[1] * grid[2]


def _checked(block: int, depth: int) -> int:
    if not -depth <= block < depth:
        raise ValueError(f"block {block} does not exist: this encoder has {depth}")
    return block % depth
