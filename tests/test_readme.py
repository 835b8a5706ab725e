"""The README's programs run, and do what it says."""

import re
from pathlib import Path

import numpy as np

import fastrnn

PROGRAMS = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text(), re.S)


def names_after(program):
    names = {}
    exec(program, names)
    return names


def test_every_program_is_run_here():
    assert len(PROGRAMS) == 8


def test_walk_through():
    names = names_after(PROGRAMS[0])
    assert names["h"].shape == (1, 2) and names["output"].shape == (3, 1, 2) and names["h_n"].shape == (5, 1, 2)


def test_training_loop_learns():
    assert names_after(PROGRAMS[1])["loss"] < 0.5  # from log 8 = 2.1


def test_lengths_and_resets(capsys):
    names_after(PROGRAMS[2])
    assert capsys.readouterr().out.splitlines() == ["False False", "True", "True"]


def test_streaming():
    names = names_after(PROGRAMS[3])
    x = np.random.default_rng(0).standard_normal((100, 1, 16), np.float32)
    twin = fastrnn.LSTM(16, 64)
    twin.load_state_dict({f"{name}_l0": value for name, value in names["cell"].params.items()})
    for carried, final in zip(names["state"], twin(x)[1], strict=True):
        assert np.array_equal(carried, final[0, 0])
    blocks = np.random.default_rng(0).standard_normal((5, 20, 1, 16), np.float32)
    output, h_n = names["layer"](blocks.reshape(100, 1, 16))
    assert np.array_equal(names["output"], output[80:]) and np.array_equal(names["h_n"], h_n)


def test_truncated_back_propagation_learns():
    assert names_after(PROGRAMS[4])["loss"] < 0.02  # the mean square of a sine is 0.5


def test_from_pytorch(capsys):
    names = names_after(PROGRAMS[5])
    assert capsys.readouterr().out == "fastrnn\n"
    assert names["model"]["lstm"].weight_ih_l0.grad is not None


def test_files(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names_after(PROGRAMS[6])
    assert capsys.readouterr().out == "{'encoder': GRU(4, 8, num_layers=2), 'head': Linear(8, 3)}\n"


def test_onnx(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names_after(PROGRAMS[7])
    assert capsys.readouterr().out.splitlines() == ["LSTM(8, 8) ('initial_h', 'initial_c')", "True"]
