"""The benchmark: fastrnn beside the other ways to run a recurrent network on a CPU. Run it by `python -m bench`.

`cases` is the list of what is timed, each a `case`; `peers` of whom it is timed against, one class each. `measure`
checks and times one case, and `timing` has the clock. `limits` measures what the processor can do at most, and `floor`
counts what time that is for a case. `results` gathers all of it, with the `machine`, into one dict; from that come the
table (`report`), what changed since another run (`compare`) and the pictures (`plot`).

`python -m bench.shipping` has a table of its own: what a model costs in PyTorch, with fastrnn in it, and without it.

A new shape is a line in `cases`. A new cell is a row in `case.CELLS`, and an equation in those peers that have none of
their own.
"""
