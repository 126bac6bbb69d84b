"""How unlike two scans are by their tokens' statistics, and where the warning of a probe begins: on train and dev.

    python -m benchmarks.likeness --data DATA [--out docs/results/likeness.md]

Every scan stands once for what a probe has learned from, and all other patients' are held against it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from benchmarks.common import markdown_table, write_page
from tapct_core.embedding import embed
from tapct_core.encoders import load_encoder
from tapct_core.features import FeatureMap
from tapct_core.io import load_ct
from tapct_core.probe.channels import statistics
from tapct_core.probe.likeness import MOST_UNLIKE, unlikeness

TRUNK = (
    "crlm_ct_1004", "crlm_ct_1006", "ts_aorta_cta", "lidc_0314", "cip_chest_64", "pyradiomics_lung1",
    "pyradiomics_lung2",
)  # fmt: skip
LIMBS = ("sts_001", "sts_002", "sts_003", "sts_006", "sts_008", "sts_024", "sts_025")


def main() -> None:
    """Writes the page, or prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with ct/ and ct_limbs/")
    parser.add_argument("--encoder", help="by default the packaged one")
    parser.add_argument("--out", type=Path, help="the page; by default it is printed")
    args = parser.parse_args()
    encoder = load_encoder(args.encoder)
    files = {name: args.data / "ct" / f"{name}_ct.nii.gz" for name in TRUNK}
    files |= {name: args.data / "ct_limbs" / f"{name}_ct.nii.gz" for name in LIMBS}
    maps = {name: embed(load_ct(path), encoder) for name, path in files.items()}
    table = markdown_table(["learned from", "held against", "pairs", "least", "median", "most", "warned"], rows(maps))
    said = (
        f"{encoder.name}; distance of mean tokens in deviations of those learned from, 0 for the same scan. A probe "
        f"warns above {MOST_UNLIKE:.2f}. Train and dev patients."
    )
    limits = (
        "One scan of a thigh or knee is small and unlike the next one, so that a probe of one such scan warns on all "
        "others: fit limbs on several."
    )
    if args.out:
        title = "How unlike scans are by their tokens"
        write_page(args.out, title, "python -m benchmarks.likeness", [said, table, limits])
    else:
        print(table)


def rows(maps: dict[str, FeatureMap]) -> list[list[str]]:
    """A row for each pair of regions."""
    found = []
    for learned, own in (("trunk", TRUNK), ("limb", LIMBS)):
        for held, others in (("trunk", TRUNK), ("limb", LIMBS)):
            far = np.array([distance(maps[a], maps[b]) for a in own for b in others if a != b])
            figures = [f"{value:.2f}" for value in (far.min(), np.median(far), far.max())]
            found.append([learned, held, str(len(far)), *figures, f"{(far > MOST_UNLIKE).mean():.0%}"])
    return found


def distance(learned: FeatureMap, held: FeatureMap) -> float:
    """As a probe that was fitted on one scan sees another."""
    probe = SimpleNamespace(recipe=SimpleNamespace(hu_features=None), standard=statistics(learned, None))
    return unlikeness(probe, held)


if __name__ == "__main__":
    main()
