"""What the models of `many_to_one` and `many_to_many` consist of: a recurrent layer, and a linear one that reads it."""

import fastrnn
from bench.tasks.needs import extra

with extra():
    import torch

__all__ = ["Ours", "Twin"]


class Ours:
    """The modules, in fastrnn; `loss` gives the mean and its gradient."""

    def __init__(self, cell, features, hidden, outputs, loss, rng):
        self.rnn = getattr(fastrnn, cell)(features, hidden, rng=rng)
        self.head = fastrnn.Linear(hidden, outputs, rng=rng)
        self.modules = [self.rnn, self.head]
        self.loss = loss


class Twin(torch.nn.Module):
    """The same in torch; `criterion` is a loss of torch.nn.functional."""

    def __init__(self, cell, features, hidden, outputs, criterion):
        super().__init__()
        self.rnn = getattr(torch.nn, cell)(features, hidden)
        self.head = torch.nn.Linear(hidden, outputs)
        self.criterion = criterion
