"""The command line that all programs have: what to train, and for how long."""

import argparse
import inspect
from pathlib import Path

import numpy as np

import fastrnn
from bench.tasks import curves
from bench.tasks.needs import extra
from bench.tasks.training import Run, learners, train
from fastrnn.__main__ import positive_integer

with extra():
    import torch

__all__ = ["main"]


def arguments(task, argv=None):
    """Parse the command line."""
    about = inspect.getmodule(task).__doc__.partition("\n")[0]
    parser = argparse.ArgumentParser(prog=f"python -m bench.tasks.{task.__name__.lower()}", description=about)

    def number(option, default, meaning):
        parser.add_argument(option, type=positive_integer, metavar="N", default=default,
                            help=f"{meaning} (default: %(default)s)")

    parser.add_argument("--cell", nargs="+", choices=task.choices, default=task.cells,
                        help=f"what to train, one after another (default: {' '.join(task.cells)})")
    number("--hidden", task.hidden, "units of a recurrent layer")
    number("--steps", task.steps, "of training")
    number("--seeds", 1, "how often to train, with other weights and batches each time")
    number("--threads", fastrnn.get_num_threads(), "of fastrnn and of torch")
    parser.add_argument("--plot", metavar="FILE", help="draw loss and metric, into an image such as curves.png")
    options = parser.parse_args(argv)
    if options.plot:
        path = Path(options.plot)
        if not path.absolute().parent.is_dir():
            parser.error(f"--plot: expected a file in a folder that is there, got {options.plot!r}")
        if path.suffix[1:] not in curves.formats():
            parser.error(f"--plot: expected a name that ends in one of {', '.join(curves.formats())}, "
                         f"got {options.plot!r}")
    return options


def main(task, argv=None):
    """Train as the command line says, and sum up."""
    options = arguments(task, argv)
    fastrnn.set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    task = task()
    runs = []
    for cell in options.cell:
        for seed in range(options.seeds):
            weights, order = np.random.SeedSequence(seed).spawn(2)
            for learner in learners(task, cell, options.hidden, np.random.default_rng(weights)):
                batches = task.batches(np.random.default_rng(order))
                runs.append(train(task, learner, Run(learner.name, cell, seed), batches, options.steps))
    print(curves.summary(task, runs, options.threads))
    if options.plot:
        curves.plot(task, runs, options.plot)
