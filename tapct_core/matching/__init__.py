"""The same point in another scan: ranked proposals for points of a baseline in a follow-up.

Features find the place when the image has changed, HU gives the millimetre; the default joins both. A coarse
motion says where to look, the similarity of tokens and of the HU round the point proposes places, votes of
points round the click settle the local motion, and correlation of the correspondingly warped baseline patch
has the last word. Every step has a name and can be left out, for the ablation in benchmarks/lesions/matching/.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..lazy import fetch

if TYPE_CHECKING:
    from .masks import match_each_mask, match_masks
    from .pair import EVIDENCE, STEPS, PreparedPair
    from .points import Match, PointMatch, match_each, match_points, prepare_pair
    from .token_map import similarity_map

__all__ = [
    "EVIDENCE",
    "STEPS",
    "Match",
    "PointMatch",
    "PreparedPair",
    "match_each",
    "match_each_mask",
    "match_masks",
    "match_points",
    "prepare_pair",
    "similarity_map",
]

_WHERE = {
    "EVIDENCE": "pair",
    "STEPS": "pair",
    "Match": "points",
    "PointMatch": "points",
    "PreparedPair": "pair",
    "match_each": "points",
    "match_each_mask": "masks",
    "match_masks": "masks",
    "match_points": "points",
    "prepare_pair": "points",
    "similarity_map": "token_map",
}
"""All of it needs torch, which is loaded when somebody asks for a name and not before."""


def __getattr__(name: str) -> Any:
    return fetch(__name__, _WHERE, name)
