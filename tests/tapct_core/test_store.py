"""Feature stores are whole or not there, equal for equal maps, and never silently the wrong ones."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

import tapct_core.store as module
from tapct_core.errors import UserError
from tapct_core.features import FeatureMap
from tapct_core.geometry import Geometry
from tapct_core.store import (
    DiskFullError,
    FeatureStore,
    default_folder,
    list_stored,
    load_features,
    save_features,
)

ROOT = Path(__file__).resolve().parents[2]
ARRAYS = ("tokens", "valid", "hu", "cls", "windows")


def make_map(grid=(6, 12, 10), dim=24, seed=0, key="k") -> FeatureMap:
    rng = np.random.default_rng(seed)
    geometry = Geometry.from_spacing(grid, (10.0, 8.1, 8.3), (-3.7, 12.0, 1 / 3))
    hu_shape = tuple(4 * n - 1 for n in grid)
    return FeatureMap(
        tokens=rng.standard_normal((*grid, dim)).astype(np.float16),
        valid=rng.random(grid) > 0.2,
        geometry=geometry,
        hu=rng.integers(-1024, 3000, hu_shape).astype(np.int16),
        hu_geometry=Geometry.from_spacing(hu_shape, (2.5, 2.0, 2.0)),
        cls=rng.standard_normal((4, dim)).astype(np.float16),
        provenance={"key": key, "encoder": "some"},
        windows=rng.integers(0, 5, (4, 3)).astype(np.int32),
        window_tokens=(2, 4, 4),
        overlap=0.25,
    )


@pytest.fixture(scope="module")
def features() -> FeatureMap:
    return make_map()


def assert_same(a: FeatureMap, b: FeatureMap) -> None:
    for name in ARRAYS:
        one, two = getattr(a, name), getattr(b, name)
        assert one.dtype == two.dtype and one.shape == two.shape, name
        np.testing.assert_array_equal(one, two, err_msg=name)
    np.testing.assert_array_equal(a.geometry.affine, b.geometry.affine)
    np.testing.assert_array_equal(a.hu_geometry.affine, b.hu_geometry.affine)
    assert (a.provenance, a.window_tokens, a.overlap) == (b.provenance, b.window_tokens, b.overlap)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


# One map, one file tree


@pytest.mark.parametrize("made", [{}, {"dim": 0}, {"grid": (1, 1, 1)}, {"grid": (2, 70, 90), "dim": 768}])
def test_a_map_comes_back_bit_for_bit(tmp_path, made):
    features = make_map(**made)
    path = save_features(tmp_path / "scan.zarr", features)
    assert_same(load_features(path), features)
    assert leftovers(tmp_path) == []


def test_equal_maps_give_equal_bytes_at_any_time(tmp_path, features):
    one = files(save_features(tmp_path / "a.zarr", features))
    time.sleep(1.1)
    two = files(save_features(tmp_path / "b.zarr", make_map()))
    assert one == two and len(one) > 6


def test_the_store_is_plain_zarr_that_others_can_read(tmp_path, features):
    import zarr

    group = zarr.open_group(str(save_features(tmp_path / "scan.zarr", features)), mode="r")
    np.testing.assert_array_equal(group["tokens"][...], features.tokens)
    np.testing.assert_array_equal(group["hu"][...], features.hu)


def test_a_store_in_the_way_is_kept_unless_it_may_be_replaced(tmp_path, features):
    path = save_features(tmp_path / "scan.zarr", features)
    other = make_map(seed=1)
    with pytest.raises(UserError, match="exists already"):
        save_features(path, other)
    assert_same(load_features(path), features)
    save_features(path, other, replace=True)
    assert_same(load_features(path), other)
    assert leftovers(tmp_path) == []


# Damage


def chunk(path: Path, array: str) -> Path:
    return next(p for p in sorted((path / array).rglob("*")) if p.is_file() and p.name != "zarr.json")


def flip(file: Path, place: int = 0) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 0x10
    file.write_bytes(bytes(data))


def damage_description(path: Path) -> None:
    text = (path / "zarr.json").read_text()
    changed = re.sub(r"12\.0", "13.0", text, count=1)  # the origin of the scan, 1 mm off
    assert changed != text
    (path / "zarr.json").write_text(changed)


def enlarge(path: Path) -> None:
    file = path / "tokens" / "zarr.json"
    facts = json.loads(file.read_text())
    facts["shape"] = [10**9] * 4
    file.write_text(json.dumps(facts))


DAMAGES = {
    **{f"{name} chunk missing": lambda p, n=name: chunk(p, n).unlink() for name in ARRAYS},
    **{f"{name} chunk cut": lambda p, n=name: os.truncate(chunk(p, n), 10) for name in ARRAYS},
    **{f"{name} chunk empty": lambda p, n=name: os.truncate(chunk(p, n), 0) for name in ARRAYS},
    **{f"{name} bit flipped": lambda p, n=name: flip(chunk(p, n), -1) for name in ARRAYS},
    "array missing": lambda p: shutil.rmtree(p / "tokens"),
    "array description cut": lambda p: os.truncate(p / "hu" / "zarr.json", 30),
    "array huge": enlarge,
    "description altered": damage_description,
    "description cut": lambda p: os.truncate(p / "zarr.json", 200),
    "description empty": lambda p: os.truncate(p / "zarr.json", 0),
    "description not JSON objects": lambda p: (p / "zarr.json").write_text("[1, 2]"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_named_with_the_remedy_and_never_read_over(tmp_path, features, kind):
    path = save_features(tmp_path / "scan.zarr", features)
    DAMAGES[kind](path)
    with pytest.raises(UserError, match="scan.zarr is damaged .* remove it and embed the scan again") as caught:
        load_features(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_feature_store_is_refused_by_name(tmp_path, features):
    import zarr

    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    zarr.open_group(str(tmp_path / "other.zarr"), mode="w")
    old = save_features(tmp_path / "old.zarr", features)
    text = (old / "zarr.json").read_text()
    (old / "zarr.json").write_text(text.replace('"format_version": 1', '"format_version": 0'))
    for name, why in [
        ("nothing", "does not exist"),
        ("empty", "not a feature store"),
        ("file", "not a feature store"),
        ("other.zarr", "of something else"),
        ("old.zarr", "version 0 of the format"),
    ]:
        with pytest.raises(UserError, match=f"{name} .*{why}"):
            load_features(tmp_path / name)


# The cache


def test_the_cache_gives_back_what_was_put_and_misses_what_was_not(tmp_path, features):
    store = FeatureStore(tmp_path)
    assert store.get("k") is None
    store.put("k", features)
    assert_same(FeatureStore(tmp_path).get("k"), features)
    assert store.get("other") is None


def test_the_cache_lies_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("TAPCT_CACHE", str(tmp_path))
    assert default_folder().parent == tmp_path and FeatureStore().folder == default_folder()
    monkeypatch.delenv("TAPCT_CACHE")
    assert "napari-tapct" in str(default_folder())


def test_an_entry_under_another_key_is_refused_and_replaced_on_request(tmp_path, features):
    store = FeatureStore(tmp_path)
    store.put("k", features)
    store.path("k").rename(store.path("other"))
    with pytest.raises(UserError, match="another scan, encoder or plan.*rebuild"):
        store.get("other")
    right = make_map(seed=2, key="other")
    store.put("other", right)  # what is there stays
    with pytest.raises(UserError):
        store.get("other")
    store.put("other", right, replace=True)
    assert_same(store.get("other"), right)


def test_the_least_recently_used_goes_first_and_the_newest_always_stays(tmp_path, features):
    store = FeatureStore(tmp_path, limit_gb=1e9)
    for name in "abc":
        store.put(name, make_map(key=name))
    size = sum(len(data) for data in files(store.path("a")).values())
    for age, name in enumerate("abc"):
        os.utime(store.path(name) / "zarr.json", (1000 + age, 1000 + age))
    store.get("a")  # now b is the oldest
    store.limit_gb = 3.5 * size / 1e9
    store.put("d", make_map(key="d"))
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["a", "c", "d"]
    store.limit_gb = 0.0
    store.put("e", make_map(key="e"))
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["e"]


def test_what_a_person_put_beside_the_entries_is_never_evicted(tmp_path, features):
    mine = save_features(tmp_path / "out" / "scan.zarr", features)
    store = FeatureStore(tmp_path / "cache", limit_gb=0.0)
    for name in "ab":
        store.put(name, make_map(key=name))
    assert_same(load_features(mine), features)


def test_leftovers_of_killed_processes_go_after_a_day(tmp_path, features):
    store = FeatureStore(tmp_path)
    for name, age in [(".part-old", 2 * 86400), (".part-new", 60)]:
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    store.put("k", features)
    assert leftovers(tmp_path) == [".part-new"]


HAMMER = textwrap.dedent(
    """
    import sys
    from tests.tapct_core.test_store import make_map, assert_same
    from tapct_core.store import FeatureStore

    folder, seed = sys.argv[1], int(sys.argv[2])
    store = FeatureStore(folder, limit_gb=0.0)  # every put evicts all others
    maps = {name: make_map(seed=i, key=name) for i, name in enumerate("abc")}
    print("ready", flush=True)
    sys.stdin.readline()  # both are there
    hits = 0
    for turn in range(seed, seed + 60):
        name = "abc"[turn % 3]
        store.put(name, maps[name], replace=turn % 2 == 0)
        for other in "abc":
            found = store.get(other)
            if found is not None:
                assert_same(found, maps[other])
                hits += 1
    print(hits)
    """
)


def test_two_processes_put_read_and_evict_the_same_keys_without_harm(tmp_path):
    """Each evicts what the other has just written; whoever finds a map finds it whole."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", HAMMER, str(tmp_path), str(seed)],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for seed in (0, 1)
    ]
    assert [process.stdout.readline() for process in running] == ["ready\n"] * 2
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in running:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err[-2000:]
        assert int(out) > 0
    assert leftovers(tmp_path) == []


# A full disk


@pytest.mark.parametrize("use", ["save", "put"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, use):
    """A limit on file size makes the kernel refuse the write half-way, as a full disk does."""
    script = textwrap.dedent(
        """
        import resource, sys
        from pathlib import Path
        from tests.tapct_core.test_store import make_map
        from tapct_core.store import DiskFullError, FeatureStore, save_features

        features = make_map(grid=(6, 40, 40), dim=64)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        try:
            if sys.argv[2] == "save":
                save_features(Path(sys.argv[1]) / "scan.zarr", features)
            else:
                FeatureStore(sys.argv[1]).put("k", features)
        except DiskFullError as error:
            print(error)
        """
    )
    assert resource.RLIMIT_FSIZE  # POSIX
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path), use], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"there is no space left to write \S+; free some or name another folder\n", done.stdout)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_really_full(tmp_path):
    """The same on a file system of 1 MB, where one can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a small file system")
    try:
        small = make_map()
        save_features(disk / "small.zarr", small)
        with pytest.raises(DiskFullError, match="no space left"):
            save_features(disk / "big.zarr", make_map(grid=(6, 60, 60), dim=64))
        with pytest.raises(DiskFullError, match="no space left"):
            save_features(disk / "small.zarr", make_map(grid=(6, 60, 60), dim=64), replace=True)
        assert [path.name for path in disk.iterdir()] == ["small.zarr"]
        assert_same(load_features(disk / "small.zarr"), small)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_place_that_cannot_be_written_is_named(tmp_path, features):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        save_features(tmp_path / "file" / "scan.zarr", features)
    with pytest.raises(UserError, match="cannot be written"):
        FeatureStore(tmp_path / "file").put("k", features)


def test_the_store_is_readable_without_torch():
    code = "import sys, tapct_core.store, tapct_core.features; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_what_is_stored_is_listed_without_what_is_broken(tmp_path):
    store = FeatureStore(tmp_path)
    assert list(list_stored(tmp_path)) == [] == list(list_stored(tmp_path / "nowhere"))
    for key in ("a", "b", "c"):
        store.put(key, make_map(grid=(2, 3, 4), dim=4, key=key))
    facts = store.path("b") / "zarr.json"
    facts.write_text(facts.read_text().replace("some", "same"))  # the seal is broken
    (tmp_path / "other.zarr").mkdir()
    assert sorted(one["key"] for one in list_stored(tmp_path)) == ["a", "c"]


def test_putting_does_not_walk_through_the_cache(tmp_path, features, monkeypatch):
    """Sizes are asked of what was written; the whole folder is counted at first and when it may be full."""
    store = FeatureStore(tmp_path, limit_gb=1.0)
    store.put("0" * 64, features)
    asked = []
    measured = module._size
    monkeypatch.setattr(module, "_size", lambda path: asked.append(path.name) or measured(path))
    for n in range(1, 6):
        store.put(f"{n}" * 64, features)
    assert asked == [f"{n * 64}.zarr" for n in "12345"]
    held, _ = module._held[tmp_path.resolve()]
    assert held == sum(measured(path) for path in tmp_path.glob("*.zarr"))
    FeatureStore(tmp_path, limit_gb=1.5 * held / 6e9).put("6" * 64, features)  # a smaller limit is kept at once
    assert [path.name for path in tmp_path.glob("*.zarr")] == [f"{'6' * 64}.zarr"]


def test_a_full_cache_of_many_makes_room_for_several_at_once(tmp_path, features, monkeypatch):
    monkeypatch.setattr(module, "MANY", 5)
    monkeypatch.setattr(module, "SLACK", 0.4)
    size = FeatureStore(tmp_path / "one", limit_gb=1.0)
    size.put("a" * 64, features)
    each = module._size(tmp_path / "one" / f"{'a' * 64}.zarr")
    store = FeatureStore(tmp_path / "many", limit_gb=10.5 * each / 1e9)
    left = []
    for n in range(14):
        store.put(f"{n:064d}", features)
        left.append(len(list((tmp_path / "many").glob("*.zarr"))))
    assert max(left) <= 10 and min(left[10:]) == 6 and f"{13:064d}.zarr" in os.listdir(tmp_path / "many")
