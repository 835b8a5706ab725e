"""What is left to torch's own code, which does then what it does without fastrnn; and what explain says of it."""

import copy
import warnings

import pytest
import torch
from torch_twins import twins

import fastrnn.torch

pytestmark = pytest.mark.usefixtures("torch_seed")


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
            assert torch.equal(expected, actual)

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
    plain, twin = twins("RNN", 4, 5, dtype=torch.float32)  # an LSTM in bfloat16 takes AVX-512 in torch
    with torch.autocast("cpu", torch.bfloat16):
        assert fastrnn.torch.explain(twin, X) == "torch: autocast is on"
        assert twin(X)[0].dtype == plain(X)[0].dtype == torch.bfloat16


def test_torchscript_gets_torchs_module():
    """Traced and scripted, a model runs without fastrnn."""
    plain, twin = twins("LSTM", 4, 5, dtype=torch.float32)
    x = torch.randn(6, 3, 4)
    model = torch.nn.Sequential(twin)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both are deprecated, and tracing warns of Python's values
        for made in (torch.jit.script(model), torch.jit.trace(model, (x,))):
            assert "fastrnn" not in str(made.inlined_graph)
            assert torch.equal(made(x)[0], plain(x)[0])


def test_explain_wants_a_twin():
    with pytest.raises(TypeError, match=r"module: expected one of fastrnn.torch, got torch.nn.modules.rnn.GRU"):
        fastrnn.torch.explain(torch.nn.GRU(4, 5), X)
