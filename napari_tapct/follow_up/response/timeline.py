"""The timeline: every lesion's diameter and the sum of targets over the dates of the scans."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QPointF, QSize, Qt
from qtpy.QtGui import QHelpEvent, QMouseEvent, QPainter, QPaintEvent
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from tapct_core.export.words import millimetres, percent
from tapct_core.lesions.assessment import changes
from tapct_core.lesions.curves import Curve, Mark, course_of

from ...callbacks import living
from ..proposals.sentences import title_of
from ..study.editor import StudyEditor
from ..table.palette import Palette
from .timeline_plot import Layout, Painting

REACH = 10.0
"""Pixels round a mark that still count as it."""


class Timeline(QWidget):
    """A click on a mark selects its lesion and compares its time point; one beside marks compares the time point."""

    def __init__(self, editor: StudyEditor) -> None:
        super().__init__()
        self._editor = editor
        self.palette_ = Palette.of(editor.session.viewer)
        self.course = course_of(editor.study)
        self.setMinimumSize(240, 130)
        self.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Expanding)
        self.setMouseTracking(True)
        editor.changed.connect(living(self.refresh))
        editor.timepoint_changed.connect(living(self._on_looked))
        editor.selection_changed.connect(living(self._on_looked))
        editor.session.viewer.events.theme.connect(living(self._on_theme))

    def sizeHint(self) -> QSize:
        return QSize(460, 300)

    @property
    def plot(self) -> Layout:
        """Where everything lies at the widget's size."""
        return Layout.of(self.course, self.width(), self.height(), self.font())

    def refresh(self) -> None:
        """Draws the study anew."""
        self.course = course_of(self._editor.study, self._slice_mm())
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        if not any(curve.marks for curve in self.course.curves):
            painter.fillRect(self.rect(), self.palette_.ground)
            painter.setPen(self.palette_.quiet)
            words = "Nothing is measured yet.\nGrow or paint a lesion's mask, and its diameter appears here."
            painter.drawText(self.rect(), int(Qt.AlignCenter | Qt.TextWordWrap), words)
            return
        names = self.course.names
        compared = names.index(self._editor.timepoint) if self._editor.timepoint in names else None
        Painting(painter, self.plot, self.palette_, self.font(), self._editor.selected).draw(compared)

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.ToolTip and isinstance(event, QHelpEvent):
            words = self.words_at(QPointF(event.pos()))
            QToolTip.showText(event.globalPos(), words, self)
            return True
        return super().event(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        over = self.plot.nearest(QPointF(event.pos()), REACH) is not None
        self.setCursor(Qt.PointingHandCursor if over else Qt.ArrowCursor)
        super().mouseMoveEvent(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() != Qt.LeftButton:
            super().mousePressEvent(event)
            return
        at, plot = QPointF(event.pos()), self.plot
        found, order = plot.nearest(at, REACH), plot.column(at)
        if found is not None:
            self._editor.select(found[0].lesion.uid)
            order = found[1].order
        if order:  # the baseline is what others are compared with
            self._editor.set_timepoint(self.course.names[order])

    def words_at(self, at: QPointF) -> str:
        """What the tooltip says of a place: a lesion's mark, else the time point with its response."""
        plot = self.plot
        found, order = plot.nearest(at, REACH), plot.column(at)
        if found is not None:
            return self._mark_words(*found)
        if order is None:
            return ""
        lines = [self._timepoint_words(order)]
        for one in self.course.responses:
            if one.timepoint == self.course.names[order]:
                provisional = ", provisional" if one.provisional else ""
                lines.append(f"{one.response.category}{provisional}: {one.response.rule}")
        return "\n".join(lines)

    def _mark_words(self, curve: Curve, mark: Mark) -> str:
        lesion, name = curve.lesion, self.course.names[mark.order]
        measured = mark.finding.measurement if mark.finding.present else None
        size = f"{measured.long_axis_mm:.1f} × {measured.short_axis_mm:.1f} mm" if measured else "gone"
        first, nadir = changes(self._editor.study, lesion, name)
        change = f"{percent(first)} since the first, {percent(nadir)} since the nadir" if first is not None else ""
        lines = [lesion.name, self._timepoint_words(mark.order), size, change, title_of(mark.finding)]
        return "\n".join(line for line in lines if line)

    def _timepoint_words(self, order: int) -> str:
        total = self.course.sums_mm[order]
        words = " · ".join(word for word in (self.course.names[order], self.course.dates[order]) if word)
        return words if total is None else f"{words} · sum {millimetres(total)} mm"

    def _slice_mm(self) -> float:
        """The baseline's slice spacing, which decides what may be a target; 0 while its scan is not open."""
        study = self._editor.study
        scan = self._editor.scan_of(study.timepoints[0].name) if study.timepoints else None
        return 0.0 if scan is None else scan.volume.geometry.spacing_mm[0]

    def _on_looked(self) -> None:
        self.update()

    def _on_theme(self, _event: object = None) -> None:
        self.palette_ = Palette.of(self._editor.session.viewer)
        self.update()
