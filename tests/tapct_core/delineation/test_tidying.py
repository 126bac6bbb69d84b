"""Stray pieces go, twins and painted pieces stay, small holes are filled."""

from __future__ import annotations

import numpy as np

from tapct_core.delineation.tidying import HOLE_MM3, tidied

CELL_MM3 = 8.0


def scene():
    """A painted block of class 1, a twin, a crumb, and a block of class 2 with a crumb of class 1 in it."""
    labels = np.zeros((10, 20, 40), np.int16)
    labels[2:8, 2:8, 2:8] = 1
    labels[2:8, 2:8, 30:36] = 1
    labels[4, 15, 3] = 1
    labels[2:8, 11:19, 15:25] = 2
    labels[4:6, 14:16, 19:21] = 1
    prior = np.zeros((3, *labels.shape), np.float32)
    for k in range(3):
        prior[k] = 0.9 * (labels == k)
    seeds = np.zeros(labels.shape, np.int32)
    seeds[4, 4, 4], seeds[4, 12, 18], seeds[0, 0, 0] = 2, 3, 1
    return labels, prior, seeds


def test_crumbs_become_what_lies_round_them_and_a_twin_stays():
    labels, prior, seeds = scene()
    found = tidied(labels, prior, seeds, CELL_MM3)
    assert found[4, 15, 3] == 0 and (found[4:6, 14:16, 19:21] == 2).all()
    assert (found[2:8, 2:8, 30:36] == 1).all()
    assert (found[labels == 2] == 2).all()


def test_a_piece_that_looks_less_like_its_class_is_no_twin():
    labels, prior, seeds = scene()
    prior[1, :, :, 28:] = 0.5
    assert not tidied(labels, prior, seeds, CELL_MM3)[2:8, 2:8, 30:36].any()


def test_a_painted_piece_stays_however_small():
    labels, prior, seeds = scene()
    seeds[4, 15, 3] = 2
    assert tidied(labels, prior, seeds, CELL_MM3)[4, 15, 3] == 1


def test_small_holes_are_filled_unless_painted_and_large_ones_not():
    labels, prior, seeds = scene()
    labels[4, 4:6, 5] = 0
    assert (tidied(labels, prior, seeds, CELL_MM3)[4, 4:6, 5] == 1).all()
    assert not tidied(labels, prior, seeds, HOLE_MM3)[4, 4:6, 5].any()
    seeds[4, 4, 5] = 1
    assert not tidied(labels, prior, seeds, CELL_MM3)[4, 4:6, 5].any()


def test_outside_the_body_stays_outside_and_the_input_as_it_was():
    labels, prior, seeds = scene()
    labels[:, :, 38:] = -1
    before = labels.copy()
    assert (tidied(labels, prior, seeds, CELL_MM3)[:, :, 38:] == -1).all()
    np.testing.assert_array_equal(labels, before)
