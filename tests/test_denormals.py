"""Subnormal numbers taken for zero, where the caller says so: in every kernel and thread, and nowhere else."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cases import KINDS, make, one_unit, passes
from helpers import all_same, same

import fastrnn
from fastrnn import kernels

SMALL = np.float32(2.0) ** -126  # the smallest normal number


@pytest.fixture(autouse=True)
def off_again():
    yield
    assert fastrnn.set_flush_denormal(False)


def numpy_flushes():
    return not (np.full(8, SMALL) * np.float32(0.5)).any()


def test_numpy_follows_and_then_does_not():
    assert not numpy_flushes()
    assert fastrnn.set_flush_denormal(True) is True
    assert numpy_flushes()
    assert fastrnn.set_flush_denormal(np.False_) is True
    assert not numpy_flushes()


def test_other_threads_go_on_as_before():
    with ThreadPoolExecutor(1) as pool:
        assert not pool.submit(numpy_flushes).result()
        fastrnn.set_flush_denormal(True)
        assert not pool.submit(numpy_flushes).result()


@pytest.mark.parametrize("mode", [1, None, "on"])
def test_errors(mode):
    with pytest.raises(TypeError, match="mode: expected True or False, got "):
        fastrnn.set_flush_denormal(mode)
    assert not numpy_flushes()


@pytest.mark.parametrize("build", kernels.runnable())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_build_flushes(build, dtype):
    small = np.finfo(dtype).smallest_normal
    rnn = one_unit(build, dtype, 0.5, "relu")
    x = np.zeros((5, 40, 1), dtype)
    x[0] = 4 * small
    d = x[::-1].copy()
    fastrnn.set_flush_denormal(True)
    output, _, tape = rnn.forward(x)
    assert same(output[:, 0, 0], np.array([4, 2, 1, 0, 0], dtype) * small)
    assert same(rnn.backward(tape, d).input[:, 0, 0], np.array([0, 0, 0, 0, 0], dtype))  # (relu has no slope at 0)
    x[0] = 64 * small
    output, _, tape = rnn.forward(x)
    assert same(output[:, 0, 0], np.array([64, 32, 16, 8, 4], dtype) * small)
    assert same(rnn.backward(tape, d).input[:, 0, 0], np.array([0, 0, 1, 2, 4], dtype) * small)


@pytest.mark.parametrize("kind", KINDS)
def test_all_threads_do_as_the_caller(kind):
    # Large enough for rows, directions and units to be shared; half of the numbers are subnormal or soon will be.
    rng = np.random.default_rng(0)
    for B, H in ((1, 384), (24, 64)):
        layer = make(kind, 40, H, 2, bias=False, bidirectional=B > 1)
        size = layer(np.zeros((1, B, 40), np.float32))[0].shape[2]
        x, d = (rng.standard_normal((12, B, n), np.float32) * SMALL for n in (40, size))
        plain = passes(layer, x, d)
        results = {}
        for mode in (True, False):
            fastrnn.set_flush_denormal(mode)
            for number in (1, 2, 5):
                fastrnn.set_num_threads(number)
                results[mode, number] = passes(layer, x, d)
        fastrnn.set_num_threads(1)
        assert all(all_same(results[False, number], plain) for number in (1, 2, 5))
        assert not all_same(results[True, 1], plain)
        assert all(all_same(results[True, number], results[True, 1]) for number in (2, 5))


def test_torchs_mode_is_this_one():
    import torch

    assert torch.set_flush_denormal(True) and numpy_flushes()
    fastrnn.set_flush_denormal(False)
    assert not numpy_flushes()


def subnormal(a):
    return (a != 0) & (np.abs(a) < SMALL)


def test_fading_input_and_a_vanishing_gradient_are_zeros():
    # Halved at every step, there and back: what is subnormal without the mode is 0 with it, all else as it was.
    layer = fastrnn.RNN(8, 24, bias=False, rng=0)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((180, 2, 8), np.float32) * np.float32(0.5) ** np.float32(range(180))[:, None, None]
    d = np.zeros((180, 2, 24), np.float32)
    d[-1] = 1
    plain = passes(layer, x, d)
    fastrnn.set_flush_denormal(True)
    flushed = passes(layer, x, d)
    fastrnn.set_flush_denormal(False)
    assert subnormal(plain[0]).any() and subnormal(plain[2]).any()  # output, and gradient of the input
    for before, after in zip(plain, flushed, strict=True):
        assert not subnormal(after).any()
        # Of the largest number of a step; measured: 2e-7, in a build that does not contract products.
        scale = np.abs(before).max(axis=tuple(range(1, before.ndim)) or None, keepdims=True)
        assert (np.abs(after - before) <= 2e-6 * scale + 1e-35).all()
