"""Independent pieces of work on as many threads as torch may use; each piece then keeps to one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T, R = TypeVar("T"), TypeVar("R")


def in_parallel(work: Callable[[T], R], pieces: Sequence[T]) -> list[R]:
    """``work`` of each piece, in order. Many small products gain nothing from threads of their own, only these do."""
    threads = min(torch.get_num_threads(), len(pieces))
    if threads < 2:
        return [work(piece) for piece in pieces]
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, "match", initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, pieces))
    finally:
        torch.set_num_threads(before)
