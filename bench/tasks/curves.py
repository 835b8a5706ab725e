"""What came of all trainings of a program: a table of the ends of their curves, and a picture of the curves."""

import numpy as np

from bench.tasks.needs import extra

with extra():
    from matplotlib.figure import Figure

__all__ = ["formats", "plot", "summary"]

LINES = {"fastrnn": {"color": "tab:blue"}, "torch": {"color": "tab:orange", "linestyle": "--"}}
POINTS = 100  # that a curve of losses is averaged down to


def summary(task, runs, threads):
    """A line for each cell and seed, with both ends of loss and metric; and for each cell how far they differ."""
    heads = ["loss", task.metric, f"seconds, {threads} thread{'s' * (threads > 1)}"]
    lines = ["", " " * 9 + "".join(f"   {head:^20}" for head in heads).rstrip(),
             f"{'cell':5}{'seed':>4}" + "".join(f"   {name:>9} {other:>10}" for name, other in [LINES] * len(heads))]
    cells = by_cell(runs)
    for cell, pairs in cells.items():
        for ours, its in pairs:
            lines.append(f"{cell:5}{ours.seed:4}   {ours.loss:9.4f} {its.loss:10.4f}"
                         f"   {ours.score:9.4f} {its.score:10.4f}   {ours.seconds:9.2f} {its.seconds:10.2f}")
    lines += [f"{cell}: {compared(task.metric, pairs)}" for cell, pairs in cells.items()]
    if task.baseline:
        name, score = task.baseline
        lines.append(f"{name}: {task.metric} {score:.4f}")
    return "\n".join(lines)


def by_cell(runs):
    """For each cell the pairs of runs, fastrnn's and torch's, of all seeds."""
    cells = {}
    for pair in zip(runs[::2], runs[1::2], strict=True):
        cells.setdefault(pair[0].cell, []).append(pair)
    return cells


def compared(metric, pairs):
    """The metric of both frameworks over the seeds, and whether they differ by more than seeds do."""
    scores = np.array([[run.score for run in pair] for pair in pairs])
    ranges = (f"{name} {low:.4f} to {high:.4f}"
              for name, low, high in zip(LINES, scores.min(axis=0), scores.max(axis=0), strict=True))
    ours, theirs = scores.mean(axis=0)
    apart, spread = abs(ours - theirs), np.ptp(scores[:, 1])
    verdict = "--seeds 3 shows how far seeds are" if len(pairs) == 1 else (
        f"torch's seeds {spread:.4f}: {'within' if apart <= spread else 'outside'} the spread")
    return f"{metric}: {', '.join(ranges)}; means {apart:.4f} apart, {verdict}"


def plot(task, runs, path):
    """Draw loss and metric over the steps: a row for each cell, a line for each framework and seed."""
    cells = by_cell(runs)
    figure = Figure(figsize=(11, 4 * len(cells)), layout="constrained")
    for row, (cell, pairs) in zip(figure.subplots(len(cells), 2, squeeze=False), cells.items(), strict=True):
        for pair in pairs:
            for run in pair:
                look = LINES[run.framework] | {"label": run.framework if pair is pairs[0] else None}
                row[0].plot(*averaged(run.losses), **look)
                row[1].plot(*zip(*run.scores, strict=True), **look)
        if task.baseline:
            row[1].axhline(task.baseline[1], color="grey", linestyle=":", label=task.baseline[0])
        for axes, name in zip(row, ("loss", task.metric), strict=True):
            axes.set(title=f"{cell}: {name}", xlabel="step")
            axes.legend()
    figure.savefig(path, dpi=120)


def formats():
    """Endings of the files that `plot` can write."""
    return sorted(Figure().canvas.get_supported_filetypes())


def averaged(losses):
    """Steps and losses, as the means of stretches of them."""
    stretches = np.array_split(losses, min(POINTS, len(losses)))
    return np.cumsum([len(stretch) for stretch in stretches]), [stretch.mean() for stretch in stretches]
