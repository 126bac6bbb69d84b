"""Fixtures that every test may use: where the real CTs lie, and a scratch place for caches."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real CTs: $TAPCT_DATA, else ``shared/data`` beside the checkout."""
    folder = Path(os.environ.get("TAPCT_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "ct").is_dir():
        pytest.skip("the real CTs are not here; set TAPCT_DATA to the folder that holds them")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """No test reads or fills the person's own feature cache."""
    monkeypatch.setenv("TAPCT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("TAPCT_CONFIG", str(tmp_path_factory.getbasetemp() / "config"))
