"""NRRD and MetaImage as written here: to the last bit for our own reader, and as SimpleITK sees them."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from tapct_core.geometry import Geometry, orient
from tapct_core.io import load_labels, save_labels
from tapct_core.volume import LabelMap, Source


def turned(seed: int) -> np.ndarray:
    """A right-angled index -> LPS affine with awkward numbers."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn * rng.uniform(0.3, 5, 3)
    affine[:3, 3] = rng.normal(size=3) * 300
    return affine


def on_grid(values: np.ndarray, affine: np.ndarray, **facts) -> LabelMap:
    """Labels given in the file's own order (x, y, z)."""
    orientation, geometry = orient(values.shape, affine)
    source = Source("nrrd", file_shape=values.shape, file_affine=affine, orientation=orientation)
    return LabelMap(np.ascontiguousarray(orientation.apply(values)), geometry, source, **facts)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("seed", range(8))
def test_values_and_places_to_the_last_bit_and_as_itk_reads_them(tmp_path, suffix, dtype, seed):
    affine = turned(seed)
    values = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (7, 5, 4), dtype=dtype, endpoint=True)
    saved = save_labels(on_grid(values, affine), tmp_path / f"a{suffix}")
    again = load_labels(saved)
    assert again.source.file_shape == values.shape and again.labels.dtype == dtype
    assert np.array_equal(again.source.orientation.undo(again.labels), values)
    if suffix == ".nrrd":
        assert np.array_equal(again.source.file_affine, affine)
    else:  # spacing times unit direction: the last bit
        assert np.allclose(again.source.file_affine, affine, rtol=4e-16, atol=1e-15)
    image = sitk.ReadImage(str(saved))
    assert np.array_equal(sitk.GetArrayFromImage(image).T, values) and sitk.GetArrayFromImage(image).dtype == dtype
    theirs = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    assert np.allclose(theirs, affine[:3, :3], atol=1e-12)
    assert np.allclose(image.GetOrigin(), affine[:3, 3], atol=1e-12)


def test_every_axis_order_comes_back(tmp_path):
    values = np.random.default_rng(0).integers(0, 9, (3, 4, 5), dtype=np.uint8)
    for axes, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        affine = np.eye(4)
        affine[:3, :3] = np.eye(3)[list(axes)] * np.array(signs) * (0.7, 1.3, 2.9)
        for suffix in (".nrrd", ".mha"):
            again = load_labels(save_labels(on_grid(values, affine), tmp_path / f"a{suffix}"))
            assert np.array_equal(again.source.orientation.undo(again.labels), values)
            assert np.array_equal(again.source.file_affine, affine)


@given(st.text(min_size=1).map(str.strip).filter(lambda s: s and not set(s) & set("\r\0") and s.isprintable()))
@settings(max_examples=60, deadline=None)
def test_any_name_comes_back(tmp_path_factory, name):
    path = tmp_path_factory.mktemp("name") / "a.nrrd"
    grid = Geometry.from_spacing((2, 2, 2), (1.0, 1.0, 1.0))
    save_labels(LabelMap(np.ones((2, 2, 2), np.uint8), grid, names={1: name}), path)
    assert load_labels(path).names == {1: name}


def test_a_line_break_in_a_name_ends_no_header(tmp_path):
    grid = Geometry.from_spacing((2, 2, 2), (1.0, 1.0, 1.0))
    names = {1: "two\n\nlines and a \\n", 2: "C:\\new"}
    saved = save_labels(LabelMap(np.ones((2, 2, 2), np.uint8), grid, names=names), tmp_path / "a.nrrd")
    assert load_labels(saved).names == names
    assert sitk.ReadImage(str(saved)).GetMetaData("Segment0_Name") == names[1]


def test_the_same_labels_give_the_same_bytes(tmp_path):
    labels = on_grid(np.arange(24, dtype=np.uint8).reshape(2, 3, 4), turned(1), names={1: "a"})
    for suffix in (".nrrd", ".mha"):
        first, second = (save_labels(labels, tmp_path / f"{n}{suffix}").read_bytes() for n in "ab")
        assert first == second
