"""fastrnn.torch under torch.compile, torch.export, and modes that watch operators."""

import copy

import pytest
import torch
from helpers import python
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.flop_counter import FlopCounterMode
from torch_twins import apart

import fastrnn.torch
from fastrnn import kernels

# torch's own warnings, of compiling and of oneDNN
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"),
              pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")]


class Model(torch.nn.Module):
    """Every kind of module, both ways of laying out a batch, a projection, a state given and not."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(9, 4)
        self.lstm = torch.nn.LSTM(4, 5, 2, bidirectional=True, batch_first=True)
        self.gru = torch.nn.GRU(10, 6)
        self.rnn = torch.nn.RNN(6, 4)
        self.projected = torch.nn.LSTM(4, 5, proj_size=2)
        self.cells = torch.nn.ModuleList([torch.nn.RNNCell(6, 6), torch.nn.LSTMCell(6, 6), torch.nn.GRUCell(6, 6)])

    def forward(self, symbols, h=None):
        x, _ = self.lstm(self.embedding(symbols))
        x, h_n = self.gru(x.transpose(0, 1), h)
        y, _ = self.projected(self.rnn(x)[0])
        step = self.cells[2](self.cells[1](self.cells[0](x[-1]))[0], h_n[0])
        return y.sum() + step.sum(), h_n


@pytest.fixture(autouse=True)
def fresh():
    torch.manual_seed(0)
    torch.compiler.reset()


def test_compiled_whole():
    """One graph without a break, forward and back, for other lengths, batches and weights too."""
    plain = Model()
    twin = fastrnn.torch.accelerate(copy.deepcopy(plain))
    compiled = torch.compile(twin, fullgraph=True, backend="aot_eager", dynamic=True)
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (plain, twin)]
    for B, T in ((3, 7), (4, 7), (2, 9)):
        symbols, h = torch.randint(9, (B, T)), torch.randn(1, B, 6)
        expected, actual = plain(symbols, h), compiled(symbols, h)
        # Measured: 0, of a sum of up to 76, and 1.2e-7.
        assert apart(actual[0], expected[0]) < 5e-5 and apart(actual[1], expected[1]) < 1e-6
        for optimizer, results in zip(optimizers, (expected, actual), strict=True):
            optimizer.zero_grad()
            results[0].backward()
        for (name, p), q in zip(plain.named_parameters(), twin.named_parameters(), strict=True):
            assert apart(p.grad, q[1].grad) < 2e-5, name  # measured: 1.9e-6
        for optimizer in optimizers:
            optimizer.step()
    with torch.no_grad():
        assert apart(compiled(symbols)[0], plain(symbols)[0]) < 5e-5  # measured: 0


def test_compiled_by_inductor():
    twin = fastrnn.torch.GRU(4, 5)
    compiled = torch.compile(twin, fullgraph=True)
    x = torch.randn(6, 3, 4)
    compiled(x)[0].sum().backward()
    gradients = [parameter.grad.clone() for parameter in twin.parameters()]
    twin.zero_grad()
    twin(x)[0].sum().backward()
    assert all(map(torch.equal, gradients, [parameter.grad for parameter in twin.parameters()]))


def test_compiled_with_packed_sequences():
    twin = fastrnn.torch.LSTM(4, 5, 2, bidirectional=True)
    compiled = torch.compile(twin, fullgraph=True, backend="aot_eager")
    packed = pack_padded_sequence(torch.randn(6, 3, 4), [4, 6, 1], enforce_sorted=False)
    for states in (None, (torch.randn(4, 3, 5), torch.randn(4, 3, 5))):
        (output, (h_n, c_n)), (actual, (h, c)) = twin(packed, states), compiled(packed, states)
        assert torch.equal(actual.data, output.data) and torch.equal(h, h_n) and torch.equal(c, c_n)


def test_exported():
    twin, x = fastrnn.torch.GRU(4, 5, 2), torch.randn(6, 3, 4)
    steps = torch.export.Dim("steps", min=2, max=100)
    program = torch.export.export(twin, (x,), dynamic_shapes={"input": {0: steps}})
    assert "fastrnn.layer" in str(program.graph)
    assert kernels.build in str(program.graph)  # so compiled code that torch keeps is not taken for another build's
    longer = torch.randn(11, 3, 4)
    assert torch.equal(program.module()(longer)[0], twin(longer)[0])


CALLS = [("RNN", torch.nn.RNN(4, 5, bidirectional=True), 2, 0, False), ("GRU", torch.nn.GRU(4, 5), 1, 0, False),
         ("LSTM", torch.nn.LSTM(4, 5, bias=False), 1, 0, False),
         ("LSTM", torch.nn.LSTM(4, 5, proj_size=2), 1, 2, False),
         ("GRU", torch.nn.GRUCell(4, 5), 1, 0, True), ("LSTM", torch.nn.LSTMCell(4, 5), 1, 0, True)]


@pytest.mark.parametrize(("name", "module", "directions", "proj_size", "cell"), CALLS, ids=[str(c[1]) for c in CALLS])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # of torch 2.14's own copies
def test_operators_are_what_torch_expects(name, module, directions, proj_size, cell, given):
    """torch's own check: schema, aliases, fake tensors' shapes and strides, autograd, dynamic shapes."""
    x = torch.randn(*((3, 4) if cell else (6, 3, 4)), requires_grad=True)
    sizes = [proj_size or 5, 5][: 2 if name == "LSTM" else 1]
    rows = (3,) if cell else (directions, 3)
    states = [torch.randn(*rows, size, requires_grad=True) for size in sizes] if given else []
    kind = name, 0, directions, bool(module.bias), 4, 5, proj_size
    arguments = x, None, states, list(module.parameters()), *kind, cell
    torch.library.opcheck(torch.ops.fastrnn.layer.default, (*arguments, True, kernels.build))
    torch.library.opcheck(torch.ops.fastrnn.layer.default, (*arguments, False, kernels.build),
                          test_utils=("test_schema", "test_faketensor"))


def test_modes_see_an_operator():
    twin = fastrnn.torch.LSTM(4, 5)
    with FlopCounterMode(display=False):
        twin(torch.randn(6, 3, 4))[0].sum().backward()
    assert twin.weight_ih_l0.grad.abs().sum() > 0
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True):
        output, (h_n, _) = twin(torch.empty(6, 3, 4))
    assert output.shape == (6, 3, 5) and h_n.shape == (1, 3, 5)


def test_dynamo_is_not_imported_but_for_compiling():
    program = """if True:
        import sys, torch, fastrnn.torch
        known = set(sys.modules)
        fastrnn.torch.GRU(4, 5)(torch.zeros(2, 3, 4))
        assert "torch._dynamo" not in known and "torch._dynamo" not in sys.modules
        import torch._dynamo
        assert torch._dynamo.config.allow_rnn
    """
    assert python(program).returncode == 0
    program = "import torch._dynamo, fastrnn.torch; assert torch._dynamo.config.allow_rnn"
    assert python(program).returncode == 0
