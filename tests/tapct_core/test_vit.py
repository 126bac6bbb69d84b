"""The ViT against one written plainly here in float64, and the properties that its callers build on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from scipy.special import erf

from tapct_core import cpu_kernels
from tapct_core.vit import VisionTransformer3D, ViTConfig

SMALL = ViTConfig(patch_size=(2, 4, 4), img_size=(6, 16, 12), embed_dim=24, depth=3, num_heads=3)


def made(config: ViTConfig, seed: int = 0) -> VisionTransformer3D:
    """An encoder with every tensor, gamma and biases too, far from its neutral value."""
    torch.manual_seed(seed)
    vit = VisionTransformer3D(config).eval().requires_grad_(False)
    for parameter in vit.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.3 + 0.1)
    return vit


def plain_layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float = 1e-6) -> np.ndarray:
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + eps) * weight + bias


def plain_positions(table: np.ndarray, grid: tuple, wanted: tuple) -> np.ndarray:
    """Trilinear at the new voxels' centres, the border held, by scipy -> (N, C)."""
    volume = table.reshape(*grid, -1)
    axes = [(np.arange(n) + 0.5) * g / n - 0.5 for n, g in zip(wanted, grid, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    columns = [map_coordinates(volume[..., c], points, order=1, mode="nearest") for c in range(volume.shape[-1])]
    return np.stack(columns, axis=-1)


def plain_vit(vit: VisionTransformer3D, voxels: np.ndarray, mask: np.ndarray | None = None, blocks: int | None = None):
    """The whole forward pass with loops and an explicit softmax: (D, H, W) -> cls (C,), registers, patches (N, C)."""
    p = {name: tensor.double().numpy() for name, tensor in vit.state_dict().items()}
    config = vit.config
    grid = tuple(n // s for n, s in zip(voxels.shape, config.patch_size, strict=True))
    kernel, bias = p["patch_embed.proj.weight"][:, 0], p["patch_embed.proj.bias"]
    patches = []
    for z, y, x in np.ndindex(*grid):
        corner = [i * s for i, s in zip((z, y, x), config.patch_size, strict=True)]
        block = voxels[tuple(slice(c, c + s) for c, s in zip(corner, config.patch_size, strict=True))]
        patches.append((kernel * block).sum((1, 2, 3)) + bias)
    patches = np.array(patches)
    if mask is not None:
        patches[mask] = p["mask_token"][0]
    patches = patches + plain_positions(p["pos_embed"][0, 1:], config.grid, grid)
    x = np.concatenate([p["cls_token"][0] + p["pos_embed"][0, :1], p["register_tokens"][0], patches])
    heads, width = config.num_heads, config.embed_dim // config.num_heads
    for i in range(config.depth if blocks is None else blocks):
        w = {name.removeprefix(f"blocks.{i}."): value for name, value in p.items() if name.startswith(f"blocks.{i}.")}
        y = plain_layer_norm(x, w["norm1.weight"], w["norm1.bias"])
        qkv = y @ w["attn.qkv.weight"].T + w["attn.qkv.bias"]
        outs = []
        for h in range(heads):
            q, k, v = (qkv[:, part * config.embed_dim + h * width :][:, :width] for part in range(3))
            scores = np.einsum("id,jd->ij", q, k) / math.sqrt(width)
            scores = np.exp(scores - scores.max(1, keepdims=True))
            outs.append(np.einsum("ij,jd->id", scores / scores.sum(1, keepdims=True), v))
        y = np.concatenate(outs, axis=1) @ w["attn.proj.weight"].T + w["attn.proj.bias"]
        x = x + w["ls1.gamma"] * y
        y = plain_layer_norm(x, w["norm2.weight"], w["norm2.bias"])
        if config.ffn_layer == "swiglu":
            gate, value = np.split(y @ w["mlp.w12.weight"].T + w["mlp.w12.bias"], 2, axis=1)
            y = (gate / (1 + np.exp(-gate)) * value) @ w["mlp.w3.weight"].T + w["mlp.w3.bias"]
        else:
            y = y @ w["mlp.fc1.weight"].T + w["mlp.fc1.bias"]
            y = 0.5 * y * (1 + erf(y / math.sqrt(2)))
            y = y @ w["mlp.fc2.weight"].T + w["mlp.fc2.bias"]
        x = x + w["ls2.gamma"] * y
    x = plain_layer_norm(x, p["norm.weight"], p["norm.bias"])
    first = 1 + config.num_register_tokens
    return x[0], x[1:first], x[first:]


@pytest.mark.parametrize(("dim", "heads", "count"), [(768, 12, 87_083_520), (384, 6, 22_308_096)])
def test_released_sizes_have_exactly_their_parameters(dim, heads, count):
    with torch.device("meta"):
        vit = VisionTransformer3D(ViTConfig(embed_dim=dim, num_heads=heads))
        tokens = vit(torch.empty(1, 1, 12, 224, 224))
    assert sum(parameter.numel() for parameter in vit.parameters()) == count
    assert tokens.patches.shape == (1, 2352, dim) and tokens.cls.shape == (1, dim)


@pytest.mark.parametrize("ffn", ["mlp", "swiglu"])
@pytest.mark.parametrize("shape", [(6, 16, 12), (4, 24, 8), (2, 4, 4), (12, 16, 20)])
def test_equals_the_plain_vit_in_float64(shape, ffn):
    vit = made(ViTConfig(**{**vars(SMALL), "ffn_layer": ffn})).double()
    voxels = torch.randn(2, 1, *shape, dtype=torch.float64)
    tokens = vit(voxels)
    for i in range(2):
        cls, registers, patches = plain_vit(vit, voxels[i, 0].numpy())
        # The interpolated table itself is float32, so only the native grid is exact.
        limit = 1e-11 if shape == SMALL.img_size else 2e-5
        np.testing.assert_allclose(tokens.cls[i], cls, atol=limit)
        np.testing.assert_allclose(tokens.registers[i], registers, atol=limit)
        np.testing.assert_allclose(tokens.patches[i], patches, atol=limit)


def test_layer_norm_epsilon_is_dinov2s():
    """On nearly constant tokens 1e-5 in place of 1e-6 would show."""
    vit = made(SMALL).double()
    for parameter in (
        vit.cls_token,
        vit.register_tokens,
        vit.pos_embed,
        vit.patch_embed.proj.weight,
        vit.patch_embed.proj.bias,
    ):
        parameter.mul_(1e-3)
    voxels = torch.randn(1, 1, *SMALL.img_size, dtype=torch.float64)
    np.testing.assert_allclose(vit(voxels).patches[0], plain_vit(vit, voxels[0, 0].numpy())[2], atol=1e-10)


@pytest.mark.parametrize("block", [0, 1, 2, -1, -3])
def test_output_of_any_block(block):
    vit = made(SMALL).double()
    voxels = torch.randn(1, 1, *SMALL.img_size, dtype=torch.float64)
    wanted = plain_vit(vit, voxels[0, 0].numpy(), blocks=block % 3 + 1)[2]
    np.testing.assert_allclose(vit(voxels, block=block).patches[0], wanted, atol=1e-11)


def test_a_block_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="block 3 does not exist"):
        made(SMALL)(torch.zeros(1, 1, *SMALL.img_size), block=3)


def test_masked_patches_are_replaced_before_the_positions():
    vit = made(SMALL).double()
    voxels = torch.randn(1, 1, *SMALL.img_size, dtype=torch.float64)
    mask = torch.rand(1, 36) < 0.4
    cls, _, patches = plain_vit(vit, voxels[0, 0].numpy(), mask[0].numpy())
    tokens = vit([voxels], masks=[mask])[0]
    np.testing.assert_allclose(tokens.patches[0], patches, atol=1e-11)
    np.testing.assert_allclose(tokens.cls[0], cls, atol=1e-11)


def test_a_list_of_crops_equals_separate_calls():
    vit = made(SMALL).double()
    crops = [torch.randn(2, 1, 6, 16, 12), torch.randn(3, 1, 2, 8, 8), torch.randn(1, 1, 4, 4, 4)]
    crops = [crop.double() for crop in crops]
    masks = [torch.rand(2, 36) < 0.5, None, None]
    together = vit(crops, masks=masks)
    for crop, mask, tokens in zip(crops, masks, together, strict=True):
        alone = vit([crop], masks=[mask])[0]
        torch.testing.assert_close(tokens.cls, alone.cls, atol=1e-12, rtol=0)
        torch.testing.assert_close(tokens.patches, alone.patches, atol=1e-12, rtol=0)
        assert tokens.grid == alone.grid and tokens.map().shape == (len(crop), *tokens.grid, 24)


def test_a_batch_equals_its_items():
    vit = made(SMALL).double()
    voxels = torch.randn(3, 1, 4, 8, 8, dtype=torch.float64)
    apart = torch.cat([vit(voxels[i : i + 1]).patches for i in range(3)])
    torch.testing.assert_close(vit(voxels).patches, apart, atol=1e-12, rtol=0)


def test_positions_compare_grids_and_not_counts():
    """12 x 14 x 14 has as many tokens as the table's 3 x 28 x 28, yet must be interpolated."""
    config = ViTConfig(embed_dim=12, depth=1, num_heads=1)
    vit = made(config)
    assert config.grid == (3, 28, 28)
    table = vit.position_table((12, 14, 14))
    wanted = plain_positions(vit.pos_embed[0, 1:].double().numpy(), (3, 28, 28), (12, 14, 14))
    np.testing.assert_allclose(table[0, 1:], wanted, atol=1e-5)
    assert not torch.equal(table, vit.pos_embed)
    torch.testing.assert_close(vit.position_table((3, 28, 28)), vit.pos_embed, atol=0, rtol=0)
    assert torch.equal(table[:, 0], vit.pos_embed[:, 0])


@pytest.mark.parametrize("inference", [False, True])
def test_the_kept_position_table_never_outlives_its_weights(inference):
    vit = made(SMALL)
    with torch.inference_mode(inference):
        before = vit.position_table((2, 5, 7))
        assert vit.position_table((2, 5, 7)) is before
    vit.pos_embed.mul_(2)
    torch.testing.assert_close(vit.position_table((2, 5, 7)), 2 * before)
    vit.load_state_dict({**vit.state_dict(), "pos_embed": torch.ones_like(vit.pos_embed)}, assign=True)
    torch.testing.assert_close(vit.position_table((2, 5, 7)), torch.ones(1, 71, 24))
    for value in (2.0, 3.0):  # the freed table's memory may be handed out again at once
        vit.load_state_dict({**vit.state_dict(), "pos_embed": torch.full((1, 37, 24), value)}, assign=True)
        torch.testing.assert_close(vit.position_table((2, 5, 7)), torch.full((1, 71, 24), value))
    assert vit.double().position_table((2, 5, 7)).dtype == torch.float64


def test_the_position_table_is_trained_through_interpolation():
    vit = VisionTransformer3D(SMALL)
    vit(torch.randn(1, 1, 2, 8, 8)).patches.square().sum().backward()
    assert vit.pos_embed.grad.abs().sum() > 0


@pytest.mark.parametrize("shape", [(5, 16, 12), (6, 15, 12), (6, 16, 1)])
def test_a_crop_of_broken_patches_is_refused(shape):
    with pytest.raises(ValueError, match="whole patches"):
        made(SMALL)(torch.zeros(1, 1, *shape))


@pytest.mark.parametrize(
    "wrong",
    [{"num_heads": 5}, {"img_size": (7, 16, 12)}, {"ffn_layer": "conv"}],
    ids=["heads", "window", "feed-forward"],
)
def test_a_config_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError):
        ViTConfig(**{**vars(SMALL), **wrong})


def test_bf16_autocast_keeps_the_residual_stream_in_float32():
    """A first-day LayerScale of 1e-5 lets through less than bf16 can add to a token: it must not be lost."""
    torch.manual_seed(0)
    vit = VisionTransformer3D(ViTConfig(**{**vars(SMALL), "depth": 1})).eval()
    voxels = torch.randn(1, 1, *SMALL.img_size)
    stream = []
    vit.norm.register_forward_pre_hook(lambda _, inputs: stream.append(inputs[0]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tokens = vit(voxels)
        vit.blocks[0].ls1.gamma.data.zero_()
        vit.blocks[0].ls2.gamma.data.zero_()
        vit(voxels)
    assert stream[0].dtype == torch.float32 and tokens.patches.dtype == torch.float32
    assert (stream[0] != stream[1]).float().mean() > 0.9


def test_bf16_weights_run_in_bf16():
    vit = made(SMALL)
    voxels = torch.randn(1, 1, 4, 8, 8)
    wanted = vit(voxels).patches
    tokens = vit.bfloat16()(voxels.bfloat16())
    assert tokens.patches.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(tokens.patches.float(), wanted, dim=-1).min() > 0.99


def test_the_gpu_form_of_the_patch_embedding_is_the_convolution():
    """CUDA takes another road for speed; its arithmetic is checked here by calling it on the CPU."""
    embed = made(SMALL).patch_embed.double()
    voxels = torch.randn(2, 1, 4, 8, 8, dtype=torch.float64)

    class Pretends(torch.Tensor):
        is_cuda = True

    by_matrix, grid = embed(voxels.as_subclass(Pretends))
    by_convolution, same = embed(voxels)
    assert grid == same == (2, 2, 2)
    torch.testing.assert_close(by_matrix.as_subclass(torch.Tensor), by_convolution, atol=1e-12, rtol=0)


@pytest.mark.parametrize("length", [1, 255, 256, 700])
def test_fast_attention_equals_pytorchs(length, monkeypatch):
    monkeypatch.setattr(cpu_kernels, "onednn_is_faster", lambda: hasattr(torch.ops.mkldnn, "_linear_pointwise"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        q, k, v = torch.randn(2, length, 3, 3, 16).permute(2, 0, 3, 1, 4)
        wanted = torch.nn.functional.scaled_dot_product_attention(q.double(), k.double(), v.double())
        with torch.no_grad():
            torch.testing.assert_close(cpu_kernels.attention(q, k, v).double(), wanted, atol=2e-6, rtol=0)
        layer = torch.nn.Linear(48, 20)
        x = torch.randn(length, 48)
        with torch.no_grad():
            torch.testing.assert_close(cpu_kernels.linear(x, layer), layer(x), atol=2e-6, rtol=0)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("scores", [0, 1 << 25])
def test_bf16_attention_and_its_gradient_are_attentions(scores, monkeypatch):
    """Written out or by PyTorch's kernel: as far from float64 as bfloat16's eight bits allow, and no further."""
    monkeypatch.setattr(cpu_kernels, "PLAIN_SCORES", scores)
    plain = torch.randn(3, 2, 3, 70, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    exact, rounded = plain.clone().requires_grad_(), plain.bfloat16().requires_grad_()
    wanted = torch.nn.functional.scaled_dot_product_attention(*exact)
    got = cpu_kernels.attention(*rounded)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.double(), wanted, atol=0.03, rtol=0.02)
    wanted.square().sum().backward()
    got.square().sum().backward()
    error = (rounded.grad.double() - exact.grad).norm() / exact.grad.norm()
    assert error < 0.02


def test_fast_products_step_aside_for_gradients(monkeypatch):
    """The fast products know no backward pass: with gradients on, they must not be taken."""
    monkeypatch.setattr(cpu_kernels, "onednn_is_faster", lambda: True)
    vit = VisionTransformer3D(SMALL)
    vit(torch.randn(1, 1, *SMALL.img_size)).patches.square().sum().backward()
    assert all(p.grad is not None for name, p in vit.named_parameters() if name != "mask_token")


def test_checkpointed_training_has_the_same_gradients():
    gradients = []
    for recompute in (False, True):
        vit = made(SMALL).double().requires_grad_(True).train()
        vit.activation_checkpointing = recompute
        torch.manual_seed(1)
        vit(torch.randn(1, 1, *SMALL.img_size, dtype=torch.float64)).patches.square().sum().backward()
        gradients.append(vit.blocks[0].attn.qkv.weight.grad)
    torch.testing.assert_close(*gradients)


def test_stochastic_depth_keeps_the_mean():
    """Branches that survive are scaled up, so the expected residual is that of no dropping at all."""
    config = ViTConfig(**{**vars(SMALL), "depth": 1, "drop_path": 0.5})
    block = made(config).blocks[0].train()
    x = torch.randn(5, 24).repeat(2000, 1)
    branch = torch.randn(5, 24).repeat(2000, 1)
    gamma = torch.ones(24)
    added = (block._add(x, branch, gamma, [(2000, 5)]) - x).view(2000, 5, 24)
    dropped = (added == 0).all(dim=(1, 2))
    assert 0.45 < dropped.float().mean() < 0.55
    torch.testing.assert_close(added[~dropped][0], 2 * branch[:5], atol=1e-5, rtol=1e-4)
    block.eval()
    torch.testing.assert_close(block._add(x, branch, gamma, [(2000, 5)]), x + branch)
