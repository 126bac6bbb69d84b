"""One click through all steps: what opens the gate, what decides between candidates, what stays put."""

from __future__ import annotations

import numpy as np
import pytest

from tapct_core import UserError, load_ct
from tapct_core.embedding import embed
from tapct_core.matching import STEPS, prepare_pair
from tapct_core.matching.matcher import Matcher
from tapct_core.matching.pair import PreparedPair
from tapct_core.matching.prior import Prior, body_points
from tapct_core.synthetic import STANDARD, make_follow_up


@pytest.fixture(scope="module")
def follow_up(data_dir):
    return make_follow_up(load_ct(data_dir / "ct" / "crlm_ct_1006_ct.nii.gz"), STANDARD, seed=41)


@pytest.fixture(scope="module")
def maps(follow_up):
    return embed(follow_up.baseline, None), embed(follow_up.follow_up, None)


@pytest.fixture(scope="module")
def pair(maps) -> PreparedPair:
    return prepare_pair(*maps)


@pytest.fixture(scope="module")
def points(follow_up, pair):
    points = body_points(pair.a, 80, np.random.default_rng(0))
    truth = follow_up.motion.to_follow_up(points)
    index = follow_up.follow_up.geometry.to_index(truth)
    inside = ((index > 4) & (index < np.array(follow_up.follow_up.hu.shape) - 5)).all(axis=1)
    return points[inside][:16], truth[inside][:16]


def with_prior(pair: PreparedPair, motion: np.ndarray) -> PreparedPair:
    """The same scans with a coarse motion that somebody claims, and no pairs to mend it."""
    claimed = Prior(motion, *np.zeros((2, 0, 3)), np.zeros(0), 0.9, 0.1)
    return PreparedPair(pair.a, pair.b, {(("hu",), True): claimed})


def off(found, truth) -> float:
    return float(np.linalg.norm(found.places[0] - truth))


def test_the_whole_algorithm_is_better_than_its_coarse_motion(pair, points):
    matcher = Matcher(pair, frozenset(STEPS), 15.0, 27)
    found = [matcher.find(point, 3) for point in points[0]]
    final = np.array([off(one, t) for one, t in zip(found, points[1], strict=True)])
    prior = np.array([np.linalg.norm(one.expectation.place - t) for one, t in zip(found, points[1], strict=True)])
    assert final.mean() <= prior.mean() + 0.1
    assert final.mean() < 2.0 and (final < 10).all()
    assert all(one.searched == "gate" for one in found)


def test_a_motion_that_is_quite_wrong_is_overruled_and_that_is_said(pair, points):
    """The claimed motion is 120 mm off along the body and rests on no pairs; tissue picked at random is alike in
    places, but what is found outside the gate is mostly right, and what is not was not."""
    wrong = pair.prior(STEPS).motion.copy()
    middle = pair.b.scanned.to_world((np.array(pair.b.scanned.shape) - 1) / 2)[2]
    wrong[2, 3] += 120.0 if points[1][:, 2].mean() < middle else -120.0
    matcher = Matcher(with_prior(pair, wrong), frozenset(STEPS), 15.0, 27)
    found = [matcher.find(point, 3) for point in points[0]]
    right = np.array([off(one, t) < 10 for one, t in zip(found, points[1], strict=True)])
    opened = np.array([one.searched == "whole scan" for one in found])
    assert opened.mean() > 0.3
    assert right[opened].mean() > 0.6
    assert not right[~opened].any()


def test_a_motion_that_is_to_be_trusted_is_not_left_for_a_lookalike(pair, points):
    """However little there is alike near by: another lesion of the same make elsewhere is not this one."""
    matcher = Matcher(pair, frozenset(STEPS), 15.0, 27)
    astray = points[0] + (0.0, 0.0, 8.0)  # what is looked for is not what lies where it is expected
    assert all(matcher.find(point, 3).searched == "gate" for point in astray[pair.a.in_body(astray)])
    (expected,) = matcher._expect(points[0][:1])
    assert matcher._trusted(expected)
    claimed = Matcher(with_prior(pair, np.eye(3, 4)), frozenset(STEPS), 15.0, 27)
    assert not claimed._trusted(claimed._expect(points[0][:1])[0])  # no pairs, no trust


def test_a_motion_off_by_a_few_millimetres_is_mended(pair, points):
    nudged = pair.prior(STEPS).motion.copy()
    nudged[:, 3] += (5.0, -4.0, 3.0)
    matcher = Matcher(with_prior(pair, nudged), frozenset(STEPS), 15.0, 27)
    found = [matcher.find(point, 3) for point in points[0]]
    final = [off(one, t) for one, t in zip(found, points[1], strict=True)]
    claimed = [np.linalg.norm(one.expectation.place - t) for one, t in zip(found, points[1], strict=True)]
    assert np.median(final) < 0.5 * np.median(claimed)


def test_the_way_back_of_a_right_place_ends_at_the_click(pair, points):
    matcher = Matcher(pair, frozenset(STEPS), 15.0, 27)
    right = np.concatenate(matcher.way_back(points[0], list(points[1][:, None])))
    astray = points[1] + (0.0, 0.0, 25.0)
    wrong = np.concatenate(matcher.way_back(points[0], list(astray[:, None])))
    ends = [np.median(np.linalg.norm(way - points[0], axis=1)) for way in (right, wrong)]
    assert ends[0] < 8 < 15 < ends[1]  # HU alone, in tissue picked at random


def test_places_stay_in_the_follow_up_and_come_best_first(pair, points):
    matcher = Matcher(pair, frozenset(STEPS), 15.0, 27)
    for point in points[0][:5]:
        found = matcher.find(point, 3)
        assert pair.b.scanned.contains(found.places).all()
        assert (np.diff(found.scores) <= 1e-9).all()
        assert len(found.places) == len(found.scores) == len(found.ncc) == len(found.linears)


def test_how_far_inside_the_field_of_view_counts_from_the_outer_faces(pair):
    prior = pair.prior(STEPS)
    grid = pair.b.scanned
    centre = (np.array(grid.shape) - 1) / 2
    matcher = Matcher(with_prior(pair, np.eye(3, 4)), frozenset(STEPS), 15.0, 27)
    for z, expected in ((-0.5, 0.0), (3.5, 4 * grid.spacing_mm[0]), (-2.5, -2 * grid.spacing_mm[0])):
        point = grid.to_world((z, centre[1], centre[2]))
        assert matcher._expect(point[None])[0].inside_mm == pytest.approx(expected, abs=1e-6)
    assert prior is pair.prior(STEPS)  # found once


def test_evidence_must_be_there(pair):
    with pytest.raises(UserError, match="no evidence"):
        pair.evidence(("tokens", "prior"))
    assert pair.evidence(STEPS) == ("hu",)
    assert pair.prior(("hu",)) is None
