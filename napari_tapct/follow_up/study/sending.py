"""*Send …*: SEG and SR that were exported, back to the study in the PACS from which the scan came."""

from __future__ import annotations

from pathlib import Path

from napari.utils.notifications import show_info
from qtpy.QtWidgets import QDialog, QDialogButtonBox, QLabel, QListWidget, QVBoxLayout, QWidget

from tapct_core.pacs import Sent, send_files

from ...jobs import Job, JobBar
from ...scans.pacs_server import ServerBar

FILES = "SEG and SR (*.dcm);;All files (*)"


class SendDialog(QDialog):
    """Which files go where; nothing is sent before *Send* is pressed."""

    def __init__(self, files: list[Path], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Send to PACS")
        self.resize(520, 260)
        self._files = files
        self.bar = JobBar()
        self.server = ServerBar(self.bar)
        names = QListWidget()
        names.addItems([file.name for file in files])
        hint = QLabel("Each goes to the study that its scan is of, with the patient as the images have it. "
                      "What is there already is not sent again.")  # fmt: skip
        hint.setWordWrap(True)
        box = QDialogButtonBox(QDialogButtonBox.Close)
        self.send_button = box.addButton("Send", QDialogButtonBox.ActionRole)
        self.send_button.clicked.connect(lambda _checked: self.send())
        box.rejected.connect(self.reject)
        for button in (*box.buttons(), self.bar.cancel_button):
            button.setAutoDefault(False)  # Enter after typing an address sends nothing
        column = QVBoxLayout(self)
        for part in (self.server, names, hint, self.bar, box):
            column.addWidget(part)

    def send(self) -> Job | None:
        """Sends them, and says what became of them."""
        self.send_button.setEnabled(False)
        job = self.server.run(
            f"Sending {len(self._files)} files",
            lambda job, server: send_files(server, self._files, job.report, job.cancelled),
            self._done,
            lambda: self.send_button.setEnabled(True),
        )
        if job is None:
            self.send_button.setEnabled(True)
        return job

    def _done(self, sent: list[Sent]) -> None:
        new = sum(one.stored for one in sent)
        before = f"; {len(sent) - new} were there already" if new < len(sent) else ""
        show_info(f"{new} of {len(sent)} files sent{before}")
        self.accept()
