"""Embedding a scan as a job: nearest windows first, from the cache where it has them, going on where one broke off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..jobs import Job
from ..preferences import cache_limit_gb
from ..torch_loading import load_torch
from .cached import open_cached
from .encoder_choice import EmbeddingChoice

if TYPE_CHECKING:
    from tapct_core.encoders import Encoder
    from tapct_core.features import FeatureMap
    from tapct_core.volume import CTVolume


def embed_scan(
    job: Job,
    volume: CTVolume,
    choice: EmbeddingChoice,
    loaded: Encoder | None,
    focus_lps_mm: tuple[float, float, float],
) -> tuple[Encoder | None, FeatureMap]:
    """The encoder (``loaded``, if it is the chosen one) and the features. Runs on a worker's thread.

    Features that are in the cache need no encoder: it stays None if it was. A run that was cancelled or killed goes
    on from its last checkpoint, which is written every minute.
    """
    found = open_cached(volume, choice)
    if found is not None:
        return loaded, found
    load_torch()
    from tapct_core.embedding import effective_spec, embed_cached
    from tapct_core.provenance import feature_key
    from tapct_core.store import FeatureStore

    encoder = loaded or load(choice)
    store = FeatureStore(limit_gb=cache_limit_gb())
    key = feature_key(volume, encoder, effective_spec(encoder, choice.plan, None), choice.overlap)
    checkpoint = store.folder.parent / "unfinished" / f"{key}.safetensors"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    features = embed_cached(
        volume,
        encoder,
        choice.plan,
        overlap=choice.overlap,
        store=store,
        progress=job.report,
        cancel=job.cancelled,
        focus_lps_mm=focus_lps_mm,
        checkpoint=checkpoint,
    )
    return encoder, features


def load(choice: EmbeddingChoice) -> Encoder:
    """The chosen encoder on its device; without ``download`` no network is asked."""
    load_torch()
    from tapct_core.encoders import load_encoder

    return load_encoder(choice.encoder, device=choice.device, offline=None if choice.download else True)
