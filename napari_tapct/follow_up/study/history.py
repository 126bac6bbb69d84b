"""A study with the states that undo and redo go back and forth to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tapct_core.lesions import Study
from tapct_core.lesions.timepoints import snapshot

T = TypeVar("T")
STEPS = 200
"""Changes that can be undone."""


class History:
    """``study`` is the state that holds now; undo and redo put another object there."""

    def __init__(self, study: Study) -> None:
        self.begin(study)

    def begin(self, study: Study) -> None:
        """Another study, whose changes have yet to come."""
        self.study = study
        self._before: list[tuple[str, Study]] = []
        self._after: list[tuple[str, Study]] = []

    def do(self, words: str, change: Callable[[Study], T]) -> tuple[T, bool]:
        """Applies a change; what it returns, and whether it left a step that can be undone.

        The study is as before when the change raises; a change that changes nothing leaves no step.
        """
        before = snapshot(self.study)
        try:
            result = change(self.study)
        except BaseException:
            self.study = before
            raise
        changed = self.study != before
        if changed:
            self._before = [*self._before, (words, before)][-STEPS:]
            self._after = []
        return result, changed

    def each(self, change: Callable[[Study], object]) -> None:
        """Applies what is no decision to every remembered state, so that undo keeps it."""
        for study in self.states:
            change(study)

    def undo(self) -> str | None:
        """Takes the last change back and returns its words; None when there is none."""
        return self._step(self._before, self._after)

    def redo(self) -> str | None:
        """Makes the change again that was taken back last and returns its words; None when there is none."""
        return self._step(self._after, self._before)

    @property
    def undo_words(self) -> str | None:
        """What :meth:`undo` would take back."""
        return self._before[-1][0] if self._before else None

    @property
    def redo_words(self) -> str | None:
        """What :meth:`redo` would make again."""
        return self._after[-1][0] if self._after else None

    @property
    def states(self) -> list[Study]:
        """The study as it is, and as undo and redo remember it."""
        return [self.study, *(study for _, study in (*self._before, *self._after))]

    def _step(self, source: list[tuple[str, Study]], target: list[tuple[str, Study]]) -> str | None:
        if not source:
            return None
        words, study = source.pop()
        target.append((words, self.study))
        self.study = study
        return words
