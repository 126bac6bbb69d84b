"""CT in, features out, and what features are good for: the library under napari-tapct.

    import tapct_core as tc

    baseline, followup = tc.load_ct("baseline.nii.gz"), tc.load_ct("followup.nii.gz")
    encoder = tc.load_encoder()
    before, after = tc.embed(baseline, encoder), tc.embed(followup, encoder)
    matches = tc.match_points(before, after, [[-46.0, -112.0, -62.0]])  # LPS mm

World coordinates are LPS+ millimetres, arrays are (z, y, x). For research only; not a medical device.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .lazy import fetch

try:
    __version__ = version("napari-tapct")
except PackageNotFoundError:  # a bare checkout
    __version__ = "0+unknown"

_HOME = {
    "UserError": "errors",
    "Geometry": "geometry",
    "CTVolume": "volume",
    "LabelMap": "volume",
    "load_ct": "io",
    "load_labels": "io",
    "save_labels": "io",
    "InputSpec": "preprocessing",
    "Encoder": "encoders",
    "load_encoder": "encoders",
    "list_encoders": "encoders",
    "FeatureMap": "features",
    "FeatureStore": "store",
    "embed": "embedding",
    "match_points": "matching",
    "match_masks": "matching",
    "LinearProbe": "probe",
    "segment": "delineation.segment",
    "Study": "lesions",
    "load_study": "lesions.study_file",
    "save_study": "lesions.study_file",
    "assess": "lesions.assessment",
    "grow_mask": "lesions.grow",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    return fetch(__name__, _HOME, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
