"""The numerics contract: the same bits for a row in any batch, on any threads, in one call or in pieces."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import assert_close

import fastrnn
from fastrnn import kernels, reference


@pytest.fixture(autouse=True)
def threads():
    before = fastrnn.get_num_threads()
    yield
    fastrnn.set_num_threads(before)


def same(a, b):
    return a.shape == b.shape and np.array_equal(a, b, equal_nan=True) and np.array_equal(np.signbit(a), np.signbit(b))


def passes(rnn, x, d):
    output, h_n, tape = rnn.forward(x)
    g = rnn.backward(tape, d)
    return output, h_n, g.input, g.hx, g.params.flat


@pytest.mark.parametrize(("T", "B", "I", "H"), [(20, 13, 33, 65), (3, 64, 7, 128), (40, 2, 16, 16)])
def test_row_in_any_batch_and_any_pieces(T, B, I, H):
    rng = np.random.default_rng(0)
    rnn = fastrnn.RNN(I, H, 2, rng=0)
    x = rng.standard_normal((T, B, I), np.float32)
    output, h_n = rnn(x)
    for b in (0, B // 2, B - 1):
        assert same(rnn(x[:, b : b + 1])[0], output[:, b : b + 1])
        assert same(rnn(x[:, b:])[0], output[:, b:])
        assert same(rnn(x[:, b])[0], output[:, b])
    for cut in (1, T // 2, T - 1):
        first, h = rnn(x[:cut])
        second, h = rnn(x[cut:], h)
        assert same(np.concatenate([first, second]), output) and same(h, h_n)
    assert same(rnn.forward(x)[0], output)
    first = fastrnn.RNN(I, H, 2, batch_first=True, rng=0)
    assert same(first(x.swapaxes(0, 1))[0].swapaxes(0, 1), output)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("T", "B", "I", "H"), [(60, 1, 64, 512), (40, 33, 40, 70), (200, 5, 100, 128)])
def test_any_number_of_threads(T, B, I, H, bidirectional):
    rng = np.random.default_rng(0)
    rnn = fastrnn.RNN(I, H, bidirectional=bidirectional, rng=0)
    x, d = rng.standard_normal((T, B, I), np.float32), rng.standard_normal((T, B, H * (1 + bidirectional)), np.float32)
    fastrnn.set_num_threads(1)
    alone = passes(rnn, x, d)
    for n in (2, 3, 4, 7):
        fastrnn.set_num_threads(n)
        assert all(map(same, passes(rnn, x, d), alone)), n


def test_strides_and_kinds_of_input():
    rng = np.random.default_rng(0)
    rnn, x = fastrnn.RNN(5, 9, rng=0), rng.standard_normal((6, 3, 5), np.float32)
    expected = rnn(x)[0]
    read_only = x.copy()
    read_only.flags.writeable = False
    wide = np.zeros((6, 3, 10), np.float32)
    wide[..., ::2] = x
    forms = [np.asfortranarray(x), x[::-1].copy()[::-1], x[..., ::-1].copy()[..., ::-1], wide[..., ::2], read_only,
             x.astype(">f4"), x.tolist()]
    for form in forms:
        assert same(rnn(form)[0], expected)
    before = x.copy()
    passes(rnn, x, np.ones_like(expected))
    assert same(x, before)
    halves = (x * 4).round().astype(np.float16)
    assert same(rnn(halves)[0], rnn(halves.astype(np.float32))[0])


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "sigmoid"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_stay_in_their_row(nonlinearity, bad):
    rng = np.random.default_rng(0)
    rnn, x = fastrnn.RNN(5, 9, nonlinearity=nonlinearity, rng=0), rng.standard_normal((6, 8, 5), np.float32)
    clean = rnn(x)[0]
    x[2, 3, 1] = bad
    got = rnn(x)[0]
    with np.errstate(all="ignore"):
        expected = reference.rnn(x, np.zeros((1, 8, 9), np.float32), rnn.params, 1, nonlinearity)[0]
    assert np.array_equal(np.isnan(got), np.isnan(expected)) and np.array_equal(np.isinf(got), np.isinf(expected))
    others = np.arange(8) != 3
    assert same(got[:, others], clean[:, others])


@pytest.mark.parametrize("build", kernels.runnable())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_build(build, dtype):
    rng = np.random.default_rng(0)
    for T, B, I, H, nonlinearity in ((7, 5, 9, 33, "tanh"), (4, 14, 40, 17, "sigmoid"), (9, 1, 3, 70, "relu")):
        rnn = fastrnn.RNN(I, H, 1, nonlinearity, bidirectional=True, dtype=dtype, rng=0)
        rnn._engine = kernels.load(build, dtype)
        x, d = rng.standard_normal((T, B, I)).astype(dtype), rng.standard_normal((T, B, 2 * H)).astype(dtype)
        output, _, dx, _, flat = passes(rnn, x, d)
        zeros = np.zeros((2, B, H), dtype)
        expected, _, saved = reference.rnn(x, zeros, rnn.params, 1, nonlinearity, True)
        e_dx, _, e_params = reference.rnn_stack_backward(saved, d, zeros)
        bound = 1e-14 if dtype == np.float64 else 5e-6  # worst measured 6.6e-16 and 4.5e-7
        assert_close(output, expected, bound, "output")
        assert_close(dx, e_dx, bound, "input")
        assert_close(flat, np.concatenate([e_params[name].ravel() for name in rnn.params]), bound, "params")


def activation_of(build, name, x):
    rnn = fastrnn.RNN(1, 1, nonlinearity=name, bias=False, dtype=x.dtype)
    rnn.load_state_dict({"weight_ih_l0": [[1.0]], "weight_hh_l0": [[0.0]]})
    rnn._engine = kernels.load(build, x.dtype)
    return rnn(x.reshape(1, -1, 1))[0].ravel()


@pytest.mark.parametrize("build", kernels.runnable())
@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_within_4_ulp(build, name, dtype):
    rng = np.random.default_rng(0)
    bits = np.arange(0, int(np.float32(10).view(np.uint32)) + 1, 997, dtype=np.uint32).view(np.float32)
    small = (10.0 ** rng.uniform(-44 if dtype == np.float32 else -320, 3, 200_000)).astype(dtype)
    x = np.concatenate([bits.astype(dtype), rng.uniform(0, 100, 200_000).astype(dtype), small])
    x = np.concatenate([x, -x, dtype([0, np.inf, -np.inf, np.finfo(dtype).max])])
    wide = x.astype(np.longdouble)
    with np.errstate(all="ignore"):
        exact = np.tanh(wide) if name == "tanh" else 1 / (1 + np.exp(-wide))
    rounded = exact.astype(dtype)
    ulps = np.abs(activation_of(build, name, x).astype(np.longdouble) - exact) / np.spacing(np.abs(rounded))
    # Measured on [-10, 10]: tanh 2.47 (float32) and 2.45 (float64), sigmoid 2.11 and 2.17, the same in every build.
    assert ulps.max() <= 4, (x[ulps.argmax()], ulps.max())
    assert np.isnan(activation_of(build, name, dtype([np.nan]))).all()


def python(code, **environment):
    return subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment}, text=True,
                          capture_output=True, timeout=120)


def test_import_leaves_subnormals_and_forced_builds():
    code = "import numpy as np, fastrnn; x = np.full(9, 1e-40, np.float32) * np.float32(0.5); assert (x > 0).all()"
    assert python(code).returncode == 0
    for name in kernels.runnable():
        shown = python("import fastrnn.kernels as k; print(k.build, k.reason)", FASTRNN_BUILD=name)
        assert shown.stdout == f"{name} forced by FASTRNN_BUILD\n"
    assert "FASTRNN_BUILD: expected one of" in python("import fastrnn", FASTRNN_BUILD="v9").stderr
    assert python("import fastrnn; print(fastrnn.get_num_threads())", FASTRNN_NUM_THREADS="3").stdout == "3\n"
    assert "FASTRNN_NUM_THREADS: expected" in python("import fastrnn", FASTRNN_NUM_THREADS="many").stderr


def test_shared_by_threads_and_after_fork():
    rnn = fastrnn.RNN(64, 128, rng=0)
    x = np.random.default_rng(0).standard_normal((50, 32, 64), np.float32)
    fastrnn.set_num_threads(2)
    expected = rnn(x)[0]
    with ThreadPoolExecutor(4) as pool:
        assert all(same(output, expected) for output, _ in pool.map(lambda _: rnn(x), range(40)))
    code = ("import os, signal, numpy as np, fastrnn; fastrnn.set_num_threads(2)\n"
            "rnn = fastrnn.RNN(64, 128, rng=0); x = np.ones((50, 32, 64), np.float32); e = rnn(x)[0]; pid = os.fork()\n"
            "if pid == 0:\n    signal.alarm(30); os._exit(0 if (rnn(x)[0] == e).all() else 1)\n"
            "assert os.waitpid(pid, 0)[1] == 0")
    result = python(code)
    assert result.returncode == 0, result.stderr
