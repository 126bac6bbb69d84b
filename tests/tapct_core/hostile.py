"""What the tests of hostile inputs share: a child process that may die, and what it counted before it ended."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GIGABYTE = 10**9

PREAMBLE = """
import json, resource, sys, warnings
from collections import Counter
from pathlib import Path
from tapct_core.errors import UserError
warnings.simplefilter("ignore")
folder, counts = Path(sys.argv[1]), Counter()
def attempt(act, what=""):
    "One input: counted as read, or as refused in one line; anything else ends the child with its traceback."
    try:
        found = act()
    except UserError as error:
        assert len(str(error).splitlines()) == 1 and len(str(error)) < 2000, (what, str(error))
        counts["refused"] += 1
        return None
    except BaseException:
        print("INPUT", what, file=sys.stderr, flush=True)
        raise
    counts["read"] += 1
    return found
"""


def run_child(
    code: str, folder: Path, *more: str, memory_gb: float | None = None, cpu_s: int | None = None, timeout: float = 3000
) -> dict:
    """Run ``code`` after PREAMBLE in a process of its own -> its ``counts``; a signal or a traceback fails the test.

    ``memory_gb`` bounds the address space beyond what the imports take, so that a bomb is a MemoryError, not a hang;
    ``cpu_s`` the processor's time, which a machine that has much else to do does not change.
    """
    limit = ""
    if memory_gb is not None:
        limit = f"""
import tapct_core as tc, numpy, scipy.ndimage, pydicom, nibabel, SimpleITK
def _limit():
    held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + {int(memory_gb * GIGABYTE)},) * 2)
_limit()
"""
    if cpu_s is not None:
        limit += f"\nresource.setrlimit(resource.RLIMIT_CPU, ({cpu_s}, {cpu_s}))\n"
    script = PREAMBLE + limit + textwrap.dedent(code) + "\nprint('COUNTS ' + json.dumps(counts))"
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", script, str(folder), *more],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr[-3000:]}"
    return json.loads(done.stdout.rsplit("COUNTS ", 1)[1])
