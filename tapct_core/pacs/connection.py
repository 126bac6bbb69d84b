"""A line to one DICOMweb server: encrypted, its certificate verified, and what goes wrong said in one line.

Unencrypted HTTP is taken for this machine alone (an SSH tunnel, a test server). Redirects are not followed: they would
carry what was asked, a patient's ID, to another machine. A ``.netrc`` is not read.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..errors import UserError
from .credentials import PASSWORD, TOKEN, USER, Credentials, credentials_for

ADDRESS = "TAPCT_PACS"
"""The environment variable with the server's address."""
EXTRA = "pip install dicomweb-client keyring requests"
TIMEOUT_S = (10, 60)
"""To connect, and between two answers."""
BUSY = (408, 429, 502, 503, 504)
LOOPBACK = ("localhost", "127.0.0.1", "::1")
CERTIFICATES = "REQUESTS_CA_BUNDLE"
TALKATIVE = ("dicomweb_client", "retrying", "urllib3", "keyring")
"""Loggers that quote addresses, in which a patient's ID may stand."""


class NotAllowed(UserError):
    """The server wants a user and password, or others."""


class Unreachable(UserError):
    """The line broke, or was never there; asking again may help."""


@dataclass(frozen=True)
class Connection:
    """``client`` is dicomweb-client's; ``address`` has no credentials in it."""

    address: str
    client: Any

    @property
    def host(self) -> str:
        """The server's name, for words."""
        return urlsplit(self.address).hostname or ""

    @contextmanager
    def asked(self) -> Iterator[Any]:
        """The client; what it raises becomes a UserError, and what it would log is kept to itself."""
        import requests

        levels = [(log, log.level) for log in map(logging.getLogger, TALKATIVE)]
        for log, _ in levels:
            log.setLevel(logging.CRITICAL + 1)
        try:
            yield self.client
        except UserError:
            raise
        except requests.exceptions.HTTPError as error:
            raise self._refused(error.response.status_code if error.response is not None else 0) from None
        except requests.exceptions.SSLError:
            raise UserError(
                f"the certificate of {self.host} cannot be verified; set {CERTIFICATES} to the file with your "
                "institution's certificate authority, or check the address"
            ) from None
        except requests.exceptions.TooManyRedirects:
            raise UserError(f"{self.host} sends on to another address; give that one") from None
        except (requests.exceptions.JSONDecodeError, requests.exceptions.InvalidURL):
            raise UserError(f"{self.host} answers, but not as a DICOMweb server; check the address") from None
        except requests.exceptions.RequestException as error:
            raise Unreachable(
                f"{self.host} cannot be reached ({type(error).__name__}); check the address and the network, "
                "then ask again"
            ) from None
        except Exception as error:  # an answer that is no DICOMweb raises anything, and may quote what was asked
            raise UserError(
                f"{self.host} gave an answer that cannot be read ({type(error).__name__}); check the address"
            ) from None
        finally:
            for log, level in levels:
                log.setLevel(level)

    def _refused(self, status: int) -> UserError:
        if status in (401, 403):
            return NotAllowed(
                f"{self.host} does not let you in ({status}); set {USER} and {PASSWORD}, or {TOKEN}, or keep them in "
                f"the keyring: keyring set {self.address} USER"
            )
        if status in (404, 405):
            return UserError(
                f"{self.host} does not have this ({status}); the address ends in the DICOMweb root, such as /dicom-web"
            )
        if status in BUSY:
            return Unreachable(f"{self.host} is too busy to answer ({status}); ask again in a while")
        return UserError(f"{self.host} refuses with status {status}; ask those who run it")


def connect(address: str = "", credentials: Credentials | None = None) -> Connection:
    """A connection to ``address``, else to that of $TAPCT_PACS; nothing is sent yet.

    ``credentials`` are a person's word; without them, the environment's or the keyring's count.
    Raises UserError for an address that is none, is not encrypted or holds a password, and without the extra.
    """
    address = (address or os.environ.get(ADDRESS, "")).strip().rstrip("/")
    if not address:
        raise UserError(f"which PACS? give its DICOMweb address with --server, or set {ADDRESS}")
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("https", "http") or parts.query or parts.fragment:
        raise UserError("that is no address of a DICOMweb server; write it as https://pacs.example.org/dicom-web")
    if parts.username is not None or parts.password is not None:
        raise UserError(f"leave user and password out of the address; set {USER} and {PASSWORD} instead")
    if parts.scheme == "http" and host not in LOOPBACK:
        raise UserError(f"{host} would be asked without encryption; use its https:// address, or a tunnel to localhost")
    try:
        import requests
        from dicomweb_client import DICOMwebClient
    except ImportError:
        raise UserError(f"the package for DICOMweb is not installed; run {EXTRA}") from None

    session = requests.Session()
    session.max_redirects = 0
    session.auth = _Auth(credentials or credentials_for(address))
    client = DICOMwebClient(address, session=session, timeout=TIMEOUT_S)
    client.set_http_retry_params(retry=False)  # it would wait half a minute for a wrong address; `getting` asks again
    return Connection(address, client)


class _Auth:
    """Puts the credentials on each request. Also without any: requests would look into a .netrc otherwise.

    Wildcards go out as they are, which an address allows (RFC 3986, 3.4): Orthanc's plugin takes ``%2A`` literally.
    """

    def __init__(self, credentials: Credentials | None) -> None:
        self._credentials = credentials

    def __call__(self, request: Any) -> Any:
        from requests.auth import HTTPBasicAuth

        request.url = request.url.replace("%2A", "*").replace("%3F", "?")
        known = self._credentials
        if known is None:
            return request
        if known.token:
            request.headers["Authorization"] = f"Bearer {known.token}"
            return request
        return HTTPBasicAuth(known.user.encode(), known.password.encode())(request)
