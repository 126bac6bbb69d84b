"""Scans laid out for random crops: int16 HU in zarr, one folder a scan, read a block at a time.

    STORE/
      store.json               how the scans were laid out: spacing, body crop; the same for all
      index.json               the scans; what it lacks of the folders is added when it is read
      scans/<id>.zarr/         int16 (z, y, x); attributes: affine (LPS), body cells, what the header says
      journal/ report.csv      what became of every file that was looked at (training.data.ingest_journal)
      inventory.png .csv       whose scans these are (training.data.inventory)

``<id>`` begins the SHA-256 of voxels and affine, so a scan is in a store once, wherever its file lies.
Chunks are whole planes, four slices deep, LZ4 with bit shuffle, in one shard file: measured on a
512 x 512 x 200 scan, a 12-slice block reads in 5 ms, against 9 ms with 128 x 128 columns of 16 slices and
44 ms with 12 x 64 x 64 cubes; cubes of 16 x 128 x 128 take 5 ms either way. Every chunk carries a CRC-32C,
so a damaged scan is noticed when it is read.
"""

from __future__ import annotations

import base64
import json
import math
import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from tapct_core.atomic import atomic_folder, atomic_path
from tapct_core.errors import UserError
from tapct_core.geometry import Geometry, Shape
from tapct_core.strict_json import read_json
from tapct_core.volume import AIR_HU

FORMAT = 1
INDEX_BYTES = 1 << 30
"""Of index.json: a line of 200 bytes a scan, and no store has millions."""
CELL: Shape = (4, 16, 16)
"""Voxels (z, y, x) of one cell of the body map."""
BODY_HU = -500
"""Above this a voxel is taken for body (or table): halfway between air and fat, away from lung's noise."""


class CorruptScan(Exception):
    """A scan of the store cannot be read, or its checksum does not hold; ``scan_id`` names it."""

    def __init__(self, scan_id: str, reason: str) -> None:
        super().__init__(f"scan {scan_id} of the store is damaged ({reason}); delete it and run the ingest again")
        self.scan_id = scan_id


@dataclass(frozen=True)
class ScanInfo:
    """One scan of a store: ``shape`` (z, y, x), ``spacing_mm`` (z, y, x), ``body_cells``: how much body it shows."""

    scan_id: str
    shape: Shape
    spacing_mm: tuple[float, float, float]
    body_cells: int


def body_map(hu: np.ndarray, minimum: float = 0.05) -> np.ndarray:
    """HU (z, y, x) -> bool cells of CELL voxels: True where over ``minimum`` of the cell is above BODY_HU."""
    padded = [-(-size // cell) * cell for size, cell in zip(hu.shape, CELL, strict=True)]
    inside = np.zeros(padded, dtype=bool)
    inside[tuple(slice(0, n) for n in hu.shape)] = hu > BODY_HU
    z, y, x = (n // c for n, c in zip(padded, CELL, strict=True))
    return inside.reshape(z, CELL[0], y, CELL[1], x, CELL[2]).mean(axis=(1, 3, 5)) > minimum


def write_scan(store: Path, scan_id: str, hu: np.ndarray, geometry: Geometry, header: dict[str, str]) -> ScanInfo:
    """Put one scan into a store, whole or not at all. ``header``: plain words about it, no name of a patient."""
    body = body_map(hu)
    chunks = (min(4, hu.shape[0]), *(min(512, n) for n in hu.shape[1:]))
    with atomic_folder(store / "scans" / f"{scan_id}.zarr") as folder:
        array = zarr.create_array(
            folder,
            shape=hu.shape,
            dtype="int16",
            chunks=chunks,
            shards=tuple(-(-n // c) * c for n, c in zip(hu.shape, chunks, strict=True)),
            compressors=[BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle"), Crc32cCodec()],
            fill_value=AIR_HU,
            overwrite=True,
            attributes={
                "format": FORMAT,
                "affine_lps": [[float(v) for v in row] for row in geometry.affine],
                "body_shape": list(body.shape),
                "body": base64.b64encode(np.packbits(body)).decode(),
                "header": header,
            },
        )
        array[:] = hu
    return ScanInfo(scan_id, tuple(hu.shape), geometry.spacing_mm, int(body.sum()))


@dataclass(frozen=True, eq=False)
class _OpenScan:
    array: zarr.Array
    cells: np.ndarray  # (n, 3) body cells, (z, y, x)


class CropStore:
    """A folder of scans made by ``training.ingest``, open for reading. Safe to use from many threads.

    Raises UserError where the folder is no store or holds no scan.
    """

    def __init__(self, root: str | Path, keep_open: int = 256, cache_gb: float = 0.0) -> None:
        """``keep_open`` scans stay open between reads; decoded scans are kept in memory up to ``cache_gb``."""
        self.root = Path(root)
        if not (self.root / "store.json").is_file():
            raise UserError(
                f"{root} is not a store of scans; make one with `python -m training.ingest FOLDER --out {root}`"
            )
        self.settings = _settings(self.root)
        if self.settings.get("format") != FORMAT:
            raise UserError(
                f"{root} was written in format {self.settings.get('format')}, not {FORMAT}; ingest the scans again"
            )
        self.scans: tuple[ScanInfo, ...] = tuple(sorted(read_index(self.root), key=lambda scan: scan.scan_id))
        if not self.scans:
            raise UserError(f"the store {root} holds no scan; look at report.csv there for the reasons")
        self._by_id = {scan.scan_id: scan for scan in self.scans}
        self._keep_open, self._cache_bytes = keep_open, int(cache_gb * 2**30)
        self._open: OrderedDict[str, _OpenScan] = OrderedDict()
        self._cached: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.scans)

    def geometry(self, scan_id: str) -> Geometry:
        """Where a scan's voxels lie. Raises CorruptScan."""
        scan = self._opened(scan_id)
        return Geometry(scan.array.shape, np.array(scan.array.attrs["affine_lps"]))

    def spacing_mm(self, scan_id: str) -> tuple[float, float, float]:
        """Distance between a scan's voxels along (z, y, x), in mm."""
        return self._by_id[scan_id].spacing_mm

    def header(self, scan_id: str) -> dict[str, str]:
        """What the scan's file said of itself: manufacturer, kernel and so on. Raises CorruptScan."""
        return dict(self._opened(scan_id).array.attrs["header"])

    def place_block(self, scan_id: str, shape: Shape, rng: np.random.Generator) -> Shape:
        """Where a block of ``shape`` (z, y, x) starts: uniform among places that hold a random piece of body.

        A cell of the body map is drawn first and the block laid so that the cell's centre is inside,
        then pulled into the scan; along an axis that the block covers whole, it is centred, so that air
        is padded on both sides. Raises CorruptScan.
        """
        scan, size = self._opened(scan_id), self._by_id[scan_id].shape
        draws = rng.random(4)
        if len(scan.cells):
            centre = (scan.cells[int(draws[0] * len(scan.cells))] + 0.5) * np.array(CELL)
        else:
            centre = draws[1:] * np.array(size)
        start = np.floor(centre - draws[1:] * np.array(shape)).astype(int)
        room = np.array(size) - np.array(shape)
        start = np.where(room <= 0, -(-room // 2), start.clip(0, np.maximum(room, 0)))
        return tuple(int(s) for s in start)

    def read_block(self, scan_id: str, start: Shape, shape: Shape) -> np.ndarray:
        """HU int16 of ``shape`` (z, y, x) from voxel ``start``; outside the scan is air. Raises CorruptScan."""
        size = self._by_id[scan_id].shape
        low = [max(0, s) for s in start]
        high = [min(n, s + m) for n, s, m in zip(size, start, shape, strict=True)]
        inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        if any(a >= b for a, b in zip(low, high, strict=True)):
            return np.full(shape, AIR_HU, dtype=np.int16)
        part = self._read(scan_id, inside)
        if part.shape == tuple(shape):
            return part
        block = np.full(shape, AIR_HU, dtype=np.int16)
        block[tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))] = part
        return block

    def read_scan(self, scan_id: str) -> np.ndarray:
        """The whole scan, int16 (z, y, x). Raises CorruptScan."""
        return self.read_block(scan_id, (0, 0, 0), self._by_id[scan_id].shape)

    def verify(self) -> Iterator[CorruptScan]:
        """Read every scan and yield what is damaged."""
        for scan in self.scans:
            try:
                self.read_scan(scan.scan_id)
            except CorruptScan as damage:
                yield damage

    def _read(self, scan_id: str, where: tuple[slice, ...]) -> np.ndarray:
        with self._lock:
            cached = self._cached.get(scan_id)
        if cached is None and self._fits_cache(scan_id):
            cached = self._decode(scan_id, (slice(None),) * 3)
            with self._lock:
                self._cached[scan_id] = cached
        return np.ascontiguousarray(cached[where]) if cached is not None else self._decode(scan_id, where)

    def _fits_cache(self, scan_id: str) -> bool:
        with self._lock:
            used = sum(array.nbytes for array in self._cached.values())
        return used + 2 * int(np.prod(self._by_id[scan_id].shape)) <= self._cache_bytes

    def _decode(self, scan_id: str, where: tuple[slice, ...]) -> np.ndarray:
        try:
            return np.asarray(self._opened(scan_id).array[where])
        except CorruptScan:
            raise
        except Exception as error:  # codecs, files and checksums fail in their own ways; all mean the same here
            raise CorruptScan(scan_id, f"{type(error).__name__}: {error}") from error

    def _opened(self, scan_id: str) -> _OpenScan:
        with self._lock:
            if scan_id in self._open:
                self._open.move_to_end(scan_id)
                return self._open[scan_id]
        try:
            array = zarr.open_array(self.root / "scans" / f"{scan_id}.zarr", mode="r", zarr_format=3)
            shape = tuple(int(n) for n in array.attrs["body_shape"])
            bits = np.frombuffer(base64.b64decode(array.attrs["body"]), dtype=np.uint8)
            if not 0 <= math.prod(shape) <= 8 * len(bits):  # zeros to any number would be made up
                raise ValueError(f"its body map does not hold {shape}")
            body = np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)
            if tuple(array.shape) != self._by_id[scan_id].shape:
                raise ValueError(f"its shape {array.shape} is not the index's {self._by_id[scan_id].shape}")
        except Exception as error:
            raise CorruptScan(scan_id, f"{type(error).__name__}: {error}") from error
        scan = _OpenScan(array, np.argwhere(body))
        with self._lock:
            self._open[scan_id] = scan
            while len(self._open) > self._keep_open:
                self._open.popitem(last=False)
        return scan


def _settings(root: Path) -> dict:
    """What store.json says. Raises UserError where it is damaged."""
    try:
        found = read_json(root / "store.json")
    except (OSError, ValueError) as error:
        raise UserError(f"{root / 'store.json'} is damaged ({error}); put it back, or ingest the scans again") from None
    if not isinstance(found, dict):
        raise UserError(f"{root / 'store.json'} is damaged; put it back, or ingest the scans again")
    return found


def _numbers(shape: list, spacing_mm: list) -> tuple[Shape, tuple[float, float, float]]:
    """Three voxels and three millimetres. Raises ValueError or TypeError for anything else."""
    (z, y, x), (dz, dy, dx) = (int(n) for n in shape), (float(s) for s in spacing_mm)
    return (z, y, x), (dz, dy, dx)


def create_store(root: Path, settings: dict) -> None:
    """Make ``root`` a store with these layout settings, or check that it already is one.

    Raises UserError where the folder holds a store laid out otherwise, or other files.
    """
    wanted = {"format": FORMAT, **settings}
    path = root / "store.json"
    if path.is_file():
        found = _settings(root)
        if found != wanted:
            raise UserError(
                f"{root} holds scans laid out as {found}, not {wanted}; use another --out, or the same options"
            )
        return
    if root.exists() and any(root.iterdir()):
        raise UserError(f"{root} is not empty and not a store of scans; give a new folder")
    (root / "scans").mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part:
        part.write_text(json.dumps(wanted, indent=1))


def write_index(root: Path) -> list[ScanInfo]:
    """Look into every scan's folder and write index.json; returns the scans, sorted by id."""
    found = (_info(folder) for folder in _folders(root).values())
    return _write_index(root, [scan for scan in found if scan is not None])


def read_index(root: Path) -> list[ScanInfo]:
    """The scans of a store: those of index.json, and those whose folders it lacks since an ingest was cut short.

    What is added is written down where the store can be written to.
    """
    path = root / "index.json"
    try:
        rows = read_json(path, INDEX_BYTES)
        scans = [
            ScanInfo(str(row["scan_id"]), *_numbers(row["shape"], row["spacing_mm"]), int(row["body_cells"]))
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError, OverflowError):  # none, or none that can be read: made anew
        scans = []
    lacking = _folders(root).keys() - {scan.scan_id for scan in scans}
    added = [scan for name in lacking if (scan := _info(root / "scans" / f"{name}.zarr")) is not None]
    if not added:
        return scans
    scans = sorted(scans + added, key=lambda scan: scan.scan_id)
    try:
        return _write_index(root, scans)
    except OSError:  # a store that is shared for reading: the next reader looks again
        return scans


def _folders(root: Path) -> dict[str, Path]:
    """The scans' folders by id, sorted."""
    try:
        names = sorted(entry.name for entry in os.scandir(root / "scans"))
    except FileNotFoundError:
        return {}
    return {
        name.removesuffix(".zarr"): root / "scans" / name
        for name in names
        if name.endswith(".zarr") and not name.startswith(".")
    }


def _info(folder: Path) -> ScanInfo | None:
    """What the index says of one scan; None where it is not readable: it is left out, and an ingest writes it anew."""
    try:
        array = zarr.open_array(folder, mode="r", zarr_format=3)
        spacing = Geometry(array.shape, np.array(array.attrs["affine_lps"])).spacing_mm
        bits = np.frombuffer(base64.b64decode(array.attrs["body"]), dtype=np.uint8)
    except Exception:
        return None
    return ScanInfo(folder.stem, tuple(array.shape), spacing, int(np.unpackbits(bits).sum()))


def _write_index(root: Path, scans: list[ScanInfo]) -> list[ScanInfo]:
    with atomic_path(root / "index.json") as part:
        part.write_text(json.dumps([scan.__dict__ for scan in scans], indent=1))
    return scans
