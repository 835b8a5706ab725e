"""Many to one: a recurrent network reads a sequence to its end, and its last state makes the prediction.

Two models that do the same, `Ours` in fastrnn and `Twin` in torch. Shapes: L steps, N rows.
"""

import fastrnn
from bench.tasks.needs import extra

with extra():
    import torch

__all__ = ["Ours", "Twin"]


class Ours:
    """x (L, N, features) -> h_n -> prediction (N, outputs); `loss` gives the mean and its gradient."""

    def __init__(self, cell, features, hidden, outputs, loss, rng):
        self.rnn = getattr(fastrnn, cell)(features, hidden, rng=rng)
        self.head = fastrnn.Linear(hidden, outputs, rng=rng)
        self.modules = [self.rnn, self.head]
        self.loss, self.is_lstm = loss, cell == "LSTM"

    def __call__(self, x):
        """The prediction."""
        _, state = self.rnn(x)
        h_n = state[0] if self.is_lstm else state
        return self.head(h_n[-1])

    def gradients(self, x, target):
        """The loss, and the gradients of both modules."""
        _, state, tape = self.rnn.forward(x)
        h_n = state[0] if self.is_lstm else state
        prediction, head_tape = self.head.forward(h_n[-1])
        loss, d_prediction = self.loss(prediction, target)
        head_gradients = self.head.backward(head_tape, d_prediction)
        d_h = head_gradients.input[None]
        return loss, [self.rnn.backward(tape, d_hx=(d_h, None) if self.is_lstm else d_h), head_gradients]


class Twin(torch.nn.Module):
    """The same in torch; `criterion` is a loss of torch.nn.functional."""

    def __init__(self, cell, features, hidden, outputs, criterion):
        super().__init__()
        self.rnn = getattr(torch.nn, cell)(features, hidden)
        self.head = torch.nn.Linear(hidden, outputs)
        self.criterion, self.is_lstm = criterion, cell == "LSTM"

    def forward(self, x):
        """The prediction."""
        _, state = self.rnn(x)
        h_n = state[0] if self.is_lstm else state
        return self.head(h_n[-1])

    def loss(self, x, target):
        """What is to be small."""
        return self.criterion(self(x), target)
