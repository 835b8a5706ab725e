"""Two pictures of a run: how many times longer than ours the best peer's time is, and how near ours is to the floor.

Each has a panel for inference and one for training, a row for each shape, and in it a mark for each kind of cell.
"""

from matplotlib.figure import Figure

from bench.case import CELLS, TASKS

__all__ = ["draw"]

LOOKS = {  # of a kind of cell: a mark, its color, and where in its row it is, so that none covers another
    "RNN": ("o", "tab:blue", -0.2),
    "LSTM": ("s", "tab:orange", 0.0),
    "GRU": ("^", "tab:green", 0.2),
}
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)  # of ratios
LETTERS = ("T steps, B sequences, I inputs, H hidden units, P features of a projected state, L layers, "
           "both directions. Above: a grid of shapes; below: published models")


def draw(found, folder):
    """Write ratios.png, if any peer took part, and floor.png, if the limits are known.

    Parameters
    ----------
    found : dict
        What `results.gather` gave.
    folder : Path
    """
    threads = found["machine"]["threads"]
    where = f"{found['machine']['processor']}, {threads} thread{'s' * (threads > 1)}, float32"
    for name, key, title, scale in [
        ("ratios.png", "best_over_ours", "Time of the fastest peer / time of fastrnn", scale_of_ratios),
        ("floor.png", "of_floor", "Least possible time of the matrix products / time of fastrnn", scale_of_parts),
    ]:
        cases = [case for case in found["cases"] if case[key] is not None]
        if cases:
            figure, panels = marks(cases, key)
            scale(panels, [case[key] for case in cases])
            figure.suptitle(f"{title}\n{where}")
            figure.savefig(folder / name, dpi=110)


def marks(cases, key):
    """A figure with all marks, and its panels, which have the same axes."""
    rows = list(dict.fromkeys(map(label, cases)))
    grid = len({label(case) for case in cases if not case["model"]})
    figure = Figure(figsize=(12, 2.2 + 0.24 * len(rows)), layout="constrained")
    panels = figure.subplots(1, len(TASKS), sharex=True, sharey=True)
    for panel, task in zip(panels, TASKS, strict=True):
        for kind in CELLS:
            mark, color, place = LOOKS[kind]
            mine = [case for case in cases if case["task"] == task and case["cell"].startswith(kind)]
            panel.scatter([case[key] for case in mine], [rows.index(label(case)) + place for case in mine],
                          marker=mark, color=color, label=kind, zorder=3)
        panel.set(title=task, ylim=(len(rows) - 0.5, -0.5))
        panel.set_yticks(range(len(rows)), rows)
        panel.grid(color="0.9")
        panel.axhline(grid - 0.5, color="0.5", linewidth=1)
        panel.axvline(1, color="tab:red")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=len(CELLS))
    figure.supxlabel(LETTERS, fontsize="small", color="0.4")
    return figure, panels


def label(case):
    """What the row of a case is called."""
    as_cell = ", a cell" * case["cell"].endswith("Cell")
    return f"{case['model']}: {case['shape']}{as_cell}".removeprefix(": ")


def scale_of_ratios(panels, values):
    """A log axis, with what is slower than a peer in red."""
    low, high = min(0.8, min(values) / 1.1), max(5, max(values) * 1.1)
    for panel in panels:
        panel.set(xscale="log", xlim=(low, high), xlabel="times as long as fastrnn; left of 1 a peer is faster")
        ticks = [tick for tick in TICKS if low <= tick <= high]
        panel.set_xticks(ticks, map(str, ticks))
        panel.minorticks_off()
        panel.axvspan(low, 1, color="tab:red", alpha=0.08)


def scale_of_parts(panels, values):
    """From 0 to 100 %, or to more where the clock ran faster than when the limits were measured."""
    for panel in panels:
        panel.set(xlim=(0, max(1, *values) + 0.05), xlabel="100 % is the floor")
        panel.xaxis.set_major_formatter("{x:.0%}")
