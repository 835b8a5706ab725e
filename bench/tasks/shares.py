"""What the two data-parallel programs share: the part of a batch that a process trains on, and the comparison.

Shapes: L steps, N rows.
"""

import argparse

import numpy as np

from fastrnn.__main__ import positive_integer

__all__ = ["HIDDEN", "apart", "command_line", "report", "share"]

HIDDEN = 128  # units of the LSTM that both train


def command_line(prog, about):
    """The parser of what both can be told."""
    parser = argparse.ArgumentParser(prog=prog, description=about.partition("\n")[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--steps", type=positive_integer, default=100, metavar="N",
                        help="of training; with them grows what rounding makes the weights differ by")
    return parser


def share(batches, rank, processes):
    """Of batches as `demo.chunks` gives them, the rows of one process: as many for each, or the mean would be skewed.

    Parameters
    ----------
    batches : iterable of (inputs (L, N), targets (L, N), first)
    rank, processes : int
        Which process it is, from 0, and how many there are.

    Yields
    ------
    inputs, targets : ndarray, shape (L, N / processes)
    first : bool

    Raises
    ------
    ValueError
        Rows that cannot be shared equally.
    """
    for inputs, targets, first in batches:
        rows, rest = divmod(inputs.shape[1], processes)
        if rest:
            raise ValueError(f"processes: expected a divisor of the {inputs.shape[1]} rows, got {processes}")
        mine = slice(rank * rows, (rank + 1) * rows)
        yield inputs[:, mine], targets[:, mine], first


def apart(weights, others):
    """The largest difference between the weights of two models, dicts of arrays or tensors by name; NaN if one is."""
    return largest(np.asarray(weights[name]) - np.asarray(others[name]) for name in weights)


def largest(arrays):
    """Of all magnitudes."""
    return float(np.max([np.abs(array).max() for array in arrays]))


def report(steps, alone, together, threads):
    """Print how far the weights are apart, and what the steps took.

    Parameters
    ----------
    steps : int
    alone : (dict, float)
        Weights of the one process that trained on whole batches, and seconds.
    together : list of (dict, float)
        The same of each process that trained on its share.
    threads : (int, int)
        That the one used, and each of the others.
    """
    (weights, seconds), (first, seconds_together) = alone, together[0]
    among = float(np.max([apart(first, other) for other, _ in together]))
    size = largest(map(np.asarray, weights.values()))
    print(f"after {steps} steps the weights, of up to {size:.2g}, are at most {among:.2g} apart from process to "
          f"process,\nand {apart(weights, first):.2g} from those of one process with the whole batch")
    print(f"seconds: {seconds:.2f} in 1 process of {threads[0]} threads, {seconds_together:.2f} in {len(together)} "
          f"of {threads[1]}")
