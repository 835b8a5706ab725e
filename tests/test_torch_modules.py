"""fastrnn.torch's modules beside torch's own, over the same parameters: results, gradients, what is left to torch."""

import copy
import itertools
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from helpers import assert_close
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import fastrnn.torch

NAMES = ("RNN", "LSTM", "GRU")
# Worst relative differences from torch seen over all cases of a file's run: 3.9e-15 in float64, 1.4e-6 in float32.
TOLERANCE = {torch.float64: 1e-13, torch.float32: 2e-5}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def twins(name, *args, dtype=torch.float64, **kwargs):
    """A module of torch, and fastrnn's with the same parameters."""
    plain = getattr(torch.nn, name)(*args, dtype=dtype, **kwargs)
    return plain, fastrnn.torch.accelerate(copy.deepcopy(plain))


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
def test_arrays_are_not_copied_but_where_they_have_to_be(name):
    """Strides of any kind, views at odd addresses, and tensors that came from read-only arrays."""
    plain, twin = twins(name, 4, 5)
    wide = torch.randn(12, 6, 8, dtype=torch.float64)
    for x in (wide[::2, ::2, :4], wide[:, :, ::2], wide.transpose(0, 1)[:, :, 1:5], wide[:1, :1, 3:7].expand(6, 3, 4)):
        assert fastrnn.torch.explain(twin, x) == "fastrnn"
        expected, actual = plain(x)[0], twin(x)[0]
        assert (actual - expected).abs().max() < 1e-14


@pytest.mark.parametrize("name", NAMES)
def test_only_what_is_asked_for_gets_a_gradient(name):
    plain, twin = twins(name, 4, 5)
    for module in (plain, twin):
        module.weight_hh_l0.requires_grad_(False)
        module(torch.ones(6, 3, 4, dtype=torch.float64))[0].sum().backward()
    assert twin.weight_hh_l0.grad is None
    assert (twin.weight_ih_l0.grad - plain.weight_ih_l0.grad).abs().max() < 1e-12
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
    assert (found[0] - found[1]).abs().max() / found[0].abs().max() < 1e-5  # seen: 3e-7


# What users do to weights. Each has to be seen by the next call; `.data` and NumPy leave no trace.
CHANGES = {
    "in place": lambda module: module.weight_hh_l0.detach().mul_(2),
    "data": lambda module: module.weight_hh_l0.data.mul_(-1),
    "data, one number": lambda module: module.weight_hh_l0.data[2, 1].neg_(),
    "data, two signs": lambda module: module.weight_hh_l0.data[:, 1].neg_(),
    "data, swapped rows": lambda module: module.weight_hh_l0.data.copy_(module.weight_hh_l0.data.flip(0)),
    "NumPy": lambda module: module.bias_hh_l0.detach().numpy().__setitem__(0, 9),
    "another tensor as data": lambda module: setattr(module.weight_ih_l0, "data", module.weight_ih_l0.data * 2),
    "another parameter": lambda module: setattr(module, "weight_hh_l0", torch.nn.Parameter(module.weight_hh_l0 * 2)),
    "load_state_dict": lambda module: module.load_state_dict({k: v * 2 for k, v in module.state_dict().items()}),
    "reset_parameters": lambda module: module.reset_parameters(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_no_change_of_weights_is_missed(change):
    plain, twin = twins("LSTM", 4, 5)
    x = torch.randn(6, 3, 4, dtype=torch.float64)
    with torch.no_grad():
        before = twin(x)[0]
        for module in (plain, twin):
            torch.manual_seed(1)  # of reset_parameters
            change(module)
        expected, actual = plain(x)[0], twin(x)[0]
    assert (actual - expected).abs().max() < 1e-6 and (actual - before).abs().max() > 1e-3


OPTIMIZERS = ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "ASGD", "Rprop",
              "LBFGS"]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_is_seen(name):
    x = torch.linspace(-1, 1, 30, dtype=torch.float64).reshape(5, 2, 3)

    def losses(module):
        optimizer = getattr(torch.optim, name)(module.parameters(), lr=0.05)

        def closure():
            optimizer.zero_grad()
            loss = (module(x)[0] - 0.3).square().sum()
            loss.backward()
            return loss

        return [optimizer.step(closure).item() for _ in range(4)]

    expected, actual = map(losses, twins("GRU", 3, 4))
    assert np.allclose(actual, expected, rtol=1e-9) and expected[0] != expected[3]


def test_training_a_model_of_several_kinds():
    """Fifty steps of Adam, accelerated and not, to the same weights."""

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding(20, 8)
            self.lstm = torch.nn.LSTM(8, 12, bidirectional=True, batch_first=True)
            self.gru = torch.nn.GRU(24, 10, 2, batch_first=True, dropout=0.2)
            self.cell = torch.nn.LSTMCell(10, 6)
            self.linear = torch.nn.Linear(6, 20)

        def forward(self, symbols):
            output = self.gru(self.lstm(self.embedding(symbols))[0])[0]
            return self.linear(self.cell(output[:, -1])[0])

    torch.manual_seed(0)
    plain = Model()
    twin = fastrnn.torch.accelerate(copy.deepcopy(plain))
    for model in (plain, twin):
        torch.manual_seed(1)
        adam = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(50):
            symbols = torch.randint(20, (16, 12))
            loss = torch.nn.functional.cross_entropy(model(symbols), symbols[:, -1])
            adam.zero_grad()
            loss.backward()
            adam.step()
    assert loss < 2.8  # from log 20 = 3.0
    for (name, expected), actual in zip(plain.named_parameters(), twin.parameters(), strict=True):
        # Adam's steps of 0.02 turn a gradient's last bits into 1e-4 where the gradient is near 0; seen: 4e-4.
        assert (expected - actual).abs().max() < 4e-3, name


@pytest.mark.parametrize("name", NAMES)
def test_what_torch_users_do_with_modules(name):
    plain, twin = twins(name, 4, 5, 2)
    assert isinstance(twin, getattr(torch.nn, name)) and repr(twin) == repr(plain)
    assert list(twin.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(twin.state_dict())
    twin.flatten_parameters()
    x = torch.randn(6, 3, 4, dtype=torch.float64)
    expected = twin(x)[0]
    for copied in (copy.deepcopy(twin), copy.copy(twin), pickle.loads(pickle.dumps(twin))):
        assert type(copied) is type(twin) and torch.equal(copied(x)[0], expected)
    seen = []
    twin.register_forward_hook(lambda module, arguments, output: seen.append(output[0].shape))
    twin.register_full_backward_hook(lambda module, d_input, d_output: seen.append(d_input[0].shape))
    twin(x.requires_grad_())[0].sum().backward()
    assert seen == [(6, 3, 5), (6, 3, 4)]
    assert twin.float()(x.float())[0].dtype == torch.float32
    assert twin.eval().training is False


def test_parametrizations_and_pruning():
    for change in (parametrizations.weight_norm, parametrizations.spectral_norm,
                   lambda module, name: prune.l1_unstructured(module, name, 0.3)):
        plain, twin = twins("GRU", 4, 5)
        for module in (plain, twin):
            fastrnn.torch.restore(module)
            torch.manual_seed(1)
            change(module, "weight_hh_l0")
            module.eval()  # else spectral_norm goes one step on whenever the weight is looked at
        fastrnn.torch.accelerate(twin)
        x = torch.randn(6, 3, 4, dtype=torch.float64)
        for module in (plain, twin):
            module(x)[0].square().sum().backward()
        assert fastrnn.torch.explain(twin, x) == "fastrnn"
        for (name, expected), actual in zip(plain.named_parameters(), twin.parameters(), strict=True):
            assert (expected.grad - actual.grad).abs().max() < 1e-11, name
        assert type(fastrnn.torch.restore(twin)).__mro__[:2].count(torch.nn.GRU) == 1


def test_functional_call_takes_other_weights():
    twin, other = fastrnn.torch.LSTM(4, 5), torch.nn.LSTM(4, 5)
    x = torch.randn(6, 3, 4)
    output, _ = torch.func.functional_call(twin, dict(other.named_parameters()), (x,))
    assert (output - other(x)[0]).abs().max() < 1e-6
    output.sum().backward()
    assert twin.weight_ih_l0.grad is None and other.weight_ih_l0.grad is not None


def test_inference_mode():
    plain, twin = twins("LSTM", 4, 5)
    with torch.inference_mode():
        x = torch.randn(6, 3, 4, dtype=torch.float64)
        assert (twin(x)[0] - plain(x)[0]).abs().max() < 1e-14 and fastrnn.torch.explain(twin, x) == "fastrnn"


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


def test_dead_modules_leave_nothing_behind():
    from fastrnn.torch import packs

    before = len(packs._packs)
    for _ in range(3):
        twin = fastrnn.torch.LSTM(4, 5, 2)
        with torch.no_grad():
            twin(torch.zeros(2, 1, 4))
        assert len(packs._packs) == before + 2
        del twin
        assert len(packs._packs) == before


class Tagged(torch.Tensor):
    pass


def meta(module):
    return copy.deepcopy(module).to("meta")


X = torch.zeros(6, 3, 4)
LEFT_TO_TORCH = [
    (meta, (X.to("meta"),), "input is on meta"),
    (lambda module: module.to(torch.bfloat16), (X.to(torch.bfloat16),), "input is torch.bfloat16"),
    (None, (X.double(),), r"input is torch.float64, and the parameters are torch.float32"),
    (None, (X.as_subclass(Tagged),), "input is a Tagged"),
    (None, (X[:0],), r"input has the shape \(0, 3, 4\)"),
    (None, (X[..., :3],), r"input has the shape \(6, 3, 3\)"),
    (None, (X[None],), r"input has the shape \(1, 6, 3, 4\)"),
    (None, ([0.0],), "input is a list"),
    (None, (X, torch.zeros(1, 2, 5)), r"hx has the shape \(1, 2, 5\), rather than \(1, 3, 5\)"),
    (None, (X, torch.zeros(1, 3, 5).double()), "hx is torch.float64"),
    (None, (torch.zeros(6, 3, 4, dtype=torch.complex64).conj().imag,), "input is not a plain strided tensor"),
]


@pytest.mark.parametrize(("change", "arguments", "reason"), LEFT_TO_TORCH, ids=[row[2][:30] for row in LEFT_TO_TORCH])
def test_what_is_left_to_torch_does_as_torch(change, arguments, reason):
    """The same result, or the same error."""
    plain, twin = twins("GRU", 4, 5, dtype=torch.float32)
    if change:
        plain, twin = change(plain), change(twin)
    explained = fastrnn.torch.explain(twin, *arguments)
    assert explained.startswith("torch: ")
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(explained)
    outcomes = []
    for module in (plain, twin):
        try:
            outcomes.append(module(*arguments)[0])
        except Exception as error:
            outcomes.append((type(error), str(error)))
    if isinstance(outcomes[0], tuple):
        assert outcomes[0] == outcomes[1]
    else:
        assert outcomes[1].shape == outcomes[0].shape and outcomes[1].dtype == outcomes[0].dtype


def test_a_state_that_is_no_pair():
    twin = fastrnn.torch.LSTM(4, 5)
    assert fastrnn.torch.explain(twin, X, torch.zeros(1, 3, 5)) == "torch: hx is not a pair"
    assert fastrnn.torch.explain(twin, X, (torch.zeros(1, 3, 5), None)) == "torch: hx is a NoneType"


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # by torch, in jvp
def test_transforms_are_left_to_torch():
    plain, twin = twins("GRU", 4, 5)
    x = torch.randn(6, 3, 4, dtype=torch.float64)

    def both(function):
        for expected, actual in zip(function(plain), function(twin), strict=True):
            assert (expected - actual).abs().max() < 1e-13

    both(lambda module: torch.func.jvp(lambda x: module(x)[0], (x,), (x,)))
    both(lambda module: [torch.func.grad(lambda x: module(x)[0].sum())(x)])
    explained = []
    torch.func.vmap(lambda row: explained.append(fastrnn.torch.explain(twin, row)) or row, in_dims=1)(x)
    with torch.autograd.forward_ad.dual_level():
        explained.append(fastrnn.torch.explain(twin, x))
    for module in (plain, twin):
        with pytest.raises(RuntimeError, match="Batching rule not implemented for aten::gru"):
            torch.func.vmap(lambda row: module(row)[0], in_dims=1)(x)  # noqa: B023
    assert explained == ["torch: a transform of torch.func (vmap, grad, ...) is active",
                         "torch: forward-mode differentiation is active"]


def test_autocast_is_torchs():
    plain, twin = twins("LSTM", 4, 5, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert fastrnn.torch.explain(twin, X) == "torch: autocast is on"
        assert twin(X)[0].dtype == plain(X)[0].dtype


def test_torchscript_gets_torchs_module():
    """Traced and scripted, a model runs without fastrnn."""
    plain, twin = twins("LSTM", 4, 5, dtype=torch.float32)
    x = torch.randn(6, 3, 4)
    model = torch.nn.Sequential(twin)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both are deprecated, and tracing warns of Python's values
        for made in (torch.jit.script(model), torch.jit.trace(model, (x,))):
            assert "fastrnn" not in str(made.inlined_graph)
            assert (made(x)[0] - plain(x)[0]).abs().max() < 1e-6


def test_explain_wants_a_twin():
    with pytest.raises(TypeError, match=r"module: expected one of fastrnn.torch, got torch.nn.modules.rnn.GRU"):
        fastrnn.torch.explain(torch.nn.GRU(4, 5), X)
