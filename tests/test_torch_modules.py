"""fastrnn.torch's modules beside torch's own, over the same parameters: results, first and second derivatives."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from helpers import assert_close
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch_twins import NAMES, apart, twins

import fastrnn.torch

pytestmark = pytest.mark.usefixtures("torch_seed")
# Measured, the worst of all cases: 4.3e-15 and 1.7e-6.
TOLERANCE = {torch.float64: 1e-13, torch.float32: 2e-5}


def as_tuple(states):
    return states if isinstance(states, tuple) else (states,)


def results_and_gradients(module, x, hx, lengths=None):
    """All that a call gives, by name: without a graph, then with one, and gradients of a loss on all of it."""
    x = x.clone().requires_grad_()
    states = tuple(state.clone().requires_grad_() for state in as_tuple(hx)) if hx is not None else ()
    hx = None if hx is None else states if len(states) == 2 else states[0]
    input = x if lengths is None else pack_padded_sequence(x, lengths, module.batch_first, enforce_sorted=False)
    found = {}
    for mode in (torch.no_grad, torch.enable_grad):
        torch.manual_seed(1)  # of the dropout
        with mode():
            results = module(input, hx)
        if isinstance(results, tuple) and isinstance(results[0], PackedSequence):
            results = results[0].data, results[1]
        flat = [*itertools.chain(*map(as_tuple, as_tuple(results)))]
        found |= {f"{mode.__name__} result {i}": result.detach() for i, result in enumerate(flat)}
    weights = [torch.from_numpy(np.random.default_rng(i).standard_normal(result.shape)).to(result.dtype)
               for i, result in enumerate(flat)]
    module.zero_grad()
    sum((weight * result).sum() for weight, result in zip(weights, flat, strict=True)).backward()
    found |= {f"d_{name}": parameter.grad for name, parameter in module.named_parameters()}
    return found | {f"d_input {i}": tensor.grad for i, tensor in enumerate((x, *states))}


def assert_same(plain, twin, *arguments):
    dtype = next(twin.parameters()).dtype
    expected = results_and_gradients(plain, *arguments)
    actual = results_and_gradients(twin, *arguments)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].dtype == dtype and actual[name].shape == value.shape, name
        assert_close(actual[name], value, TOLERANCE[dtype], name)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("form", ["batched", "unbatched", "packed"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_layers_beside_torch(name, form, dtype):
    rng = np.random.default_rng(0)
    projections = (0, 3) if name == "LSTM" else (0,)
    for layers, both, batch_first, bias, proj, dropout, zeros in itertools.product(
            (1, 3), (False, True), (False, True), (False, True), projections, (0.0, 0.4), (False, True)):
        kwargs = {"proj_size": proj} if proj else {}
        plain, twin = twins(name, 4, 5, layers, bias=bias, batch_first=batch_first, bidirectional=both,
                            dropout=dropout if layers > 1 else 0.0, dtype=dtype, **kwargs)
        rows = () if form == "unbatched" else (3,)
        shape = (6, 4) if form == "unbatched" else (3, 6, 4) if batch_first else (6, 3, 4)
        x = torch.from_numpy(rng.standard_normal(shape)).to(dtype)
        states = [torch.from_numpy(rng.standard_normal((layers * (1 + both), *rows, size))).to(dtype)
                  for size in (proj or 5, 5)]
        hx = None if zeros else tuple(states) if name == "LSTM" else states[0]
        assert_same(plain, twin, x, hx, [3, 6, 1] if form == "packed" else None)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", NAMES)
def test_cells_beside_torch(name, dtype):
    for bias, rows, zeros in itertools.product((False, True), ((), (3,)), (False, True)):
        plain, twin = twins(f"{name}Cell", 4, 5, bias=bias, dtype=dtype)
        x, h, c = (torch.randn(*rows, size, dtype=dtype) for size in (4, 5, 5))
        assert_same(plain, twin, x, None if zeros else (h, c) if name == "LSTM" else h)


@pytest.mark.parametrize("module", ["RNN", "RNNCell"])
def test_relu(module):
    plain, twin = twins(module, 4, 5, nonlinearity="relu")
    assert_same(plain, twin, torch.randn(6, 3, 4, dtype=torch.float64)[: 6 if module == "RNN" else 1].squeeze(0), None)


def test_dropout_without_a_graph():
    """Where the weights are packed already, too."""
    plain, twin = twins("LSTM", 4, 5, 3, dropout=0.5)
    x = torch.randn(6, 3, 4, dtype=torch.float64)
    for _ in range(2):
        with torch.no_grad():
            torch.manual_seed(1)
            expected = plain(x)[0]
            torch.manual_seed(1)
            assert_close(twin(x)[0], expected, TOLERANCE[torch.float64])


def test_bits_are_those_of_the_plain_layer():
    twin = fastrnn.torch.GRU(5, 7, 2, bidirectional=True)
    plain = fastrnn.GRU(5, 7, 2, bidirectional=True)
    plain.load_state_dict(twin.state_dict())
    x = torch.randn(6, 3, 5)
    output, h_n, tape = plain.forward(x.numpy())
    for mode in (torch.no_grad, torch.enable_grad):
        with mode():
            results = twin(x)
        assert np.array_equal(results[0].detach().numpy(), output) and np.array_equal(results[1].detach().numpy(), h_n)
    results[0].sum().backward()
    gradients = plain.backward(tape, np.ones_like(output))
    for name, parameter in twin.named_parameters():
        assert np.array_equal(parameter.grad.numpy(), gradients.params[name]), name


@pytest.mark.parametrize("name", NAMES)
def test_tensors_of_any_strides(name):
    """Sparse steps, rows and features, transposed, at odd addresses, expanded."""
    plain, twin = twins(name, 4, 5)
    wide = torch.randn(12, 6, 8, dtype=torch.float64)
    for x in (wide[::2, ::2, :4], wide[:, :, ::2], wide.transpose(0, 1)[:, :, 1:5], wide[:1, :1, 3:7].expand(6, 3, 4)):
        assert fastrnn.torch.explain(twin, x) == "fastrnn"
        expected, actual = plain(x)[0], twin(x)[0]
        assert apart(actual, expected) < 5e-15  # measured: 3.3e-16


@pytest.mark.parametrize("name", NAMES)
def test_only_what_is_asked_for_gets_a_gradient(name):
    plain, twin = twins(name, 4, 5)
    for module in (plain, twin):
        module.weight_hh_l0.requires_grad_(False)
        module(torch.ones(6, 3, 4, dtype=torch.float64))[0].sum().backward()
    assert twin.weight_hh_l0.grad is None
    assert apart(twin.weight_ih_l0.grad, plain.weight_ih_l0.grad) < 4e-14  # measured: 3.6e-15, of up to 9
    for parameter in twin.parameters():
        parameter.requires_grad_(False)
    assert not twin(torch.ones(6, 3, 4, dtype=torch.float64))[0].requires_grad


def test_a_graph_goes_back_twice_where_it_is_retained():
    twin = fastrnn.torch.LSTM(4, 5)
    output = twin(torch.randn(6, 3, 4))[0]
    first = torch.autograd.grad(output.sum(), list(twin.parameters()), retain_graph=True)
    second = torch.autograd.grad(output.sum(), list(twin.parameters()))
    assert all(map(torch.equal, first, second))
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(output.sum(), list(twin.parameters()))


@pytest.mark.parametrize("spoiled", ["input", "weight", "output"])
def test_what_the_way_back_needs_may_not_be_written_to(spoiled):
    twin, x = fastrnn.torch.GRU(4, 5), torch.randn(6, 3, 4)
    output = twin(x)[0]
    with torch.no_grad():
        {"input": x, "weight": twin.weight_hh_l0, "output": output}[spoiled].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives(name):
    """Of every input, state and parameter, both directions and two layers, by torch's own checks; packed, too."""
    twin = getattr(fastrnn.torch, name)(2, 3, 2, bidirectional=True, dtype=torch.float64)
    names = [name for name, _ in twin.named_parameters()]

    def call(x, h, c, *parameters, packed=False):
        input = pack_padded_sequence(x, [1, 3], enforce_sorted=False) if packed else x
        output, states = torch.func.functional_call(twin, dict(zip(names, parameters, strict=True)),
                                                    (input, (h, c) if name == "LSTM" else h))
        return (output.data if packed else output, *as_tuple(states))

    shapes = (3, 2, 2), (4, 2, 3), (4, 2, 3)
    inputs = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    for packed in (False, True):
        arguments = (*inputs, *twin.parameters())
        assert torch.autograd.gradcheck(lambda *a: call(*a, packed=packed), arguments)  # noqa: B023
        assert torch.autograd.gradgradcheck(lambda *a: call(*a, packed=packed), arguments)  # noqa: B023


@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives_of_cells(name):
    twin = getattr(fastrnn.torch, f"{name}Cell")(2, 3, dtype=torch.float64)
    x, h, c = (torch.randn(2, size, dtype=torch.float64, requires_grad=True) for size in (2, 3, 3))
    arguments = (x, h, c) if name == "LSTM" else (x, h)

    def call(x, *states):
        return twin(x, states if name == "LSTM" else states[0])

    assert torch.autograd.gradcheck(call, arguments) and torch.autograd.gradgradcheck(call, arguments)


def test_a_gradient_penalty_in_float32():
    """oneDNN's LSTM has no second derivative; neither the switch to torch's other one nor its state is left behind."""
    plain, twin = twins("LSTM", 4, 5, dtype=torch.float32)
    x, found = torch.randn(6, 3, 4), []
    for module, onednn in ((plain, False), (twin, True)):
        torch._C._set_mkldnn_enabled(onednn)
        try:
            inner = x.clone().requires_grad_()
            gradient, = torch.autograd.grad(module(inner)[0].square().sum(), inner, create_graph=True)
            gradient.square().sum().backward()
            assert torch._C._get_mkldnn_enabled() is onednn
        finally:
            torch._C._set_mkldnn_enabled(True)
        found.append(module.weight_hh_l0.grad)
    assert apart(found[0], found[1]) < 1e-7  # measured: 5.6e-9


def test_inference_mode():
    plain, twin = twins("LSTM", 4, 5)
    with torch.inference_mode():
        x = torch.randn(6, 3, 4, dtype=torch.float64)
        assert apart(twin(x)[0], plain(x)[0]) < 2e-15  # measured: 1.7e-16
        assert fastrnn.torch.explain(twin, x) == "fastrnn"


def test_threads_share_a_module():
    """Inference and training side by side: each gets the bits of a thread alone, and gradients add up."""
    twin = fastrnn.torch.GRU(8, 16)
    inputs = [torch.randn(20, 4, 8) for _ in range(32)]

    def call(x):
        return twin(x)[0].detach(), torch.autograd.grad(twin(x)[0].sum(), list(twin.parameters()))

    alone = [call(x) for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        for (expected, d_expected), (actual, d_actual) in zip(alone, pool.map(call, inputs), strict=True):
            assert torch.equal(actual, expected) and all(map(torch.equal, d_actual, d_expected))
