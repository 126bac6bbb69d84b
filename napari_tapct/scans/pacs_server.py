"""Which PACS, and who asks it: a line with its address, and a question for user and password where it wants them.

The address is kept for the next time, a password only in the system's keyring, and only if a person says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from napari.utils.notifications import show_error
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from tapct_core.atomic import atomic_path
from tapct_core.errors import UserError
from tapct_core.pacs import Connection, NotAllowed, connect
from tapct_core.pacs.connection import ADDRESS
from tapct_core.pacs.credentials import Credentials, keep
from tapct_core.patient_key import config_folder

from ..jobs import Job, JobBar, sentence

KEPT = "pacs.address"
_said: dict[str, Credentials] = {}
"""User and password that a person has typed, by address, until the program ends."""
_to_keep: set[str] = set()
"""Addresses whose password goes into the keyring once the server has taken it."""


class ServerBar(QWidget):
    """The address, and the one way to ask the server something beside the interface thread."""

    def __init__(self, bar: JobBar) -> None:
        super().__init__()
        self._bar = bar
        self.address = QLineEdit(kept_address())
        self.address.setPlaceholderText("https://pacs.example.org/dicom-web")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(QLabel("DICOMweb server"))
        row.addWidget(self.address, 1)

    def run(
        self,
        title: str,
        ask: Callable[[Job, Connection], Any],
        done: Callable[[Any], None],
        ended: Callable[[], None] | None = None,
        part: Callable[[Any], None] | None = None,
    ) -> Job | None:
        """Asks the server; where it lets nobody in without a password, a person is asked for it, and it again.

        None where the address is none, which is shown.
        """
        address = self.address.text().strip()
        try:
            server = connect(address, _said.get(address))
        except UserError as error:
            show_error(str(error))
            return None

        def failed(error: Exception) -> None:
            if isinstance(error, NotAllowed):
                self._log_in(server, lambda: self.run(title, ask, done, ended, part))
            else:
                show_error(sentence(title, error))

        def arrived(value: Any) -> None:
            keep_address(address)
            if address in _to_keep:
                _to_keep.discard(address)
                if not keep(address, _said[address]):
                    show_error("this machine has no keyring that is open, so the password is kept until napari closes")
            done(value)

        job = Job(
            title, lambda job: ask(job, server), owner=self, done=arrived, part=part, failed=failed, ended=ended
        )
        self._bar.watch(job)
        return job.start()

    def _log_in(self, server: Connection, again: Callable[[], object]) -> None:
        dialog = LoginDialog(server.host, self)

        def finished(_: int) -> None:
            if dialog.result() == LoginDialog.Accepted:
                _said[server.address] = dialog.credentials
                (_to_keep.add if dialog.keep.isChecked() else _to_keep.discard)(server.address)
                again()

        dialog.finished.connect(finished)
        dialog.setAttribute(Qt.WA_DeleteOnClose)
        dialog.open()


class LoginDialog(QDialog):
    """User and password for one server."""

    def __init__(self, host: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"Log in to {host}")
        self.user, self.password = QLineEdit(), QLineEdit()
        self.password.setEchoMode(QLineEdit.Password)
        self.keep = QCheckBox("Keep in this machine's keyring")
        form = QFormLayout()
        form.addRow("User", self.user)
        form.addRow("Password", self.password)
        box = QDialogButtonBox(QDialogButtonBox.Ok | QDialogButtonBox.Cancel)
        box.accepted.connect(self.accept)
        box.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        column.addLayout(form)
        column.addWidget(self.keep)
        column.addWidget(box)

    @property
    def credentials(self) -> Credentials:
        """What was typed."""
        return Credentials(self.user.text(), self.password.text())


def kept_address() -> str:
    """The environment's, else the one that was asked last, else ""."""
    try:
        return os.environ.get(ADDRESS) or (config_folder() / KEPT).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def keep_address(address: str) -> None:
    """For the next time; it holds no password (:func:`~tapct_core.pacs.connect` refuses one)."""
    path = config_folder() / KEPT
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with atomic_path(path, private=True) as part:
            part.write_text(address, encoding="utf-8")
    except OSError:  # nobody loses anything but the typing
        return
