"""Finding on a real pair with known truth: places, what is said, heat map, local motion."""

from __future__ import annotations

import numpy as np
import pytest

from napari_tapct.follow_up.proposals.finder import (
    Evidence,
    OpenScans,
    affine_about,
    heat_map,
    look_for,
    motion_at,
)
from napari_tapct.follow_up.proposals.sentences import explain, title_of
from napari_tapct.layers import ct_image
from napari_tapct.scan import Scan
from tapct_core.errors import UserError
from tapct_core.io import load_ct
from tapct_core.lesions import Finding, Study, Timepoint
from tapct_core.lesions.propagation import run_all
from tapct_core.lesions.timepoints import snapshot
from tapct_core.matching import match_points
from tapct_core.provenance import comparable

NAMES = ("before", "after")


@pytest.fixture(scope="module")
def ready(pair):
    """The two scans of the pair, and evidence that was made ready once."""
    volumes = [load_ct(path) for path in (pair.before, pair.after)]
    scans = dict(zip(NAMES, (Scan(ct_image(v, n), v) for v, n in zip(volumes, NAMES, strict=True)), strict=True))
    evidence = Evidence()
    evidence.pair(*scans.values())
    return evidence, scans


@pytest.fixture
def study(pair) -> Study:
    """Three lesions that a person has marked in the first scan."""
    made = Study("p", [Timepoint(name, f"{name}.nii") for name in NAMES])
    for number, place in enumerate(pair.places, start=1):
        made.add_lesion(f"L{number}", "before", tuple(place), "AB")
    return made


def test_lesions_are_found_where_they_went_and_the_one_that_is_gone_is_said_to_be(pair, ready, study):
    evidence, scans = ready
    before = snapshot(study)
    found = [look_for(evidence, study, lesion.uid, "after", scans.get, False) for lesion in study.lesions]
    for one, place in zip(found[:2], pair.places, strict=False):
        np.testing.assert_allclose(one.proposal.point_lps_mm, place + pair.shift_mm, atol=1.5)
        assert one.proposal.state == "proposed" and one.proposal.verdict == "high" and not one.proposal.decided
        assert "probability of" in explain(one.proposal, one) and "within 40 mm" in explain(one.proposal, one)
    gone = found[2]
    assert gone.proposal.state == "disappeared" and gone.proposal.point_lps_mm is None
    assert title_of(gone.proposal).startswith("not found")
    words = explain(gone.proposal, gone)
    assert words.startswith("Not found: it has gone") and "looked for" in words and "HU alone" in words
    assert study == before  # nothing went into the study by itself


def test_what_is_found_equals_the_matching_of_the_library(pair, ready, study):
    evidence, scans = ready
    _, a, b = evidence.pair(*scans.values())
    direct = match_points(a, b, pair.places[:1])[0]
    one = look_for(evidence, study, study.lesions[0].uid, "after", scans.get, False)
    assert one.match == direct and one.source == "before" and one.point_lps_mm == tuple(pair.places[0])


def test_the_heat_map_is_hottest_at_the_lesion(pair, ready):
    evidence, scans = ready
    made, _, _ = evidence.pair(*scans.values())
    for place in pair.places[:2]:
        heat, grid = heat_map(made, place)
        assert heat.shape == grid.shape and heat.dtype == np.float32 and np.nanmax(heat) <= 1 + 1e-5
        hottest = grid.to_world(np.array(np.unravel_index(np.nanargmax(heat), heat.shape)))
        assert np.linalg.norm(hottest - (place + pair.shift_mm)) < 1.5 * max(grid.spacing_mm)


def test_the_heat_map_is_the_cosine_computed_one_by_one(pair, ready):
    evidence, scans = ready
    made, _, _ = evidence.pair(*scans.values())
    heat, _ = heat_map(made, pair.places[0])
    query = made.a.keys["hu"].sample(pair.places[:1])[0].double().numpy()
    vectors = made.b.keys["hu"].vectors.double().numpy()
    for index in ((3, 7, 9), (5, 12, 11), (0, 0, 0)):
        vector = vectors[index]
        length = np.linalg.norm(vector)
        if length == 0:
            assert np.isnan(heat[index])
        else:
            assert heat[index] == pytest.approx(query @ vector / np.linalg.norm(query) / length, abs=1e-5)


def test_the_local_motion_takes_a_lesion_and_its_surroundings_along(pair, ready, study):
    evidence, scans = ready
    made, _, _ = evidence.pair(*scans.values())
    affine = motion_at(made, pair.places[0])
    beside = pair.places[0] + (6, -4, 5)
    for point in (pair.places[0], beside):
        moved = affine[:3, :3] @ point + affine[:3, 3]
        np.testing.assert_allclose(moved, point + pair.shift_mm, atol=2.5)
    one = look_for(evidence, study, study.lesions[0].uid, "after", scans.get, False)
    place = (1.0, 2.0, 3.0)
    np.testing.assert_allclose(one.transform(place) @ [*pair.places[0], 1], [*place, 1], atol=1e-9)


def test_affine_about_keeps_directions():
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    affine = affine_about((1, 2, 3), (10, 20, 30), turn)
    np.testing.assert_allclose(affine @ [1, 2, 3, 1], [10, 20, 30, 1])
    np.testing.assert_allclose(affine @ [2, 2, 3, 1], [10, 21, 30, 1])


def test_a_proposal_that_is_there_stays_unless_asked_anew_and_a_decision_stays_always(ready, study):
    evidence, scans = ready
    uid = study.lesions[0].uid
    study.propose(uid, "after", Finding(point_lps_mm=(0, 0, 0)))
    assert look_for(evidence, study, uid, "after", scans.get, False).proposal is None
    assert look_for(evidence, study, uid, "after", scans.get, True).proposal is not None
    study.accept(uid, "after", "AB")
    assert look_for(evidence, study, uid, "after", scans.get, True).proposal is None


def test_what_cannot_be_looked_for_is_said_in_one_line(pair, ready, study):
    evidence, scans = ready
    newcomer = study.add_lesion("N", "after", tuple(pair.places[0] + pair.shift_mm), "AB")
    with pytest.raises(UserError, match="N is new at after: it was not there before"):
        look_for(evidence, study, newcomer.uid, "after", scans.get, False)
    with pytest.raises(UserError, match="L1 is first marked at before; compare a later scan"):
        look_for(evidence, study, study.lesions[0].uid, "before", scans.get, False)
    with pytest.raises(UserError, match="'after' is not open"):
        look_for(evidence, study, study.lesions[0].uid, "after", {"before": scans["before"]}.get, False)
    study.lesions[0].findings["before"].point_lps_mm = (0.0, 0.0, 900.0)
    with pytest.raises(UserError, match="outside the baseline"):
        look_for(evidence, study, study.lesions[0].uid, "after", scans.get, False)


def test_a_place_in_the_air_is_one_row_with_its_reason(pair, ready, study):
    evidence, scans = ready
    air = scans["before"].volume.geometry.to_world([20, 1, 1])
    study.lesions[0].findings["before"].point_lps_mm = tuple(air.tolist())
    one = look_for(evidence, study, study.lesions[0].uid, "after", scans.get, False)
    assert one.proposal.verdict == "refused" and "air" in one.proposal.reason and not one.proposal.present
    assert title_of(one.proposal) == "refused" and "Not looked for" in explain(one.proposal, one)
    assert not np.isfinite(one.heat).any()


def test_a_place_beyond_the_follow_ups_field_of_view_is_out_of_view(pair, ready, study):
    """The follow-up begins two slices higher: the lowest slices of the baseline are not in it."""
    evidence, scans = ready
    low = np.array(pair.places[0])
    low[2] = scans["before"].volume.geometry.origin_mm[2] + 1.0
    study.lesions[0].findings["before"].point_lps_mm = tuple(low)
    one = look_for(evidence, study, study.lesions[0].uid, "after", scans.get, False)
    assert not one.match.in_view and one.proposal.verdict == "out of view" and one.proposal.point_lps_mm is None
    words = explain(one.proposal, one)
    assert words.startswith("Out of view: its place lies") and "mm outside" in words
    assert title_of(one.proposal) == "out of view"


def test_features_are_used_only_when_both_scans_have_the_same_encoders(ready):
    evidence, scans = ready
    _, a, b = evidence.pair(*scans.values())
    assert a.dim == 0 and not comparable(a, b)  # no tokens: nothing to prefer over HU
    assert evidence.pair(*scans.values())[1] is a  # made once


def test_the_run_through_open_scans_finds_what_looking_for_one_finds(ready, study):
    evidence, scans = ready
    one = look_for(evidence, study, study.lesions[0].uid, "after", scans.get, False)
    steps = list(run_all(snapshot(study), OpenScans(evidence, scans)))
    assert steps[1].findings[study.lesions[0].uid].candidates == one.proposal.candidates
    assert "elsewhere" not in OpenScans(evidence, scans)
