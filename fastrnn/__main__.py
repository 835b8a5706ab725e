"""python -m fastrnn: what is installed and in use, whether it computes right, and a demonstration."""

import argparse
import platform
import sys

import numpy as np

import fastrnn
from fastrnn import check, demo, kernels, threads


def info():
    """Print version, build, threads, and what they rest on."""
    compiler = kernels.load("generic", np.float32).compiler()
    print(f"fastrnn  {fastrnn.__version__}")
    print(f"build    {kernels.build}: {kernels.reason}; this processor runs {', '.join(kernels.runnable())}")
    print(f"threads  {threads.get_num_threads()}: {threads.reason()}")
    print(f"compiler {compiler}")
    print(f"numpy    {np.__version__}, Python {platform.python_version()}, {platform.platform()}")


def positive_integer(text):
    """An argument that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text!r}")
    return int(text)


def seed(text):
    """An argument that seeds a generator."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected an integer of at least 0, got {text!r}")
    return int(text)


def parse(arguments):
    """The command line, as a namespace."""
    parser = argparse.ArgumentParser(prog="fastrnn", description=__doc__.partition(": ")[2])
    commands = parser.add_subparsers(dest="command", required=True, metavar="{info,check,demo}")
    commands.add_parser("info", help="version, build of the kernels, threads, and why")
    commands.add_parser("check", help="hold the kernels of this installation to the NumPy reference")
    demonstration = commands.add_parser("demo", help="train a network to write text; a quarter of a minute")
    demonstration.add_argument("--text", metavar="FILE", help="learn from this file, in UTF-8")
    demonstration.add_argument("--seed", type=seed, default=0, metavar="N",
                               help="of the initial weights and of the samples (default: %(default)s)")
    demonstration.add_argument("--steps", type=positive_integer, default=demo.STEPS, metavar="N",
                               help="of training (default: %(default)s)")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Run a subcommand; its exit status: 0, or 1 for a check that fails, or 2 for arguments that are wrong."""
    options = parse(arguments)
    if options.command == "info":
        info()
    elif options.command == "check":
        return 0 if check.run() else 1
    else:
        try:
            demo.run(options.text, options.seed, options.steps)
        except demo.TextError as error:
            print(f"fastrnn demo: {error}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
