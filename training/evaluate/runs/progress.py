"""The line that says how far a part is and how long it will take: rewritten in a terminal, now and then in a log."""

from __future__ import annotations

import sys
import time

from ...run import distributed
from ...run.log import duration

SAY_SECONDS = 15.0
"""How often progress is said where stderr is no terminal."""


class ProgressLine:
    """How far the first rank's share is, and how long it will take; the other ranks have shares of equal size."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total = what, total
        self.done = self.broken = 0
        self.began = self.said = time.monotonic()
        self.live = sys.stderr.isatty()

    def step(self, broken: bool) -> None:
        """One more is done, well or not."""
        self.done += 1
        self.broken += broken
        now = time.monotonic()
        if not distributed.is_main() or (now - self.said < SAY_SECONDS and not self.live and self.done < self.total):
            return
        self.said = now
        left = duration((now - self.began) / self.done * (self.total - self.done))
        shared = f" on each of {distributed.world_size()} ranks" if distributed.world_size() > 1 else ""
        troubled = f", {self.broken} broken" if self.broken else ""
        words = f"{self.what}: {self.done} of {self.total}{shared}{troubled}, {left} left"
        print(f"\r\033[K{words}" if self.live else words, end="" if self.live else "\n", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leaves the line."""
        if self.live and self.done and distributed.is_main():
            print(file=sys.stderr)
