"""The colours of tables and plots in the theme that napari has on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari.utils.theme import get_theme
from qtpy.QtGui import QColor, QFont

from tapct_core.export.colours import CATEGORIES, GROWN, QUIET, SHRUNK, STATES, UNDECIDED, lesion_colour
from tapct_core.lesions.recist import PARTIAL, PROGRESS

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from tapct_core.lesions import Finding


@dataclass(frozen=True)
class Palette:
    """``ground`` is behind everything, ``raised`` behind cards, ``line`` parts rows, ``selected`` marks one."""

    dark: bool
    ground: QColor
    raised: QColor
    line: QColor
    selected: QColor
    text: QColor
    quiet: QColor
    undecided: QColor

    @classmethod
    def of(cls, viewer: Viewer | None) -> Palette:
        """The one of a viewer's theme; napari's dark one where the viewer is gone."""
        theme = get_theme(viewer.theme if viewer is not None else "dark")
        dark = theme.type == "dark"
        ground, raised, line, text = (
            QColor(*getattr(theme, name).as_rgb_tuple()[:3]) for name in ("background", "foreground", "primary", "text")
        )
        selected = QColor("#2f4a6d" if dark else "#c9dcf5")
        return cls(dark, ground, raised, line, selected, text, _of(QUIET, dark), _of(UNDECIDED, dark))

    def state(self, finding: Finding) -> QColor:
        """A finding's colour; what nobody has decided has one of its own."""
        return _of(STATES[finding.state], self.dark) if finding.decided else self.undecided

    def category(self, name: str) -> QColor:
        """A response's colour."""
        return _of(CATEGORIES[name], self.dark)

    def lesion(self, number: int) -> QColor:
        """The colour of the lesion at this place of the study."""
        return _of(lesion_colour(number), self.dark)

    def change(self, percent: float | None) -> QColor:
        """Growth and shrinkage beyond RECIST's limits stand out."""
        if percent is None:
            return self.quiet
        if percent >= PROGRESS:
            return _of(GROWN, self.dark)
        return _of(SHRUNK, self.dark) if percent <= PARTIAL else self.text


def small(font: QFont, by: float = 1.0) -> QFont:
    """The font, ``by`` points smaller."""
    out = QFont(font)
    if font.pointSizeF() > 0:
        out.setPointSizeF(max(6.0, font.pointSizeF() - by))
    else:
        out.setPixelSize(max(8, round(font.pixelSize() - by * 4 / 3)))
    return out


def bold(font: QFont) -> QFont:
    """The font, heavier."""
    out = QFont(font)
    out.setWeight(QFont.DemiBold)
    return out


def _of(pair: tuple[str, str], dark: bool) -> QColor:
    return QColor(pair[0] if dark else pair[1])
