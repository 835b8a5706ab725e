"""The fingerprint by which packed weights know that what they were packed from has changed."""

import numpy as np
import pytest

from fastrnn import kernels

CELLS = {"RNN": 1, "LSTM": 4, "GRU": 3, "GRU, reset before": 3}


def packed(build, dtype, cell="LSTM", H=5, I=3, projected=0, bias=True, peephole=False):
    rng = np.random.default_rng(0)
    G = CELLS[cell] * H
    shapes = [(G, I), (G, projected or H), (G,) if bias else None, (G,) if bias else None,
              (projected, H) if projected else None, (3 * H,) if peephole else None]
    arrays = [None if shape is None else rng.standard_normal(shape).astype(dtype) for shape in shapes]
    return kernels.load(build, dtype).Weights(cell, *arrays), [array for array in arrays if array is not None]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("build", kernels.runnable())
def test_every_single_change_is_seen(build, dtype):
    """Of any bit of any number, in arrays of any length: lanes, chains and the rest that fills none."""
    for cell, projected, bias, peephole in [
        ("RNN", 0, True, False), ("LSTM", 2, True, True), ("LSTM", 0, False, False), ("GRU", 0, True, False),
        ("GRU, reset before", 0, True, False),
    ]:
        for H in (3, 5, 8, 33):
            weights, arrays = packed(build, dtype, cell, H, I=4, projected=projected, bias=bias, peephole=peephole)
            assert not weights.stale()
            for array in arrays:
                flat = array.reshape(-1).view(np.uint32)
                for i in {*range(0, flat.size, 7), flat.size - 1}:
                    flat[i] ^= np.uint32(1 << (i % 32))
                    assert weights.stale()
                    flat[i] ^= np.uint32(1 << (i % 32))
            assert not weights.stale()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("build", kernels.runnable())
def test_changes_that_cancel_in_a_sum_are_seen(build, dtype):
    weights, arrays = packed(build, dtype, H=64, I=64)
    w = arrays[1]
    for change in (lambda: np.negative(w, out=w), lambda: w.__setitem__(slice(None), w[::-1].copy()),
                   lambda: w.__setitem__(slice(None), w[:, ::-1].copy()),
                   lambda: w.__setitem__((slice(None), slice(0, 2)), w[:, 1::-1].copy())):
        change()
        assert weights.stale()
        change()
        assert not weights.stale()
