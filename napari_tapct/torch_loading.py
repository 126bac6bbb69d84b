"""Loading PyTorch in the background while a person works on.

Two things would make the interface thread wait. ``import torch`` keeps Python's global lock for as long as the system's
loader takes, which was 0.7 s on a busy machine. And the hundreds of thousands of objects that an import makes set off
full garbage collections, of which each holds every thread for a fifth of a second.
"""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

USED = ("torch", "tapct_core.encoders.encoder", "tapct_core.embedding", "tapct_core.matching.points")
_LOCK = Lock()


def load_torch() -> None:
    """Imports PyTorch and what of ours needs it; nothing where that is done. On a worker's thread.

    Collection rests meanwhile, and what is there by then is passed over from now on: modules live as long as the
    process. See :func:`thaw` for what does not.
    """
    with _LOCK:
        if all(name in sys.modules for name in USED):
            return
        was_on = gc.isenabled()
        gc.disable()
        try:
            _load_libraries()
            for name in USED:
                import_module(name)
            gc.freeze()
        finally:
            if was_on:
                gc.enable()


def thaw(*_: object) -> None:
    """Gives garbage collection everything back: a layer was removed, and it may hold a scan that nobody else frees."""
    gc.unfreeze()


def _load_libraries() -> None:
    """Has the system load torch's libraries, without Python's lock: loaded already, they cost the import nothing."""
    if "torch" in sys.modules or sys.platform == "win32":
        return
    import ctypes

    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return
    suffix = "dylib" if sys.platform == "darwin" else "so"
    loader = ctypes.CDLL(None).dlopen  # ctypes releases the lock for functions it calls, not for CDLL itself
    loader.restype, loader.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int]
    library = Path(spec.origin).parent / "lib" / f"libtorch_python.{suffix}"
    # Its first use under the lock would fetch it from the disk page by page.
    with suppress(OSError):
        library.read_bytes()
    loader(os.fsencode(library), os.RTLD_LAZY)
