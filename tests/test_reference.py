"""The reference against finite differences, torch, and results known by hand."""

from itertools import product

import numpy as np
import pytest
import torch
from helpers import FINITE_DIFFERENCES, assert_close, numerical_gradient, tolerance

from fastrnn import reference
from fastrnn.reference.sequences import NAMES

B, I, H = 3, 3, 4
CELLS = {  # and the size of h where it is projected; "peephole" in the name: with peepholes
    "tanh": (reference.RNN("tanh"), 0), "relu": (reference.RNN("relu"), 0), "sigmoid": (reference.RNN("sigmoid"), 0),
    "LSTM": (reference.LSTM(), 0), "LSTM, projected": (reference.LSTM(), 2), "LSTM, peephole": (reference.LSTM(), 0),
    "LSTM, projected, peephole": (reference.LSTM(), 2), "GRU": (reference.GRU(), 0),
    "GRU, reset before": (reference.GRU(reset_after=False), 0),
}


def parameters(rng, name, num_layers=1, directions=1, bias=True):
    """Random weights of a stack, under torch's names and in torch's order, and any peepholes."""
    cell, P = CELLS[name]
    rows, params = cell.gates * H, {}
    for layer, direction in product(range(num_layers), range(directions)):
        end = f"_l{layer}" + "_reverse" * direction
        params["weight_ih" + end] = 0.5 * rng.standard_normal((rows, directions * (P or H) if layer else I))
        params["weight_hh" + end] = 0.5 * rng.standard_normal((rows, P or H))
        if bias:
            params["bias_ih" + end], params["bias_hh" + end] = 0.5 * rng.standard_normal((2, rows))
        if P:
            params["weight_hr" + end] = 0.5 * rng.standard_normal((P, H))
        if "peephole" in name:
            params["weight_peephole" + end] = 0.5 * rng.standard_normal(3 * H)
    return params


def initial(rng, name, states):
    """Random states."""
    sizes = [CELLS[name][1] or H, H][: 2 if name.startswith("LSTM") else 1]
    return tuple(rng.standard_normal((states, B, size)) for size in sizes)


def away_from_the_kink(name, x, state, params, options):
    """No preactivation of a relu network so near 0 that finite differences would straddle the kink."""
    if name != "relu":
        return True
    smallest = []

    def f(z):
        smallest.append(np.abs(z).min())
        return np.maximum(z, 0)

    cell = reference.RNN("relu")
    cell.f = f
    reference.stack(cell, x, state, params, **options)
    return min(smallest) > 1e-3


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("name", CELLS)
def test_gradients_are_those_of_finite_differences(name, steps, num_layers, directions, plain):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        params, state = parameters(rng, name, num_layers, directions), initial(rng, name, directions * num_layers)
        x = rng.standard_normal((steps, B, I))
        options = {"num_layers": num_layers, "bidirectional": directions == 2}
        if not plain:
            shape = (steps, B, directions * state[0].shape[2])
            options["masks"] = [rng.choice([0, 1 / 0.7], shape) for _ in range(num_layers - 1)]
            options["lengths"] = np.array([steps, steps - 1, (steps + 1) // 2])
            options["reset"] = rng.random((steps, B)) < 0.3
        if away_from_the_kink(name, x, state, params, options):
            break
    cell = CELLS[name][0]

    def results(x=x, state=state, changed=params):
        output, finals, saved = reference.stack(cell, x, state, changed, **options)
        return [output, *finals, *([] if saved.cells is None else [saved.cells])], saved

    weights = [rng.standard_normal(part.shape) for part in results()[0]]

    def loss(**changed):
        return sum(np.sum(w * part) for w, part in zip(weights, results(**changed)[0], strict=True))

    d_cells = weights[3] if len(weights) == 4 else None
    d_x, d_state, d_params = reference.stack_backward(results()[1], weights[0], tuple(weights[1:3]), d_cells)
    assert_close(d_x, numerical_gradient(lambda v: loss(x=v), x), FINITE_DIFFERENCES, "d_x")
    for i, d in enumerate(d_state):
        expected = numerical_gradient(lambda v, i=i: loss(state=(*state[:i], v, *state[i + 1 :])), state[i])
        assert_close(d, expected, FINITE_DIFFERENCES, f"d_state {i}")
    assert list(d_params) == list(params)
    for key, value in params.items():
        expected = numerical_gradient(lambda v, key=key: loss(changed=params | {key: v}), value)
        assert_close(d_params[key], expected, FINITE_DIFFERENCES, key)


def torch_original_gru(x, h, params):
    """The GRU that resets before the product, step by step; torch has no module for it."""
    w_ih, w_hh, b_ih, b_hh = params
    output = []
    for x_t in x:
        z_r, z_u, z_n = (x_t @ w_ih.T + b_ih).chunk(3, dim=1)
        y_r, y_u = (h @ w_hh[: 2 * H].T + b_hh[: 2 * H]).chunk(2, dim=1)
        r, u = torch.sigmoid(z_r + y_r), torch.sigmoid(z_u + y_u)
        n = torch.tanh(z_n + (r * h) @ w_hh[2 * H :].T + b_hh[2 * H :])
        h = (1 - u) * n + u * h
        output.append(h)
    return torch.stack(output), (h,)


def torch_peephole_lstm(x, h, c, params):
    """The LSTM with peepholes, likewise."""
    w_ih, w_hh, b_ih, b_hh, p = params
    p_i, p_f, p_o = p.chunk(3)
    output = []
    for x_t in x:
        z_i, z_f, z_g, z_o = (x_t @ w_ih.T + b_ih + h @ w_hh.T + b_hh).chunk(4, dim=1)
        c = torch.sigmoid(z_f + p_f * c) * c + torch.sigmoid(z_i + p_i * c) * torch.tanh(z_g)
        h = torch.sigmoid(z_o + p_o * c) * torch.tanh(c)
        output.append(h)
    return torch.stack(output), (h, c)


@pytest.mark.parametrize(("name", "step_by_step"), [("GRU, reset before", torch_original_gru),
                                                    ("LSTM, peephole", torch_peephole_lstm)])
def test_what_torch_lacks_is_that_of_autograd(name, step_by_step):
    rng = np.random.default_rng(0)
    params, state, x = parameters(rng, name), initial(rng, name, 1), rng.standard_normal((6, B, I))
    output, finals, saved = reference.stack(CELLS[name][0], x, state, params)
    r, q = rng.standard_normal(output.shape), tuple(rng.standard_normal(part.shape) for part in finals)
    peer_x, *peer_state = (torch.tensor(a, requires_grad=True) for a in (x, *(part[0] for part in state)))
    weights = [torch.tensor(a, requires_grad=True) for a in params.values()]
    peer_output, peer_finals = step_by_step(peer_x, *peer_state, weights)
    loss = torch.sum(torch.tensor(r) * peer_output)
    (loss + sum(torch.sum(torch.tensor(a[0]) * b) for a, b in zip(q, peer_finals, strict=True))).backward()
    d_x, d_state, d_params = reference.stack_backward(saved, r, q)
    pairs = [(output, peer_output.detach()), (d_x, peer_x.grad)]
    pairs += [(a[0], b.detach()) for a, b in zip(finals, peer_finals, strict=True)]
    pairs += [(a[0], b.grad) for a, b in zip(d_state, peer_state, strict=True)]
    pairs += zip(d_params.values(), (w.grad for w in weights), strict=True)
    for actual, expected in pairs:
        assert_close(actual, expected, 1e-12)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("with_lengths", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("name", ["tanh", "relu", "LSTM", "LSTM, projected", "GRU"])
def test_stack_is_that_of_torch(name, num_layers, bidirectional, bias, with_lengths):
    rng = np.random.default_rng(num_layers)
    cell, P = CELLS[name]
    params = parameters(rng, name, num_layers, 1 + bidirectional, bias)
    x, state = rng.standard_normal((7, B, I)), initial(rng, name, (1 + bidirectional) * num_layers)
    lengths = np.array([3, 7, 1]) if with_lengths else None
    kind = name.split(",")[0] if name[0].isupper() else "RNN"
    options = {"nonlinearity": name} if kind == "RNN" else {"proj_size": P} if P else {}
    options |= {"bias": bias, "bidirectional": bidirectional, "dtype": torch.float64}
    peer = getattr(torch.nn, kind)(I, H, num_layers, **options)
    peer.load_state_dict({key: torch.tensor(value) for key, value in params.items()})
    peer_x, *peer_state = (torch.tensor(a, requires_grad=True) for a in (x, *state))
    utils = torch.nn.utils.rnn
    given = utils.pack_padded_sequence(peer_x, lengths, enforce_sorted=False) if with_lengths else peer_x
    peer_output, finals = peer(given, tuple(peer_state) if kind == "LSTM" else peer_state[0])
    peer_output = utils.pad_packed_sequence(peer_output)[0] if with_lengths else peer_output
    finals = finals if kind == "LSTM" else (finals,)

    output, got, saved = reference.stack(cell, x, state, params, num_layers, bidirectional, lengths=lengths)
    r, q = rng.standard_normal(output.shape), tuple(rng.standard_normal(part.shape) for part in got)
    loss = torch.sum(torch.tensor(r) * peer_output)
    (loss + sum(torch.sum(torch.tensor(a) * b) for a, b in zip(q, finals, strict=True))).backward()
    d_x, d_state, d_params = reference.stack_backward(saved, r, q)
    assert_close(output, peer_output.detach(), 1e-12, "output")
    assert_close(d_x, peer_x.grad, 1e-12, "d_x")
    for a, b, d, tensor in zip(got, finals, d_state, peer_state, strict=True):
        assert_close(a, b.detach(), 1e-12, "final state")
        assert_close(d, tensor.grad, 1e-12, "d_state")
    assert list(d_params) == [key for key, _ in peer.named_parameters()]
    for key, parameter in peer.named_parameters():
        assert_close(d_params[key], parameter.grad, 1e-12, key)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
def test_lengths_are_rows_alone_and_resets_are_pieces_apart(name, reverse):
    rng = np.random.default_rng(2)
    cell = CELLS[name][0]
    params = parameters(rng, name)
    w = reference.Weights(*(params.get(f"{key}_l0") for key in NAMES))
    x, state = rng.standard_normal((6, B, I)), tuple(part[0] for part in initial(rng, name, 1))
    lengths, row = np.array([4, 0, 6]), lambda a, b: a[..., b : b + 1, :]
    outputs, finals, _ = reference.layer(cell, x, state, w, reverse, lengths)
    for b, length in enumerate(lengths):
        alone, final, _ = reference.layer(cell, row(x, b)[:length], tuple(row(s, b) for s in state), w, reverse)
        for got, expected in zip(outputs, alone, strict=True):
            assert_close(row(got, b)[:length], expected, 1e-15)
            assert not got[length:, b].any()
        for got, expected in zip(finals, final, strict=True):
            assert_close(row(got, b), expected, 1e-15)
    reset = np.zeros((6, B), bool)
    reset[4] = True
    outputs, finals, _ = reference.layer(cell, x, state, w, reverse, reset=reset)
    zeros = tuple(map(np.zeros_like, state))
    first, after_first, _ = reference.layer(cell, x[:4], zeros if reverse else state, w, reverse)
    second, after_second, _ = reference.layer(cell, x[4:], state if reverse else zeros, w, reverse)
    for got, *parts in zip(outputs, first, second, strict=True):
        assert_close(got, np.concatenate(parts), 1e-15)
    for got, expected in zip(finals, after_first if reverse else after_second, strict=True):
        assert_close(got, expected, 1e-15)


def test_masks_are_multiplied_between_layers_only():
    rng = np.random.default_rng(3)
    params, cell = parameters(rng, "tanh", 2), reference.RNN()
    x, hx, mask = (rng.standard_normal(shape) for shape in [(4, B, I), (2, B, H), (4, B, H)])
    weights = list(params.values())
    (first,), (h_0,), _ = reference.layer(cell, x, (hx[0],), reference.Weights(*weights[:4]))
    (second,), (h_1,), _ = reference.layer(cell, first * mask, (hx[1],), reference.Weights(*weights[4:]))
    output, (h_n,), _ = reference.stack(cell, x, (hx,), params, 2, masks=[mask])
    assert np.array_equal(output, second)
    assert np.array_equal(h_n, [h_0, h_1])


def test_linear_mode_is_exact_and_goes_the_right_way():
    x = np.arange(1.0, 6).reshape(5, 1, 1)
    one = np.ones((1, 1))
    w = reference.Weights(one, 2 * one, one[0], 2 * one[0])  # h[t] = x[t] + 1 + 2 h[t-1] + 2
    (output,), (h_n,), _ = reference.layer(reference.RNN("linear"), x, (100 * one,), w)
    assert output.ravel().tolist() == [204, 413, 832, 1671, 3350]
    assert h_n.item() == 3350
    (output,), (h_n,), _ = reference.layer(reference.RNN("linear"), x, (100 * one,), w, reverse=True)
    assert output.ravel().tolist() == [3422, 1709, 852, 423, 208]
    assert h_n.item() == 3422


def test_gates_stand_in_their_order():
    gates = np.array([[2.0], [3.0], [5.0], [7.0]])  # i f g o of x = 1, h = 0
    one, zero = np.ones((1, 1)), np.zeros((1, 1))
    (h, c), _ = reference.LSTM(linear=True).step(one, (zero, one), reference.Weights(gates, 0 * gates))
    assert (c.item(), h.item()) == (3 + 2 * 5, 7 * 13)
    p = np.array([10.0, 100.0, 1000.0])  # of i f o, c being 1 before the step
    (h, c), _ = reference.LSTM(linear=True).step(one, (zero, one), reference.Weights(gates, 0 * gates, p=p))
    assert (c.item(), h.item()) == (103 + 12 * 5, (7 + 1000 * 163) * 163)
    w = reference.Weights(gates[:3], np.array([[0.0], [0.0], [1.0]]))  # r u n; the candidate sees h
    for reset_after in (True, False):
        (h,), _ = reference.GRU(reset_after, linear=True).step(one, (11 * one,), w)
        assert h.item() == (1 - 3) * (5 + 2 * 11) + 3 * 11


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "sigmoid"])
def test_nonlinearities_are_those_of_torch_over_the_whole_range(nonlinearity):
    values = np.array([-np.inf, -800, -40, -1, -1e-9, -0.0, 0.0, 1e-9, 0.5, 3, 40, 800, np.inf, np.nan])
    one, h0 = np.ones((1, 1)), np.zeros((len(values), 1))
    cell = reference.RNN(nonlinearity)
    _, (h_n,), _ = reference.layer(cell, values.reshape(1, -1, 1), (h0,), reference.Weights(one, one))
    expected = getattr(torch, nonlinearity)(torch.tensor(values)).numpy()
    np.testing.assert_allclose(h_n.ravel(), expected, rtol=4 * np.finfo(float).eps)


@pytest.mark.parametrize("name", ["tanh", "relu", "LSTM", "GRU"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_comes_out_as_from_torch(name, value):
    rng = np.random.default_rng(4)
    params, state, x = parameters(rng, name), initial(rng, name, 1), rng.standard_normal((5, B, I))
    x[2, 1, 0] = value
    kind = name if name[0].isupper() else "RNN"
    peer = getattr(torch.nn, kind)(I, H, dtype=torch.float64, **({"nonlinearity": name} if kind == "RNN" else {}))
    peer.load_state_dict({key: torch.tensor(weight) for key, weight in params.items()})
    peer_x, *peer_state = (torch.tensor(a, requires_grad=True) for a in (x, *state))
    peer_output, _ = peer(peer_x, tuple(peer_state) if kind == "LSTM" else peer_state[0])
    peer_output.sum().backward()
    output, finals, saved = reference.stack(CELLS[name][0], x, state, params)
    d_x, d_state, d_params = reference.stack_backward(saved, np.ones_like(output), tuple(map(np.zeros_like, finals)))
    assert np.isfinite(output[:, 0]).all() and np.isfinite(output[:2]).all()
    assert_close(output, peer_output.detach(), 1e-12, "output")
    assert_close(d_x, peer_x.grad, 1e-12, "d_x")
    for d, tensor in zip(d_state, peer_state, strict=True):
        assert_close(d, tensor.grad, 1e-12, "d_state")
    for key, parameter in peer.named_parameters():
        assert_close(d_params[key], parameter.grad, 1e-12, key)


@pytest.mark.parametrize("name", CELLS)
def test_no_steps_pass_the_state_and_its_gradient_through(name):
    rng = np.random.default_rng(5)
    params, state = parameters(rng, name, 2, 2), initial(rng, name, 4)
    output, finals, saved = reference.stack(CELLS[name][0], np.zeros((0, B, I)), state, params, 2, True)
    assert output.shape == (0, B, 2 * state[0].shape[2])
    d_x, d_state, d_params = reference.stack_backward(saved, output, state)
    assert d_x.shape == (0, B, I) and not any(d.any() for d in d_params.values())
    for before, after, d in zip(state, finals, d_state, strict=True):
        assert np.array_equal(after, before) and not np.shares_memory(after, before)
        assert np.array_equal(d, before) and not np.shares_memory(d, before)


@pytest.mark.parametrize("name", CELLS)
def test_no_sequences_give_empty_states_and_zero_weight_gradients(name):
    rng = np.random.default_rng(6)
    params, state = parameters(rng, name, 2, 2), tuple(part[:, :0] for part in initial(rng, name, 4))
    output, finals, saved = reference.stack(CELLS[name][0], np.zeros((3, 0, I)), state, params, 2, True)
    assert output.shape == (3, 0, 2 * state[0].shape[2]) and [f.shape for f in finals] == [s.shape for s in state]
    d_x, d_state, d_params = reference.stack_backward(saved, output, finals)
    assert d_x.shape == (3, 0, I) and [d.shape for d in d_state] == [s.shape for s in state]
    assert {key: d.shape for key, d in d_params.items()} == {key: p.shape for key, p in params.items()}
    assert not any(d.any() for d in d_params.values())


@pytest.mark.parametrize("name", CELLS)
def test_float32_stays_float32_and_agrees_with_float64(name):
    rng = np.random.default_rng(5)
    params, state, x = parameters(rng, name, 1, 2), initial(rng, name, 2), rng.standard_normal((5, B, I))
    results = []
    for dtype in ("float32", "float64"):  # both from what float32 can hold
        as_dtype = lambda a: a.astype("float32").astype(dtype)  # noqa: B023, E731
        args = as_dtype(x), tuple(map(as_dtype, state)), {key: as_dtype(p) for key, p in params.items()}
        output, finals, saved = reference.stack(CELLS[name][0], *args, bidirectional=True)
        d_x, d_state, d_params = reference.stack_backward(saved, np.ones_like(output), finals)
        results.append([output, *finals, d_x, *d_state, *d_params.values()])
    for actual, expected in zip(*results, strict=True):
        assert actual.dtype == np.float32 and expected.dtype == np.float64
        assert_close(actual, expected, tolerance("float32", 5 * (I + 4 * H + 2)))


@pytest.mark.parametrize("name", CELLS)
def test_arguments_are_not_changed(name):
    rng = np.random.default_rng(7)
    params, state, x = parameters(rng, name, 2, 2), initial(rng, name, 4), rng.standard_normal((3, B, I))
    q, r = initial(rng, name, 4), rng.standard_normal((3, B, 2 * state[0].shape[2]))
    mask = np.ones_like(r)
    for array in [x, *state, *q, r, mask, *params.values()]:
        array.flags.writeable = False
    saved = reference.stack(CELLS[name][0], x, state, params, 2, bidirectional=True, masks=[mask])[2]
    d_x, d_state, d_params = reference.stack_backward(saved, r, q)
    assert all(array.flags.writeable for array in [d_x, *d_state, *d_params.values()])
    assert not np.shares_memory(d_params["bias_ih_l0"], d_params["bias_hh_l0"])
