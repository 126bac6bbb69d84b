"""Lesion masks from what a person says of a lesion, against made-up and drawn lesions, beside plainer ways.

    python -m benchmarks.growing --data ../shared/data --out docs/results/growing.md

Made-up lesions of synthetic follow-ups of the split's patients: the scans carry noise of 20 to 40 HU (STANDARD) or
40 HU in slices of 5 mm (HARD), the baseline its own alone. Drawn ones of all splits, real: two lung lesions and the
sarcomas. The prompts are simulated: a click up to 2 mm off the middle (in drawn ones the voxel deepest inside), the
true long axis of the largest slice, exact or with each end off by 1.5 mm in both directions of the slice, with the
short axis too, a box with corners off by 1.5 mm, an outline that is rough by 2 mm in the slice of the long axis, and
one stroke that corrects, where the largest error lies; and in follow-ups the baseline's true mask, moved to the click.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from benchmarks.encoder_quality.measures import PATIENTS
from scipy import ndimage

from benchmarks.common import markdown_table, write_page
from tapct_core.errors import UserError
from tapct_core.io import load_ct, load_labels
from tapct_core.lesions.carried import Carried
from tapct_core.lesions.field import Field
from tapct_core.lesions.finding import Mask
from tapct_core.lesions.grow import STEPS, grow_mask
from tapct_core.lesions.plausibility import GrownMask
from tapct_core.lesions.prompts import from_axis
from tapct_core.lesions.region import REACH_MM, distinct_region
from tapct_core.lesions.shapes import ball
from tapct_core.synthetic import HARD, STANDARD, FollowUp, make_follow_up
from tapct_core.synthetic_lesions import SyntheticLesion
from tapct_core.volume import CTVolume, LabelMap

SCANS = ("baseline", "STANDARD", "HARD", "real")
OFF_MM = 2.0
AXIS_MM, OUTLINE_MM, BALL = 1.5, 2.0, 0.84


class Case(NamedTuple):
    """One lesion in one scan: its kind, tissue, true mask, the clicked point, and what an earlier scan knows of it."""

    scan: str
    tissue: str
    volume: CTVolume
    truth: Mask
    point: tuple[float, float, float]
    before: Carried | None = None


Grow = Callable[[Case], Mask]


def cases(data: Path, split: str, seeds: range, kinds: Sequence[str]) -> Iterator[Case]:
    """Every lesion that is there, in the baselines and in both kinds of follow-up."""
    rng = np.random.default_rng(0)
    for name in PATIENTS[split]:
        volume = load_ct(data / name)
        wanted = {"STANDARD": STANDARD} if {"baseline", "STANDARD"} & set(kinds) else {}
        for kind, spec in (wanted | ({"HARD": HARD} if "HARD" in kinds else {})).items():
            for seed in seeds:
                pair = make_follow_up(volume, spec, seed=seed)
                for one in pair.lesions:
                    scans = [(kind, pair.follow_up, pair.follow_up_mask(one), one.follow_up_lps_mm)]
                    if kind == "STANDARD":
                        scans.append(("baseline", pair.baseline, pair.baseline_mask(one), one.baseline_lps_mm))
                    for scan, where, truth, middle in scans:
                        off = rng.normal(size=3)
                        off *= rng.uniform(0, OFF_MM) / np.linalg.norm(off)
                        point = np.array(middle) + off
                        if scan in kinds and truth.sum() >= 3 and where.geometry.contains(point):
                            place = tuple(float(c) for c in point)
                            before = None if scan == "baseline" else carried(pair, one, place)
                            yield Case(scan, one.tissue, where, Mask.from_array(truth), place, before)


def carried(pair: FollowUp, lesion: SyntheticLesion, place: tuple[float, float, float]) -> Carried | None:
    """Its mask in the baseline, moved to the clicked place and not turned; None for a new lesion."""
    mask = pair.baseline_mask(lesion)
    if mask.sum() < 3:
        return None
    return Carried.to(Mask.from_array(mask), pair.baseline, lesion.baseline_lps_mm, place)


def drawn(data: Path) -> Iterator[Case]:
    """Real lesions with the mask somebody drew, clicked at the voxel deepest inside."""
    files = [("lung lesion", path, "_seg") for path in sorted((data / "ct").glob("pyradiomics_lung*_seg.nii.gz"))]
    files += [("sarcoma in muscle", path, "_tumour") for path in sorted((data / "ct_limbs").glob("*_tumour.nii.gz"))]
    for tissue, path, ending in files:
        volume = load_ct(path.with_name(path.name.replace(ending, "_ct")))
        truth = load_labels(path).labels > 0
        depth = ndimage.distance_transform_edt(truth, sampling=volume.geometry.spacing_mm)
        point = volume.geometry.to_world(np.array(np.unravel_index(depth.argmax(), depth.shape)))
        yield Case("real", tissue, volume, Mask.from_array(truth), tuple(float(c) for c in point))


def jittered(case: Case, sigma_mm: float, short: bool = False) -> np.ndarray:
    """The true axes (1 or 2, 2, 3) LPS mm, with their ends off within the slice by a normal error a direction."""
    found = case.truth.measure(case.volume)
    ends = np.array([found.long_axis_ends, found.short_axis_ends][: 1 + short])
    plane = case.volume.geometry.direction[:, 1:]
    return ends + sigma_mm * dice_roll(case).normal(size=(*ends.shape[:2], 2)) @ plane.T


def dice_roll(case: Case) -> np.random.Generator:
    """Random numbers that belong to a case, whichever rows are measured."""
    return np.random.default_rng(int(abs(case.point[0]) * 1000) + case.truth.start[0])


def rough_outline(case: Case) -> LabelMap:
    """The filled outline in the slice of the long axis, its border off by about 2 mm."""
    geometry = case.volume.geometry
    z = case.truth.measure(case.volume).slice_index
    flat = case.truth.to_array()[z]
    spacing = geometry.spacing_mm[1:]
    beyond = ndimage.distance_transform_edt(~flat, sampling=spacing) - ndimage.distance_transform_edt(flat, spacing)
    wobble = ndimage.gaussian_filter(dice_roll(case).normal(size=flat.shape), [6 / s for s in spacing])
    labels = np.zeros(geometry.shape, np.uint8)
    labels[z] = beyond < OUTLINE_MM * wobble / wobble.std()
    if not labels.any():
        labels[z] = flat
    return LabelMap(labels, geometry)


def correction(case: Case, mask: Mask) -> LabelMap | None:
    """A stroke of 3 mm width along the largest error in its largest slice; None where there is no error to see."""
    truth, found = case.truth.to_array(), mask.to_array()
    wrong, count = ndimage.label(truth != found)
    if not count:
        return None
    largest = wrong == np.bincount(wrong.ravel())[1:].argmax() + 1
    z = int(largest.sum(axis=(1, 2)).argmax())
    depth = ndimage.distance_transform_edt(largest[z], sampling=case.volume.geometry.spacing_mm[1:])
    stroke = largest[z] & (depth >= 0.7 * depth.max())
    labels = np.zeros(truth.shape, np.uint8)
    missed = truth[z][stroke].mean() > 0.5
    labels[z] = np.where(stroke, 1 if missed else 2, 0)
    return LabelMap(labels, case.volume.geometry, names={1: "lesion", 2: "background"})


def by_click(case: Case) -> Mask:
    """Ours, a click."""
    return grow_mask(case.volume, case.point)


def by_axis(case: Case) -> Mask:
    """Ours, the exact long axis."""
    return grow_mask(case.volume, axis=jittered(case, 0.0))


def by_rough_axis(case: Case) -> Mask:
    """Ours, an axis as a hand draws it."""
    return grow_mask(case.volume, axis=jittered(case, AXIS_MM))


def by_both_axes(case: Case) -> Mask:
    """Ours, long and short axis as a hand draws them."""
    return grow_mask(case.volume, axis=jittered(case, AXIS_MM, short=True))


def by_box(case: Case) -> Mask:
    """Ours, a box round the lesion as a hand draws it."""
    places = case.volume.geometry.to_world(np.argwhere(case.truth.voxels) + case.truth.start)
    half = max(case.volume.geometry.spacing_mm[1:]) / 2
    corners = np.stack([places.min(axis=0) - half, places.max(axis=0) + half])
    return grow_mask(case.volume, box=corners + AXIS_MM * dice_roll(case).normal(size=(2, 3)))


def by_outline(case: Case) -> Mask:
    """Ours, a rough outline in one slice."""
    return grow_mask(case.volume, outline=rough_outline(case))


def by_correction(case: Case) -> Mask:
    """Ours, a rough axis and one stroke where the answer is most wrong."""
    axis = jittered(case, AXIS_MM)
    first = grow_mask(case.volume, axis=axis)
    stroke = correction(case, first)
    return first if stroke is None else grow_mask(case.volume, axis=axis, strokes=stroke)


def by_carried(case: Case) -> Mask:
    """Ours, the baseline's mask carried to the click."""
    return grow_mask(case.volume, case.point, prior=case.before)


def by_region(case: Case) -> Mask:
    """The region that stands out at the click, which was all there was before."""
    found = distinct_region(case.volume, np.array(case.point))
    if found is None:
        raise UserError("nothing stands out")
    return found


def ball_of_axis(case: Case) -> Mask:
    """A ball of 0.84 of the long axis about its middle."""
    ends = jittered(case, 0.0)[0]
    radius = BALL * np.linalg.norm(ends[1] - ends[0]) / 2
    return Mask.from_array(ball(ends.mean(axis=0), radius).rho(case.volume.geometry) <= 1)


def plain_walk(case: Case) -> Mask:
    """scikit-image's random walker without a prior, from the axis's inner part and from beyond its length."""
    from skimage.segmentation import random_walker

    prompt = from_axis(jittered(case, 0.0), case.volume.geometry)
    field = Field.around(case.volume, prompt.middle_lps_mm, prompt.half_mm, prompt.size_mm / STEPS)
    index = np.rint(field.grid.to_index(prompt.points)).astype(int)
    seeds = np.where(prompt.shape.rho(field.grid) > prompt.far, 2, 0)
    seeds[tuple(index[((index >= 0) & (index < seeds.shape)).all(axis=1)].T)] = 1
    found = random_walker(
        np.clip(field.hu, -1000, 400) / 100, seeds, beta=100, mode="cg_j", tol=1e-2, spacing=field.grid.spacing_mm
    )
    return field.mask(field.on_own_voxels((found == 1).astype(np.float32)) > 0.5)


def plain_growing(case: Case) -> Mask:
    """SimpleITK's confidence-connected growing: 2.5 deviations, 4 rounds, from a ball of one voxel."""
    import SimpleITK as sitk  # noqa: N813

    seed = [int(i) for i in np.rint(case.volume.geometry.to_index(np.array(case.point)))[::-1]]
    image = sitk.GetImageFromArray(case.volume.hu.astype(np.float32))
    found = sitk.GetArrayFromImage(sitk.ConfidenceConnected(image, [seed], 4, 2.5, 1, 1)).astype(bool)
    if not found.any():
        raise UserError("nothing grown")
    return Mask.from_array(found)


ROWS: dict[str, Grow] = {
    "click": by_click,
    "axis": by_axis,
    "axis, ends off by 1.5 mm": by_rough_axis,
    "both axes, ends off": by_both_axes,
    "box, corners off": by_box,
    "outline in a slice": by_outline,
    "axis, ends off, one correction": by_correction,
    "click and the baseline's mask": by_carried,
    "*click: the region alone*": by_region,
    "*click: plain growing*": plain_growing,
    "*axis: ball of 0.84*": ball_of_axis,
    "*axis: walk without prior*": plain_walk,
}


def figures(some: list[Case], grow: Grow) -> list[object]:
    """Refused, mean Dice (a refusal is 0), diameters within 20 %, over 1.5 x, under 2/3, plausibility, seconds."""
    dice, ratio, said, seconds = [], [], [], []
    for case in some:
        began = time.process_time()
        try:
            mask = grow(case)
            both = (mask.to_array() & case.truth.to_array()).sum()
            dice.append(2 * both / (mask.voxels.sum() + case.truth.voxels.sum()))
            ratio.append(mask.measure(case.volume).long_axis_mm / case.truth.measure(case.volume).long_axis_mm)
            said.append(mask.plausibility if isinstance(mask, GrownMask) else np.nan)
        except UserError:
            dice.append(0.0)
            ratio.append(np.nan)
            said.append(np.nan)
        seconds.append(time.process_time() - began)
    value = np.array(ratio)
    shares = (np.isnan(value), np.abs(value - 1) <= 0.2, value > 1.5, value < 2 / 3)
    known = ~np.isnan(said)
    believed = f"{np.mean(np.array(said)[known]):.2f}" if known.any() else "–"
    refused, right, leaked, short = (f"{share.mean():.0%}" for share in shares)
    return [len(some), refused, float(np.mean(dice)), right, leaked, short, believed, float(np.mean(seconds))]


def main() -> None:
    """Measures and prints the table or writes its page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TAPCT_DATA", "../shared/data")))
    parser.add_argument("--split", choices=tuple(PATIENTS), default="test")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scans", nargs="+", choices=SCANS, default=SCANS, help="which of them to measure")
    parser.add_argument("--out", type=Path, help="write the table to this Markdown file")
    args = parser.parse_args()
    found = list(cases(args.data, args.split, range(args.seeds), args.scans))
    if "real" in args.scans:
        found += drawn(args.data)
    kinds = [(scan, tissue) for scan in ("baseline", "STANDARD", "HARD") for tissue in ("lung", "soft")]
    rows = []
    kinds += [("real", "lung lesion"), ("real", "sarcoma in muscle")]
    for scan, tissue in [kind for kind in kinds if kind[0] in args.scans]:
        some = [case for case in found if (case.scan, case.tissue) == (scan, tissue)]
        for name, grow in ROWS.items():
            fit = [case for case in some if grow is not by_carried or case.before is not None]
            if fit:
                rows.append([scan, tissue, name, *figures(fit, grow)])
                print(*rows[-1], sep=" | ", flush=True)
    header = ["scan", "tissue", "from", "lesions", "refused", "Dice", "diameter within 20 %", "over 1.5 x", "under 2/3"]
    text = [markdown_table([*header, "plausibility", "s"], rows), LEGEND]
    if args.out:
        chosen = "" if tuple(args.scans) == SCANS else f" --scans {' '.join(args.scans)}"
        command = f"python -m benchmarks.growing --split {args.split} --seeds {args.seeds}{chosen}"
        write_page(args.out, "Lesion masks", command, text)


LEGEND = (
    f"Each made-up lesion is clicked up to {OFF_MM:g} mm off its middle, each real one at the voxel deepest inside; "
    "all by HU alone. Prompts as `benchmarks.growing` says; *in italics* the plainer ways. From a click ours goes "
    f"at most {REACH_MM:g} mm far. Refused: nothing stands out. Dice counts a refusal as 0. Diameters are the longest "
    "axial ones (RECIST 1.1) of the grown and of the true mask. Plausibility is the mean of what the masks say of "
    "themselves, and should lie by their Dice. Soft-tissue lesions differ from their surroundings by 40 to 90 HU, in "
    "HARD after a change of contrast that can hide them. Constants were chosen on train and dev patients; the real "
    "lesions are of all splits: of them sts_026 and sts_028 alone are new to the method. A grown mask is a proposal "
    "to be looked at."
)


if __name__ == "__main__":
    main()
