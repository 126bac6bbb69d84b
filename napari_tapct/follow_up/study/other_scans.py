"""What a person must say of open scans: those of another study or patient, with which nothing is linked, and two of one
date."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QPushButton, QWidget

from ...callbacks import living

if TYPE_CHECKING:
    from ...scan import Scan
    from .editor import StudyEditor

Row = tuple[str, tuple[tuple[str, str, Callable[[], object]], ...]]
"""What is said, and the buttons beside it: text, hint and what they do."""


class OtherScans(QWidget):
    """A line for each, with what a person can do about it; hidden while there is none."""

    def __init__(
        self, editor: StudyEditor, remove: Callable[[str], object], give_date: Callable[[str], object]
    ) -> None:
        """``remove`` takes a time point out of the study, ``give_date`` asks for another date of it."""
        super().__init__()
        self._editor, self._remove, self._give_date = editor, remove, give_date
        self._shown: list[str] = []
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setColumnStretch(0, 1)
        editor.changed.connect(living(self.refresh))
        editor.session.scans_changed.connect(living(self.refresh))
        self.refresh()

    @property
    def words(self) -> str:
        """All that is said."""
        return "\n".join(self._shown)

    def button(self, text: str) -> QPushButton:
        """The first button of this text."""
        return next(one for one in self.findChildren(QPushButton) if one.text() == text)

    def refresh(self, *_: object) -> None:
        """Says what is open and does not belong."""
        rows = self._rows()
        said = [words for words, _ in rows]
        self.setVisible(bool(rows))
        if said == self._shown:
            return
        self._shown = said
        while self._grid.count():
            part = self._grid.takeAt(0).widget()
            part.setParent(None)
            part.deleteLater()
        for place, (words, buttons) in enumerate(rows):
            label = QLabel(words)
            label.setWordWrap(True)
            label.setTextFormat(Qt.PlainText)
            self._grid.addWidget(label, place, 0)
            for column, (text, hint, slot) in enumerate(buttons, start=1):
                button = QPushButton(text)
                button.setToolTip(hint)
                button.clicked.connect(lambda _checked, slot=slot: slot())
                self._grid.addWidget(button, place, column)

    def _rows(self) -> list[Row]:
        editor = self._editor
        rows: list[Row] = []
        found = [
            (n, f"⚠ {n} has {why} than the study's first scan. It is not compared.")
            for n, why in editor.other_patients.items()
        ]
        found += [(n, f"⚠ {n} {why}: is it the same patient?") for n, why in editor.doubtful.items()]
        for name, words in found:
            same = "I have looked: it is the same patient; the header was anonymised anew, or the scan shows little"
            rows.append(
                (
                    words,
                    (
                        ("Remove", "Takes it out of the study and closes it", lambda name=name: self._remove(name)),
                        ("Same patient", same, lambda name=name: editor.same_patient(name)),
                    ),
                )
            )
        rows += [self._same_date(name, other) for name, other in editor.same_dates.items()]
        for scan in editor.left_out:
            rows.append(
                (
                    f"{scan.name} is open and not of this study.",
                    (
                        ("Close", "Closes it; strokes on it are kept", lambda scan=scan: self._close(scan)),
                        ("Add", "Makes it a time point of this study", lambda scan=scan: editor.add(scan)),
                    ),
                )
            )
        return rows

    def _same_date(self, name: str, other: str) -> Row:
        date = self._editor.study.timepoints[self._editor.study.order(name)].date
        said = "Both are of that day, two series of one visit say; they stay in the order in which they stand"
        return (
            f"⚠ {name} is of {date}, as {other} is: another scan of that day, or a wrong date?",
            (
                ("Same day", said, lambda: self._editor.keep_date(name)),
                ("Date …", "Another date, which decides its place in the order", lambda: self._give_date(name)),
                ("Remove", "Takes it out of the study and closes it", lambda: self._remove(name)),
            ),
        )

    def _close(self, scan: Scan) -> None:
        viewer = self._editor.session.viewer
        if viewer is not None and scan.layer in viewer.layers:
            viewer.layers.remove(scan.layer)
