"""The engine: parts and their order, strokes as law, what it is unsure of, and the sentences for too little."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core.delineation import engine
from tapct_core.delineation.engine import Delineation
from tapct_core.delineation.multigrid import WalkCancelled
from tapct_core.errors import UserError
from tapct_core.volume import LabelMap
from tests.tapct_core.delineation.scene import NAMES, dice, painted, trunk

FINE = (2.5, 0.9, 0.9)


@pytest.fixture(scope="module", params=[(5.0, 2.0, 2.0), FINE], ids=["cells are voxels", "voxels within cells"])
def scan(request):
    volume, truth = trunk(request.param, (16, 48, 56) if request.param != FINE else (30, 108, 124))
    return volume, truth, painted(truth, volume)


def test_strokes_become_masks_with_names_and_without_background(scan):
    volume, truth, strokes = scan
    found = Delineation(volume).run(strokes)
    assert found.geometry is volume.geometry and found.names == {1: "liver", 2: "kidney"}
    assert set(np.unique(found.labels)) == {0, 1, 2}
    assert dice(found.labels, truth, 1) > 0.85 and dice(found.labels, truth, 2) > 0.85


def test_borders_are_finer_than_the_cells():
    volume, truth = trunk(FINE, (30, 108, 124), noise=5.0)
    strokes = painted(truth, volume)
    one = Delineation(volume)
    found = one.run(strokes).labels
    coarse = one.grid.up(one.answer.labels)
    assert one.grid.block == (1, 3, 3)
    assert dice(found, truth, 1) > dice(coarse, truth, 1) + 0.01
    assert dice(found, truth, 1) > 0.96


@pytest.mark.parametrize("view", [None, 0, 11, 10_000])
def test_parts_make_up_the_same_whole_in_whatever_order(scan, view):
    volume, _, strokes = scan
    whole = Delineation(volume).run(strokes).labels
    parts = list(Delineation(volume).update(strokes, view))
    out, times = np.zeros_like(whole), np.zeros(whole.shape, int)
    for part in parts:
        assert part.labels.shape == out[part.region].shape
        if part.final:
            out[part.region] = part.labels
            times[part.region] += 1
    assert (times == 1).all()
    np.testing.assert_array_equal(out, whole)
    shown = min(max(0, view if view is not None else len(whole) // 2), len(whole) - 1)
    assert parts[0].region[0] == slice(shown, shown + 1) and not parts[0].final and not parts[1].final
    assert parts[1].region[0].start <= shown < parts[1].region[0].stop


def test_the_result_does_not_depend_on_what_was_asked_before(scan):
    volume, truth, strokes = scan
    used = Delineation(volume)
    for _ in used.update(painted(truth, volume, (0.5,)), 3):
        pass
    stopped = used.update(strokes, 5)
    next(stopped)
    np.testing.assert_array_equal(used.run(strokes).labels, Delineation(volume).run(strokes).labels)


def test_the_preview_looks_like_the_result(scan):
    volume, truth, strokes = scan
    z = len(truth) // 2
    first = next(iter(Delineation(volume).update(strokes, z)))
    whole = Delineation(volume).run(strokes).labels[z]
    assert (first.labels[0] == whole).mean() > 0.97


def test_painted_voxels_keep_their_labels(scan):
    """Also where they contradict all that the scan looks like, and in single voxels."""
    volume, truth, strokes = scan
    wrong = strokes.labels.copy()
    z = len(truth) // 2
    wrong[z, truth.shape[1] // 2, ::7] = 2
    wrong[0, 0, 0] = 1
    found = Delineation(volume).run(LabelMap(wrong, volume.geometry, names=NAMES)).labels
    painted_voxels = wrong > 0
    assert (found[painted_voxels] == np.where(wrong == 9, 0, wrong)[painted_voxels]).all()
    for part in Delineation(volume).update(LabelMap(wrong, volume.geometry, names=NAMES), z):
        law = np.where(wrong == 9, 0, wrong)[part.region]
        assert (part.labels[painted_voxels[part.region]] == law[painted_voxels[part.region]]).all()


def test_a_cancelled_run_leaves_the_last_answer(scan):
    volume, truth, strokes = scan
    one = Delineation(volume)
    one.run(strokes)
    before = one.answer
    with pytest.raises(WalkCancelled):
        one.run(painted(truth, volume, (0.5,)), cancel=lambda: True)
    assert one.answer is before
    asked = []
    with pytest.raises(WalkCancelled):
        for _ in one.update(strokes, 3, cancel=lambda: asked.append(1) or len(asked) > 4):
            pass


def test_the_least_sure_slice_is_offered_and_never_a_painted_one(scan):
    volume, truth, strokes = scan
    one = Delineation(volume)
    assert one.next_slice() is None and not one.slice_uncertainty().any()
    one.run(strokes)
    unsure = one.slice_uncertainty()
    assert unsure.shape == (len(truth),) and (unsure >= 0).all() and unsure.any()
    assert not strokes.labels[one.next_slice()].any()
    region = (slice(3, 6), slice(None), slice(10, 20))
    np.testing.assert_array_equal(one.uncertainty(region), one.uncertainty()[region])
    assert one.uncertainty().dtype == np.float16


def test_one_class_is_a_sentence_and_no_mask(scan):
    volume, _, strokes = scan
    for value, word in ((1, "only liver is painted"), (9, "only background is painted")):
        one = LabelMap(np.where(strokes.labels == value, value, 0).astype(np.uint8), volume.geometry, names=NAMES)
        with pytest.raises(UserError, match=word):
            Delineation(volume).run(one)
        with pytest.raises(UserError, match=word):
            next(iter(Delineation(volume).update(one)))


def test_without_background_there_is_advice(scan):
    volume, _, strokes = scan
    two = np.where(strokes.labels == 9, 0, strokes.labels).astype(np.uint8)
    one = Delineation(volume)
    found = one.run(LabelMap(two, volume.geometry, names={1: "liver", 2: "kidney"}))
    assert "background" in one.answer.advice and set(np.unique(found.labels)) == {0, 1, 2}
    one.run(strokes)
    assert one.answer.advice == ""


def test_labels_above_255_stay_what_they_are(scan):
    volume, _, strokes = scan
    # The order of the classes stays: sums of the same numbers in another order differ in their last bits.
    far = np.where(strokes.labels == 2, np.uint16(700), strokes.labels.astype(np.uint16))
    found = Delineation(volume).run(LabelMap(far, volume.geometry, names={9: "Background "})).labels
    assert set(np.unique(found)) == {0, 1, 700}
    np.testing.assert_array_equal(np.where(found == 700, 2, found), Delineation(volume).run(strokes).labels)


def test_what_does_not_depend_on_strokes_is_computed_once(scan, monkeypatch):
    volume, truth, strokes = scan
    one = Delineation(volume)
    one.warm_up()
    built = []
    of = engine.WorkGrid.of
    monkeypatch.setattr(engine.WorkGrid, "of", lambda volume: built.append(volume) or of(volume))
    lattices = []
    monkeypatch.setattr(engine.WorkGrid, "lattice_of", lambda *a: lattices.append(a))
    one.run(strokes)
    one.run(painted(truth, volume, (0.5,)))
    assert not built and not lattices
