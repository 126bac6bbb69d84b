"""A box of the form that folds to its title, and one line of words that are cut with an ellipsis, never without."""

from __future__ import annotations

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QLabel, QSizePolicy, QToolButton, QVBoxLayout, QWidget


class Folding(QWidget):
    """``part`` under a title that a click folds it to; folded, the title may say in ``summary`` what is inside."""

    def __init__(self, title: str, part: QWidget) -> None:
        super().__init__()
        self.part = part
        self._title, self._summary, self._by_hand = title, "", False
        self.button = QToolButton()
        self.button.setToolButtonStyle(Qt.ToolButtonTextBesideIcon)
        self.button.setAutoRaise(True)
        self.button.setCheckable(True)
        self.button.setSizePolicy(QSizePolicy.Ignored, QSizePolicy.Fixed)
        self.button.setFocusPolicy(Qt.TabFocus)
        self.button.clicked.connect(self._on_clicked)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.button)
        column.addWidget(part)
        self.set_open(True)

    @property
    def open(self) -> bool:
        """Whether the part is seen."""
        return self.button.isChecked()

    def set_open(self, on: bool) -> None:
        """Folds or unfolds."""
        self.button.setChecked(on)
        self.button.setArrowType(Qt.DownArrow if on else Qt.RightArrow)
        self.part.setVisible(on)
        self._say()

    def done(self, is_done: bool) -> None:
        """Folds what is done; a person who has folded or unfolded it keeps it as they left it."""
        if not self._by_hand and self.open == is_done:
            self.set_open(not is_done)

    def say(self, summary: str) -> None:
        """What the title adds while folded."""
        self._summary = summary
        self._say()

    def _on_clicked(self, on: bool) -> None:
        self._by_hand = True
        self.set_open(on)

    def _say(self) -> None:
        words = f"{self._title}: {self._summary}" if self._summary and not self.open else self._title
        self.button.setToolTip(f"{words}\nA click {'folds' if self.open else 'opens'} this part.")
        room = max(40, self.width() - 40)
        self.button.setText(self.button.fontMetrics().elidedText(words, Qt.ElideRight, room))

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's own name
        super().resizeEvent(event)
        self._say()


class ElidedLabel(QLabel):
    """One line of plain words that widens nothing: cut at the right with an ellipsis, whole in the tooltip."""

    def __init__(self, words: str = "") -> None:
        super().__init__()
        self._whole = ""
        self.setTextFormat(Qt.PlainText)
        self.setSizePolicy(QSizePolicy.Ignored, QSizePolicy.Preferred)
        self.setText(words)

    def setText(self, words: str) -> None:  # noqa: N802 - Qt's own name
        self._whole = words
        self._cut()

    def whole(self) -> str:
        """All that it says, cut or not."""
        return self._whole

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's own name
        return QSize(0, super().minimumSizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's own name
        super().resizeEvent(event)
        self._cut()

    def _cut(self) -> None:
        shown = self.fontMetrics().elidedText(self._whole, Qt.ElideRight, max(0, self.width()))
        super().setText(shown)
        self.setToolTip(self._whole if shown != self._whole else "")
