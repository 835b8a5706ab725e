"""Many to one: a recurrent network reads a sequence to its end, and its last state makes the prediction.

Two models that do the same, `Ours` in fastrnn and `Twin` in torch. Shapes: L steps, N rows.
"""

from bench.tasks import readout

__all__ = ["Ours", "Twin"]


class Ours(readout.Ours):
    """x (L, N, features) -> h_n -> prediction (N, outputs)."""

    def __call__(self, x):
        """The prediction."""
        _, state = self.rnn(x)
        h_n = state[0] if isinstance(state, tuple) else state
        return self.head(h_n[-1])

    def gradients(self, x, target):
        """The loss, and the gradients of both modules."""
        _, state, tape = self.rnn.forward(x)
        h_n = state[0] if isinstance(state, tuple) else state
        prediction, head_tape = self.head.forward(h_n[-1])
        loss, d_prediction = self.loss(prediction, target)
        head_gradients = self.head.backward(head_tape, d_prediction)
        d_h = head_gradients.input[None]
        return loss, [self.rnn.backward(tape, d_hx=(d_h, None) if isinstance(state, tuple) else d_h), head_gradients]


class Twin(readout.Twin):
    """The same in torch."""

    def forward(self, x):
        """The prediction."""
        _, state = self.rnn(x)
        h_n = state[0] if isinstance(state, tuple) else state
        return self.head(h_n[-1])

    def loss(self, x, target):
        """What is to be small."""
        return self.criterion(self(x), target)
