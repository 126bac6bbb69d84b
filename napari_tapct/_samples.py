"""File > Open Sample: the packaged CTs as layers."""

from __future__ import annotations

from tapct_core.samples import load_sample, load_sample_points

from .layers import LUNG, LayerData, ct_layer, labels_layer, points_layer


def breathing_pair() -> list[LayerData]:
    """Two phases of breathing; the follow-up is hidden until somebody shows it. Points mark known pairs."""
    volumes = load_sample("breathing_pair")
    names, before, after = load_sample_points()
    followup = ct_layer(volumes["followup"], "follow-up", LUNG)
    followup[1]["visible"] = False
    columns = {axis: after[:, i] for i, axis in enumerate(("x_followup", "y_followup", "z_followup"))}
    points = points_layer(
        volumes["baseline"].geometry,
        before,
        name="points with known follow-up",
        features={"name": names, **columns},
        size=3,
        face_color="#ffd166",
        out_of_slice_display=True,
    )
    return [followup, ct_layer(volumes["baseline"], "baseline", LUNG), points]


def abdomen_pelvis() -> list[LayerData]:
    """A CT of abdomen and pelvis under its organ labels, which are TotalSegmentator's output."""
    volumes = load_sample("abdomen_pelvis")
    labels = labels_layer(volumes["labels"], "organs")
    labels[1]["opacity"] = 0.4
    return [ct_layer(volumes["ct"], "abdomen and pelvis"), labels]
