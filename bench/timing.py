"""The clock: repeated calls, in rounds that alternate between the contestants."""

import gc
import math
from statistics import median
from time import perf_counter, process_time, sleep

__all__ = ["best", "calibrate", "in_rounds", "middle"]

SAMPLE = 0.01  # seconds that a sample takes at least
LONG_ROUND = 3.0  # seconds; of rounds that take longer there are FEW
ROUNDS, FEW = 7, 3
LONG_CALL = 0.1  # seconds; a call that takes longer is not warmed up before each sample


def settle(limit=0.15):
    """Wait until no thread of this process is busy: some libraries' threads spin on after their call.

    Parameters
    ----------
    limit : float
        Seconds to wait at most.
    """
    end = perf_counter() + limit
    while perf_counter() < end:
        start, used = perf_counter(), process_time()
        sleep(0.005)  # longer than a tick of the scheduler, by which the other threads' time is counted
        if process_time() - used < 0.3 * (perf_counter() - start):
            return


def sample(call, repetitions):
    """Seconds that a call takes, the mean of `repetitions`."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        start = perf_counter()
        for _ in range(repetitions):
            call()
        return (perf_counter() - start) / repetitions
    finally:
        if collecting:
            gc.enable()


def best(call, seconds):
    """Seconds that a call takes at its best, tried for that long; after one call that does not count."""
    call()
    end, found = perf_counter() + seconds, math.inf
    while perf_counter() < end:
        found = min(found, sample(call, 1))
    return found


def calibrate(call):
    """Seconds that a call takes, roughly: the first one, or the mean of some more where that is short and less."""
    settle()
    first = sample(call, 1)
    return first if first > LONG_CALL else min(first, sample(call, math.ceil(SAMPLE / 4 / first)))


def in_rounds(contestants, estimates, quick=False):
    """Time several callables against each other.

    Each round takes one sample of each, and starts with the next one, so that nobody always follows the same.

    Parameters
    ----------
    contestants : list of (prepare, call)
        Callables without arguments; `prepare` is not timed.
    estimates : list of float
        What `calibrate` found for each call.
    quick : bool
        Few rounds.

    Returns
    -------
    list of list of float
        Seconds per call of each contestant in each round.
    """
    repetitions = [max(1, math.ceil(SAMPLE / estimate)) for estimate in estimates]
    round_time = sum(number * estimate for number, estimate in zip(repetitions, estimates, strict=True))
    samples = [[] for _ in contestants]
    for turn in range(FEW if quick or round_time > LONG_ROUND else ROUNDS):
        for place in range(len(contestants)):
            k = (turn + place) % len(contestants)
            prepare, call = contestants[k]
            prepare()
            settle()
            if estimates[k] < LONG_CALL:
                call()
            samples[k].append(sample(call, repetitions[k]))
    return samples


def middle(samples):
    """Median, in microseconds."""
    return 1e6 * median(samples)
