"""One step of long work: reported first, then asked whether to stop, and never stopped when nothing is left."""

from __future__ import annotations

import pytest

from tapct_core.progress import ProbeCancelled, step


def test_without_callbacks_nothing_happens():
    step(None, None, 1, 2)


def test_progress_is_told_before_the_question_whether_to_stop():
    heard = []
    with pytest.raises(ProbeCancelled):
        step(lambda *counts: heard.append(counts), lambda: True, 1, 2)
    assert heard == [(1, 2)]


def test_work_that_is_done_is_kept():
    step(None, lambda: True, 2, 2)
