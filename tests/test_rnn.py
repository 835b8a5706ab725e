"""RNN, RNNCell and Linear against torch, the reference and finite differences; exact integer data."""

import numpy as np
import pytest
import torch
from helpers import assert_close, numerical_gradient

import fastrnn
from fastrnn import reference

SIZES = [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 129, 130]
IDENTITY = 3  # the kernels' test-only activation


def configuration(seed):
    rng = np.random.default_rng(seed)
    choose = lambda *values: values[rng.integers(len(values))]  # noqa: E731
    batched = bool(rng.random() < 0.8)
    return {
        "rng": rng, "T": int(rng.integers(0, 20)), "B": int(rng.integers(0, 14)) if batched else 1, "batched": batched,
        "arguments": (
            choose(*SIZES), choose(*SIZES), int(rng.integers(1, 4)), choose("tanh", "relu"), choose(True, False)),
        "batch_first": choose(True, False), "bidirectional": choose(True, False),
        "use": choose((1, 1), (1, 0), (0, 1)), "hx": choose(True, False),
    }


def make(c, dtype):
    rnn = fastrnn.RNN(*c["arguments"], c["batch_first"], 0.0, c["bidirectional"], dtype=dtype, rng=1)
    rng, T, B = c["rng"], c["T"], c["B"]
    shape = (B, T, rnn.input_size) if c["batch_first"] else (T, B, rnn.input_size)
    D = 2 if rnn.bidirectional else 1
    states = (D * rnn.num_layers, B, rnn.hidden_size)
    if not c["batched"]:
        shape, states = (T, rnn.input_size), states[::2]
    draw = lambda s: rng.standard_normal(s).astype(dtype)  # noqa: E731
    return rnn, draw(shape), draw(states) if c["hx"] else None, draw((*shape[:-1], D * rnn.hidden_size)), draw(states)


def run(rnn, x, hx, d_output, d_h_n, use):
    output, h_n, tape = rnn.forward(x, hx)
    g = rnn.backward(tape, d_output if use[0] else None, d_h_n if use[1] else None)
    return {"output": output, "h_n": h_n, "input": g.input, "hx": g.hx, **g.params}


def by_torch(rnn, x, hx, d_output, d_h_n, use):
    twin = torch.nn.RNN(rnn.input_size, rnn.hidden_size, rnn.num_layers, rnn.nonlinearity, rnn.bias, rnn.batch_first,
                        0.0, rnn.bidirectional, dtype=getattr(torch, str(rnn.dtype)))
    twin.load_state_dict({name: torch.from_numpy(a) for name, a in rnn.state_dict().items()})
    hx = np.zeros(d_h_n.shape, rnn.dtype) if hx is None else hx
    tx, th = torch.from_numpy(x).requires_grad_(), torch.from_numpy(hx).requires_grad_()
    output, h_n = twin(tx, th)
    loss = use[0] * (output * torch.from_numpy(d_output)).sum() + use[1] * (h_n * torch.from_numpy(d_h_n)).sum()
    loss.backward()
    of = lambda t: t.detach().numpy()  # noqa: E731
    return {"output": of(output), "h_n": of(h_n), "input": of(tx.grad), "hx": of(th.grad),
            **{name: of(p.grad) for name, p in twin.named_parameters()}}


def by_reference(rnn, x, hx, d_output, d_h_n, use):
    if x.ndim == 2:
        view, back = (lambda a: a[:, None]), (lambda a: a[:, 0])
    else:
        view = back = (lambda a: a.swapaxes(0, 1)) if rnn.batch_first else (lambda a: a)
    state = (lambda a: a[:, None]) if x.ndim == 2 else (lambda a: a)
    states = state(np.zeros_like(d_h_n) if hx is None else hx)
    output, h_n, saved = reference.rnn(view(x), states, rnn.params, rnn.num_layers, rnn.nonlinearity, rnn.bidirectional)
    dx, dh, dp = reference.rnn_stack_backward(saved, view(d_output) * use[0], state(d_h_n) * use[1])
    unstate = (lambda a: a[:, 0]) if x.ndim == 2 else (lambda a: a)
    return {"output": back(output), "h_n": unstate(h_n), "input": back(dx), "hx": unstate(dh), **dp}


@pytest.mark.parametrize("seed", range(220))
def test_random_configuration(seed):
    # Worst measured, of the largest element or of 1 if that is more: 4.6e-15 and 3.3e-6.
    for dtype, bound in ((np.float64, 1e-13), (np.float32, 2e-5)):
        c = configuration(seed)
        if dtype == np.float32:  # rounding decides on which side of relu's kink an argument near 0 lies
            c["arguments"] = (*c["arguments"][:3], "tanh", c["arguments"][4])
        rnn, *arrays = make(c, dtype)
        got = run(rnn, *arrays, c["use"])
        twins = [by_reference] if c["T"] == 0 or c["B"] == 0 else [by_reference, by_torch]
        for twin in twins:
            expected = twin(rnn, *arrays, c["use"])
            assert got.keys() == expected.keys()
            for name, value in expected.items():
                assert got[name].shape == value.shape
                if value.size:
                    error = np.abs(got[name] - value).max() / max(1, np.abs(value).max())
                    assert error <= bound, f"{name} against {twin.__name__}: {error}"


@pytest.mark.parametrize("hidden", [1, 7, 8, 9, 15, 16, 17, 33, 130])
def test_every_tile_height(hidden):
    for batch in range(1, 14):
        rng = np.random.default_rng(batch)
        rnn = fastrnn.RNN(5, hidden, nonlinearity="sigmoid", dtype=np.float64, rng=rng)
        states, outputs = (1, batch, hidden), (3, batch, hidden)
        arrays = [rng.standard_normal(s) for s in ((3, batch, 5), states, outputs, states)]
        got, expected = run(rnn, *arrays, (1, 1)), by_reference(rnn, *arrays, (1, 1))
        for name, value in expected.items():
            assert_close(got[name], value, 1e-12, name)


@pytest.mark.parametrize("nonlinearity", ["tanh", "sigmoid", "relu"])
@pytest.mark.parametrize("T", [1, 2, 5])
def test_finite_differences(nonlinearity, T):
    rng = np.random.default_rng(T)
    rnn = fastrnn.RNN(3, 4, 2, nonlinearity, bidirectional=True, dtype=np.float64, rng=0)
    x, hx = rng.standard_normal((T, 2, 3)), rng.standard_normal((4, 2, 4))
    R, Q = rng.standard_normal((T, 2, 8)), rng.standard_normal((4, 2, 4))

    def loss(x=x, hx=hx):
        output, h_n = rnn(x, hx)
        return (R * output).sum() + (Q * h_n).sum()

    _, _, tape = rnn.forward(x, hx)
    g = rnn.backward(tape, R, Q)
    assert_close(g.input, numerical_gradient(loss, x), 1e-6, "input")
    assert_close(g.hx, numerical_gradient(lambda v: loss(hx=v), hx), 1e-6, "hx")
    for name in rnn.params:
        value = rnn.params[name].copy()

        def loss_of(v, name=name):
            rnn.params[name] = v
            return loss()

        assert_close(g.params[name], numerical_gradient(loss_of, value), 1e-6, name)
        rnn.params[name] = value


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_integers_are_exact(dtype):
    rng = np.random.default_rng(0)
    integers = lambda *s: rng.integers(-1, 2, s).astype(dtype)  # noqa: E731
    for T, B, I, H in ((3, 4, 5, 7), (2, 13, 17, 33), (3, 1, 65, 19)):
        rnn = fastrnn.RNN(I, H, dtype=dtype)
        rnn._activation = IDENTITY
        rnn.load_state_dict({name: integers(*shape) for name, shape in rnn.params.shapes.items()})
        x, h0, d, dn = integers(T, B, I), integers(1, B, H), integers(T, B, H), integers(1, B, H)
        p = rnn.params
        output = reference.rnn_forward(x, h0[0], *p.values(), "linear")[0]
        weights = p["weight_ih_l0"], p["weight_hh_l0"]
        expected = reference.rnn_backward(x, h0[0], output, *weights, d, dn[0], "linear", False)
        got = run(rnn, x, h0, d, dn, (1, 1))
        assert np.array_equal(got["output"], output)
        names = ("input", "hx", "weight_ih_l0", "weight_hh_l0", "bias_ih_l0")
        for name, value in zip(names, expected, strict=True):
            assert np.array_equal(got[name].reshape(value.shape), value), name


def test_dropout_only_in_training_and_reproducible():
    make_one = lambda: fastrnn.RNN(4, 50, 2, dropout=0.4, rng=3)  # noqa: E731
    a, b, x = make_one(), make_one(), np.ones((6, 3, 4), np.float32)
    assert np.array_equal(a.forward(x)[0], b.forward(x)[0])
    assert not np.array_equal(a.forward(x)[0], a(x)[0])
    assert np.array_equal(a(x)[0], b(x)[0])
    output, _, tape = a.forward(x)
    mask = tape._saved[0][1][2]
    assert set(np.unique(mask)) == {0, np.float32(1) / np.float32(0.6)} and 0.3 < (mask == 0).mean() < 0.5
    d = np.ones_like(output)
    expected, _, saved = reference.rnn(x, np.zeros((2, 3, 50), np.float32), a.params, 2, masks=[mask])
    assert_close(output, expected, 1e-5, "output")
    dx, _, dp = reference.rnn_stack_backward(saved, d, np.zeros((2, 3, 50), np.float32))
    g = a.backward(tape, d)
    assert_close(g.input, dx, 1e-4, "input")
    assert_close(g.params["weight_ih_l0"], dp["weight_ih_l0"], 1e-4, "weight_ih_l0")
    with pytest.warns(UserWarning, match="dropout"):
        fastrnn.RNN(4, 5, dropout=0.5)


def test_cell_steps_as_the_layer_and_tapes_in_any_order():
    rng = np.random.default_rng(0)
    cell, rnn = fastrnn.RNNCell(4, 21, dtype=np.float64, rng=0), fastrnn.RNN(4, 21, dtype=np.float64)
    rnn.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})
    x, d = rng.standard_normal((5, 3, 4)), rng.standard_normal((5, 3, 21))
    output, _, tape = rnn.forward(x)
    h, tapes = None, []
    for t in range(5):
        h, one = cell.forward(x[t], h)
        assert np.array_equal(h, output[t])
        tapes.append(one)
    expected, d_h, total = rnn.backward(tape, d), np.zeros((3, 21)), None
    for t in reversed(range(5)):
        g = cell.backward(tapes[t], d[t] + d_h)
        d_h, total = g.hx, g if total is None else total + g
        assert_close(g.input, expected.input[t], 1e-12, "input")
    for name, value in total.params.items():
        assert_close(value, expected.params[f"{name}_l0"], 1e-12, name)
    assert cell(x[0, 0]).shape == (21,)


@pytest.mark.parametrize(("K", "N"), [(1, 1), (33, 70), (128, 5)])
def test_linear_against_torch(K, N):
    rng = np.random.default_rng(0)
    head = fastrnn.Linear(K, N, dtype=np.float64, rng=0)
    twin = torch.nn.Linear(K, N, dtype=torch.float64)
    twin.load_state_dict({name: torch.from_numpy(a) for name, a in head.state_dict().items()})
    x, d = rng.standard_normal((40, 9, K)), rng.standard_normal((40, 9, N))
    tx = torch.from_numpy(x).requires_grad_()
    twin(tx).backward(torch.from_numpy(d))
    y, tape = head.forward(x)
    g = head.backward(tape, d)
    assert_close(y, twin(tx).detach().numpy(), 1e-12, "y")
    assert_close(g.input, tx.grad.numpy(), 1e-12, "input")
    assert_close(g.params["weight"], twin.weight.grad.numpy(), 1e-12, "weight")
    assert_close(g.params["bias"], twin.bias.grad.numpy(), 1e-12, "bias")
    assert np.array_equal(head(x[3, 4]), y[3, 4])
    assert head(x[:0]).shape == (0, 9, N)
