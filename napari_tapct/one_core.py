"""Short work beside a window that draws: linear algebra on one core, one piece of work at a time.

A fit on strokes is many products of small matrices. Spread over all cores, each waits for the slowest core, and
one of them is drawing the stroke just painted: measured on two cores, such a fit takes four times as long as on one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

_turn = threading.Lock()


@contextmanager
def one_core() -> Iterator[None]:
    """Linear algebra within is done by one core; whoever else comes waits, and after it all is as before.

    OpenBLAS knows but one number of threads for the whole process: of two runs that overlapped, the one that left last
    would put back what the other had set.
    """
    with _turn, libraries().limit(limits=1, user_api="blas"):
        yield


@cache
def libraries() -> ThreadpoolController:
    """The loaded libraries of linear algebra. To look for them takes a while where another thread is busy."""
    import numpy
    import scipy.linalg
    from threadpoolctl import ThreadpoolController

    assert numpy and scipy.linalg
    return ThreadpoolController()
