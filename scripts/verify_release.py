"""Compare our encoder with the TAP-CT release's own model, token by token, and print a verdict.

    python scripts/verify_release.py tap-ct-s-3d --trust-release-code
    python scripts/verify_release.py FOLDER --trust-release-code     a release downloaded by hand, code included

This is the one place that runs code that came with the weights (the release's modeling_tapct.py), so it
does nothing without --trust-release-code: read that file first. It needs a network for a hub name, and
`pip install transformers`. Both networks see the same normalised voxels, in float32 on the CPU:
the native window and one with another grid, for which the position table is interpolated.
Exit code 0: they agree. 1: they do not. 2: the comparison could not be made.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tapct_core.encoders import PRESETS, Encoder, load_encoder
from tapct_core.encoders.hub import fetch
from tapct_core.errors import UserError

TOLERANCE = 1e-4
"""Of the release's own token spread: float32 through twelve blocks differs by some 1e-6 between kernels."""


class Difference(NamedTuple):
    """How far ours is from theirs in one output."""

    output: str
    largest: float
    spread: float  # standard deviation of theirs

    @property
    def agrees(self) -> bool:
        return bool(np.isfinite(self.largest)) and self.largest <= TOLERANCE * max(self.spread, 1e-6)


def compare(encoder: Encoder, release: torch.nn.Module, hu: Tensor) -> list[Difference]:
    """Patch tokens, CLS and the hidden states of both networks for int16 HU (1, D, H, W).

    ``release`` is called as its contract says: ``release(pixel_values, output_hidden_states=True)`` with
    ``last_hidden_state`` (1, N, C), ``pooler_output`` (1, C) and, per block, ``hidden_states``. Whether those
    have passed the final LayerNorm is not documented: ours are compared in both forms, the closer one counts.
    """
    voxels = encoder.spec.normalise(hu)[:, None]
    with torch.inference_mode():
        theirs = release(voxels, output_hidden_states=True)
        ours = encoder.vit(voxels)
        found = [
            _difference("patch tokens", ours.patches, theirs["last_hidden_state"]),
            _difference("CLS", ours.cls, theirs["pooler_output"]),
        ]
        states = _get(theirs, "hidden_states")
        for block, raw in enumerate(_raw_states(encoder, voxels)) if states is not None else ():
            if block in (len(states) // 2 - 1, len(states) - 1):
                forms = [("", raw), (" after the final norm", encoder.vit.norm(raw))]
                both = [_difference(f"hidden state {block}{form}", tokens, states[block]) for form, tokens in forms]
                found.append(min(both, key=lambda difference: difference.largest))
    return found


def _raw_states(encoder: Encoder, voxels: Tensor) -> list[Tensor]:
    """Patch tokens after each block, before the final norm, (1, N, C) each."""
    states: list[Tensor] = []
    first = 1 + encoder.vit.config.num_register_tokens
    hooks = [b.register_forward_hook(lambda _, __, out: states.append(out[None, first:])) for b in encoder.vit.blocks]
    try:
        encoder.vit(voxels)
    finally:
        for hook in hooks:
            hook.remove()
    return states


def _get(outputs: object, name: str) -> object:
    return outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)


def _difference(output: str, ours: Tensor, theirs: Tensor) -> Difference:
    if ours.shape != theirs.shape:
        return Difference(f"{output} (shapes {tuple(ours.shape)} and {tuple(theirs.shape)})", float("inf"), 0.0)
    ours, theirs = ours.double(), theirs.double()
    return Difference(output, float((ours - theirs).abs().max()), float(theirs.std()))


def sample_windows(encoder: Encoder) -> dict[str, Tensor]:
    """Two int16 HU windows (1, D, H, W) of a drawn body: the native one, and one two slabs taller."""
    depth, height, width = encoder.spec.img_size
    z, y, x = np.ogrid[: depth + 2 * encoder.spec.patch_size[0], -1 : 1 : height * 1j, -1 : 1 : width * 1j]
    body, lung = (x / 0.9) ** 2 + (y / 0.7) ** 2 < 1, ((abs(x) - 0.4) / 0.3) ** 2 + (y / 0.5) ** 2 < 1
    hu = np.where(body, np.where(lung, -850.0, 40.0), -1000.0) + 20 * z
    hu = hu + np.random.default_rng(0).normal(0, 30, hu.shape)
    windows = torch.from_numpy(hu.clip(-1024, 3071).astype(np.int16))[None]
    return {"native window": windows[:, :depth].contiguous(), "interpolated positions": windows}


def release_model(folder: Path) -> torch.nn.Module:
    """The release's own network with its own code. Runs that code: only behind --trust-release-code."""
    try:
        from transformers import AutoModel
    except ImportError:
        raise UserError("the release's model needs transformers; run: pip install transformers") from None
    return AutoModel.from_pretrained(folder, trust_remote_code=True).float().eval()


def report(differences: Mapping[str, Sequence[Difference]]) -> bool:
    """Prints every difference and the verdict; True when all agree."""
    for window, found in differences.items():
        for item in found:
            verdict = "agrees" if item.agrees else "DIFFERS"
            print(f"{window}: {item.output}: largest error {item.largest:.3g}, spread {item.spread:.3g}: {verdict}")
    whole = all(item.agrees for found in differences.values() for item in found)
    print("VERDICT: our encoder equals the release" if whole else "VERDICT: our encoder is NOT the release's")
    return whole


def main(arguments: list[str] | None = None) -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "encoder", help="a released name of `tapct encoders`, or a folder with the release and its code"
    )
    parser.add_argument("--trust-release-code", action="store_true", help="run the Python that comes with the weights")
    options = parser.parse_args(arguments)
    try:
        if not options.trust_release_code:
            raise UserError("this runs the release's own code; read it, then add --trust-release-code")
        encoder = load_encoder(options.encoder, device="cpu")
        release = release_model(code_folder(options.encoder))
        windows = sample_windows(encoder)
        return 0 if report({name: compare(encoder, release, hu) for name, hu in windows.items()}) else 1
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def code_folder(name: str) -> Path:
    """The release with its code: the folder itself, or the hub's files at the revision that our encoder came from."""
    if name not in PRESETS:
        return Path(name)
    from huggingface_hub import snapshot_download

    preset = PRESETS[name]
    revision = fetch(preset.repo_id, preset.revision).revision
    return Path(
        snapshot_download(preset.repo_id, revision=revision, allow_patterns=["*.py", "*.json", "*.safetensors"])
    )


if __name__ == "__main__":
    raise SystemExit(main())
