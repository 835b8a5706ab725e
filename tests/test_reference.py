"""The reference against finite differences, torch, and results known by hand."""

from itertools import product

import numpy as np
import pytest
import torch
from helpers import FINITE_DIFFERENCES, assert_close, numerical_gradient, tolerance

from fastrnn import reference

NONLINEARITIES = ["tanh", "relu", "sigmoid", "linear"]
B, I, H = 2, 3, 4


def one_layer(steps, seed=0, dtype="float64"):
    """Random arguments of `rnn_forward`, by name."""
    rng = np.random.default_rng(seed)
    shapes = {"x": (steps, B, I), "h0": (B, H), "w_ih": (H, I), "w_hh": (H, H), "b_ih": (H,), "b_hh": (H,)}
    return {name: (0.7 * rng.standard_normal(shape)).astype(dtype) for name, shape in shapes.items()}


def stack_parameters(rng, num_layers, directions, bias, inputs=I):
    """Random weights of a stack, under torch's names and in torch's order."""
    params = {}
    for layer, direction in product(range(num_layers), range(directions)):
        end = f"_l{layer}" + "_reverse" * direction
        params["weight_ih" + end] = 0.5 * rng.standard_normal((H, directions * H if layer else inputs))
        params["weight_hh" + end] = 0.5 * rng.standard_normal((H, H))
        if bias:
            params["bias_ih" + end], params["bias_hh" + end] = 0.5 * rng.standard_normal((2, H))
    return params


def away_from_the_kink(arguments, reverse):
    """No preactivation of a relu network near 0, where finite differences would straddle the kink."""
    x, h0, w_ih, w_hh, b_ih, b_hh = arguments.values()
    output, _ = reference.rnn_forward(*arguments.values(), "relu", reverse)
    states = np.concatenate([output[1:], h0[None]] if reverse else [h0[None], output[:-1]])
    return np.abs(x @ w_ih.T + b_ih + states @ w_hh.T + b_hh).min() > 1e-3


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_one_layer_gradients_are_those_of_finite_differences(steps, nonlinearity, reverse):
    candidates = (one_layer(steps, seed) for seed in range(20))
    arguments = next(a for a in candidates if away_from_the_kink(a, reverse))
    output, h_n = reference.rnn_forward(*arguments.values(), nonlinearity, reverse)
    rng = np.random.default_rng(99)
    r, q = rng.standard_normal(output.shape), rng.standard_normal(h_n.shape)

    x, h0, w_ih, w_hh, _, _ = arguments.values()
    gradients = reference.rnn_backward(x, h0, output, w_ih, w_hh, r, q, nonlinearity, reverse)
    for name, gradient in zip(arguments, [*gradients, gradients[-1]], strict=True):

        def loss(value, name=name):
            changed = arguments | {name: value}
            output, h_n = reference.rnn_forward(*changed.values(), nonlinearity, reverse)
            return np.sum(r * output) + np.sum(q * h_n)

        assert_close(gradient, numerical_gradient(loss, arguments[name]), FINITE_DIFFERENCES, "d_" + name)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_stack_gradients_with_masks_are_those_of_finite_differences(steps, num_layers, bidirectional):
    rng = np.random.default_rng(steps)
    directions = 1 + bidirectional
    params = stack_parameters(rng, num_layers, directions, bias=True)
    x, hx = rng.standard_normal((steps, B, I)), rng.standard_normal((directions * num_layers, B, H))
    masks = [rng.choice([0, 1 / 0.7], (steps, B, directions * H)) for _ in range(num_layers - 1)]
    r, q = rng.standard_normal((steps, B, directions * H)), rng.standard_normal(hx.shape)

    def loss(x=x, hx=hx, **changed):
        output, h_n, _ = reference.rnn(x, hx, params | changed, num_layers, "tanh", bidirectional, masks)
        return np.sum(r * output) + np.sum(q * h_n)

    saved = reference.rnn(x, hx, params, num_layers, "tanh", bidirectional, masks)[2]
    d_x, d_hx, d_params = reference.rnn_stack_backward(saved, r, q)
    assert_close(d_x, numerical_gradient(lambda v: loss(x=v), x), FINITE_DIFFERENCES, "d_x")
    assert_close(d_hx, numerical_gradient(lambda v: loss(hx=v), hx), FINITE_DIFFERENCES, "d_hx")
    assert list(d_params) == list(params)
    for name, value in params.items():
        expected = numerical_gradient(lambda v, name=name: loss(**{name: v}), value)
        assert_close(d_params[name], expected, FINITE_DIFFERENCES, name)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_stack_is_that_of_torch(nonlinearity, num_layers, bidirectional, bias):
    rng = np.random.default_rng(num_layers)
    directions = 1 + bidirectional
    params = stack_parameters(rng, num_layers, directions, bias)
    x, hx = rng.standard_normal((7, B, I)), rng.standard_normal((directions * num_layers, B, H))
    r, q = rng.standard_normal((7, B, directions * H)), rng.standard_normal(hx.shape)

    options = {"bidirectional": bidirectional, "dtype": torch.float64}
    peer = torch.nn.RNN(I, H, num_layers, nonlinearity, bias, **options)
    peer.load_state_dict({name: torch.tensor(value) for name, value in params.items()})
    peer_x, peer_hx = torch.tensor(x, requires_grad=True), torch.tensor(hx, requires_grad=True)
    peer_output, peer_h_n = peer(peer_x, peer_hx)
    (torch.sum(torch.tensor(r) * peer_output) + torch.sum(torch.tensor(q) * peer_h_n)).backward()

    output, h_n, saved = reference.rnn(x, hx, params, num_layers, nonlinearity, bidirectional)
    d_x, d_hx, d_params = reference.rnn_stack_backward(saved, r, q)
    assert_close(output, peer_output.detach(), 1e-12, "output")
    assert_close(h_n, peer_h_n.detach(), 1e-12, "h_n")
    assert_close(d_x, peer_x.grad, 1e-12, "d_x")
    assert_close(d_hx, peer_hx.grad, 1e-12, "d_hx")
    assert list(d_params) == [name for name, _ in peer.named_parameters()]
    for name, parameter in peer.named_parameters():
        assert_close(d_params[name], parameter.grad, 1e-12, name)


def test_masks_are_multiplied_between_layers_only():
    rng = np.random.default_rng(3)
    params = stack_parameters(rng, 2, 1, bias=True)
    x, hx, mask = (rng.standard_normal(shape) for shape in [(4, B, I), (2, B, H), (4, B, H)])
    weights = list(params.values())
    first, h_0 = reference.rnn_forward(x, hx[0], *weights[:4])
    second, h_1 = reference.rnn_forward(first * mask, hx[1], *weights[4:])
    output, h_n, _ = reference.rnn(x, hx, params, 2, masks=[mask])
    assert np.array_equal(output, second)
    assert np.array_equal(h_n, [h_0, h_1])


def test_linear_mode_is_exact_and_goes_the_right_way():
    x = np.arange(1.0, 6).reshape(5, 1, 1)
    one = np.ones((1, 1))
    weights = one, 2 * one, one[0], 2 * one[0]  # h[t] = x[t] + 1 + 2 h[t-1] + 2
    output, h_n = reference.rnn_forward(x, 100 * one, *weights, "linear")
    assert output.ravel().tolist() == [204, 413, 832, 1671, 3350]
    assert h_n.item() == 3350
    output, h_n = reference.rnn_forward(x, 100 * one, *weights, "linear", reverse=True)
    assert output.ravel().tolist() == [3422, 1709, 852, 423, 208]
    assert h_n.item() == 3422


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "sigmoid"])
def test_nonlinearities_are_those_of_torch_over_the_whole_range(nonlinearity):
    values = np.array([-np.inf, -800, -40, -1, -1e-9, -0.0, 0.0, 1e-9, 0.5, 3, 40, 800, np.inf, np.nan])
    one, h0 = np.ones((1, 1)), np.zeros((len(values), 1))
    _, h_n = reference.rnn_forward(values.reshape(1, -1, 1), h0, one, one, None, None, nonlinearity)
    expected = getattr(torch, nonlinearity)(torch.tensor(values)).numpy()
    np.testing.assert_allclose(h_n.ravel(), expected, rtol=4 * np.finfo(float).eps)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_comes_out_as_from_torch(nonlinearity, value):
    rng = np.random.default_rng(4)
    params = stack_parameters(rng, 1, 1, bias=True)
    x, hx = rng.standard_normal((5, B, I)), rng.standard_normal((1, B, H))
    x[2, 1, 0] = value
    peer = torch.nn.RNN(I, H, nonlinearity=nonlinearity, dtype=torch.float64)
    peer.load_state_dict({name: torch.tensor(weight) for name, weight in params.items()})
    peer_x, peer_hx = torch.tensor(x, requires_grad=True), torch.tensor(hx, requires_grad=True)
    peer_output, _ = peer(peer_x, peer_hx)
    peer_output.sum().backward()
    output, h_n, saved = reference.rnn(x, hx, params, nonlinearity=nonlinearity)
    d_x, d_hx, d_params = reference.rnn_stack_backward(saved, np.ones_like(output), np.zeros_like(h_n))
    assert np.isfinite(output[:, 0]).all() and np.isfinite(output[:2]).all()
    assert_close(output, peer_output.detach(), 1e-12, "output")
    assert_close(d_x, peer_x.grad, 1e-12, "d_x")
    assert_close(d_hx, peer_hx.grad, 1e-12, "d_hx")
    for name, parameter in peer.named_parameters():
        assert_close(d_params[name], parameter.grad, 1e-12, name)


@pytest.mark.parametrize("reverse", [False, True])
def test_no_steps_pass_the_state_and_its_gradient_through(reverse):
    arguments = one_layer(0)
    x, h0, w_ih, w_hh, _, _ = arguments.values()
    output, h_n = reference.rnn_forward(*arguments.values(), reverse=reverse)
    assert output.shape == (0, B, H)
    assert np.array_equal(h_n, h0) and not np.shares_memory(h_n, h0)
    q = np.random.default_rng(5).standard_normal((B, H))
    dx, dh0, *d_weights = reference.rnn_backward(x, h0, output, w_ih, w_hh, output, q, "tanh", reverse)
    assert dx.shape == x.shape
    assert np.array_equal(dh0, q) and not np.shares_memory(dh0, q)
    assert not any(d.any() for d in d_weights)


def test_no_sequences_give_empty_states_and_zero_weight_gradients():
    params = stack_parameters(np.random.default_rng(6), 2, 2, bias=True)
    x, hx = np.zeros((3, 0, I)), np.zeros((4, 0, H))
    output, h_n, saved = reference.rnn(x, hx, params, 2, bidirectional=True)
    assert output.shape == (3, 0, 2 * H) and h_n.shape == (4, 0, H)
    d_x, d_hx, d_params = reference.rnn_stack_backward(saved, output, h_n)
    assert d_x.shape == x.shape and d_hx.shape == hx.shape
    assert {name: d.shape for name, d in d_params.items()} == {name: p.shape for name, p in params.items()}
    assert not any(d.any() for d in d_params.values())


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_float32_stays_float32_and_agrees_with_float64(nonlinearity, reverse):
    single = one_layer(5, dtype="float32")
    results = []
    for arguments in (single, {name: a.astype("float64") for name, a in single.items()}):
        x, h0, w_ih, w_hh, _, _ = arguments.values()
        output, h_n = reference.rnn_forward(*arguments.values(), nonlinearity, reverse)
        r, q = np.ones_like(output), np.ones_like(h_n)
        gradients = reference.rnn_backward(x, h0, output, w_ih, w_hh, r, q, nonlinearity, reverse)
        results.append([output, h_n, *gradients])
    for actual, expected in zip(*results, strict=True):
        assert actual.dtype == np.float32 and expected.dtype == np.float64
        assert_close(actual, expected, tolerance("float32", 5 * (I + H + 2)))


def test_arguments_are_not_changed():
    params = stack_parameters(np.random.default_rng(7), 2, 2, bias=True)
    rng = np.random.default_rng(8)
    x, hx = rng.standard_normal((3, B, I)), rng.standard_normal((4, B, H))
    r, q, mask = rng.standard_normal((3, B, 2 * H)), rng.standard_normal(hx.shape), np.ones((3, B, 2 * H))
    for array in [x, hx, r, q, mask, *params.values()]:
        array.flags.writeable = False
    _, _, saved = reference.rnn(x, hx, params, 2, bidirectional=True, masks=[mask])
    d_x, d_hx, d_params = reference.rnn_stack_backward(saved, r, q)
    arrays = [d_x, d_hx, *d_params.values()]
    assert all(array.flags.writeable for array in arrays)
    assert not np.shares_memory(d_params["bias_ih_l0"], d_params["bias_hh_l0"])


@pytest.mark.parametrize("leading", [(), (5,), (4, 2), (2, 3, 2), (0,)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_that_of_torch_and_of_finite_differences(leading, bias):
    rng = np.random.default_rng(9)
    x, weight, b = rng.standard_normal((*leading, I)), rng.standard_normal((H, I)), rng.standard_normal(H)
    r = rng.standard_normal((*leading, H))
    peer = [torch.tensor(a, requires_grad=True) for a in (x, weight, b)]
    peer_y = torch.nn.functional.linear(*peer[: 2 + bias])
    torch.sum(torch.tensor(r) * peer_y).backward()

    y = reference.linear(x, weight, b if bias else None)
    gradients = reference.linear_backward(x, weight, r)
    assert_close(y, peer_y.detach(), 1e-14)
    for gradient, tensor in zip(gradients[: 2 + bias], peer, strict=False):
        assert_close(gradient, tensor.grad, 1e-14)
    losses = [lambda v: np.sum(r * reference.linear(v, weight, b)),
              lambda v: np.sum(r * reference.linear(x, v, b)),
              lambda v: np.sum(r * reference.linear(x, weight, v))]
    for gradient, loss, array in zip(gradients, losses, (x, weight, b), strict=True):
        assert_close(gradient, numerical_gradient(loss, array), FINITE_DIFFERENCES)


@pytest.mark.parametrize("shape", [(5,), (4, 5), (3, 2, 5)])
def test_softmax_is_that_of_torch(shape):
    x = 20 * np.random.default_rng(10).standard_normal(shape)
    assert_close(reference.softmax(x), torch.softmax(torch.tensor(x), -1), 1e-14)
    assert_close(reference.softmax(x + 1e4), torch.softmax(torch.tensor(x + 1e4), -1), 1e-14)
    assert reference.softmax(x.astype("float32")).dtype == np.float32


@pytest.mark.parametrize("leading", [(6,), (3, 2), ()])
def test_cross_entropy_is_that_of_torch_and_of_finite_differences(leading):
    rng = np.random.default_rng(11)
    logits, target = 3 * rng.standard_normal((*leading, 5)), rng.integers(0, 5, leading)
    if leading == (6,):
        target[[1, 4]] = -100
    peer = torch.tensor(logits, requires_grad=True)
    peer_loss = torch.nn.functional.cross_entropy(peer.reshape(-1, 5), torch.tensor(target).reshape(-1))
    peer_loss.backward()
    loss, gradient = reference.cross_entropy(logits, np.asarray(target))
    assert type(loss) is float
    assert_close(loss, peer_loss.item(), 1e-14)
    assert_close(gradient, peer.grad, 1e-14)
    numerical = numerical_gradient(lambda v: reference.cross_entropy(v, np.asarray(target))[0], logits)
    assert_close(gradient, numerical, FINITE_DIFFERENCES)


def test_cross_entropy_of_nothing_is_nan_with_a_zero_gradient():
    loss, gradient = reference.cross_entropy(np.ones((2, 3)), np.array([7, 7]), ignore_index=7)
    assert np.isnan(loss) and gradient.shape == (2, 3) and not gradient.any()


def test_mse_is_that_of_torch_and_of_finite_differences():
    a, b = np.random.default_rng(12).standard_normal((2, 4, 3))
    peer = torch.tensor(a, requires_grad=True)
    peer_loss = torch.nn.functional.mse_loss(peer, torch.tensor(b))
    peer_loss.backward()
    loss, gradient = reference.mse(a, b)
    assert_close(loss, peer_loss.item(), 1e-14)
    assert_close(gradient, peer.grad, 1e-14)
    assert_close(gradient, numerical_gradient(lambda v: reference.mse(v, b)[0], a), FINITE_DIFFERENCES)
    loss, gradient = reference.mse(np.zeros((0, 3)), np.zeros((0, 3)))
    assert np.isnan(loss) and gradient.shape == (0, 3)


@pytest.mark.parametrize("name", ["cross_entropy", "mse"])
def test_losses_keep_the_dtype(name):
    target = np.zeros(2, int) if name == "cross_entropy" else np.zeros((2, 3), "float32")
    assert getattr(reference, name)(np.ones((2, 3), "float32"), target)[1].dtype == np.float32
