"""The online scores: labels land on their tokens, classifiers agree with known ones, guessing scores as guessing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier

from tapct_core.errors import UserError
from tapct_core.geometry import Geometry
from tapct_core.preprocessing import InputSpec
from tapct_core.vit import VisionTransformer3D, ViTConfig
from training.run.config import CaseConfig
from training.run.online import OnlineProbe, balanced, judge, knn, linear, slabs, tissue_labels, token_labels


def test_token_labels_are_majorities_on_any_grid():
    # labels of 12 mm cubes on a 1 mm grid; tokens of 4 mm: each lies wholly in one cube
    labels = np.kron(np.arange(8).reshape(2, 2, 2), np.ones((12, 12, 12), dtype=int))
    geometry = Geometry.from_spacing(labels.shape, (1, 1, 1), (5, 6, 7))
    found = token_labels(geometry.pooled((4, 4, 4)), labels, geometry)
    assert np.array_equal(found, np.kron(np.arange(8).reshape(2, 2, 2), np.ones((3, 3, 3), dtype=int)))
    # a token over the border between two labels, half and half, is nobody's
    shifted = geometry.cropped((2, 0, 0), (20, 24, 24)).pooled((4, 4, 4))
    assert (token_labels(shifted, labels, geometry)[2] == -1).sum() in (0, 36)
    outside = Geometry.from_spacing((2, 2, 2), (4, 4, 4), (500, 0, 0))
    assert (token_labels(outside, labels, geometry) == -1).all()


def test_slabs_leave_a_gap_between_folds():
    geometry = Geometry.from_spacing((40, 2, 2), (5.0, 8, 8))
    fold = slabs(geometry)[:, 0, 0]
    height = (np.arange(40) + 0.5) * 5
    distance = np.abs(height[fold == 0][:, None] - height[fold == 1][None])
    assert distance.min() >= 10 and (fold == 0).sum() > 10 and (fold == 1).sum() > 10
    assert set(slabs(Geometry.from_spacing((8, 2, 2), (5.0, 8, 8)))[:, 0, 0]) == {-1, 0, 1}


def points(n: int, seed: int, spread: float) -> tuple[torch.Tensor, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    centres = np.random.default_rng(99).normal(size=(3, 6)) * 3
    return torch.from_numpy((centres[labels] + rng.normal(size=(n, 6)) * spread).astype(np.float32)), labels


def test_classifiers_agree_with_scikit_learn():
    (x, y), (new, _) = points(300, 0, 2.0), points(200, 1, 2.0)
    unit = torch.nn.functional.normalize
    one = KNeighborsClassifier(1).fit(unit(x).numpy(), y).predict(unit(new).numpy())
    assert (knn(x, torch.from_numpy(y), new, 3, 1).numpy() == one).mean() == 1
    ridge = Ridge(alpha=1e-2 * len(x)).fit(np.c_[x, np.ones(len(x))], np.eye(3)[y] - 1 / 3)
    ours = linear(x, torch.from_numpy(y), new, 3).numpy()
    assert (ours == ridge.predict(np.c_[new, np.ones(len(new))]).argmax(1)).mean() > 0.98


def test_separable_tokens_score_one_and_noise_scores_as_guessing():
    x, y = points(600, 2, 0.1)
    folds = np.arange(600) % 2
    scores = judge(x, y, folds)
    assert scores["knn"] == scores["linear"] == 1 and scores["classes"] == 3
    noise = judge(
        torch.randn(6000, 6, generator=torch.Generator().manual_seed(0)), np.arange(6000) % 3, np.arange(6000) // 3 % 2
    )
    assert noise["knn"] == pytest.approx(1 / 3, abs=0.06) and noise["linear"] == pytest.approx(1 / 3, abs=0.06)


def test_balanced_accuracy_does_not_reward_the_frequent():
    truth = torch.tensor([0] * 90 + [1] * 10)
    assert balanced(torch.zeros(100, dtype=torch.long), truth) == 0.5


def test_tissue_stands_in_for_labels():
    assert tissue_labels(np.array([-1000, -800, -100, 50, 170, 700])).tolist() == [0, 1, 2, 3, 0, 4]


def test_a_real_scan_is_scored_and_the_network_left_as_it_was(data_dir):
    case = CaseConfig(str(data_dir / "ct" / "cip_chest_64_ct.nii.gz"))
    torch.manual_seed(0)
    vit = VisionTransformer3D(ViTConfig(patch_size=(4, 4, 4), img_size=(8, 32, 32), embed_dim=32, depth=2, num_heads=2))
    spec = InputSpec(patch_size=(4, 4, 4), img_size=(8, 32, 32), plan="spacing", spacing_mm=(4, 4, 4))
    vit.train()
    before = {name: value.clone() for name, value in vit.state_dict().items()}
    scores = OnlineProbe((case,)).score(vit, spec)
    assert scores["classes"] >= 3 and 1 / scores["classes"] < scores["linear"] <= 1
    assert vit.training and all(torch.equal(value, before[name]) for name, value in vit.state_dict().items())


def test_mixed_cases_are_refused(data_dir):
    ct = data_dir / "ct"
    cases = (CaseConfig(str(ct / "cip_chest_64_ct.nii.gz")),
             CaseConfig(str(ct / "cip_chest_64_ct.nii.gz"), str(ct / "cip_chest_64_seg.nii.gz")))  # fmt: skip
    with pytest.raises(UserError, match="mixes"):
        OnlineProbe(cases)
