"""Who asks a PACS: a user and password, or a token, from the environment or from the system's keyring."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

USER, PASSWORD, TOKEN = "TAPCT_PACS_USER", "TAPCT_PACS_PASSWORD", "TAPCT_PACS_TOKEN"


@dataclass(frozen=True)
class Credentials:
    """``user`` and ``password`` (HTTP Basic), or a bearer ``token``; the secrets show up in no repr."""

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)


def credentials_for(address: str) -> Credentials | None:
    """Those of the environment, else those that the keyring keeps for ``address``; None where there are none."""
    if os.environ.get(TOKEN):
        return Credentials(token=os.environ[TOKEN])
    if os.environ.get(USER):
        return Credentials(os.environ[USER], os.environ.get(PASSWORD, ""))
    return _from_keyring(address)


def keep(address: str, credentials: Credentials) -> bool:
    """Puts user and password into the system's keyring; False where it has none, or refuses."""
    try:
        import keyring

        keyring.set_password(address, credentials.user, credentials.password)
    except Exception:  # backends raise their own errors, and none of them may stand in the way
        return False
    return True


def _from_keyring(address: str) -> Credentials | None:
    try:
        import keyring

        found = keyring.get_credential(address, None)
    except Exception:  # no keyring, none that is unlocked, or no package: there are none then
        return None
    return Credentials(found.username, found.password) if found is not None else None
