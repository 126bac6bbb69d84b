"""Attention in bfloat16 on a CPU, forward and backward: ours against PyTorch's scaled_dot_product_attention.

    python -m benchmarks.attention --out docs/results/attention.md

Lengths are those of a small encoder's crops: 16 of them with three heads of 64. Times take turns; a ratio above 1
says how many times as long PyTorch's kernel takes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks.common import machine_line, markdown_table, ratio, take_turns, write_page
from tapct_core.cpu_kernels import attention

LENGTHS = (150, 437, 581, 1029)


def measure(length: int, turns: int) -> tuple[float, float, float]:
    """Milliseconds of ours (the median), times PyTorch's, and the largest difference of their outputs."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(16, 3, length, 64).bfloat16().requires_grad_() for _ in range(3))
    upstream = torch.randn(16, 3, length, 64).bfloat16()
    times = take_turns(
        {
            "ours": lambda: attention(q, k, v).backward(upstream),
            "PyTorch": lambda: F.scaled_dot_product_attention(q, k, v).backward(upstream),
        },
        turns,
    )
    with torch.no_grad():
        apart = (attention(q, k, v) - F.scaled_dot_product_attention(q, k, v)).abs().max().item()
    return 1e3 * sorted(times["ours"])[turns // 2], ratio(times["PyTorch"], times["ours"]), apart


def main() -> None:
    """Times both kernels by turns and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = [[length, *measure(length, args.turns)] for length in LENGTHS]
    table = markdown_table(["tokens a crop", "ours, ms", "PyTorch / ours", "largest difference"], rows)
    print(machine_line(), table, sep="\n\n")
    if args.out:
        notes = __doc__.split("\n\n", 2)[2].strip()
        write_page(args.out, "Attention in bfloat16", "python -m benchmarks.attention", [notes, table])


if __name__ == "__main__":
    main()
