"""The store gives back the scans it was given, block by block, and notices when one is damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tapct_core.errors import UserError
from tapct_core.geometry import Geometry
from tapct_core.volume import AIR_HU
from training.data.crop_store import (
    BODY_HU,
    CELL,
    CorruptScan,
    CropStore,
    body_map,
    create_store,
    read_index,
    write_index,
    write_scan,
)


@pytest.fixture
def one(tmp_path) -> tuple[Path, np.ndarray]:
    """A store with one scan of odd sizes whose voxels all differ."""
    hu = (np.arange(11 * 37 * 50).reshape(11, 37, 50) % 3000 - 1000).astype(np.int16)
    create_store(tmp_path / "s", {"spacing_mm": None})
    write_scan(
        tmp_path / "s", "abc", hu, Geometry.from_spacing(hu.shape, (5.0, 0.7, 0.8), (1, 2, 3)), {"kind": "array"}
    )
    return tmp_path / "s", hu


def test_blocks_are_slices_of_the_scan_and_air_outside(one):
    folder, hu = one
    store, rng = CropStore(folder), np.random.default_rng(0)
    padded = np.full(tuple(n + 160 for n in hu.shape), AIR_HU, dtype=np.int16)
    padded[80:91, 80:117, 80:130] = hu
    for _ in range(30):
        shape = tuple(int(rng.integers(1, n + 5)) for n in hu.shape)
        start = tuple(int(rng.integers(-8, n + 3)) for n in hu.shape)
        expected = padded[tuple(slice(80 + s, 80 + s + n) for s, n in zip(start, shape, strict=True))]
        assert np.array_equal(store.read_block("abc", start, shape), expected)


def test_the_cache_changes_nothing(one):
    folder, hu = one
    cached = CropStore(folder, cache_gb=1)
    for _ in range(2):
        assert np.array_equal(
            cached.read_block("abc", (2, 5, 7), (4, 20, 60)),
            CropStore(folder).read_block("abc", (2, 5, 7), (4, 20, 60)),
        )
    assert cached.read_block("abc", (0, 0, 0), (2, 3, 4)).flags.c_contiguous


def test_geometry_and_header_come_back(one):
    store = CropStore(one[0])
    assert store.geometry("abc").matches(Geometry.from_spacing((11, 37, 50), (5.0, 0.7, 0.8), (1, 2, 3)))
    assert store.header("abc") == {"kind": "array"}
    assert store.spacing_mm("abc") == pytest.approx((5.0, 0.7, 0.8))


def test_body_map_marks_cells_with_body():
    hu = np.full((9, 40, 33), -1000, dtype=np.int16)
    hu[5, 17, 32] = 0  # one voxel of a cell that is mostly padding does not make it body
    assert not body_map(hu).any()
    hu[4:8, 16:32, 0:16] = BODY_HU + 1
    assert body_map(hu).shape == tuple(-(-n // c) for n, c in zip(hu.shape, CELL, strict=True))
    assert np.argwhere(body_map(hu)).tolist() == [[1, 1, 0]]


def test_placed_blocks_hold_body_and_stay_inside(store):
    crops, rng = CropStore(store), np.random.default_rng(1)
    for scan in crops.scans:
        shape = tuple(min(n, m) for n, m in zip(scan.shape, (8, 24, 24), strict=True))
        for _ in range(40):
            start = crops.place_block(scan.scan_id, shape, rng)
            assert all(0 <= s <= n - m for s, n, m in zip(start, scan.shape, shape, strict=True))
            assert (crops.read_block(scan.scan_id, start, shape) > BODY_HU).any()


def test_a_block_larger_than_the_scan_is_centred(one):
    start = CropStore(one[0]).place_block("abc", (15, 37, 60), np.random.default_rng(0))
    assert start == (-2, 0, -5)


def test_every_place_can_be_reached(one):
    # body everywhere: starts reach both ends of the room
    crops, rng = CropStore(one[0]), np.random.default_rng(0)
    starts = np.array([crops.place_block("abc", (4, 8, 8), rng) for _ in range(400)])
    assert starts.min(axis=0).tolist() == [0, 0, 0]
    assert starts.max(axis=0).tolist() == [7, 29, 42]


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damage_is_noticed_and_named(one, damage):
    folder, _ = one
    chunk = next(path for path in (folder / "scans" / "abc.zarr" / "c").rglob("*") if path.is_file())
    content = bytearray(chunk.read_bytes())
    if damage == "flip":
        content[len(content) // 3] ^= 0x10
        chunk.write_bytes(content)
    elif damage == "cut":
        chunk.write_bytes(content[: len(content) // 2])
    else:
        shutil.rmtree(folder / "scans" / "abc.zarr")
    store = CropStore(folder) if damage != "remove" else None
    if store is None:
        (folder / "index.json").unlink(missing_ok=True)
        with pytest.raises(UserError, match="holds no scan"):
            CropStore(folder)
        return
    with pytest.raises(CorruptScan, match="abc") as caught:
        store.read_scan("abc")
    assert caught.value.scan_id == "abc"
    assert [found.scan_id for found in store.verify()] == ["abc"]


def test_a_scan_half_written_is_not_there(one):
    folder, hu = one
    before = read_index(folder)
    (folder / "scans" / ".part-xyz").mkdir()  # what a kill leaves behind
    assert write_index(folder) == before


def test_wrong_folders_are_refused(tmp_path, one):
    with pytest.raises(UserError, match="training.ingest"):
        CropStore(tmp_path)
    with pytest.raises(UserError, match="another --out"):
        create_store(one[0], {"spacing_mm": [1, 1, 1]})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        create_store(tmp_path / "full", {})


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '[{"scan_id": 1}]', "[" * 9000, '[{"scan_id": "a", "shape": [1]}]', "9" * 9999]
)
def test_an_index_that_cannot_be_read_is_made_anew(one, text):
    store, _ = one
    (store / "index.json").write_text(text)
    assert [scan.scan_id for scan in CropStore(store).scans] == ["abc"]


@pytest.mark.parametrize("text", ["", "[]", "[" * 9000, '{"format": NaN}'])
def test_a_description_that_cannot_be_read_is_one_line(one, text):
    store, _ = one
    (store / "store.json").write_text(text)
    with pytest.raises(UserError, match="damaged") as caught:
        CropStore(store)
    assert "\n" not in str(caught.value)


def test_a_body_map_of_any_size_is_not_made_up(one):
    store, _ = one
    path = store / "scans" / "abc.zarr" / "zarr.json"
    words = json.loads(path.read_text())
    words["attributes"]["body_shape"] = [10**6, 10**6, 10]
    path.write_text(json.dumps(words))
    with pytest.raises(CorruptScan, match="body map"):
        CropStore(store).header("abc")
