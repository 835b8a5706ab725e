"""accelerate and restore: the same model before, between and after."""

import pytest
import torch
from torch_twins import apart

import fastrnn.torch


class Own(torch.nn.GRU):
    """A model's own kind of GRU, whose forward is its own."""

    def forward(self, input, hx=None):
        return super().forward(input * 2, hx)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.RNN(4, 4), torch.nn.LSTM(4, 4), torch.nn.GRU(4, 4)])
        self.cells = torch.nn.ModuleDict({"rnn": torch.nn.RNNCell(4, 4), "lstm": torch.nn.LSTMCell(4, 4),
                                          "gru": torch.nn.GRUCell(4, 4)})
        self.own = Own(4, 4)
        self.again = self.layers[2]
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x):
        for layer in [*self.layers, self.own, self.again]:
            x = layer(x)[0]
        step = self.cells["gru"](self.cells["rnn"](x[0]))
        return self.linear(self.cells["lstm"](step)[0])


def test_a_whole_model():
    torch.manual_seed(0)
    model = Model()
    x = torch.randn(5, 2, 4)
    expected, before, modules = model(x), model.state_dict(), list(model.modules())
    assert fastrnn.torch.accelerate(model) is model
    assert [*model.modules()] == modules and model.again is model.layers[2]  # the same objects
    twins = [type(module) for module in modules if isinstance(module, fastrnn.torch.modules.Twin)]
    assert twins == [getattr(fastrnn.torch, name) for name in ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell")]
    assert type(model.own) is Own
    after = model.state_dict()
    assert list(after) == list(before) and all(after[name].data_ptr() == before[name].data_ptr() for name in before)
    assert apart(model(x), expected) < 3e-7  # measured: 3.0e-8
    assert fastrnn.torch.restore(fastrnn.torch.accelerate(model)) is model
    assert not any(isinstance(module, fastrnn.torch.modules.Twin) for module in modules)
    assert torch.equal(model(x), expected)


def test_a_layer_alone():
    assert type(fastrnn.torch.accelerate(torch.nn.LSTM(4, 5))) is fastrnn.torch.LSTM
    assert type(fastrnn.torch.restore(fastrnn.torch.LSTM(4, 5))) is torch.nn.LSTM


@pytest.mark.parametrize("function", [fastrnn.torch.accelerate, fastrnn.torch.restore])
def test_what_is_no_model(function):
    with pytest.raises(TypeError, match=r"model: expected a torch.nn.Module, got dict"):
        function({})
