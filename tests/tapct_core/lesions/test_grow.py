"""Masks grown from a point: spheres of known size, a thin bridge that must not leak, and the lesion of a real CT."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.embedding import embed
from tapct_core.errors import UserError
from tapct_core.features import FeatureMap
from tapct_core.geometry import Geometry
from tapct_core.io import load_ct, load_labels
from tapct_core.lesions.field import Field
from tapct_core.lesions.finding import Mask
from tapct_core.lesions.grow import grow_mask
from tapct_core.volume import CTVolume, LabelMap

SHAPE, SPACING = (30, 60, 60), (2.0, 1.0, 1.0)


def phantom(spheres, background=-800, noise=15.0, bridge=False):
    """Spheres (centre x, y, z mm; radius mm; HU) in noise; a 2 mm bridge along x through the first centre."""
    grid = Geometry.from_spacing(SHAPE, SPACING)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"), axis=-1)
    places = grid.to_world(index)
    hu = np.random.default_rng(0).normal(background, noise, SHAPE)
    for centre, radius, level in spheres:
        inside = np.linalg.norm(places - centre, axis=-1) <= radius
        hu[inside] = np.random.default_rng(1).normal(level, noise, int(inside.sum()))
    if bridge:
        near = np.linalg.norm((places - spheres[0][0])[..., 1:], axis=-1) <= 1.1
        hu[near] = spheres[0][2]
    return CTVolume(hu, grid)


def volume_ml(mask) -> float:
    return mask.voxels.sum() * np.prod(SPACING) / 1000


@pytest.mark.parametrize("radius", [4.0, 7.0, 11.0])
@pytest.mark.parametrize("background", [-800, 100])
def test_a_sphere_is_filled_and_no_more(radius, background):
    centre = np.array([30.0, 29.0, 28.0])
    volume = phantom([(centre, radius, 20)], background)
    for offset in ([0, 0, 0], [radius / 3, -radius / 3, 0]):  # a click need not be central
        mask = grow_mask(volume, tuple(centre + offset))
        assert volume_ml(mask) == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.25)
        assert mask.measure(volume).long_axis_mm == pytest.approx(2 * radius, abs=2.0)


def test_a_bridge_to_a_neighbour_is_cut():
    first, second = np.array([18.0, 29.0, 28.0]), np.array([44.0, 29.0, 28.0])
    volume = phantom([(first, 7.0, 20), (second, 7.0, 20)], bridge=True)
    mask = grow_mask(volume, tuple(first)).to_array()
    assert not mask[tuple(np.rint(volume.geometry.to_index(second)).astype(int))]
    assert mask.sum() * np.prod(SPACING) / 1000 == pytest.approx(4 / 3 * np.pi * 7**3 / 1000, rel=0.3)


def test_a_nodule_on_the_pleura_is_cut_from_the_wall():
    """Half a sphere bulges into the lung from a wall of its own HU, across a base far wider than a vessel."""
    centre, radius = np.array([30.0, 29.0, 28.0]), 9.0
    volume = phantom([(centre, radius, 20)])
    hu = volume.hu.copy()
    hu[:, :, 36:] = np.random.default_rng(2).normal(20, 15, hu[:, :, 36:].shape)
    mask = grow_mask(CTVolume(hu, volume.geometry), tuple(centre)).to_array()
    assert mask[:, :, 42:].sum() < 0.1 * mask.sum()  # the wall stays out
    assert mask.sum() * np.prod(SPACING) / 1000 == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.35)


def test_fine_voxels_change_neither_the_mask_nor_the_search(monkeypatch):
    """A chest is often scanned at 0.7 mm: the region is sought on larger voxels, its border drawn on these."""
    sought, around = [], Field.around

    def noted(*args):
        sought.append(around(*args))
        return sought[-1]

    monkeypatch.setattr(Field, "around", noted)
    grid = Geometry.from_spacing((100, 140, 139), (1.0, 0.7, 0.7))  # an odd number of columns
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1)
    centre = np.array([48.0, 49.0, 50.0])
    inside = np.linalg.norm(grid.to_world(index) - centre, axis=-1) <= 8.0
    hu = np.random.default_rng(0).normal(-800, 30, grid.shape) + 820 * inside
    mask = grow_mask(CTVolume(hu, grid), tuple(centre + [2.0, 0, 0])).to_array()
    assert 1 <= len(sought) <= 6 and sought[0].block == (1, 2, 2)
    assert max(np.prod(field.grid.shape) for field in sought) < 4e5 < np.prod(sought[0].fine.shape) / 3
    assert 2 * (mask & inside).sum() / (mask.sum() + inside.sum()) > 0.95


def test_nothing_leaks_and_nothing_is_made_of_noise():
    volume = phantom([(np.array([30.0, 29.0, 28.0]), 12.0, 20)])
    with pytest.raises(UserError, match="stands out"):
        grow_mask(volume, (30.0, 29.0, 28.0), reach_mm=8.0)  # the sphere is larger than the reach
    with pytest.raises(UserError, match="stands out"):
        grow_mask(phantom([], background=40), (30.0, 29.0, 28.0))
    with pytest.raises(UserError, match="outside"):
        grow_mask(volume, (300.0, 0.0, 0.0))


def test_features_keep_the_region_out_of_other_tissue():
    """Two touching halves of one HU: only the tokens tell them apart."""
    centre = np.array([30.0, 29.0, 28.0])
    volume = phantom([(centre, 12.0, 20)])
    grid = volume.geometry.pooled((2, 4, 4))
    tokens = np.zeros((*grid.shape, 2), np.float16)
    left = grid.to_world(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1))[..., 0] < 30
    tokens[left, 0] = tokens[~left, 1] = 1
    valid = np.ones(grid.shape, bool)
    features = FeatureMap(tokens, valid, grid, volume.hu, volume.geometry, np.zeros((0, 2), np.float16))
    mask = grow_mask(volume, (24.0, 29.0, 28.0), features)
    places = volume.geometry.to_world(np.argwhere(mask.to_array()))
    assert places[:, 0].max() < 33
    assert grow_mask(volume, (24.0, 29.0, 28.0)).voxels.sum() > 1.5 * mask.voxels.sum()


@pytest.mark.parametrize(("name", "least"), [("pyradiomics_lung1", 0.85), ("pyradiomics_lung2", 0.75)])
def test_real_lung_lesions(data_dir, name, least):
    """Overlap with the drawn lesion from its centre, without an encoder and so from HU alone; the second, 5 cm
    across, touches pleura and vessels."""
    files = sorted((data_dir / "ct").glob(f"{name}*"))
    volume = load_ct(next(f for f in files if "_ct" in f.name))
    drawn = load_labels(next(f for f in files if "_ct" not in f.name)).labels > 0
    inside = np.argwhere(drawn)
    centre = inside[np.linalg.norm(inside - inside.mean(axis=0), axis=1).argmin()]
    features = embed(volume, None)
    grown = grow_mask(volume, tuple(volume.geometry.to_world(centre)), features).to_array()
    dice = 2 * (grown & drawn).sum() / (grown.sum() + drawn.sum())
    assert dice > least


# Prompts that say how large the lesion is.

MIDDLE = np.array([30.0, 29.0, 28.0])


def faint(noise=40.0, radius=9.0, contrast=60.0):
    """A soft-tissue lesion that noise hides from a band of HU."""
    return phantom([(MIDDLE, radius, 40 + contrast)], 40, noise)


def truth_of(volume, radius=9.0):
    index = np.stack(np.meshgrid(*[np.arange(n) for n in volume.geometry.shape], indexing="ij"), axis=-1)
    return np.linalg.norm(volume.geometry.to_world(index) - MIDDLE, axis=-1) <= radius


def dice(mask, truth) -> float:
    return 2 * (mask.to_array() & truth).sum() / (mask.voxels.sum() + truth.sum())


def axis_along(direction, radius=9.0):
    direction = np.asarray(direction, float) / np.linalg.norm(direction)
    return [MIDDLE - radius * direction, MIDDLE + radius * direction]


@pytest.mark.parametrize("direction", [(1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 0, 1)])
def test_a_drawn_axis_holds_in_noise(direction):
    volume = faint()
    mask = grow_mask(volume, axis=axis_along(direction))
    assert dice(mask, truth_of(volume)) > 0.8
    assert mask.measure(volume).long_axis_mm == pytest.approx(18, rel=0.2)
    assert mask.band_mm[0] <= mask.measure(volume).long_axis_mm <= mask.band_mm[1]
    assert 0.4 < mask.plausibility <= 1


def test_a_short_axis_makes_it_narrow():
    volume = faint(contrast=0.0)  # nothing to be seen: the drawing alone decides
    long_axis = axis_along((1, 0, 0))
    wide, narrow = (
        grow_mask(volume, axis=[long_axis, axis_along((0, 1, 0), radius)]).measure(volume) for radius in (8.0, 4.0)
    )
    assert narrow.short_axis_mm < 0.75 * wide.short_axis_mm
    assert narrow.long_axis_mm == pytest.approx(18, rel=0.2)


def test_a_box_and_an_outline_in_one_slice_hold_in_noise():
    volume, truth = faint(), truth_of(faint())
    for box in ([MIDDLE - 9, MIDDLE + 9], [MIDDLE - [9, 9, 0], MIDDLE + [9, 9, 0]]):
        assert dice(grow_mask(volume, box=box), truth) > 0.75
    flat = np.zeros(SHAPE, np.uint8)
    flat[14] = truth[14]
    ring = flat.copy()
    ring[14][2:-2, 2:-2] &= ~(truth[14][:-4, 2:-2] & truth[14][4:, 2:-2] & truth[14][2:-2, :-4] & truth[14][2:-2, 4:])
    assert 0 < ring.sum() < flat.sum()
    for drawn in (flat, ring):
        assert dice(grow_mask(volume, outline=LabelMap(drawn, volume.geometry)), truth) > 0.75


def test_strokes_are_law_and_change_their_surroundings():
    volume = faint()
    first = grow_mask(volume, axis=axis_along((1, 0, 0)))
    labels = np.zeros(SHAPE, np.uint8)
    labels[14, 20:23, 27:34] = 2  # within the lesion: a person says that it is not
    labels[14, 38:41, 29:32] = 1  # outside it
    strokes = LabelMap(labels, volume.geometry, names={1: "lesion", 2: "Background"})
    for mask in (
        grow_mask(volume, axis=axis_along((1, 0, 0)), strokes=strokes),
        grow_mask(volume, prior=first, strokes=strokes),
        grow_mask(volume, tuple(MIDDLE), strokes=strokes),
    ):
        array = mask.to_array()
        assert array[labels == 1].all() and not array[labels == 2].any()
        assert isinstance(mask, Mask)
    alone = grow_mask(volume, strokes=LabelMap(truth_of(volume, 5.0).astype(np.uint8), volume.geometry))
    assert dice(alone, truth_of(volume)) > 0.6


def test_a_scan_turned_in_the_scanner_gives_the_same():
    """The same lesion on an oblique grid with its first corner elsewhere: prompts are in LPS mm."""
    volume = faint()
    turn = np.eye(4)
    turn[:3, :3] = [[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]
    turn[:3, 3] = [100, -50, 7]
    turned = CTVolume(volume.hu, Geometry(SHAPE, turn @ volume.geometry.affine))
    ends = np.array(axis_along((1, 0, 0)))
    mask = grow_mask(turned, axis=ends @ turn[:3, :3].T + turn[:3, 3])
    assert dice(mask, grow_mask(volume, axis=ends).to_array()) > 0.97


def test_an_axis_that_is_not_seen_is_said_and_never_refused():
    mask = grow_mask(phantom([], background=40), axis=axis_along((1, 0, 0)))
    assert mask.plausibility < 0.6 and mask.reason
    speck = grow_mask(phantom([], background=40), axis=axis_along((1, 0, 0), 0.6))
    assert speck.plausibility < 0.4 and speck.reason


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ({}, "say where"),
        ({"axis": [[0, 0, 0]]}, "two points"),
        ({"axis": [[5, 5, 5], [5, 5, 5]]}, "one place"),
        ({"axis": [[500, 5, 5], [520, 5, 5]]}, "outside the scan"),
        ({"box": [[1, 2, 3]]}, "two opposite corners"),
        ({"box": [[5, 5, 5], [5, 5, 9]]}, "thinner"),
        ({"box": [[500, 5, 5], [520, 9, 9]]}, "outside the scan"),
    ],
)
def test_what_cannot_be_read_is_one_line(prompt, words):
    with pytest.raises(UserError, match=words):
        grow_mask(faint(), **prompt)


def test_drawings_on_another_grid_are_refused():
    volume = faint()
    other = LabelMap(np.ones((3, 4, 5), np.uint8), Geometry.from_spacing((3, 4, 5), SPACING))
    empty = LabelMap(np.zeros(SHAPE, np.uint8), volume.geometry)
    beside = LabelMap(np.eye(60, dtype=np.uint8)[None].repeat(30, 0), volume.geometry, names={1: "background"})
    for prompt, words in (
        ({"strokes": other}, "another grid"),
        ({"outline": other}, "another grid"),
        ({"strokes": empty}, "empty"),
        ({"outline": empty}, "empty"),
        ({"strokes": beside}, "only where the lesion is not"),
        ({"prior": Mask((0, 0, 0), np.ones((2, 2, 2), bool), (3, 4, 5))}, "carry it"),
    ):
        with pytest.raises(UserError, match=words):
            grow_mask(volume, **prompt)
