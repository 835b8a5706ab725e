"""All that a run found, as one dict: what `--json` writes, and what the table and the pictures are made of."""

from dataclasses import asdict
from statistics import geometric_mean

from bench.case import TASKS
from bench.floor import floor
from bench.measure import OURS

__all__ = ["gather", "ratio", "slower"]


def gather(results, peers, machine, limits):
    """The numbers of a run.

    Parameters
    ----------
    results : list of Measured
    peers : list of str
        Who took part besides fastrnn.
    machine : dict
        What `machine.machine` found.
    limits : Limits or None

    Returns
    -------
    dict
        Of "machine", "limits", "peers", "cases" (see `line`), and "best_over_ours": the geometric means over all
        cases and over those of each task that a peer covers, None if there are none.
    """
    cases = [line(measured, peers, machine["threads"], limits) for measured in results]
    means = {task: mean([case for case in cases if task in ("all", case["task"])]) for task in ("all", *TASKS)}
    levels = [level._asdict() for level in limits.levels] if limits else []
    return {"machine": machine, "limits": limits and {"gflops": limits.gflops, "levels": levels},
            "peers": peers, "best_over_ours": means, "cases": cases}


def line(measured, peers, threads, limits):
    """What was found for a case; None where a peer does not cover it, or where there are no limits."""
    case = measured.case
    ours, alone = measured.of(OURS, threads).us, measured.of(OURS, 1)
    theirs = {peer: measured.of(peer) for peer in peers}
    us = {peer: timed and timed.us for peer, timed in theirs.items()}
    floor_us = limits and 1e6 * floor(case, limits, threads)
    return {
        "name": case.name, **asdict(case), "shape": case.shape, "flops": case.flops,
        "ours_us": ours, "ours_alone_us": alone and alone.us, "gflops": 1e-3 * case.flops / ours,
        "floor_us": floor_us, "of_floor": ratio(floor_us, ours),
        "peers_us": us, "peers_threads": {peer: timed and timed.threads for peer, timed in theirs.items()},
        "best_over_ours": ratio(min((time for time in us.values() if time), default=None), ours),
        "timed": [{"peer": one.peer, "threads": one.threads, "us": one.us, "samples_us": [1e6 * s for s in one.samples]}
                  for one in measured.timed],
    }


def ratio(time, ours):
    """How many times ours a time is, None if there is none."""
    return None if time is None else time / ours


def mean(cases):
    """The geometric mean of the best peer's time over ours."""
    ratios = [case["best_over_ours"] for case in cases if case["best_over_ours"] is not None]
    return geometric_mean(ratios) if ratios else None


def slower(cases):
    """The cases that a peer took less time for, as pairs of a case and the peer's name."""
    return [(case, peer) for case in cases for peer, us in case["peers_us"].items() if us and us < case["ours_us"]]
