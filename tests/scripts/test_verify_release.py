"""The parity script against a release written here by hand: it must agree with the right one and only with that."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from tapct_core.encoders import untrained_encoder
from tapct_core.preprocessing import InputSpec
from tapct_core.vit import ViTConfig

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "verify_release.py"
CONFIG = ViTConfig(
    patch_size=(4, 8, 8), img_size=(12, 32, 32), embed_dim=24, depth=4, num_heads=3, layer_scale_init=0.2
)


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("verify_release", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def encoder():
    return untrained_encoder(CONFIG, InputSpec(patch_size=(4, 8, 8), img_size=(12, 32, 32)))


class Release(torch.nn.Module):
    """The release's contract: patch tokens, CLS and one hidden state a block, with explicit attention."""

    def __init__(self, vit, normed_states: bool = False, flaw: str = "") -> None:
        super().__init__()
        self.vit, self.normed_states, self.flaw = vit, normed_states, flaw

    def forward(self, pixel_values, output_hidden_states=False):
        vit = self.vit
        patches = vit.patch_embed.proj(pixel_values)
        grid = tuple(patches.shape[2:])
        x = torch.cat([vit.cls_token, patches.flatten(2).transpose(1, 2)], dim=1) + vit.position_table(grid)
        x = torch.cat([x[:, :1], vit.register_tokens, x[:, 1:]], dim=1)
        states = []
        for block in vit.blocks:
            q, k, v = block.attn.qkv(block.norm1(x)).unflatten(-1, (3, 3, 8)).permute(2, 0, 3, 1, 4)
            attended = torch.softmax(q @ k.transpose(-1, -2) / 8**0.5, dim=-1) @ v
            x = x + block.attn.proj(attended.transpose(1, 2).flatten(2)) * block.ls1.gamma
            approximate = "tanh" if self.flaw == "tanh" else "none"
            hidden = torch.nn.functional.gelu(block.mlp.fc1(block.norm2(x)), approximate=approximate)
            x = x + block.mlp.fc2(hidden) * block.ls2.gamma
            states.append((vit.norm(x) if self.normed_states else x)[:, 5:])
        out = vit.norm(x)
        first = 1 if self.flaw == "registers" else 5
        return {
            "last_hidden_state": out[:, first:],
            "pooler_output": out[:, 0],
            "hidden_states": tuple(states) if output_hidden_states else None,
        }


@pytest.mark.parametrize("normed", [False, True])
def test_the_same_network_passes_on_every_window(script, encoder, normed, capsys):
    found = {
        name: script.compare(encoder, Release(encoder.vit, normed), hu)
        for name, hu in script.sample_windows(encoder).items()
    }
    assert script.report(found)
    said = capsys.readouterr().out
    assert "VERDICT: our encoder equals the release" in said
    assert {"patch tokens", "CLS"} <= {d.output for d in found["native window"]} and len(found["native window"]) == 4


@pytest.mark.parametrize("flaw", ["registers", "tanh"])
def test_a_release_that_computes_otherwise_fails(script, encoder, flaw, capsys):
    with torch.no_grad():  # wide enough for the two forms of GELU to part
        for block in encoder.vit.blocks:
            block.mlp.fc1.weight.mul_(30)
    found = script.compare(encoder, Release(encoder.vit, flaw=flaw), script.sample_windows(encoder)["native window"])
    assert not script.report({"window": found})
    assert "DIFFERS" in (said := capsys.readouterr().out) and "NOT the release's" in said


def test_other_weights_and_nan_fail(script, encoder):
    hu = script.sample_windows(encoder)["native window"]
    other = untrained_encoder(CONFIG, encoder.spec, seed=1)
    assert not any(d.agrees for d in script.compare(encoder, Release(other.vit), hu))
    other.vit.norm.bias[0] = float("nan")
    assert not any(
        d.agrees for d in script.compare(encoder, Release(other.vit), hu) if d.output in ("CLS", "patch tokens")
    )


def test_a_release_without_hidden_states_is_still_compared(script, encoder):
    release = Release(encoder.vit)
    full = release.forward
    release.forward = lambda voxels, output_hidden_states: full(voxels)
    found = script.compare(encoder, release, script.sample_windows(encoder)["native window"])
    assert [d.output for d in found] == ["patch tokens", "CLS"] and all(d.agrees for d in found)


def test_no_code_is_run_unless_trusted(script, tmp_path, capsys):
    assert script.main([str(tmp_path)]) == 2
    assert "--trust-release-code" in capsys.readouterr().err
    assert script.main([str(tmp_path), "--trust-release-code"]) == 2  # an empty folder
    assert "holds no model.safetensors" in capsys.readouterr().err
