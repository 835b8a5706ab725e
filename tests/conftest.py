"""What several files of tests are given: the modules of the benchmark, and made-up results of it."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import fastrnn

ROOT = Path(__file__).parents[1]  # bench/ lies beside tests/ and is not installed
MODULES = ["__main__", "case", "cases", "compare", "floor", "limits", "measure", "peers", "report", "results", "timing"]


@pytest.fixture(autouse=True)
def threads():
    """The number of threads is after each test what it was before."""
    before = fastrnn.get_num_threads()
    yield
    fastrnn.set_num_threads(before)


@pytest.fixture(autouse=True)
def memory_of_small_tapes_is_used_again(monkeypatch):
    """As that of large ones is."""
    monkeypatch.setattr(fastrnn.reserve, "LARGE", 1)


@pytest.fixture
def torch_seed():
    """torch's random numbers begin anew."""
    import torch

    torch.manual_seed(0)


@pytest.fixture
def bench(monkeypatch):
    """The benchmark's modules, beside whichever fastrnn is under test."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT)])
    modules = SimpleNamespace(**{name: importlib.import_module(f"bench.{name}") for name in MODULES})
    monkeypatch.setattr(modules.limits, "SECONDS", 0.01)
    return modules


@pytest.fixture
def limits(bench):
    """Limits that are easily reckoned with: 8 GFLOP/s, a cache of 1000 bytes, and one of 4000 that two cores share."""
    levels = ("L1", 1000, 1, 10.0), ("L2", 4000, 2, 5.0), ("memory", None, 1, 2.0)
    return bench.limits.Limits(8.0, [bench.limits.Level(*level) for level in levels])


@pytest.fixture
def gathered(bench, limits):
    """A function that makes the results of a run, of samples in microseconds by case, and by peer and threads."""

    def gather(by_case, limits=limits, threads=2, **machine):
        results = [bench.measure.Measured(case, [bench.measure.Timed(peer, number, [us / 1e6 for us in taken])
                                                 for (peer, number), taken in samples.items()])
                   for case, samples in by_case.items()]
        peers = sorted({peer for samples in by_case.values() for peer, _ in samples} - {"fastrnn"})
        machine = {"processor": "some", "threads": threads, "fastrnn": "0 (build v3)", "torch": "2"} | machine
        return bench.results.gather(results, peers, machine, limits)

    return gather
