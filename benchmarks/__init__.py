"""Benchmarks in four rooms: the network and its training, what it is worth, lesions, and what a person waits for.

A room is a folder and no part of a name: ``python -m benchmarks.store`` finds ``network/store.py``.
"""

from pathlib import Path

ROOMS = ("network", "quality", "lesions", "window")
__path__ += [str(Path(__file__).parent / room) for room in ROOMS]
