"""Many to many, equal: at every step of a sequence a prediction, from all that has been read so far.

A batch may go on where the one before ended: the state is carried over, the gradient is not (truncated
back-propagation through time, Williams & Peng 1990). Two models that do the same, `Ours` in fastrnn and `Twin` in
torch. Shapes: L steps, N rows.
"""

import fastrnn
from bench.tasks.needs import extra

with extra():
    import torch

__all__ = ["Ours", "Twin"]


class Ours:
    """x (L, N, features) -> predictions (L, N, outputs); `loss` gives the mean and its gradient."""

    def __init__(self, cell, features, hidden, outputs, loss, rng):
        self.rnn = getattr(fastrnn, cell)(features, hidden, rng=rng)
        self.head = fastrnn.Linear(hidden, outputs, rng=rng)
        self.modules = [self.rnn, self.head]
        self.loss, self.state = loss, None

    def __call__(self, x):
        """The predictions, from a state of zero."""
        output, _ = self.rnn(x)
        return self.head(output)

    def gradients(self, x, target, first):
        """The loss, and the gradients of both modules; unless `first`, from the state that was reached before."""
        output, self.state, tape = self.rnn.forward(x, None if first else self.state)
        prediction, head_tape = self.head.forward(output)
        loss, d_prediction = self.loss(prediction, target)
        head_gradients = self.head.backward(head_tape, d_prediction)
        return loss, [self.rnn.backward(tape, head_gradients.input), head_gradients]


class Twin(torch.nn.Module):
    """The same in torch; `criterion` is a loss of torch.nn.functional."""

    def __init__(self, cell, features, hidden, outputs, criterion):
        super().__init__()
        self.rnn = getattr(torch.nn, cell)(features, hidden)
        self.head = torch.nn.Linear(hidden, outputs)
        self.criterion, self.state = criterion, None

    def forward(self, x):
        """The predictions, from a state of zero."""
        output, _ = self.rnn(x)
        return self.head(output)

    def loss(self, x, target, first):
        """What is to be small; unless `first`, from the state that was reached before."""
        output, state = self.rnn(x, None if first else self.state)
        self.state = tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()
        return self.criterion(self.head(output), target)
