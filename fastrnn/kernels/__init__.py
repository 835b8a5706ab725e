"""The compiled kernels: one build for each instruction set, chosen for this processor once, at import.

`FASTRNN_BUILD` (generic, v2, v3, v4) forces a choice; a build that is not there, or that this processor
cannot run, is then an ImportError, never a silent replacement.

`recurrence` calls the build's `layer_forward` and `layer_backward`, `readout` its `linear_forward` and
`linear_backward`, and `fastrnn.torch` its `infer_at` (see `engine.pxi`), with arguments already checked; `recurrent`
and `cells` first its `infer`, `train` and `train_back`, which check for themselves.
"""

import importlib
import importlib.util
import os

import numpy as np

__all__ = ["build", "engine", "load", "reason", "runnable"]

LEVELS = {"v4": 4, "v3": 3, "v2": 2, "generic": 0}  # best first; the x86-64 level that each needs


def load(build, dtype):
    """Kernels of a build, "v3" say, for float32 or float64."""
    return importlib.import_module(f"{__name__}.{build}_{np.dtype(dtype).name}")


def runnable():
    """Names of the builds that are installed and that this processor can run, the best first."""
    try:
        level = load("generic", np.float32).processor_level()
    except ModuleNotFoundError:
        raise ImportError(f"fastrnn: expected compiled kernels in {os.path.dirname(__file__)}, got none: in a clone, "
                          "'pip install -e .' builds them in place; or start Python in another folder") from None
    installed = [name for name in LEVELS if importlib.util.find_spec(f"{__name__}.{name}_float32")]
    return [name for name in installed if LEVELS[name] <= level]


def _choose():
    forced, names = os.environ.get("FASTRNN_BUILD"), runnable()
    if not forced:
        return names[0], "the best that this processor runs"
    if forced not in names:
        raise ImportError(f"FASTRNN_BUILD: expected one of {', '.join(names)}, got {forced!r}")
    return forced, "forced by FASTRNN_BUILD"


build, reason = _choose()
engine = {np.dtype(name): load(build, name) for name in ("float32", "float64")}
