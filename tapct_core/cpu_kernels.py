"""float32 matrix products through oneDNN, on CPUs where PyTorch's usual library holds back.

PyTorch sends float32 products on a CPU to Intel's MKL, which leaves AVX-512 unused on other makers'
processors: on one AMD Zen 5 core a layer of 2357 x 768 x 2304 runs at 90 GFLOP/s with MKL and at 185 with
oneDNN, which PyTorch carries too (benchmarks/network/embedding.py compares whole encoders). The choice is made by
the processor's maker and not by timing, so that the same machine always gives the same bits. Results agree
with PyTorch's own to float32 rounding.

For float32 that is inference only: with gradients, under autocast or on other devices, PyTorch's own is called.
In bfloat16, which pretraining takes where the processor multiplies it, attention is written out (`_plain`).
"""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PLAIN_SCORES = 1 << 25
"""Scores, of all heads and crops, up to which bfloat16 attention is written out: 64 MB."""
BLOCK_ROWS = 256
"""Queries taken at once: their scores against 2357 keys are 2.4 MB and stay in the caches."""


@functools.cache
def onednn_is_faster() -> bool:
    """Whether this is an x86 processor that is not Intel's, and this PyTorch has both libraries."""
    has_both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    if not has_both or platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    return "intel" not in _maker() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _maker() -> str:
    """The processor's maker in lower case; "intel" where it cannot be told, which keeps PyTorch's choice."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="ascii", errors="replace").lower().splitlines()
        return next((line for line in lines if line.startswith("vendor_id")), "intel")
    return os.environ.get("PROCESSOR_IDENTIFIER", "intel").lower()  # Windows


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """``layer(x)``, x (T, C_in) -> (T, C_out)."""
    return _product(x, layer.weight, layer.bias) if _applies(x, layer.weight) else layer(x)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, each (B, heads, L, d), any strides -> (B, heads, L, d)."""
    # Head by head means many short products. One thread runs them 1.7 times as fast as PyTorch's kernel;
    # several wait for each other after every one, where PyTorch's kernel deals the heads out among them.
    in_bf16 = q.device.type == "cpu" and q.dtype == k.dtype == v.dtype == torch.bfloat16
    if in_bf16 and q.shape[:3].numel() * k.shape[2] <= PLAIN_SCORES:
        return _plain(q, k, v)
    if not _applies(q, k) or torch.get_num_threads() > 1:
        return F.scaled_dot_product_attention(q, k, v)
    batch, heads, length, dim = q.shape
    out = q.new_empty(batch, length, heads, dim)
    for item in range(batch):
        for head in range(heads):
            queries = q[item, head] * dim**-0.5
            keys, values = k[item, head].contiguous(), v[item, head].t().contiguous()
            for start in range(0, length, BLOCK_ROWS):
                scores = _product(queries[start : start + BLOCK_ROWS], keys, None)
                torch.softmax(scores, dim=-1, out=scores)
                out[item, start : start + BLOCK_ROWS, head] = _product(scores, values, None)
    return out.transpose(1, 2)


def _plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention as two products and a softmax, which rounds the scores to bfloat16 once more.

    PyTorch's kernel spends most of a short sequence's time beside the products: forward and backward of 16 crops
    of 437 tokens take 2 to 2.7 times as long there (python -m benchmarks.attention).
    """
    return torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2), dim=-1) @ v


def _applies(x: Tensor, other: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == other.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and onednn_is_faster()
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x (T, K) times weight (N, K) transposed, plus bias (N)."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
