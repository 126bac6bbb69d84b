"""A real PACS for the tests: Debian's Orthanc with its DICOMweb plugin, on the loopback, empty at the start."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

pytest.importorskip("dicomweb_client", reason="the extra `pacs` is not installed")

PLUGINS = Path("/usr/share/orthanc/plugins")
USER, PASSWORD = "reader", "s3cret-word"
START_S = 30


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Orthanc:
    """A server that can be stopped and started again on the same data."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.process = folder, free_port(), None
        config = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "Plugins": [str(next(PLUGINS.glob("libOrthancDicomWeb*")))],
            "HttpPort": self.port,
            "RemoteAccessAllowed": False,
            "DicomServerEnabled": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (folder / "orthanc.json").write_text(json.dumps(config))

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"

    def start(self) -> None:
        program = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
        with open(self.folder / "orthanc.log", "ab") as log:
            self.process = subprocess.Popen(
                [program, str(self.folder / "orthanc.json")], stdout=log, stderr=log, cwd=self.folder
            )
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None, (self.folder / "orthanc.log").read_text()
            time.sleep(0.05)
        raise AssertionError("Orthanc did not start")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None


@pytest.fixture(scope="session")
def orthanc_program() -> None:
    """Skips, with what to install, where there is no Orthanc."""
    if not (shutil.which("Orthanc") or Path("/usr/sbin/Orthanc").exists()) or not list(
        PLUGINS.glob("libOrthancDicomWeb*")
    ):
        pytest.skip("no Orthanc on this machine: apt-get install orthanc orthanc-dicomweb")


@pytest.fixture
def orthanc(orthanc_program, tmp_path, monkeypatch):
    """A running, empty server, whose password the environment holds."""
    folder = tmp_path / "orthanc"
    folder.mkdir()
    server = Orthanc(folder)
    server.start()
    monkeypatch.setenv("TAPCT_PACS", server.address)
    monkeypatch.setenv("TAPCT_PACS_USER", USER)
    monkeypatch.setenv("TAPCT_PACS_PASSWORD", PASSWORD)
    yield server
    server.stop()
