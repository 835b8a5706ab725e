"""Training, step by step and as a whole, against torch."""

from itertools import islice

import numpy as np
import pytest
import torch

import fastrnn
from fastrnn import demo

ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid}


# The demo

class TorchModel:
    """What `demo.Model` and `demo.train` do, with torch's own layers and optimizer."""

    def __init__(self, model):
        self.rnn = torch.nn.RNN(model.rnn.input_size, model.rnn.hidden_size, model.rnn.num_layers)
        self.head = torch.nn.Linear(model.head.in_features, model.head.out_features)
        for peer, module in ((self.rnn, model.rnn), (self.head, model.head)):
            peer.load_state_dict({name: torch.tensor(value) for name, value in module.state_dict().items()})
        self.parameters = [*self.rnn.parameters(), *self.head.parameters()]

    def loss_of(self, inputs, targets, h=None):
        x = torch.nn.functional.one_hot(torch.tensor(inputs), self.rnn.input_size).to(self.head.weight.dtype)
        output, h = self.rnn(x, h)
        logits = self.head(output)
        return torch.nn.functional.cross_entropy(logits.flatten(0, -2), torch.tensor(targets).flatten()), h.detach()

    def train(self, steps):
        adam, h = torch.optim.Adam(self.parameters, lr=demo.LEARNING_RATE), None
        for inputs, targets, first in steps:
            adam.zero_grad()
            loss, h = self.loss_of(inputs, targets, None if first else h)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, demo.MAX_NORM)
            adam.step()
            yield loss.item()


@pytest.mark.parametrize("num_layers", [1, 2])
def test_the_demos_text_loss_falls_to_that_of_torch(num_layers):
    steps, rows, length = 400, 16, 24
    characters, training, held_out = demo.split(demo.read_text())
    model = demo.Model(characters, 64, num_layers, seed=1)
    peer = TorchModel(model)
    losses = list(islice(demo.train(model, demo.chunks(training, rows, length)), steps))
    expected = list(islice(peer.train(demo.chunks(training, rows, length)), steps))

    assert losses[0] == pytest.approx(expected[0], rel=1e-5) and losses[0] == pytest.approx(np.log(75), rel=0.05)
    np.testing.assert_allclose(losses[:20], expected[:20], rtol=1e-4)  # before rounding has grown
    assert np.mean(losses[-50:]) == pytest.approx(np.mean(expected[-50:]), rel=0.01)
    with torch.no_grad():
        expected_loss = peer.loss_of(held_out[:-1], held_out[1:])[0].item()
    assert model.loss(held_out) == pytest.approx(expected_loss, rel=0.01)
    assert expected_loss < 2.3  # letters alone, each by its frequency, are 3.0


def test_the_demo_clips_and_carries_its_state_over():
    """As torch, in float64 and to rounding, where most steps are clipped and the text is gone over more than once."""
    characters, training, _ = demo.split("One two three four, and a five; six! " * 12)
    model = demo.Model(characters, 20, seed=2)
    model.rnn = fastrnn.RNN(len(characters), 20, dtype="float64", rng=2)
    model.head = fastrnn.Linear(20, len(characters), dtype="float64", rng=3)
    model._one_hot = np.eye(len(characters))
    for module in (model.rnn, model.head):
        module.load_state_dict({name: 2 * value for name, value in module.state_dict().items()})
    peer = TorchModel(model)
    peer.rnn.double(), peer.head.double()
    for mine, its in zip((model.rnn, model.head), (peer.rnn, peer.head), strict=True):
        its.load_state_dict({name: torch.tensor(value) for name, value in mine.state_dict().items()})
    steps = list(islice(demo.chunks(training, 4, 12), 30))
    assert sum(first for *_, first in steps) == 4
    losses = list(demo.train(model, steps))
    np.testing.assert_allclose(losses, list(peer.train(steps)), rtol=1e-9)
    assert losses[-1] < losses[0]


# The textbook's network

class Textbook:
    """s_t = f(U x_t + W s_{t-1} + b), o_t = softmax(V s_t + c), E = sum over t of -log o_t[target_t]; by torch."""

    def __init__(self, rnn, head):
        arrays = [rnn.params["weight_ih_l0"], rnn.params["weight_hh_l0"], rnn.params["bias_ih_l0"],
                  head.params["weight"], head.params["bias"]]
        self.parameters = [torch.tensor(array, requires_grad=True) for array in arrays]
        self.f = ACTIVATIONS[rnn.nonlinearity]

    def loss(self, x, target):
        U, W, b, V, c = self.parameters
        s, E = torch.zeros(len(W), dtype=x.dtype), 0
        for x_t, target_t in zip(x, target, strict=True):
            s = self.f(U @ x_t + W @ s + b)
            o = torch.softmax(V @ s + c, dim=0)
            E = E - torch.log(o[target_t])
        return E


def textbook_step(rnn, head, x, target):
    """The textbook's loss and its gradients; b is `bias_ih`, `bias_hh` stays 0."""
    s, _, tape = rnn.forward(x)
    logits, head_tape = head.forward(s)
    mean, d_logits = fastrnn.cross_entropy(logits, target)
    head_gradients = head.backward(head_tape, len(x) * d_logits)  # of the sum of E_t, not the mean
    gradients = rnn.backward(tape, head_gradients.input)
    gradients.params["bias_hh_l0"][:] = 0
    return len(x) * mean, [gradients, head_gradients]


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize("nonlinearity", ACTIVATIONS)
def test_the_textbooks_network_learns_as_by_torch(nonlinearity, optimizer):
    rng = np.random.default_rng(5)
    rnn = fastrnn.RNN(6, 11, nonlinearity=nonlinearity, dtype="float64", rng=rng)
    head = fastrnn.Linear(11, 6, dtype="float64", rng=rng)
    rnn.params["bias_hh_l0"] = np.zeros(11)
    peer = Textbook(rnn, head)
    mine = getattr(fastrnn, optimizer)([rnn, head], lr=0.01)
    its = getattr(torch.optim, optimizer)(peer.parameters, lr=0.01)

    losses, expected = [], []
    symbols = rng.integers(6, size=16)
    x, target = np.eye(6)[symbols[:-1]], symbols[1:]
    for _ in range(30):
        loss, gradients = textbook_step(rnn, head, x, target)
        fastrnn.clip_grad_norm(gradients, 5.0)
        mine.step(gradients)
        losses.append(loss)

        its.zero_grad()
        E = peer.loss(torch.tensor(x), target)
        E.backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters, 5.0)
        its.step()
        expected.append(E.item())

    np.testing.assert_allclose(losses, expected, rtol=1e-9)
    assert losses[-1] < losses[0]
    assert not rnn.params["bias_hh_l0"].any()
