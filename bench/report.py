"""What the benchmark says about a run: a table of all cases, what its columns mean, and what comes of it."""

from bench.results import ratio, slower

__all__ = ["limits_line", "markdown", "shown", "table"]

ALONE = 1.2  # fastrnn that is so many times faster with one thread than with more gets a line of its own

NOTES = """\
us: median over rounds of the time of a call, and (in brackets) with how many threads that was the peer's best;
    jax takes what threads it takes, numpy too without threadpoolctl. fastrnn is free to use all {threads}.
GFLOP/s: of the matrix products, fastrnn. of floor: the time that these cannot take less than, by the limits above, as a
    part of ours (bench/floor.py says how it is counted).
best, torch, numpy / ours: how many times longer the fastest peer, torch and the NumPy reference took."""


def limits_line(limits):
    """What one core was measured to do at most."""
    reads = ", ".join(f"{level.name} {level.gb_s:.0f}" for level in limits.levels)
    return f"limits of a core: {limits.gflops:.0f} GFLOP/s; GB/s read from {reads}"


def table(found):
    """The table, in Markdown, of what `results.gather` gave; what its columns mean; and what comes of it."""
    peers, threads = found["peers"], found["machine"]["threads"]
    head = ["case", "ours us", "GFLOP/s", "of floor", *(f"{peer} us" for peer in peers),
            "best / ours", "torch / ours", "numpy / ours"]
    rows = [head, *(row(case, peers) for case in found["cases"])]
    lines = [*markdown(rows), "", NOTES.format(threads=threads), *better_alone(found["cases"], threads), ""]
    return "\n".join(lines + conclusion(found))


def row(case, peers):
    """The cells of a case."""
    theirs = []
    for peer in peers:
        number = case["peers_threads"][peer]
        theirs.append(shown(case["peers_us"][peer]) + (f" ({number})" if number else ""))
    ratios = [ratio(case["peers_us"].get(peer), case["ours_us"]) for peer in ("torch", "numpy")]
    return [case["name"], shown(case["ours_us"]), shown(case["gflops"]), shown(case["of_floor"], ".0%"), *theirs,
            *(shown(number, ".2f") for number in [case["best_over_ours"], *ratios])]


def better_alone(cases, threads):
    """A line for each case in which fastrnn had better used one thread."""
    return [f"{case['name']}: one thread took {shown(case['ours_alone_us'])} us, "
            f"up to {threads} took {shown(case['ours_us'])}"
            for case in cases if (case["ours_alone_us"] or case["ours_us"]) * ALONE < case["ours_us"]]


def conclusion(found):
    """The mean of all cases, and the cases in which a peer was faster."""
    cases = [case for case in found["cases"] if case["best_over_ours"] is not None]
    if not cases:
        return ["no peer to compare with"]
    means = ", ".join(f"{task} {mean:.2f}" for task, mean in found["best_over_ours"].items() if mean is not None)
    behind = slower(cases)
    lines = [f"{case['name']}: {peer} took {shown(case['peers_us'][peer])} us, fastrnn {shown(case['ours_us'])}"
             for case, peer in behind]
    return [f"best / ours, geometric means of {len(cases)} cases: {means}",
            f"slower than a peer: {len({case['name'] for case, _ in behind})} of {len(cases)} cases", *lines]


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
