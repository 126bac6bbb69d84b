"""Killed at any moment, written by many at once, on a full disk: what stands there is whole, the old or the new."""

from __future__ import annotations

import os
import subprocess

import numpy as np
import pytest

from .hostile import run_child

WRITERS = """
import os, random, signal, time, traceback
import numpy as np
from tapct_core.atomic import clean
from tapct_core.geometry import Geometry
from tapct_core.io import load_labels, save_labels
from tapct_core.lesions import Study, Timepoint
from tapct_core.lesions.study_file import load_study, save_study, update_study
from tapct_core.store import load_features, save_features
from tapct_core.volume import LabelMap
from tests.tapct_core.test_store import make_map

maps = [make_map(grid=(4, 20, 20), dim=16, seed=i, key=str(i)) for i in range(2)]
grid = Geometry.from_spacing((12, 40, 40), (2.0, 1.0, 1.0))
noise = np.random.default_rng(0).integers(1, 200, grid.shape)  # so that the file takes a while to write
labels = []
for i in range(2):
    values = noise.astype(np.uint8)
    values[1] = i + 1
    labels.append(LabelMap(values, grid, names={i + 1: str(i)}))

def write_store(i): save_features(folder / "a.zarr", maps[i], replace=True)
def read_store():
    found = load_features(folder / "a.zarr")
    i = int(found.provenance["key"])
    assert (found.tokens == maps[i].tokens).all()
def write_labels(i): save_labels(labels[i], folder / "seg.nii.gz")
def read_labels():
    found = load_labels(folder / "seg.nii.gz")
    i = int(found.labels[1, 0, 0]) - 1
    assert found.names == {i + 1: str(i)}, (found.names, i)
def write_study(i): save_study(Study(str(i) * 5000, [Timepoint("a", "a.nii")]), folder / "s.json")
def read_study(): assert load_study(folder / "s.json").patient_key in ("0" * 5000, "1" * 5000)
ALL = [(write_store, read_store), (write_labels, read_labels), (write_study, read_study)]
"""

KILLS = (
    WRITERS
    + """
def child(write):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    i = 0
    while True:
        write(i % 2)
        i += 1

random.seed(int(sys.argv[2]))
for write, read in ALL:
    write(0)
    for _ in range(int(sys.argv[3])):
        pid = os.fork()
        if pid == 0:
            try:
                child(write)
            except BaseException:
                traceback.print_exc()
            os._exit(9)
        time.sleep(random.uniform(0, 0.03))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status), "the writer ended by itself"
        read()
        counts["kills"] += 1
    write(1)
    read()
names = sorted(path.name for path in folder.iterdir())
assert names == ["a.zarr", "s.json", "seg.labels.json", "seg.nii.gz"], names
"""
)


def test_kills_leave_the_old_or_the_new(tmp_path):
    assert run_child(KILLS, tmp_path, "1", "10")["kills"] == 30


@pytest.mark.slow
def test_very_many_kills(tmp_path):
    assert run_child(KILLS, tmp_path, "2", "100")["kills"] == 300


CONCURRENT = (
    WRITERS
    + """
from tapct_core.lesions import Lesion
save_study(Study("p", [Timepoint("a", "a.nii")]), folder / "shared.json")
rounds = int(sys.argv[2])
pids = []
for number in range(4):
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            for i in range(rounds):
                write_store((i + number) % 2), read_store(), write_labels((i + number) % 2)
                update_study(folder / "shared.json", lambda study: study.lesions.append(Lesion(f"{number} {i}")))
        except BaseException:
            traceback.print_exc()
            code = 1
        os._exit(code)
    pids.append(pid)
assert all(os.waitpid(pid, 0)[1] == 0 for pid in pids)
read_store(), read_labels()
found = [lesion.name for lesion in load_study(folder / "shared.json").lesions]
assert sorted(found) == sorted(f"{n} {i}" for n in range(4) for i in range(rounds)), len(found)
counts["rounds"] = len(found)
"""
)


@pytest.mark.slow
def test_writers_at_once_lose_nothing(tmp_path):
    assert run_child(CONCURRENT, tmp_path, "30")["rounds"] == 120


FULL = """
import io, shutil
import numpy as np
from contextlib import redirect_stderr
from tapct_core.disk import DiskFullError
from tapct_core.encoders import load_encoder, save_encoder
from tapct_core.geometry import Geometry
from tapct_core.io import load_labels, save_labels
from tapct_core.lesions import Study, Timepoint
from tapct_core.lesions.study_file import load_study, save_study
from tapct_core.probe import LinearProbe
from tapct_core.store import FeatureStore, load_features, save_features
from tapct_core.volume import LabelMap
from tests.tapct_core.test_store import make_map

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
features = make_map(grid=(6, 30, 30), dim=32)
values = np.random.default_rng(0).integers(0, 200, (20, 60, 60)).astype(np.uint8)
grid = Geometry.from_spacing(values.shape, (2.0, 1.0, 1.0))
labels = LabelMap(values, grid, names={1: "n" * 3000})
masks = (np.arange(features.hu.size) % 3).reshape(features.hu.shape).astype(np.uint8)
masks = LabelMap(masks, features.hu_geometry)
probe = LinearProbe.fit([(features, masks)])
encoder = load_encoder(None, device="cpu")
study = Study("p" * 5000, [Timepoint("a", "a.nii")])
WRITES = {
    "a.zarr": lambda path: save_features(path, features, replace=True),
    "cache": lambda path: FeatureStore(path).put("k", features, replace=True),
    "a.probe": lambda path: probe.save(path),
    "b.safetensors": lambda path: probe.save(path),
    "encoder": lambda path: save_encoder(path, encoder.network, encoder.spec),
    "s.json": lambda path: save_study(study, path),
    "seg.nii.gz": lambda path: save_labels(labels, path),
    "seg.nrrd": lambda path: save_labels(labels, path),
}
def content(path):
    return {str(p): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}
for name, write in WRITES.items():
    for there in (False, True):
        for limit in (0, 1000, 4000):
            place = folder / f"{name}-{there}-{limit}"
            place.mkdir()
            if there:
                write(place / name)
            before = content(place)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                write(place / name)
                counts["written"] += 1
            except UserError as error:
                assert len(str(error).splitlines()) == 1
                counts["full"] += 1
                assert content(place) == before and not [p for p in place.rglob(".*")], (name, limit)
            except OSError as error:
                assert name == "s.json" and error.errno == 27, name
                counts["full"] += 1
                assert content(place) == before
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


def test_full_disks_are_one_line_and_keep_what_was_there(tmp_path):
    """The kernel refuses each write beyond a limit, as a full disk does, in every file that is written."""
    counts = run_child(FULL, tmp_path)
    assert counts["full"] >= 25 and counts["full"] + counts.get("written", 0) == 48


def test_a_really_full_disk_keeps_a_probe(tmp_path):
    from tapct_core.disk import DiskFullError, writing

    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a small file system")
    try:
        from safetensors.numpy import save_file

        with pytest.raises(DiskFullError, match="no space left"), writing(disk / "p"):
            save_file({"a": np.zeros(100_000, np.float32)}, disk / "p")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_file_removed_while_it_is_used_is_one_line(tmp_path):
    counts = run_child(
        """
        import os, threading
        from tapct_core.io import load_ct
        from tapct_core.store import load_features, save_features
        from tests.tapct_core.test_hostile_bombs import nifti
        from tests.tapct_core.test_store import make_map
        import shutil
        features = make_map(grid=(4, 20, 20), dim=16)
        for turn in range(40):
            path = folder / f"{turn}.zarr"
            save_features(path, features)
            remover = threading.Thread(target=shutil.rmtree, args=(path,), kwargs={"ignore_errors": True})
            remover.start()
            attempt(lambda: load_features(path))
            remover.join()
            scan = nifti(folder / f"{turn}.nii", (40, 40, 40))
            remover = threading.Thread(target=os.unlink, args=(scan,))
            remover.start()
            attempt(lambda: load_ct(scan))
            remover.join()
        """,
        tmp_path,
    )
    assert sum(counts.values()) == 80
