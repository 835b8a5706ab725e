"""The benchmark: fastrnn beside the other ways to run a recurrent network on a CPU. Run it by `python -m bench`.

`cases` is the list of what is timed, `peers` of whom it is timed against, one class each; `measure` checks and
times one case, `timing` has the clock, `report` the machine, the table and the JSON. A new cell is a row in
`cases.CELLS` and `cases.SHAPES`, and an equation in those peers that have none of their own.
"""
