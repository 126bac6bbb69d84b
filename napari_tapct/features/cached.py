"""Features that are in the cache already, found and opened without loading the encoder or torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tapct_core.encoders import PACKAGED, Written, written_encoder
from tapct_core.encoders.presets import packaged_folder
from tapct_core.errors import UserError
from tapct_core.provenance import CODE_VERSION, feature_key
from tapct_core.store import FeatureStore, list_stored

from ..preferences import cache_limit_gb
from .encoder_choice import EmbeddingChoice

if TYPE_CHECKING:
    from tapct_core.features import FeatureMap
    from tapct_core.volume import CTVolume


def is_cached(volume: CTVolume, choice: EmbeddingChoice) -> bool:
    """Whether the cache holds features of this scan by this encoder: a mark, not a promise.

    An encoder whose config does not name its weights (the release's) goes by its name here; opening its features
    goes by the weights' hash all the same, so that another of that name is never taken for it.
    """
    key = _key(volume, choice)
    if key is not None:
        return FeatureStore().path(key).exists()
    wanted = {"scan": volume.content_hash, "encoder": Path(choice.encoder).name, "code_version": str(CODE_VERSION)}
    for facts in list_stored():
        same = all(facts.get(name) == value for name, value in wanted.items())
        if same and choice.plan in (None, facts.get("plan")) and float(facts.get("overlap") or 0) == choice.overlap:
            return True
    return False


def open_cached(volume: CTVolume, choice: EmbeddingChoice) -> FeatureMap | None:
    """The features, or None where the cache lacks them whole or only the loaded encoder can tell which they are."""
    key = _key(volume, choice)
    return None if key is None else FeatureStore(limit_gb=cache_limit_gb()).get(key)


def _key(volume: CTVolume, choice: EmbeddingChoice) -> str | None:
    written = _written(choice)
    if written is None:
        return None
    return feature_key(volume, written, written.spec.with_plan(choice.plan, None), choice.overlap)


def _written(choice: EmbeddingChoice) -> Written | None:
    folder = packaged_folder() if choice.encoder == PACKAGED else Path(choice.encoder)
    try:
        return written_encoder(folder) if folder.is_dir() else None
    except UserError:  # loading it says what is wrong, in the place where a person looks
        return None
