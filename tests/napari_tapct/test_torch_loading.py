"""PyTorch is loaded without garbage collections in between, and nothing that is removed later stays for that."""

from __future__ import annotations

import subprocess
import sys

WORDS = """
import gc, sys, threading
from napari_tapct.torch_loading import USED, load_torch, thaw
full = []
gc.callbacks.append(lambda phase, info: full.append(phase) if info["generation"] == 2 and "torch" in sys.modules else 0)
threads = [threading.Thread(target=load_torch) for _ in range(2)]
[t.start() for t in threads]; [t.join() for t in threads]
assert not set(USED) - set(sys.modules)
assert gc.isenabled() and gc.get_freeze_count() > 100_000, gc.get_freeze_count()
assert not full, "a full collection ran while torch was loading"
from tapct_core.encoders import load_encoder
load_encoder(device="cpu")
assert "sympy" not in sys.modules, "loading an encoder had torch import sympy, which takes over a second"
assert not full, "a full collection came just after"
thaw()
assert gc.get_freeze_count() == 0
gc.disable()
load_torch()
assert not gc.isenabled(), "whoever had collection off keeps it off"
"""

FREED = """
import gc, weakref
import napari
import numpy as np
from napari_tapct.session import session_of
from napari_tapct.torch_loading import load_torch

class Ring:
    def __init__(self):
        self.itself = self

viewer = napari.components.ViewerModel()
session_of(viewer)
layer = viewer.add_image(np.zeros((4, 8, 8)))
ring = Ring()  # stands for what a removed layer leaves behind: napari's own layers and visuals hold each other
gone = weakref.ref(ring)
load_torch()
del ring
gc.collect()
assert gone() is not None, "what was there when torch was loaded is passed over"
viewer.layers.remove(layer)
gc.collect()
assert gone() is None, "what a removed layer leaves behind stayed in memory"
"""


def run(words: str) -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_full_collection_while_loading_nor_just_after():
    run(WORDS)


def test_a_removed_layer_is_freed_though_torch_was_loaded_while_it_was_there(qapp):
    run(FREED)
