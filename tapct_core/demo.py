"""The whole job on the packaged samples: embed a pair of scans, find points again, show and measure it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .atomic import atomic_path
from .embedding import embed_cached
from .features import FeatureMap
from .matching import Match, match_points, similarity_map
from .pictures import MatchPicture, save_match_page
from .progress import Progress
from .samples import load_sample, load_sample_points
from .store import FeatureStore
from .volume import CTVolume

POINTS = 12
"""Matched points: evenly through the reference points sorted by how far breathing moved them."""
ROWS_A_PAGE = 4


@dataclass(frozen=True)
class DemoResult:
    """Errors in mm of the best candidates, the distances that the points had moved, and the files written."""

    errors_mm: np.ndarray
    moved_mm: np.ndarray
    files: tuple[Path, ...]


def run_demo(encoder, out: Path, progress: Callable[[str], Progress] | None = None) -> DemoResult:
    """Matches the breathing pair's points with ``encoder`` (None: HU alone) and writes everything into ``out``.

    ``matches.csv`` (every candidate and its true error), ``summary.json``, and ``matches-N.png``.
    ``progress(what)`` gives the callback for one scan's embedding.
    """
    volumes = load_sample("breathing_pair")
    names, before, after = load_sample_points()
    order = np.argsort(np.linalg.norm(after - before, axis=1), kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, POINTS).round().astype(int)]
    store = FeatureStore()
    maps = {
        role: embed_cached(volumes[role], encoder, store=store, progress=progress(role) if progress else None)
        for role in ("baseline", "followup")
    }
    found = match_points(maps["baseline"], maps["followup"], before[chosen], top_k=3)
    moved = np.linalg.norm(after - before, axis=1)[chosen]
    errors = np.array([_error(one.best, after[i]) for one, i in zip(found, chosen, strict=True)])

    out.mkdir(parents=True, exist_ok=True)
    rows = [
        _row(names[i], match, after[i])
        for one, i in zip(found, chosen, strict=True)
        for match in one.matches
    ]  # fmt: skip
    with atomic_path(out / "matches.csv") as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    pictures = [
        _picture(
            f"{names[i]}: moved {d:.1f} mm, found within {e:.1f} mm", volumes, maps, before[i], one.matches, after[i]
        )
        for one, i, d, e in zip(found, chosen, moved, errors, strict=True)
    ]
    # The points that breathing moved most come first: the first page is the one people look at.
    pictures.reverse()
    files = [out / "matches.csv", out / "summary.json"]
    for page, start in enumerate(range(0, len(pictures), ROWS_A_PAGE), start=1):
        files.append(out / f"matches-{page}.png")
        save_match_page(pictures[start : start + ROWS_A_PAGE], files[-1])
    with atomic_path(out / "summary.json") as part:
        part.write_text(json.dumps(_summary(encoder, errors, moved), indent=2) + "\n", encoding="utf-8")
    return DemoResult(errors, moved, tuple(files))


def _error(match: Match, truth: np.ndarray) -> float:
    return float(np.linalg.norm(np.array(match.point_lps_mm) - truth))


def _row(name: str, match: Match, truth: np.ndarray) -> dict:
    x, y, z = (round(float(c), 3) for c in match.point_lps_mm)
    return {
        "name": name, "rank": match.rank, "x": x, "y": y, "z": z, "similarity": round(float(match.similarity), 5),
        "cycle_error_mm": round(float(match.cycle_error_mm), 3),
        "confidence": "" if match.confidence is None else round(float(match.confidence), 4),
        "true_error_mm": round(_error(match, truth), 3),
    }  # fmt: skip


def _summary(encoder, errors: np.ndarray, moved: np.ndarray) -> dict:
    return {
        "encoder": encoder.name if encoder else "none (HU alone)",
        "trained": bool(encoder and encoder.trained),
        "points": len(errors),
        "moved_mm_mean": round(float(moved.mean()), 2),
        "error_mm_mean": round(float(errors.mean()), 2),
        "error_mm_median": round(float(np.median(errors)), 2),
        "within_5_mm": int((errors <= 5).sum()),
        "within_10_mm": int((errors <= 10).sum()),
    }


def _picture(
    title: str,
    volumes: dict[str, CTVolume],
    maps: dict[str, FeatureMap],
    point: np.ndarray,
    matches: tuple[Match, ...],
    truth: np.ndarray,
) -> MatchPicture:
    features = maps["followup"]
    similarity = None
    if features.dim:
        similarity = similarity_map(features, maps["baseline"].sample(point[None])[0])
    return MatchPicture(
        title=title,
        baseline=volumes["baseline"],
        followup=volumes["followup"],
        point=point,
        candidates=[np.array(match.point_lps_mm) for match in matches],
        similarity=similarity,
        similarity_geometry=features.geometry,
        truth=truth,
    )
