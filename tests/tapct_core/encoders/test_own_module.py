"""A network of somebody else's goes the whole road: windows, cache, matches, a probe; what is no encoder is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import tapct_core as tc
from tapct_core.embedding import embed_cached
from tapct_core.encoders import untrained_twin
from tapct_core.encoders.own_module import copied_to
from tapct_core.probe import dice_report
from tapct_core.samples import load_sample, load_sample_points
from tapct_core.store import FeatureStore
from tests.tapct_core.encoders.own_network import SPEC, ConvNet, make


def volume_of(shape: tuple[int, int, int], seed: int = 0) -> tc.CTVolume:
    """Noise on the spec's own spacing, so that nothing is resampled."""
    hu = np.random.default_rng(seed).integers(-700, 400, shape).astype(np.int16)
    return tc.CTVolume(hu, tc.Geometry.from_spacing(shape, SPEC.spacing_mm))


def direct(hu: np.ndarray) -> np.ndarray:
    """The network applied by hand to one window -> (Z, Y, X, C)."""
    with torch.inference_mode():
        voxels = SPEC.normalise(torch.tensor(hu))[None, None]
        return ConvNet().eval()(voxels)[0].permute(1, 2, 3, 0).numpy()


def test_tokens_are_the_networks_own():
    volume = volume_of(SPEC.img_size)
    features = tc.embed(volume, make())
    assert features.dim == 24 and features.provenance["encoder"] == "conv-net"
    np.testing.assert_allclose(features.tokens, direct(volume.hu), atol=2e-3)
    np.testing.assert_allclose(features.cls[0], direct(volume.hu).reshape(-1, 24).mean(axis=0), atol=2e-3)


def test_a_scan_smaller_than_the_window_is_seen_with_air_behind_it():
    volume = volume_of((8, 20, 32))
    padded = np.full(SPEC.img_size, -1024, np.int16)
    padded[:8, :20] = volume.hu
    np.testing.assert_allclose(tc.embed(volume, make()).tokens, direct(padded)[:2, :5], atol=2e-3)


def test_the_module_that_was_given_is_left_alone():
    module = ConvNet().train()
    encoder = tc.Encoder.from_module(module, SPEC, name="mine", device="cpu")
    assert module.training and all(p.requires_grad for p in module.parameters())
    assert not encoder.network.training and not any(p.requires_grad for p in encoder.network.parameters())
    before = encoder.weights_hash
    with torch.no_grad():
        module.head.bias += 1
    assert tc.Encoder.from_module(module, SPEC, name="mine", device="cpu").weights_hash != before
    assert encoder.weights_hash == before == make().weights_hash


def test_the_structure_counts_as_well_as_the_weights():
    plain = nn.Sequential(nn.Conv3d(1, 8, 4, stride=4), nn.ReLU())
    other = nn.Sequential(plain[0], nn.Tanh())
    hashes = {tc.Encoder.from_module(m, SPEC, name="n", device="cpu").weights_hash for m in (plain, other)}
    assert len(hashes) == 2
    given = tc.Encoder.from_module(plain, SPEC, name="n", weights_sha256="ab" * 32, device="cpu")
    assert given.weights_hash == "ab" * 32


def test_features_are_kept_and_found_and_other_weights_are_others(tmp_path):
    volume, store = volume_of((16, 40, 40)), FeatureStore(tmp_path)
    made = embed_cached(volume, make(), store=store)
    calls = []
    again = embed_cached(volume, make(), store=store, progress=lambda done, total: calls.append(done))
    assert not calls and np.array_equal(made.tokens, again.tokens)
    other = tc.Encoder.from_module(ConvNet(seed=1), SPEC, name="conv-net", device="cpu")
    assert not np.array_equal(embed_cached(volume, other, store=store).tokens, made.tokens)


def test_it_matches_points_and_segments(tmp_path):
    scans, encoder = load_sample("breathing_pair"), make()
    _, points, truth = load_sample_points()
    before, after = tc.embed(scans["baseline"], encoder), tc.embed(scans["followup"], encoder)
    found = tc.match_points(before, after, points[::20])
    errors = [np.linalg.norm(np.array(one.best.point_lps_mm) - t) for one, t in zip(found, truth[::20], strict=True)]
    assert np.median(errors) < 5

    baseline = scans["baseline"]
    labels = tc.LabelMap((baseline.hu > -400).astype(np.uint8), baseline.geometry, baseline.source, {1: "tissue"})
    probe = tc.LinearProbe.fit([(before, labels)], zero="background")
    probe.save(tmp_path / "tissue.probe")
    predicted = tc.LinearProbe.load(tmp_path / "tissue.probe").predict(before, baseline)
    assert dice_report(predicted, labels)["mean_dice"] > 0.8
    with pytest.raises(tc.UserError, match="embed the scan with the probe's encoder"):
        probe.predict(tc.embed(baseline, untrained_twin(encoder, seed=5)), baseline)


def test_the_twin_has_other_weights_and_the_same_shape():
    encoder = make()
    twin, again = untrained_twin(encoder, seed=1), untrained_twin(encoder, seed=1)
    assert twin.weights_hash == again.weights_hash != encoder.weights_hash and not twin.trained
    assert twin.embed_dim == encoder.embed_dim and twin.spec == encoder.spec

    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.scale = nn.Conv3d(1, 4, 4, stride=4), nn.Parameter(torch.ones(1))

        def forward(self, voxels):
            return self.conv(voxels) * self.scale

    with pytest.raises(tc.UserError, match="scale has no reset_parameters"):
        untrained_twin(tc.Encoder.from_module(Bare(), SPEC, name="bare", device="cpu"))


def test_a_copy_for_another_device_shares_nothing():
    network = make().network
    copy = copied_to(network, torch.device("cpu"))
    copy.module.head.bias += 1
    copy.module.norm.running_mean += 1
    assert not torch.equal(copy.module.head.bias, network.module.head.bias)
    assert not torch.equal(copy.module.norm.running_mean, network.module.norm.running_mean)
    assert not any(p.requires_grad for p in copy.parameters())


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Conv3d(1, 8, 2, stride=2), r"gives \(1, 8, 8, 16, 16\).* must give \(1, C, 4, 8, 8\)"),
        (nn.Sequential(nn.Conv3d(1, 8, 4, stride=4), nn.Flatten()), r"gives \(1, 2048\)"),
        (nn.Conv2d(1, 8, 4), "cannot take a window"),
        (nn.Identity(), r"gives \(1, 1, 16, 32, 32\)"),
    ],
)
def test_what_gives_no_grid_of_tokens_is_refused(module, message):
    with pytest.raises(tc.UserError, match=message):
        tc.Encoder.from_module(module, SPEC, name="n", device="cpu")


def test_not_a_number_names_and_hashes_are_refused():
    broken = ConvNet()
    with torch.no_grad():
        broken.head.bias[0] = float("nan")
    with pytest.raises(tc.UserError, match="not finite"):
        tc.Encoder.from_module(broken, SPEC, name="n", device="cpu")
    for name in ("", " ", "a/b", "tap-ct-xs-3d", "none"):
        with pytest.raises(tc.UserError, match="cannot be called"):
            tc.Encoder.from_module(ConvNet(), SPEC, name=name, device="cpu")
    with pytest.raises(tc.UserError, match="not 64 hexadecimal digits"):
        tc.Encoder.from_module(ConvNet(), SPEC, name="n", weights_sha256="1234", device="cpu")


def test_it_has_no_blocks_and_no_larger_windows():
    encoder = make()
    assert encoder.depth is None
    with pytest.raises(tc.UserError, match="has no blocks to choose"):
        encoder.encode(torch.zeros(1, *SPEC.img_size, dtype=torch.int16), block=0)
    with pytest.raises(tc.UserError, match="more than the"):
        encoder.encode(torch.zeros(1, 16, 64, 32, dtype=torch.int16))
