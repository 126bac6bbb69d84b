"""Encoders that other installed packages bring: each an entry point of the group ``tapct.encoders``.

A package's ``pyproject.toml`` names a function without arguments that returns an Encoder:

    [project.entry-points."tapct.encoders"]
    my-net = "my_lab.encoder:make"

From then on ``my-net`` is a name like any other: for ``load_encoder``, for ``--encoder``, in the plugin's list.
Listing them imports nothing of the package; only using one does. Loads no torch.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ..errors import UserError

GROUP = "tapct.encoders"


def installed_encoders() -> dict[str, EntryPoint]:
    """Entry points by name; of two with one name the first that Python finds."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, point)
    return found


def installed_row(point: EntryPoint) -> dict[str, Any]:
    """Its row in ``list_encoders``; what only the package itself can say is None."""
    package = point.dist.name if point.dist else point.module
    return {
        "name": point.name,
        "where": f"{point.value}, of the installed package {package}",
        "folder": None,
        "licence": f"see the package {package}",
        "embed_dim": None,
        "patch_size": None,
        "trained": True,
        "available": True,
        "download_mb": 0,
    }


def call(point: EntryPoint) -> object:
    """What the package's function makes. Raises UserError, naming the function, where it fails."""
    try:
        return point.load()()
    except UserError:
        raise
    except Exception as error:  # somebody else's code may fail in any way, and a person wants one line
        words = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"encoder {point.name}: {point.value} failed ({words}); mend or remove its package") from error
