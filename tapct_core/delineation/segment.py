"""``segment``: strokes on a scan to a mask of all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UserError
from ..features import FeatureMap
from ..volume import CTVolume, LabelMap
from .engine import Delineation
from .multigrid import Cancel

if TYPE_CHECKING:
    from ..probe import LinearProbe


def segment(
    volume: CTVolume,
    strokes: LabelMap | None,
    features: FeatureMap | None = None,
    *,
    probe: LinearProbe | None = None,
    cancel: Cancel | None = None,
) -> LabelMap:
    """Labels of a whole scan from ``strokes``, on the scan's own grid, with their names and colours.

    ``strokes``: a label map on the scan's grid, or cut from it, 0 = not painted; the class that is named "background"
    becomes 0 in the result. Painted voxels keep their label. ``features`` of the scan say what places look like beside
    their HU; without them HU do alone. ``probe``: a fitted one says it instead; then ``strokes`` only correct, and may
    be None. The result depends on these alone; the same call gives the same voxels.

    Raises UserError for strokes on another grid or that cannot be told apart (one class, only air), and for a probe
    without its features; WalkCancelled when ``cancel`` says so.
    """
    if strokes is None and probe is None:
        raise UserError("there is nothing to segment from; give strokes, or a fitted probe")
    return Delineation(volume, features, probe).run(strokes, cancel)
