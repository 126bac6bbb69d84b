"""A table of points: columns name, x, y, z in LPS mm, and where wanted timepoint, uid, role and organ."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..lesions import ROLES
from .found import Found, InSpace, made_uid


def read_points(path: Path) -> list[Found]:
    """Each row a finding. Raises UserError that names the line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.DictReader(text.splitlines(), delimiter="\t" if path.suffix.lower() == ".tsv" else ","))
    except (UnicodeDecodeError, csv.Error):
        raise UserError(f"{path.name} is not a CSV text file; give the columns name,x,y,z") from None
    missing = [column for column in ("x", "y", "z") if not rows or column not in rows[0]]
    if missing:
        raise UserError(f"{path.name} has no rows, or no column {', '.join(missing)}; it needs name,x,y,z in LPS mm")
    return [_row(path, line, row) for line, row in enumerate(rows, start=2)]


def _row(path: Path, line: int, row: dict[str, str]) -> Found:
    try:
        point = np.array([float(row[axis] or "nan") for axis in "xyz"])
    except (TypeError, ValueError):
        point = np.full(3, np.nan)
    role = (row.get("role") or "").strip()
    if not np.isfinite(point).all() or role not in ROLES:
        raise UserError(f"{path.name}, line {line}: x, y, z are LPS mm, role is target, non-target or empty")
    name = (row.get("name") or f"point {line - 1}").strip()
    given = {key: (row.get(key) or "").strip() for key in ("uid", "timepoint", "organ")}
    uid = given["uid"] or made_uid(name, *point, given["timepoint"])
    return Found(path.name, name, uid, (InSpace("POINT", point[None]),), timepoint=given["timepoint"], role=role,
                 organ=given["organ"])  # fmt: skip
