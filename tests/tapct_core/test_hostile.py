"""Bytes changed at random in every format that is opened: read, or refused in one line, and never anything else."""

from __future__ import annotations

import pytest

from .hostile import run_child

FORMATS = 32

MUTATE = """
import random, shutil
from tests.tapct_core.hostile_formats import formats
import logging
logging.disable(logging.CRITICAL)

each, rng = int(sys.argv[2]), random.Random(int(sys.argv[3]))
JOBS = formats(folder)
WORDS = [b"NaN", b"-1", b"9" * 30, b"1e999", b"null", b"[]", b"{}", b'"', b"\\\\ud800", b"\\x00", b"\\xff" * 8]
WORDS += [b",", b"\\n", b"0"]

def mutated(data):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        how, at = rng.randrange(6), rng.randrange(len(data) + 1)
        near = min(at, rng.randrange(1, 600)) if rng.random() < 0.5 else at  # half of them in the header
        if how == 0 and data:
            data[min(near, len(data) - 1)] ^= 1 << rng.randrange(8)
        elif how == 1 and data:
            data[min(near, len(data) - 1)] = rng.randrange(256)
        elif how == 2:
            del data[at:]
        elif how == 3:
            data[near:near] = rng.choice(WORDS)
        elif how == 4:
            word = rng.choice(WORDS)
            data[near : near + len(word)] = word
        else:
            del data[near : near + rng.randrange(1, 40)]
    return bytes(data)

for name, (path, load) in JOBS.items():
    whole = path.read_bytes()
    load()
    for number in range(each):
        path.write_bytes(mutated(whole))
        try:
            attempt(load, name)
        except BaseException:
            shutil.copy(path, "/tmp/hostile-" + name.replace(" ", "-"))
            raise
        counts["inputs"] += 1
        counts[name] += 1
    path.write_bytes(whole)
    load()
"""


def test_changed_bytes_are_read_or_refused(tmp_path):
    counts = run_child(MUTATE, tmp_path, "25", "1", memory_gb=4)
    assert counts["inputs"] == FORMATS * 25 and counts["refused"] > 200


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_ten_thousand_changed_inputs(tmp_path, seed):
    counts = run_child(MUTATE, tmp_path, "120", str(100 + seed), memory_gb=4)
    assert counts["inputs"] == FORMATS * 120 and counts["refused"] > 1000
