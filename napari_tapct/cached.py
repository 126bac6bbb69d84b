"""Which scans have features in the cache already, without loading the encoder or torch."""

from __future__ import annotations

from tapct_core.store import CODE_VERSION, list_stored
from tapct_core.volume import CTVolume


def is_cached(volume: CTVolume, encoder: str, plan: str | None, overlap: float) -> bool:
    """Whether the cache holds features of this scan by an encoder of this name: a mark, not a promise.

    Opening them goes by the weights' hash, so that another encoder of the same name is never taken for it.
    """
    wanted = {"scan": volume.content_hash, "encoder": encoder, "code_version": str(CODE_VERSION)}
    for facts in list_stored():
        same = all(facts.get(key) == value for key, value in wanted.items())
        if same and plan in (None, facts.get("plan")) and float(facts.get("overlap") or 0) == overlap:
            return True
    return False
