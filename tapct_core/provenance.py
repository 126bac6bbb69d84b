"""What a feature map was made from, in words and hashes, and whether two maps may be compared.

A map carries these words wherever it goes. They name no path and no date, so equal scans give equal words, and
their hash is the key under which a map is kept and found again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .encoders import Encoder
    from .features import FeatureMap
    from .preprocessing import InputSpec
    from .volume import CTVolume

CODE_VERSION = 2
"""Raise it whenever preprocessing, windows or the network begin to give other tokens for the same input:
it is part of every key, so that old maps are never taken for new ones."""

IDENTITY = ("weights", "patch_size", "clip_hu", "mean_hu", "std_hu", "plan", "spacing_mm")
"""Words that two maps must share for their tokens to mean the same. The overlap is not one of them: it smooths
tokens, and does not make others of them. Nor is the code's version, which decides what is taken from a cache."""


def provenance(volume: CTVolume, encoder: Encoder | None, spec: InputSpec, overlap: float) -> dict[str, str]:
    """What a feature map was made from, in plain words and hashes; ``key`` is SHA-256 over the rest.

    No path, name or date: equal scans give equal provenance wherever they lie. ``encoder`` is the
    weights' name, which is not part of the key; their hash is.
    """
    facts = {
        "scan": volume.content_hash,
        "weights": "none" if encoder is None else encoder.weights_hash,
        "patch_size": _words(spec.patch_size),
        "window": _words(spec.img_size),
        "clip_hu": _words(spec.clip_hu),
        "mean_hu": _words((spec.mean_hu,)),
        "std_hu": _words((spec.std_hu,)),
        "plan": spec.plan,
        "spacing_mm": _words(spec.spacing_mm) if spec.plan == "spacing" else "the scan's own slices",
        "overlap": _words((overlap,)),
        "code_version": str(CODE_VERSION),
    }
    key = hashlib.sha256(canonical(facts)).hexdigest()
    return {"encoder": "none" if encoder is None else encoder.name, **facts, "key": key}


def feature_key(volume: CTVolume, encoder: Encoder | None, spec: InputSpec, overlap: float) -> str:
    """SHA-256 (hex) over voxels, geometry, weights, input plan, overlap and code version."""
    return provenance(volume, encoder, spec, overlap)["key"]


def difference(one: Mapping[str, str], other: Mapping[str, str], dims: tuple[int, int]) -> str:
    """The first word of IDENTITY in which two maps' provenances differ, "dim" for tokens of another length, else "".

    A word that one of them does not have says nothing. ``dims`` are the lengths of both maps' tokens.
    """
    for word in IDENTITY:
        if one.get(word) is not None and other.get(word) is not None and one[word] != other[word]:
            return word
    return "dim" if dims[0] != dims[1] else ""


def comparable(a: FeatureMap, b: FeatureMap) -> bool:
    """Whether two maps have tokens, and tokens of the same encoder on the same plan."""
    return a.dim > 0 and not difference(a.provenance, b.provenance, (a.dim, b.dim))


def _words(values: tuple[float, ...]) -> str:
    return " ".join(repr(float(v)).removesuffix(".0") for v in values)


def canonical(facts: dict[str, Any]) -> bytes:
    """The one way to write facts down for a hash."""
    return json.dumps(facts, sort_keys=True).encode()
