"""Names and colours beside a label map: they follow the image, and a broken file costs only them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tapct_core.geometry import Geometry
from tapct_core.io import load_labels, save_labels
from tapct_core.volume import LabelMap


@pytest.fixture
def labels():
    values = np.random.default_rng(0).integers(0, 200, (4, 5, 6)).astype(np.uint8)
    return LabelMap(values, Geometry.from_spacing((4, 5, 6), (2.0, 1.0, 1.0)))


def test_names_follow_the_image_and_leave_with_it(labels, tmp_path):
    path = tmp_path / "seg.nii.gz"
    save_labels(replace(labels, names={1: "liver", 2: "Leber, links"}, colours={2: (1, 2, 3)}), path)
    again = load_labels(path)
    assert again.names == {1: "liver", 2: "Leber, links"} and again.colours == {2: (1, 2, 3)}
    save_labels(labels, path)
    assert load_labels(path).names == {} and [p.name for p in tmp_path.iterdir()] == ["seg.nii.gz"]


@pytest.mark.parametrize(
    "content", ["", "[]", '{"labels": {"x": {}}}', '{"labels": {"1": {"colour": [1]}}}', "\x00\xff"]
)
def test_a_broken_sidecar_costs_only_the_names(labels, tmp_path, content, caplog):
    path = save_labels(labels, tmp_path / "seg.nii.gz")
    (tmp_path / "seg.labels.json").write_text(content, encoding="latin-1")
    assert np.array_equal(load_labels(path).labels, labels.labels)
    assert "cannot be read" in caplog.text


def test_the_sidecar_is_plain_json(labels, tmp_path):
    save_labels(replace(labels, names={7: "spleen"}), tmp_path / "seg.nii")
    assert json.loads(Path(tmp_path / "seg.labels.json").read_text()) == {"labels": {"7": {"name": "spleen"}}}
