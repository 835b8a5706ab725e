"""Many to one: handwritten digits, read row by row, and then named.

python -m bench.tasks.digits

The images are scikit-learn's `load_digits` (8 x 8 pixels, from the UCI set of Alpaydin & Kaynak 1998): a sequence of
8 rows of 8 pixels each. What is learned is which of the ten digits it was.
"""

import numpy as np

import fastrnn
from bench.tasks import many_to_one
from bench.tasks.needs import extra
from bench.tasks.program import main
from bench.tasks.training import Task

with extra():
    from sklearn.datasets import load_digits
    from torch.nn.functional import cross_entropy

__all__ = ["Digits", "read"]

BATCH, HELD_OUT = 64, 360  # images
SIZE, SHADES = 8, 17  # rows of an image and pixels of a row; of a pixel, from white to black
CLASSES = 10


def read():
    """Images as integers (N, rows, pixels) and their labels (N,): those to train on, and those held out."""
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))  # it comes sorted by who wrote them
    images, labels = found.images[order].astype(np.int64), found.target[order].astype(np.int64)
    return (images[HELD_OUT:], labels[HELD_OUT:]), (images[:HELD_OUT], labels[:HELD_OUT])


class Digits(Task):
    """Rows (8, N, 8) -> label (N,)."""

    metric, baseline = "accuracy", ("chance", 1 / CLASSES)
    steps, hidden, cells, learning_rate = 1000, 64, ("GRU",), 3e-3

    def __init__(self):
        (images, self.labels), (held_out, self.held_out_labels) = read()
        self.rows, self.held_out_rows = map(self._rows, (images, held_out))

    def _rows(self, images):
        """Images (N, rows, pixels) as sequences of rows, from 0 to 1."""
        return images.transpose(1, 0, 2).astype(np.float32) / (SHADES - 1)

    def models(self, cell, hidden, rng):
        """One logit for each digit."""
        return (many_to_one.Ours(cell, SIZE, hidden, CLASSES, fastrnn.cross_entropy, rng),
                many_to_one.Twin(cell, SIZE, hidden, CLASSES, cross_entropy))

    def batches(self, rng):
        """Images drawn at random, and their labels."""
        while True:
            chosen = rng.choice(len(self.labels), BATCH, replace=False)
            yield self.rows[:, chosen], self.labels[chosen]

    def score(self, predict):
        """How many of the images held out are named right."""
        return float(np.mean(predict(self.held_out_rows).argmax(axis=1) == self.held_out_labels))


if __name__ == "__main__":
    main(Digits)
