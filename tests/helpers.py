"""How the tests compare: tolerances, the checker, bits, and numerical gradients; and a Python of its own for a test."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

import fastrnn

# Central differences of float64 values near 1, with the step of `numerical_gradient`: truncation leaves about
# step^2 and rounding about eps / step, both some 1e-10 at their best; the rest is room for curvature.
FINITE_DIFFERENCES = 1e-8


def tolerance(dtype, accumulation_length):
    """Allowed error of a sum of `accumulation_length` products, relative to the largest magnitude.

    A sum of n products, in any order, with or without fused multiply-add, is off by at most n * eps / 2 times
    the sum of the magnitudes of its terms (Higham 2002, section 3.1), and the value that it is compared with
    by as much: n * eps together. The 8 terms more are the activation, at most 4 ulp on either side. For a
    recurrence n is the length over all its steps: each step adds its own errors, and those before it are not
    amplified where the recurrent weights contract.

    ========  =========  =========  =========
    dtype     n = 8      n = 100    n = 10000
    ========  =========  =========  =========
    float32   1.9e-6     1.3e-5     1.2e-3
    float64   3.6e-15    2.4e-14    2.2e-12
    ========  =========  =========  =========
    """
    return float((accumulation_length + 8) * np.finfo(dtype).eps)


def assert_close(actual, expected, tolerance, name="array"):
    """Every element within `tolerance` times the largest finite magnitude of `expected`, or fail.

    NaN and infinities must be where `expected` has them, and nowhere else.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{name}: expected shape {expected.shape}, got {actual.shape}"
    with np.errstate(invalid="ignore"):
        error = np.abs(actual - expected)
    error = np.where((actual == expected) | (np.isnan(actual) & np.isnan(expected)), 0, error)
    error = np.where(np.isnan(error), np.inf, error)
    limit = tolerance * np.abs(expected[np.isfinite(expected)]).max(initial=0)
    if (error > limit).any():
        worst = tuple(map(int, np.unravel_index(error.argmax(), error.shape)))
        raise AssertionError(
            f"{name}: {int((error > limit).sum())} of {error.size} elements wrong, worst at {worst}: "
            f"expected {expected[worst]!r}, got {actual[worst]!r}, error {error[worst]:.2g} > {limit:.2g}"
        )


def numerical_gradient(function, x):
    """Central differences of a scalar function of one array, for every element of it.

    Parameters
    ----------
    function : callable
        Takes an array of the shape of `x`, gives a float.
    x : ndarray of float64
        Where the gradient is taken; it is not changed.

    Returns
    -------
    ndarray
        Of the shape of `x`.
    """
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        step = np.finfo(x.dtype).eps ** (1 / 3) * max(1.0, abs(x[index]))
        above, below = x.copy(), x.copy()
        above[index] += step
        below[index] -= step
        gradient[index] = (function(above) - function(below)) / (above[index] - below[index])
    return gradient


def same(a, b):
    """Whether two arrays have the same bits, any NaN being like any other."""
    return a.shape == b.shape and np.array_equal(a, b, equal_nan=True) and np.array_equal(np.signbit(a), np.signbit(b))


def flat(states):
    """States, gradients of states or whole results as a flat list of arrays."""
    return [a for state in states for a in flat(state)] if isinstance(states, (tuple, list)) else [states]


def all_same(a, b):
    """The same bits in all arrays of two results."""
    return all(map(same, flat(a), flat(b)))


def python(code, **environment):
    """Run code in a Python of its own, with these environment variables besides.

    It has the fastrnn under test; the folder it is started in, a clone's say, may have one without kernels.
    """
    path = {"PYTHONPATH": str(Path(fastrnn.__file__).parents[1])}
    return subprocess.run([sys.executable, "-P", "-c", code], env={**os.environ, **path, **environment}, text=True,
                          capture_output=True, timeout=120)


def rows(table):
    """The cells of each line of a Markdown table, the rule below its head aside."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in [lines[0], *lines[2:]]]
