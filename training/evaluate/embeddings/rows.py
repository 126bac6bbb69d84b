"""Rows of a table: an encoder, and how scans are laid out for it.

Row("tap-ct-b-3d")                        as the encoder itself wants it
Row("tap-ct-b-3d", block=6)               features of its seventh block
Row("untrained:tap-ct-b-3d")              the same shape with random weights: what training brings
Row("none")                               no encoder: Hounsfield units alone
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from tapct_core.embedding import effective_spec
from tapct_core.encoders import Encoder, load_encoder, untrained_twin
from tapct_core.encoders.checkpoint import hash_weights
from tapct_core.encoders.outputs import LAST
from tapct_core.errors import UserError
from tapct_core.geometry import Geometry
from tapct_core.preprocessing import InputSpec
from tapct_core.sliding_windows import OVERLAP

UNTRAINED_PREFIX = "untrained:"


@dataclass(frozen=True)
class Row:
    """What is asked for. Triples are (z, y, x).

    ``encoder``  a name or folder as ``load_encoder`` takes, ``untrained:`` before one for its twin with random
                 weights, or ``none`` for Hounsfield units alone.
    ``plan``, ``spacing_mm``, ``overlap``  as ``tapct_core.embed``; None: the encoder's own.
    ``block``    features of this block (0-based, negative from the end); None: the last.
    ``in_plane`` slices resized to this many pixels a side instead of the release plan's 224.
    ``window``   size of the sliding window in voxels instead of the encoder's own.
    """

    encoder: str
    plan: str | None = None
    spacing_mm: tuple[float, float, float] | None = None
    overlap: float = OVERLAP
    block: int | None = None
    in_plane: int | None = None
    window: tuple[int, int, int] | None = None

    def load(self, device: str = "auto") -> LoadedRow:
        """The encoder on ``device``, cut and laid out as asked. Raises UserError for what does not fit together."""
        if self.in_plane is not None and (self.plan == "spacing" or self.spacing_mm is not None):
            raise UserError("an input size in pixels belongs to the release plan; leave --spacing and --plan out")
        if self.encoder == "none":
            if self.block is not None or self.window is not None or self.in_plane is not None:
                raise UserError("the row 'none' has no encoder, so neither a block, a window nor an input size")
            spec, own = effective_spec(None, self.plan, self.spacing_mm), effective_spec(None, None, None)
            return LoadedRow(", ".join(["none", *_plan_words(spec, own)]), replace(self, overlap=0.0), None, spec)
        encoder = _encoder(self.encoder, device)
        words = [encoder.name]
        if self.block is not None:
            depth = encoder.vit.config.depth
            encoder = cut_after(encoder, self.block)
            words.append(f"block {self.block % depth + 1} of {depth}")
        if self.window is not None:
            encoder = replace(encoder, spec=_with_window(encoder.spec, self.window))
            words.append("window " + " x ".join(map(str, self.window)))
        spec = effective_spec(encoder, "release" if self.in_plane else self.plan, self.spacing_mm)
        words += _plan_words(spec, encoder.spec) if self.in_plane is None else [f"{self.in_plane} px"]
        words += [f"overlap {self.overlap:g}"] if self.overlap else []
        return LoadedRow(", ".join(words), self, encoder, spec)


@dataclass(frozen=True, eq=False)
class LoadedRow:
    """A row ready to embed: its unique name, what was asked for, the encoder (None: HU alone) and its input."""

    name: str
    row: Row
    encoder: Encoder | None
    spec: InputSpec

    def spec_for(self, geometry: Geometry) -> InputSpec:
        """The input plan for one scan: an input size in pixels is a spacing that depends on the field of view."""
        if self.row.in_plane is None:
            return self.spec
        size = (geometry.shape[0], self.row.in_plane, self.row.in_plane)
        return self.spec.with_plan("spacing", geometry.resized(size).spacing_mm)

    def facts(self) -> dict[str, object]:
        """row.json: what made the features, without a path of this machine."""
        encoder, spec = self.encoder, self.spec
        facts: dict[str, object] = {
            "plan": spec.plan if self.row.in_plane is None else f"{self.row.in_plane} x {self.row.in_plane} in plane",
            "spacing_mm": spec.spacing_mm if spec.plan == "spacing" else None,
            "window": spec.img_size,
            "patch_size": spec.patch_size,
            "overlap": self.row.overlap,
        }
        if encoder is None:
            return {"encoder": "none", "weights": "none", "trained": False, "licence": "none needed", **facts}
        return {
            "encoder": encoder.name,
            "weights": encoder.weights_hash,
            "trained": encoder.trained,
            "licence": encoder.licence,
            "embed_dim": encoder.embed_dim,
            "blocks": encoder.depth,
            "parameters": sum(tensor.numel() for tensor in encoder.network.parameters()),
            **facts,
        }


def load_rows(rows: Sequence[Row], device: str = "auto") -> list[LoadedRow]:
    """All rows, loaded before any work begins, so that a wrong name costs nothing. Raises UserError, for twins too."""
    loaded = [row.load(device) for row in rows]
    names = [row.name for row in loaded]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(
            f"two rows would be called {twice[0]!r}; leave one out, or give the encoders' folders different names"
        )
    return loaded


def cut_after(encoder: Encoder, block: int) -> Encoder:
    """``encoder`` without the blocks behind ``block`` (0-based): its output is that block's, under the final norm.

    As DINOv2's ``get_intermediate_layers`` reads features; the cut network has its own hash, so that the store
    never takes one for the other. Raises UserError for a block that is not there.
    """
    depth = encoder.vit.config.depth
    if not -depth <= block < depth:
        raise UserError(f"{encoder.name} has {depth} blocks, so none is number {block}; choose 0 to {depth - 1}")
    import torch

    config = replace(encoder.vit.config, depth=block % depth + 1)
    kept = {
        name: tensor
        for name, tensor in encoder.vit.state_dict().items()
        if not name.startswith("blocks.") or int(name.split(".")[1]) < config.depth
    }
    with torch.device("meta"):
        vit = type(encoder.vit)(config)
    vit.load_state_dict(kept, assign=True)
    vit.eval().requires_grad_(False)
    return replace(encoder, network=vit, outputs=LAST, weights_hash=hash_weights(vit))


@lru_cache(maxsize=8)
def _encoder(word: str, device: str) -> Encoder:
    """Loaded once a process: the lines of an ablation share one network's weights."""
    if not word.startswith(UNTRAINED_PREFIX):
        return load_encoder(word or None, device)
    return untrained_twin(load_encoder(word.removeprefix(UNTRAINED_PREFIX) or None, device))


def _plan_words(spec: InputSpec, own: InputSpec) -> list[str]:
    """How a plan differs from the encoder's own, in a word or none."""
    if spec.plan == own.plan and (spec.plan == "release" or spec.spacing_mm == own.spacing_mm):
        return []
    return ["release plan"] if spec.plan == "release" else [" x ".join(f"{s:g}" for s in spec.spacing_mm) + " mm"]


def _with_window(spec: InputSpec, window: tuple[int, int, int]) -> InputSpec:
    try:
        return replace(spec, img_size=window)
    except ValueError as error:
        raise UserError(f"{error}; choose another --window") from None
