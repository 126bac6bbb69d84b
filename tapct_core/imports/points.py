"""A table of points: columns name, x, y, z in LPS mm, and where wanted timepoint, uid, role and organ."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import UserError
from ..lesions import ROLES
from ..tables import read_table
from .found import Found, InSpace, made_uid


def read_points(path: Path) -> list[Found]:
    """Each row a finding. Raises UserError that names the line (see :func:`tapct_core.tables.read_table`)."""
    rows = read_table(path, ("x", "y", "z"), numbers="xyz")
    if not rows:
        raise UserError(f"{path.name} has no rows; it needs name,x,y,z in LPS mm")
    return [_row(path, number, *row) for number, row in enumerate(rows, start=1)]


def _row(path: Path, number: int, line: int, row: dict[str, str]) -> Found:
    point = np.array([float(row[axis]) for axis in "xyz"])
    role = row.get("role", "")
    if role not in ROLES:
        raise UserError(f"{path.name}, line {line}: the role {role[:40]!r} is none; give target, non-target or nothing")
    name = row.get("name") or f"point {number}"
    uid, timepoint = row.get("uid", ""), row.get("timepoint", "")
    return Found(path.name, name, uid or made_uid(name, *point, timepoint), (InSpace("POINT", point[None]),),
                 timepoint=timepoint, role=role, organ=row.get("organ", ""))  # fmt: skip
