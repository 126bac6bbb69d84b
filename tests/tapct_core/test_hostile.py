"""Bytes changed at random in every format that is opened: read, or refused in one line, and never anything else."""

from __future__ import annotations

import pytest

from .hostile import run_child

MUTATE = """
import json, random, shutil
import numpy as np
from tapct_core.cli.embed import read_list
from tapct_core.cli.options import read_points
from tapct_core.embedding_state import Canvas, EmbeddingState
from tapct_core.encoders import load_encoder, save_encoder
from tapct_core.geometry import Geometry
from tapct_core.io import load_ct, load_labels, save_labels
from tapct_core.io.sidecar import read_sidecar
from tapct_core.lesions import Mask, Study, Timepoint
from tapct_core.lesions.study_file import load_study, save_study, study_json
from tapct_core.preprocessing import InputSpec
from tapct_core.probe import LinearProbe
from tapct_core.store import load_features, save_features
from tapct_core.vit import VisionTransformer3D, ViTConfig
from tapct_core.volume import CTVolume, LabelMap
from tests.tapct_core.test_hostile_bombs import dicom, nifti
from tests.tapct_core.test_store import make_map
import gzip
import logging
logging.disable(logging.CRITICAL)

each, rng = int(sys.argv[2]), random.Random(int(sys.argv[3]))
features = make_map(grid=(3, 4, 4), dim=6)
grid = Geometry.from_spacing((6, 20, 20), (2.0, 1.0, 1.0))
values = np.random.default_rng(0).integers(0, 3, grid.shape).astype(np.uint8)
labels = LabelMap(values, grid, names={1: "a", 2: "b"}, colours={1: (1, 2, 3)})

nifti(folder / "a.nii", (12, 11, 10))
(folder / "b.nii.gz").write_bytes(gzip.compress((folder / "a.nii").read_bytes()))
for name in ("c.nrrd", "d.mha", "e.nii"):
    save_labels(labels, folder / name)
series = dicom(folder)
save_features(folder / "f.zarr", features)
masks = (np.arange(features.hu.size) % 3).reshape(features.hu.shape).astype(np.uint8)
LinearProbe.fit([(features, LabelMap(masks, features.hu_geometry))]).save(folder / "g.safetensors")
study = Study("p", [Timepoint("t", "a.nii", "2024-01-02"), Timepoint("u", "b.nii", "2024-03-02")])
lesion = study.add_lesion("L", "t", (1.0, 2.0, 3.0), "AB", role="target", organ="liver")
scan = CTVolume(np.random.default_rng(0).integers(-100, 100, grid.shape).astype(np.int16), grid)
mask = np.zeros(grid.shape, bool); mask[2:4, 5:9, 5:9] = True
study.set_mask(lesion.uid, "t", Mask.from_array(mask), scan, by="AB")
save_study(study, folder / "h.json")
config = ViTConfig(patch_size=(2, 4, 4), img_size=(4, 8, 8), embed_dim=12, depth=1, num_heads=2)
save_encoder(folder / "enc", VisionTransformer3D(config), InputSpec(patch_size=(2, 4, 4), img_size=(4, 8, 8)))
(folder / "points.csv").write_text("name;x;y;z;note\\nT1;-46,5;-112;-62,25;a\\nT2;1;2;3,5;\\n")
(folder / "list.txt").write_text("a.nii\\n# b\\nc.nii.gz\\n")

def run_of():
    canvas = Canvas((2, 4, 4), 6, np.array([[0, 0, 0], [0, 2, 0]]), (2, 2, 4), blend=False)
    return EmbeddingState(canvas, folder / "state.safetensors", "key")
state = run_of()
state.put(np.array([0]), np.ones((1, 2, 2, 4, 6), np.float32), np.ones((1, 6), np.float32))
state.save()

def again(path):
    "What loads must save."
    study_json(load_study(path))

JOBS = {
    "NIfTI": (folder / "a.nii", lambda: load_ct(folder / "a.nii")),
    "NIfTI gz": (folder / "b.nii.gz", lambda: load_ct(folder / "b.nii.gz")),
    "NIfTI labels": (folder / "e.nii", lambda: load_labels(folder / "e.nii")),
    "NRRD": (folder / "c.nrrd", lambda: load_labels(folder / "c.nrrd")),
    "MetaImage": (folder / "d.mha", lambda: load_labels(folder / "d.mha")),
    "label names": (folder / "e.labels.json", lambda: read_sidecar(folder / "e.nii")),
    "DICOM": (series / "2.dcm", lambda: load_ct(series)),
    "store description": (folder / "f.zarr" / "zarr.json", lambda: load_features(folder / "f.zarr")),
    "store chunk": (folder / "f.zarr" / "hu" / "c" / "0" / "0" / "0", lambda: load_features(folder / "f.zarr")),
    "probe": (folder / "g.safetensors", lambda: LinearProbe.load(folder / "g.safetensors")),
    "study": (folder / "h.json", lambda: again(folder / "h.json")),
    "encoder config": (folder / "enc" / "config.json", lambda: load_encoder(folder / "enc", device="cpu")),
    "encoder weights": (folder / "enc" / "model.safetensors", lambda: load_encoder(folder / "enc", device="cpu")),
    "checkpoint": (folder / "state.safetensors", run_of),
    "points": (folder / "points.csv", lambda: read_points(folder / "points.csv")),
    "list": (folder / "list.txt", lambda: read_list(folder / "list.txt")),
}
WORDS = [b"NaN", b"-1", b"9" * 30, b"1e999", b"null", b"[]", b"{}", b'"', b"\\\\ud800", b"\\x00", b"\\xff" * 8]
WORDS += [b",", b"\\n", b"0"]

def mutated(data):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        how, at = rng.randrange(6), rng.randrange(len(data) + 1)
        near = min(at, rng.randrange(1, 600)) if rng.random() < 0.5 else at  # half of them in the header
        if how == 0 and data:
            data[min(near, len(data) - 1)] ^= 1 << rng.randrange(8)
        elif how == 1 and data:
            data[min(near, len(data) - 1)] = rng.randrange(256)
        elif how == 2:
            del data[at:]
        elif how == 3:
            data[near:near] = rng.choice(WORDS)
        elif how == 4:
            word = rng.choice(WORDS)
            data[near : near + len(word)] = word
        else:
            del data[near : near + rng.randrange(1, 40)]
    return bytes(data)

for name, (path, load) in JOBS.items():
    whole = path.read_bytes()
    load()
    for number in range(each):
        path.write_bytes(mutated(whole))
        try:
            attempt(load, name)
        except BaseException:
            shutil.copy(path, "/tmp/hostile-" + name.replace(" ", "-"))
            raise
        counts["inputs"] += 1
        counts[name] += 1
    path.write_bytes(whole)
    load()
"""


def test_changed_bytes_are_read_or_refused(tmp_path):
    counts = run_child(MUTATE, tmp_path, "25", "1", memory_gb=4)
    assert counts["inputs"] == 16 * 25 and counts["refused"] > 100


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_ten_thousand_changed_inputs(tmp_path, seed):
    counts = run_child(MUTATE, tmp_path, "170", str(100 + seed), memory_gb=4)
    assert counts["inputs"] == 16 * 170 and counts["refused"] > 800
