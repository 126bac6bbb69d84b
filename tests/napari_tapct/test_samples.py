"""File > Open Sample: both samples open, and the known pairs lie where the volumes have them."""

from __future__ import annotations

import numpy as np

from napari_tapct._samples import make_synthetic
from napari_tapct.demo.follow_up import GONE, GROWN, MARKED, OUTSIDE, STABLE
from napari_tapct.layers import GEOMETRY


def test_breathing_pair_opens_with_its_points(make_napari_viewer_proxy):
    viewer = make_napari_viewer_proxy()
    followup, baseline, points = viewer.open_sample("napari-tapct", "breathing_pair")
    assert baseline.visible and not followup.visible
    assert baseline.data.shape == followup.data.shape == (128, 144, 250)
    assert viewer.dims.nsteps == (128, 144, 250)  # the points do not make the slider's steps finer
    shown = np.array([points.data_to_world(point) for point in points.data[:20]])
    index = np.array([baseline.world_to_data(point) for point in shown])
    lps = baseline.metadata[GEOMETRY].to_world(index)
    np.testing.assert_allclose(shown, np.stack([-lps[:, 2], lps[:, 1], lps[:, 0]], axis=1), atol=1e-3)
    assert list(points.features.columns) == ["name", "x_followup", "y_followup", "z_followup"]


def test_organs_lie_on_their_ct(make_napari_viewer_proxy):
    viewer = make_napari_viewer_proxy()
    image, labels = viewer.open_sample("napari-tapct", "abdomen_pelvis")
    assert labels.metadata[GEOMETRY].matches(image.metadata[GEOMETRY])
    np.testing.assert_array_equal(labels.scale, image.scale)
    spleen = image.data[labels.data == 1]
    assert spleen.size > 1000 and 0 < spleen.mean() < 250  # soft tissue: grid and labels belong together
    row = labels.features[labels.features["index"] == 1]
    assert row["name"].item() == "spleen"


def test_synthetic_follow_up_comes_with_the_lesions_it_knows(make_napari_viewer, qtbot):
    from napari_tapct.session import session_of

    viewer = make_napari_viewer()
    viewer.open_sample("napari-tapct", "synthetic_follow_up")
    qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=120_000)
    followup, baseline, points = viewer.layers
    known = points.features
    assert len(known) == 12 and {"stable", "grown", "new"} <= set(known["fate"])
    seen = known[known["in_view"] & (known["fate"] != "vanished")]
    places = followup.metadata[GEOMETRY].to_index(seen[["x_followup", "y_followup", "z_followup"]].to_numpy())
    inside = ((places > -0.5) & (places < np.array(followup.data.shape) - 0.5)).all(axis=1)
    assert inside.all()  # what is said to be in view is
    assert len(session_of(viewer).scans) == 2


def test_the_lesions_of_the_story_are_what_it_says_of_them():
    """Whatever changes what is drawn at random changes these; then the story needs another seed and other lesions."""
    points = next(layer for layer in make_synthetic() if layer[1]["name"] == "lesions with known follow-up")
    columns = points[1]["features"]
    lesions = {
        MARKED[name][0]: (fate, in_view)
        for name, fate, in_view in zip(columns["name"], columns["fate"], columns["in_view"], strict=True)
        if name in MARKED
    }
    assert len(lesions) == len(MARKED) and [name for name in lesions if not lesions[name][1]] == [OUTSIDE]
    assert lesions[GROWN][0] == "grown" and lesions[GONE][0] == "vanished"
    assert lesions[STABLE][0] in ("stable", "grown")
