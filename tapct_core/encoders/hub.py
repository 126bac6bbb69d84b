"""Fetching a released encoder from the Hugging Face hub: two files, one revision, no code.

Downloads land in the hub library's own cache, so its settings hold: HF_HOME, HF_ENDPOINT,
HF_HUB_OFFLINE and the usual proxy variables. Only ``config.json`` and ``model.safetensors`` are asked
for; the release's Python files are never fetched.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from pathlib import Path
from typing import NamedTuple

from ..atomic import atomic_path
from ..errors import UserError
from ..strict_json import read_json

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
FILES = (CONFIG_FILE, WEIGHTS_FILE)
_PIN = "tapct-pin"
"""Ref in the hub's cache that keeps the revision first fetched, where a preset names none."""
_SUMS = "tapct-sums"
"""Beside it: the files' SHA-256 by commit, as first seen."""


class Fetched(NamedTuple):
    """A downloaded encoder: its folder and the commit it is."""

    folder: Path
    revision: str


def cached(repo_id: str, revision: str | None) -> Fetched | None:
    """The encoder if both files lie in the cache already, at ``revision`` or the one pinned there. No network."""
    for commit in (revision, _read_pin(repo_id)):
        if commit is None:
            continue
        folder = _repo_folder(repo_id) / "snapshots" / commit  # the library's documented layout, without its import
        if all((folder / name).is_file() for name in FILES):
            return Fetched(folder, commit)
    return None


def fetch(repo_id: str, revision: str | None = None, *, offline: bool | None = None) -> Fetched:
    """The encoder from the cache, else from the hub with a progress bar.

    ``revision`` is the commit to take. Where it is None, or the hub does not know it, the hub is
    asked once for the newest commit; that one is recorded beside the download and used from then on.
    ``offline`` None follows HF_HUB_OFFLINE. Raises UserError, with the way to do it by hand, when
    there is no network, the repository is missing or closed, or a download breaks off, and where the files
    are others than those first seen at that commit.
    """
    if found := cached(repo_id, revision):
        return _first_seen(repo_id, found)
    if offline or (offline is None and _offline()):
        raise UserError(_by_hand(repo_id, "is not in the cache and offline mode is on"))
    from huggingface_hub.errors import GatedRepoError, HTTPError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        if revision is not None:
            try:
                return _first_seen(repo_id, Fetched(_download(repo_id, revision), revision))
            except RevisionNotFoundError:
                logger.warning("%s has no revision %s; taking its newest and keeping to that", repo_id, revision[:12])
        commit = _newest(repo_id)
        folder = _download(repo_id, commit)
    except GatedRepoError:
        raise UserError(f"{repo_id} asks for a login; accept its terms on the hub, then run `hf auth login`") from None
    except RepositoryNotFoundError:
        raise UserError(_by_hand(repo_id, "was not found on the hub")) from None
    except (HTTPError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(_by_hand(repo_id, f"could not be fetched ({type(error).__name__}: {reason[:160]})")) from None
    _write_pin(repo_id, commit)
    logger.info("%s is kept at revision %s", repo_id, commit)
    return _first_seen(repo_id, Fetched(folder, commit))


def _download(repo_id: str, commit: str) -> Path:
    from huggingface_hub import hf_hub_download

    paths = [Path(hf_hub_download(repo_id, name, revision=commit, cache_dir=_cache_dir())) for name in FILES]
    return paths[0].parent


def _newest(repo_id: str) -> str:
    from huggingface_hub import HfApi

    commit = HfApi().model_info(repo_id, timeout=20).sha
    if not commit or not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise ValueError(f"the hub gave no commit for {repo_id}")
    return commit


def _cache_dir() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _repo_folder(repo_id: str) -> Path:
    return _cache_dir() / f"models--{repo_id.replace('/', '--')}"


def _pin_file(repo_id: str) -> Path:
    return _repo_folder(repo_id) / "refs" / _PIN


def _read_pin(repo_id: str) -> str | None:
    try:
        text = _pin_file(repo_id).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return text if re.fullmatch(r"[0-9a-f]{40}", text) else None


def _write_pin(repo_id: str, commit: str) -> None:
    path = _pin_file(repo_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{_PIN}.{os.getpid()}")
    scratch.write_text(commit, encoding="ascii")
    os.replace(scratch, path)


def _first_seen(repo_id: str, found: Fetched) -> Fetched:
    """``found``, if its files are those first seen at its commit; no hash of the release is published to go by.

    What is seen first is written down beside the download, and said. Raises UserError for other files.
    """
    path = _repo_folder(repo_id) / "refs" / _SUMS
    try:
        seen = read_json(path)
    except (OSError, ValueError):
        seen = {}
    sums = {name: _sha256(found.folder / name) for name in FILES}
    known = seen.get(found.revision) if isinstance(seen, dict) else None
    if known is None:
        logger.warning(
            "%s at %s: no hash is published, so these files are taken on trust and kept to from now on (SHA-256 %s)",
            repo_id, found.revision[:12], ", ".join(f"{name} {sum_[:16]}" for name, sum_ in sums.items()),
        )  # fmt: skip
        try:
            with atomic_path(path) as part:
                part.write_text(json.dumps({**(seen if isinstance(seen, dict) else {}), found.revision: sums}))
        except OSError as error:
            logger.warning("what was seen of %s cannot be written down (%s)", repo_id, error.strerror)
    elif known != sums:
        raise UserError(
            f"the files of {repo_id} in {found.folder} are not those first seen at revision {found.revision[:12]}; "
            "remove that folder and fetch them again"
        )
    return found


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _by_hand(repo_id: str, what: str) -> str:
    return (
        f"{repo_id} {what}; where there is a network, download {CONFIG_FILE} and {WEIGHTS_FILE} from "
        f"https://huggingface.co/{repo_id}/tree/main, put both into one folder here and pass --encoder FOLDER"
    )
