"""Probes on disk: numbers as safetensors, words as JSON in its header and, for people, beside it. Never a pickle."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..atomic import atomic_folder, atomic_path, restore
from ..disk import writing
from ..errors import UserError
from ..files import require_regular
from ..strict_json import JSONError, parse_json
from .model import AnyProbe, Probe, Recipe, Standard

FORMAT, UNCLIPPED = "tapct-probe-3", "tapct-probe-2"
"""What is written; and what is read as well: probes whose columns had no limit."""
TENSORS, WORDS = "probe.safetensors", "probe.json"


def save_probe(probe: Probe, path: str | Path) -> Path:
    """Writes ``path``: one file if it ends in .safetensors, else a folder.

    Raises UserError over anything else that stands there, and DiskFullError.
    """
    path = Path(path)
    check_free(path)
    with writing(path):
        if path.suffix == ".safetensors":
            with atomic_path(path) as part:
                _write(probe, part)
            return path
        with atomic_folder(path) as part:
            _write(probe, part / TENSORS)
            words = json.dumps(_words(probe), indent=2, ensure_ascii=False, allow_nan=False)
            (part / WORDS).write_text(words + "\n", encoding="utf-8")
    return path


def check_free(path: Path) -> None:
    """Raises UserError if saving to ``path`` would replace something that is no probe."""
    if path.is_dir() and (any(path.iterdir()) and not (path / TENSORS).is_file()):
        raise UserError(f"{path} is a folder with other things in it; name another place")
    if path.is_file() and path.suffix != ".safetensors":
        raise UserError(f"{path} is a file and no probe; name another place")


def load_probe(cls: type[AnyProbe], path: str | Path) -> AnyProbe:
    """Reads a probe's folder or file as a ``cls``. Raises UserError if it is not there, damaged, or something else."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    restore(path)
    file = path / TENSORS if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"{path} is no probe; give the folder or .safetensors file that `tapct probe fit` wrote")
    try:
        require_regular(file)
        with safe_open(file, framework="np") as tensors:
            words = parse_json((tensors.metadata() or {}).get("probe", "{}"))
            arrays = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, JSONError, OSError) as error:
        raise UserError(f"{file} is damaged or no probe ({error}); fit it again") from None
    if not isinstance(words, dict):
        raise UserError(f"{file} is damaged or no probe; fit it again")
    if words.get("format") not in (FORMAT, UNCLIPPED):
        raise UserError(f"{file} is not a probe of this version ({words.get('format', 'no format')}); fit it again")
    try:
        return _probe(cls, words, arrays)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{file} is incomplete ({error}); fit it again") from None


def _write(probe: Probe, file: Path) -> None:
    from safetensors.numpy import save_file

    arrays = {
        "weights": probe.weights,
        "constants": probe.constants,
        "mean": probe.standard.mean,
        "std": probe.standard.std,
    }
    save_file(
        {n: np.ascontiguousarray(a) for n, a in arrays.items()},
        file,
        {"probe": json.dumps(_words(probe), allow_nan=False)},
    )


def _words(probe: Probe) -> dict:
    return {
        "format": FORMAT,
        "classes": list(probe.classes),
        "names": {str(value): name for value, name in probe.names.items()},
        "colours": {str(value): [int(c) for c in colour] for value, colour in probe.colours.items()},
        "recipe": asdict(probe.recipe),
        "dim": probe.dim,
        "features": probe.provenance,
        "facts": probe.facts,
        "versions": _versions(),
    }


def _probe(cls: type[AnyProbe], words: dict, arrays: dict[str, np.ndarray]) -> AnyProbe:
    weights, classes = arrays["weights"], tuple(int(c) for c in words["classes"])
    recipe = Recipe(**({"clip": None} if words["format"] == UNCLIPPED else {}), **words["recipe"])
    standard = Standard(arrays["mean"], arrays["std"], recipe.clip)
    if weights.shape != (len(standard.mean), len(classes)) or arrays["constants"].shape != (len(classes),):
        raise ValueError(f"weights of {weights.shape} do not fit {len(classes)} classes")
    return cls(
        classes=classes,
        weights=weights,
        constants=arrays["constants"],
        standard=standard,
        recipe=recipe,
        dim=int(words["dim"]),
        provenance=dict(words["features"]),
        names={int(value): str(name) for value, name in words["names"].items()},
        colours={int(value): tuple(colour) for value, colour in words["colours"].items()},
        facts=dict(words["facts"]),
    )


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {"numpy": np.__version__}
    try:
        versions["napari-tapct"] = version("napari-tapct")
    except PackageNotFoundError:
        versions["napari-tapct"] = "from source"
    return versions
