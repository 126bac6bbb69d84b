"""What the lesion table says: a row a lesion, its measures at the compared time point and how they have changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSortFilterProxyModel, Qt
from qtpy.QtGui import QColor

from tapct_core.export.words import NOTHING, local_time, millilitres, millimetres, percent
from tapct_core.lesions import ROLES, Finding, Lesion, Study
from tapct_core.lesions.assessment import changes, diameter_mm
from tapct_core.lesions.tracking import OUT_OF_VIEW, REFUSED

from ..study.editor import StudyEditor
from ..study.lesion_edits import rename, set_role
from .palette import Palette

UID, SORT, FINDING = Qt.UserRole, Qt.UserRole + 1, Qt.UserRole + 2
"""A cell's tracking UID, what it sorts by (None comes last), and the finding of its row or None."""
ROLE_WORDS = {"target": "target", "non-target": "non-target", "": "–"}


@dataclass(frozen=True)
class Column:
    """``width`` in pixels at the least; of the columns that do not fit, those with the highest ``spare`` go first."""

    key: str
    title: str
    hint: str
    width: int
    spare: int = 0
    number: bool = False


COLUMNS = (
    Column("name", "Lesion", "Name and organ. F2: another name", 92),
    Column("role", "RECIST", "Target, non-target or neither. Click to change it", 74, 3),
    Column("baseline", "First", "RECIST diameter where the lesion was first measured, mm", 48, 5, True),
    Column("axes", "Long × short", "Axes at the compared time point, mm; heavy: RECIST's; ✎ by hand", 92, number=True),
    Column("volume", "ml", "Volume at the compared time point, ml", 48, 7, True),
    Column("from_baseline", "Δ first", "Change since its first RECIST diameter, per cent", 54, 2, True),
    Column("from_nadir", "Δ nadir", "Change since its smallest earlier RECIST diameter, per cent", 54, 1, True),
    Column("course", "Course", "RECIST diameter over all time points", 84, 4),
    Column("state", "State", "What is known at the compared time point; hollow: nobody has decided", 90),
    Column("who", "Decided", "Who decided, and when", 92, 8),
)
KEYS = tuple(column.key for column in COLUMNS)


class LesionModel(QAbstractTableModel):
    """The editor's study as rows. Cells are edited through the editor, so every edit can be undone."""

    def __init__(self, editor: StudyEditor, palette: Palette) -> None:
        super().__init__()
        self.editor, self.palette = editor, palette

    @property
    def study(self) -> Study:
        """The editor's, which undo replaces."""
        return self.editor.study

    @property
    def timepoint(self) -> str | None:
        """The compared one; the only one where there is no follow-up; None for an empty study."""
        if self.editor.timepoint is not None:
            return self.editor.timepoint
        return self.study.timepoints[0].name if self.study.timepoints else None

    def refresh(self) -> None:
        """Says everything anew."""
        self.beginResetModel()
        self.endResetModel()

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008 - Qt's own
        return 0 if parent.isValid() else len(self.study.lesions)

    def columnCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.DisplayRole) -> Any:
        if orientation != Qt.Horizontal:
            return None
        column = COLUMNS[section]
        return {
            Qt.DisplayRole: column.title,
            Qt.ToolTipRole: column.hint,
            Qt.TextAlignmentRole: (Qt.AlignRight if column.number else Qt.AlignLeft) | Qt.AlignVCenter,
        }.get(role)

    def flags(self, index: QModelIndex) -> Qt.ItemFlag:
        flags = Qt.ItemIsEnabled | Qt.ItemIsSelectable
        return flags | Qt.ItemIsEditable if KEYS[index.column()] in ("name", "role") else flags

    def data(self, index: QModelIndex, role: int = Qt.DisplayRole) -> Any:
        lesion, key = self.study.lesions[index.row()], KEYS[index.column()]
        finding = lesion.findings.get(self.timepoint or "")
        if role == UID:
            return lesion.uid
        if role == FINDING:
            return finding
        if role == Qt.TextAlignmentRole:
            return (Qt.AlignRight if COLUMNS[index.column()].number else Qt.AlignLeft) | Qt.AlignVCenter
        if role == Qt.EditRole:
            return {"name": lesion.name, "role": lesion.role}.get(key)
        value = self._value(lesion, finding, key)
        if role == Qt.DisplayRole:
            return _axes(finding) if key == "axes" else _words(key, value)
        if role == SORT:
            return value
        if role == Qt.ForegroundRole:
            return self._colour(key, value, finding)
        return self._hint(lesion, finding, key) if role == Qt.ToolTipRole else None

    def setData(self, index: QModelIndex, value: Any, role: int = Qt.EditRole) -> bool:
        if role != Qt.EditRole:
            return False
        lesion, key = self.study.lesions[index.row()], KEYS[index.column()]
        if key == "name":
            return rename(self.editor, lesion, str(value))
        return set_role(self.editor, lesion, str(value)) if key == "role" else False

    def _value(self, lesion: Lesion, finding: Finding | None, key: str) -> Any:
        """What a cell says, as it sorts."""
        measured = finding.measurement if finding is not None and finding.present else None
        if key in ("from_baseline", "from_nadir"):
            both = changes(self.study, lesion, self.timepoint) if self.timepoint else (None, None)
            return both[KEYS.index(key) - KEYS.index("from_baseline")]
        values: dict[str, Callable[[], Any]] = {
            "name": lambda: lesion.name,
            "role": lambda: lesion.role,
            "baseline": lambda: first_mm(self.study, lesion),
            "axes": lambda: measured and (measured.short_axis_mm if lesion.node else measured.long_axis_mm),
            "volume": lambda: measured and measured.volume_ml,
            "course": lambda: None,
            "state": lambda: state_words(self.study, lesion, self.timepoint),
            "who": lambda: finding.decided_at if finding is not None and finding.decided else None,
        }
        value = values[key]()
        return f"{value}\n{finding.decided_by}" if key == "who" and value is not None else value

    def _colour(self, key: str, value: Any, finding: Finding | None) -> QColor | None:
        if key in ("from_baseline", "from_nadir"):
            return self.palette.change(value)
        if key in ("baseline", "who") or value is None:
            return self.palette.quiet
        return self.palette.text

    def _hint(self, lesion: Lesion, finding: Finding | None, key: str) -> str:
        if key == "course":
            return "\n".join(_course_words(self.study, lesion))
        if key == "name":
            facts = [lesion.name, lesion.organ, "lymph node: RECIST reads the short axis" if lesion.node else ""]
            return "\n".join(fact for fact in facts if fact)
        if key in ("state", "who") and finding is not None:
            decided = f"decided by {finding.decided_by}, {local_time(finding.decided_at)}" if finding.decided else ""
            said = state_words(self.study, lesion, self.timepoint), decided, finding.reason, finding.comment
            return "\n".join(fact for fact in said if fact)
        if key == "axes" and finding is not None and finding.measurement is not None:
            said = f"{_axes(finding)} mm, {axes_words(finding)}"
            return f"{said}\n{COLUMNS[KEYS.index(key)].hint}"
        said = _axes(finding) if key == "axes" else _words(key, self._value(lesion, finding, key))
        return f"{said}\n{COLUMNS[KEYS.index(key)].hint}"


class LesionProxy(QSortFilterProxyModel):
    """Sorts by what cells mean, unknown last either way; hides what needs nobody when ``only_open``.

    ``words``, in small letters, must all be said of a lesion that is shown.
    """

    only_open = False
    words: tuple[str, ...] = ()

    def filterAcceptsRow(self, row: int, parent: QModelIndex) -> bool:
        model = self.sourceModel()
        if self.words:
            said = said_of(model.study, model.study.lesions[row], model.timepoint)
            if not all(word in said for word in self.words):
                return False
        return not self.only_open or is_open(model.study, model.study.lesions[row], model.timepoint)

    def lessThan(self, left: QModelIndex, right: QModelIndex) -> bool:
        model = self.sourceModel()
        a, b = (model.data(index, SORT) for index in (left, right))
        if KEYS[left.column()] == "role":
            a, b = ROLES.index(a), ROLES.index(b)
        if a is None or b is None:  # Qt turns the answer round for descending order
            descending = self.sortOrder() == Qt.DescendingOrder
            return (a is None and b is not None) if descending else (a is not None and b is None)
        return natural(a) < natural(b) if isinstance(a, str) else a < b


def natural(words: str) -> list[tuple[int, int, str]]:
    """What words sort by, as a person counts: L2 before L10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", words.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def said_of(study: Study, lesion: Lesion, timepoint: str | None) -> str:
    """All that the table says of a lesion in words, in small letters."""
    finding = lesion.findings.get(timepoint or "")
    by = (finding.decided_by, finding.comment, finding.reason) if finding is not None else ()
    facts = lesion.name, lesion.organ, lesion.role, "node" if lesion.node else "", state_words(study, lesion, timepoint)
    return "\n".join((*facts, *by)).casefold()


def is_open(study: Study, lesion: Lesion, timepoint: str | None) -> bool:
    """Whether a person still has to speak of the lesion at a time point: nobody has, and it is not before its first."""
    if timepoint is None:
        return False
    finding = lesion.findings.get(timepoint)
    if finding is not None:
        return not finding.decided or (finding.present and finding.doubtful)
    seen = [study.order(name) for name in lesion.findings]
    return bool(seen) and min(seen) < study.order(timepoint)


def state_words(study: Study, lesion: Lesion, timepoint: str | None) -> str:
    """The state at a time point, for a cell."""
    finding = lesion.findings.get(timepoint or "")
    if finding is None:
        return "not looked for" if is_open(study, lesion, timepoint) else "not yet there"
    if finding.decided and finding.present and finding.doubtful:
        return "axes in doubt"
    if finding.decided or finding.state == "proposed":
        nowhere = not finding.decided and not finding.present and finding.verdict in (OUT_OF_VIEW, REFUSED)
        return finding.verdict if nowhere else finding.state
    return "not found?" if finding.state == "disappeared" else f"{finding.state}?"


def first_mm(study: Study, lesion: Lesion) -> float | None:
    """The lesion's first RECIST diameter, mm."""
    every = (diameter_mm(lesion, timepoint.name) for timepoint in study.timepoints)
    return next((mm for mm in every if mm is not None), None)


def _words(key: str, value: Any) -> str:
    if key == "role":
        return ROLE_WORDS[value]
    if key == "who":
        stamp, _, by = (value or "\n").partition("\n")
        return "  ".join(part for part in (by, local_time(stamp)[5:10]) if part) or NOTHING
    if value is None:
        return "" if key == "course" else NOTHING
    if key in ("from_baseline", "from_nadir"):
        return percent(value)
    if key == "baseline":
        return millimetres(value)
    return millilitres(value) if key == "volume" else str(value)


def _axes(finding: Finding | None) -> str:
    measured = finding.measurement if finding is not None and finding.present else None
    if measured is None:
        return "too small" if finding is not None and finding.too_small else NOTHING
    kind = "⚠ " if finding.doubtful else "✎ " if measured.drawn else ""
    return f"{kind}{measured.long_axis_mm:.1f} × {measured.short_axis_mm:.1f}"


def axes_words(finding: Finding) -> str:
    """Which kind of axes a measured finding has."""
    if finding.measurement.drawn:
        return f"drawn by {finding.measured_by or finding.decided_by or 'a person'}"
    return "of a painted mask" if finding.mask_by == "person" else "of a grown mask"


def _course_words(study: Study, lesion: Lesion) -> list[str]:
    lines = []
    for timepoint in study.timepoints:
        finding = lesion.findings.get(timepoint.name)
        if finding is None:
            continue
        measured = finding.measurement if finding.present else None
        said = f"{_axes(finding)} mm" if measured else "not measured"
        by = f" ({finding.decided_by})" if finding.decided else " (proposed)"
        state = finding.state if finding.state not in ("accepted", "proposed") else ""
        lines.append(f"{timepoint.name}: {' '.join(p for p in (said if finding.present else '', state) if p)}{by}")
    return lines
