"""Feature maps on disk, in the format of store_format: whole or not there, checked on reading.

Two uses: :func:`save_features` writes what a person asked for where they asked for it, and never touches it
again; :class:`FeatureStore` is a cache that finds a map by what it was made from and forgets the least recently
used ones over its limit. No torch here.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .atomic import OLD, PART, atomic_folder, restore
from .disk import FULL, DiskFullError, disk_error, writing
from .errors import UserError
from .features import FeatureMap
from .files import number_from_environment
from .folder_lock import FolderLock
from .store_format import DamagedError, damaged, read, read_facts, write

__all__ = [
    "DamagedError", "DiskFullError", "FeatureStore", "default_folder", "list_stored", "load_features", "save_features",
]  # fmt: skip

log = logging.getLogger(__name__)

DEFAULT_LIMIT_GB, LIMIT = 50.0, "TAPCT_CACHE_GB"
SLACK, MANY = 0.02, 200
"""The share of the limit after which a cache is counted anew, and that is made free at once from so many entries on."""
SUFFIX = ".zarr"
STALE_SECONDS = 24 * 3600
"""Age at which an unfinished folder in the cache is taken for that of a killed process."""

_held: dict[Path, tuple[float, float]] = {}
"""Bytes in each cache folder as far as this process knows, and how many it has written since they were counted."""


def save_features(path: str | Path, features: FeatureMap, replace: bool = False) -> Path:
    """Writes a map to ``path`` (a folder, by custom ``.zarr``) whole or not at all; returns the path.

    Raises UserError if something stands there and ``replace`` is False, and when the disk is full.
    """
    path = Path(path)
    if restore(path) and not replace:
        raise UserError(f"{path} exists already; name another place or remove it first")
    with writing(path), atomic_folder(path) as part:
        write(part, features)
    return path


def load_features(path: str | Path) -> FeatureMap:
    """Reads a map and checks every byte of it.

    Raises UserError naming the path when it is not there, is no feature store, is of another version of
    the format, or is damaged: a missing, cut or altered chunk or an altered description.
    """
    path = Path(path)
    restore(path)
    while True:
        before = _identity(path)
        try:
            return read(path)
        except UserError:
            if _identity(path) == before:  # else it was replaced while it was read
                raise


def list_stored(folder: str | Path | None = None) -> Iterator[dict[str, str]]:
    """The ``provenance`` of every map in a cache ($TAPCT_CACHE's by default), in no order.

    A few KB are read of each and none of its arrays. What is no whole map of this version, or goes while it is read,
    is passed over: an entry is a sign of what :class:`FeatureStore` will find, not a promise.
    """
    for path in (Path(folder) if folder is not None else default_folder()).glob(f"*{SUFFIX}"):
        with suppress(UserError):
            yield read_facts(path)["provenance"]


class FeatureStore:
    """A cache of feature maps in ``folder``, least recently used out first.

    ``folder`` defaults to $TAPCT_CACHE, else the user's cache folder; ``limit_gb`` (10^9 bytes) to
    $TAPCT_CACHE_GB, else 50. Safe with any number of processes: entries come and go by renaming, and
    one that another process evicts while it is read is a miss. The entry last written always stays,
    even if it alone is over the limit.
    """

    def __init__(self, folder: str | Path | None = None, limit_gb: float | None = None) -> None:
        self.folder = Path(folder) if folder is not None else default_folder()
        self.limit_gb = number_from_environment(LIMIT, DEFAULT_LIMIT_GB) if limit_gb is None else limit_gb

    def path(self, key: str) -> Path:
        """Where the map of this key lies or would lie."""
        return self.folder / f"{key}{SUFFIX}"

    def get(self, key: str) -> FeatureMap | None:
        """The map of this key, or None. A damaged entry is dropped, with a warning in the log.

        Raises UserError where the entry may not be read, or is a whole map of another key.
        """
        path = self.path(key)
        while True:
            before = _identity(path)
            if before is None:
                return None
            try:
                features = load_features(path)
            except UserError as error:
                if _identity(path) != before:  # evicted or replaced while it was read
                    continue
                if not isinstance(error, DamagedError):
                    raise
                log.warning("%s is damaged and dropped from the cache: %s", path.name, error)
                _remove(path)
                return None
            if features.provenance.get("key") != key:
                raise damaged(path, "it holds the features of another scan, encoder or plan")
            _touch(path)
            return features

    def put(self, key: str, features: FeatureMap, replace: bool = False) -> None:
        """Keeps a map, then evicts others until the limit holds. An entry that is there stays unless ``replace``.

        Raises UserError when the disk is full or the folder cannot be written.
        """
        path = self.path(key)
        written = 0
        if replace or not path.exists():
            try:
                with atomic_folder(path) as part:
                    write(part, features)
                written = _size(path)
            except OSError as error:
                if not path.exists() or error.errno in FULL:  # else another process was first with the same map
                    raise disk_error(path, error) from error
        _touch(path)
        self._keep_within(path, written)

    def _keep_within(self, keep: Path, written: int) -> None:
        """Adds ``written`` bytes to what the folder is known to hold, and looks through it only when it may be full.

        A walk through 20,000 entries takes ten seconds and more, so a process remembers the sum. It does not see what
        others write and remove, and so counts anew after every SLACK of the limit.
        """
        self._sweep()
        limit, place = self.limit_gb * 1e9, self.folder.resolve()
        held, since = (part + written for part in _held.get(place, (math.inf, 0)))
        if held > limit or since > SLACK * limit or place not in _held:
            held, since = self._evict(keep), 0
        _held[place] = held, since

    def _sweep(self) -> None:
        """Removes the leftovers of killed processes."""
        with os.scandir(self.folder) as entries:
            names = [entry.name for entry in entries if entry.name.startswith((PART, OLD))]
        for name in names:
            lock = FolderLock(self.folder / name)
            if time.time() - _mtime(self.folder / name) > STALE_SECONDS and lock.take():
                shutil.rmtree(self.folder / name, ignore_errors=True)
                lock.close()

    def _evict(self, keep: Path) -> int:
        """Removes the entries used longest ago until the rest fits -> bytes left.

        Of many entries some more go, so that the next that is put does not find the folder full again.
        """
        entries = [(_mtime(entry / "zarr.json"), entry, _size(entry)) for entry in self.folder.glob(f"[!.]*{SUFFIX}")]
        held = sum(size for _, _, size in entries)
        limit = self.limit_gb * 1e9
        enough = limit if held <= limit or len(entries) < MANY else (1 - SLACK) * limit
        for _, entry, size in sorted(entries):
            if held <= enough:
                break
            if entry != keep:
                _remove(entry)
                held -= size
        return held


def default_folder() -> Path:
    """$TAPCT_CACHE, else the place where this system keeps caches."""
    if os.environ.get("TAPCT_CACHE"):
        return Path(os.environ["TAPCT_CACHE"]) / "features"
    import platformdirs

    return Path(platformdirs.user_cache_dir("napari-tapct", appauthor=False)) / "features"


def _identity(path: Path) -> tuple[int, int] | None:
    """Tells one folder of a name from its successor; None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _touch(path: Path) -> None:
    """Marks an entry as used now: the time of its zarr.json, which is not part of its content."""
    with suppress(OSError):
        os.utime(path / "zarr.json")


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # gone in the meantime
                total += os.stat(os.path.join(place, name)).st_size
    return total


def _remove(entry: Path) -> None:
    """Out of sight by one rename, then deleted; another process may do the same at the same time."""
    trash = Path(tempfile.mkdtemp(prefix=".old-", dir=entry.parent))
    with suppress(OSError):
        os.rename(entry, trash / entry.name)
    shutil.rmtree(trash, ignore_errors=True)
