"""What users of torch do to weights and modules: nothing that fastrnn.torch keeps goes stale."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrizations, prune
from torch_twins import NAMES, apart, twins

import fastrnn.torch
from fastrnn.torch import packs

pytestmark = pytest.mark.usefixtures("torch_seed")

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
    # Measured: at most 2.2e-16, and at least 8.6e-3.
    assert apart(actual, expected) < 5e-15 and apart(actual, before) > 1e-3


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
        assert apart(expected, actual) < 5e-5, name  # measured: 2.6e-6; Adam makes much of a small gradient's last bits


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
            assert apart(expected.grad, actual.grad) < 2e-14, name  # measured: 1.8e-15
        assert type(fastrnn.torch.restore(twin)).__mro__[:2].count(torch.nn.GRU) == 1


def test_functional_call_takes_other_weights():
    twin, other = fastrnn.torch.LSTM(4, 5), torch.nn.LSTM(4, 5)
    x = torch.randn(6, 3, 4)
    output, _ = torch.func.functional_call(twin, dict(other.named_parameters()), (x,))
    assert apart(output, other(x)[0]) < 6e-7  # measured: 6.0e-8
    output.sum().backward()
    assert twin.weight_ih_l0.grad is None and other.weight_ih_l0.grad is not None


def test_dead_modules_leave_nothing_behind():
    before = len(packs._packs)
    for _ in range(3):
        twin = fastrnn.torch.LSTM(4, 5, 2)
        with torch.no_grad():
            twin(torch.zeros(2, 1, 4))
        assert len(packs._packs) == before + 2
        del twin
        assert len(packs._packs) == before
