"""A patient's CTs out of a PACS, and SEG and SR back to the study they belong to, over DICOMweb.

    credentials.py   who asks: from the environment or the keyring, never from a file
    connection.py    an encrypted, verified line to one server; what goes wrong in one line
    finding.py       QIDO-RS: CT series of a patient with their dates, and which of prior studies go with one
    getting.py       WADO-RS: series into a folder, instance by instance; goes on where it broke off
    sending.py       STOW-RS: SEG and SR to their own study

Nothing here is called unless a person asks for it, and nothing of a patient or a password is logged.
Standard: DICOM PS3.18 (https://dicom.nema.org). The extra ``pacs`` brings dicomweb-client and keyring.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..lazy import fetch

if TYPE_CHECKING:
    from .connection import Connection, NotAllowed, connect
    from .finding import RemoteSeries, find_series, proposed, with_priors
    from .getting import get_series, picture_of
    from .sending import Sent, send_files

__all__ = [
    "Connection", "NotAllowed", "RemoteSeries", "Sent", "connect", "find_series", "get_series", "picture_of",
    "proposed", "send_files", "with_priors",
]  # fmt: skip

_WHERE = {
    "Connection": "connection",
    "NotAllowed": "connection",
    "connect": "connection",
    "RemoteSeries": "finding",
    "find_series": "finding",
    "proposed": "finding",
    "with_priors": "finding",
    "get_series": "getting",
    "picture_of": "getting",
    "Sent": "sending",
    "send_files": "sending",
}


def __getattr__(name: str) -> Any:
    return fetch(__name__, _WHERE, name)
