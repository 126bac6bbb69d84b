"""How long work tells that it goes on, and is told to stop: two callbacks that every caller may leave out."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (done, total)."""
Cancel = Callable[[], bool]
"""Asked now and then; True means stop."""


class EmbeddingCancelled(Exception):
    """The cancel callback said so. Nothing is left behind but the checkpoint, if one was asked for."""


class ProbeCancelled(Exception):
    """The cancel callback said so. Nothing is left behind."""


class MatchingCancelled(Exception):
    """The cancel callback said so. What was prepared by then is kept for the next call."""


def going_on(cancel: Cancel | None) -> None:
    """Raises MatchingCancelled if told to stop."""
    if cancel is not None and cancel():
        raise MatchingCancelled("matching was cancelled")


def step(progress: Progress | None, cancel: Cancel | None, done: int, total: int) -> None:
    """Reports ``done`` of ``total``; raises ProbeCancelled if told to stop and there is anything left to do."""
    if progress is not None:
        progress(done, total)
    if cancel is not None and done < total and cancel():
        raise ProbeCancelled("the probe was cancelled")
