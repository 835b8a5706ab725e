"""python -m bench.shipping: what PyTorch, PyTorch with fastrnn in it, and fastrnn alone cost: time, size, import.

A model in PyTorch is made faster by one line, and can be run without PyTorch; this prints what comes of either.
"""

import argparse
import json
import subprocess
import sys
from importlib import metadata
from statistics import median

import fastrnn
from bench.case import Case
from bench.cases import MODELS
from bench.machine import machine
from bench.measure import OURS, measure
from bench.peers import Accelerated, FastRNN, Torch, installed
from bench.report import markdown, shown
from fastrnn.__main__ import positive_integer

__all__ = ["CASES", "WAYS", "main"]

CASES = [case for case in MODELS if (case.model, case.task) == ("DTLN", "inference")]
CASES += [Case(cell, "training", T, B, 128, 128) for T, B in ((100, 1), (50, 32)) for cell in ("LSTM", "GRU")]

WAYS = {  # to run a model: what times it, what it imports, what has to be installed
    "torch": (Torch, "import torch", ["torch"]),
    "torch with fastrnn": (Accelerated, "import fastrnn.torch", ["torch", "numpy", "fastrnn"]),
    OURS: (FastRNN, "import numpy, fastrnn", ["numpy", "fastrnn"]),
}
ROUNDS = 7  # of imports, after one that does not count: its files may not have been read before

NOTES = """\
us: median over rounds of the time of a call, with torch at its better number of threads and fastrnn free to use all
    {threads}; training is forward and backward.
MB: the files of {files}; not what torch requires besides.
ms: median of {rounds} fresh processes, the start of Python aside."""


def milliseconds(statements):
    """What each statement takes in a fresh process, the start of Python aside: a list of medians."""
    rounds = [[seconds(statement) for statement in statements] for _ in range(1 + ROUNDS)]
    return [1e3 * median(taken) for taken in zip(*rounds[1:], strict=True)]


def seconds(statement):
    """What it takes, once."""
    program = f"from time import perf_counter; start = perf_counter(); {statement}; print(perf_counter() - start)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return float(done.stdout)


def megabytes(distributions):
    """What the installed files take together; None if one is not installed, or only as a link to its sources."""
    try:
        found = [metadata.distribution(name) for name in distributions]
    except metadata.PackageNotFoundError:
        return None
    if not all(map(copied, found)):
        return None
    paths = [file.locate() for distribution in found for file in distribution.files]
    return 1e-6 * sum(path.stat().st_size for path in paths if path.exists())


def copied(distribution):
    """Whether its files were installed, and not left where they are developed."""
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    return distribution.read_text("RECORD") is not None and not origin.get("dir_info", {}).get("editable")


def table(results, sizes, imports, threads):
    """The table, in Markdown, and what its rows mean.

    Parameters
    ----------
    results : list of Measured
        Of contestants that have the names of `WAYS`.
    sizes : list of float or None
        In MB, in the order of `WAYS`.
    imports : list of float
        In ms.
    threads : int
    """
    rows = [["", *WAYS]]
    for measured in results:
        of = [measured.of(way, threads if way == OURS else None) for way in WAYS]
        rows.append([f"{measured.case.name}, us", *(shown(timed.us) for timed in of)])
    rows.append(["installed, MB", *(shown(size) for size in sizes)])
    rows.append(["import, ms", *(shown(time) for time in imports)])
    files = "; ".join(" and ".join(distributions) for _, _, distributions in WAYS.values())
    return "\n".join([*markdown(rows), "", NOTES.format(threads=threads, files=files, rounds=ROUNDS)])


def main(argv=None):
    """Measure all of it, and print it."""
    parser = argparse.ArgumentParser(prog="python -m bench.shipping", description=__doc__.partition(": ")[2].strip())
    parser.add_argument("--threads", type=positive_integer, default=fastrnn.get_num_threads(), metavar="N",
                        help="how many at most; default %(default)s")
    threads = parser.parse_args(argv).threads
    if not installed("torch"):
        parser.error("expected torch to compare with, which is not installed")
    _, statements, distributions = zip(*WAYS.values(), strict=True)
    imports, sizes = milliseconds(statements), [*map(megabytes, distributions)]
    running = {way: peer() for way, (peer, _, _) in WAYS.items()}
    print("\n".join(f"{key}: {value}" for key, value in machine(threads, running).items()), end="\n\n", flush=True)
    print(table([measure(case, running, threads) for case in CASES], sizes, imports, threads))


if __name__ == "__main__":
    main()
