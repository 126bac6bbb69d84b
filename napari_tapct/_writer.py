"""Saves a labels layer on the grid of the CT that it was drawn on."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari import current_viewer
from napari.layers import Image

from tapct_core.errors import UserError
from tapct_core.io import save_labels

from .layers import labels_from_layer


def write_labels(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """npe2's entry: write a labels layer's ``data`` to ``path``, on the source grid of its CT.

    Raises RuntimeError with the one line of the UserError when the place is unknown; napari
    swallows a ValueError here, and would say that no plugin was found.
    """
    viewer = current_viewer()
    images = [layer for layer in viewer.layers if isinstance(layer, Image)] if viewer else []
    try:
        labels = labels_from_layer(
            data, attributes, [(np.shape(image.data), image.as_layer_data_tuple()[1]) for image in images]
        )
        return [str(save_labels(labels, path))]
    except UserError as error:
        raise RuntimeError(str(error)) from error
