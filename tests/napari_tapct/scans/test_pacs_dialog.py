"""*From PACS …* against a real Orthanc, with mouse and keys: find, look, get, open; stop and go on; send back."""

from __future__ import annotations

import pytest

pytest.importorskip("dicomweb_client", reason="the extra `pacs` is not installed")

from io import BytesIO

import pydicom
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialogButtonBox

from napari_tapct.follow_up.study.sending import SendDialog
from napari_tapct.scans import pacs_server
from napari_tapct.scans.pacs_dialog import PacsDialog
from napari_tapct.scans.pacs_server import LoginDialog
from napari_tapct.session import session_of
from tapct_core.export import write_seg
from tapct_core.io import load_ct
from tapct_core.pacs import connect
from tests.tapct_core.pacs.conftest import PASSWORD, USER
from tests.tapct_core.pacs.test_pacs import STUDIES, files_of, study_of

LONG = 60_000


@pytest.fixture
def filled(orthanc, monkeypatch):
    """Three studies in the PACS; nobody has logged in, and the environment names the address alone."""
    everything = [data for uid, date, series in STUDIES for one in series for data in files_of(uid, date, *one)]
    with connect().asked() as client:
        client.store_instances([pydicom.dcmread(BytesIO(data)) for data in everything])
    monkeypatch.delenv("TAPCT_PACS_USER")
    monkeypatch.delenv("TAPCT_PACS_PASSWORD")
    monkeypatch.setattr("keyring.get_credential", lambda *_: None)
    monkeypatch.setattr(pacs_server, "_said", {})
    return orthanc


@pytest.fixture
def dialog(make_napari_viewer_proxy, filled, qtbot):
    """The dialog as the Scans widget opens it."""
    viewer = make_napari_viewer_proxy(show=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-tapct", "Scans")
    widget._on_pacs()
    dialog = widget.findChild(PacsDialog)
    qtbot.waitExposed(dialog)
    return viewer, widget, dialog


def log_in(parent, qtbot, password=PASSWORD, keep=False):
    """Types user and password into the question that is asked and not yet answered."""

    def asked():
        return [one for one in parent.findChildren(LoginDialog) if one.isVisible() and not one.user.text()]

    qtbot.waitUntil(lambda: bool(asked()), timeout=LONG)
    login = asked()[0]
    qtbot.keyClicks(login.user, USER)
    qtbot.keyClicks(login.password, password)
    assert login.password.displayText() != password
    login.keep.setChecked(keep)
    qtbot.mouseClick(login.findChild(QDialogButtonBox).button(QDialogButtonBox.Ok), Qt.LeftButton)


def found(dialog, qtbot):
    """Types the patient's ID and Enter, logs in, and waits for the list with its pictures."""
    qtbot.keyClicks(dialog.patient, "P-1")
    qtbot.keyClick(dialog.patient, Qt.Key_Return)
    log_in(dialog, qtbot)
    qtbot.waitUntil(lambda: len(dialog._items()) == 6, timeout=LONG)
    qtbot.waitUntil(lambda: all(not item.icon(0).isNull() for item in dialog._items()), timeout=LONG)


def test_find_look_get_and_open(dialog, qtbot, tmp_path, monkeypatch):
    viewer, widget, window = dialog
    assert not window.get_button.isEnabled()
    found(window, qtbot)
    assert [item.text(1) for item in window._items()][::2] == ["2024-07-07", "2024-04-06", "2024-01-05"]
    assert [one.series_uid for one in window.chosen] == ["1.2.3.3.2", "1.2.3.2.1", "1.2.3.1.1"]
    assert "3 series, 24 images" in window.hint.text()
    choose = "napari_tapct.scans.pacs_dialog.QFileDialog.getExistingDirectory"
    monkeypatch.setattr(choose, lambda *_: str(tmp_path / "scans"))
    qtbot.mouseClick(window.get_button, Qt.LeftButton)
    qtbot.waitUntil(lambda: len(session_of(viewer).scans) == 3, timeout=LONG)
    assert [scan.date for scan in session_of(viewer).scans] == ["2024-01-05", "2024-04-06", "2024-07-07"]
    assert sorted(path.name for path in (tmp_path / "scans").iterdir()) == ["1.2.3.1.1", "1.2.3.2.1", "1.2.3.3.2"]


def test_stopped_and_gone_on_with(dialog, qtbot, tmp_path, monkeypatch):
    viewer, widget, window = dialog
    found(window, qtbot)
    said = []
    monkeypatch.setattr("napari_tapct.scans.pacs_dialog.show_info", said.append)
    job = window.get(tmp_path)
    job.changed.connect(lambda: job.steps >= 3 and job.cancel())
    qtbot.waitUntil(lambda: bool(said), timeout=LONG)
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*.dcm")}
    assert "is kept" in said[0] and 0 < len(kept) < 24 and not session_of(viewer).scans
    window.get(tmp_path)
    qtbot.waitUntil(lambda: len(session_of(viewer).scans) == 3, timeout=LONG)
    now = {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*.dcm")}
    assert len(now) == 24 and kept.items() <= now.items()


def test_series_of_two_patients_are_not_got_together(dialog, qtbot):
    _, _, window = dialog
    found(window, qtbot)
    items = window._items()
    other = items[0].data(0, Qt.UserRole)
    items[0].setData(0, Qt.UserRole, type(other)(**{**other.__dict__, "patient_id": "P-2"}))
    items[0].setCheckState(0, Qt.Checked)
    assert not window.get_button.isEnabled() and "several patients" in window.hint.text()


def test_a_wrong_password_is_asked_for_again_and_none_is_kept(dialog, qtbot, monkeypatch):
    _, _, window = dialog
    kept = []
    monkeypatch.setattr("keyring.set_password", lambda *words: kept.append(words))
    qtbot.keyClicks(window.patient, "P-1")
    qtbot.mouseClick(window.find_button, Qt.LeftButton)
    log_in(window, qtbot, "wrong")
    log_in(window, qtbot)
    qtbot.waitUntil(lambda: len(window._items()) == 6, timeout=LONG)
    assert not kept
    assert pacs_server.kept_address() == window.server.address.text()


def test_a_password_goes_into_the_keyring_once_the_server_has_taken_it(dialog, qtbot, monkeypatch):
    _, _, window = dialog
    kept = []
    monkeypatch.setattr("keyring.set_password", lambda *words: kept.append(words))
    qtbot.keyClicks(window.patient, "P-1")
    qtbot.mouseClick(window.find_button, Qt.LeftButton)
    log_in(window, qtbot, "wrong", keep=True)
    log_in(window, qtbot, keep=True)
    qtbot.waitUntil(lambda: len(window._items()) == 6, timeout=LONG)
    assert kept == [(window.server.address.text(), USER, PASSWORD)]


def test_exported_files_are_sent_once(filled, qtbot, tmp_path, monkeypatch):
    files_of("1.2.3.1", "20240105", *STUDIES[0][2][0], folder=tmp_path / "own")
    volume = load_ct(tmp_path / "own")
    seg = write_seg(study_of(volume, tmp_path / "own")[0], "now", volume, tmp_path / "seg.dcm")
    said = []
    monkeypatch.setattr("napari_tapct.follow_up.study.sending.show_info", said.append)
    for number, words in enumerate(("1 of 1 files sent", "0 of 1 files sent; 1 were there already")):
        dialog = SendDialog([seg])
        qtbot.addWidget(dialog)
        dialog.show()
        qtbot.mouseClick(dialog.send_button, Qt.LeftButton)
        if not number:
            log_in(dialog, qtbot)
        qtbot.waitUntil(lambda count=number + 1: len(said) == count, timeout=LONG)
        assert said[-1] == words
