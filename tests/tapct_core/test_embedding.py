"""embed(): tokens stand where they should, whatever the size, the order, the batch, or the mishaps on the way."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from tapct_core.embedding import embed, embed_cached, patch_means, peak_bytes
from tapct_core.encoders import Encoder, untrained_encoder
from tapct_core.errors import UserError
from tapct_core.geometry import Geometry
from tapct_core.io import load_ct
from tapct_core.preprocessing import InputSpec, resample_hu
from tapct_core.progress import EmbeddingCancelled
from tapct_core.sliding_windows import token_weights
from tapct_core.store import FeatureStore
from tapct_core.vit import Tokens, ViTConfig
from tapct_core.volume import CTVolume

PATCH, WINDOW, SPACING = (4, 4, 4), (8, 16, 16), (2.5, 2.0, 2.0)


def small_encoder(window=WINDOW, patch=PATCH) -> Encoder:
    config = ViTConfig(patch, window, embed_dim=24, depth=2, num_heads=2, layer_scale_init=1.0)
    return untrained_encoder(config, InputSpec(patch, window, plan="spacing", spacing_mm=SPACING))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return small_encoder()


def noise_scan(shape=(21, 45, 39), seed=0) -> CTVolume:
    hu = np.random.default_rng(seed).integers(-200, 200, shape).astype(np.int16)
    return CTVolume(hu, Geometry.from_spacing(shape, SPACING, (-30.0, 12.0, 400.0)))


@pytest.fixture(scope="module")
def scan() -> CTVolume:
    return noise_scan()


def assert_same(a, b) -> None:
    for name in ("tokens", "valid", "hu", "cls", "windows"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert a.geometry.matches(b.geometry, 0.0) and a.provenance == b.provenance


@dataclass(frozen=True, eq=False)
class MeanEncoder(Encoder):
    """Instead of a network: each token is its patch's mean HU, its place known to the voxel."""

    @property
    def embed_dim(self) -> int:
        return 1

    def encode(self, hu: torch.Tensor, block: int | None = None) -> Tokens:
        grid = tuple(n // p for n, p in zip(hu.shape[1:], self.spec.patch_size, strict=True))
        means = torch.nn.functional.avg_pool3d(hu[:, None].float(), self.spec.patch_size).flatten(1)[..., None]
        return Tokens(means.mean(dim=1), means[:, :0], means, grid)


def as_kind(kind: type, encoder: Encoder, **extra):
    return kind(**{field.name: getattr(encoder, field.name) for field in fields(Encoder)}, **extra)


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_a_window_that_covers_the_volume_gives_what_the_network_gives(overlap):
    encoder = small_encoder()
    scan = noise_scan(WINDOW)
    features = embed(scan, encoder, overlap=overlap)
    whole = encoder.encode(torch.from_numpy(np.array(scan.hu))[None])
    np.testing.assert_allclose(features.tokens, whole.map()[0].numpy(), atol=2e-3)
    np.testing.assert_allclose(features.cls, whole.cls.numpy(), atol=2e-3)
    assert features.windows.tolist() == [[0, 0, 0]]


def test_every_token_is_that_of_the_window_it_lies_deepest_in(encoder, scan):
    features = embed(scan, encoder)
    grid = features.geometry.shape
    assert grid == (6, 12, 10)
    padded = np.full((24, 48, 40), -1024, np.int16)
    padded[:21, :45, :39] = scan.hu
    expected = np.full((*grid, 24), np.nan)
    best = np.full(grid, np.inf)
    for number, start in enumerate(features.windows):
        voxels = tuple(slice(4 * s, 4 * s + n) for s, n in zip(start, WINDOW, strict=True))
        out = encoder.encode(torch.from_numpy(padded[voxels].copy())[None])
        np.testing.assert_allclose(features.cls[number], out.cls[0].numpy(), atol=2e-3)
        for place in np.ndindex(*out.grid):
            token = tuple(start + place)
            # distance from the window's centre, axis by axis, the last axis deciding last; first window wins a tie
            away = sum(abs(2 * p - (n - 1)) for p, n in zip(place, out.grid, strict=True))
            if away < best[token]:
                best[token], expected[token] = away, out.map()[0][place].numpy()
    np.testing.assert_allclose(features.tokens, expected, atol=2e-3)
    assert features.valid.all()


def test_overlapped_tokens_are_the_weighted_mean_of_all_windows(encoder, scan):
    features = embed(scan, encoder, overlap=0.5)
    padded = np.full((24, 48, 40), -1024, np.int16)
    padded[:21, :45, :39] = scan.hu
    sums, weights = np.zeros((6, 12, 10, 24)), np.zeros((6, 12, 10, 1))
    for start in features.windows:
        voxels = tuple(slice(4 * s, 4 * s + n) for s, n in zip(start, WINDOW, strict=True))
        out = encoder.encode(torch.from_numpy(padded[voxels].copy())[None])
        box = tuple(slice(s, s + n) for s, n in zip(start, out.grid, strict=True))
        weight = token_weights(out.grid)[..., None].astype(float)
        sums[box] += weight * out.map()[0].numpy()
        weights[box] += weight
    np.testing.assert_allclose(features.tokens, sums / weights, atol=2e-3)


@pytest.mark.parametrize("overlap", [0.0, 0.6])
def test_the_batch_size_does_not_matter(encoder, scan, overlap):
    one = embed(scan, encoder, overlap=overlap, batch_size=1)
    for size in (3, 1000):
        other = embed(scan, encoder, overlap=overlap, batch_size=size)
        np.testing.assert_allclose(one.tokens, other.tokens, atol=2e-3)
        np.testing.assert_allclose(one.cls, other.cls, atol=2e-3)


@pytest.mark.parametrize("overlap", [0.0, 0.6])
def test_the_order_does_not_matter_to_the_last_bit(encoder, scan, overlap):
    plain = embed(scan, encoder, overlap=overlap, batch_size=2)
    for focus in [scan.geometry.to_world((20, 44, 38)), scan.geometry.to_world((10, 20, 20)), (1e4, 0, 0)]:
        assert_same(plain, embed(scan, encoder, overlap=overlap, batch_size=2, focus_lps_mm=tuple(focus)))


def test_windows_nearest_to_the_focus_go_first(encoder, scan):
    seen = []

    @dataclass(frozen=True, eq=False)
    class Watching(MeanEncoder):
        def encode(self, hu, block=None):
            seen.append(int(hu.max()))
            return super().encode(hu, block)

    hu = scan.hu.copy()
    hu[18, 40, 35] = 3000
    marked = CTVolume(hu, scan.geometry)
    embed(marked, as_kind(Watching, encoder), batch_size=1, focus_lps_mm=tuple(scan.geometry.to_world((18, 40, 35))))
    assert seen[0] == 3000 and max(seen[4:]) < 3000


@pytest.mark.parametrize("shape", [(21, 45, 39), (8, 16, 16), (9, 17, 33), (1, 50, 50), (3, 3, 3), (40, 16, 7)])
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_every_voxel_is_seen_and_every_token_stands_at_its_patch(encoder, shape, overlap):
    scan = noise_scan(shape)
    features = embed(scan, as_kind(MeanEncoder, encoder), overlap=overlap)
    padded = np.full([-(-n // 4) * 4 for n in shape], -1024.0)
    padded[tuple(slice(n) for n in shape)] = scan.hu
    blocks = padded.reshape([n for size in padded.shape for n in (size // 4, 4)])
    np.testing.assert_allclose(features.tokens[..., 0], blocks.mean(axis=(1, 3, 5)), rtol=1e-3, atol=0.05)
    np.testing.assert_allclose(
        features.geometry.to_world((0, 0, 0)), scan.geometry.to_world((1.5, 1.5, 1.5)), atol=1e-9
    )
    np.testing.assert_allclose(features.pitch_mm, (10.0, 8.0, 8.0))


@pytest.mark.parametrize("voxel", [(0, 0, 0), (21, 45, 39), (9, 30, 17), (12, 3, 38)])
def test_an_impulse_is_found_at_its_coordinates(encoder, voxel):
    """Sizes are no multiples of the patch, and the last windows are pulled back."""
    hu = np.full((22, 46, 41), -900, np.int16)
    hu[voxel] = 30000
    scan = CTVolume(hu, Geometry.from_spacing(hu.shape, SPACING, (7.0, 8.0, 9.0)))
    features = embed(scan, as_kind(MeanEncoder, encoder))
    token = np.unravel_index(features.tokens[..., 0].argmax(), features.geometry.shape)
    assert token == tuple(v // 4 for v in voxel)
    offset = features.geometry.to_world(token) - scan.geometry.to_world(voxel)
    assert np.abs(offset).max() <= 1.5 * 2.5


def test_both_plans_lay_tokens_over_the_same_body(data_dir):
    """Each token is the mean HU of its box in the patient, read from the scan itself at 4 x 4 x 4 points."""
    scan = load_ct(data_dir / "ct" / "cip_chest_64_ct.nii.gz")
    encoder = as_kind(MeanEncoder, small_encoder((8, 64, 64), (4, 8, 8)))
    for plan, spacing in [("release", None), ("spacing", (3.0, 2.5, 2.5))]:
        features = embed(scan, encoder, plan, spacing)
        assert features.provenance["plan"] == plan
        inner = features.valid.copy()
        inner[-1], inner[:, -1], inner[:, :, -1] = False, False, False  # these may hold padding
        places = (np.moveaxis(np.indices((4, 4, 4)), 0, -1).reshape(-1, 3) + 0.5) / 4 - 0.5
        points = features.geometry.to_world(np.argwhere(inner)[:, None] + places)
        index = np.moveaxis(scan.geometry.to_index(points), -1, 0)
        expected = map_coordinates(scan.hu.astype(float), index, order=1, mode="nearest").mean(axis=1)
        assert np.abs(features.tokens[inner][:, 0] - expected).mean() < 12  # HU; a shift by one voxel makes it 40


def test_windows_of_air_are_skipped_and_body_is_never_lost(encoder):
    """Air has noise; a crumb of soft tissue that fills 1/12 of one patch is enough to keep its window."""
    rng = np.random.default_rng(0)
    hu = np.rint(rng.normal(-1000, 15, (16, 64, 64))).astype(np.int16)
    hu[2, 20:22, 24:27] = 40
    features = embed(CTVolume(hu, Geometry.from_spacing(hu.shape, SPACING)), encoder)
    assert features.windows.tolist() == [[0, 4, 4]]
    assert features.valid.sum() == 2 * 4 * 4 and features.valid[0, 5, 6]
    assert not features.tokens[~features.valid].any()
    assert len(features.cls) == 1


def test_air_is_judged_by_patch_means_over_the_voxels_there_are():
    hu = np.arange(5 * 6 * 7).reshape(5, 6, 7).astype(np.int16)
    means = patch_means(hu, (4, 4, 4))
    assert means.shape == (2, 2, 2)
    for z, y, x in np.ndindex(2, 2, 2):
        own = hu[4 * z : 4 * z + 4, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
        assert means[z, y, x] == pytest.approx(own.mean(), rel=1e-6)


@pytest.mark.parametrize("use", ["encoder", None])
def test_a_scan_of_air_is_refused(encoder, use):
    scan = CTVolume(np.full((8, 16, 16), -1000, np.int16), Geometry.from_spacing((8, 16, 16), SPACING))
    with pytest.raises(UserError, match="nothing but air"):
        embed(scan, encoder if use else None)


def test_hu_beside_coarse_tokens_are_as_fine_as_the_scan_and_no_finer_than_needed(encoder):
    hu = np.random.default_rng(0).integers(-100, 200, (30, 60, 60)).astype(np.int16)
    for own, kept in (
        ((1.0, 0.7, 0.7), (2.5, 2.0, 2.0)),
        ((5.0, 2.4, 2.4), (4.0, 2.4, 2.4)),
        ((4, 3.8, 3.8), (4, 4, 4)),
    ):
        scan = CTVolume(hu, Geometry.from_spacing(hu.shape, own, (0.0, 0.0, 0.0)))
        features = embed(scan, encoder, spacing_mm=(4.0, 4.0, 4.0))
        assert features.hu_geometry.spacing_mm == pytest.approx(kept), own
        np.testing.assert_array_equal(features.hu, resample_hu(scan, features.hu_geometry))
        patch = np.array(encoder.spec.patch_size) * 4.0
        assert features.pitch_mm == pytest.approx(tuple(patch))  # the tokens are those of the plan


def test_without_an_encoder_the_map_carries_hu_alone(scan):
    features = embed(scan, None)
    assert features.dim == 0 and features.valid.all() and features.cls.shape == (len(features.windows), 0)
    assert features.pitch_mm == pytest.approx((10.0, 8.0, 8.0))
    np.testing.assert_array_equal(features.hu, scan.hu)
    assert features.provenance["encoder"] == features.provenance["weights"] == "none"
    assert embed(scan, None, spacing_mm=(3, 3, 3)).hu_geometry.spacing_mm == pytest.approx((3, 3, 3))
    with pytest.raises(UserError, match="only the spacing plan"):
        embed(scan, None, plan="release")


def test_provenance_tells_what_was_done_and_nothing_of_where_or_when(encoder, scan):
    features = embed(scan, encoder, spacing_mm=(3.0, 2.0, 2.5), overlap=0.25)
    facts = features.provenance
    assert facts["encoder"] == encoder.name and facts["weights"] == encoder.weights_hash
    assert facts["scan"] == scan.content_hash
    assert (facts["plan"], facts["spacing_mm"], facts["overlap"]) == ("spacing", "3 2 2.5", "0.25")
    assert facts["patch_size"] == "4 4 4" and facts["window"] == "8 16 16"
    assert all(isinstance(key, str) and isinstance(value, str) for key, value in facts.items())
    assert set(facts) >= {"key", "code_version"} and not {"path", "date", "time", "host"} & set(facts)


def test_a_spacing_that_would_fill_the_memory_is_refused(encoder, scan):
    with pytest.raises(UserError, match="coarser"):
        embed(scan, encoder, spacing_mm=(0.01, 0.01, 0.01))


def test_progress_counts_to_the_end_and_cancel_stops_at_once(encoder, scan, tmp_path):
    calls = []
    embed(scan, encoder, batch_size=4, progress=lambda done, total: calls.append((done, total)))
    total = calls[0][1]
    assert calls[0][0] == 0 and calls[-1] == (total, total) and [d for d, _ in calls] == sorted(d for d, _ in calls)
    done = []
    with pytest.raises(EmbeddingCancelled, match=f"of {total} windows"):
        embed(scan, encoder, batch_size=4, progress=lambda d, t: done.append(d), cancel=lambda: max(done) >= 8)
    assert max(done) == 8
    assert not list(tmp_path.iterdir())


@dataclass(frozen=True, eq=False)
class FullGpu(Encoder):
    """A device that holds ``room`` windows."""

    room: int = 0

    def encode(self, hu: torch.Tensor, block: int | None = None) -> Tokens:
        if len(hu) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().encode(hu, block)

    def to(self, device: torch.device | str) -> Encoder:
        """Main memory has room."""
        assert torch.device(device).type == "cpu"
        return as_kind(Encoder, self)


@pytest.mark.parametrize("room", [3, 1, 0])
def test_a_full_gpu_costs_time_and_nothing_else(encoder, scan, room):
    """Room for no window at all means that the CPU does each of them."""
    reference = embed(scan, encoder, batch_size=1)
    features = embed(scan, as_kind(FullGpu, encoder, room=room), batch_size=8)
    np.testing.assert_allclose(features.tokens, reference.tokens, atol=2e-3)
    np.testing.assert_allclose(features.cls, reference.cls, atol=2e-3)


def test_tokens_that_are_not_numbers_are_an_error_not_a_map(encoder, scan):
    @dataclass(frozen=True, eq=False)
    class Overflowing(Encoder):
        def encode(self, hu, block=None):
            out = super().encode(hu, block)
            return out._replace(patches=out.patches * float("nan"))

    with pytest.raises(UserError, match="no numbers"):
        embed(scan, as_kind(Overflowing, encoder))


def test_the_cache_is_asked_first_and_filled_after(encoder, scan, tmp_path):
    store = FeatureStore(tmp_path / "cache")
    first = embed_cached(scan, encoder, store=store)
    runs = []
    again = embed_cached(scan, encoder, store=store, progress=lambda *_: runs.append(1))
    assert_same(first, again)
    assert not runs
    embed_cached(scan, encoder, store=store, progress=lambda *_: runs.append(1), overlap=0.5)
    embed_cached(scan, encoder, store=store, progress=lambda *_: runs.append(1), rebuild=True)
    assert runs


def test_the_memory_bound_of_a_big_ct_with_b_is_kept():
    """512 x 512 x 600 with 768 channels: besides the volume under 8 GB, in both plans, with overlap too.

    The formula is held against measured runs by benchmarks/network/memory.py.
    """
    for overlap in (0.0, 0.75):
        for checkpoint in (False, True):
            kind = {"checkpoint": checkpoint, "resampled": True}
            scan = (600, 512, 512)
            assert peak_bytes(scan, scan, (150, 64, 64), 768, overlap, **kind) < 7e9
            assert peak_bytes(scan, (600, 224, 224), (150, 28, 28), 768, overlap, **kind) < 7e9
