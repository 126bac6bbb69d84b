"""What response is assessed by, chosen per study by name: one small file each, behind one shape.

A file of this folder with a ``CRITERION`` is one: adding a criterion is adding a file.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from ..study import RECIST
from .criterion import Criterion


def _listed() -> dict[str, Criterion]:
    modules = [import_module(f".{found.name}", __name__) for found in iter_modules(__path__)]
    criteria = [module.CRITERION for module in modules if hasattr(module, "CRITERION")]
    criteria.sort(key=lambda one: (one.name != RECIST, one.name.casefold()))
    return {one.name: one for one in criteria}


CRITERIA = _listed()
"""By the name that a study's file and every export say; what a study that names none is read by comes first."""
