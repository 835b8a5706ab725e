"""python -m bench.scaling: what a call takes with 1, 2, 4 and more threads, beside torch, and beside cuDNN on a GPU.

Needs torch. Whoever is slower with more threads is shown so: nobody is given the better number.
"""

import argparse

import fastrnn
from bench import report
from bench.__main__ import progress
from bench.cases import GRID
from bench.machine import machine
from bench.measure import OURS, contestants, estimated, side_by_side
from bench.peers import Cuda, FastRNN, Torch, installed
from fastrnn.__main__ import positive_integer

__all__ = ["CASES", "main", "table", "up_to"]

SHAPES = ["T1 B1 I512 H512", "T63 B1 I24 H32", "T100 B1 I128 H128", "T100 B1 I512 H512", "T50 B32 I128 H128",
          "T1000 B16 I64 H64", "T100 B64 I256 H256", "T50 B64 I512 H512 L2", "T50 B128 I1024 H1024"]
CASES = [case for case in GRID if case.shape in SHAPES and not case.single]

NOTES = """\
us: median over rounds of the time of a call with so many threads, of which fastrnn uses as many as it sees fit.
times: how much longer it takes with one thread than with the best number."""


def up_to(threads):
    """1, 2, 4 and so on, and the number itself."""
    return sorted({threads} | {1 << k for k in range(threads.bit_length()) if 1 << k < threads})


def table(results, numbers):
    """The table, in Markdown, of a list of Measured by whom has these numbers of threads."""
    rows = [["case", "", *(f"{number}, us" for number in numbers), "times", "GPU, us"]]
    for measured in results:
        on_gpu = measured.of("cuDNN")
        for who, gpu in ((OURS, "-"), ("torch", report.shown(on_gpu and on_gpu.us))):
            us = [measured.of(who, number).us for number in numbers]
            rows.append([measured.case.name if who == OURS else "", who, *map(report.shown, us),
                         report.shown(us[0] / min(us), ".2f"), gpu])
    return "\n".join([*report.markdown(rows), "", NOTES])


def scaling(case, running, numbers, quick):
    """Check and time one case: a Measured."""
    entrants = contestants(case, running, numbers)
    return side_by_side(case, entrants, estimated(entrants), quick)


def main(argv=None):
    """Measure all of it, and print it."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__.partition(": ")[2].strip())
    parser.add_argument("--threads", type=positive_integer, default=fastrnn.get_num_threads(), metavar="N",
                        help="how many at most; default %(default)s")
    parser.add_argument("--filter", default="", metavar="TEXT", help="only cases with TEXT in their names")
    parser.add_argument("--quick", action="store_true", help="few rounds")
    options = parser.parse_args(argv)
    if not installed("torch"):
        parser.error("expected torch to compare with, which is not installed")
    cases = [case for case in CASES if options.filter.lower() in case.name.lower()]
    if not cases:
        parser.error("--filter: expected a part of one of" + "".join(f"\n  {case.name}" for case in CASES)
                     + f"\ngot {options.filter!r}")
    running, numbers = {OURS: FastRNN(), "torch": Torch(), "cuDNN": Cuda()}, up_to(options.threads)
    found = machine(options.threads, running)
    print("\n".join(f"{key}: {value}" for key, value in found.items()), end="\n\n", flush=True)
    print(table([scaling(case, running, numbers, options.quick) for case in progress(cases)], numbers))


if __name__ == "__main__":
    main()
