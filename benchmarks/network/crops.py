"""Random resized crops per second, against MONAI, torchio and plain PyTorch, from the same store in one run.

    python -m benchmarks.crops                  measures and prints the tables (about 3 minutes)
    python -m benchmarks.crops --out docs/results/crops.md

The work is DINOv2's multi-crop on CT: out of a block of 16 x 320 x 320 voxels come two global crops of
12 x 224 x 224 and eight local ones of 12 x 96 x 96, areas drawn as in DINOv2. All rivals read the same blocks
from the same store of real CTs (in plane resized to 512 x 512, as scanners give them) and draw from the same
ranges; the crop is all they do, so all they could do afterwards is left out for everyone:

- MONAI: RandSpatialCrop with a random size, then Resize (trilinear), crop by crop;
- torchio: a random Crop, then Resize (linear), crop by crop;
- PyTorch: one batched affine_grid + grid_sample per crop size.

"Resize alone" leaves store and random draws out: the same boxes of a block in memory for everyone.
Ours is timed without antialiasing, as the rivals work by default, and with it. MONAI and torchio read files, not
blocks: MONAI on whole scans from the same store is what its users run, on our blocks what they could. With a
CUDA device the blocks lie there and ours and PyTorch's are timed on it too.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import monai.transforms as mt
import numpy as np
import torch
import torch.nn.functional as F
import torchio as tio
from torch import Tensor

import tapct_core as tc
from benchmarks.common import machine_line, markdown_table, ratio, take_turns, write_page
from tapct_core.crops import Boxes, CropSpec, crop_resize, sample_boxes
from tapct_core.preprocessing import InputSpec, resample_hu
from training.data.augment import AugmentSpec
from training.data.crop_store import CropStore, create_store, write_scan
from training.data.views import ViewSpec, make_views

BLOCK = (16, 320, 320)
GLOBAL, LOCAL = (12, 224, 224), (12, 96, 96)
AREAS = {GLOBAL: (0.32, 1.0), LOCAL: (0.05, 0.32)}
VIEWS = [GLOBAL] * 2 + [LOCAL] * 8
SCANS = ("lidc_0314_ct", "ts_aorta_cta_ct", "crlm_ct_1004_ct")
BATCH = 4


def make_store(folder: Path, data: Path) -> CropStore:
    """A store of real CTs, 512 x 512 in plane, their own slices."""
    create_store(folder, {"benchmark": "crops"})
    for name in SCANS:
        volume = tc.load_ct(data / "ct" / f"{name}.nii.gz")
        grid = volume.geometry.resized((volume.geometry.shape[0], 512, 512))
        write_scan(folder, name, resample_hu(volume, grid), grid, {})
    return CropStore(folder)


def read(store: CropStore, rng: np.random.Generator) -> Tensor:
    """A batch of blocks, int16."""
    ids = [store.scans[rng.integers(len(store))].scan_id for _ in range(BATCH)]
    return torch.from_numpy(np.stack([store.read_block(i, store.place_block(i, BLOCK, rng), BLOCK) for i in ids]))


# ---- the rivals, end to end: blocks -> crops by size


def ours(blocks: Tensor, rng: np.random.Generator, antialias: bool = False) -> list[Tensor]:
    """What training does, without augmentation."""
    out = []
    for size, count in ((GLOBAL, 2), (LOCAL, 8)):
        boxes = sample_boxes(BLOCK, CropSpec(size, AREAS[size]), rng.integers(2**60, size=count * len(blocks)))
        out.append(crop_resize(blocks, np.tile(np.arange(len(blocks)), count), boxes, size, antialias))
    return out


def monai_pipelines(antialias: bool) -> dict:
    """MONAI's transforms, made once."""
    made = {}
    for size in (GLOBAL, LOCAL):
        low, high = (int(320 * share**0.5) for share in AREAS[size])
        crop = mt.RandSpatialCrop((12, low, low), max_roi_size=(12, high, high), random_center=True, random_size=True)
        made[size] = mt.Compose([crop, mt.Resize(size, mode="trilinear", anti_aliasing=antialias)])
    return made


def monai(blocks: Sequence[Tensor], pipelines: dict) -> list[Tensor]:
    """One crop after the other, out of float blocks (or scans) with a channel."""
    crops = {GLOBAL: [], LOCAL: []}
    for block in blocks:
        image = block.float()[None]
        for size in VIEWS:
            crops[size].append(pipelines[size](image))
    return [torch.stack(crops[size]) for size in (GLOBAL, LOCAL)]


def read_scans(store: CropStore, rng: np.random.Generator) -> list[Tensor]:
    """A batch of whole scans, as a pipeline reads that knows files and no blocks."""
    return [torch.from_numpy(store.read_scan(store.scans[rng.integers(len(store))].scan_id)) for _ in range(BATCH)]


def torchio(blocks: Tensor, rng: np.random.Generator) -> list[Tensor]:
    """torchio has no random crop of random size: the box is drawn here, Crop and Resize do the work."""
    crops = {GLOBAL: [], LOCAL: []}
    for block in blocks.float():
        for size in VIEWS:
            box = sample_boxes(BLOCK, CropSpec(size, AREAS[size]), rng.integers(2**60, size=1))
            crops[size].append(torchio_crop(block, box, size))
    return [torch.stack(crops[size]) for size in (GLOBAL, LOCAL)]


def torchio_crop(block: Tensor, box: Boxes, size: tuple) -> Tensor:
    """One box; Crop takes voxels off both ends of each axis."""
    start, end = box.start[0], np.array(BLOCK) - box.start[0] - box.extent[0]
    bounds = [int(n) for pair in zip(start, end, strict=True) for n in pair]
    image = tio.ScalarImage(tensor=block[None])
    return tio.Compose([tio.Crop(bounds), tio.Resize(size, image_interpolation="linear")])(image).data[0]


def grid_sample(blocks: Tensor, index: np.ndarray, boxes: Boxes, size: tuple) -> Tensor:
    """Plain PyTorch: one call for all crops of a size."""
    origin, step = (torch.as_tensor(a, dtype=torch.float32) for a in boxes.placement(size))
    shape = torch.tensor(blocks.shape[1:], dtype=torch.float32)
    low, high = (2 * origin + 1) / shape - 1, (2 * (origin + step * (torch.tensor(size) - 1)) + 1) / shape - 1
    span = torch.tensor(size) / (torch.tensor(size) - 1)  # corners of the outer voxels, as affine_grid counts
    scale, middle = (high - low) / 2 * span, (high + low) / 2
    matrix = torch.cat([torch.diag_embed(scale.flip(1)), middle.flip(1)[:, :, None]], dim=2).to(blocks.device)
    volumes = blocks.float()[torch.as_tensor(index, device=blocks.device)][:, None]
    places = F.affine_grid(matrix, [len(index), 1, *size], align_corners=False)
    return F.grid_sample(volumes, places, "bilinear", "border", align_corners=False)[:, 0]


def grid_sample_views(blocks: Tensor, rng: np.random.Generator) -> list[Tensor]:
    """All crops of a batch."""
    out = []
    for size, count in ((GLOBAL, 2), (LOCAL, 8)):
        boxes = sample_boxes(BLOCK, CropSpec(size, AREAS[size]), rng.integers(2**60, size=count * len(blocks)))
        out.append(grid_sample(blocks, np.tile(np.arange(len(blocks)), count), boxes, size))
    return out


# ---- measuring


def end_to_end(store: CropStore, turns: int) -> str:
    """Crops per second from the store, and what each rival takes in ours."""
    rng, plain, soft = np.random.default_rng(0), monai_pipelines(False), monai_pipelines(True)
    spec = ViewSpec(GLOBAL, LOCAL, 8, AREAS[GLOBAL], AREAS[LOCAL])
    works = {
        "ours": lambda: ours(read(store, rng), rng),
        "ours, antialiased (training's default)": lambda: ours(read(store, rng), rng, True),
        "ours, antialiased, augmented, normalised": lambda: make_views(
            read(store, rng), rng.integers(2**60, size=BATCH), spec, AugmentSpec(), InputSpec()
        ),
        "MONAI RandSpatialCrop + Resize, our blocks": lambda: monai(read(store, rng), plain),
        "MONAI, our blocks, antialiased": lambda: monai(read(store, rng), soft),
        "MONAI RandSpatialCrop + Resize, whole scans": lambda: monai(read_scans(store, rng), plain),
        "torchio Crop + Resize, our blocks": lambda: torchio(read(store, rng), rng),
        "PyTorch affine_grid + grid_sample, our blocks": lambda: grid_sample_views(read(store, rng), rng),
        "(reading our blocks alone)": lambda: read(store, rng),
        "(reading whole scans alone)": lambda: read_scans(store, rng),
    }
    times = take_turns(works, turns)
    rows = [
        [name, len(VIEWS) * BATCH / float(np.median(taken)), ratio(taken, times["ours"])]
        for name, taken in times.items()
    ]
    return markdown_table(["from the store", "crops/s", "time / ours"], rows)


def resize_alone(store: CropStore, turns: int) -> list[str]:
    """One box of a block in memory, resized; enlarging and shrinking apart; and whether the outputs agree."""
    block = read(store, np.random.default_rng(1))[:1]
    parts, agreement = [], []
    for title, size, extent in (
        ("enlarging, global 12 x 200 x 170", GLOBAL, (12, 200, 170)),
        ("enlarging, local 12 x 80 x 90", LOCAL, (12, 80, 90)),
        ("shrinking, global 12 x 300 x 280", GLOBAL, (12, 300, 280)),
        ("shrinking, local 12 x 160 x 150", LOCAL, (12, 160, 150)),
    ):
        box = Boxes(np.array([[2, 5, 10]]), np.array([extent]), np.zeros((1, 3), bool))
        roi = [slice(int(a), int(a + n)) for a, n in zip(box.start[0], extent, strict=True)]
        monai_work = mt.Compose([mt.SpatialCrop(roi_slices=roi), mt.Resize(size, mode="trilinear")])
        works = {
            "ours": lambda size=size, box=box: crop_resize(block, [0], box, size, False),
            "ours, antialiased": lambda size=size, box=box: crop_resize(block, [0], box, size),
            "MONAI": lambda work=monai_work: work(block.float())[0],
            "torchio": lambda size=size, box=box: torchio_crop(block[0].float(), box, size),
            "grid_sample": lambda size=size, box=box: grid_sample(block, np.array([0]), box, size)[0],
        }
        rivals = list(works)[1:]
        times = take_turns(works, turns)
        parts.append([title, 1e3 * float(np.median(times["ours"])), *(ratio(times[n], times["ours"]) for n in rivals)])
        got = works["ours"]()[0]
        inner = (slice(None), slice(4, -4), slice(4, -4))
        agreement.append(
            [title, *(float((torch.as_tensor(works[n]()).squeeze() - got)[inner].abs().max()) for n in rivals)]
        )
    names = ["ours, antialiased", "MONAI", "torchio", "grid_sample"]
    return [
        markdown_table(["one box, time over ours", "ours, ms", *names], parts),
        "Largest difference from ours in HU, four voxels from the crop's rim inwards:",
        markdown_table(["one box", *names], agreement),
    ]


def on_cuda(store: CropStore, turns: int) -> str:
    """Ours and PyTorch's with the blocks on the device."""
    rng = np.random.default_rng(2)
    blocks = torch.cat([read(store, rng) for _ in range(4)]).cuda()

    def timed(work):
        def run():
            work(blocks, rng)
            torch.cuda.synchronize()

        return run

    times = take_turns({"ours": timed(ours), "PyTorch affine_grid + grid_sample": timed(grid_sample_views)}, 10 * turns)
    rows = [[n, len(VIEWS) * len(blocks) / float(np.median(t)), ratio(t, times["ours"])] for n, t in times.items()]
    return f"On {torch.cuda.get_device_name()}:\n\n" + markdown_table(["on the device", "crops/s", "time / ours"], rows)


def main() -> None:
    """Times every rival on the same crops and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TAPCT_DATA", "../shared/data")))
    parser.add_argument("--out", type=Path, help="write a Markdown page")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "store", args.data)
        parts = [end_to_end(store, args.turns), *resize_alone(store, 2 * args.turns)]
        if torch.cuda.is_available():
            parts.append(on_cuda(store, args.turns))
    print(machine_line(), *parts, sep="\n\n")
    if args.out:
        notes = __doc__.split("\n\n", 2)[2]
        write_page(args.out, "Random resized crops", "python -m benchmarks.crops", [notes.strip(), *parts])


if __name__ == "__main__":
    main()
