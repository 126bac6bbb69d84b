"""The lesion table: what is known of every lesion at the compared time point, and how it has changed."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QItemSelectionModel, QModelIndex, QObject, QPoint, Qt, Signal
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QHBoxLayout,
    QHeaderView,
    QInputDialog,
    QLineEdit,
    QMenu,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from tapct_core.lesions import ROLES, Lesion
from tapct_core.lesions.body_sites import SITES

from ...callbacks import living
from ...keys import SHORTCUTS
from ..folding import ElidedLabel
from ..study.editor import StudyEditor
from ..study.lesion_edits import delete, relate, set_comment, set_node, set_organ, set_role
from .cells import Cells, row_height
from .columns import Columns
from .model import KEYS, ROLE_WORDS, UID, LesionModel, LesionProxy, is_open
from .palette import Palette


class LesionTable(QWidget):
    """A row a lesion; what is selected is selected everywhere. Columns that do not fit are left out.

    Double-click a row to go there, click a role to choose another; the context menu has the rest.
    """

    jump_requested = Signal(str, str)
    """Tracking UID and time point of a lesion that a person wants to be shown: Return, or a double-click."""

    def __init__(self, editor: StudyEditor) -> None:
        super().__init__()
        self._editor = editor
        self.model = LesionModel(editor, Palette.of(editor.session.viewer))
        self.proxy = LesionProxy()
        self.proxy.setSourceModel(self.model)
        self.title = ElidedLabel()
        self.words = QLineEdit()
        self.words.setPlaceholderText("Filter")
        self.words.setToolTip("Only lesions that say these words: in name, organ, role, state, reader or comment")
        self.words.setClearButtonEnabled(True)
        self.words.setMaximumWidth(140)
        self.words.textChanged.connect(self._on_words)
        self.open_only = QCheckBox()
        self.open_only.setToolTip("Only the lesions that nobody has decided on at this time point")
        self.open_only.toggled.connect(self._on_filter)
        self._acts = {
            SHORTCUTS["go to"].qt: self._jump,
            SHORTCUTS["rename"].qt: self._rename,
            SHORTCUTS["delete"].qt: self._on_delete,
        }
        self.view = self._make_view()
        self.columns = Columns(self.view)
        self.view.installEventFilter(self)
        self.view.viewport().installEventFilter(self)
        head = QHBoxLayout()
        head.addWidget(self.title, 1)
        head.addWidget(self.words)
        head.addWidget(self.open_only)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(head)
        column.addWidget(self.view, 1)
        editor.changed.connect(living(self.refresh))
        editor.timepoint_changed.connect(living(self.refresh))
        editor.selection_changed.connect(living(self._on_editor_selected))
        editor.session.viewer.events.theme.connect(living(self._on_theme))
        self._on_theme()
        self.refresh()

    def _make_view(self) -> QTableView:
        view = QTableView()
        view.setModel(self.proxy)
        view.setItemDelegate(Cells(self.model, view))
        view.setSelectionBehavior(QAbstractItemView.SelectRows)
        view.setSelectionMode(QAbstractItemView.SingleSelection)
        view.setEditTriggers(QAbstractItemView.NoEditTriggers)
        view.setVerticalScrollMode(QAbstractItemView.ScrollPerPixel)
        view.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
        view.setShowGrid(False)
        view.setWordWrap(False)
        view.setMinimumHeight(120)
        view.verticalHeader().hide()
        view.verticalHeader().setMinimumSectionSize(12)
        view.verticalHeader().setDefaultSectionSize(row_height(view.font()))
        header = view.horizontalHeader()
        header.setHighlightSections(False)
        header.setSectionResizeMode(QHeaderView.Fixed)
        header.setSectionResizeMode(KEYS.index("name"), QHeaderView.Stretch)
        header.setSortIndicatorClearable(True)
        header.setMinimumSectionSize(24)
        view.setSortingEnabled(True)
        view.sortByColumn(KEYS.index("name"), Qt.AscendingOrder)  # a third click on a title: the study's own order
        view.selectionModel().currentRowChanged.connect(self._on_row)
        view.clicked.connect(self._on_clicked)
        view.doubleClicked.connect(self._on_double_clicked)
        view.setContextMenuPolicy(Qt.CustomContextMenu)
        view.customContextMenuRequested.connect(self._on_menu)
        return view

    @property
    def lesion(self) -> Lesion | None:
        """The lesion of the row that is current."""
        index = self.view.currentIndex()
        return self._editor.study.lesion(index.data(UID)) if index.isValid() else None

    def refresh(self) -> None:
        """Shows the study anew; what is selected and where the table is scrolled to stay."""
        scrolled = self.view.verticalScrollBar().value()
        quiet = self.view.selectionModel().blockSignals(True)
        self.model.refresh()
        self.view.selectionModel().blockSignals(quiet)
        self._on_editor_selected()
        self.view.verticalScrollBar().setValue(scrolled)
        study, timepoint = self._editor.study, self.model.timepoint
        count = len(study.lesions)
        left = sum(is_open(study, lesion, timepoint) for lesion in study.lesions)
        where = f" at {timepoint}" if timepoint else ""
        self.title.setText(f"{count} lesion{'' if count == 1 else 's'}{where}" if count else "No lesions yet")
        self.open_only.setText(f"Still to verify ({left})" if left else "Still to verify")

    def row_of(self, uid: str) -> QModelIndex:
        """The first cell of a lesion's row; an invalid index where the filter hides it."""
        for row in range(self.proxy.rowCount()):
            index = self.proxy.index(row, 0)
            if index.data(UID) == uid:
                return index
        return QModelIndex()

    def height_for(self, rows: int) -> int:
        """Pixels in which that many rows are seen."""
        header = self.view.horizontalHeader().sizeHint().height()
        head = max(part.sizeHint().height() for part in (self.words, self.open_only, self.title))
        return head + self.layout().spacing() + header + rows * row_height(self.view.font()) + 2

    def shown(self) -> list[str]:
        """The names of the lesions as they stand in the table."""
        return [self.proxy.index(row, 0).data() for row in range(self.proxy.rowCount())]

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Resize:
            self.columns.fit()
        elif event.type() == QEvent.KeyPress and watched is self.view:
            act = self._acts.get("Return" if event.key() == Qt.Key_Enter else QKeySequence(event.key()).toString())
            if act is not None:
                act()
                return True
        return super().eventFilter(watched, event)

    def _on_editor_selected(self) -> None:
        index = self.row_of(self._editor.selected) if self._editor.selected is not None else QModelIndex()
        if index.isValid():
            flags = QItemSelectionModel.ClearAndSelect | QItemSelectionModel.Rows
            self.view.selectionModel().setCurrentIndex(index, flags)
            self.view.scrollTo(index)
        else:
            self.view.selectionModel().clear()

    def _on_row(self, index: QModelIndex, _before: QModelIndex) -> None:
        if index.isValid():
            self._editor.select(index.data(UID))

    def _on_filter(self, on: bool) -> None:
        self.proxy.only_open = on
        self.refresh()

    def _on_words(self, words: str) -> None:
        self.proxy.words = tuple(words.casefold().split())
        self.refresh()

    def _on_clicked(self, index: QModelIndex) -> None:
        if KEYS[index.column()] == "role":
            self.view.edit(index)

    def _on_double_clicked(self, index: QModelIndex) -> None:
        if KEYS[index.column()] != "role":  # a click there chooses another
            self._jump()

    def _rename(self) -> None:
        if self.lesion is not None:
            self.view.edit(self.row_of(self.lesion.uid))

    def _jump(self) -> None:
        if self.lesion is not None and self.model.timepoint is not None:
            self.jump_requested.emit(self.lesion.uid, self.model.timepoint)

    def _on_delete(self) -> None:
        if self.lesion is not None:
            delete(self._editor, self.lesion)

    def _on_menu(self, at: QPoint) -> None:
        index = self.view.indexAt(at)
        if index.isValid():
            self.view.setCurrentIndex(index)
            self.menu_of(self.lesion).exec(self.view.viewport().mapToGlobal(at))

    def menu_of(self, lesion: Lesion) -> QMenu:
        """What can be done with a lesion."""
        menu, editor = QMenu(self), self._editor
        menu.setAttribute(Qt.WA_DeleteOnClose)
        menu.addAction(_with_key("go to"), self._jump)
        menu.addSeparator()
        menu.addAction(_with_key("rename"), self._rename)
        roles = menu.addMenu("RECIST role")
        for role in ROLES:
            action = roles.addAction(ROLE_WORDS[role] if role else "neither")
            action.setCheckable(True)
            action.setChecked(role == lesion.role)
            action.triggered.connect(lambda _=False, role=role: set_role(editor, lesion, role))
        node = menu.addAction("Lymph node (RECIST reads the short axis)")
        node.setCheckable(True)
        node.setChecked(lesion.node)
        node.triggered.connect(lambda on: set_node(editor, lesion, on))
        menu.addAction("Organ …", lambda: self._ask_organ(lesion))
        self._add_finding_actions(menu, lesion)
        menu.addSeparator()
        menu.addAction(_with_key("delete", "Delete from all time points"), self._on_delete)
        return menu

    def _add_finding_actions(self, menu: QMenu, lesion: Lesion) -> None:
        """What can be said of the lesion at the compared time point, where it has a finding."""
        editor, timepoint = self._editor, self.model.timepoint
        finding = lesion.findings.get(timepoint or "")
        if finding is None:
            return
        menu.addSeparator()
        menu.addAction(f"Comment at {timepoint} …", lambda: self._ask_comment(lesion, timepoint))
        others = [one for one in editor.study.lesions if one.uid != lesion.uid and timepoint in one.findings]
        for state, words in (("split", "Split from"), ("merged", "Merged into")):
            part = menu.addMenu(f"{words} …")
            part.setEnabled(bool(others) and finding.present)
            for other in others:
                part.addAction(other.name).triggered.connect(
                    lambda _=False, state=state, other=other: relate(editor, lesion, timepoint, state, other)
                )

    def _ask_comment(self, lesion: Lesion, timepoint: str) -> None:
        known = lesion.findings[timepoint].comment
        words, given = QInputDialog.getText(self, "Comment", f"{lesion.name} at {timepoint}", text=known)
        if given:
            set_comment(self._editor, lesion, timepoint, words)

    def _ask_organ(self, lesion: Lesion) -> None:
        known = sorted({other.organ for other in self._editor.study.lesions if other.organ} | {lesion.organ})
        known += [site for site in SITES if site not in known]
        words = f"Where {lesion.name} lies: a body site, then a comma and what you like (liver, segment 7)"
        organ, given = QInputDialog.getItem(
            self, "Organ", f"{words}. RECIST 1.1 allows two targets in each organ", known,
            known.index(lesion.organ),
        )  # fmt: skip
        if given:
            set_organ(self._editor, lesion, organ)

    def _on_theme(self, _event: object = None) -> None:
        palette = Palette.of(self._editor.session.viewer)
        self.model.palette = palette
        self.title.setStyleSheet("font-weight: 600;")
        self.view.setStyleSheet(
            f"QTableView {{ background: {palette.ground.name()}; border: none; outline: none; }}"
            f"QHeaderView {{ background: {palette.ground.name()}; }}"
            f"QHeaderView::section {{ background: {palette.ground.name()}; color: {palette.quiet.name()};"
            f" border: none; border-bottom: 1px solid {palette.quiet.name()}; padding: 3px 6px; }}"
        )
        self.view.verticalHeader().setDefaultSectionSize(row_height(self.view.font()))
        self.view.viewport().update()
        self.columns.fit()


def _with_key(name: str, title: str = "") -> str:
    """A menu's line with its key."""
    return f"{title or SHORTCUTS[name].title}\t{SHORTCUTS[name].shown}"
