"""The candidates of the selected lesion: pictures beside the earlier scan's, bands of confidence, next, previous."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon
from qtpy.QtWidgets import QGridLayout, QLabel, QSizePolicy, QToolButton, QWidget

from ..table.thumbnails import finding_thumbnail, thumbnail
from .sentences import BAND_COLOURS, band_of, candidate_words, chance

if TYPE_CHECKING:
    from qtpy.QtGui import QPixmap

    from tapct_core.lesions import Candidate, Finding
    from tapct_core.volume import CTVolume

SIDE = 78
"""Pixels of a thumbnail."""


class CandidatePanel(QWidget):
    """A row of pictures: the lesion where it is known, then up to three candidates. Click one to choose it."""

    chosen = Signal(int)
    """Number of the candidate that a person chose, from 0."""

    def __init__(self) -> None:
        super().__init__()
        self.index: int | None = None
        """The candidate that is chosen; None where none is, as for a lesion that was not found."""
        self._candidates: tuple[Candidate, ...] = ()
        self._finding: Finding | None = None
        self._key: object = None
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(2)
        self.known = _card("The lesion in the earlier scan")
        self.known.setEnabled(False)
        self.cards = [_card(f"Candidate {i + 1}: click to look at it") for i in range(3)]
        for i, card in enumerate(self.cards):
            card.setCheckable(True)
            card.clicked.connect(self._clicker(i))
            grid.addWidget(card, 1, i + 1)
        grid.addWidget(self.known, 1, 0)
        self.before, self.after = QLabel(), QLabel()
        for label in (self.before, self.after):
            label.setSizePolicy(QSizePolicy.Ignored, QSizePolicy.Preferred)  # a long name of a scan widens nothing
        grid.addWidget(self.before, 0, 0)
        grid.addWidget(self.after, 0, 1, 1, 3)
        grid.setColumnStretch(4, 1)

    def show_lesion(
        self,
        source: tuple[str, CTVolume | None, Finding | None],
        target: tuple[str, CTVolume | None, Finding | None],
        index: int | None,
        window: tuple[float, float] | None,
    ) -> None:
        """The lesion at the earlier scan and the candidates at the compared one; each is (name, volume, finding).

        Volumes are None for scans that are not open. ``window`` is (width, level) in HU of the thumbnails.
        """
        (before, known_volume, known), (after, volume, finding) = source, target
        candidates = finding.candidates[:3] if finding is not None else ()
        key = (id(known_volume), id(volume), known and known.point_lps_mm, known and id(known.mask), candidates, window)
        if key != self._key:  # pictures are drawn once, not with every change of the study
            self._key = key
            place = known is not None and known.present and known_volume is not None
            self._picture(self.known, lambda: finding_thumbnail(known_volume, known, pixels=SIDE, window=window), place)
            for i, card in enumerate(self.cards):
                here = i < len(candidates) and volume is not None
                self._picture(card, lambda i=i: _look(volume, candidates[i], window), here)
                card.setVisible(i < len(candidates))
        self._candidates, self._finding = candidates, finding
        self.before.setText(before)
        self.after.setText(after if candidates else "")
        self.known.setText("known" if known is not None else "")
        self.mark(index)

    def mark(self, index: int | None) -> None:
        """Shows which candidate is chosen."""
        self.index = index
        for i, (card, candidate) in enumerate(zip(self.cards, self._candidates, strict=False)):
            band = band_of(chance(candidate, self._finding))
            colour = BAND_COLOURS[band]
            card.setChecked(i == index)
            words = candidate_words(candidate, self._finding)
            card.setText(f"{i + 1}  {band}\n{words}")
            card.setToolTip(f"Candidate {i + 1}, {band}: {words}. Click to look at it")  # whole, where a card cuts it
            line = f"2px solid {colour}" if i == index else f"2px solid {_faint(colour)}"
            card.setStyleSheet(f"QToolButton {{ border: {line}; border-radius: 4px; padding: 2px; }}")

    def step(self, by: int) -> None:
        """Chooses the next (1) or previous (-1) candidate, round and round."""
        if self._candidates:
            here = self.index if self.index is not None else (-1 if by > 0 else 0)
            self.chosen.emit((here + by) % len(self._candidates))

    @property
    def candidate(self) -> Candidate | None:
        """The chosen candidate."""
        return None if self.index is None else self._candidates[self.index]

    def _clicker(self, index: int) -> Callable:
        return lambda _checked: self.chosen.emit(index)

    def _picture(self, card: QToolButton, draw: Callable[[], QPixmap | None], here: bool) -> None:
        pixmap = draw() if here else None
        icon = QIcon()
        if pixmap is not None:
            icon.addPixmap(pixmap, QIcon.Normal)
            icon.addPixmap(pixmap, QIcon.Disabled)  # Qt would grey it out
        card.setIcon(icon)


def _look(volume: CTVolume, candidate: Candidate, window: tuple[float, float] | None) -> QPixmap | None:
    """A candidate's picture, None where it lies outside the scan."""
    inside = volume.geometry.contains(candidate.point_lps_mm)
    return thumbnail(volume, candidate.point_lps_mm, pixels=SIDE, window=window) if inside else None


def chosen_at_first(finding: Finding | None) -> int | None:
    """The candidate where the finding lies; None where it lies at none, or nowhere."""
    if finding is None or finding.point_lps_mm is None:
        return None
    places = [candidate.point_lps_mm for candidate in finding.candidates[:3]]
    return places.index(finding.point_lps_mm) if finding.point_lps_mm in places else None


def _card(hint: str) -> QToolButton:
    card = QToolButton()
    card.setToolButtonStyle(Qt.ToolButtonTextUnderIcon)
    card.setIconSize(QSize(SIDE, SIDE))
    card.setToolTip(hint)
    card.setFixedWidth(SIDE + 10)
    card.setStyleSheet("QToolButton { border: 2px solid transparent; padding: 2px; }")
    return card


def _faint(colour: str) -> str:
    return f"#40{colour[1:]}"
