"""What fastrnn.torch keeps of a module from call to call: another call than the one before is not taken for it."""

import gc
import weakref

import pytest
import torch
from helpers import python
from torch_twins import apart, twins

pytestmark = pytest.mark.usefixtures("torch_seed")

F64 = torch.float64


def outcome(module, *args):
    """What a call gives, or the error that it ends with."""
    try:
        result = module(*args)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        return f"{type(error).__name__}: {error}"
    return torch.cat([tensor.detach().reshape(-1) for tensor in torch.utils._pytree.tree_leaves(result)])


def assert_same_outcome(plain, twin, *args):
    expected, actual = outcome(plain, *args), outcome(twin, *args)
    if isinstance(expected, str):
        assert actual == expected
    else:
        assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
        assert not len(actual) or apart(actual, expected) < 5e-15  # 2.2e-16 seen


LAYER_CALLS = {
    "as before": (torch.ones(6, 3, 4, dtype=F64),),
    "one row more": (torch.ones(6, 4, 4, dtype=F64),),
    "unbatched": (torch.ones(6, 4, dtype=F64),),
    "one dimension": (torch.ones(4, dtype=F64),),
    "none": (torch.tensor(1.0, dtype=F64),),
    "four": (torch.ones(2, 6, 3, 4, dtype=F64),),
    "no steps": (torch.ones(0, 3, 4, dtype=F64),),
    "no rows": (torch.ones(6, 0, 4, dtype=F64),),
    "other features": (torch.ones(6, 3, 5, dtype=F64),),
    "float32": (torch.ones(6, 3, 4),),
    "integers": (torch.ones(6, 3, 4, dtype=torch.int64),),
    "strided": (torch.ones(6, 3, 8, dtype=F64)[..., ::2],),
    "negated by its flag": (torch._neg_view(torch.ones(6, 3, 4, dtype=F64)),),
    "of a graph": (torch.ones(6, 3, 4, dtype=F64, requires_grad=True),),
    "no pair": (torch.ones(6, 3, 4, dtype=F64), torch.ones(2, 3, 5, dtype=F64)),
    "a list": (torch.ones(6, 3, 4, dtype=F64), [torch.ones(2, 3, 5, dtype=F64)] * 2),
    "a pair": (torch.ones(6, 3, 4, dtype=F64), (torch.ones(2, 3, 5, dtype=F64),) * 2),
    "three": (torch.ones(6, 3, 4, dtype=F64), (torch.ones(2, 3, 5, dtype=F64),) * 3),
    "states of other rows": (torch.ones(6, 3, 4, dtype=F64), (torch.ones(2, 2, 5, dtype=F64),) * 2),
    "states of one layer": (torch.ones(6, 3, 4, dtype=F64), (torch.ones(1, 3, 5, dtype=F64),) * 2),
}


@pytest.mark.parametrize("args", LAYER_CALLS.values(), ids=LAYER_CALLS.keys())
def test_a_call_after_another(args):
    plain, twin = twins("LSTM", 4, 5, 2)
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            twin(torch.zeros(6, 3, 4, dtype=F64))
            assert_same_outcome(plain, twin, *args)


@pytest.mark.parametrize("shape", [(), (4,), (5,), (3, 4), (3, 5), (0, 4), (2, 3, 4)])
def test_a_cells_call_after_another(shape):
    plain, twin = twins("GRUCell", 4, 5)
    with torch.no_grad():
        twin(torch.zeros(3, 4, dtype=F64))
        assert_same_outcome(plain, twin, torch.ones(shape, dtype=F64))
        assert_same_outcome(plain, twin, torch.ones(shape, dtype=F64), torch.ones(*shape[:-1], 5, dtype=F64))


def test_attributes_set_after_a_call():
    x = torch.randn(3, 3, 4, dtype=F64)
    with torch.no_grad():
        for name, attribute, value in [("LSTM", "batch_first", True), ("RNNCell", "nonlinearity", "relu")]:
            plain, twin = twins(name, 4, 5)
            argument = x if name == "LSTM" else x[0]
            twin(argument)
            for module in (plain, twin):
                setattr(module, attribute, value)
            assert_same_outcome(plain, twin, argument)


LAID_OUT = {
    "transposed": lambda weight: weight.t(),
    "strided": lambda weight: torch.cat([weight, weight], 1).as_strided(weight.shape, (2 * len(weight[0]), 1)),
    "another shape": lambda weight: weight.view(2, -1),
    "a vector": lambda weight: weight.view(-1),
}


@pytest.mark.parametrize("laid_out", LAID_OUT.values(), ids=LAID_OUT.keys())
def test_weights_laid_out_otherwise_after_a_call(laid_out):
    plain, twin = twins("RNNCell", 4, 4)
    x = torch.randn(3, 4, dtype=F64)
    with torch.no_grad():
        twin(x)
        for module in (plain, twin):
            module.weight_hh.data = laid_out(module.weight_hh.data)
        assert_same_outcome(plain, twin, x)


readable = pytest.mark.skipif(not hasattr(torch.Tensor, "__dlpack_c_exchange_api__"), reason="an older torch")


@readable
@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "LSTM"])
def test_only_the_first_call_goes_the_long_way(name, monkeypatch):
    _, twin = twins(name, 4, 4)
    x = torch.randn(*(3, 4) if "Cell" in name else (5, 3, 4), dtype=F64, requires_grad=True)
    first = twin(x)
    state = first[1] if name == "LSTM" else first
    monkeypatch.setattr(type(twin), "_forward_anew", None)  # which cannot be called
    twin(x, state)[0].sum().backward()
    with torch.no_grad():
        twin.weight_hh_l0.mul_(2) if name == "LSTM" else twin.weight_hh.mul_(2)
        twin(x, state)
        twin(x)


WITHOUT_DLPACK = """
import torch
del torch.Tensor.__dlpack_c_exchange_api__
import fastrnn.torch

torch.manual_seed(0)
plain, twin = torch.nn.GRU(4, 5), fastrnn.torch.GRU(4, 5)
twin.load_state_dict(plain.state_dict())
x = torch.randn(6, 3, 4)
for call in range(2):
    print((twin(x)[0] - plain(x)[0]).abs().max().item())
"""


@readable
def test_a_torch_without_dlpacks_c_interface():
    done = python(WITHOUT_DLPACK)
    assert done.returncode == 0, done.stderr
    errors = [*map(float, done.stdout.split())]
    assert len(errors) == 2 and max(errors) < 2e-6, errors  # 1.2e-7 seen


def test_it_goes_with_its_module():
    _, twin = twins("LSTM", 4, 5)
    with torch.no_grad():
        twin(torch.zeros(6, 3, 4, dtype=F64))
    weight = weakref.ref(twin.weight_ih_l0)
    del twin
    gc.collect()
    assert weight() is None
