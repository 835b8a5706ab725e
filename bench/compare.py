"""What changed from an earlier run, and what may be noise.

The machine may have been slower or busier then. Peers of the same version show by how much, so the pace of a round is
how long they took in it, each as a multiple of its median in the earlier run; the median over them. Our time in each
round is divided by its pace, and all samples are then in microseconds of the machine as it was in the earlier run.

A case has changed if the medians of these samples differ by more than is ALLOWED, and by more than APART times the sum
of three interquartile ranges: of the samples in either run, and of what the peers, each by its medians, say of the
pace. Normally distributed times of the same program do so in one of a thousand cases with 7 samples in each run, and
in four of a hundred with 3, even if the peers agree and nothing is ALLOWED.
"""

from typing import NamedTuple

import numpy as np

from bench.measure import OURS
from bench.report import markdown, shown

__all__ = ["Change", "changes", "table"]

ALLOWED = 0.05  # the same program, started again, has its memory elsewhere, and times that differ by so much
APART = 1.5

NOTES = """\
before, now: our median, us. pace: how many times longer than before peers of the same version took (- without any).
change: of our time, after the time of every round has been divided by the pace of that round.
A case is slower or faster if that is more than its noise: {allowed:.0%}, or {apart} times the sum of the interquartile
ranges of both runs' rounds and of the peers' paces where that is more; others are the same, as far as is seen."""


class Change(NamedTuple):
    """A case in both runs."""

    name: str
    before: float  # microseconds
    now: float
    pace: float | None  # of the machine, 1 being that of before; None if no peer can tell
    times: float  # how many times longer we take, the pace aside
    noise: float  # part by which one of the two has to be longer to mean something

    @property
    def verdict(self):
        """Slower, faster or same."""
        if max(self.times, 1 / self.times) <= 1 + self.noise:
            return "same"
        return "slower" if self.times > 1 else "faster"


def changes(old, new):
    """Compare two runs with the same number of threads.

    Parameters
    ----------
    old, new : dict
        What `results.gather` gave.

    Returns
    -------
    list of Change
        For each case that both have.
    """
    before = {case["name"]: case for case in old["cases"]}
    same = [peer for peer in new["peers"] if old["machine"].get(peer) == new["machine"].get(peer)]
    return [changed(before[case["name"]], case, same, new["machine"]["threads"])
            for case in new["cases"] if case["name"] in before]


def changed(old, new, same, threads):
    """The Change of a case, `same` being the peers whose version is the same."""
    name, old, new = new["name"], samples(old), samples(new)
    units = {key: np.median(old[key]) for key in old if key in new and key[0] in same}
    disagreement = spread([np.median(new[key]) / unit for key, unit in units.items()]) if units else 0.0
    ours, paces, scaled = [], [], []
    for run in (old, new):
        ours.append(run[OURS, threads])
        paces.append(np.median([run[key] / unit for key, unit in units.items()], axis=0) if units else 1.0)
        scaled.append(ours[-1] / paces[-1])
    before, now = map(np.median, scaled)
    noise = max(ALLOWED, APART * (sum(map(spread, scaled)) + disagreement))
    return Change(name, *map(np.median, ours), np.median(paces[1]) if units else None, now / before, noise)


def samples(case):
    """The samples of each contestant of a case, by peer and threads."""
    return {(one["peer"], one["threads"]): np.array(one["samples_us"]) for one in case["timed"]}


def spread(taken):
    """The interquartile range, as a part of the median."""
    low, middle, high = np.quantile(taken, [0.25, 0.5, 0.75])
    return (high - low) / middle


def table(old, new):
    """A table of all changes, in Markdown, and how it was decided what is one."""
    found = changes(old, new)
    if not found:
        return "nothing to compare: the earlier run has none of these cases"
    rows = [["case", "before", "now", "pace", "change", "noise", "verdict"]]
    rows += [[one.name, shown(one.before), shown(one.now), shown(one.pace, ".2f"), f"{one.times - 1:+.0%}",
              f"{one.noise:.0%}", one.verdict] for one in found]
    count = {verdict: sum(one.verdict == verdict for one in found) for verdict in ("faster", "slower", "same")}
    runs = [f"{when}: fastrnn {run['machine'][OURS]}, {run['machine']['processor']}"
            for when, run in (("before", old), ("now", new))]
    return "\n".join([*runs, "", *markdown(rows), "", NOTES.format(allowed=ALLOWED, apart=APART),
                      ", ".join(f"{number} {verdict}" for verdict, number in count.items())])
