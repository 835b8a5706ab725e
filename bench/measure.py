"""One case: every contestant's results are checked, and then all are timed side by side."""

from functools import partial
from typing import NamedTuple

import numpy as np

from bench import peers, timing
from bench.case import Case

__all__ = ["OURS", "Measured", "Timed", "WrongResult", "contestants", "estimated", "measure", "side_by_side"]

OURS = "fastrnn"

# Error allowed, relative to the largest magnitude of the array. Over all cases and peers the worst was seen at 5e-6
# (float32 sums of up to 16000 products, in whatever order); a wrong index, sign or gate is off by 1e-2 or more.
TOLERANCE = 1e-4

HOPELESS = 1.5  # a number of threads with which a peer is so many times slower than with another is not timed


class WrongResult(Exception):
    """A contestant computed something else than the reference in float64."""


class Timed(NamedTuple):
    """How long a contestant took."""

    peer: str
    threads: int | None  # None: what it takes
    samples: list  # seconds per call, one a round

    @property
    def us(self):
        """Median, in microseconds."""
        return timing.middle(self.samples)


class Measured(NamedTuple):
    """What came out for a case."""

    case: Case
    timed: list

    def of(self, peer, threads=None):
        """The peer at its best number of threads, or at that one; None if it was not timed."""
        mine = [timed for timed in self.timed if timed.peer == peer and threads in (None, timed.threads)]
        return min(mine, key=lambda timed: timed.us, default=None)


class Contestant(NamedTuple):
    """A peer with a number of threads."""

    peer: str
    threads: int | None
    prepare: callable
    call: callable


def measure(case, running, threads, quick=False):
    """Check and time one case.

    Parameters
    ----------
    case : Case
    running : dict of str to Peer
        Who takes part, by name; those that do not cover the case do not.
    threads : int
        Peers are timed with one thread and with so many. fastrnn too, but its result is the one with so many:
        choosing fewer is its own affair.
    quick : bool
        Few rounds.

    Returns
    -------
    Measured

    Raises
    ------
    WrongResult
        Naming the case, the peer, and the array that is off.
    """
    chosen, estimates = hopeful(contestants(case, running, sorted({1, threads})), threads)
    return side_by_side(case, chosen, estimates, quick)


def contestants(case, running, numbers):
    """Who takes part in a case with each of these numbers of threads, their results checked.

    Raises
    ------
    WrongResult
        Naming the case, the peer, and the array that is off.
    """
    arrays = case.arrays()
    expected = truth(case, arrays)
    entrants = []
    for name, peer in running.items():
        for number in numbers if peer.threaded else [None]:
            if peer.covers(case):
                peer.set_threads(number)
                call, read = peer.prepare(case, arrays, number)
                check(f"{case.name}: {name}", read(call()), expected)
                entrants.append(Contestant(name, number, partial(peer.set_threads, number), call))
    return entrants


def side_by_side(case, entrants, estimates, quick=False):
    """Time the entrants in rounds, by what a call of each takes, roughly: a Measured."""
    samples = timing.in_rounds([(entrant.prepare, entrant.call) for entrant in entrants], estimates, quick)
    return Measured(case, [Timed(entrant.peer, entrant.threads, taken)
                           for entrant, taken in zip(entrants, samples, strict=True)])


def truth(case, arrays):
    """What everybody is held to: the reference in float64."""
    x, states, params, d_output = arrays
    params = {name: array.astype(np.float64) for name, array in params.items()}
    states = tuple(state.astype(np.float64) for state in states)
    double = type(arrays)(x.astype(np.float64), states, params, d_output.astype(np.float64))
    call, read = peers.Reference().prepare(case, double, None)
    return read(call())


def check(who, results, expected):
    """Raise WrongResult unless the results have the names, the shapes and, nearly, the values expected."""
    if results.keys() != expected.keys():
        raise WrongResult(f"{who}: expected {', '.join(expected)}, got {', '.join(results)}")
    for name, array in expected.items():
        got = results[name]
        if got.shape != array.shape:
            raise WrongResult(f"{who}: {name}: expected shape {array.shape}, got {got.shape}")
        error, largest = np.abs(got - array).max(), np.abs(array).max()
        if not error <= TOLERANCE * largest:
            raise WrongResult(f"{who}: {name}: expected within {TOLERANCE:g} of the largest, {largest:.3g}, "
                              f"got an error of {error:.3g}")


def estimated(entrants):
    """What a call of each takes, roughly."""
    estimates = []
    for entrant in entrants:
        entrant.prepare()
        estimates.append(timing.calibrate(entrant.call))
    return estimates


def hopeful(entrants, threads):
    """The entrants worth timing in rounds, and what a call of each takes, roughly."""
    estimates = estimated(entrants)
    best = {}
    for entrant, estimate in zip(entrants, estimates, strict=True):
        best[entrant.peer] = min(estimate, best.get(entrant.peer, estimate))
    pairs = [(entrant, estimate) for entrant, estimate in zip(entrants, estimates, strict=True)
             if estimate <= HOPELESS * best[entrant.peer] or (entrant.peer, entrant.threads) == (OURS, threads)]
    return map(list, zip(*pairs, strict=True))
