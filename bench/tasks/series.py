"""Regression: the number of sunspots in the coming year, from those of all years before.

python -m bench.tasks.series

The series is statsmodels' `sunspots`: yearly means from 1700 to 2008 (public domain, from the National Geophysical
Data Center). The last 88 years are held out. What has to be beaten is persistence, to say that next year is as this
one.
"""

import numpy as np

import fastrnn
from bench.tasks import many_to_many
from bench.tasks.needs import extra
from bench.tasks.program import main
from bench.tasks.training import Task

with extra():
    from statsmodels.datasets import sunspots
    from torch.nn.functional import mse_loss

__all__ = ["Series"]

TRAINING = 221  # years: up to 1920, as since Weigend, Huberman & Rumelhart (1990)
BATCH, LENGTH = 16, 44  # windows of four cycles


class Series(Task):
    """Values (L, N, 1) -> the next of each, (L, N, 1)."""

    metric = "RMSE"
    steps, hidden, cells, learning_rate = 400, 16, ("GRU",), 3e-3

    def __init__(self):
        spots = sunspots.load_pandas().data["SUNACTIVITY"].to_numpy()
        self.mean, self.deviation = spots[:TRAINING].mean(), spots[:TRAINING].std()
        self.values = ((spots - self.mean) / self.deviation).astype(np.float32)[:, None, None]
        self.baseline = ("persistence", self.score(lambda values: values))

    def models(self, cell, hidden, rng):
        """One number a step."""
        return (many_to_many.Ours(cell, 1, hidden, 1, fastrnn.mse, rng),
                many_to_many.Twin(cell, 1, hidden, 1, mse_loss))

    def batches(self, rng):
        """Windows of the years to train on."""
        while True:
            starts = rng.integers(TRAINING - LENGTH, size=BATCH)
            windows = self.values[starts + np.arange(LENGTH + 1)[:, None], 0]
            yield windows[:-1], windows[1:], True

    def score(self, predict):
        """Root mean squared error over the years held out, in sunspots; the years before are read as well."""
        predicted = predict(self.values[:-1])[TRAINING - 1:]
        return self.deviation * fastrnn.mse(predicted, self.values[TRAINING:])[0] ** 0.5


if __name__ == "__main__":
    main(Series)
