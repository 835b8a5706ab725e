"""RNN, LSTM, GRU and their cells against torch, the reference and finite differences; exact integer data."""

import numpy as np
import pytest
from cases import OPTIONS, Case, by_reference, by_torch, finite_worst_error, reference_cell, run
from helpers import assert_close, numerical_gradient

import fastrnn
from fastrnn import reference

KINDS = ["RNN", "LSTM", "GRU"]
IDENTITY = 3  # the kernels' test-only activation

# Largest error of any array, of its largest element or of 1 if that is more: some twenty and nine times the worst
# measured, 4.3e-15 and 2.2e-6.
BOUNDS = {np.float64: 1e-13, np.float32: 2e-5}


@pytest.mark.parametrize("seed", range(200))
@pytest.mark.parametrize("kind", KINDS)
def test_random_configuration_against_torch(kind, seed):
    for dtype, bound in BOUNDS.items():
        case = Case(kind, seed, dtype)
        got = run(case)
        for twin in (by_torch, by_reference):
            error = finite_worst_error(got, twin(case))
            assert error <= bound, f"{twin.__name__}: {error}"


@pytest.mark.parametrize("seed", range(120))
@pytest.mark.parametrize("kind", KINDS)
def test_random_configuration_beyond_torch(kind, seed):
    for dtype, bound in BOUNDS.items():
        case = Case(kind, 1000 + seed, dtype, beyond=True)
        error = finite_worst_error(run(case), by_reference(case))
        assert error <= bound, error


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hidden", [1, 7, 8, 9, 15, 16, 17, 33, 130])
def test_every_tile_height(kind, hidden):
    for batch in range(1, 20):
        case = Case(kind, batch, np.float64)
        rng = np.random.default_rng(batch)
        case.layer = getattr(fastrnn, kind)(5, hidden, dtype=np.float64, rng=rng)
        case.batched, case.packed, case.lengths = True, False, None
        case.x, case.d_output = rng.standard_normal((3, batch, 5)), rng.standard_normal((3, batch, hidden))
        states = len(case.states), 1, batch, hidden
        case.states, case.d_states = tuple(rng.standard_normal(states)), tuple(rng.standard_normal(states))
        assert finite_worst_error(run(case), by_reference(case)) <= BOUNDS[np.float64]


def small_layer(form, T):
    """A layer, and the call's lengths and resets that make its finite differences interesting."""
    options = {"num_layers": 2, "bidirectional": True, "dtype": np.float64, "rng": 0}
    kinds = {
        "tanh": lambda: fastrnn.RNN(3, 4, nonlinearity="tanh", **options),
        "sigmoid": lambda: fastrnn.RNN(3, 4, nonlinearity="sigmoid", **options),
        "relu": lambda: fastrnn.RNN(3, 4, nonlinearity="relu", **options),
        "LSTM": lambda: fastrnn.LSTM(3, 4, **options),
        "LSTM, projected": lambda: fastrnn.LSTM(3, 4, proj_size=2, **options),
        "LSTM, peephole": lambda: fastrnn.LSTM(3, 4, peephole=True, **options),
        "LSTM, projected, peephole": lambda: fastrnn.LSTM(3, 4, proj_size=2, peephole=True, **options),
        "GRU": lambda: fastrnn.GRU(3, 4, **options),
        "GRU, reset before": lambda: fastrnn.GRU(3, 4, reset_after=False, **options),
    }
    reset = np.zeros((T, 3), bool)
    reset[T // 2, 0] = reset[T - 1, 1] = True
    return kinds[form](), {"lengths": [T, T - 1, (T + 1) // 2], "reset": reset}


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("T", [1, 2, 5])
@pytest.mark.parametrize("form", ["tanh", "sigmoid", "relu", "LSTM", "LSTM, projected", "LSTM, peephole",
                                  "LSTM, projected, peephole", "GRU", "GRU, reset before"])
def test_finite_differences(form, T, plain):
    layer, options = small_layer(form, T)
    options = {} if plain else options
    rng = np.random.default_rng(T)
    lstm = isinstance(layer, fastrnn.LSTM)
    x, states = rng.standard_normal((T, 3, 3)), [rng.standard_normal((4, 3, 4))]
    if lstm:
        states = [rng.standard_normal((4, 3, layer.proj_size or 4)), *states]
        options |= {"return_cells": True}
    joined = lambda states: tuple(states) if lstm else states[0]  # noqa: E731

    def results(x, states):
        output, finals, *cells = layer(x, joined(states), **options)
        return [output, *(finals if lstm else [finals]), *cells]

    weights = [rng.standard_normal(result.shape) for result in results(x, states)]
    loss = lambda x, states: sum((w * r).sum() for w, r in zip(weights, results(x, states), strict=True))  # noqa: E731

    *_, tape = layer.forward(x, joined(states), **options)
    d_states = tuple(weights[1:3]) if lstm else weights[1]
    g = layer.backward(tape, weights[0], d_states, *([weights[3]] if lstm else []))
    assert_close(g.input, numerical_gradient(lambda v: loss(v, states), x), 1e-6, "input")
    for i, d in enumerate(g.hx if lstm else [g.hx]):
        numeric = numerical_gradient(lambda v, i=i: loss(x, [*states[:i], v, *states[i + 1 :]]), states[i])
        assert_close(d, numeric, 1e-6, f"state {i}")
    for name in layer.params:
        value = layer.params[name].copy()

        def loss_of(v, name=name):
            layer.params[name] = v
            return loss(x, states)

        assert_close(g.params[name], numerical_gradient(loss_of, value), 1e-6, name)
        layer.params[name] = value


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_integers_are_exact(kind, dtype):
    for seed in range(40):
        case = Case(kind, seed, dtype, beyond=True)
        rng = np.random.default_rng(seed)
        # Products of gates grow with every step: two steps, and some two numbers a row, keep them exact.
        T = min(len(case.x), 2)
        integers = lambda *s: (rng.integers(-1, 2, s) * (rng.random(s) < 2 / (2 + s[-1]))).astype(dtype)  # noqa: B023, E731
        layer = case.layer = type(case.layer)(**{
            "input_size": case.layer.input_size, "hidden_size": case.layer.hidden_size, "dtype": dtype,
            "bidirectional": case.layer.bidirectional, "batch_first": case.layer.batch_first,
            **({"reset_after": case.layer.reset_after} if kind == "GRU" else {}),
            **({"peephole": case.layer.peephole} if kind == "LSTM" else {})})
        layer._activation = IDENTITY
        layer.load_state_dict({name: integers(*shape) for name, shape in layer.params.shapes.items()})
        D, B, H = 2 if layer.bidirectional else 1, case.x.shape[1], layer.hidden_size
        case.x, case.d_output = integers(T, B, layer.input_size), integers(T, B, D * H)
        case.d_cells = None
        case.states, case.d_states = (tuple(integers(D, B, H) for _ in case.states) for _ in range(2))
        case.lengths = None if case.lengths is None else np.minimum(case.lengths, T)
        case.reset = None if case.reset is None else case.reset[:T]
        got, expected = run(case), by_reference(case, linear=True)
        for name, value in expected.items():
            assert np.abs(value).max(initial=0) < 2**20, "not exact in float32"
            assert np.array_equal(got[name], value), name


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_only_in_training_and_reproducible(kind):
    make = lambda: getattr(fastrnn, kind)(4, 50, 2, dropout=0.4, rng=3)  # noqa: E731
    a, b, x = make(), make(), np.ones((6, 3, 4), np.float32)
    assert np.array_equal(a.forward(x)[0], b.forward(x)[0])
    assert not np.array_equal(a.forward(x)[0], a(x)[0])
    assert np.array_equal(a(x)[0], b(x)[0])
    output, _, tape = a.forward(x)
    mask = tape._saved[0][-1][1]
    assert set(np.unique(mask)) == {0, np.float32(1) / np.float32(0.6)} and 0.3 < (mask == 0).mean() < 0.5
    d = np.ones_like(output)
    zeros = (np.zeros((2, 3, 50), np.float32),) * (2 if kind == "LSTM" else 1)
    expected, _, saved = reference.stack(reference_cell(a), x, zeros, a.params, 2, masks=[mask])
    assert_close(output, expected, 1e-5, "output")
    dx, _, dp = reference.stack_backward(saved, d, zeros)
    g = a.backward(tape, d)
    assert_close(g.input, dx, 1e-4, "input")
    assert_close(g.params["weight_ih_l0"], dp["weight_ih_l0"], 1e-4, "weight_ih_l0")
    with pytest.warns(UserWarning, match="dropout"):
        getattr(fastrnn, kind)(4, 5, dropout=0.5)


def as_tuple(states):
    return states if isinstance(states, tuple) else (states,)


@pytest.mark.parametrize("kind", [*KINDS, *OPTIONS])
def test_cell_steps_as_the_layer_and_tapes_in_any_order(kind):
    rng = np.random.default_rng(0)
    options = {"dtype": np.float64, "rng": 0} | OPTIONS.get(kind, {})
    cell, layer = (getattr(fastrnn, kind.split(",")[0] + suffix)(4, 21, **options) for suffix in ("Cell", ""))
    layer.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})
    x, d = rng.standard_normal((5, 3, 4)), rng.standard_normal((5, 3, 21))
    output, finals, tape = layer.forward(x)
    state, tapes = None, []
    for t in range(5):
        stepped = cell(x[t], state)
        state, one = cell.forward(x[t], state)
        for a, b in zip(as_tuple(stepped), as_tuple(state), strict=True):
            assert np.array_equal(a, b)
        assert np.array_equal(as_tuple(state)[0], output[t])
        tapes.append(one)
    for a, b in zip(as_tuple(state), as_tuple(finals), strict=True):
        assert np.array_equal(a, b[0])
    expected, d_state, total = layer.backward(tape, d), [np.zeros((3, 21)) for _ in as_tuple(state)], None
    for t in reversed(range(5)):
        d_state[0] = d_state[0] + d[t]
        g = cell.backward(tapes[t], tuple(d_state) if len(d_state) == 2 else d_state[0])
        d_state, total = list(as_tuple(g.hx)), g if total is None else total + g
        assert_close(g.input, expected.input[t], 1e-12, "input")
    for a, b in zip(d_state, as_tuple(expected.hx), strict=True):
        assert_close(a, b[0], 1e-12, "hx")
    for name, value in total.params.items():
        assert_close(value, expected.params[f"{name}_l0"], 1e-12, name)
    assert as_tuple(cell(x[0, 0]))[0].shape == (21,)
