"""Where in a scan does it look like this? Cosine similarity at any position, between the tokens too.

A query is a trilinear mix of tokens, never a single token, so it must be compared with mixes. That is
cheap, because a dot product commutes with interpolation: q . (sum w f) = sum w (q . f). One matrix product
gives the dot products on the lattice, interpolation takes them to a search grid of half-token steps, and
the length of the mixed vectors there does not depend on the query and is computed once a scan. So a scan
matched with itself finds its own mix at cosine 1, whatever the encoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import UserError
from ..features import FeatureMap
from ..geometry import Geometry
from ..provenance import difference

Box = tuple[slice, slice, slice]
CORNERS = np.array(np.meshgrid((0, 1), (0, 1), (0, 1), indexing="ij")).reshape(3, 8).T
NEIGHBOURS = np.array(np.meshgrid((-1, 0, 1), (-1, 0, 1), (-1, 0, 1), indexing="ij")).reshape(3, 27).T
NOWHERE = -1.0
"""The similarity where a scan has nothing to compare: air, or outside the lattice."""


@dataclass(frozen=True, eq=False)
class Keys:
    """One kind of evidence of one scan: a vector at each point of a lattice, centred and short.

    ``vectors`` (Z, Y, X, K) float32, zero where there is nothing to compare; ``geometry`` of that
    lattice; ``grid`` the search grid, whose axes run as the lattice's do; ``name`` for tables.
    """

    name: str
    vectors: torch.Tensor
    geometry: Geometry
    grid: Geometry

    def __post_init__(self) -> None:
        if np.abs(self.geometry.direction - self.grid.direction).max() > 1e-3:
            raise ValueError("the search grid must run along the lattice's own axes")

    @cached_property
    def _steps(self) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Per axis of the search grid: lower lattice index, fraction, and whether it lies on the lattice."""
        steps = []
        for axis in range(3):
            index = np.zeros((self.grid.shape[axis], 3))
            index[:, axis] = np.arange(self.grid.shape[axis])
            along = self.geometry.to_index(self.grid.to_world(index))[:, axis]
            size = self.geometry.shape[axis]
            inside = (along >= -0.5 - 1e-6) & (along <= size - 0.5 + 1e-6)
            along = along.clip(0, size - 1)
            low = np.minimum(along.astype(np.int64), max(size - 2, 0))
            steps.append(
                (torch.from_numpy(low), torch.from_numpy((along - low).astype(np.float32)), torch.from_numpy(inside))
            )
        return steps

    @cached_property
    def inverse_norm(self) -> torch.Tensor:
        """1 / length of the interpolated vector on the search grid, (z, y, x) float32; 0 = nothing there.

        |sum w_i f_i|^2 = sum w_i w_j (f_i . f_j): the products of lattice neighbours, 14 maps of one number
        each instead of K, are all that has to be interpolated.
        """
        squared = torch.zeros(self.grid.shape)
        for offset in NEIGHBOURS[13:]:  # the centre, and one of each pair of opposite neighbours
            products = _neighbour_products(self.vectors, offset)
            for axis, (low, t, _) in enumerate(self._steps):
                products = _mix_products(products, axis, low, t, int(offset[axis]))
            squared += products if not offset.any() else 2 * products
        floor = 1e-6 * float(squared.max())
        inside = torch.ones(self.grid.shape, dtype=torch.bool)
        for axis, (_, _, on) in enumerate(self._steps):
            inside &= on.view([-1 if a == axis else 1 for a in range(3)])
        return torch.where((squared > max(floor, 1e-24)) & inside, squared.clamp_min(1e-24).rsqrt(), torch.zeros(()))

    def _lattice_box(self, box: Box) -> tuple[Box, list[tuple[torch.Tensor, torch.Tensor]]]:
        """The lattice's part that a box of the search grid needs, and the steps relative to it."""
        slices, relative = [], []
        for (low, fraction, _), part, size in zip(self._steps, box, self.geometry.shape, strict=True):
            first, last = int(low[part][0]), int(low[part][-1])
            slices.append(slice(first, min(last + 2, size)))
            relative.append((low[part] - first, fraction[part]))
        return tuple(slices), relative

    def cosines(self, queries: torch.Tensor, box: Box) -> torch.Tensor:
        """Cosine of queries (Q, K) with every position of a box of the search grid -> (Q, z, y, x) float32."""
        (lz, ly, lx), relative = self._lattice_box(box)
        part = self.vectors[lz, ly, lx]
        dots = (part.reshape(-1, part.shape[-1]) @ F.normalize(queries, dim=1).T).T.reshape(
            len(queries), *part.shape[:3]
        )
        inverse = self.inverse_norm[box]
        cosine = _interpolate(dots, relative, axes=(1, 2, 3)).mul_(inverse)
        return cosine.masked_fill_((inverse == 0).expand_as(cosine), NOWHERE)

    def sample(self, points_lps_mm: np.ndarray) -> torch.Tensor:
        """Vectors interpolated at LPS points (N, 3) -> (N, K) float32; zeros outside and in air."""
        shape = np.array(self.geometry.shape)
        index = self.geometry.to_index(points_lps_mm)
        inside = ((index >= -0.5) & (index <= shape - 0.5)).all(axis=1)
        index = index.clip(0, shape - 1)
        low = np.minimum(index.astype(np.int64), np.maximum(shape - 2, 0))
        fraction = (index - low)[:, None]
        weights = np.where(CORNERS == 1, fraction, 1 - fraction).prod(axis=2) * inside[:, None]
        flat = np.ravel_multi_index(
            np.moveaxis(np.minimum(low[:, None] + CORNERS, shape - 1), -1, 0), self.geometry.shape
        )
        gathered = self.vectors.view(-1, self.vectors.shape[-1])[torch.from_numpy(flat.reshape(-1))]
        weights = torch.from_numpy(weights.astype(np.float32))
        return torch.bmm(weights[:, None], gathered.view(len(flat), 8, -1))[:, 0]


def make_keys(name: str, vectors: torch.Tensor, valid: np.ndarray, geometry: Geometry, grid: Geometry) -> Keys:
    """Keys from vectors (Z, Y, X, K) that are centred already; zeroes what is not ``valid``."""
    vectors = vectors * torch.from_numpy(np.ascontiguousarray(valid))[..., None]
    return Keys(name, vectors.contiguous(), geometry, grid)


def surroundings(keys: Keys, name: str) -> Keys:
    """The vector at each lattice point with the eight at the corners about it, each at its place: what lies where.

    Their mean would forget the arrangement, side by side they would be nine times as long. So each is turned to length
    1, multiplied by the random signs of its place, and added up: the product of two such sums is the sum of the nine
    products place by place, but for noise, as different places have unrelated signs (multiply and add: Gayler 1998,
    "Multiplicative binding, representation operators and analogy"). Places are directions in the patient, so that
    lattices stored in another order agree. The other eighteen neighbours add time and no accuracy.
    """
    vectors = keys.vectors
    unit = F.normalize(vectors, dim=-1)
    total = unit * _signs(np.zeros(3), vectors.shape[-1])
    for offset in product(*[(-1, 1) if n > 1 else (0,) for n in vectors.shape[:3]]):
        if any(offset):
            here, there = _shifted(vectors.shape, offset)
            total[here].addcmul_(unit[there], _signs(keys.geometry.direction @ offset, vectors.shape[-1]))
    total *= (vectors != 0).any(dim=-1, keepdim=True)
    return Keys(name, total, keys.geometry, keys.grid)


def _signs(direction_lps: np.ndarray, length: int) -> torch.Tensor:
    """The signs (length,) of a neighbour in this direction, the same in every scan."""
    places = np.rint(direction_lps).astype(int)
    seed = int(np.ravel_multi_index(places.clip(-1, 1) + 1, (3, 3, 3)))
    return torch.from_numpy(np.random.default_rng(seed).choice(np.array((-1.0, 1.0), np.float32), length))


def _shifted(shape: Sequence[int], offset: Sequence[int]) -> tuple[Box, Box]:
    """The part of a lattice whose neighbours at ``offset`` exist, and those neighbours."""
    here = tuple(slice(max(0, -d), n - max(0, d)) for d, n in zip(offset, shape[:3], strict=True))
    there = tuple(slice(max(0, d), n - max(0, -d)) for d, n in zip(offset, shape[:3], strict=True))
    return here, there


def search_grid(lattice: Geometry, step_mm: float = 3.5) -> Geometry:
    """The box of a lattice cut into half-token steps, or finer where half a token exceeds ``step_mm``."""
    factors = [
        max(2, round(pitch / step_mm)) if n > 1 else 1
        for pitch, n in zip(lattice.spacing_mm, lattice.shape, strict=True)
    ]
    return lattice.resized(tuple(n * f for n, f in zip(lattice.shape, factors, strict=True)))


def full_box(grid: Geometry) -> Box:
    """The whole search grid."""
    return tuple(slice(0, n) for n in grid.shape)


def box_round(grid: Geometry, point_lps_mm: np.ndarray, radius_mm: float) -> Box | None:
    """The part of the grid within ``radius_mm`` of a point along each axis; None if there is none."""
    index = grid.to_index(point_lps_mm)
    reach = radius_mm / np.array(grid.spacing_mm)
    low = np.maximum(np.ceil(index - reach), 0).astype(int)
    high = np.minimum(np.floor(index + reach), np.array(grid.shape) - 1).astype(int)
    if (high < low).any():
        return None
    return tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))


Query = Sequence[torch.Tensor]
"""Per kind of evidence, in the order of the Keys, the query vectors (Q, K)."""


def score(keys: Sequence[Keys], queries: Query, weights: Sequence[float], box: Box) -> torch.Tensor:
    """Weighted mean of the cosines over all kinds of evidence in a box -> (Q, z, y, x)."""
    total = None
    for field, query, weight in zip(keys, queries, weights, strict=True):
        part = field.cosines(query, box).mul_(weight)
        total = part if total is None else total.add_(part)
    return total.div_(sum(weights))


def score_at(keys: Sequence[Keys], queries: Query, weights: Sequence[float], points_lps_mm: np.ndarray) -> torch.Tensor:
    """The same score at free positions: query n against points (n, m, 3) -> (n, m)."""
    n, m = points_lps_mm.shape[:2]
    total = torch.zeros(n, m)
    for field, query, weight in zip(keys, queries, weights, strict=True):
        vectors = field.sample(points_lps_mm.reshape(-1, 3)).view(n, m, -1)
        length = torch.linalg.vector_norm(vectors, dim=-1)
        cosine = torch.bmm(vectors, F.normalize(query, dim=1)[:, :, None])[..., 0] / length.clamp_min(1e-12)
        total += weight * torch.where(length > 1e-9, cosine, torch.full((), NOWHERE))
    return total / sum(weights)


def climb(
    keys: Sequence[Keys], queries: Query, weights: Sequence[float], starts_lps_mm: np.ndarray, rounds: int = 6
) -> tuple[np.ndarray, np.ndarray]:
    """Each query's peak found continuously from its start on the search grid -> points (N, 3), scores (N,).

    A pattern search over the 26 neighbours, from half a grid step, which is halved whenever no neighbour is
    better; the score is exact at every position it visits.
    """
    grid = keys[0].grid
    points = np.array(starts_lps_mm, dtype=np.float64)
    best = np.full(len(points), -np.inf)
    step = np.full((len(points), 1, 1), 0.5)
    rows = np.arange(len(points))
    for _ in range(rounds):
        tried = points[:, None] + (NEIGHBOURS * step) @ grid.affine[:3, :3].T
        values = score_at(keys, queries, weights, tried).numpy()
        pick = np.where(values.max(axis=1) > values[:, 13], values.argmax(axis=1), 13)
        points, best = tried[rows, pick], values[rows, pick]
        step = np.where(pick[:, None, None] == 13, step / 2, step)
    return points, best


def scan_cell(keys: Sequence[Keys], queries: Query, weights: Sequence[float], starts_lps_mm: np.ndarray) -> np.ndarray:
    """The best of 7 x 7 x 7 positions within one grid step of each start -> points (N, 3).

    Where neighbouring tokens differ much the score has curved ridges on which a climb stops early.
    """
    ticks = np.arange(-3, 4) / 3
    offsets = np.array(np.meshgrid(ticks, ticks, ticks, indexing="ij")).reshape(3, -1).T @ keys[0].grid.affine[:3, :3].T
    tried = np.asarray(starts_lps_mm)[:, None] + offsets
    values = score_at(keys, queries, weights, tried).numpy()
    return tried[np.arange(len(tried)), values.argmax(axis=1)]


def local_maxima(values: torch.Tensor, count: int) -> np.ndarray:
    """The ``count`` highest places of a map (z, y, x) that no neighbour exceeds -> indices (n, 3), best first."""
    highest = values
    for axis, size in enumerate(values.shape):
        if size > 1:
            first, last = highest.narrow(axis, 0, 1), highest.narrow(axis, size - 1, 1)
            before = torch.cat([first, highest.narrow(axis, 0, size - 1)], axis)
            after = torch.cat([highest.narrow(axis, 1, size - 1), last], axis)
            highest = torch.maximum(torch.maximum(before, highest), after)
    peaks = torch.nonzero(((values >= highest) & (values > NOWHERE)).view(-1))[:, 0]
    heights = values.view(-1)[peaks]
    order = torch.argsort(heights, descending=True, stable=True)[:count]
    return np.stack(np.unravel_index(peaks[order].numpy(), tuple(values.shape)), axis=1)


def suppress(points: np.ndarray, scores: np.ndarray, radius_mm: float) -> Iterator[int]:
    """Indices of points, best first, leaving out those within ``radius_mm`` of a better one."""
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if all(np.linalg.norm(points[i] - points[j]) >= radius_mm for j in kept):
            kept.append(int(i))
            yield int(i)


def _interpolate(
    values: torch.Tensor, steps: Sequence[tuple[torch.Tensor, torch.Tensor]], axes: Sequence[int]
) -> torch.Tensor:
    """Linear interpolation along ``axes`` at (lower index, fraction) per axis."""
    for axis, (low, fraction) in zip(axes, steps, strict=True):
        below = values.index_select(axis, low)
        if values.shape[axis] == 1:
            values = below
            continue
        above = values.index_select(axis, low + 1)
        shape = [1] * values.ndim
        shape[axis] = -1
        values = torch.lerp(below, above, fraction.view(shape))
    return values


def _neighbour_products(vectors: torch.Tensor, offset: np.ndarray) -> torch.Tensor:
    """f_i . f_(i + offset) for vectors (Z, Y, X, K) -> (Z, Y, X); zero where i + offset lies outside."""
    out = torch.zeros(vectors.shape[:3])
    here, there = _shifted(vectors.shape, offset)
    first, second, target = vectors[here], vectors[there], out[here]
    for i in range(first.shape[0]):
        target[i] = torch.linalg.vecdot(first[i], second[i])
    return out


def _mix_products(products: torch.Tensor, axis: int, low: torch.Tensor, t: torch.Tensor, offset: int) -> torch.Tensor:
    """One axis of the squared length's sum: which neighbours a step mixes, and with what weights."""
    if products.shape[axis] == 1:
        return products.index_select(axis, low) * float(offset == 0)
    shape = [1, 1, 1]
    shape[axis] = -1
    t = t.view(shape)
    if offset:
        return products.index_select(axis, low + (offset < 0)) * (t * (1 - t))
    return products.index_select(axis, low) * (1 - t) ** 2 + products.index_select(axis, low + 1) * t**2


def require_same_encoder(a: FeatureMap, b: FeatureMap) -> None:
    """Raise UserError unless both maps' tokens can be compared: one set of weights, one plan, one spacing."""
    word = difference(a.provenance, b.provenance, (a.dim, b.dim))
    if word == "dim":
        raise UserError(f"the two scans have tokens of {a.dim} and {b.dim} numbers; embed both with the same encoder")
    if word:
        first, second = a.provenance[word], b.provenance[word]
        if word == "weights":
            first, second = a.provenance.get("encoder", first), b.provenance.get("encoder", second)
        remedy = {"plan": "plan", "spacing_mm": "spacing"}.get(word, "encoder")
        raise UserError(
            f"the two scans were embedded with another {word.replace('_', ' ')} each ({first} and {second});"
            f" embed both with the same {remedy}"
        )
