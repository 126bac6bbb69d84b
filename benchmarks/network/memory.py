"""Peak memory of embedding a 512 x 512 x 600 CT with a B encoder.

    python -m benchmarks.memory                 measures and prints the table (about 2 minutes)
    python -m benchmarks.memory --out docs/results/memory.md

Two parts are measured, each in a process of its own, and added up:

- embed() itself on the whole scan, all windows, with 768 channels: the network is replaced by one that
  gives constant tokens at once, since memory does not depend on what they are and the real one takes 20 minutes;
- the real B network (random weights) on one window, batch 1: weights and activations.

Peaks are the kernel's high-water mark of resident memory (ru_maxrss) less what the process held with volume
and encoder loaded, before embed was called. The smaller run checks the formula at another size.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

SIZES = {"512 x 512 x 600": (600, 512, 512), "512 x 512 x 150": (150, 512, 512)}
SPACING = (1.0, 0.8, 0.8)
CASES = [  # size, plan, overlap, with checkpoint
    ("512 x 512 x 150", "spacing", 0.0, False),
    ("512 x 512 x 150", "spacing", 0.5, True),
    ("512 x 512 x 600", "spacing", 0.0, False),
    ("512 x 512 x 600", "spacing", 0.0, True),
    ("512 x 512 x 600", "spacing", 0.5, False),
    ("512 x 512 x 600", "spacing", 0.5, True),
    ("512 x 512 x 600", "release", 0.0, False),
    ("512 x 512 x 600", "release", 0.5, True),
]
LIMIT_GB = 8.0


def resident_bytes() -> int:
    """What the process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def peak_resident_bytes() -> int:
    """The most it ever held (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def b_encoder(depth: int):
    """TAP-CT-B's shape, random weights."""
    from tapct_core.encoders import untrained_encoder
    from tapct_core.preprocessing import InputSpec
    from tapct_core.vit import ViTConfig

    config = ViTConfig(embed_dim=768, depth=depth, num_heads=12)
    return untrained_encoder(config, InputSpec(plan="spacing", spacing_mm=SPACING))


def constant_encoder():
    """B's shape without its work: the same tokens for every window."""
    import torch

    from tapct_core.encoders import Encoder
    from tapct_core.vit import Tokens

    @dataclass(frozen=True, eq=False)
    class Constant(Encoder):
        def encode(self, hu, block=None):
            grid = tuple(n // p for n, p in zip(hu.shape[1:], self.spec.patch_size, strict=True))
            count = grid[0] * grid[1] * grid[2]
            return Tokens(torch.ones(len(hu), 768), torch.ones(len(hu), 0, 768), torch.ones(len(hu), count, 768), grid)

    encoder = b_encoder(depth=1)
    return Constant(**{field.name: getattr(encoder, field.name) for field in fields(Encoder)})


def measure_embed(size: str, plan: str, overlap: float, checkpoint: bool) -> dict:
    """Peak of one embed() call, and what the formula says."""
    import numpy as np

    from tapct_core import embedding
    from tapct_core.geometry import Geometry
    from tapct_core.volume import CTVolume

    shape = SIZES[size]
    hu = np.random.default_rng(0).integers(-200, 200, shape, dtype=np.int16)
    volume = CTVolume(hu, Geometry.from_spacing(shape, SPACING))
    volume.content_hash  # noqa: B018 - once a volume, and it copies
    encoder = constant_encoder()
    embedding.SAVING_SHARE = 1e9

    def save_near_the_end(done: int, total: int) -> None:
        embedding.CHECKPOINT_SECONDS = 0.0 if done >= total - 2 else 1e9  # when most is painted, so most is copied

    Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark back to what is held now
    before = resident_bytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state" if checkpoint else None
        features = embedding.embed(volume, encoder, plan, overlap=overlap, checkpoint=path, progress=save_near_the_end)
    computed = embedding.peak_bytes(
        volume.hu.shape,
        features.hu.shape,
        features.geometry.shape,
        768,
        overlap,
        resampled=features.hu is not volume.hu,
        checkpoint=checkpoint,
    )
    return {"measured": peak_resident_bytes() - before, "computed": computed, "windows": len(features.windows)}


def measure_encoder() -> dict:
    """What the real B network takes: its weights, and the activations of one window."""
    import torch

    before = resident_bytes()
    encoder = b_encoder(depth=12)
    encoder.encode(torch.zeros((1, 12, 224, 224), dtype=torch.int16))
    return {"measured": peak_resident_bytes() - before}


def in_own_process(*arguments: object) -> dict:
    """Runs one measurement; memory of one process says nothing of another's."""
    command = [sys.executable, "-m", "benchmarks.memory", "--case", json.dumps(arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def report() -> str:
    """All cases as a page of Markdown."""
    encoder = in_own_process("encoder")["measured"] / 1e9
    lines = [
        "# Peak memory of embedding",
        "",
        "`python -m benchmarks.memory`. TAP-CT-B's shape (768 channels, 12 blocks, window 12 x 224 x 224), batch 1,",
        f"scan at {SPACING[0]} x {SPACING[1]} x {SPACING[2]} mm. GB are 10^9 bytes, besides the volume itself.",
        "`embed` is measured over all windows of the whole scan, with a network that answers at once; the real network",
        f"is measured on one window ({encoder:.2f} GB, weights and activations) and added. Bound: {LIMIT_GB:g} GB.",
        "",
        "| scan | plan | overlap | checkpoint | windows | embed measured | embed computed | with the network |",
        "|---|---|---|---|---|---|---|---|",
    ]
    worst = 0.0
    for size, plan, overlap, checkpoint in CASES:
        result = in_own_process(size, plan, overlap, checkpoint)
        measured, computed = result["measured"] / 1e9, result["computed"] / 1e9
        worst = max(worst, measured + encoder)
        lines.append(
            f"| {size} | {plan} | {overlap:g} | {'yes' if checkpoint else 'no'} | {result['windows']} "
            f"| {measured:.2f} | {computed:.2f} | {measured + encoder:.2f} |"
        )
        print(lines[-1], file=sys.stderr)
    verdict = "kept" if worst <= LIMIT_GB else "EXCEEDED"
    lines += ["", f"Largest: {worst:.2f} GB of {LIMIT_GB:g} GB: {verdict}.", ""]
    return "\n".join(lines)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the page here as well")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        case = json.loads(args.case)
        print(json.dumps(measure_encoder() if case == ["encoder"] else measure_embed(*case)))
        return 0
    page = report()
    print(page)
    if args.out:
        args.out.write_text(page, encoding="utf-8")
    return 0 if "kept" in page else 1


if __name__ == "__main__":
    raise SystemExit(main())
