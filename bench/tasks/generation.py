"""One to many: given a digit, to write an image of it, row by row.

python -m bench.tasks.generation

The images are those of `digits`, the other way round: the label makes the initial state, and each row is drawn
from what the network predicts and fed back as the next input. Predicted is, for each pixel, how likely each of the
17 shades is, so that no two images come out alike; a mean (by mean squared error) would be one blurred image a digit.
What is measured is how many of the images a classifier, the nearest of the real images, reads as the digit asked for.
"""

import numpy as np

import fastrnn
from bench.tasks.digits import CLASSES, SHADES, SIZE, read
from bench.tasks.needs import extra
from bench.tasks.program import main
from bench.tasks.training import Task

with extra():
    import torch
    from sklearn.neighbors import KNeighborsClassifier

__all__ = ["Generation", "Ours", "Twin"]

BATCH, WRITTEN = 64, 1000  # images: in a step of training, and to measure by
BLACK = SHADES - 1


class Ours:
    """Label one-hot (N, 10) -> h_0; at each step the row before (1, N, 8) -> logits (N, 8 pixels, 17 shades)."""

    def __init__(self, cell, hidden, rng):
        self.start = fastrnn.Linear(CLASSES, hidden, rng=rng)
        self.rnn = getattr(fastrnn, cell)(SIZE, hidden, rng=rng)
        self.head = fastrnn.Linear(hidden, SIZE * SHADES, rng=rng)
        self.modules = [self.start, self.rnn, self.head]

    def __call__(self, labels, chances):
        """Write images (8, N, 8) of integers; `chances` (8, N, 8) are random numbers, one to draw each pixel by."""
        h, row, rows = self.start(labels)[None], np.zeros((1, len(labels), SIZE), np.float32), []
        for chance in chances:
            output, h = self.rnn(row, h)
            likely = fastrnn.softmax(self.head(output[0]).reshape(-1, SIZE, SHADES))
            rows.append((likely.cumsum(axis=2)[:, :, :-1] < chance[:, :, None]).sum(axis=2))
            row = (rows[-1] / BLACK).astype(np.float32)[None]
        return np.stack(rows)

    def gradients(self, labels, before, rows):
        """The loss on real images `rows`, `before` being the input to each, and the gradients of all modules."""
        h_0, start_tape = self.start.forward(labels)
        output, _, tape = self.rnn.forward(before, h_0[None])
        logits, head_tape = self.head.forward(output)
        loss, d_logits = fastrnn.cross_entropy(logits.reshape(*rows.shape, SHADES), rows)
        head_gradients = self.head.backward(head_tape, d_logits.reshape(logits.shape))
        rnn_gradients = self.rnn.backward(tape, head_gradients.input)
        start_gradients = self.start.backward(start_tape, rnn_gradients.hx[0])
        return loss, [start_gradients, rnn_gradients, head_gradients]


class Twin(torch.nn.Module):
    """The same in torch."""

    def __init__(self, cell, hidden):
        super().__init__()
        self.start = torch.nn.Linear(CLASSES, hidden)
        self.rnn = getattr(torch.nn, cell)(SIZE, hidden)
        self.head = torch.nn.Linear(hidden, SIZE * SHADES)

    def forward(self, labels, chances):
        """Write images."""
        h, row, rows = self.start(labels)[None], torch.zeros(1, len(labels), SIZE), []
        for chance in chances:
            output, h = self.rnn(row, h)
            likely = self.head(output[0]).reshape(-1, SIZE, SHADES).softmax(dim=2)
            rows.append((likely.cumsum(dim=2)[:, :, :-1] < chance[:, :, None]).sum(dim=2))
            row = (rows[-1] / BLACK)[None]
        return torch.stack(rows)

    def loss(self, labels, before, rows):
        """What is to be small."""
        output, _ = self.rnn(before, self.start(labels)[None])
        return torch.nn.functional.cross_entropy(self.head(output).reshape(-1, SHADES), rows.flatten())


class Generation(Task):
    """Label (N, 10) -> rows (8, N, 8)."""

    metric = "read as asked"
    baseline = ("chance", 1 / CLASSES)
    steps, hidden, learning_rate = 1500, 128, 3e-3
    choices = ("RNN", "GRU")  # an LSTM has a second initial state to make

    def __init__(self):
        (images, labels), _ = read()
        self.images, self.labels = images, np.eye(CLASSES, dtype=np.float32)[labels]
        self.reader = KNeighborsClassifier(1).fit(images.reshape(len(images), -1), labels)
        rng = np.random.default_rng(0)
        self.asked = rng.integers(CLASSES, size=WRITTEN)
        self.chances = rng.random((SIZE, WRITTEN, SIZE), np.float32)

    def models(self, cell, hidden, rng):
        """One logit for each shade of each pixel of a row."""
        return Ours(cell, hidden, rng), Twin(cell, hidden)

    def batches(self, rng):
        """Labels and their images, with the row before each row, which is white before the first."""
        while True:
            chosen = rng.choice(len(self.labels), BATCH, replace=False)
            rows = self.images[chosen].transpose(1, 0, 2)
            before = np.zeros(rows.shape, np.float32)
            before[1:] = rows[:-1] / BLACK
            yield self.labels[chosen], before, rows

    def score(self, predict):
        """How many of the images written are read as the digit that was asked for."""
        rows = predict(np.eye(CLASSES, dtype=np.float32)[self.asked], self.chances)
        images = rows.transpose(1, 0, 2).reshape(WRITTEN, -1)
        return float(np.mean(self.reader.predict(images) == self.asked))


if __name__ == "__main__":
    main(Generation)
