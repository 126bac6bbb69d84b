"""How the timeline is laid out and painted: above the sum of targets and the responses, below each lesion."""

from __future__ import annotations

from dataclasses import dataclass

from qtpy.QtCore import QLineF, QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPainterPath, QPen

from tapct_core.export.words import millimetres
from tapct_core.lesions.curves import Course, Curve, Mark, spread, ticks
from tapct_core.lesions.recist import PARTIAL, PROGRESS, PROGRESS_MM

from ..table.palette import Palette, bold, small

_RIGHT = int(Qt.AlignRight | Qt.AlignVCenter)
_LEFT = int(Qt.AlignLeft | Qt.AlignVCenter)
_LOW = int(Qt.AlignLeft | Qt.AlignBottom)
_HIGH = int(Qt.AlignHCenter | Qt.AlignTop)
SUM_SHARE = 0.4
"""Of the height, where there is a sum to show."""
ROOM_FOR_SUM = 240
"""Pixels of height below which the sum has no axis of its own: it then stands in the row of responses, as a number."""
_PILL_Y = 3
FAINT = 0.45


@dataclass(frozen=True)
class Panel:
    """A part of the plot with its own axis in mm."""

    rect: QRectF
    ticks: list[float]

    def y(self, mm: float) -> float:
        """The pixel at which a value is drawn."""
        return self.rect.bottom() - mm / self.ticks[-1] * self.rect.height()


@dataclass(frozen=True)
class Layout:
    """Where everything lies, for painting and for clicks. ``sums`` is None where there are no targets, or no room."""

    course: Course
    sums: Panel | None
    lesions: Panel

    @classmethod
    def of(cls, course: Course, width: float, height: float, font: QFont) -> Layout:
        """For a widget of this size."""
        metrics, tiny = QFontMetricsF(font), QFontMetricsF(small(font))
        labels = [metrics.horizontalAdvance(curve.lesion.name) for curve in course.curves]
        right = width - min(max([*labels, tiny.horizontalAdvance("0000-00-00") / 2]) + 16, 0.3 * width)
        left, head, foot = tiny.horizontalAdvance("000") + 10, tiny.height() + 4, 2 * tiny.height() + 10
        top, bottom = (_PILL_Y + 20 if course.responses else 2) + head, height - foot
        has_sum = course.largest_sum_mm > 0 and height >= ROOM_FOR_SUM
        middle = top + SUM_SHARE * (bottom - top) if has_sum else 0.0
        upper = QRectF(left, top, right - left, max(20.0, middle - top))
        lower = middle + head + 6 if has_sum else top
        below = QRectF(left, lower, right - left, max(20.0, bottom - lower))
        sums = Panel(upper, ticks(1.12 * course.largest_sum_mm, 3)) if has_sum else None
        return cls(course, sums, Panel(below, ticks(1.05 * course.largest_mm)))

    def x(self, order: int) -> float:
        """The pixel of a time point; the ends keep a little room."""
        rect = self.lesions.rect
        return rect.left() + 14 + self.course.places[order] * (rect.width() - 28)

    def place(self, mark: Mark) -> QPointF:
        """Where a lesion's mark is drawn."""
        return QPointF(self.x(mark.order), self.lesions.y(mark.mm))

    def nearest(self, at: QPointF, reach: float) -> tuple[Curve, Mark] | None:
        """The mark under a place, within ``reach`` pixels."""
        every = [(curve, mark) for curve in self.course.curves for mark in curve.marks]
        apart = [QLineF(self.place(mark), at).length() for _, mark in every]
        return every[apart.index(min(apart))] if apart and min(apart) <= reach else None

    def column(self, at: QPointF) -> int | None:
        """The time point whose column holds a place; None beside the plot."""
        rect, count = self.lesions.rect, len(self.course.names)
        if not count or not rect.left() - 10 <= at.x() <= rect.right() + 10:
            return None
        return min(range(count), key=lambda order: abs(self.x(order) - at.x()))


class Painting:
    """Draws one layout."""

    def __init__(self, painter: QPainter, layout: Layout, palette: Palette, font: QFont, selected: str | None) -> None:
        self.painter, self.layout, self.palette, self.font, self.selected = painter, layout, palette, font, selected
        self.tiny = small(font)

    def draw(self, compared: int | None) -> None:
        """Everything; ``compared`` is the number of the time point that has a column of its own."""
        painter, layout = self.painter, self.layout
        painter.setRenderHint(QPainter.Antialiasing)
        painter.fillRect(painter.viewport(), self.palette.ground)
        if compared is not None:
            top = layout.sums.rect.top() if layout.sums else layout.lesions.rect.top()
            band = QRectF(layout.x(compared) - 14, top - 4, 28, layout.lesions.rect.bottom() - top + 8)
            painter.setPen(Qt.NoPen)
            painter.setBrush(_alpha(self.palette.selected, 0.55))
            painter.drawRoundedRect(band, 4, 4)
        if layout.sums is not None:
            self._axis(layout.sums, "Sum of targets, mm")
            self._limits(layout.sums, compared)
            self._sums(layout.sums)
        nodes = any(curve.lesion.node for curve in layout.course.curves)
        self._axis(layout.lesions, "Diameters, mm; nodes: short axis" if nodes else "Diameters, mm")
        self._responses()
        self._dates()
        order = sorted(layout.course.curves, key=lambda curve: curve.lesion.uid == self.selected)
        for curve in order:
            self._curve(curve)
        self._names()

    def _axis(self, panel: Panel, title: str) -> None:
        rect = panel.rect
        self.painter.setFont(self.tiny)
        self._words(QRectF(4, rect.top() - 22, rect.right(), 18), _LEFT, title, self.palette.quiet)
        for value in panel.ticks:
            y = round(panel.y(value)) + 0.5
            self.painter.setPen(QPen(self.palette.line if value else self.palette.quiet, 1))
            self.painter.drawLine(QPointF(rect.left(), y), QPointF(rect.right(), y))
            self._words(QRectF(0, y - 9, rect.left() - 6, 18), _RIGHT, f"{value:g}", self.palette.quiet)

    def _limits(self, panel: Panel, compared: int | None) -> None:
        """Where a response and where progression would begin at the compared time point."""
        sums = self.layout.course.sums_mm
        if compared is None or sums[0] is None:
            return
        nadir = min(total for total in sums[: max(1, compared)] if total is not None)
        limits = (
            (sums[0] * (1 + PARTIAL / 100), "PR", f"−{-PARTIAL:.0f} %"),
            (max(nadir * (1 + PROGRESS / 100), nadir + PROGRESS_MM), "PD", f"+{PROGRESS:.0f} %"),
        )
        for mm, category, words in limits:
            colour, y = self.palette.category(category), panel.y(mm)
            if y < panel.rect.top():
                continue
            self.painter.setPen(QPen(_alpha(colour, 0.8), 1, Qt.DashLine))
            self.painter.drawLine(QPointF(panel.rect.left(), y), QPointF(panel.rect.right(), y))
            beside = QRectF(panel.rect.right() + 4, y - 9, 120, 18)
            self._words(beside, _LEFT, words, colour)

    def _sums(self, panel: Panel) -> None:
        layout, painter = self.layout, self.painter
        known = [(n, QPointF(layout.x(n), panel.y(mm))) for n, mm in enumerate(layout.course.sums_mm) if mm is not None]
        painter.setPen(QPen(self.palette.text, 2))
        for (a, start), (b, stop) in zip(known, known[1:], strict=False):
            if b == a + 1:
                painter.drawLine(start, stop)
        responses = {layout.course.names.index(one.timepoint): one for one in layout.course.responses}
        for n, place in known:
            hollow = n in responses and responses[n].provisional
            painter.setPen(QPen(self.palette.text, 1.6))
            painter.setBrush(self.palette.ground if hollow else self.palette.text)
            painter.drawEllipse(place, 3.4, 3.4)
            painter.setFont(self.tiny)
            box = QRectF(place.x() - 30, place.y() - 22, 60, 16)
            self._words(box, int(Qt.AlignCenter), millimetres(layout.course.sums_mm[n]), self.palette.text)

    def _responses(self) -> None:
        """The categories above their time points, with the sums where these have no axis."""
        for one in self.layout.course.responses:
            response = one.response
            words = {"Non-CR/Non-PD": "non-CR/PD"}.get(response.category, response.category)
            if self.layout.sums is None and response.sum_mm is not None:
                words += f"  {millimetres(response.sum_mm)}"
            self._pill(self.layout.course.names.index(one.timepoint), words, response.category, one.provisional)

    def _pill(self, order: int, words: str, category: str, provisional: bool) -> None:
        """A response in its colour; only outlined while it rests on proposals."""
        self.painter.setFont(bold(self.tiny))
        width = self.painter.fontMetrics().horizontalAdvance(words) + 14
        left = min(self.layout.x(order) - width / 2, self.painter.viewport().width() - width - 3)
        box, colour = QRectF(left, _PILL_Y, width, 17), self.palette.category(category)
        self.painter.setPen(QPen(colour, 1.2, Qt.DashLine if provisional else Qt.SolidLine))
        self.painter.setBrush(Qt.NoBrush if provisional else colour)
        self.painter.drawRoundedRect(box, 8.5, 8.5)
        self._words(box, int(Qt.AlignCenter), words, colour if provisional else self.palette.ground)

    def _dates(self) -> None:
        """Names and dates below; those that would overlap are left out, the compared one's never."""
        course, bottom = self.layout.course, self.layout.lesions.rect.bottom() + 6
        self.painter.setFont(self.tiny)
        metrics, last = self.painter.fontMetrics(), -1e9
        for n, (name, date) in enumerate(zip(course.names, course.dates, strict=True)):
            room = 96.0
            width = min(room, max(metrics.horizontalAdvance(name), metrics.horizontalAdvance(date)))
            if self.layout.x(n) - width / 2 < last + 6:
                continue
            last = self.layout.x(n) + width / 2
            for row, (words, colour) in enumerate(((name, self.palette.text), (date, self.palette.quiet))):
                box = QRectF(self.layout.x(n) - room / 2, bottom + row * metrics.height(), room, metrics.height())
                self._words(box, _HIGH, metrics.elidedText(words, Qt.ElideRight, int(room)), colour)

    def _curve(self, curve: Curve) -> None:
        strong = curve.lesion.uid == self.selected
        colour = self._colour(curve)
        pen = QPen(colour, 2.4 if strong else 1.5, Qt.SolidLine if curve.lesion.role == "target" else Qt.DashLine)
        for run in curve.runs:
            path = QPainterPath(self.layout.place(run[0]))
            for mark in run[1:]:
                path.lineTo(self.layout.place(mark))
            self.painter.setPen(pen)
            self.painter.setBrush(Qt.NoBrush)
            self.painter.drawPath(path)
        for mark in curve.marks:
            place, size = self.layout.place(mark), 4.2 if strong else 3.2
            self.painter.setPen(QPen(colour, 1.5))
            if mark.mm == 0:  # gone
                for dx in (1, -1):
                    corner = QPointF(dx * size, size)
                    self.painter.drawLine(place - corner, place + corner)
                continue
            self.painter.setBrush(colour if mark.finding.decided else self.palette.ground)
            self.painter.drawEllipse(place, size, size)

    def _names(self) -> None:
        """Each curve's name beside its end, moved apart where they would overlap."""
        shown = [curve for curve in self.layout.course.curves if curve.marks]
        wanted = [self.layout.lesions.y(curve.marks[-1].mm) for curve in shown]
        rect = self.layout.lesions.rect
        metrics = QFontMetricsF(self.font)
        places = spread(wanted, metrics.height() - 1, rect.top() + 2, rect.bottom() - 2)
        for curve, place, end in zip(shown, places, wanted, strict=True):
            mark, left = curve.marks[-1], rect.right() + 4
            if abs(place - end) > 3 or mark.order < len(self.layout.course.names) - 1:
                self.painter.setPen(QPen(_alpha(self._colour(curve), 0.5), 1, Qt.DotLine))
                self.painter.drawLine(self.layout.place(mark) + QPointF(6, 0), QPointF(left - 1, place))
            self.painter.setFont(bold(self.font) if curve.lesion.uid == self.selected else self.font)
            room = self.painter.viewport().width() - left - 4
            words = self.painter.fontMetrics().elidedText(curve.lesion.name, Qt.ElideRight, int(room))
            self._words(QRectF(left + 2, place - 9, room, 18), _LEFT, words, self._colour(curve))

    def _colour(self, curve: Curve) -> QColor:
        colour = self.palette.lesion(curve.number)
        return colour if self.selected in (None, curve.lesion.uid) else _alpha(colour, FAINT)

    def _words(self, box: QRectF, where: int, words: str, colour: QColor) -> None:
        self.painter.setPen(colour)
        self.painter.drawText(box, where, words)


def _alpha(colour: QColor, share: float) -> QColor:
    out = QColor(colour)
    out.setAlphaF(share)
    return out
