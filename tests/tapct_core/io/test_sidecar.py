"""Names and colours beside a label map: they follow the image, and a broken file costs only them."""

from __future__ import annotations

import json
from contextlib import suppress
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


class Died(BaseException):
    """As if the process ended here."""


@pytest.mark.parametrize("moment", ["before the sidecar", "before the image", "before the last word"])
@pytest.mark.parametrize("old", [{}, {1: "liver", 2: "spleen"}])
@pytest.mark.parametrize("new", [{}, {1: "tumour"}])
def test_image_and_names_are_both_old_or_both_new(labels, tmp_path, monkeypatch, moment, old, new):
    """A save that ends between any two of its steps; read as it is, and after the next whole save."""
    from tapct_core.io import sidecar

    path = save_labels(replace(labels, names=old), tmp_path / "seg.nii.gz")
    other = replace(labels, labels=labels.labels[::-1].copy(), names=new)
    real, calls = sidecar._write, []

    def write(*args):
        calls.append(args)
        if moment == "before the sidecar" or (moment == "before the last word" and len(calls) == 2):
            raise Died
        real(*args)
        if moment == "before the image":
            raise Died

    with monkeypatch.context() as patched:
        patched.setattr(sidecar, "_write", write)
        patched.setattr(Path, "unlink", lambda *a, **k: (_ for _ in ()).throw(Died()))
        with suppress(Died):
            save_labels(other, path)
    found = load_labels(path)
    whole = [(one.labels.tobytes(), one.names) for one in (replace(labels, names=old), other)]
    assert (found.labels.tobytes(), found.names) in whole
    if calls and moment != "before the last word":
        assert found.names == old
    save_labels(other, path)
    assert load_labels(path).names == new
    assert sorted(p.name for p in tmp_path.iterdir()) == (["seg.labels.json"] if new else []) + ["seg.nii.gz"]


def test_a_disk_that_refuses_the_names_leaves_image_and_names(labels, tmp_path, monkeypatch):
    from tapct_core.errors import UserError
    from tapct_core.io import sidecar

    path = save_labels(replace(labels, names={1: "liver"}), tmp_path / "seg.nii.gz")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(*args):
        raise UserError("no space")

    monkeypatch.setattr(sidecar, "_write", full)
    with pytest.raises(UserError, match="no space"):
        save_labels(replace(labels, labels=labels.labels * 0, names={1: "other"}), path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
