"""The lesion table with real mouse and keys: what it says, selection both ways, edits, filter, order, room."""

from __future__ import annotations

import pytest
from qtpy.compat import isalive
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QComboBox, QInputDialog, QLineEdit

from napari_tapct.follow_up.table.lesion_table import LesionTable
from napari_tapct.follow_up.table.model import COLUMNS, KEYS, UID
from tapct_core.lesions import Finding
from tapct_core.lesions.assessment import changes

from ..studies import editor_with_study


@pytest.fixture
def table(qtbot):
    """A wide table at the last time point, its editor, and the viewer that is kept alive."""
    viewer, editor, _ = editor_with_study()
    editor.set_timepoint("week 24")
    widget = LesionTable(editor)
    qtbot.addWidget(widget)
    widget.resize(1400, 300)
    widget.show()
    qtbot.waitExposed(widget)
    widget.kept = viewer
    return widget


def cell(widget, name, key):
    """The index of a lesion's cell."""
    row = widget.shown().index(name)
    return widget.proxy.index(row, KEYS.index(key))


def click(widget, index, kind=QTest.mouseClick, button=Qt.LeftButton):
    kind(widget.view.viewport(), button, Qt.NoModifier, widget.view.visualRect(index).center())
    QApplication.processEvents()


def test_it_says_what_the_study_says(table):
    editor = table._editor
    lesion = editor.study.lesions[0]
    measured = lesion.findings["week 24"].measurement
    said = {key: cell(table, "lung 1", key).data() for key in KEYS}
    assert said["axes"] == f"{measured.long_axis_mm:.1f} × {measured.short_axis_mm:.1f}"
    assert said["baseline"] == f"{lesion.findings['baseline'].measurement.long_axis_mm:.1f}"
    first, nadir = changes(editor.study, lesion, "week 24")
    assert said["from_baseline"] == f"−{-first:.0f} %" and said["from_nadir"] == f"+{nadir:.0f} %"
    assert (said["role"], said["state"], said["who"]) == ("target", "proposed", "–")
    assert cell(table, "node 1", "baseline").data() == (
        f"{editor.study.lesions[2].findings['baseline'].measurement.short_axis_mm:.1f}"
    )
    gone = {key: cell(table, "lung 2", key).data() for key in KEYS}
    assert (gone["axes"], gone["from_baseline"], gone["state"]) == ("–", "−100 %", "not present")
    assert gone["who"].startswith("AB")
    assert table.title.text() == "5 lesions at week 24" and table.open_only.text() == "Still to verify (4)"
    assert "decided by AB" in cell(table, "lung 2", "who").data(Qt.ToolTipRole)
    assert cell(table, "lung 3", "course").data(Qt.ToolTipRole).startswith("week 16: ")


def test_another_time_point_and_every_decision_show_at_once(table):
    editor = table._editor
    editor.set_timepoint("week 8")
    assert table.title.text() == "5 lesions at week 8" and table.open_only.text() == "Still to verify"
    assert cell(table, "lung 3", "state").data() == "not yet there"
    editor.set_timepoint("week 24")
    editor.do("accept", lambda study: study.accept(study.lesions[0].uid, "week 24", "EF"))
    assert cell(table, "lung 1", "state").data() == "accepted"
    assert cell(table, "lung 1", "who").data().startswith("EF")
    editor.undo()
    assert cell(table, "lung 1", "state").data() == "proposed"


@pytest.mark.parametrize(
    ("finding", "words"),
    [
        (None, "not looked for"),
        (Finding("disappeared"), "not found?"),
        (Finding("merged", (0.0, 0.0, 0.0)), "merged?"),
        (Finding("proposed", verdict="out of view"), "out of view"),
        (Finding("merged", (0.0, 0.0, 0.0), "AB"), "merged"),
    ],
)
def test_states_are_said_plainly(table, finding, words):
    def put(study):
        study.lesions[0].findings.pop("week 24")
        if finding is not None:
            study.lesions[0].findings["week 24"] = finding

    table._editor.do("put", put)
    assert cell(table, "lung 1", "state").data() == words


def test_selection_goes_both_ways(table):
    editor = table._editor
    click(table, cell(table, "node 1", "ml" if "ml" in KEYS else "volume"))
    assert editor.lesion.name == "node 1"
    editor.select(editor.study.lesions[3].uid)
    assert table.view.currentIndex().data(UID) == editor.selected
    QTest.keyClick(table.view, Qt.Key_Up)
    assert editor.lesion.name == "node 1"
    editor.do("rename", lambda study: setattr(study.lesions[0], "name", "other"))
    assert table.lesion.name == "node 1"  # the table was filled anew
    editor.select(None)
    assert not table.view.selectionModel().hasSelection()


@pytest.mark.parametrize("column", ["state", "name"])
def test_return_and_double_click_ask_to_be_shown(table, qtbot, column):
    """On the name, too, and without a field that takes the next shortcut's letter for the name."""
    uid = table._editor.study.lesions[1].uid
    with qtbot.waitSignal(table.jump_requested) as asked:
        click(table, cell(table, "lung 2", column))
        click(table, cell(table, "lung 2", column), QTest.mouseDClick)
    assert asked.args == [uid, "week 24"] and table.view.findChild(QLineEdit) is None
    QTest.keyClick(table.view, Qt.Key_A, Qt.ShiftModifier)
    assert table.view.findChild(QLineEdit) is None and table.shown()[1] == "lung 2"
    with qtbot.waitSignal(table.jump_requested):
        QTest.keyClick(table.view, Qt.Key_Return)


def test_a_name_is_typed_and_undone(table):
    click(table, cell(table, "lung 1", "name"))
    QTest.keyClick(table.view, Qt.Key_F2)
    editor = table.view.findChild(QLineEdit)
    editor.selectAll()
    QTest.keyClicks(editor, "S6 nodule")
    QTest.keyClick(editor, Qt.Key_Return)
    QApplication.processEvents()
    assert table._editor.study.lesions[0].name == "S6 nodule" and "S6 nodule" in table.shown()
    assert table._editor.lesion.name == "S6 nodule"
    table._editor.undo()
    assert table.shown()[0] == "lung 1"


def test_a_role_is_chosen_by_a_click(table):
    click(table, cell(table, "lung 3", "role"))
    box = table.view.findChild(QComboBox)
    assert [box.itemText(i) for i in range(3)] == ["target", "non-target", "–"]
    list_ = box.view()
    QTest.mouseClick(list_.viewport(), Qt.LeftButton, pos=list_.visualRect(box.model().index(1, 0)).center())
    QApplication.processEvents()
    assert table._editor.study.lesions[4].role == "non-target"
    assert cell(table, "lung 3", "role").data() == "non-target"
    table._editor.undo()
    assert table._editor.study.lesions[4].role == ""


def test_the_menu_changes_what_a_lesion_is(table):
    editor = table._editor

    def action(words):
        menu = table.menu_of(editor.study.lesions[0])
        every = [*menu.actions(), *[a for top in menu.actions() if top.menu() for a in top.menu().actions()]]
        return menu, next(one for one in every if one.text().startswith(words))

    table._editor.select(editor.study.lesions[0].uid)
    for words, read, value in (
        ("non-target", lambda: editor.study.lesions[0].role, "non-target"),
        ("neither", lambda: editor.study.lesions[0].role, ""),
        ("Lymph node", lambda: editor.study.lesions[0].node, True),
    ):
        menu, one = action(words)
        one.trigger()
        assert read() == value
        editor.undo()
        menu.deleteLater()
    menu, one = action("target")
    assert one.isChecked()
    menu.deleteLater()
    menu, one = action("Delete")
    one.trigger()
    menu.deleteLater()
    assert "lung 1" not in table.shown() and editor.selected is None
    editor.undo()
    assert table.shown()[0] == "lung 1"


def test_the_menu_comments_splits_and_merges(table, monkeypatch):
    editor = table._editor
    lesion, other = editor.study.lesions[0], editor.study.lesions[1]
    timepoint = table.model.timepoint
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: ("beside the fissure", True))
    actions = {action.text(): action for action in table.menu_of(lesion).actions()}
    actions[f"Comment at {timepoint} …"].trigger()
    assert editor.study.lesions[0].findings[timepoint].comment == "beside the fissure"
    for words, state in (("Split from …", "split"), ("Merged into …", "merged")):
        actions = {action.text(): action for action in table.menu_of(editor.study.lesions[0]).actions()}
        next(one for one in actions[words].menu().actions() if one.text() == other.name).trigger()
        found = editor.study.lesions[0].findings[timepoint]
        assert found.state == state and found.related == (other.uid,) and found.decided_by == editor.reader
    editor.undo()
    assert editor.study.lesions[0].findings[timepoint].state == "split"


def test_body_sites_are_offered_and_detail_is_free(table, monkeypatch):
    editor, offered = table._editor, []

    def answer(_parent, _title, _words, items, _current):
        offered.extend(items)
        return "liver, segment 7", True

    monkeypatch.setattr(QInputDialog, "getItem", answer)
    actions = {action.text(): action for action in table.menu_of(editor.study.lesions[0]).actions()}
    actions["Organ …"].trigger()
    assert {"liver", "lung", "adrenal gland"} <= set(offered) and len(offered) == len(set(offered))
    assert editor.study.lesions[0].organ == "liver, segment 7"


def test_delete_key_deletes_what_is_current(table):
    click(table, cell(table, "pleura", "state"))
    QTest.keyClick(table.view, Qt.Key_Delete)
    assert "pleura" not in table.shown()
    assert table._editor.undo_words == "delete pleura"


def test_only_what_is_still_to_verify(table):
    editor = table._editor
    QTest.mouseClick(table.open_only, Qt.LeftButton, pos=table.open_only.rect().center() * 0.2)
    assert table.shown() == ["lung 1", "lung 3", "node 1", "pleura"]
    editor.do("accept", lambda study: study.accept(study.lesions[0].uid, "week 24", "AB"))
    assert table.shown() == ["lung 3", "node 1", "pleura"]
    editor.set_timepoint("week 16")
    assert table.shown() == []


def test_unknown_comes_last_in_either_order(table):
    for order in (Qt.AscendingOrder, Qt.DescendingOrder):
        table.view.sortByColumn(KEYS.index("axes"), order)
        assert table.shown()[-1] == "lung 2"
    assert table.shown()[:4] == ["pleura", "lung 1", "lung 3", "node 1"]  # a node's short axis counts
    table.view.sortByColumn(KEYS.index("role"), Qt.AscendingOrder)
    assert table.shown()[-2:] == ["pleura", "lung 3"]
    table.view.sortByColumn(-1, Qt.AscendingOrder)
    assert table.shown() == ["lung 1", "lung 2", "node 1", "pleura", "lung 3"]


def test_lesions_stand_as_a_person_counts(table):
    names = ["L10", "L2", "l1", "Node 3b", "Node 03a"]

    def rename(study):
        for lesion, name in zip(study.lesions, names, strict=True):
            lesion.name = name

    table._editor.do("rename", rename)
    assert table.shown() == ["l1", "L2", "L10", "Node 03a", "Node 3b"]
    header = table.view.horizontalHeader()
    at = QPoint(header.sectionViewportPosition(KEYS.index("name")) + 20, header.height() // 2)
    QTest.mouseClick(header.viewport(), Qt.LeftButton, Qt.NoModifier, at)
    assert table.shown() == ["Node 3b", "Node 03a", "L10", "L2", "l1"]
    QTest.mouseClick(header.viewport(), Qt.LeftButton, Qt.NoModifier, at)
    assert table.shown() == names  # the study's own order


def test_words_typed_above_filter_the_rows(table):
    table._editor.do("comment", lambda study: study.set_comment(study.lesions[3].uid, "week 24", "Beside the rib"))
    for words, names in (
        ("LUNG", ["lung 1", "lung 2", "lung 3"]),
        ("lung not present", ["lung 2"]),
        ("rib", ["pleura"]),
        ("nothing of the sort", []),
    ):
        table.words.clear()
        QTest.keyClicks(table.words, words)
        assert table.shown() == names
    table.words.clear()
    assert len(table.shown()) == 5


def test_a_person_chooses_the_columns(table):
    def at(menu, title):
        return next(one for one in menu.actions() if one.text() == title)

    menu = table.columns.menu()
    assert not at(menu, "Lesion").isEnabled() and at(menu, "ml").isChecked()
    at(menu, "ml").trigger()
    assert table.view.isColumnHidden(KEYS.index("volume")) and not table.view.isColumnHidden(KEYS.index("who"))
    table.resize(1500, 300)
    QApplication.processEvents()
    assert table.view.isColumnHidden(KEYS.index("volume"))
    at(menu, "ml").trigger()
    menu.deleteLater()
    assert not table.view.isColumnHidden(KEYS.index("volume"))


def test_eight_rows_are_seen_in_the_height_that_it_asks_for(table):
    def more(study):
        for k in range(6):
            study.add_lesion(f"more {k}", "week 24", (1.0, 2.0, 3.0), "AB")

    table._editor.do("more", more)
    table.resize(700, table.height_for(8))
    QApplication.processEvents()
    table.view.scrollToTop()
    last = table.view.visualRect(table.proxy.index(7, 0))
    assert last.bottom() <= table.view.viewport().height() < table.view.visualRect(table.proxy.index(9, 0)).bottom()


def test_columns_give_way_to_the_narrow_and_come_back(table):
    def shown():
        return {KEYS[i] for i in range(len(KEYS)) if not table.view.isColumnHidden(i)}

    assert shown() == set(KEYS)
    for width in (1000, 800, 600, 420):
        table.resize(width, 300)
        QApplication.processEvents()
        kept = [column for column in COLUMNS if column.key in shown()]
        gone = [column for column in COLUMNS if column.key not in shown()]
        assert all(a.spare < b.spare for a in kept for b in gone)
        assert sum(table.view.columnWidth(KEYS.index(column.key)) for column in kept) <= width
    assert {"name", "axes", "state"} <= shown() != set(KEYS)
    table.resize(1400, 300)
    QApplication.processEvents()
    assert shown() == set(KEYS)


def test_it_is_drawn_in_both_themes(table):
    images = []
    for theme, dark in (("dark", True), ("light", False)):
        table.kept.theme = theme
        QApplication.processEvents()
        images.append(table.view.grab().toImage())
        ground = images[-1].pixelColor(images[-1].width() - 40, images[-1].height() - 6)
        assert (ground.lightness() < 100) == dark
    assert images[0] != images[1]


def test_an_empty_study(table):
    table._editor.do("empty", lambda study: study.lesions.clear())
    assert table.title.text() == "No lesions yet" and table.shown() == []


def test_a_table_that_is_gone_is_not_told(qtbot):
    viewer, editor, _ = editor_with_study()
    widget = LesionTable(editor)
    widget.show()
    widget.deleteLater()
    qtbot.wait(50)
    editor.do("rename", lambda study: setattr(study.lesions[0], "name", "other"))
    editor.select(editor.study.lesions[0].uid)
    viewer.theme = "light"
    assert not isalive(widget)
