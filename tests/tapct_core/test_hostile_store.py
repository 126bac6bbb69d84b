"""Feature stores that were cut, flipped or made by an enemy: refused by name, in a process that lives on."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tapct_core.errors import UserError
from tapct_core.provenance import canonical
from tapct_core.store import FeatureStore, load_features, save_features
from tapct_core.store_files import sums_of
from tapct_core.store_format import _seal

from .hostile import run_child
from .test_store import ARRAYS, assert_same, make_map


def reseal(path: Path, sums: str = "right", **changes) -> None:
    """Make the description of a store fit its files again, as somebody would who means it to be believed.

    ``sums`` "right" or "none", as in a store from before they were kept.
    """
    group = json.loads((path / "zarr.json").read_text())
    facts = group["attributes"]["tapct"] | changes
    facts.pop("seal")
    facts.pop("files", None)
    if sums == "right":
        facts["files"] = sums_of(path)
    facts["seal"] = _seal(facts)
    (path / "zarr.json").write_text(json.dumps(group | {"attributes": {"tapct": facts}}))


def chunk_files(path: Path) -> list[Path]:
    return [file for name in ARRAYS for file in sorted((path / name / "c").rglob("*")) if file.is_file()]


@pytest.fixture
def store(tmp_path) -> Path:
    return save_features(tmp_path / "scan.zarr", make_map(grid=(6, 20, 18), dim=24))


DAMAGE = """
import os
from tapct_core.store import load_features
from tests.tapct_core.test_hostile_store import chunk_files, reseal
path, sums = folder / "scan.zarr", sys.argv[2]
whole = load_features(path)
def same(found):
    return found is None or (found.tokens == whole.tokens).all() and (found.hu == whole.hu).all()
kept = (path / "zarr.json").read_bytes()
if sums == "none":
    reseal(path, "none")
for file in [*chunk_files(path), path / "hu" / "zarr.json", path / "tokens" / "zarr.json"]:
    data = file.read_bytes()
    for percent in range(100):
        file.write_bytes(data[: len(data) * percent // 100])
        if sums == "right":
            reseal(path)
        assert same(attempt(lambda: load_features(path), f"{file} cut to {percent} %")), (file, percent)
    for place in range(min(64, len(data))):
        for bit in (0x01, 0x10, 0x80, 0xFF):
            file.write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
            if sums == "right":
                reseal(path)
            attempt(lambda: load_features(path), f"{file} byte {place} ^ {bit}")
    file.write_bytes(data)
(path / "zarr.json").write_bytes(kept)
attempt(lambda: load_features(path))
"""


SLOW = pytest.mark.slow


@pytest.mark.parametrize("sums", ["none", pytest.param("kept", marks=SLOW), pytest.param("right", marks=SLOW)])
def test_every_cut_and_every_flipped_byte_is_refused_and_kills_nothing(store, tmp_path, sums):
    """As damaged in a copy; in a store without sums; and with sums that were made to fit the damage."""
    counts = run_child(DAMAGE, tmp_path, sums)
    assert counts["refused"] + counts["read"] > 2000
    if sums == "kept":
        assert counts["read"] == 1  # the whole one, at the end


@SLOW
def test_every_length_of_a_packed_chunk(store, tmp_path):
    """A copy that broke off: all lengths round the ends and every 97th between."""
    counts = run_child(
        """
        from tapct_core.store import load_features
        path = folder / "scan.zarr"
        (chunk,) = [p for p in (path / "hu" / "c").rglob("*") if p.is_file()]
        data = chunk.read_bytes()
        for size in [*range(0, 200), *range(200, len(data), 97), *range(len(data) - 100, len(data))]:
            chunk.write_bytes(data[:size])
            attempt(lambda: load_features(path), size)
        """,
        tmp_path,
    )
    assert counts == {"refused": counts["refused"]} and counts["refused"] > 400


def test_a_store_from_before_sums_were_kept_is_read(store):
    whole = load_features(store)
    reseal(store, "none")
    assert_same(load_features(store), whole)


METADATA = {
    "another codec": lambda m: m | {"codecs": [m["codecs"][0], {"name": "gzip", "configuration": {"level": 5}}]},
    "a pickle": lambda m: m | {"codecs": [{"name": "numcodecs.pickle", "configuration": {}}]},
    "a shard": lambda m: m | {"codecs": [{"name": "sharding_indexed", "configuration": {"chunk_shape": [1]}}]},
    "three codecs": lambda m: m | {"codecs": [*m["codecs"], *m["codecs"]]},
    "an object dtype": lambda m: m | {"data_type": "variable_length_bytes"},
    "another dtype": lambda m: m | {"data_type": "float64"},
    "a dtype with a configuration": lambda m: m | {"data_type": {"name": "int16", "configuration": {}}},
    "huge chunks": lambda m: m | {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [10**9] * 3}}},
    "chunks of nothing": lambda m: m | {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [0] * 3}}},
    "no chunks": lambda m: m | {"chunk_grid": {"name": "other"}},
    "other names": lambda m: m | {"chunk_key_encoding": {"name": "v2", "configuration": {"separator": "."}}},
    "a transformer": lambda m: m | {"storage_transformers": [{"name": "any"}]},
    "version 2": lambda m: m | {"zarr_format": 2},
    "a group": lambda m: m | {"node_type": "group"},
    "a fill value": lambda m: m | {"fill_value": 7},
    "a list": lambda m: [m],
    "nothing": lambda m: None,
}


@pytest.mark.parametrize("kind", METADATA)
def test_metadata_that_are_not_written_here_are_not_opened(store, kind, monkeypatch):
    file = store / "hu" / "zarr.json"
    file.write_text(json.dumps(METADATA[kind](json.loads(file.read_text()))))
    reseal(store)
    import zarr

    opened = []
    monkeypatch.setattr(zarr, "open_array", lambda *a, real=zarr.open_array, **k: opened.append(k) or real(*a, **k))
    with pytest.raises(UserError, match="scan.zarr is damaged"):
        load_features(store)
    assert all(options["zarr_format"] == 3 for options in opened) and len(opened) < 5


def test_version_2_with_a_pickle_filter_never_reaches_a_pickle(store, monkeypatch):
    """An array of version 2 beside nothing of version 3, resealed: what would unpickle is never called."""
    import pickle

    called = []
    monkeypatch.setattr(pickle, "loads", lambda *a, **k: called.append(a))
    shutil.rmtree(store / "hu")
    (store / "hu").mkdir()
    (store / "hu" / ".zarray").write_text(
        json.dumps(
            {
                "zarr_format": 2,
                "shape": [23, 79, 71],
                "chunks": [23, 79, 71],
                "dtype": "|O",
                "compressor": None,
                "fill_value": None,
                "filters": [{"id": "pickle", "protocol": 5}],
                "order": "C",
            }
        )
    )
    (store / "hu" / "0.0.0").write_bytes(b"cos\nsystem\n(S'touch /tmp/never'\ntR.")
    for sums in ("right", "none"):
        reseal(store, sums)
        with pytest.raises(UserError, match="damaged"):
            load_features(store)
    assert called == []


def test_a_description_cannot_allocate_what_is_not_there(store, tmp_path):
    """Shapes of terabytes, sealed and described alike, with no chunk at all."""
    facts = json.loads((store / "zarr.json").read_text())["attributes"]["tapct"]
    for shape in ([10**4] * 4, [10**9, 10**9, 1, 1], [-1, 2, 3, 4], [2.0, 1, 1, 1], [10**30, 1, 1, 1]):
        file = store / "tokens" / "zarr.json"
        described = json.loads(file.read_text()) | {"shape": shape}
        described["chunk_grid"]["configuration"]["chunk_shape"] = [1, *shape[1:]]
        file.write_text(json.dumps(described))
        shutil.rmtree(store / "tokens" / "c", ignore_errors=True)
        reseal(store, arrays=facts["arrays"] | {"tokens": [shape, "<f2", 0]})
        counts = run_child(
            'from tapct_core.store import load_features\nattempt(lambda: load_features(folder / "scan.zarr"))',
            tmp_path,
            memory_gb=2,
        )
        assert counts == {"refused": 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"provenance": {"key": ["a"]}},
        {"provenance": "words"},
        {"affine": [[0] * 4] * 4},
        {"affine": "none"},
        {"window_tokens": 3},
        {"arrays": {}},
        {"arrays": []},
        {"files": ["x"]},
        {"overlap": {}},
    ],
)
def test_a_description_of_other_things_is_damage(store, changes):
    reseal(store, **changes)
    if "files" in changes:
        group = json.loads((store / "zarr.json").read_text())
        facts = group["attributes"]["tapct"] | changes
        group["attributes"]["tapct"] = facts | {"seal": _seal(facts)}
        (store / "zarr.json").write_text(json.dumps(group))
    with pytest.raises(UserError, match="scan.zarr is damaged") as caught:
        load_features(store)
    assert len(str(caught.value).splitlines()) == 1


def test_pipes_in_place_of_files_do_not_hang(store):
    for name in ("hu/zarr.json", "zarr.json"):
        (store / name).unlink()
        os.mkfifo(store / name)
        with pytest.raises(UserError):
            load_features(store)


def test_a_damaged_entry_of_the_cache_is_made_anew(tmp_path, caplog):
    from tapct_core.embedding import embed_cached
    from tapct_core.geometry import Geometry
    from tapct_core.volume import CTVolume

    hu = np.random.default_rng(0).integers(-900, 400, (16, 24, 24)).astype(np.int16)
    volume, cache = CTVolume(hu, Geometry.from_spacing(hu.shape, (3.0, 3.0, 3.0))), FeatureStore(tmp_path)
    whole = embed_cached(volume, None, store=cache)
    (entry,) = tmp_path.glob("*.zarr")
    (chunk,) = (p for p in (entry / "hu" / "c").rglob("*") if p.is_file())
    os.truncate(chunk, chunk.stat().st_size // 2)
    assert_same(embed_cached(volume, None, store=cache), whole)
    assert "damaged and dropped" in caplog.text
    assert_same(cache.get(whole.provenance["key"]), whole)
    assert [path.name for path in tmp_path.iterdir()] == [entry.name]


def test_the_seal_is_over_canonical_json():
    assert canonical({"b": 1, "a": 2}) == b'{"a": 2, "b": 1}'
