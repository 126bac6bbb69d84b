"""HU to what an encoder expects: scaling once, grids that stay in place, resampling without aliasing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import map_coordinates

from tapct_core.errors import UserError
from tapct_core.geometry import Geometry
from tapct_core.preprocessing import InputSpec, plan_geometry, resample_hu
from tapct_core.volume import CTVolume


def volume(hu: np.ndarray, spacing=(1.0, 1.0, 1.0), origin=(5.0, -7.0, 11.0)) -> CTVolume:
    return CTVolume(hu.astype(np.int16), Geometry.from_spacing(hu.shape, spacing, origin))


def test_normalise_clips_and_scales_as_the_release_does():
    hu = torch.tensor([-3000, -1024, -1008, 0, 822, 3071], dtype=torch.int16)
    expected = (np.clip(hu.numpy().astype(float), -1008, 822) - -86.8086) / 322.6347
    np.testing.assert_allclose(InputSpec().normalise(hu).numpy(), expected, rtol=1e-6)


def test_normalise_leaves_its_input_alone_and_refuses_what_was_scaled_already():
    hu = torch.tensor([100, -2000], dtype=torch.int16)
    scaled = InputSpec().normalise(hu)
    assert hu.tolist() == [100, -2000]
    with pytest.raises(TypeError, match="normalised already"):
        InputSpec().normalise(scaled)


@pytest.mark.parametrize(
    "wrong", [{"plan": "native"}, {"img_size": (13, 224, 224)}, {"spacing_mm": (0, 1, 1)}, {"clip_hu": (5.0, 5.0)}]
)
def test_a_spec_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError):
        InputSpec(**wrong)


def test_a_spacing_alone_means_the_spacing_plan_and_contradictions_are_user_errors():
    spec = InputSpec()
    assert spec.with_plan(None, (2.5, 2.0, 2.0)).plan == "spacing"
    assert spec.with_plan(None, None) == spec
    for plan, spacing in [("release", (1.0, 1.0, 1.0)), ("native", None), ("spacing", (0.0, 1.0, 1.0))]:
        with pytest.raises(UserError):
            spec.with_plan(plan, spacing)


def test_release_plan_is_224_square_on_the_scans_own_slices_over_the_same_box():
    own = Geometry.from_spacing((31, 512, 400), (3.0, 0.7, 0.9), (-180.0, -170.0, 20.0))
    grid = plan_geometry(own, InputSpec())
    assert grid.shape == (31, 224, 224)
    np.testing.assert_allclose(grid.spacing_mm, (3.0, 0.7 * 512 / 224, 0.9 * 400 / 224))
    for corner in ((-0.5, -0.5, -0.5), tuple(n - 0.5 for n in own.shape)):
        fraction = (np.array(corner) + 0.5) / own.shape
        np.testing.assert_allclose(own.to_world(corner), grid.to_world(fraction * grid.shape - 0.5), atol=1e-9)


def test_spacing_plan_has_exactly_the_spacing_and_the_first_corner():
    own = Geometry.from_spacing((31, 100, 80), (3.0, 0.7, 0.9))
    grid = plan_geometry(own, InputSpec(plan="spacing", spacing_mm=(2.5, 2.0, 2.0)))
    np.testing.assert_allclose(grid.spacing_mm, (2.5, 2.0, 2.0))
    np.testing.assert_allclose(own.to_world((-0.5, -0.5, -0.5)), grid.to_world((-0.5, -0.5, -0.5)), atol=1e-9)
    assert grid.shape == (37, 35, 36)


def test_a_grid_that_is_the_scans_own_changes_no_voxel():
    hu = np.random.default_rng(0).integers(-1024, 3000, (5, 7, 9))
    scan = volume(hu, (2.5, 2.0, 2.0))
    np.testing.assert_array_equal(resample_hu(scan, scan.geometry.respaced((2.5, 2.0, 2.0))), hu)


def test_finer_grids_are_trilinear_interpolation():
    hu = np.random.default_rng(0).integers(-1000, 1000, (9, 12, 14))
    scan = volume(hu, (2.0, 1.5, 1.5))
    target = scan.geometry.respaced((1.3, 0.8, 0.9))
    index = scan.geometry.to_index(target.to_world(np.moveaxis(np.indices(target.shape), 0, -1)))
    expected = map_coordinates(hu.astype(float), np.moveaxis(index, -1, 0), order=1, mode="nearest")
    assert np.abs(resample_hu(scan, target) - expected).max() <= 0.51


def test_coarser_grids_average_as_torch_does_with_antialias():
    hu = np.random.default_rng(1).integers(-1000, 1000, (1, 40, 60))
    scan = volume(hu)
    target = scan.geometry.resized((1, 16, 25))
    theirs = F.interpolate(torch.tensor(hu[None].astype(np.float32)), (16, 25), mode="bilinear", antialias=True)
    assert np.abs(resample_hu(scan, target) - theirs[0].numpy()).max() <= 1.0


def test_resampling_does_not_depend_on_how_work_is_cut(monkeypatch):
    import tapct_core.preprocessing as preprocessing

    hu = np.random.default_rng(2).integers(-1000, 1000, (20, 30, 40))
    scan = volume(hu)
    target = scan.geometry.respaced((1.7, 2.1, 0.6))
    whole = resample_hu(scan, target)
    original = preprocessing._resize_axis

    def slice_by_slice(array, axis, size, scale):
        along = 1 if axis == 0 else 0
        parts = np.split(array, array.shape[along], axis=along)
        return np.concatenate([original(part, axis, size, scale) for part in parts], axis=along)

    monkeypatch.setattr(preprocessing, "_resize_axis", slice_by_slice)
    assert np.abs(resample_hu(scan, target).astype(int) - whole).max() <= 1


@pytest.mark.parametrize("spacing", [(2.5, 2.0, 2.0), (0.7, 0.6, 0.9), (4.0, 3.1, 1.2)])
def test_a_bright_spot_stays_at_its_place_in_the_patient(spacing):
    hu = np.zeros((40, 44, 48))
    centre = np.array((19, 23, 20))
    blob = np.exp(-0.5 * (((np.indices(hu.shape).T - centre) ** 2).sum(-1).T) / 3.0**2)
    scan = volume(1000 * blob)
    target = scan.geometry.respaced(spacing)
    seen = resample_hu(scan, target).astype(float)
    index = (np.indices(target.shape) * seen).reshape(3, -1).sum(axis=1) / seen.sum()
    np.testing.assert_allclose(target.to_world(index), scan.geometry.to_world(centre), atol=0.05)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 30, 30), (50, 2, 3)])
def test_constant_scans_stay_constant_whatever_their_shape(shape):
    scan = volume(np.full(shape, -777), (5.0, 0.7, 0.7))
    for spec in (InputSpec(), InputSpec(plan="spacing", spacing_mm=(2.5, 2.0, 2.0))):
        hu = resample_hu(scan, plan_geometry(scan.geometry, spec))
        assert hu.dtype == np.int16 and (hu == -777).all()
