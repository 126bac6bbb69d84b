"""Which scan is on the left and which on the right: an earlier and a later one, whatever is opened in what order."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from qtpy.QtCore import QTimer

from ...session import Session

if TYPE_CHECKING:
    from ..study.editor import StudyEditor


class Sides(NamedTuple):
    """Names of time points; None for one that belongs to none, or is not there."""

    left: str | None
    right: str | None


def arranged(open_: tuple[str, ...], now: Sides, moved: str = "", keep: bool = False) -> Sides:
    """What should be on the two sides. ``open_`` are the time points that are open, in the order of time.

    ``moved`` is the side that somebody has just set; "" where scans were opened: then the first is on the left and the
    one after it on the right, unless a person has chosen what is compared (``keep``). The left one is always earlier.
    The first of all can be compared with nothing: asked for on the right, it is looked at on the left, alone.
    """
    if len(open_) < 2:
        return Sides(open_[0] if open_ else None, now.right)
    left = open_.index(now.left) if now.left in open_ else 0
    right = open_.index(now.right) if now.right in open_ else 1
    if not moved:
        left, right = 0, right if keep and right else 1
    elif moved == "right":
        left = left if left < right else max(0, right - 1)
    elif left == len(open_) - 1:
        left, right = left - 1, left
    else:
        right = right if right > left else left + 1
    return Sides(open_[left], open_[right])


class Arrangement:
    """Keeps the two views of one study so, as scans come and go and people choose."""

    def __init__(self, session: Session, editor: StudyEditor) -> None:
        self._session, self._editor = session, editor
        self._busy = self._opening = False
        self._known = self._now()
        for signal in (session.scans_changed, editor.timepoint_changed, editor.changed):
            signal.connect(self._on_changed)
        self._arrange("")

    def close(self) -> None:
        """Lets both sides be."""
        for signal in (self._session.scans_changed, self._editor.timepoint_changed, self._editor.changed):
            signal.disconnect(self._on_changed)

    def _now(self) -> tuple[tuple[str, ...], Sides]:
        """What is open, in the order of time, and what is on the two sides."""
        editor = self._editor
        open_ = tuple(t.name for t in editor.study.timepoints if editor.scan_of(t.name) is not None)
        return open_, Sides(editor.timepoint_of(self._session.active), editor.timepoint)

    def _on_changed(self) -> None:
        now, before = self._now(), self._known
        if self._busy or now == before:
            return
        if set(now[0]) - set(before[0]):  # whoever opens scans shows one of them, which is no choice of a side
            self._opening = True
            QTimer.singleShot(0, self._on_opened)
        moved = [side for side in ("right", "left") if getattr(now[1], side) != getattr(before[1], side)]
        self._arrange(moved[0] if moved and not self._opening else "")

    def _on_opened(self) -> None:
        self._opening = False

    def _arrange(self, moved: str) -> None:
        open_, now = self._now()
        wanted = arranged(open_, now, moved, self._editor.chosen)
        scan = self._editor.scan_of(wanted.left)
        stranger = now.left is None and self._session.active is not None
        self._busy = True
        try:
            if wanted.right != now.right:
                self._editor.compare(wanted.right)
            if scan not in (None, self._session.active) and not (stranger and moved == "left"):
                self._session.show(scan)
        finally:
            self._busy = False
        self._known = self._now()
