"""What embed() has so far: tokens put together from windows, and the file that lets a killed run go on."""

from __future__ import annotations

import json
import logging
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .atomic import atomic_path, clean
from .errors import UserError
from .files import require_regular
from .geometry import Shape
from .sliding_windows import owned_region, token_weights
from .strict_json import parse_json

log = logging.getLogger(__name__)

FIXED_POINT = 2.0**16
"""Overlapped tokens are summed as multiples of 2^-16. Below 2^8 such numbers are whole in float32, so their sums
are exact and the order of windows cannot show; 2^-16 is finer than float16 wherever a value exceeds 2^-5."""


class Canvas:
    """The token grid that windows are painted into, in any order.

    ``starts`` (n, 3) are the first tokens of the windows that will be painted, ``window`` their size;
    ``blend`` says whether shared tokens are averaged with Gaussian weights or belong to one window.
    """

    def __init__(self, grid: Shape, dim: int, starts: np.ndarray, window: Shape, blend: bool) -> None:
        self.grid, self.starts, self.window, self.blend = grid, starts, window, blend
        self.tokens = np.zeros((*grid, dim), np.float32 if blend else np.float16)
        self.cls = np.zeros((len(starts), dim), np.float16)
        self.weights = token_weights(window)
        self.total = np.zeros(grid)  # float64 sum of the weights of all windows, painted or yet to be
        for i in range(len(starts)):
            self.total[self.region(i)] += self.weights if blend else 1.0

    @property
    def valid(self) -> np.ndarray:
        """(Z, Y, X) bool: tokens that some window paints."""
        return self.total > 0

    def region(self, i: int) -> tuple[slice, slice, slice]:
        """The box of the grid that window ``i`` paints."""
        if self.blend:
            return tuple(slice(int(s), int(s) + w) for s, w in zip(self.starts[i], self.window, strict=True))
        return owned_region(self.starts[i], self.grid, self.window)

    def paint(self, i: int, tokens: np.ndarray, cls: np.ndarray) -> None:
        """Adds window ``i``: tokens (z, y, x, C) and cls (C,), float32."""
        self.cls[i] = to_float16(cls)
        region = self.region(i)
        if self.blend:
            share = (self.weights / self.total[region]).astype(np.float32)[..., None]
            self.tokens[region] += np.rint(tokens * share * np.float32(FIXED_POINT)) / np.float32(FIXED_POINT)
        else:
            start = self.starts[i].tolist()
            inside = tuple(slice(part.start - s, part.stop - s) for part, s in zip(region, start, strict=True))
            self.tokens[region] = to_float16(tokens[inside])

    def finished(self) -> np.ndarray:
        """Tokens (Z, Y, X, C) float16."""
        if not self.blend:
            return self.tokens
        out = np.empty(self.tokens.shape, np.float16)
        for z, tokens in enumerate(self.tokens):
            out[z] = to_float16(tokens)
        return out


def to_float16(values: np.ndarray) -> np.ndarray:
    """float32 -> float16, held at its largest finite number instead of going to infinity."""
    limit = np.finfo(np.float16).max
    return np.clip(values, -limit, limit).astype(np.float16)


class EmbeddingState:
    """A Canvas with the list of windows done, kept in a safetensors file where one is asked for.

    Only painted boxes are written. The file carries the features' key and a checksum: another scan's
    is refused (UserError), a damaged one is worth nothing and the run begins anew.
    """

    def __init__(self, canvas: Canvas, path: Path | None, key: str) -> None:
        self.canvas = canvas
        self.path = None if path is None else Path(path)
        self.key = key
        self.done = np.zeros(len(canvas.starts), bool)
        if self.path is not None and self.path.is_file():
            self._load()

    @property
    def done_count(self) -> int:
        """Windows that are painted."""
        return int(self.done.sum())

    def put(self, indices: np.ndarray, tokens: np.ndarray, cls: np.ndarray) -> None:
        """Paints windows ``indices`` (b,): tokens (b, z, y, x, C) and cls (b, C), float32."""
        for i, window_tokens, window_cls in zip(indices, tokens, cls, strict=True):
            self.canvas.paint(int(i), window_tokens, window_cls)
            self.done[i] = True

    def _painted(self) -> np.ndarray:
        """(Z, Y, X) bool: tokens of the boxes painted so far."""
        painted = np.zeros(self.canvas.grid, bool)
        for i in np.flatnonzero(self.done):
            painted[self.canvas.region(i)] = True
        return painted

    def save(self) -> None:
        """Writes the file, whole or not at all. A disk that is full costs the checkpoint, never the run."""
        if self.path is None:
            return
        arrays = {"tokens": self.canvas.tokens[self._painted()], "cls": self.canvas.cls, "done": self.done}
        facts = {"key": self.key, "checksum": _checksum(arrays)}
        try:
            with atomic_path(self.path) as part:
                save_file(arrays, part, metadata={"tapct": json.dumps(facts)})
        except (OSError, SafetensorError) as error:
            log.warning("the checkpoint %s could not be written: %s", self.path, error)

    def _load(self) -> None:
        try:
            require_regular(self.path)
            with safe_open(self.path, framework="numpy") as file:
                facts = parse_json((file.metadata() or {})["tapct"])
                arrays = {name: file.get_tensor(name) for name in ("tokens", "cls", "done")}
            intact, key = facts["checksum"] == _checksum(arrays), facts["key"]
        except (OSError, SafetensorError, KeyError, ValueError, TypeError):
            intact = False
        if intact and key != self.key:
            raise UserError(f"{self.path} is a checkpoint of another scan, encoder or plan; delete it or name another")
        if not intact or not self._take(arrays):
            log.warning("the checkpoint %s is damaged; beginning anew", self.path)

    def _take(self, arrays: dict[str, np.ndarray]) -> bool:
        """Go on from these arrays, if they have this run's shapes and dtypes."""
        mine = {"tokens": self.canvas.tokens, "cls": self.canvas.cls, "done": self.done}
        done, painted = arrays["done"], np.zeros(self.canvas.grid, bool)
        if any(arrays[name].dtype != own.dtype for name, own in mine.items()):
            return False
        if done.shape != self.done.shape or arrays["cls"].shape != self.canvas.cls.shape:
            return False
        for i in np.flatnonzero(done):
            painted[self.canvas.region(i)] = True
        if arrays["tokens"].shape != self.canvas.tokens[painted].shape:
            return False
        self.done, self.canvas.cls = done, arrays["cls"]
        self.canvas.tokens[painted] = arrays["tokens"]
        return True

    def discard(self) -> None:
        """Removes the file, and what killed writers of it left: the run has ended well."""
        if self.path is not None:
            clean(self.path)
            with suppress(OSError):  # never written, or in a place that cannot be written
                self.path.unlink()


def _checksum(arrays: dict[str, np.ndarray]) -> int:
    value = 0
    for name in sorted(arrays):
        value = zlib.crc32(np.ascontiguousarray(arrays[name]).view(np.uint8).reshape(-1), value)
    return value
