"""The smoke test of a device passes on a processor, and says what fails on one where it does."""

from __future__ import annotations

import json

import pytest
import torch

from training import smoke


@pytest.mark.slow
def test_every_check_passes_on_a_processor(tmp_path):
    assert smoke.main(["--device", "cpu", "--out", str(tmp_path / "smoke.json")]) == 0
    report = json.loads((tmp_path / "smoke.json").read_text())
    assert [check["name"] for check in report["checks"]] == list(smoke.CHECKS)
    assert all(check["passed"] for check in report["checks"])


def test_a_check_that_fails_is_told_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    def broken(bench):
        raise NotImplementedError("no deterministic kernel\nfor this")

    monkeypatch.setitem(smoke.CHECKS, "deterministic", broken)
    words = ["--device", "cpu", "--only", "deterministic", "device", "--out", str(tmp_path / "smoke.json")]
    assert smoke.main(words) == 1
    first, second = json.loads((tmp_path / "smoke.json").read_text())["checks"]
    assert (first["passed"], first["said"]) == (False, "NotImplementedError: no deterministic kernel for this")
    assert second["passed"]
    assert "1 of 2 passed" in capsys.readouterr().out


def test_what_is_not_equal_fails():
    with pytest.raises(AssertionError, match="gradient: 2 against 1"):
        smoke.agree({"dino": 1.0, "gradient": 2.0}, {"dino": 1.0, "gradient": 1.0}, 0.1)
    assert "largest" in smoke.agree({"dino": 1.01}, {"dino": 1.0}, 0.1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is one")
def test_without_cuda_it_says_so_in_one_line(tmp_path, capsys):
    assert smoke.main(["--device", "cuda", "--out", str(tmp_path / "smoke.json")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1 and not (tmp_path / "smoke.json").exists()
