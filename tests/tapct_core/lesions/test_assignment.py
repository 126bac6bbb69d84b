"""Linking lesions: against brute force, and on the cases that single matches get wrong."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from tapct_core.lesions import Candidate
from tapct_core.lesions.assignment import choose_places, link_findings, shared_places
from tapct_core.lesions.tracking import sureness

ROW = np.array([[x, 0.0, 0.0] for x in (0, 12, 24, 36, 48)])


def test_a_twin_is_told_apart_by_the_distance_to_its_neighbour():
    before = np.array([[0.0, 0, 0], [30, 0, 0]])
    # The second's best candidate is the twin 20 mm further off; its own place comes second.
    candidates = [np.array([[1.0, 0, 0]]), np.array([[51.0, 0, 0], [31.0, 0, 0]])]
    confidences = [np.array([0.95]), np.array([0.6, 0.5])]
    assert choose_places(before, candidates, confidences) == [0, 1]
    assert choose_places(before[1:], candidates[1:], confidences[1:]) == [0]  # alone, nothing speaks against it


def test_two_lesions_do_not_take_one_place():
    before = np.array([[0.0, 0, 0], [15, 0, 0]])
    both = np.array([[0.0, 0, 0], [15, 0, 0]])
    assert choose_places(before, [both, both], [np.array([0.8, 0.3]), np.array([0.6, 0.5])]) == [0, 1]


def test_what_a_person_decided_pulls_its_neighbours():
    before = np.array([[0.0, 0, 0], [20, 0, 0]])
    candidates = [np.array([[0.0, 0, 0], [0, 40, 0]]), np.array([[20.0, 40, 0]])]
    confidences = [np.array([0.6, 0.5]), np.array([1.0])]
    assert choose_places(before, candidates, confidences, np.array([[20.0, 40, 0]]), [1]) == [1, 0]
    assert choose_places(np.zeros((0, 3)), [], []) == []


def test_a_row_moved_by_one_gap_is_not_linked_one_off():
    links = link_findings(ROW, ROW + [11.0, 0, 0])
    assert links.lesion_of == (0, 1, 2, 3, 4)
    assert links.disappeared == ()
    assert links.split == links.merged == {}


def test_new_and_disappeared():
    found = np.array([[1.0, 0, 0], [25, 0, 0], [37, 0, 0], [49, 0, 0], [0, 200, 0]])  # the second is gone
    links = link_findings(ROW, found)
    assert links.lesion_of == (0, 2, 3, 4, None)
    assert links.disappeared == (1,)
    assert links.split == {}
    empty = np.zeros((0, 3))
    assert link_findings(ROW, empty).disappeared == (0, 1, 2, 3, 4)
    assert link_findings(empty, found).lesion_of == (None,) * 5


def test_split_and_merged():
    radii = np.array([10.0, 10.0])
    far = np.array([[0.0, 0, 0], [100, 0, 0]])
    links = link_findings(far, np.array([[-6.0, 0, 0], [8, 0, 0], [100, 0, 0]]), radii)
    assert links.lesion_of == (0, None, 1)
    assert links.split == {1: 0}
    near = np.array([[0.0, 0, 0], [12, 0, 0]])
    links = link_findings(near, np.array([[5.0, 0, 0]]), radii)
    assert sorted((*links.merged, *(i for i in links.lesion_of if i is not None))) == [0, 1]
    assert links.disappeared == ()


def test_of_two_lesions_that_became_one_between_them_the_second_has_merged():
    """Each half is 10 mm off, which is no shift that both have in common."""
    links = link_findings(np.array([[0, 0, 10.0], [0, 0, -10.0]]), np.zeros((1, 3)), np.array([7.5, 7.5]))
    assert len(links.merged) == 1 and links.disappeared == ()
    assert set(links.merged) | {links.lesion_of[0]} == {0, 1}


@pytest.mark.parametrize("seed", range(5))
def test_links_are_as_good_as_the_best_of_all_permutations(seed):
    rng = np.random.default_rng(seed)
    lesions = rng.uniform(0, 60, (4, 3))
    found = (lesions + rng.normal(0, 2, lesions.shape))[rng.permutation(4)]
    links = link_findings(lesions, found, dustbin_mm=500.0)

    def cost(order):
        shift = np.median(found[list(order)] - lesions, axis=0)
        return np.linalg.norm(found[list(order)] - lesions - shift, axis=1).sum()

    linked = tuple(links.lesion_of.index(i) for i in range(4))
    assert cost(linked) == pytest.approx(min(cost(order) for order in permutations(range(4))), rel=1e-6)


@pytest.mark.parametrize("confidences", [(None, None, None), (0.5, 0.7, 0.2)])
def test_the_order_of_matching_stands_where_no_neighbour_speaks_against_it(confidences):
    similarities = (0.4, 0.9, 0.8)  # the order is that of all evidence, not of the similarity alone
    rank = [Candidate((0.0, 0.0, 0.0), s, 1.0, c) for s, c in zip(similarities, confidences, strict=True)]
    sure = sureness(tuple(rank))
    assert (np.diff(sure) <= 0).all()
    places = np.array([[0.0, 0, 0], [80, 0, 0], [90, 0, 0]])
    alone = np.array([[0.0, 0, 0], [0, 300, 0]])
    assert choose_places(alone, [places, places + [0, 300, 0]], [sure, sure]) == [0, 0]


def test_shared_places_name_the_later_lesion():
    before = np.array([[0.0, 0, 0], [30, 0, 0], [31, 0, 0]])
    assert shared_places(np.array([[0.0, 0, 0], [1, 0, 0], [60, 0, 0]]), before) == {1: 0}
    assert shared_places(np.array([[0.0, 0, 0], [30, 0, 0], [30, 0, 0]]), before) == {}  # they were one place before
