"""python -m bench: what it times, that it checks before it times, and what it says. Nothing about speed."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from helpers import rows

import fastrnn
from fastrnn import reference

ROOT = Path(__file__).parents[1]  # bench/ lies beside tests/ and is not installed
PUBLISHED = {  # name: cell, T, B, I, H, layers, directions; T is a choice where the model has no length of its own
    "Silero VAD": {("LSTMCell", 1, 1, 128, 128, 1, 1)},
    "RNNoise": {("GRU", 1, 1, 384, 384, 3, 1), ("GRU", 50, 128, 384, 384, 3, 1)},
    "DTLN": {("LSTM", 1, 1, 257, 128, 2, 1), ("LSTM", 375, 32, 257, 128, 2, 1)},
    "NAM": {("LSTM", 64, 1, 1, 24, 1, 1), ("LSTM", 512, 16, 1, 24, 1, 1)},
    "Precise": {("GRU", 29, 1, 13, 20, 1, 1)},
    "pyannote": {("LSTM", 589, 1, 60, 128, 2, 2), ("LSTM", 589, 32, 60, 128, 2, 2)},
    "icefall": {("LSTM", 16, 1, 512, 1024, 12, 1)},
    "oneDNN 837": {("LSTM", 63, 1, 24, 32, 1, 2), ("LSTM", 31, 1, 48, 32, 1, 2), ("LSTM", 15, 1, 96, 32, 1, 2)},
    "Bonito": {("LSTM", 50, 96, 384, 384, 5, 1)},
    "DeepAR": {("LSTM", 1, 3200, 32, 40, 2, 1), ("LSTM", 48, 32, 32, 40, 2, 1)},
    "neuralhydrology": {("LSTM", 365, 256, 31, 128, 1, 1)},
    "RecurrentPPO": {("LSTM", 1, 8, 64, 256, 1, 1), ("LSTM", 128, 8, 64, 256, 1, 1)},
    "g2p_en": {("GRU", 8, 1, 256, 256, 1, 1), ("GRUCell", 1, 1, 256, 256, 1, 1)},
}


def in_a_process(code, folder):
    """What a Python program prints that can import bench, and the fastrnn under test."""
    path = [str(Path(fastrnn.__file__).parents[1]), str(ROOT)]  # the first has the kernels, the second may not
    code = f"import sys; sys.path += {path!r}\n{code}"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=os.environ, capture_output=True, text=True,
                          encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_cases_have_names_of_their_own(bench):
    names = [case.name for case in bench.cases.CASES]
    assert len(set(names)) == len(names)
    for name in ("RNN inference T1 B1 I128 H128", "RNN training T100 B1 I32 H32",
                 "LSTM inference T63 B1 I24 H32 both", "GRU training T50 B64 I512 H512 L2",
                 "LSTMCell inference T1 B1 I64 H64"):
        assert name in names
    assert len(set(bench.cases.QUICK)) == len(bench.cases.QUICK) < 40
    assert set(bench.cases.QUICK) < set(bench.cases.CASES)


def test_published_models_have_their_shapes(bench):
    found = {}
    for case in bench.cases.MODELS:
        shape = case.cell, case.T, case.B, case.I, case.H, case.layers, case.directions
        found.setdefault(case.model, set()).add(shape)
    assert found == PUBLISHED
    assert {case.model: case.proj_size for case in bench.cases.MODELS if case.proj_size} == {"icefall": 512}


@pytest.mark.parametrize("text", ["rnnoise", "RNNoise GRU"])
def test_filter_by_the_name_of_a_model(bench, text):
    options = bench.__main__.arguments(["--filter", text])
    assert [(case.model, case.T) for case in options.cases] == [("RNNoise", 1), ("RNNoise", 50)]


def test_flops_of_a_stack_counted_by_hand(bench):
    case = bench.case.Case("RNN", "inference", 5, 2, 3, 4, 2, True)
    first, second = 4 * 3 + 4 * 4, 4 * 8 + 4 * 4  # multiplications for a row, a step and a direction
    assert case.flops == 2 * 5 * 2 * 2 * (first + second)
    assert bench.case.Case("RNN", "training", 5, 2, 3, 4, 2, True).flops == 3 * case.flops
    assert bench.case.Case("LSTM", "inference", 5, 2, 3, 4, 2, True).flops == 4 * case.flops
    assert bench.case.Case("GRUCell", "inference", 1, 2, 3, 4).flops == 3 * 2 * 2 * first
    projected = (16 * 3 + 16 * 2 + 2 * 4) + (16 * 4 + 16 * 2 + 2 * 4)  # W_ih, W_hh and W_hr of either layer
    assert bench.case.Case("LSTM", "inference", 5, 2, 3, 4, 2, True, proj_size=2).flops == 2 * 5 * 2 * 2 * projected


@pytest.mark.parametrize("cell, more", [("RNN", {}), ("LSTM", {}), ("GRU", {}), ("LSTM", {"proj_size": 3})])
def test_names_of_parameters_are_those_of_the_layer(bench, cell, more):
    arrays = bench.case.Case(cell, "inference", 5, 2, 3, 4, 2, True, **more).arrays()
    assert {name: array.shape for name, array in arrays.params.items()} == getattr(fastrnn, cell)(
        3, 4, 2, bidirectional=True, **more).params.shapes


def test_quick_run_shows_a_table_and_writes_json(tmp_path):
    arguments = ["bench", "--quick", "--filter", "T1 B1 I128 H128", "--peers", "torch,numpy", "--threads", "2",
                 "--json", "found.json"]
    code = f"import runpy; sys.argv = {arguments!r}; runpy.run_module('bench', run_name='__main__', alter_sys=True)"
    shown, errors = in_a_process(code, tmp_path)
    assert errors == ""  # no progress bar where there is no terminal
    head, *lines = rows(shown)
    assert head == ["case", "ours us", "GFLOP/s", "of floor", "torch us", "numpy us",
                    "best / ours", "torch / ours", "numpy / ours"]
    names = [f"{cell} {task} T1 B1 I128 H128" for cell in ("RNN", "LSTM", "GRU") for task in ("inference", "training")]
    assert [line[0] for line in lines] == names
    for part in (f"numpy: {np.__version__}\n", "torch: 2.", "processor: ", "threads: 2\n",
                 f"fastrnn: {fastrnn.__version__} (build {fastrnn.kernels.build})\n", "BLAS of numpy: "):
        assert part in shown

    found = json.loads((tmp_path / "found.json").read_text("utf-8"))
    assert found["peers"] == ["torch", "numpy"] and found["machine"]["threads"] == 2
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
        assert case["best_over_ours"] == min(torch, numpy) / ours
        assert case["gflops"] == pytest.approx(case["flops"] / ours / 1000)
        assert line[-3:] == [f"{us / ours:.2f}" for us in (min(torch, numpy), torch, numpy)]
        floor = found["limits"] and case["floor_us"] / ours
        assert case["of_floor"] == floor and line[3] == ("-" if floor is None else f"{floor:.0%}")


def test_all_installed_peers_agree_on_a_stack_of_both_directions(tmp_path):
    # In a process of its own: jax warns at every later fork of a process that it has been used in.
    code = """if True:
        from bench import peers, timing
        from bench.case import TASKS, Case
        from bench.measure import measure
        timing.SAMPLE = 1e-4
        running = {"fastrnn": peers.FastRNN()}
        running |= {name: peer() for name, peer in peers.PEERS.items() if peers.installed(name)}
        for task in TASKS:
            shapes = [(kind, 5, 2, 3, 4, 2, True) for kind in ("RNN", "LSTM", "GRU")]
            shapes += [(kind + "Cell", 1, 2, 3, 4) for kind in ("RNN", "LSTM", "GRU")]
            shapes += [("LSTM", 5, 2, 3, 4, 2, True, 3)]
            for kind, *shape in shapes:
                measured = measure(Case(kind, task, *shape), running, 2, quick=True)
                print(task, len(shape) > 6, *sorted({timed.peer for timed in measured.timed}))"""
    shown, _ = in_a_process(code, tmp_path)
    needs = {"torch": ["torch"], "onnxruntime": ["onnx", "onnxruntime"], "jax": ["jax"]}
    expected = {"fastrnn", "numpy"} | {name for name, modules in needs.items() if all(map(find_spec, modules))}
    lines = [line.split() for line in shown.splitlines()]
    assert len(lines) == 14
    for task, projected, *took_part in lines:
        covered = task == "inference" and projected == "False"
        assert set(took_part) == (expected if covered else expected - {"onnxruntime"})


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
    case = bench.case.Case("RNN", "training", 5, 2, 3, 4)
    with pytest.raises(bench.measure.WrongResult, match=f"^RNN training T5 B2 I3 H4: {name}: {array}: expected"):
        bench.measure.measure(case, {name: peer()}, 1)


def test_a_missing_array_is_an_error(bench):
    with pytest.raises(bench.measure.WrongResult, match=r"^torch: expected output, h_n, got output$"):
        bench.measure.check("torch", {"output": np.ones(1)}, {"output": np.ones(1), "h_n": np.ones(1)})


def test_a_peer_that_is_not_installed_is_said(bench, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(bench.peers, "find_spec", lambda module: None if module == "torch" else find_spec(module))
    path = tmp_path / "found.json"
    bench.__main__.main(["--quick", "--filter", "RNN inference T100 B1 I128", "--peers", "torch", "--json", str(path)])
    shown = capsys.readouterr().out
    assert "torch: not installed, so not compared with; it needs torch\n" in shown
    head, line = rows(shown)
    assert "torch us" not in head and line[-3:] == ["-", "-", "-"]
    found = json.loads(path.read_text("utf-8"))
    assert found["peers"] == [] and found["cases"][0]["best_over_ours"] is None
    assert "no peer to compare with" in shown


@pytest.mark.parametrize("arguments, message", [
    (["--peers", "torch,keras"], "--peers: expected some of torch, onnxruntime, jax, numpy, got keras"),
    (["--threads", "0"], "--threads: expected at least 1, got 0"),
    (["--filter", "T7"], "--filter: expected a part of one of"),
    (["--json", "nowhere/found.json"], "--json: expected a file in a folder that is there, got 'nowhere/found.json'"),
    (["--quick", "--filter", "I1024"], "GRU training T100 B1 I128 H128\n"),
    (["--quick", "--filter", "I1024"], "\ngot 'I1024'"),
    (["--plot", "nowhere"], "--plot: expected a folder that is there, got 'nowhere'"),
    (["--compare", "nowhere"], "--compare: expected a file that --json wrote, got 'nowhere': No such file"),
    (["--compare", __file__], "test_bench.py', which is none"),
])
def test_wrong_arguments_are_said(bench, capsys, arguments, message):
    with pytest.raises(SystemExit):
        bench.__main__.main(arguments)
    assert message in capsys.readouterr().err


def test_another_number_of_threads_is_not_compared_with(bench, gathered, capsys, tmp_path):
    path = tmp_path / "old.json"
    path.write_text(json.dumps(gathered({}, threads=7)), "utf-8")
    with pytest.raises(SystemExit):
        bench.__main__.main(["--compare", str(path), "--threads", "2"])
    assert "--compare: expected a run with --threads 2, got one with 7" in capsys.readouterr().err
    assert bench.__main__.arguments(["--compare", str(path), "--threads", "7"]).compare["cases"] == []


def test_an_earlier_run_is_compared_with(bench, capsys, tmp_path):
    path = tmp_path / "old.json"
    arguments = ["--quick", "--filter", "Precise", "--peers", "numpy"]
    bench.__main__.main([*arguments, "--json", str(path)])
    bench.__main__.main([*arguments, "--compare", str(path)])
    shown = capsys.readouterr().out
    assert f"\nbefore: fastrnn {fastrnn.__version__} (build {fastrnn.kernels.build})" in shown
    compared = [line for line in rows(shown) if line[0] == "Precise GRU inference T29 B1 I13 H20"][-1]
    case, = json.loads(path.read_text("utf-8"))["cases"]
    assert compared[1] == bench.report.shown(case["ours_us"]) and compared[-1] in ("faster", "slower", "same")


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
    case = bench.case.Case("RNN", "inference", 5, 2, 3, 4)
    arrays = case.arrays()
    expected = bench.measure.truth(case, arrays)["output"]
    output, *_ = reference.stack(reference.RNN(), arrays.x, arrays.states, arrays.params)
    assert expected.dtype == np.float64 and output.dtype == np.float32
    assert 0 < np.abs(expected - output).max() < 1e-6
