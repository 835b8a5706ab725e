"""What the numbers were measured on: processor, versions, threads."""

import platform
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import fastrnn
from bench.measure import OURS
from fastrnn import kernels

__all__ = ["machine"]


def machine(threads, running):
    """Versions, processor and threads.

    Parameters
    ----------
    threads : int
    running : dict of str to Peer

    Returns
    -------
    dict of str to str or int
    """
    found = {"processor": processor(), "system": platform.platform(), "threads": threads,
             "python": platform.python_version(), OURS: f"{fastrnn.__version__} (build {kernels.build})"}
    modules = sorted({module for peer in running.values() for module in peer.modules} - {OURS} | {"numpy"})
    found |= {module: version(module) for module in modules}
    return found | {"BLAS of numpy": blas()}


def processor():
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def blas():
    """The library behind NumPy's matrix products, its kernels (which OPENBLAS_CORETYPE can change) and threads."""
    if not find_spec("threadpoolctl"):
        return "not known, threadpoolctl is not installed"
    from threadpoolctl import ThreadpoolController

    np.ones((2, 2)) @ np.ones((2, 2))
    libraries = [info for info in ThreadpoolController().info()
                 if info["user_api"] == "blas" and "numpy" in info["filepath"]]
    keys = ("internal_api", "version", "architecture", "num_threads")
    described = [" ".join(f"{key.replace('num_', '')}={info.get(key)}" for key in keys) for info in libraries]
    return "; ".join(described) or "not known to threadpoolctl"
