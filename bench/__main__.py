"""python -m bench: check and time every case, and print the table."""

import argparse
import json
from importlib.util import find_spec
from pathlib import Path

import fastrnn
from bench import compare, report
from bench.cases import CASES, QUICK
from bench.limits import NotMeasured, measure_limits
from bench.machine import machine
from bench.measure import OURS, measure
from bench.peers import PEERS, FastRNN, installed
from bench.results import gather


def arguments(argv=None):
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Time fastrnn beside its peers.")
    parser.add_argument("--quick", action="store_true", help="a choice of small cases, and few rounds: under a minute")
    parser.add_argument("--filter", default="", metavar="TEXT",
                        help="only cases with TEXT in their names, such as 'RNN training T100 B1' or 'Silero'")
    parser.add_argument("--peers", default=",".join(PEERS), metavar="NAMES", help="of %(default)s")
    parser.add_argument("--threads", type=int, default=fastrnn.get_num_threads(), metavar="N",
                        help="how many at most; default %(default)s")
    parser.add_argument("--json", metavar="FILE", help="write all that was measured")
    parser.add_argument("--compare", metavar="FILE", help="say what changed from the run that --json wrote there")
    parser.add_argument("--plot", metavar="FOLDER", help="draw ratios.png and floor.png")
    options = parser.parse_args(argv)
    options.peers = [name for name in options.peers.split(",") if name]
    unknown = [name for name in options.peers if name not in PEERS]
    if unknown:
        parser.error(f"--peers: expected some of {', '.join(PEERS)}, got {', '.join(unknown)}")
    if options.threads < 1:
        parser.error(f"--threads: expected at least 1, got {options.threads}")
    if options.json and not Path(options.json).absolute().parent.is_dir():
        parser.error(f"--json: expected a file in a folder that is there, got {options.json!r}")
    if options.plot and not Path(options.plot).is_dir():
        parser.error(f"--plot: expected a folder that is there, got {options.plot!r}")
    if options.plot and not find_spec("matplotlib"):
        parser.error("--plot: expected matplotlib to draw with, which is not installed")
    options.cases = chosen(parser, QUICK if options.quick else CASES, options.filter)
    options.compare = options.compare and earlier(parser, options.compare, options.threads)
    return options


def chosen(parser, cases, text):
    """The cases with that text in their names, capitals or not."""
    found = [case for case in cases if text.lower() in case.name.lower()]
    if not found:
        names = "".join(f"\n  {case.name}" for case in cases)
        parser.error(f"--filter: expected a part of one of{names}\ngot {text!r}")
    return found


def earlier(parser, path, threads):
    """The earlier run that a file has."""
    try:
        found = json.loads(Path(path).read_text("utf-8"))
        before = found["machine"]["threads"]
    except OSError as error:
        parser.error(f"--compare: expected a file that --json wrote, got {path!r}: {error.strerror}")
    except (ValueError, KeyError, TypeError):
        parser.error(f"--compare: expected a file that --json wrote, got {path!r}, which is none")
    if before != threads:
        parser.error(f"--compare: expected a run with --threads {threads}, got one with {before}")
    return found


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
    peers = [name for name in options.peers if installed(name)]
    running = {OURS: FastRNN()} | {name: PEERS[name]() for name in peers}

    found = machine(options.threads, running)
    print("\n".join(f"{key}: {value}" for key, value in found.items()))
    for name in options.peers:
        if name not in peers:
            print(f"{name}: not installed, so not compared with; it needs {' and '.join(PEERS[name].modules)}")
    try:
        limits = measure_limits()
        print(report.limits_line(limits))
    except NotMeasured as error:
        limits = None
        print(f"of floor: not known, {error}")
    print(flush=True)

    results = [measure(case, running, options.threads, options.quick) for case in progress(options.cases)]
    found = gather(results, peers, found, limits)
    print(report.table(found))
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1), "utf-8")
    if options.plot:
        from bench import plot  # matplotlib is optional

        plot.draw(found, Path(options.plot))
    if options.compare:
        print(f"\n{compare.table(options.compare, found)}")


if __name__ == "__main__":
    main()
