"""Every shortcut: in the docs as in the table, on its button, and working wherever the focus is."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QLineEdit, QListWidget, QVBoxLayout, QWidget

from napari_tapct.inner import main_window
from napari_tapct.keys import SHORTCUTS, key_button, markdown

from .conftest import canvas_of

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("write_key_tables", ROOT / "scripts" / "write_key_tables.py")
write_key_tables = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(write_key_tables)


@pytest.mark.parametrize("page", write_key_tables.PAGES)
def test_docs_and_table_agree(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert write_key_tables.with_tables(text) == text, "run: python scripts/write_key_tables.py"


def test_every_widgets_table_is_in_the_docs():
    pages = "".join((ROOT / "docs" / page).read_text(encoding="utf-8") for page in write_key_tables.PAGES)
    assert all(markdown(widget) in pages for widget in {one.widget for one in SHORTCUTS.values()})


def test_no_file_binds_a_key_of_its_own():
    for path in (ROOT / "napari_tapct").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert path.name == "keys.py" or not any(word in text for word in ("QShortcut", "Shift-", "Control-", "⇧")), (
            path
        )


def test_a_key_has_one_form_for_napari_for_qt_and_for_people():
    assert [(one.key, one.qt, one.shown) for one in (SHORTCUTS["accept"], SHORTCUTS["candidate before"])] == [
        ("Shift-A", "Shift+A", "⇧A"),
        (",", ",", ","),
    ]


@pytest.fixture
def panel(make_napari_viewer_proxy):
    """A window that has the keyboard, with a button of each kind, a list and a field in it; and what was pressed."""
    viewer = make_napari_viewer_proxy(show=True)
    widget, pressed = QWidget(), []
    column = QVBoxLayout(widget)
    for name in ("accept", "candidate after"):
        column.addWidget(key_button(viewer, name, lambda name=name: pressed.append(name)))
    widget.list, widget.field = QListWidget(), QLineEdit()
    widget.list.addItems(["Alpha", "Beta"])
    for part in (widget.list, widget.field):
        column.addWidget(part)
    viewer.window.add_dock_widget(widget, name="keys")
    window = main_window(viewer.__wrapped__)
    window.activateWindow()
    QTest.qWaitForWindowActive(window)
    return viewer, widget, pressed


def test_the_canvas_has_the_keys_without_the_window(panel):
    """As where another program's window is in front: napari's own binding answers."""
    viewer, _, pressed = panel
    main_window(viewer.__wrapped__).hide()
    for which, held in ((Qt.Key_A, Qt.ShiftModifier), (Qt.Key_Period, Qt.NoModifier)):
        QTest.keyClick(canvas_of(viewer), which, held)
    assert pressed == ["accept", "candidate after"]


def test_a_key_works_once_on_the_canvas_in_a_list_and_with_its_button_out_of_sight(panel):
    viewer, widget, pressed = panel
    for focus in (canvas_of(viewer), widget.list):
        focus.setFocus()
        QTest.keyClick(focus, Qt.Key_A, Qt.ShiftModifier)
        QTest.keyClick(focus, Qt.Key_Period)
    assert pressed == ["accept", "candidate after"] * 2
    widget.parentWidget().hide()
    QApplication.processEvents()
    QTest.keyClick(canvas_of(viewer), Qt.Key_A, Qt.ShiftModifier)
    assert pressed[4:] == ["accept"]


def test_a_field_that_is_typed_in_keeps_its_letters(panel):
    _, widget, pressed = panel
    widget.field.setFocus()
    QTest.keyClicks(widget.field, "A.")
    assert widget.field.text() == "A." and not pressed


def test_a_widget_that_is_opened_again_takes_its_keys_over(panel):
    viewer, widget, pressed = panel
    again = key_button(viewer, "accept", lambda: pressed.append("again"))
    widget.list.setFocus()
    QTest.keyClick(widget.list, Qt.Key_A, Qt.ShiftModifier)
    assert pressed == ["again"]
    again.deleteLater()
