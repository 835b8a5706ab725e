"""A case: a cell, a task and a shape; what work that is, and the arrays for it."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

__all__ = ["CELLS", "TASKS", "Arrays", "Case", "Weights", "suffixes"]

CELLS = {"RNN": 1, "LSTM": 4, "GRU": 3}  # how many gates a cell has: blocks of H rows in its weights
TASKS = ("inference", "training")


class Arrays(NamedTuple):
    """What every peer of a case is given, float32 and time-major."""

    x: np.ndarray  # (T, B, I)
    states: tuple  # h (D * layers, B, P), and of an LSTM c (D * layers, B, H)
    params: dict  # by the names of torch.nn
    d_output: np.ndarray  # (T, B, D * P), the gradient of the loss with respect to the output


class Weights(NamedTuple):
    """How many weights one direction of a layer has, biases aside."""

    input: int  # in W_ih
    state: int  # in W_hh, and in W_hr where there is a projection


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
    proj_size: int = 0  # of an LSTM's h, 0 if it is as large as c
    model: str = ""  # the published model that has this shape

    @property
    def name(self):
        """Such as "RNN training T50 B64 I512 H512 L2", behind the name of a model; what `--filter` looks in."""
        return f"{self.model} {self.cell} {self.task} {self.shape}".lstrip()

    @property
    def shape(self):
        """Such as "T50 B64 I512 H512 L2 both"."""
        more = [f" P{self.proj_size}"] * (self.proj_size > 0) + [f" L{self.layers}"] * (self.layers > 1)
        return "".join([f"T{self.T} B{self.B} I{self.I} H{self.H}", *more, " both" * self.bidirectional])

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
    def P(self):
        """Features of h in one direction."""
        return self.proj_size or self.H

    @property
    def weights(self):
        """Of each layer the Weights, of which every direction has as many."""
        rows = CELLS[self.kind] * self.H
        return [Weights(rows * self._features(layer), rows * self.P + self.proj_size * self.H)
                for layer in range(self.layers)]

    @property
    def flops(self):
        """Of the matrix products alone: of input and state by the weights; in training two more of that size."""
        forward = 2 * self.T * self.B * self.directions * sum(map(sum, self.weights))
        return forward * (3 if self.task == "training" else 1)

    def _features(self, layer):
        return self.directions * self.P if layer else self.I

    def arrays(self):
        """The arrays of this case, the same at each call."""
        rng = np.random.default_rng(0)
        rows, states = CELLS[self.kind] * self.H, self.directions * self.layers
        params = {}
        for layer, names in enumerate(suffixes(self.layers, self.bidirectional)):
            for name in names:
                params["weight_ih" + name] = (rows, self._features(layer))
                params["weight_hh" + name] = (rows, self.P)
                params["bias_ih" + name] = params["bias_hh" + name] = (rows,)
                if self.proj_size:
                    params["weight_hr" + name] = (self.P, self.H)
        bound = self.H**-0.5
        return Arrays(
            rng.standard_normal((self.T, self.B, self.I), np.float32),
            tuple(np.tanh(rng.standard_normal((states, self.B, features), np.float32))
                  for features in ((self.P, self.H) if self.kind == "LSTM" else (self.H,))),
            {name: rng.uniform(-bound, bound, shape).astype(np.float32) for name, shape in params.items()},
            rng.standard_normal((self.T, self.B, self.directions * self.P), np.float32),
        )


def suffixes(layers, bidirectional):
    """For each layer, how the names of its parameters end in each direction."""
    return [[f"_l{layer}", f"_l{layer}_reverse"][: 1 + bidirectional] for layer in range(layers)]
