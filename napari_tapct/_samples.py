"""File > Open Sample: the packaged CTs as layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari import current_viewer
from napari.layers import Layer
from qtpy.QtCore import QCoreApplication, QEventLoop

from tapct_core.errors import UserError
from tapct_core.hu_windows import LUNG
from tapct_core.samples import load_sample, load_sample_points

from .jobs import Job
from .layers import LayerData, ct_layer, labels_layer, points_layer

if TYPE_CHECKING:
    from tapct_core.volume import CTVolume, LabelMap

SEED = 13
WAIT = "making a follow-up …"


def read(name: str) -> dict[str, CTVolume | LabelMap]:
    """The files of a sample, read off the interface thread while the window goes on; napari waits for the layers."""
    if QCoreApplication.instance() is None:
        return load_sample(name)
    loop = QEventLoop()
    found: list[dict[str, CTVolume | LabelMap]] = []
    job = Job(
        "Opening a sample",
        lambda job: load_sample(name),
        done=found.append,
        failed=lambda error: None,  # napari says what is raised below
        ended=loop.quit,
    )
    job.start()
    loop.exec()
    if not found:
        raise job.error or UserError("napari was closed while the sample was read")
    return found[0]


def breathing_pair() -> list[LayerData]:
    """Two phases of breathing; the follow-up is hidden until somebody shows it. Points mark known pairs."""
    volumes = read("breathing_pair")
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
    )
    return [followup, ct_layer(volumes["baseline"], "baseline", LUNG), points]


def synthetic_follow_up() -> list[LayerData]:
    """A real chest CT with made-up lesions, and the same patient made to come back: where each lesion went is known.

    Making it takes seconds, so an empty layer stands in for it until it is ready; without that napari takes the
    sample for broken.
    """
    viewer = current_viewer()

    def done(layers: list[LayerData]) -> None:
        for one in layers:
            viewer.add_layer(Layer.create(*one))

    def ended() -> None:
        for layer in [layer for layer in viewer.layers if layer.name.startswith(WAIT)]:
            viewer.layers.remove(layer)

    Job("Making a synthetic follow-up", lambda job: make_synthetic(), done=done, ended=ended).start()
    return [(np.zeros((0, 3)), {"name": WAIT, "units": ("mm", "mm", "mm"), "axis_labels": ("z", "y", "x")}, "points")]


def make_synthetic() -> list[LayerData]:
    """The layers of :func:`synthetic_follow_up`; takes seconds."""
    from tapct_core.synthetic import make_follow_up

    made = make_follow_up(load_sample("breathing_pair")["baseline"], seed=SEED)
    followup = ct_layer(made.follow_up, "synthetic follow-up", LUNG)
    followup[1]["visible"] = False
    places = np.array([lesion.baseline_lps_mm for lesion in made.lesions])
    went = np.array([lesion.follow_up_lps_mm for lesion in made.lesions])
    columns = {
        "name": [lesion.name for lesion in made.lesions],
        "fate": [lesion.fate for lesion in made.lesions],
        "in_view": [lesion.in_view for lesion in made.lesions],
        **{axis: went[:, i] for i, axis in enumerate(("x_followup", "y_followup", "z_followup"))},
    }
    points = points_layer(
        made.baseline.geometry,
        places,
        name="lesions with known follow-up",
        features=columns,
        size=5,
        face_color="#ffd166",
    )
    return [followup, ct_layer(made.baseline, "synthetic baseline", LUNG), points]


def abdomen_pelvis() -> list[LayerData]:
    """A CT of abdomen and pelvis under its organ labels, which are TotalSegmentator's output."""
    volumes = read("abdomen_pelvis")
    labels = labels_layer(volumes["labels"], "organs")
    labels[1]["opacity"] = 0.4
    return [ct_layer(volumes["ct"], "abdomen and pelvis"), labels]
