"""Which encoders there are, where their weights lie and under which licence. Loads no torch and asks no network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..strict_json import read_json
from . import hub
from .hub import CONFIG_FILE
from .input_config import BLOCKS_KEY
from .installed import installed_encoders, installed_row

PACKAGED = "tap-ct-xs-3d"
"""The small encoder that travels with the package, and the default."""
UNTRAINED = "untrained-xs-3d"
WEIGHTS_DIR = Path(__file__).parents[1] / "weights"
RELEASE_LICENCE = "CC BY-NC 4.0 (non-commercial use only)"
XS_DIM, XS_PATCH = 192, (4, 4, 4)
"""Token length and patch (z, y, x) of the small encoder."""

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Preset:
    """A released model: where it lives, and what its config may leave unsaid. Triples are (z, y, x).

    ``id_seen`` and ``shape_seen`` tell what was read in code that runs the release from what is
    inferred from its naming and sizes. ``patch_size`` and ``img_size`` None: read from the download.
    """

    repo_id: str
    id_seen: bool
    embed_dim: int
    num_heads: int
    patch_size: Triple | None = None
    img_size: Triple | None = None
    revision: str | None = None
    licence: str = RELEASE_LICENCE

    @property
    def fallback(self) -> dict[str, Any]:
        """Config keys to assume where the downloaded config lacks them; a wrong one fails the strict check."""
        known = {"num_heads": self.num_heads, "img_size": self.img_size and list(self.img_size)}
        return {key: value for key, value in known.items() if value is not None}

    @property
    def download_mb(self) -> int:
        """About how much a download takes: 12 blocks of 12 d² float32 numbers make all but a few percent of a ViT."""
        return round(12 * 12 * self.embed_dim**2 * 4 / 1e6 * 1.03 / 10) * 10


# The one public commit pin names no model of the family, so it is tried for B-3D and, should the hub not
# know it there, replaced by the newest commit as for the others. Heads are DINOv2's 64 channels each.
PRESETS: dict[str, Preset] = {
    "tap-ct-s-2d": Preset("fomofo/tap-ct-s-2d", False, 384, 6),
    "tap-ct-s-2-5d": Preset("fomofo/tap-ct-s-2-5d", True, 384, 6),
    "tap-ct-s-3d": Preset("fomofo/tap-ct-s-3d", True, 384, 6, (4, 8, 8), (12, 224, 224)),
    "tap-ct-b-2d": Preset("fomofo/tap-ct-b-2d", False, 768, 12),
    "tap-ct-b-2-5d": Preset("fomofo/tap-ct-b-2-5d", False, 768, 12),
    "tap-ct-b-3d": Preset(
        "fomofo/tap-ct-b-3d", True, 768, 12, (4, 8, 8), (12, 224, 224), "7694ac2563707791f8fbb098695ec6571cfdbf4a"
    ),
}


OWN_NAMES = (PACKAGED, UNTRAINED, "none", *PRESETS)
"""Names that nobody else's encoder can have."""


def list_encoders() -> list[dict[str, Any]]:
    """What ``load_encoder`` takes by name, for people and scripts; reads no weights, no network and no torch.

    Keys: name, where (its weights), folder (None where there is none), licence, embed_dim and patch_size ([z, y, x]),
    each None until it is known by a download or by loading, trained, available (usable without a network),
    download_mb (0 where nothing needs to be fetched), default.
    """
    packaged = packaged_folder()
    here = packaged.is_dir()
    config = _peek(packaged) if here else {}
    rows = [
        {
            "name": PACKAGED,
            "where": str(packaged) if here else "not in this build",
            "folder": str(packaged) if here else None,
            "licence": config.get("licence", "see the package"),
            "embed_dim": config.get("embed_dim", XS_DIM) * max(1, len(config.get(BLOCKS_KEY, []))),
            "patch_size": config.get("patch_size", list(XS_PATCH)),
            "trained": True,
            "available": here,
            "download_mb": 0,
        },
        {
            "name": UNTRAINED,
            "where": "random numbers from a seed; a control, not for use",
            "folder": None,
            "licence": "none needed",
            "embed_dim": XS_DIM,
            "patch_size": list(XS_PATCH),
            "trained": False,
            "available": True,
            "download_mb": 0,
        },
        *(_preset_row(name, preset) for name, preset in PRESETS.items()),
        *(installed_row(point) for name, point in installed_encoders().items() if name not in OWN_NAMES),
    ]
    default = PACKAGED if here else UNTRAINED
    return [{**row, "default": row["name"] == default} for row in rows]


def packaged_folder() -> Path:
    """Where the packaged encoder lies, or would lie."""
    return WEIGHTS_DIR / PACKAGED


def _preset_row(name: str, preset: Preset) -> dict[str, Any]:
    found = hub.cached(preset.repo_id, preset.revision)
    patch = _peek(found.folder).get("patch_size") if found else None
    online = f"huggingface.co/{preset.repo_id}, not downloaded{'' if preset.id_seen else '; this address is inferred'}"
    return {
        "name": name,
        "where": str(found.folder) if found else online,
        "folder": str(found.folder) if found else None,
        "licence": preset.licence,
        "embed_dim": preset.embed_dim,
        "patch_size": list(preset.patch_size) if preset.patch_size else patch,
        "trained": True,
        "available": found is not None,
        "download_mb": 0 if found else preset.download_mb,
    }


def _peek(folder: Path) -> dict[str, Any]:
    """Its config.json, or nothing where that cannot be read: loading says what is wrong with it."""
    try:
        config = read_json(folder / CONFIG_FILE)
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}
