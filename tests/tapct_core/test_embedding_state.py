"""A broken-off embedding goes on from its checkpoint and ends with the same bytes."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from tapct_core import embedding
from tapct_core.embedding import embed
from tapct_core.errors import UserError
from tapct_core.progress import EmbeddingCancelled
from tapct_core.store import load_features, save_features

from .test_embedding import assert_same, noise_scan, small_encoder


@pytest.fixture(scope="module")
def encoder():
    return small_encoder()


@pytest.fixture(scope="module")
def scan():
    return noise_scan()


def broken_off(scan, encoder, checkpoint, after=5, **options):
    seen = []
    with pytest.raises(EmbeddingCancelled):
        embed(
            scan,
            encoder,
            checkpoint=checkpoint,
            batch_size=1,
            progress=lambda done, _: seen.append(done),
            cancel=lambda: seen[-1] >= after,
            **options,
        )


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_a_cancelled_run_goes_on_where_it_stopped(encoder, scan, tmp_path, overlap):
    checkpoint = tmp_path / "state"
    broken_off(scan, encoder, checkpoint, overlap=overlap)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    done = []
    resumed = embed(
        scan, encoder, overlap=overlap, batch_size=1, checkpoint=checkpoint, progress=lambda d, _: done.append(d)
    )
    assert done[0] == 5
    assert not list(tmp_path.iterdir())
    assert_same(resumed, embed(scan, encoder, overlap=overlap, batch_size=1))


def test_without_a_checkpoint_a_cancelled_run_leaves_nothing(encoder, scan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    broken_off(scan, encoder, None)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_something_else_is_refused_and_kept(encoder, scan, tmp_path):
    checkpoint = tmp_path / "state"
    broken_off(scan, encoder, checkpoint)
    for options in ({"overlap": 0.5}, {"spacing_mm": (3, 3, 3)}):
        with pytest.raises(UserError, match="another scan, encoder or plan"):
            embed(scan, encoder, checkpoint=checkpoint, **options)
    with pytest.raises(UserError, match="another scan"):
        embed(noise_scan(seed=1), encoder, checkpoint=checkpoint)
    assert checkpoint.exists()


def test_a_damaged_checkpoint_costs_only_time(encoder, scan, tmp_path):
    checkpoint = tmp_path / "state"
    reference = embed(scan, encoder, batch_size=1)
    broken_off(scan, encoder, checkpoint)
    whole = checkpoint.read_bytes()
    flipped = bytearray(whole)
    flipped[-100] ^= 1
    for damaged in (b"", whole[:100], whole[:-1], bytes(flipped), b"no safetensors at all"):
        checkpoint.write_bytes(damaged)
        starts = []
        again = embed(scan, encoder, batch_size=1, checkpoint=checkpoint, progress=lambda d, _, s=starts: s.append(d))
        assert starts[0] == 0
        assert_same(again, reference)


def test_a_checkpoint_that_cannot_be_written_does_not_stop_the_run(encoder, scan, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "CHECKPOINT_SECONDS", 0.0)
    (tmp_path / "file").write_text("not a folder")
    features = embed(scan, encoder, checkpoint=tmp_path / "file" / "state")
    assert features.valid.all()


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_a_killed_process_leaves_a_checkpoint_that_ends_in_equal_bytes(tmp_path, overlap):
    """SIGKILL after some windows, then the same command again; the stores of both runs are compared file by file."""
    script = textwrap.dedent(
        f"""
        import os, signal, sys
        from tapct_core import embedding
        from tapct_core.store import save_features
        from tests.tapct_core.test_embedding import noise_scan, small_encoder

        embedding.CHECKPOINT_SECONDS, embedding.SAVING_SHARE = 0.0, 1e9  # after every batch
        first = []
        def progress(done, total):
            first.append(done)
            if sys.argv[2] == "kill" and done - first[0] >= 7:
                os.kill(os.getpid(), signal.SIGKILL)
            if len(first) == 1:
                print(done, flush=True)
        encoder, scan = small_encoder(), noise_scan()
        options = dict(overlap={overlap}, batch_size=1, checkpoint=sys.argv[1], progress=progress)
        features = embedding.embed(scan, encoder, **options)
        save_features(sys.argv[1] + ".zarr", features)
        """
    )
    root = Path(__file__).resolve().parents[2]

    def run(name: str, kill: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / name), kill], cwd=root, capture_output=True, text=True
        )

    killed = run("broken", "kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = run("broken", "on")
    assert again.returncode == 0, again.stderr
    assert int(again.stdout) == 6  # the seventh window was painted, but not yet saved
    save_features(tmp_path / "whole.zarr", embed(noise_scan(), small_encoder(), overlap=overlap, batch_size=1))
    assert files(tmp_path / "broken.zarr") == files(tmp_path / "whole.zarr")
    assert np.isfinite(load_features(tmp_path / "broken.zarr").tokens).all()


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
