"""embed_many(): an archive, headless. One zarr store a scan; run it again and it goes on where it stopped.

The outputs are the state: no list of finished scans is kept that could disagree with them. Shards are
independent processes over one list; each takes every n-th scan.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .atomic import clean
from .disk import DiskFullError
from .embedding import effective_spec, embed
from .encoders import Encoder
from .errors import UserError
from .io import load_ct
from .io.suffixes import stem_of
from .preprocessing import InputSpec
from .progress import Cancel, EmbeddingCancelled, Progress
from .provenance import feature_key
from .sliding_windows import OVERLAP
from .store import SUFFIX, load_features, save_features
from .volume import CTVolume

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScanResult:
    """What became of one scan; ``message`` is one line for a person."""

    path: Path
    store: Path
    ok: bool
    message: str
    was_there: bool = False


def embed_many(
    paths: Sequence[str | Path],
    out_dir: str | Path,
    encoder: Encoder | None,
    plan: str | None = None,
    spacing_mm: tuple[float, float, float] | None = None,
    overlap: float = OVERLAP,
    *,
    how: Mapping[str, Any] | None = None,
    shard: tuple[int, int] = (0, 1),
    rebuild: bool = False,
    batch_size: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Iterator[ScanResult]:
    """Embeds CTs (files or DICOM folders) into ``out_dir``, yielding a ScanResult as each is done.

    ``how`` are keywords of ``load_ct`` for every scan. ``shard`` (i, n), i from 0, takes every n-th scan of the
    whole list, and names do not depend on it.
    The next scan is read while one is embedded. A finished store is checked to the last byte against the
    scan and passed over; ``rebuild`` replaces it instead. A killed run's scan goes on from its checkpoint.
    A scan that cannot be read or embedded is reported and the rest goes on.

    Raises UserError for options that fit no scan and for a full disk, EmbeddingCancelled on cancel.
    """
    request = _Request(encoder, plan, spacing_mm, overlap, rebuild, batch_size, progress, cancel)
    request.spec()  # a wrong option is one error, not one a scan
    out_dir = Path(out_dir)
    names = store_names(paths)
    mine = list(names)[shard[0] :: shard[1]]
    with ThreadPoolExecutor(1, thread_name_prefix="read-ct") as reader:
        upcoming: Future[CTVolume] | None = None
        for i, path in enumerate(mine):
            reading = upcoming or reader.submit(_read, path, how)
            upcoming = reader.submit(_read, mine[i + 1], how) if i + 1 < len(mine) else None
            target = out_dir / names[path]
            try:
                was_there = request.fulfil(reading.result(), target)
            except (DiskFullError, EmbeddingCancelled):
                if upcoming is not None:
                    upcoming.cancel()
                raise
            except Exception as error:  # whatever is wrong with one scan of an archive, the others go on
                log.debug("embedding %s failed", path, exc_info=True)
                yield ScanResult(path, target, False, _one_line(path, error))
            else:
                word = "was finished already" if was_there else "embedded"
                yield ScanResult(path, target, True, f"{path} {word}: {target}", was_there)


@dataclass(frozen=True)
class _Request:
    """What is asked for, of every scan alike; the fields are embed_many's."""

    encoder: Encoder | None
    plan: str | None
    spacing_mm: tuple[float, float, float] | None
    overlap: float
    rebuild: bool
    batch_size: int | None
    progress: Progress | None
    cancel: Cancel | None

    def spec(self) -> InputSpec:
        return effective_spec(self.encoder, self.plan, self.spacing_mm)

    def fulfil(self, volume: CTVolume, target: Path) -> bool:
        """Writes ``target``; True if it was there, whole and of this scan, encoder and plan."""
        key = feature_key(volume, self.encoder, self.spec(), self.overlap)
        clean(target)  # of a run that was killed
        if target.exists() and not self.rebuild:
            if load_features(target).provenance.get("key") == key:
                return True
            raise UserError(
                f"{target} holds the features of another scan, encoder or plan; name another folder or remove it"
            )
        features = embed(
            volume,
            self.encoder,
            self.plan,
            self.spacing_mm,
            self.overlap,
            batch_size=self.batch_size,
            progress=self.progress,
            cancel=self.cancel,
            # The key is in the name: a run with another plan neither finds nor overwrites it.
            checkpoint=target.with_name(f".{target.name}-{key[:12]}.checkpoint"),
        )
        save_features(target, features, replace=self.rebuild)
        return False


def store_names(paths: Sequence[str | Path]) -> dict[Path, str]:
    """A store's name for each path of a list, without repeats and in its order.

    The scan's own name; where two scans of the list share it (``ct.nii.gz`` in many folders, or names
    that differ by case alone), a hash of the absolute path is added to each, so that the order of the
    list does not matter. Eight of its digits, which tell a thousand scans apart; all of them where two names
    are equal even so, as happens among 100,000.
    """
    unique = list(dict.fromkeys(Path(path) for path in paths))
    stems = {path: stem_of(path) for path in unique}
    names = dict(stems)
    for digits in (8, 64):
        shared = Counter(name.casefold() for name in names.values())
        for path, name in names.items():
            if shared[name.casefold()] > 1:
                names[path] = f"{stems[path]}-{_path_hash(path)[:digits]}"
    return {path: name + SUFFIX for path, name in names.items()}


def _path_hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.absolute())).hexdigest()


def _read(path: Path, how: Mapping[str, Any] | None) -> CTVolume:
    volume = load_ct(path, **(how or {}))
    volume.content_hash  # noqa: B018 - computed here, beside the embedding of the scan before
    return volume


def _one_line(path: Path, error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, UserError):
        text = f"could not be embedded ({type(error).__name__}: {text})"
    return text if str(path) in text else f"{path}: {text}"
