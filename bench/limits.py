"""What the processor can do at most: how fast one core multiplies, and reads from each level of its memory.

The instrument is limits.c, compiled when it is needed by the system's own compiler. It shares no code with the kernels.
"""

import ctypes
import math
import os
import shlex
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from bench import timing

__all__ = ["Level", "Limits", "NotMeasured", "measure_limits"]

SOURCE = Path(__file__).with_name("limits.c")
FLAGS = ["-O3", "-march=native", "-shared", "-fPIC"]
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}
PAGE = 4096
CALL = 2**24  # flops or bytes of a call at least: a tenth of a millisecond, beside which the way from Python is short
SECONDS = 0.2  # for each limit


class NotMeasured(Exception):
    """Why there are no limits to measure against."""


class Level(NamedTuple):
    """A level of the memory."""

    name: str  # "L1" and so on, "memory"
    bytes: int | None  # None: as large as need be
    shared: int  # by how many processors
    gb_s: float  # that one core reads


class Limits(NamedTuple):
    """What was measured."""

    gflops: float  # of one core, multiplications and additions
    levels: list  # of Level, the nearest first

    def bytes_per_second(self, size, threads):
        """What `threads` read together, of `size` bytes that they share out and read again and again.

        That is from the nearest level with room for them, in all the caches that so many processors have of it.
        """
        near = (level for level in self.levels
                if level.bytes is None or size <= level.bytes * math.ceil(threads / level.shared))
        return 1e9 * threads * next(near).gb_s


def measure_limits():
    """Measure, on one core, in about a second.

    Returns
    -------
    Limits

    Raises
    ------
    NotMeasured
        Without a compiler, or where the system does not say what caches there are.
    """
    library = compiled()
    rounds = CALL // library.flops_a_round()
    gflops = 1e-9 * CALL / timing.best(lambda: library.multiply(rounds, 0.5, 1.0), SECONDS)
    levels, nearer = [], None
    for name, size, shared in [*caches(), ("memory", None, 1)]:
        levels.append(Level(name, size, shared, 1e-9 * read_speed(library, buffer_size(size, nearer))))
        nearer = size
    return Limits(gflops, levels)


def compiled():
    """The functions of limits.c."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    with TemporaryDirectory() as folder:
        path = Path(folder, "limits.so")
        try:
            subprocess.run([*compiler, *FLAGS, SOURCE, "-o", path], check=True, capture_output=True, text=True)
        except OSError as error:
            raise NotMeasured(f"no C compiler: {compiler[0]}: {error.strerror}; CC can name another") from None
        except subprocess.CalledProcessError as error:
            raise NotMeasured(f"{compiler[0]} does not compile {SOURCE.name}: {error.stderr.strip()}") from None
        library = ctypes.CDLL(str(path))
    library.flops_a_round.restype = ctypes.c_long
    library.multiply.argtypes = ctypes.c_long, ctypes.c_float, ctypes.c_float
    library.add_up.argtypes = ctypes.c_void_p, ctypes.c_long, ctypes.c_long
    return library


def caches():
    """Name, bytes and sharing processors of each cache of the first processor that holds data, the nearest first."""
    found = []
    for folder in CACHES.glob("index*"):
        level, kind, size, sharing = ((folder / name).read_text().strip()
                                      for name in ("level", "type", "size", "shared_cpu_map"))
        if kind != "Instruction":
            shared = int(sharing.replace(",", ""), 16).bit_count()
            found.append((f"L{level}", int(size[:-1]) * UNITS[size[-1]], shared))
    if not found:
        raise NotMeasured(f"the sizes of the caches are not known: nothing in {CACHES}")
    return sorted(found)


def buffer_size(size, nearer):
    """Bytes to read from a level of that size: too many for the nearer one, and not so many that they only just fit."""
    if nearer is None:
        return size * 3 // 4
    return 4 * nearer if size is None else min(4 * nearer, size * 3 // 4)


def read_speed(library, size):
    """Bytes per second that one core reads from an array of that size, over and over."""
    room = np.ones((size + PAGE) // 4, np.float32)  # written: pages that never were are one and the same
    address = room.ctypes.data + -room.ctypes.data % PAGE
    rounds = max(1, CALL // size)
    return rounds * size / timing.best(lambda: library.add_up(address, size, rounds), SECONDS)
