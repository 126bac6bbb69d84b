"""What an encoder's ``config.json`` says of it by itself: its input, and which weights it belongs to. No torch.

Enough to find an encoder's features in the cache without loading it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UserError
from ..geometry import Shape
from ..preprocessing import InputSpec
from ..strict_json import read_json
from .hub import CONFIG_FILE, WEIGHTS_FILE

BLOCKS_KEY, SCALES_KEY = "output_blocks", "output_scales"
"""Which blocks make up a token, and a factor for each: see outputs.py."""


class Written(NamedTuple):
    """An encoder as its folder describes it; ``name`` and ``weights_hash`` as those of the loaded Encoder."""

    name: str
    weights_hash: str
    spec: InputSpec


def written_encoder(folder: Path, name: str | None = None) -> Written | None:
    """The encoder in a folder, or None where its config does not say which weights it belongs to (the release's).

    Whether weights and config belong together is checked when the encoder is loaded, not here.
    Raises UserError where the config cannot be read.
    """
    path = Path(folder) / CONFIG_FILE
    config = read_config(path)
    digest, sizes = config.get("weights_sha256"), [config.get(key) for key in ("patch_size", "img_size")]
    if not isinstance(digest, str) or not all(isinstance(size, list) and len(size) == 3 for size in sizes):
        return None
    spec = read_input(config, *(tuple(size) for size in sizes), path)
    return Written(name or str(config.get("name", Path(folder).resolve().name)), digest, spec)


def read_config(path: Path) -> dict[str, Any]:
    """A ``config.json`` as a dict; raises UserError when it is missing or no JSON object."""
    try:
        config = read_json(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; an encoder is a folder with {CONFIG_FILE} and {WEIGHTS_FILE}") from None
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}); fetch or export it again") from None
    if not isinstance(config, dict):
        raise UserError(f"{path} is not a JSON object; fetch or export it again")
    return config


def read_input(config: Mapping[str, Any], patch_size: Shape, img_size: Shape, path: Path) -> InputSpec:
    """InputSpec from the config, of a network of this patch and window.

    Keys that it lacks take the TAP-CT release's values. Raises UserError naming the key that is wrong.
    """
    default = InputSpec()
    try:
        return InputSpec(
            patch_size=patch_size,
            img_size=img_size,
            clip_hu=_floats(config, "clip_hu", default.clip_hu, path),
            mean_hu=number(config, "mean_hu", default.mean_hu, path),
            std_hu=number(config, "std_hu", default.std_hu, path),
            plan=config.get("plan", default.plan),
            spacing_mm=_floats(config, "spacing_mm", default.spacing_mm, path),
        )
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{path}: {error}; correct the file") from None


def number(config: Mapping[str, Any], key: str, default: float, path: Path) -> float:
    """A finite number of the config, or the default. Raises UserError naming the key."""
    return _floats({key: [config[key]]} if key in config else {}, key, (default,), path)[0]


def _floats(config: Mapping[str, Any], key: str, default: tuple[float, ...], path: Path) -> tuple[float, ...]:
    values = config.get(key, default)
    good = isinstance(values, list | tuple) and len(values) == len(default)
    if not good or not all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values):
        raise UserError(f"{path}: {key} is {values!r}, not {len(default)} finite number(s); correct the file")
    return tuple(float(v) for v in values)
