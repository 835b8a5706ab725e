"""Many to many, equal: at every step of a sequence a prediction, from all that has been read so far.

A batch may go on where the one before ended: the state is carried over, the gradient is not (truncated
back-propagation through time, Williams & Peng 1990). Two models that do the same, `Ours` in fastrnn and `Twin` in
torch. Shapes: L steps, N rows.
"""

from bench.tasks import readout

__all__ = ["Ours", "Twin"]


class Ours(readout.Ours):
    """x (L, N, features) -> predictions (L, N, outputs)."""

    state = None  # that the last batch ended with

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


class Twin(readout.Twin):
    """The same in torch."""

    state = None

    def forward(self, x):
        """The predictions, from a state of zero."""
        output, _ = self.rnn(x)
        return self.head(output)

    def loss(self, x, target, first):
        """What is to be small; unless `first`, from the state that was reached before."""
        output, state = self.rnn(x, None if first else self.state)
        self.state = tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()
        return self.criterion(self.head(output), target)
