"""What is timed: every cell, in inference and in training, over a list of shapes; and the arrays for it."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

__all__ = ["CASES", "Arrays", "Case", "suffixes"]

CELLS = {"RNN": 1, "LSTM": 4, "GRU": 3}  # how many gates a cell has: blocks of H rows in its weights
TASKS = ("inference", "training")
STEPS = [  # T, B, I and H of one step in a stream: of a layer, and of the cell that is made for it
    (1, 1, 64, 64),
    (1, 1, 128, 128),
    (1, 1, 512, 512),
]
SHAPES = [  # T steps, B sequences, I inputs, H hidden units, layers, both directions
    (63, 1, 24, 32, 1, False),
    (63, 1, 24, 32, 1, True),
    (100, 1, 32, 32, 1, False),
    (100, 1, 128, 128, 1, False),
    (100, 1, 512, 512, 1, False),
    (50, 32, 128, 128, 1, False),
    (1000, 16, 64, 64, 1, False),
    (100, 64, 256, 256, 1, False),
    (50, 64, 512, 512, 2, False),
    (50, 128, 1024, 1024, 1, False),
]
QUICK_FLOPS = 2e8  # a forward pass of a case for `--quick` takes no more


class Arrays(NamedTuple):
    """What every peer of a case is given, float32 and time-major."""

    x: np.ndarray  # (T, B, I)
    states: tuple  # of an LSTM h and c, else h alone; each (D * layers, B, H)
    params: dict  # by the names of torch.nn
    d_output: np.ndarray  # (T, B, D * H), the gradient of the loss with respect to the output


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    cell: str  # one of CELLS, of which "Cell" behind it makes the class that takes a single step
    task: str
    T: int
    B: int
    I: int
    H: int
    layers: int = 1
    bidirectional: bool = False

    @property
    def name(self):
        """Such as "RNN training T50 B64 I512 H512 L2"; what `--filter` looks in."""
        shape = f"T{self.T} B{self.B} I{self.I} H{self.H}"
        more = f" L{self.layers}" * (self.layers > 1) + " both" * self.bidirectional
        return f"{self.cell} {self.task} {shape}{more}"

    @property
    def directions(self):
        """2 if bidirectional, else 1."""
        return 1 + self.bidirectional

    @property
    def kind(self):
        """Which of CELLS."""
        return self.cell.removesuffix("Cell")

    @property
    def single(self):
        """Whether it is of the class that takes a single step."""
        return self.cell != self.kind

    @property
    def flops(self):
        """Of the matrix products alone: one of input and state by the weights; in training two more of that size."""
        features = sum(self._features(layer) + self.H for layer in range(self.layers))
        forward = 2 * self.T * self.B * self.directions * CELLS[self.kind] * self.H * features
        return forward * (3 if self.task == "training" else 1)

    @property
    def quick(self):
        """Small enough for `--quick`."""
        return self.flops <= QUICK_FLOPS * (3 if self.task == "training" else 1)

    def _features(self, layer):
        return self.directions * self.H if layer else self.I

    def arrays(self):
        """The arrays of this case, the same at each call."""
        rng = np.random.default_rng(0)
        rows, states = CELLS[self.kind] * self.H, self.directions * self.layers
        params = {}
        for layer, names in enumerate(suffixes(self.layers, self.bidirectional)):
            for name in names:
                params["weight_ih" + name] = (rows, self._features(layer))
                params["weight_hh" + name] = (rows, self.H)
                params["bias_ih" + name] = params["bias_hh" + name] = (rows,)
        bound = self.H**-0.5
        return Arrays(
            rng.standard_normal((self.T, self.B, self.I), np.float32),
            tuple(np.tanh(rng.standard_normal((states, self.B, self.H), np.float32))
                  for _ in range(2 if self.kind == "LSTM" else 1)),
            {name: rng.uniform(-bound, bound, shape).astype(np.float32) for name, shape in params.items()},
            rng.standard_normal((self.T, self.B, self.directions * self.H), np.float32),
        )


def suffixes(layers, bidirectional):
    """For each layer, how the names of its parameters end in each direction."""
    return [[f"_l{layer}", f"_l{layer}_reverse"][: 1 + bidirectional] for layer in range(layers)]


CASES = [Case(cell + suffix, task, *shape) for cell in CELLS for shape in STEPS for suffix in ("", "Cell")
         for task in TASKS]
CASES += [Case(cell, task, *shape) for cell in CELLS for shape in SHAPES for task in TASKS]
