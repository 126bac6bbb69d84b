"""How alike each token is to a query, for display."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import UserError
from ..features import FeatureMap


def similarity_map(features: FeatureMap, query: np.ndarray) -> np.ndarray:
    """Cosine of a query vector (C,), as :meth:`FeatureMap.sample` gives it, with every token, for display.

    -> (Z, Y, X) float32 on ``features.geometry``; NaN where there is no token. Tokens and query are centred
    first: what all tokens share, or owe to their place in the window, says nothing about the anatomy.
    A lesion's mean token (a query from a mask) is as good a query as one point's.
    """
    if features.dim == 0 or not features.valid.any():
        raise UserError("this map holds no tokens, so it has no token similarity; embed with an encoder")
    means = torch.from_numpy(features.window_position_mean)
    places = torch.from_numpy(features.window_places[features.valid].astype(np.int64))
    tokens = torch.from_numpy(features.tokens[features.valid]).float()
    vector = torch.as_tensor(np.asarray(query, dtype=np.float32)) - tokens.mean(dim=0)
    cosine = F.normalize(tokens - means[places], dim=1) @ F.normalize(vector, dim=0)
    out = np.full(features.geometry.shape, np.nan, dtype=np.float32)
    out[features.valid] = cosine.numpy()
    return out
