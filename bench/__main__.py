"""python -m bench: check and time every case, and print the table."""

import argparse
import json
from pathlib import Path

import fastrnn
from bench import report
from bench.cases import CASES
from bench.measure import OURS, measure
from bench.peers import PEERS, FastRNN, installed


def arguments(argv=None):
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Time fastrnn beside its peers.")
    parser.add_argument("--quick", action="store_true", help="small cases and few rounds: under a minute")
    parser.add_argument("--filter", default="", metavar="TEXT",
                        help="only cases with TEXT in their names, such as 'RNN training T100 B1'")
    parser.add_argument("--peers", default=",".join(PEERS), metavar="NAMES", help="of %(default)s")
    parser.add_argument("--threads", type=int, default=fastrnn.get_num_threads(), metavar="N",
                        help="how many at most; default %(default)s")
    parser.add_argument("--json", metavar="FILE", help="write all that was measured")
    options = parser.parse_args(argv)
    options.peers = [name for name in options.peers.split(",") if name]
    unknown = [name for name in options.peers if name not in PEERS]
    if unknown:
        parser.error(f"--peers: expected some of {', '.join(PEERS)}, got {', '.join(unknown)}")
    if options.threads < 1:
        parser.error(f"--threads: expected at least 1, got {options.threads}")
    if options.json and not Path(options.json).absolute().parent.is_dir():
        parser.error(f"--json: expected a file in a folder that is there, got {options.json!r}")
    options.cases = [case for case in CASES if options.filter in case.name and (case.quick or not options.quick)]
    if not options.cases:
        names = "".join(f"\n  {case.name}" for case in CASES if case.quick or not options.quick)
        parser.error(f"--filter: expected a part of one of{names}\ngot {options.filter!r}")
    return options


def progress(cases):
    """The cases one by one, with a bar if there is a terminal to show it and tqdm to draw it."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield from cases
        return
    with tqdm(total=len(cases), disable=None, unit="case") as bar:
        for case in cases:
            bar.set_postfix_str(case.name)
            yield case
            bar.update()


def main(argv=None):
    """Run the benchmark."""
    options = arguments(argv)
    missing = [name for name in options.peers if not installed(name)]
    peers = [name for name in options.peers if name not in missing]
    running = {OURS: FastRNN()} | {name: PEERS[name]() for name in peers}

    found = report.machine(options.threads, running)
    print("\n".join(f"{key}: {value}" for key, value in found.items()))
    for name in missing:
        print(f"{name}: not installed, so not compared with; it needs {' and '.join(PEERS[name].modules)}")
    print(flush=True)

    peak = report.sgemm_peak(options.threads, getattr(running.get("torch"), "torch", None))
    results = [measure(case, running, options.threads, options.quick) for case in progress(options.cases)]
    print(report.table(results, peers, options.threads, peak))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report.as_json(results, peers, missing, options.threads, peak, found), file, indent=1)


if __name__ == "__main__":
    main()
