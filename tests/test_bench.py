"""python -m bench: what it times, that it checks before it times, and what it says. Nothing about speed."""

import importlib
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import fastrnn
from fastrnn import reference

ROOT = Path(__file__).parents[1]  # bench/ lies beside tests/ and is not installed
MODULES = ["__main__", "cases", "measure", "peers", "report", "timing"]


@pytest.fixture
def bench(monkeypatch):
    """The benchmark's modules, beside whichever fastrnn is under test."""
    threads = fastrnn.get_num_threads()
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT)])
    yield SimpleNamespace(**{name: importlib.import_module(f"bench.{name}") for name in MODULES})
    fastrnn.set_num_threads(threads)


def in_a_process(code, folder):
    """What a Python program prints that can import bench, and the fastrnn under test."""
    path = [str(Path(fastrnn.__file__).parents[1]), str(ROOT)]  # the first has the kernels, the second may not
    code = f"import sys; sys.path += {path!r}\n{code}"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=os.environ, capture_output=True, text=True,
                          encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def rows(table):
    """The cells of each line of a Markdown table, the rule below its head aside."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in [lines[0], *lines[2:]]]


def test_cases_have_names_of_their_own(bench):
    names = [case.name for case in bench.cases.CASES]
    assert len(set(names)) == len(names)
    for name in ("RNN inference T1 B1 I128 H128", "RNN training T100 B1 I32 H32",
                 "LSTM inference T63 B1 I24 H32 both", "GRU training T50 B64 I512 H512 L2",
                 "LSTMCell inference T1 B1 I64 H64"):
        assert name in names
    assert 0 < sum(case.quick for case in bench.cases.CASES) < len(names)


def test_flops_of_a_stack_counted_by_hand(bench):
    case = bench.cases.Case("RNN", "inference", 5, 2, 3, 4, 2, True)
    first, second = 4 * 3 + 4 * 4, 4 * 8 + 4 * 4  # multiplications for a row, a step and a direction
    assert case.flops == 2 * 5 * 2 * 2 * (first + second)
    assert bench.cases.Case("RNN", "training", 5, 2, 3, 4, 2, True).flops == 3 * case.flops
    assert bench.cases.Case("LSTM", "inference", 5, 2, 3, 4, 2, True).flops == 4 * case.flops
    assert bench.cases.Case("GRUCell", "inference", 1, 2, 3, 4).flops == 3 * 2 * 2 * first


@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_names_of_parameters_are_those_of_the_layer(bench, cell):
    arrays = bench.cases.Case(cell, "inference", 5, 2, 3, 4, 2, True).arrays()
    assert {name: array.shape for name, array in arrays.params.items()} == getattr(fastrnn, cell)(
        3, 4, 2, bidirectional=True).params.shapes


def test_quick_run_shows_a_table_and_writes_json(tmp_path):
    arguments = ["bench", "--quick", "--filter", "T100 B1 I32 H32", "--peers", "torch,numpy", "--threads", "2",
                 "--json", "found.json"]
    code = f"import runpy; sys.argv = {arguments!r}; runpy.run_module('bench', run_name='__main__', alter_sys=True)"
    shown, errors = in_a_process(code, tmp_path)
    assert errors == ""  # no progress bar where there is no terminal
    head, *lines = rows(shown)
    assert head == ["case", "ours us", "GFLOP/s", "of sgemm", "torch us", "numpy us",
                    "best / ours", "torch / ours", "numpy / ours"]
    names = [f"{cell} {task} T100 B1 I32 H32" for cell in ("RNN", "LSTM", "GRU") for task in ("inference", "training")]
    assert [line[0] for line in lines] == names
    for part in (f"numpy: {np.__version__}\n", "torch: 2.", "processor: ", "threads: 2\n",
                 f"fastrnn: {fastrnn.__version__} (build {fastrnn.kernels.build})\n", "BLAS of numpy: "):
        assert part in shown

    found = json.loads((tmp_path / "found.json").read_text("utf-8"))
    assert found["sgemm_gflops"] > 0 and found["not_installed"] == [] and found["machine"]["threads"] == 2
    assert [case["name"] for case in found["cases"]] == names
    for case, line in zip(found["cases"], lines, strict=True):
        assert {timed["peer"] for timed in case["timed"]} == {"fastrnn", "torch", "numpy"}
        assert all(len(timed["samples_us"]) == 3 and min(timed["samples_us"]) > 0 for timed in case["timed"])
        ours, = (timed["us"] for timed in case["timed"] if (timed["peer"], timed["threads"]) == ("fastrnn", 2))
        torch = min(timed["us"] for timed in case["timed"] if timed["peer"] == "torch")
        numpy = min(timed["us"] for timed in case["timed"] if timed["peer"] == "numpy")
        assert case["ours_us"] == ours and case["ours_alone_us"] in (None, *(
            timed["us"] for timed in case["timed"] if timed["peer"] == "fastrnn"))
        assert case["peers_us"] == {"torch": torch, "numpy": numpy}
        assert case["torch_over_ours"] == torch / ours and case["numpy_over_ours"] == numpy / ours
        assert case["best_over_ours"] == min(torch, numpy) / ours
        assert case["gflops"] == pytest.approx(case["flops"] / ours / 1000)
        assert line[-3:] == [f"{case[name + '_over_ours']:.2f}" for name in ("best", "torch", "numpy")]


def test_all_installed_peers_agree_on_a_stack_of_both_directions(tmp_path):
    # In a process of its own: jax warns at every later fork of a process that it has been used in.
    code = """if True:
        from bench import peers
        from bench.cases import TASKS, Case
        from bench.measure import measure
        running = {"fastrnn": peers.FastRNN()}
        running |= {name: peer() for name, peer in peers.PEERS.items() if peers.installed(name)}
        for task in TASKS:
            shapes = [(kind, 5, 2, 3, 4, 2, True) for kind in ("RNN", "LSTM", "GRU")]
            shapes += [(kind + "Cell", 1, 2, 3, 4) for kind in ("RNN", "LSTM", "GRU")]
            for kind, *shape in shapes:
                measured = measure(Case(kind, task, *shape), running, 2, quick=True)
                print(task, *sorted({timed.peer for timed in measured.timed}))"""
    shown, _ = in_a_process(code, tmp_path)
    needs = {"torch": ["torch"], "onnxruntime": ["onnx", "onnxruntime"], "jax": ["jax"]}
    expected = {"fastrnn", "numpy"} | {name for name, modules in needs.items() if all(map(find_spec, modules))}
    lines = [line.split() for line in shown.splitlines()]
    assert len(lines) == 12
    for task, *took_part in lines:
        assert set(took_part) == (expected if task == "inference" else expected - {"onnxruntime"})


@pytest.mark.parametrize("wrong", [lambda a: a * 1.01, lambda a: a + np.nan * (a == a.max()), lambda a: a[:-1]])
@pytest.mark.parametrize("array", ["output", "h_n", "the gradient of input", "the gradient of weight_hh_l0"])
@pytest.mark.parametrize("name, cls", [("fastrnn", "FastRNN"), ("torch", "Torch")])
def test_wrong_result_is_an_error_that_names_case_and_peer(bench, monkeypatch, name, cls, array, wrong):
    peer = getattr(bench.peers, cls)
    right = peer.prepare

    def prepare(*arguments):
        call, read = right(*arguments)
        return call, lambda result: {key: wrong(value) if key == array else value
                                     for key, value in read(result).items()}

    monkeypatch.setattr(peer, "prepare", prepare)
    monkeypatch.setattr(bench.measure.timing, "in_rounds", lambda *_: pytest.fail("timed before it was checked"))
    case = bench.cases.Case("RNN", "training", 5, 2, 3, 4)
    with pytest.raises(bench.measure.WrongResult, match=f"^RNN training T5 B2 I3 H4: {name}: {array}: expected"):
        bench.measure.measure(case, {name: peer()}, 1)


def test_a_missing_array_is_an_error(bench):
    with pytest.raises(bench.measure.WrongResult, match=r"^torch: expected output, h_n, got output$"):
        bench.measure.check("torch", {"output": np.ones(1)}, {"output": np.ones(1), "h_n": np.ones(1)})


def test_a_peer_that_is_not_installed_is_said(bench, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(bench.peers, "find_spec", lambda module: None if module == "torch" else find_spec(module))
    path = tmp_path / "found.json"
    bench.__main__.main(["--quick", "--filter", "RNN inference T100 B1 I32", "--peers", "torch", "--json", str(path)])
    shown = capsys.readouterr().out
    assert "torch: not installed, so not compared with; it needs torch\n" in shown
    head, line = rows(shown)
    assert "torch us" not in head and line[-3:] == ["-", "-", "-"]
    found = json.loads(path.read_text("utf-8"))
    assert found["not_installed"] == ["torch"] and found["cases"][0]["best_over_ours"] is None


@pytest.mark.parametrize("arguments, message", [
    (["--peers", "torch,keras"], "--peers: expected some of torch, onnxruntime, jax, numpy, got keras"),
    (["--threads", "0"], "--threads: expected at least 1, got 0"),
    (["--filter", "T7"], "--filter: expected a part of one of"),
    (["--json", "nowhere/found.json"], "--json: expected a file in a folder that is there, got 'nowhere/found.json'"),
    (["--quick", "--filter", "I1024"], "GRU training T100 B1 I128 H128\ngot 'I1024'"),
])
def test_wrong_arguments_are_said(bench, capsys, arguments, message):
    with pytest.raises(SystemExit):
        bench.__main__.main(arguments)
    assert message in capsys.readouterr().err


def test_rounds_alternate_and_set_up_before_each_sample(bench, monkeypatch):
    happened = []
    monkeypatch.setattr(bench.timing, "settle", lambda: None)
    contestants = [(lambda k=k: happened.append(f"set up {k}"), lambda k=k: happened.append(k)) for k in range(3)]
    samples = bench.timing.in_rounds(contestants, [0.01] * 3, quick=True)
    assert [len(taken) for taken in samples] == [3, 3, 3]
    one = [[f"set up {k}", k, k] for k in range(3)]  # a call to warm up, a call that is timed
    order = [one[k] for k in (0, 1, 2, 1, 2, 0, 2, 0, 1)]
    assert happened == [event for events in order for event in events]


def test_contestants_are_held_to_float64(bench):
    case = bench.cases.Case("RNN", "inference", 5, 2, 3, 4)
    arrays = case.arrays()
    expected = bench.measure.truth(case, arrays)["output"]
    output, *_ = reference.stack(reference.RNN(), arrays.x, arrays.states, arrays.params)
    assert expected.dtype == np.float64 and output.dtype == np.float32
    assert 0 < np.abs(expected - output).max() < 1e-6
