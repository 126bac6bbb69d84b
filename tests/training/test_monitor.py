"""The monitor's arithmetic; the page itself is drawn from a real run in test_export.py."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.errors import UserError
from tapct_core.features import FeatureMap
from tapct_core.geometry import Geometry
from training.monitor import column, components, draw, loss_names


def test_columns_leave_out_what_was_not_finite():
    records = [{"step": 1, "dino": 3.0}, {"step": 2, "dino": None}, {"step": 3, "dino": 2.0}, {"step": 4}]
    assert column(records, "dino") == ([1, 3], [3.0, 2.0])
    assert loss_names(
        [{"kind": "train", "step": 1, "time": 0, "dino": 1, "lr": 2, "effective_rank": 3, "step_s": 1}]
    ) == ["dino"]


def test_components_show_what_tokens_tell_apart():
    tokens = np.random.default_rng(0).normal(size=(4, 6, 6, 16)).astype(np.float16) * 0.01
    tokens[:, :, 3:] += np.arange(16)  # two kinds of tissue
    valid = np.ones((4, 6, 6), dtype=bool)
    valid[0] = False
    geometry = Geometry.from_spacing((4, 6, 6), (8, 8, 8))
    features = FeatureMap(
        tokens, valid, geometry, np.zeros((4, 6, 6), np.int16), geometry, np.zeros((0, 16), np.float16)
    )
    picture = components(features)
    assert picture.shape == (4, 6, 6, 3) and picture.min() >= 0 and picture.max() <= 1
    assert (picture[0] == 0).all()
    left, right = picture[1:, :, :3, 0], picture[1:, :, 3:, 0]
    assert abs(left.mean() - right.mean()) > 0.9


def test_a_run_without_a_log_is_refused(tmp_path):
    with pytest.raises(UserError, match="no log"):
        draw(tmp_path, None, None, tmp_path / "page.png")
