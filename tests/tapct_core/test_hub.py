"""Fetching from a hub that is really there: a small one, spoken to over HTTP, with the real client in its own process."""

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

REPO = "fomofo/tap-ct-s-3d"
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


def load(tmp_path, url: str, name: str = "tap-ct-s-3d", offline: bool | None = None, **environment) -> tuple[str, str]:
    """Loads in a process of its own, as the client reads its settings once; gives origin or error, and stderr."""
    code = (
        "from tapct_core.encoders import load_encoder\n"
        "from tapct_core.errors import UserError\n"
        f"try: e = load_encoder({name!r}, device='cpu', offline={offline!r}); print(e.origin)\n"
        "except UserError as error: print('refused:', error)\n"
    )
    settings = {
        "HF_ENDPOINT": url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
    }
    environment = {**os.environ, **settings, **environment}
    environment.pop("HF_HUB_CACHE", None)
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip(), result.stderr


def test_two_files_are_fetched_once_and_kept_at_their_revision(tmp_path, hub, release):
    hub.publish(REPO, OLD, release)
    origin, said = load(tmp_path, hub.url)
    assert origin == f"{REPO}@{OLD}"
    assert "CC BY-NC 4.0" in said and "non-commercial" in said
    assert {path.rsplit("/", 1)[1] for path in hub.asked if "/resolve/" in path} == {"config.json", "model.safetensors"}
    # The hub moves on; what was fetched is used, and nobody is asked.
    hub.publish(REPO, NEW, release)
    hub.asked.clear()
    assert load(tmp_path, hub.url)[0] == f"{REPO}@{OLD}"
    assert load(tmp_path, "http://127.0.0.1:9", HF_HUB_OFFLINE="1")[0] == f"{REPO}@{OLD}"
    assert not hub.asked


def test_a_pin_that_the_hub_does_not_know_gives_way_to_its_newest(tmp_path, hub, release):
    """The one public pin of the family names no model: B-3D may not have it."""
    repo = "fomofo/tap-ct-b-3d"
    hub.publish(repo, NEW, release)
    origin, said = load(tmp_path, hub.url, "tap-ct-b-3d")
    assert "has no revision 7694ac256370" in said
    assert "is not tap-ct-b-3d: its width is 384" in origin  # fetched, and found to be another model
    pinned = "7694ac2563707791f8fbb098695ec6571cfdbf4a"
    hub.publish(repo, pinned, release)
    hub.head[repo] = NEW
    hub.asked.clear()
    load(tmp_path / "elsewhere", hub.url, repo)
    assert any(pinned in path for path in hub.asked) and not any(NEW in path for path in hub.asked)


def test_without_a_network_the_manual_way_is_told(tmp_path, hub, release):
    for url, offline, environment in (
        ("http://127.0.0.1:9", None, {}),
        (hub.url, None, {"HF_HUB_OFFLINE": "1"}),
        (hub.url, True, {}),
    ):
        answer, _ = load(tmp_path, url, offline=offline, **environment)
        for words in ("refused:", "config.json and model.safetensors", f"huggingface.co/{REPO}", "--encoder FOLDER"):
            assert words in answer
        assert "\n" not in answer
    assert not hub.asked


def test_a_missing_repository_and_a_broken_download_are_told(tmp_path, hub, release):
    assert "was not found on the hub" in load(tmp_path, hub.url)[0]
    hub.publish(REPO, OLD, release)
    hub.cut = True
    answer, _ = load(tmp_path, hub.url)
    assert answer.startswith("refused:") and "could not be fetched" in answer
    hub.cut = False
    assert load(tmp_path, hub.url)[0] == f"{REPO}@{OLD}"
