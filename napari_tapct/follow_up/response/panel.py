"""Response at every follow-up by the criterion of the study: sum, changes, category, and the rule that gave it."""

from __future__ import annotations

from html import escape

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from tapct_core.export.words import local_time, millimetres, percent
from tapct_core.lesions.assessment import Assessment
from tapct_core.lesions.criteria import CRITERIA
from tapct_core.lesions.curves import Course, course_of

from ...callbacks import living
from ..study.editor import StudyEditor
from ..table.palette import Palette

NO_TARGETS = "No lesion is a target yet. Choose targets in the table, under RECIST."
NO_FOLLOW_UP = "The response is read at follow-ups: open a second scan."


class ResponsePanel(QWidget):
    """A card a follow-up; a click compares that time point. Below, what a reader says of the non-targets there."""

    def __init__(self, editor: StudyEditor) -> None:
        super().__init__()
        self._editor = editor
        self.cards: list[ResponseCard] = []
        self.objections = QLabel()
        self.objections.setWordWrap(True)
        self._list = QVBoxLayout()
        self._list.setContentsMargins(0, 0, 0, 0)
        self._list.setSpacing(4)
        self._list.addStretch(1)
        inside = QWidget()
        inside.setLayout(self._list)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
        scroll.setWidget(inside)
        self.progressed = QCheckBox()
        self.progressed.setToolTip(
            "RECIST 1.1: an overall level of substantial worsening of the non-targets, beyond a modest growth of one. "
            "Only a reader can say so."
        )
        self.progressed.toggled.connect(self._on_judged)
        self.no_recurrence = QCheckBox()
        self.no_recurrence.setToolTip(
            "What is back after a complete response, or a new node below 15 mm where nothing else has progressed, "
            "counts as progression unless a reader says that it is none (EORTC, questions and answers)"
        )
        self.no_recurrence.toggled.connect(self._on_recurrence)
        self.note = QLineEdit()
        self.note.setPlaceholderText("why, in a few words")
        self.note.editingFinished.connect(self._on_note)
        row = QHBoxLayout()
        row.addWidget(self.progressed)
        row.addWidget(self.note, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        self.criterion = QComboBox()
        for name, criterion in CRITERIA.items():
            self.criterion.addItem(name)
            self.criterion.setItemData(self.criterion.count() - 1, criterion.source, Qt.ToolTipRole)
        self.criterion.setToolTip("What response is assessed by, in this study and in all that is exported from it")
        self.criterion.activated.connect(self._on_criterion)
        column.addWidget(self.criterion)
        column.addWidget(scroll, 1)
        column.addWidget(self.objections)
        column.addLayout(row)
        column.addWidget(self.no_recurrence)
        editor.changed.connect(living(self.refresh))
        editor.timepoint_changed.connect(living(self.refresh))
        editor.session.viewer.events.theme.connect(living(self._on_theme))
        self.refresh()

    def refresh(self) -> None:
        """Reads the study anew."""
        editor = self._editor
        self.criterion.setCurrentText(editor.study.criterion)
        palette = Palette.of(editor.session.viewer)
        course = course_of(editor.study, self._slice_mm())
        for card in self.cards:
            self._list.removeWidget(card)
            card.hide()  # it is deleted by the event loop, which may be a while
            card.deleteLater()
        self.cards = [ResponseCard(course, one, palette, one.timepoint == editor.timepoint) for one in course.responses]
        for place, card in enumerate(self.cards):
            card.clicked.connect(editor.set_timepoint)
            self._list.insertWidget(place, card)
        self._say(course, palette)
        self._show_judgement()
        self._show_recurrence(course)

    def _on_criterion(self, _place: int) -> None:
        name = self.criterion.currentText()
        self._editor.do(f"assess by {name}", lambda study: setattr(study, "criterion", name))

    def _say(self, course: Course, palette: Palette) -> None:
        """What the whole rests on, or lacks."""
        said = list(course.responses[0].objections) if course.responses else []
        if not course.responses:
            said = [NO_FOLLOW_UP]
        elif not any(lesion.role == "target" for lesion in self._editor.study.lesions):
            said = [NO_TARGETS]
        self.objections.setVisible(bool(said))
        self.objections.setText("<br>".join(escape(one) for one in said))
        self.objections.setStyleSheet(f"color: {palette.undecided.name()};")

    def _show_judgement(self) -> None:
        study, name = self._editor.study, self._editor.timepoint
        others = any(lesion.role == "non-target" for lesion in study.lesions)
        possible = name is not None and study.order(name) > 0 and others
        said = study.timepoints[study.order(name)].non_target_progress if possible else None
        self.progressed.setVisible(possible)
        self.note.setVisible(said is not None)
        self.progressed.blockSignals(True)
        self.progressed.setChecked(said is not None)
        self.progressed.blockSignals(False)
        self.progressed.setText(f"Unequivocal progression of non-targets at {name}" if possible else "")
        if said is not None:
            self.note.setText(said.note)
            self.note.setToolTip(f"said by {said.by}, {local_time(said.at)}")

    def _show_recurrence(self, course: Course) -> None:
        """Shown where a person's word decides, and where it was given."""
        study, name = self._editor.study, self._editor.timepoint
        said = study.timepoints[study.order(name)].no_recurrence if name is not None else None
        here = next((one for one in course.responses if one.timepoint == name), None)
        open_ = here is not None and here.asks_of_recurrence
        self.no_recurrence.setVisible(said is not None or open_)
        self.no_recurrence.blockSignals(True)
        self.no_recurrence.setChecked(said is not None)
        self.no_recurrence.blockSignals(False)
        by = f", says {said.by}, {local_time(said.at)}" if said is not None else ""
        self.no_recurrence.setText(f"What came back or is new at {name} is no progression{by}")

    def _on_recurrence(self, on: bool) -> None:
        judge_recurrence(self._editor, self._editor.timepoint, not on)

    def _on_judged(self, on: bool) -> None:
        judge_non_targets(self._editor, self._editor.timepoint, on)

    def _on_note(self) -> None:
        if not self.progressed.isChecked():  # it loses the keyboard when it is hidden, too
            return
        timepoint = self._editor.study.timepoints[self._editor.study.order(self._editor.timepoint)]
        said = timepoint.non_target_progress
        if said is not None and self.note.text().strip() != said.note:
            judge_non_targets(self._editor, timepoint.name, True, self.note.text())

    def _slice_mm(self) -> float:
        """The baseline's slice spacing, which decides what may be a target; 0 while its scan is not open."""
        study = self._editor.study
        scan = self._editor.scan_of(study.timepoints[0].name) if study.timepoints else None
        return 0.0 if scan is None else scan.volume.geometry.spacing_mm[0]

    def _on_theme(self, _event: object = None) -> None:
        self.refresh()


class ResponseCard(QFrame):
    """One follow-up: its name and date, the sum with its changes, the category, and below it the rule."""

    clicked = Signal(str)
    """The time point's name."""

    def __init__(self, course: Course, one: Assessment, palette: Palette, compared: bool) -> None:
        super().__init__()
        self.timepoint = one.timepoint
        order = course.names.index(one.timepoint)
        response = one.response
        colour = palette.category(response.category).name()
        edge = colour if compared else "transparent"
        self.setObjectName("card")
        self.setStyleSheet(
            f"#card {{ background: {palette.raised.name()}; border-left: 3px solid {edge}; border-radius: 3px; }}"
            "#card QLabel { background: transparent; }"
        )
        self.setCursor(Qt.PointingHandCursor)
        self.setToolTip("Click to compare this time point")
        quiet = palette.quiet.name()
        name = QLabel(
            f"<b>{escape(one.timepoint)}</b> <span style='color:{quiet}'>{escape(course.dates[order])}</span>"
        )
        self.numbers = QLabel(_numbers(one, palette))
        self.category = QLabel(response.category)
        fill = "transparent" if one.provisional else colour
        ink = colour if one.provisional else palette.ground.name()
        dash = "dashed" if one.provisional else "solid"
        self.category.setStyleSheet(
            f"background: {fill}; color: {ink}; border: 1px {dash} {colour}; border-radius: 8px; padding: 1px 8px;"
            " font-weight: 600;"
        )
        self.rule = QLabel(rule_words(one))
        self.rule.setWordWrap(True)
        self.rule.setTextFormat(Qt.PlainText)
        self.rule.setStyleSheet(f"color: {quiet};")
        grid = QGridLayout(self)
        grid.setContentsMargins(9, 6, 8, 6)
        grid.setVerticalSpacing(3)
        grid.addWidget(name, 0, 0)
        grid.addWidget(self.numbers, 0, 1, Qt.AlignRight)
        grid.addWidget(self.category, 0, 2, Qt.AlignRight)
        grid.addWidget(self.rule, 1, 0, 1, 3)
        grid.setColumnStretch(0, 1)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.LeftButton:
            self.clicked.emit(self.timepoint)
        super().mousePressEvent(event)


def judge_non_targets(editor: StudyEditor, timepoint: str, progressed: bool, note: str = "") -> None:
    """Whether the non-targets have unequivocally progressed, as the reader says; can be undone."""
    words = f"{'progress' if progressed else 'no progress'} of non-targets at {timepoint}"
    editor.do(words, lambda study: study.judge_non_targets(timepoint, progressed, editor.reader, note))


def judge_recurrence(editor: StudyEditor, timepoint: str, progressed: bool) -> None:
    """Whether what came back, or a new small node, is progression, as the reader says; can be undone."""
    words = f"what is back at {timepoint} is {'' if progressed else 'no '}progression"
    editor.do(words, lambda study: study.judge_recurrence(timepoint, progressed, editor.reader))


def rule_words(one: Assessment) -> str:
    """The rule, with who judged, and whether it rests on proposals."""
    said = [one.response.rule]
    judged = one.non_target_progress
    if judged is not None:
        note = f": {judged.note}" if judged.note else ""
        said.append(f"non-targets judged by {judged.by}{note}")
    if one.provisional:
        said.append("provisional: rests on proposals")
    said.extend(one.remarks)
    return "; ".join(said)


def _numbers(one: Assessment, palette: Palette) -> str:
    response, quiet = one.response, palette.quiet.name()
    sum_, unit = (response.sum_mm, "mm") if response.total is None else (response.total, response.unit)
    if sum_ is None:
        return f"<span style='color:{quiet}'>no sum</span>"
    parts = [f"<b>{millimetres(sum_)}</b> {unit}"]
    for change, of in ((response.change_from_baseline, "first"), (response.change_from_nadir, "nadir")):
        colour = palette.change(change).name()
        parts.append(
            f"<span style='color:{quiet}'>{of}</span> <span style='color:{colour}'>{percent(change, 1)}</span>"
        )
    return " &nbsp; ".join(parts)
