"""How well a label map agrees with the truth."""

from __future__ import annotations

import numpy as np

from ..errors import UserError
from ..volume import LabelMap


def dice_report(prediction: LabelMap, truth: LabelMap, classes: tuple[int, ...] | None = None) -> dict:
    """Dice per class and their mean: {"mean_dice", "classes": {value: {"name", "dice", "voxels", "voxels_truth"}}}.

    ``classes``: which labels to list; default, all above 0 that the truth holds. A class that the truth does not hold
    has no Dice (None) and does not enter the mean, whether or not it was found: its voxels say so.
    Raises UserError when the two lie on different grids.
    """
    if not prediction.geometry.matches(truth.geometry):
        raise UserError("prediction and labels lie on different grids; compare them on the grid of one scan")
    top = int(max(prediction.labels.max(), truth.labels.max(), *(classes or (0,)))) + 1
    ours = np.bincount(prediction.labels.reshape(-1), minlength=top)
    theirs = np.bincount(truth.labels.reshape(-1), minlength=top)
    both = np.bincount(truth.labels[prediction.labels == truth.labels], minlength=top)
    values = [int(v) for v in np.flatnonzero(theirs) if v > 0] if classes is None else list(classes)
    rows = {}
    for value in values:
        total = int(ours[value] + theirs[value])
        rows[value] = {
            "name": truth.names.get(value) or prediction.names.get(value) or str(value),
            "dice": 2 * int(both[value]) / total if theirs[value] else None,
            "voxels": int(ours[value]),
            "voxels_truth": int(theirs[value]),
        }
    found = [row["dice"] for row in rows.values() if row["dice"] is not None]
    return {"mean_dice": float(np.mean(found)) if found else None, "classes": rows}
