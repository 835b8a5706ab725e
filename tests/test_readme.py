"""The README's programs run, and do what it says."""

import re
from pathlib import Path

PROGRAMS = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text(), re.S)


def test_walk_through():
    names = {}
    exec(PROGRAMS[0], names)
    assert names["h"].shape == (1, 2) and names["output"].shape == (3, 1, 2) and names["h_n"].shape == (5, 1, 2)


def test_training_loop_learns():
    names = {}
    exec(PROGRAMS[1], names)
    assert names["loss"] < 0.5  # from log 8 = 2.1
