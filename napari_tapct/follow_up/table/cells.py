"""How the lesion table draws its cells: a state as a dot with its word, a course as a small curve, a role to choose."""

from __future__ import annotations

from qtpy.QtCore import QAbstractItemModel, QModelIndex, QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QFont, QFontMetrics, QPainter, QPainterPath, QPen
from qtpy.QtWidgets import QComboBox, QStyle, QStyledItemDelegate, QStyleOptionViewItem, QWidget

from tapct_core.lesions.assessment import diameter_mm

from .model import FINDING, KEYS, ROLE_WORDS, UID, LesionModel
from .palette import Palette, bold, small

_PAD = 6
_LEFT = int(Qt.AlignLeft | Qt.AlignVCenter)


class Cells(QStyledItemDelegate):
    """Draws all of the table's cells, with the colours of the theme and a line under each row."""

    def __init__(self, model: LesionModel, parent: QWidget) -> None:
        super().__init__(parent)
        self._model = model

    @property
    def palette(self) -> Palette:
        """The theme's colours."""
        return self._model.palette

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:
        return QSize(super().sizeHint(option, index).width(), row_height(option.font))

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        painter.save()
        painter.setRenderHint(QPainter.Antialiasing)
        rect, palette = QRectF(option.rect), self.palette
        if option.state & QStyle.State_Selected:
            painter.fillRect(rect, palette.selected)
        painter.setPen(QPen(palette.line, 1))
        painter.drawLine(rect.bottomLeft(), rect.bottomRight())
        inner = rect.adjusted(_PAD, 0, -_PAD, 0)
        key = KEYS[index.column()]
        draws = {"state": self._state, "course": self._course, "name": self._name, "axes": self._axes}
        draw = draws.get(key, self._text)
        draw(painter, inner, option, index)
        painter.restore()

    def createEditor(self, parent: QWidget, option: QStyleOptionViewItem, index: QModelIndex) -> QWidget:
        if KEYS[index.column()] != "role":
            return super().createEditor(parent, option, index)
        box = QComboBox(parent)
        for role, words in ROLE_WORDS.items():
            box.addItem(words, role)
        box.activated.connect(lambda _: (self.commitData.emit(box), self.closeEditor.emit(box)))
        return box

    def setEditorData(self, editor: QWidget, index: QModelIndex) -> None:
        if isinstance(editor, QComboBox):
            editor.setCurrentIndex(editor.findData(index.data(Qt.EditRole)))
            editor.showPopup()
        else:
            super().setEditorData(editor, index)

    def setModelData(self, editor: QWidget, model: QAbstractItemModel, index: QModelIndex) -> None:
        if isinstance(editor, QComboBox):
            model.setData(index, editor.currentData())
        else:
            super().setModelData(editor, model, index)

    def _text(self, painter: QPainter, rect: QRectF, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        painter.setFont(option.font)
        painter.setPen(index.data(Qt.ForegroundRole) or self.palette.text)
        _elided(painter, rect, index.data() or "", index.data(Qt.TextAlignmentRole))

    def _axes(self, painter: QPainter, rect: QRectF, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Long and short axis; the one that RECIST reads is heavier, the other quiet."""
        long, times, short = index.data().partition(" × ")
        if not times:
            self._text(painter, rect, option, index)
            return
        node = self._model.study.lesion(index.data(UID)).node
        right = rect.right()
        for words, reads in ((short, node), (times, False), (long, not node)):
            painter.setFont(bold(option.font) if reads else option.font)
            painter.setPen(self.palette.text if reads else self.palette.quiet)
            width = painter.fontMetrics().horizontalAdvance(words)
            painter.drawText(QRectF(right - width - 1, rect.top(), width + 1, rect.height()), _LEFT, words)
            right -= width

    def _name(self, painter: QPainter, rect: QRectF, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """The lesion's colour as in the plot, its name, and its organ where there is room."""
        lesion = self._model.study.lesion(index.data(UID))
        painter.setPen(Qt.NoPen)
        painter.setBrush(self.palette.lesion(self._model.study.lesions.index(lesion)))
        painter.drawRoundedRect(QRectF(rect.left(), rect.center().y() - 6, 3, 12), 1.5, 1.5)
        rect = rect.adjusted(9, 0, 0, 0)
        painter.setFont(option.font)
        painter.setPen(self.palette.text)
        _elided(painter, rect, lesion.name, _LEFT)
        organ = ", ".join(word for word in (lesion.organ, "node" if lesion.node else "") if word)
        rest = rect.adjusted(QFontMetrics(option.font).horizontalAdvance(lesion.name) + 8, 0, 0, 0)
        if organ and rest.width() > 20:
            painter.setFont(small(option.font))
            painter.setPen(self.palette.quiet)
            _elided(painter, rest, organ, _LEFT)

    def _state(self, painter: QPainter, rect: QRectF, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        finding, middle = index.data(FINDING), QPointF(rect.left() + 4, rect.center().y())
        colour = self.palette.quiet
        if finding is not None:
            colour = self.palette.state(finding)
            painter.setPen(QPen(colour, 1.6))
            painter.setBrush(colour if finding.decided else Qt.NoBrush)
            painter.drawEllipse(middle, 3.6, 3.6)
        painter.setFont(option.font)
        painter.setPen(colour if finding is None or not finding.decided else self.palette.text)
        _elided(painter, rect.adjusted(14, 0, 0, 0), index.data() or "", _LEFT)

    def _course(self, painter: QPainter, rect: QRectF, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """The lesion's diameters on its own scale from 0; hollow ends are proposals, the compared one is ringed."""
        study = self._model.study
        lesion = study.lesion(index.data(UID))
        names = [timepoint.name for timepoint in study.timepoints]
        known = [(n, diameter_mm(lesion, name)) for n, name in enumerate(names)]
        top = max((mm for _, mm in known if mm is not None), default=0.0)
        if not top:
            return
        rect = rect.adjusted(4, 7, -4, -7)
        step = rect.width() / max(1, len(names) - 1)
        colour = self.palette.lesion(study.lesions.index(lesion))
        path, places = QPainterPath(), []
        for n, mm in known:
            if mm is None:
                continue
            place = QPointF(rect.left() + n * step, rect.bottom() - mm / top * rect.height())
            broken = not places or places[-1][0] != n - 1
            (path.moveTo if broken else path.lineTo)(place)
            places.append((n, place))
        painter.setBrush(Qt.NoBrush)
        painter.setPen(QPen(colour, 1.4))
        painter.drawPath(path)
        for n, place in places:
            decided = lesion.findings[names[n]].decided
            painter.setPen(QPen(colour, 1.2))
            ground = self.palette.selected if option.state & QStyle.State_Selected else self.palette.ground
            painter.setBrush(colour if decided else ground)
            size = 3.2 if names[n] == self._model.timepoint else 2.0
            painter.drawEllipse(place, size, size)


def row_height(font: QFont) -> int:
    """Pixels of a row."""
    return QFontMetrics(font).height() + 6


def _elided(painter: QPainter, rect: QRectF, text: str, alignment: int) -> None:
    painter.drawText(rect, int(alignment), painter.fontMetrics().elidedText(text, Qt.ElideRight, int(rect.width())))
