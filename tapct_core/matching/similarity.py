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
    def along(self) -> tuple[tuple[float, float], ...]:
        """By axis, scale and shift that take an index of the search grid to one of the lattice."""
        first, last = self.geometry.to_index(self.grid.to_world(np.array([[0.0] * 3, [1.0] * 3])))
        return tuple((float(end - start), float(start)) for start, end in zip(first, last, strict=True))

    @cached_property
    def _mixing(self) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Per axis of the search grid: its lower lattice index (G,), what it mixes of the lattice (G, L) and of the
        doubled lattice (G, 2 L - 1), and whether it lies on the lattice (G,)."""
        out = []
        for axis, size in enumerate(self.geometry.shape):
            scale, shift = self.along[axis]
            rows = np.arange(self.grid.shape[axis])
            along = scale * rows + shift
            inside = (along >= -0.5 - 1e-6) & (along <= size - 0.5 + 1e-6)
            along = along.clip(0, size - 1)
            low = np.minimum(along.astype(np.int64), max(size - 2, 0))
            t = (along - low).astype(np.float32)
            mix, squares = np.zeros((len(rows), size), np.float32), np.zeros((len(rows), 2 * size - 1), np.float32)
            mix[rows, low], squares[rows, 2 * low] = 1 - t, (1 - t) ** 2
            if size > 1:
                mix[rows, low + 1], squares[rows, 2 * low + 1], squares[rows, 2 * low + 2] = t, t * (1 - t), t**2
            out.append(tuple(torch.from_numpy(part) for part in (low, mix, squares, inside)))
        return out

    @cached_property
    def doubled(self) -> np.ndarray:
        """What the squared length of a mix is interpolated from: (2 Z - 1, 2 Y - 1, 2 X - 1) float32.

        |sum w_i f_i|^2 = sum w_i w_j (f_i . f_j), and only neighbours are ever mixed. At fraction t between two
        lattice points an axis weighs (1 - t)^2, t (1 - t) and t^2; so the products of all pairs with the same middle
        are added up there, a lattice twice as fine.
        """
        out = torch.zeros([2 * n - 1 for n in self.geometry.shape])
        for offset in NEIGHBOURS[13:]:  # the centre, and one of each pair of opposite neighbours
            here, _ = _shifted(self.vectors.shape, offset)
            products = _neighbour_products(self.vectors, offset)
            middle = tuple(slice(2 * s.start + d, 2 * s.stop + d - 1, 2) for s, d in zip(here, offset, strict=True))
            out[middle] += products if not offset.any() else 2 * products
        return out.numpy()

    @cached_property
    def inverse_norm(self) -> torch.Tensor:
        """1 / length of the interpolated vector on the search grid, (z, y, x) float32; 0 = nothing there."""
        squared = _mixed(torch.from_numpy(self.doubled)[None], [squares for _, _, squares, _ in self._mixing])[0]
        floor = 1e-6 * float(squared.max())
        z, y, x = (inside for *_, inside in self._mixing)
        inside = z[:, None, None] & y[:, None] & x
        return torch.where((squared > max(floor, 1e-24)) & inside, squared.clamp_min(1e-24).rsqrt(), torch.zeros(()))

    def lattice_box(self, box: Box, margin: float = 0.0) -> Box:
        """The lattice's part that a box of the search grid needs, and ``margin`` steps of the grid round it."""
        slices = []
        for axis, (part, size) in enumerate(zip(box, self.geometry.shape, strict=True)):
            scale, shift = self.along[axis]
            first, last = (scale * end + shift for end in (part.start - margin, part.stop - 1 + margin))
            low, high = (int(min(max(end, 0), size - 1)) for end in (first, last))
            slices.append(slice(min(low, max(size - 2, 0)), min(high + 2, size)))
        return tuple(slices)

    def dots(self, queries: torch.Tensor, lattice_box: Box) -> torch.Tensor:
        """Dot products of queries (Q, K) with a box of the lattice -> (Q, z, y, x) float32."""
        part = self.vectors[lattice_box]
        return (queries @ part.reshape(-1, part.shape[-1]).T).view(len(queries), *part.shape[:3])

    def mixed(self, dots: torch.Tensor, lattice_box: Box, box: Box) -> torch.Tensor:
        """Dot products on a box of the lattice (Q, z, y, x) -> on the box of the search grid that it serves."""
        return _mixed(dots, [m[1][g, s] for m, g, s in zip(self._mixing, box, lattice_box, strict=True)])

    def cosines(self, queries: torch.Tensor, box: Box) -> torch.Tensor:
        """Cosine of queries (Q, K) with every position of a box of the search grid -> (Q, z, y, x) float32."""
        return score([self], [queries], [1.0], box)

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
    parts = [field.lattice_box(box) for field in keys]
    dots = [k.dots(F.normalize(q, dim=1), part) for k, q, part in zip(keys, queries, parts, strict=True)]
    return score_from(keys, dots, parts, weights, box)


def score_from(
    keys: Sequence[Keys], dots: Sequence[torch.Tensor], parts: Sequence[Box], weights: Sequence[float], box: Box
) -> torch.Tensor:
    """The same from the dot products (Q, z, y, x) of unit queries with a box of each lattice that holds ``box``."""
    total, nowhere = None, None
    for field, dot, part, weight in zip(keys, dots, parts, weights, strict=True):
        share = weight / sum(weights)
        inverse = field.inverse_norm[box]
        mixed = field.mixed(dot, part, box)
        total = mixed.mul_(inverse * share) if total is None else total.addcmul_(mixed, inverse * share)
        missing = (inverse == 0) * (NOWHERE * share)
        nowhere = missing if nowhere is None else nowhere + missing
    return total.add_(nowhere) if bool(nowhere.any()) else total


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
    near = ((points[:, None] - points[None]) ** 2).sum(axis=2) < radius_mm**2
    left = np.ones(len(points), bool)
    for i in np.argsort(-scores, kind="stable"):
        if left[i]:
            left &= ~near[i]
            yield int(i)


def _mixed(values: torch.Tensor, weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """Values (Q, z, y, x) under a matrix an axis, each (new, old) -> (Q, new z, new y, new x)."""
    along_z, along_y, along_x = weights
    q, z, y, x = values.shape
    out = (values.reshape(-1, x) @ along_x.T).view(q * z, y, -1)
    out = torch.matmul(along_y, out).view(q, z, -1)
    return torch.matmul(along_z, out).view(q, len(along_z), len(along_y), len(along_x))


def _neighbour_products(vectors: torch.Tensor, offset: np.ndarray) -> torch.Tensor:
    """f_i . f_(i + offset) for the vectors (Z, Y, X, K) whose neighbour exists -> (z, y, x)."""
    here, there = _shifted(vectors.shape, offset)
    first, second = vectors[here], vectors[there]
    out = torch.empty(first.shape[:3])
    for i in range(len(first)):
        out[i] = torch.linalg.vecdot(first[i], second[i])
    return out


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
