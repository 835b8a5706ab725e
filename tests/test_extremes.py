"""Subnormal numbers, huge weights, infinities and NaN: what IEEE arithmetic makes of them, each in its own row."""

import numpy as np
import pytest
from cases import KINDS, make, one_unit, reference_cell
from helpers import all_same, assert_close, flat, same

import fastrnn
from fastrnn import kernels, reference

BAD = [np.nan, np.inf, -np.inf, 1e30, -3e38]
others = np.arange(8) != 3


def cells(dtype=np.float32):
    return [getattr(fastrnn, name)(5, 9, rng=0, dtype=dtype) for name in ("RNNCell", "LSTMCell", "GRUCell")]


def by_reference(layer, x, lengths=None, reset=None):
    sizes = (layer.proj_size or layer.hidden_size, layer.hidden_size)[: 1 + layer._memory]
    zeros = tuple(np.zeros((len(layer._suffixes) * layer.num_layers, x.shape[1], size), layer.dtype) for size in sizes)
    return reference.stack(reference_cell(layer), x, zeros, layer.params, layer.num_layers, layer.bidirectional, None,
                           lengths, reset)


def of_other_rows(results):
    """Of the results of `rows_apart`, all but what row 3 has."""
    return [array[..., others, :] for array in flat(results)]


def rows_apart(layer, x, d, **options):
    """What each row has for itself: everything but the gradients of the weights."""
    output, states, tape = layer.forward(x, **options)
    g = layer.backward(tape, d)
    return output, states, g.input, g.hx, *layer(x, **options)


@pytest.mark.parametrize("threads_used", [1, 2])
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_row_leaves_the_others_untouched(kind, bad, threads_used):
    rng = np.random.default_rng(0)
    fastrnn.set_num_threads(threads_used)
    layer = make(kind, 5, 64, 2, bidirectional=True)
    x = rng.standard_normal((40, 8, 5), np.float32)
    d = rng.standard_normal(layer(x)[0].shape, np.float32)
    reset = rng.random((40, 8)) < 0.1
    for options in ({}, {"lengths": [40, 40, 3, 33, 0, 1, 17, 40]}, {"reset": reset}):
        clean = of_other_rows(rows_apart(layer, x, d, **options))
        for where in (x, d):
            kept, where[7, 3, 1] = where[7, 3, 1], bad
            assert all_same(of_other_rows(rows_apart(layer, x, d, **options)), clean)
            where[7, 3, 1] = kept


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_row_of_a_cell_and_of_linear(bad):
    rng = np.random.default_rng(0)
    x, y, d = (rng.standard_normal((8, n), np.float32) for n in (5, 9, 9))
    for cell in cells():
        pair = isinstance(cell, fastrnn.LSTMCell)

        def results(x, y, d, cell=cell, pair=pair):
            state, tape = cell.forward(x, (y, y) if pair else y)
            g = cell.backward(tape, (d, d) if pair else d)
            return state, cell(x, (y, y) if pair else y), g.input, g.hx

        clean = of_other_rows(results(x, y, d))
        for i in range(3):
            spoilt = [x.copy(), y.copy(), d.copy()]
            spoilt[i][3, 1] = bad
            assert all_same(of_other_rows(results(*spoilt)), clean)
    head = fastrnn.Linear(5, 9, rng=0)
    clean, spoilt = head(x), x.copy()
    spoilt[3, 1] = bad
    assert same(head(spoilt)[others], clean[others])


@pytest.mark.parametrize("build", kernels.runnable())
@pytest.mark.parametrize("size", [1e30, -1e30, np.inf, np.nan])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_without_measure(kind, size, build):
    # As the reference has them: infinities and NaN where it has them, and what is finite is close.
    rng = np.random.default_rng(0)
    layer = make(kind, 5, 20)
    layer._engine = kernels.load(build, np.float32)
    x = rng.standard_normal((6, 4, 5), np.float32)
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"):
        kept = layer.params[name].copy()
        value = kept.copy()
        value[3] = size
        layer.params[name] = value
        with np.errstate(all="ignore"):
            expected, states, _ = by_reference(layer, x)
        output, got = layer(x)
        assert_close(output, expected, 2e-6, name)  # measured: at most 4.1e-7
        for mine, its in zip(layer._as_tuple(got), states, strict=True):
            assert_close(mine, its, 2e-6, name)
        layer.params[name] = kept


@pytest.mark.parametrize("build", kernels.runnable())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_subnormal_numbers_are_numbers(build, dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    rnn = one_unit(build, dtype, 0.5, "relu")
    x = np.zeros((6, 40, 1), dtype)
    x[0, :, 0] = np.arange(40) * tiny
    output, _, tape = rnn.forward(x)
    expected, rows = [], x[0, :, 0]
    for _ in range(6):
        expected.append(rows)
        rows = rows * dtype(0.5)
    assert same(output[..., 0], np.array(expected)) and output.any()
    d = np.zeros_like(x)
    d[0, :, 0] = np.arange(40) * tiny
    assert same(rnn.backward(tape, d).input[0, 1:], d[0, 1:])  # (relu has no slope at 0)
    assert same(one_unit(build, dtype, 0.0, "tanh")(x[:1])[0], x[:1])


@pytest.mark.parametrize("kind", KINDS)
def test_silence(kind):
    # Noise that decays by half at every step, through the subnormal numbers to 0; and back through time.
    rng = np.random.default_rng(0)
    layer = make(kind, 5, 33)
    layer.params["bias_ih_l0"] = np.zeros_like(layer.params["bias_ih_l0"])
    layer.params["bias_hh_l0"] = np.zeros_like(layer.params["bias_hh_l0"])
    x = rng.standard_normal((200, 4, 5), np.float32) * np.float32(0.5) ** np.float32(range(200))[:, None, None]
    with np.errstate(all="ignore"):
        expected, *_, saved = by_reference(layer, x)
    output, _, tape = layer.forward(x)
    assert_close(output, expected, 2e-6)  # measured: at most 2.6e-7
    d = x @ np.ones((5, output.shape[2]), np.float32)
    d_states = tuple(np.zeros_like(state) for state in layer._as_tuple(layer(x[:1])[1]))
    with np.errstate(all="ignore"):
        d_input = reference.stack_backward(saved, d, d_states)[0]
    assert_close(layer.backward(tape, d).input, d_input, 5e-6)  # measured: 4.7e-7
