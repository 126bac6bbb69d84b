"""What tells patients apart without naming them: a keyed hash, whose key never leaves the person's configuration.

A hash of a patient's ID alone is no pseudonym: IDs are short numbers, and all of them are hashed in seconds. With a
secret key (HMAC-SHA256, RFC 2104) nobody without that key can try them out. The key is made at first use and lies in
the person's configuration folder, readable by them alone; who loses it gets other keys for the same patients.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
from pathlib import Path

from .errors import UserError
from .files import read_limited

LENGTH = 12
"""Hexadecimal digits of a patient's key: chance gives two of a million patients the same one once in 500 times."""
KEY_FILE = "patient.key"

log = logging.getLogger(__name__)
_successors: dict[str, str] = {}


def patient_key(patient_id: str) -> str:
    """The key of a patient by their ID; "" for none, and where this person's secret can be neither read nor made."""
    if not patient_id:
        return ""
    secret = secret_key()
    if not secret:
        return ""
    found = hmac.new(secret, patient_id.encode(), hashlib.sha256).hexdigest()[:LENGTH]
    _successors[hashlib.sha256(patient_id.encode()).hexdigest()[:LENGTH]] = found
    return found


def current_key(key: str) -> str:
    """The keyed hash that takes the place of an unkeyed one, once a scan of that patient was opened; else ``key``.

    Studies written before keys were kept have the first digits of the ID's plain SHA-256; they are saved with this.
    """
    return _successors.get(key, key)


def secret_key() -> bytes:
    """This person's secret, 32 bytes, made at first use; b"" where that cannot be."""
    path = config_folder() / KEY_FILE
    try:
        if not path.exists():
            _make(path)
        secret = bytes.fromhex(read_limited(path, 1000).decode("ascii").strip())
    except (OSError, ValueError, UserError) as error:
        log.warning("patients cannot be told apart: the key in %s cannot be read or made (%s)", path, error)
        return b""
    if len(secret) != 32:
        log.warning("patients cannot be told apart: %s is damaged; remove it, and another is made", path)
        return b""
    return secret


def config_folder() -> Path:
    """$TAPCT_CONFIG, else the place where this system keeps configuration."""
    if os.environ.get("TAPCT_CONFIG"):
        return Path(os.environ["TAPCT_CONFIG"])
    import platformdirs

    return Path(platformdirs.user_config_dir("napari-tapct", appauthor=False))


def _make(path: Path) -> None:
    """A new key, whole or not there; of two programs that make one at once, both go on with the same."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(part, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            if not path.exists():
                os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
