"""What mypy --strict says of a user's program: nothing of a right one, and of a wrong one what is wrong."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_readme import PROGRAMS

import fastrnn

RIGHT = """
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastrnn

Array = NDArray[np.floating[Any]]


def train(layers: list[fastrnn.RNN | fastrnn.GRU], head: fastrnn.Linear, x: Array, target: Array) -> float:
    optimizer = fastrnn.SGD([*layers, head], lr=0.1, momentum=0.9)
    output, h_n, tape = layers[0].forward(x)
    y, head_tape = head.forward(output)
    loss, d_y = fastrnn.mse(y, target)
    head_grads: fastrnn.Gradients = head.backward(head_tape, d_y)
    grads = layers[0].backward(tape, head_grads.input, np.zeros_like(h_n))
    total = grads + grads
    total += grads
    fastrnn.clip_grad_norm([total, head_grads], 1.0)
    optimizer.step([total, head_grads])
    return loss


x = np.zeros((5, 2, 4))
lstm = fastrnn.LSTM(4, 8, 2, bidirectional=True, proj_size=3, dtype=np.float64, peephole=True,
                    rng=np.random.default_rng(0))
output, (h_n, c_n) = lstm(x, lengths=[5, 3])
output, (h_n, c_n), cells = lstm(x, return_cells=True)
output, state, cells, tape = lstm.forward(x, (h_n, c_n), return_cells=True)
grads = lstm.backward(tape, output, (None, c_n), cells)
weight: Array = grads.params["weight_ih_l0"] + lstm.params["weight_ih_l0"]

packed, state = lstm(fastrnn.pack_sequence([x[:, 0], x[:3, 1]]))
rows: int = packed.rows()
padded, lengths = fastrnn.pad_packed_sequence(packed)

cell = fastrnn.LSTMCell(4, 8, device="cpu", dtype="float64", peephole=True)
h, c = cell(x[0], out=cell(x[0]))
h_gru: Array = fastrnn.GRUCell(4, 8, reset_after=False, dtype=np.float64)(x[0], h)

gru = fastrnn.GRU(4, 8)
size: int = gru.hidden_size + gru.num_layers
rate: float = gru.dropout
rng: np.random.Generator = gru.rng
gru.params["weight_ih_l0"] = [[1.0] * 4] * 24
gru.load_state_dict({"encoder." + name: value for name, value in gru.state_dict().items()}, prefix="encoder")
adam = fastrnn.Adam(gru)
adam.lr /= 2
saved: dict[str, Any] = adam.state_dict()
fastrnn.set_num_threads(fastrnn.get_num_threads())
p: Array = fastrnn.softmax([1.0, 2.0])
"""

# Each line that is wrong, with mypy's name for what is wrong with it.
WRONG = """
import numpy as np

import fastrnn

x = np.zeros((5, 2, 4), np.float32)
lstm = fastrnn.LSTM(4, 8)
fastrnn.GRU("4", 8)  # arg-type
fastrnn.GRU(4, 8, droput=0.5)  # call-arg
fastrnn.GRU(4, 8, peephole=True)  # call-arg
output, h_n, c_n = lstm(x)  # misc
output, state = lstm(x, return_cells=True)  # misc
output, tape = lstm.forward(x)  # misc
lstm(x, x)  # call-overload
lstm(fastrnn.pack_sequence([x[:, 0]]), lengths=[5])  # arg-type
fastrnn.LSTMCell(4, 8)(x, 3)  # arg-type
fastrnn.Linear(4, 8).backward(x, x)  # arg-type
fastrnn.Adam([fastrnn.GRU(4, 8), 3])  # list-item
gradient: np.ndarray = fastrnn.mse(x, x)[0]  # assignment
fastrnn.GRU(4, 8).weight_ih_l0  # attr-defined
lstm.num_layers = "2"  # assignment
lstm.load_state_dict([x])  # arg-type
fastrnn.set_num_threads("2")  # arg-type
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A list of (program, line, name) of mypy's errors; all programs in one run, for the time it takes."""
    folder = tmp_path_factory.mktemp("programs")
    # Beside the programs mypy finds the package wherever it is installed, or not; silent is what it then is about the
    # package's own sources, as it is in any case of an installed one.
    (folder / "fastrnn").symlink_to(Path(fastrnn.__file__).parent)
    programs = {f"readme_{i}.py": text for i, text in enumerate(PROGRAMS)} | {"right.py": RIGHT, "wrong.py": WRONG}
    for name, text in programs.items():
        (folder / name).write_text(text)
    run = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", *programs], cwd=folder,
                         text=True, capture_output=True)
    assert run.returncode == 1 and not run.stderr, run.stdout + run.stderr
    return [(program, int(line), name)
            for program, line, name in re.findall(r"^(.+?):(\d+): error: .*\[(.+)\]$", run.stdout, re.M)]


def test_right_programs_and_the_readmes_are_accepted(found):
    assert [error for error in found if error[0] != "wrong.py"] == []


def test_every_error_of_a_wrong_program_is_found(found):
    marks = [(i, line.partition("  # ")[2]) for i, line in enumerate(WRONG.splitlines(), 1) if "  # " in line]
    assert [error[1:] for error in found if error[0] == "wrong.py"] == marks


def test_right_program_runs():
    exec(RIGHT, {})
