"""Many to one over a long range: the adding problem, which an RNN fails at and an LSTM solves.

python -m bench.tasks.adding

The task is that of Hochreiter & Schmidhuber (1997), in the form of Le, Jaitly & Hinton (2015): each of 100 steps has
a random number between 0 and 1 and a mark, which is 1 twice, once in each half, and else 0. What is learned is the
sum of the two numbers that are marked. Always to say its mean, 1, costs a mean squared error of 1/6 = 0.167, and no
further gets a network whose gradient vanishes over the steps from the end back to the marks.
"""

import numpy as np

import fastrnn
from bench.tasks import many_to_one
from bench.tasks.needs import extra
from bench.tasks.program import main
from bench.tasks.training import Task

with extra():
    from torch.nn.functional import mse_loss

__all__ = ["Adding", "draw"]

LENGTH, BATCH, HELD_OUT = 100, 32, 1000


def draw(rng, rows):
    """Sequences (length, rows, 2), of a number and a mark each, and their targets (rows, 1)."""
    x = np.zeros((LENGTH, rows, 2), np.float32)
    x[:, :, 0] = rng.random((LENGTH, rows))
    half, row = LENGTH // 2, np.arange(rows)
    for first, end in ((0, half), (half, LENGTH)):
        x[rng.integers(first, end, rows), row, 1] = 1
    return x, (x[:, :, 0] * x[:, :, 1]).sum(axis=0)[:, None]


class Adding(Task):
    """Numbers and marks (100, N, 2) -> sum (N, 1)."""

    metric, baseline = "mse", ("always 1", 1 / 6)
    steps, hidden, cells, learning_rate = 2500, 32, ("RNN", "LSTM"), 1e-2

    def __init__(self):
        self.held_out, self.held_out_sums = draw(np.random.default_rng(0), HELD_OUT)

    def models(self, cell, hidden, rng):
        """One number."""
        return (many_to_one.Ours(cell, 2, hidden, 1, fastrnn.mse, rng),
                many_to_one.Twin(cell, 2, hidden, 1, mse_loss))

    def batches(self, rng):
        """New sequences at every step."""
        while True:
            yield draw(rng, BATCH)

    def score(self, predict):
        """Mean squared error over sequences never trained on."""
        return fastrnn.mse(predict(self.held_out), self.held_out_sums)[0]


if __name__ == "__main__":
    main(Adding)
