"""Many to many, equal: after every character of a text, which comes next?

python -m bench.tasks.characters

The text is the novel that comes with fastrnn. It is cut into 32 streams that are read side by side; a step of
training takes the next 32 characters of each, and the state is carried over to the next step.
"""

import math

import numpy as np

import fastrnn
from bench.tasks import many_to_many
from bench.tasks.needs import extra
from bench.tasks.program import main
from bench.tasks.training import Task
from fastrnn import demo

with extra():
    from torch.nn.functional import cross_entropy

__all__ = ["Characters"]

STREAMS = 20  # that the text held out is cut into


class Characters(Task):
    """Characters one-hot (L, N, different ones) -> the next of each, (L, N)."""

    metric = "bits a character"
    steps, hidden, cells, learning_rate = 2000, 128, ("LSTM",), 3e-3

    def __init__(self):
        characters, self.training, self.held_out = demo.split(demo.read_text())
        self.one_hot = np.eye(len(characters), dtype=np.float32)

    def models(self, cell, hidden, rng):
        """One logit for each character."""
        count = len(self.one_hot)
        return (many_to_many.Ours(cell, count, hidden, count, fastrnn.cross_entropy, rng),
                many_to_many.Twin(cell, count, hidden, count,
                                  lambda logits, target: cross_entropy(logits.flatten(0, 1), target.flatten())))

    def batches(self, rng):
        """The text in its order, over and over: nothing is left to chance."""
        for inputs, targets, first in demo.chunks(self.training):
            yield self.one_hot[inputs], targets, first

    def score(self, predict):
        """Cross entropy on the text held out."""
        length = (len(self.held_out) - 1) // STREAMS
        inputs, targets, _ = next(demo.chunks(self.held_out, STREAMS, length))
        return fastrnn.cross_entropy(predict(self.one_hot[inputs]), targets)[0] / math.log(2)


if __name__ == "__main__":
    main(Characters)
