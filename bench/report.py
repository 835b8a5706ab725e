"""What the benchmark says: the machine, the table, the JSON."""

import platform
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import fastrnn
from bench import timing
from bench.measure import OURS
from bench.peers import Reference
from fastrnn import kernels

__all__ = ["as_json", "machine", "sgemm_peak", "table"]

ALONE = 1.2  # fastrnn that is so many times faster with one thread than with more gets a line of its own

NOTES = """\
us: median over rounds of the time of a call, and (in brackets) with how many threads that was the peer's best;
    jax takes what threads it takes, numpy too without threadpoolctl. fastrnn is free to use all {threads}.
GFLOP/s: of the matrix products, fastrnn. of sgemm: as a part of the best product of two 1024 x 1024 matrices that
    NumPy or torch made with those threads, {peak:.1f} GFLOP/s. That is a yardstick, not a floor: a batch of few
    rows is bound by reading the weights.
best, torch, numpy / ours: how many times longer the fastest peer, torch and the NumPy reference took."""


def machine(threads, running):
    """Versions, processor and threads.

    Parameters
    ----------
    threads : int
    running : dict of str to Peer

    Returns
    -------
    dict of str to str or int
    """
    found = {"processor": processor(), "system": platform.platform(), "threads": threads,
             "python": platform.python_version(), OURS: f"{fastrnn.__version__} (build {kernels.build})"}
    modules = sorted({module for peer in running.values() for module in peer.modules} - {OURS} | {"numpy"})
    found |= {module: version(module) for module in modules}
    return found | {"BLAS of numpy": blas()}


def processor():
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def blas():
    """The library behind NumPy's matrix products, its kernels (which OPENBLAS_CORETYPE can change) and threads."""
    if not find_spec("threadpoolctl"):
        return "not known, threadpoolctl is not installed"
    from threadpoolctl import ThreadpoolController

    np.ones((2, 2)) @ np.ones((2, 2))
    libraries = [info for info in ThreadpoolController().info()
                 if info["user_api"] == "blas" and "numpy" in info["filepath"]]
    keys = ("internal_api", "version", "architecture", "num_threads")
    described = [" ".join(f"{key.replace('num_', '')}={info.get(key)}" for key in keys) for info in libraries]
    return "; ".join(described) or "not known to threadpoolctl"


def sgemm_peak(threads, torch=None):
    """GFLOP/s of the best float32 product of large matrices, by NumPy or, where it is given, torch."""
    n = 1024
    Reference().set_threads(threads)
    a, b = np.random.default_rng(0).standard_normal((2, n, n), np.float32)
    out = np.empty_like(a)
    seconds = timing.best(lambda: np.matmul(a, b, out=out))
    if torch is not None:
        torch.set_num_threads(threads)
        ta, tb, tout = map(torch.from_numpy, (a, b, out))
        seconds = min(seconds, timing.best(lambda: torch.mm(ta, tb, out=tout)))
    return 2e-9 * n**3 / seconds


def summary(measured, peers, threads, peak):
    """The numbers of a line of the table, by name; None where a peer does not take part."""
    ours, alone = measured.of(OURS, threads).us, measured.of(OURS, 1)
    theirs = {peer: measured.of(peer) for peer in peers}
    us = {peer: timed and timed.us for peer, timed in theirs.items()}
    fastest = min((time for time in us.values() if time is not None), default=None)
    gflops = 1e-3 * measured.case.flops / ours

    def ratio(time):
        return None if time is None else time / ours

    return {
        "ours_us": ours, "ours_alone_us": alone and alone.us, "gflops": gflops, "of_sgemm": gflops / peak,
        "peers_us": us, "peers_threads": {peer: timed and timed.threads for peer, timed in theirs.items()},
        "best_over_ours": ratio(fastest), "torch_over_ours": ratio(us.get("torch")),
        "numpy_over_ours": ratio(us.get("numpy")),
    }


def table(results, peers, threads, peak):
    """The table, in Markdown, and what its columns mean."""
    head = ["case", "ours us", "GFLOP/s", "of sgemm", *(f"{peer} us" for peer in peers),
            "best / ours", "torch / ours", "numpy / ours"]
    rows, better_alone = [head], []
    for measured in results:
        line = summary(measured, peers, threads, peak)
        if (line["ours_alone_us"] or line["ours_us"]) * ALONE < line["ours_us"]:
            better_alone.append(f"{measured.case.name}: one thread took {shown(line['ours_alone_us'])} us, "
                                f"up to {threads} took {shown(line['ours_us'])}")
        theirs = []
        for peer in peers:
            number = line["peers_threads"][peer]
            theirs.append(shown(line["peers_us"][peer]) + (f" ({number})" if number else ""))
        ratios = [shown(line[f"{name}_over_ours"], ".2f") for name in ("best", "torch", "numpy")]
        rows.append([measured.case.name, shown(line["ours_us"]), shown(line["gflops"]),
                     shown(line["of_sgemm"], ".0%"), *theirs, *ratios])
    return "\n".join([*markdown(rows), "", NOTES.format(threads=threads, peak=peak), *better_alone])


def markdown(rows):
    """Lines of a Markdown table of text cells, the first row its head; the first column left, all others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = []
    for row in [rows[0], rule, *rows[1:]]:
        numbers = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("| " + " | ".join([row[0].ljust(widths[0]), *numbers]) + " |")
    return lines


def shown(number, form=None):
    """A number in a table cell; times and speeds with three or more digits."""
    if number is None:
        return "-"
    return format(number, form or (".0f" if number >= 100 else ".1f" if number >= 10 else ".2f"))


def as_json(results, peers, missing, threads, peak, found):
    """All that was measured, as what `json.dump` takes: the lines of the table, and every sample behind them."""
    cases = []
    for measured in results:
        timed = [{"peer": one.peer, "threads": one.threads, "us": one.us, "samples_us": [1e6 * s for s in one.samples]}
                 for one in measured.timed]
        cases.append({"name": measured.case.name, **asdict(measured.case), "flops": measured.case.flops,
                      **summary(measured, peers, threads, peak), "timed": timed})
    return {"machine": found, "sgemm_gflops": peak, "not_installed": missing, "cases": cases}
