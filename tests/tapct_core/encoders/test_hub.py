"""Fetching from a hub that is really there, a small one: the real client in its own process speaks HTTP to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from tapct_core.encoders import save_encoder
from tapct_core.preprocessing import InputSpec
from tapct_core.vit import VisionTransformer3D, ViTConfig

NAME = "tap-ct-s-3d"
REPO = f"fomofo/{NAME}"
OLD, NEW = "a" * 40, "b" * 40


class Hub:
    """Repositories at commits, served as the hub does; remembers what it was asked for."""

    def __init__(self) -> None:
        self.head: dict[str, str] = {}
        self.files: dict[tuple[str, str, str], bytes] = {}
        self.asked: list[str] = []
        self.cut = False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_HEAD(self):
                self.do_GET()

            def do_GET(self):
                path = self.path.split("?")[0].strip("/")
                hub.asked.append(path)
                if path.startswith("api/models/"):
                    repo = "/".join(path.split("/")[2:4])
                    self._answer(json.dumps({"id": repo, "sha": hub.head.get(repo)}).encode(), repo in hub.head)
                    return
                repo, _, rest = path.partition("/resolve/")
                commit, _, name = rest.partition("/")
                known = any(key[:2] == (repo, commit) for key in hub.files)
                missing = "EntryNotFound" if known else "RevisionNotFound" if repo in hub.head else "RepoNotFound"
                body = hub.files.get((repo, commit, name))
                self._answer(body or b"", body is not None, commit, missing)

            def _answer(self, body: bytes, found: bool, commit: str = "", missing: str = "RepoNotFound"):
                self.send_response(200 if found else 404)
                self.send_header("Content-Length", str(len(body) if found else 0))
                if found and commit:
                    self.send_header("ETag", f'"{len(body)}-{commit}"')
                    self.send_header("X-Repo-Commit", commit)
                if not found:
                    self.send_header("X-Error-Code", missing)
                    self.send_header("X-Error-Message", missing)
                self.end_headers()
                if found and self.command == "GET":
                    self.wfile.write(body[: len(body) // 2] if hub.cut else body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def publish(self, repo: str, commit: str, folder) -> None:
        self.head[repo] = commit
        for path in folder.iterdir():
            self.files[repo, commit, path.name] = path.read_bytes()


@pytest.fixture
def hub():
    hub = Hub()
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


@pytest.fixture
def release(tmp_path):
    """A release-shaped folder with the S preset's width, and code that nobody must fetch."""
    config = ViTConfig(patch_size=(4, 8, 8), img_size=(4, 16, 16), embed_dim=384, depth=1, num_heads=6)
    torch.manual_seed(0)
    spec = InputSpec(patch_size=config.patch_size, img_size=config.img_size)
    folder = save_encoder(tmp_path / "release", VisionTransformer3D(config), spec)
    (folder / "modeling_tapct.py").write_text("raise SystemExit('remote code was run')")
    return folder


LOAD = """
from tapct_core.encoders import load_encoder
def get(name, offline): return load_encoder(name, device="cpu", offline=offline).origin
"""
FETCH = """
from tapct_core.encoders.hub import fetch
def get(name, offline): return "@".join(("fomofo/" + name, fetch("fomofo/" + name, offline=offline).revision))
"""


def run(way: str, tmp_path, url: str, *calls: tuple[str, bool | None], **environment: str) -> tuple[list[str], str]:
    """Gets each (name, offline) in one process of its own, as the client reads its settings once.

    Gives a line for each, the origin or what was refused, and what went to stderr.
    """
    code = (
        f"{way}\nfrom tapct_core.errors import UserError\n"
        f"for name, offline in {calls!r}:\n"
        "    try: print(get(name, offline))\n"
        "    except UserError as error: print('refused:', error)\n"
    )
    settings = {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment = {**os.environ, **settings, "OMP_NUM_THREADS": "1", **environment}
    environment.pop("HF_HUB_CACHE", None)
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    answers = result.stdout.splitlines()
    assert len(answers) == len(calls)  # one line each
    return answers, result.stderr


def test_two_files_are_fetched_once_and_kept_at_their_revision(tmp_path, hub, release):
    hub.publish(REPO, OLD, release)
    (origin,), said = run(LOAD, tmp_path, hub.url, (NAME, None))
    assert origin == f"{REPO}@{OLD}"
    assert "CC BY-NC 4.0" in said and "non-commercial" in said
    assert {path.rsplit("/", 1)[1] for path in hub.asked if "/resolve/" in path} == {"config.json", "model.safetensors"}
    # The hub moves on; what was fetched is used, and nobody is asked.
    hub.publish(REPO, NEW, release)
    hub.asked.clear()
    assert run(FETCH, tmp_path, hub.url, (NAME, None), (NAME, True))[0] == [f"{REPO}@{OLD}"] * 2
    assert not hub.asked


def test_a_pin_that_the_hub_does_not_know_gives_way_to_its_newest(tmp_path, hub, release):
    """The one public pin of the family names no model: B-3D may not have it."""
    repo = "fomofo/tap-ct-b-3d"
    hub.publish(repo, NEW, release)
    (answer,), said = run(LOAD, tmp_path, hub.url, ("tap-ct-b-3d", None))
    assert "has no revision 7694ac256370" in said
    assert "is not tap-ct-b-3d: its width is 384" in answer  # fetched, and found to be another model
    pinned = "7694ac2563707791f8fbb098695ec6571cfdbf4a"
    hub.publish(repo, pinned, release)
    hub.head[repo] = NEW
    hub.asked.clear()
    run(LOAD, tmp_path / "elsewhere", hub.url, (repo, None))
    assert any(pinned in path for path in hub.asked) and not any(NEW in path for path in hub.asked)


def test_without_a_network_the_manual_way_is_told(tmp_path, hub):
    answers = run(FETCH, tmp_path, "http://127.0.0.1:9", (NAME, None))[0]
    answers += run(FETCH, tmp_path, hub.url, (NAME, True), (NAME, None), HF_HUB_OFFLINE="1")[0]
    for answer in answers:
        for words in ("refused:", "config.json and model.safetensors", f"huggingface.co/{REPO}", "--encoder FOLDER"):
            assert words in answer
    assert not hub.asked


def test_a_missing_repository_and_a_broken_download_are_told(tmp_path, hub, release):
    hub.publish(REPO, OLD, release)
    hub.cut = True
    missing, broken = run(FETCH, tmp_path, hub.url, ("tap-ct-s-2d", None), (NAME, None))[0]
    assert "was not found on the hub" in missing
    assert broken.startswith("refused:") and "could not be fetched" in broken
    hub.cut = False
    assert run(FETCH, tmp_path, hub.url, (NAME, None))[0] == [f"{REPO}@{OLD}"]


def test_files_are_kept_to_as_first_seen(tmp_path, monkeypatch, caplog):
    """Without a published hash the first sight is said aloud, and another file at the same commit is refused."""
    from tapct_core.encoders import hub
    from tapct_core.errors import UserError

    monkeypatch.setattr(hub, "_cache_dir", lambda: tmp_path)
    folder = tmp_path / f"models--{REPO.replace('/', '--')}" / "snapshots" / OLD
    folder.mkdir(parents=True)
    for name in hub.FILES:
        (folder / name).write_bytes(name.encode())
    assert hub.fetch(REPO, OLD, offline=True) == (folder, OLD)
    assert "taken on trust" in caplog.text
    caplog.clear()
    assert hub.fetch(REPO, OLD, offline=True).revision == OLD and not caplog.text
    (folder / hub.WEIGHTS_FILE).write_bytes(b"other")
    with pytest.raises(UserError, match="not those first seen at revision aaaaaaaaaaaa"):
        hub.fetch(REPO, OLD, offline=True)
