"""python -m bench: what it times, that it checks before it times, and what it says. Nothing about speed."""

import importlib
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from types import SimpleNamespace

import numpy as np
import pytest

import fastrnn
from fastrnn import reference

ROOT = Path(__file__).parents[1]  # bench/ lies beside tests/ and is not installed
MODULES = ["__main__", "case", "cases", "compare", "floor", "limits", "measure", "peers", "report", "results", "timing"]
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


@pytest.fixture
def bench(monkeypatch):
    """The benchmark's modules, beside whichever fastrnn is under test."""
    threads = fastrnn.get_num_threads()
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT)])
    modules = SimpleNamespace(**{name: importlib.import_module(f"bench.{name}") for name in MODULES})
    monkeypatch.setattr(modules.limits, "SECONDS", 0.01)
    yield modules
    fastrnn.set_num_threads(threads)


@pytest.fixture
def limits(bench):
    """Limits that are easily reckoned with: 8 GFLOP/s, a cache of 1000 bytes, and one of 4000 that two cores share."""
    levels = ("L1", 1000, 1, 10.0), ("L2", 4000, 2, 5.0), ("memory", None, 1, 2.0)
    return bench.limits.Limits(8.0, [bench.limits.Level(*level) for level in levels])


@pytest.fixture
def gathered(bench, limits):
    """A function that makes the results of a run, of samples in microseconds by case, and by peer and threads."""

    def gather(by_case, limits=limits, threads=2, **machine):
        results = [bench.measure.Measured(case, [bench.measure.Timed(peer, number, [us / 1e6 for us in taken])
                                                 for (peer, number), taken in samples.items()])
                   for case, samples in by_case.items()]
        peers = sorted({peer for samples in by_case.values() for peer, _ in samples} - {"fastrnn"})
        machine = {"processor": "some", "threads": threads, "fastrnn": "0 (build v3)", "torch": "2"} | machine
        return bench.results.gather(results, peers, machine, limits)

    return gather


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


@pytest.mark.parametrize("size, threads, gb_s", [
    (1000, 1, 10), (1001, 1, 5), (2000, 2, 20), (2001, 2, 10), (4000, 2, 10), (4001, 2, 4), (8000, 4, 20), (8001, 4, 8),
])
def test_weights_are_read_from_the_caches_of_all_threads_together(limits, size, threads, gb_s):
    assert limits.bytes_per_second(size, threads) == 1e9 * gb_s


def test_floor_of_one_row_is_reading_counted_by_hand(bench, limits):
    # An RNN of 2 inputs and 10 units: W_ih 80 bytes, W_hh 400, which all fit in a cache that is read at 10 GB/s.
    case = bench.case.Case("RNN", "inference", 5, 1, 2, 10)
    product = 2 * 5 * 20 / 8e9  # of the input, at the peak: its flops take longer than reading W_ih once
    assert bench.floor.floor(case, limits, 1) == pytest.approx(product + 5 * 400 / 10e9)
    assert bench.floor.floor(case, limits, 2) == pytest.approx((product + 5 * 400 / 10e9) / 2)
    training = bench.case.Case("RNN", "training", 5, 1, 2, 10)
    gradients = 2 * 5 * (20 + 100) / 8e9  # of both weights, at the peak
    assert bench.floor.floor(training, limits, 1) == pytest.approx(2 * (product + 5 * 400 / 10e9) + gradients)


def test_floor_of_many_rows_is_the_peak(bench, limits):
    for task in bench.case.TASKS:
        case = bench.case.Case("GRU", task, 5, 1000, 2, 10, 2, True)
        assert bench.floor.floor(case, limits, 2) == pytest.approx(case.flops / 16e9)


def test_floor_reads_all_weights_from_further_off_than_those_of_a_step(bench, limits):
    # In each direction W_ih has 400 bytes in the first layer, 800 in the second, W_hh 400 in both: 4000 in all, which
    # only the second cache holds. The first step reads from there, the next two read one W_hh at a time from the first.
    case = bench.case.Case("RNN", "inference", 3, 1, 10, 10, 2, True)
    assert bench.floor.floor(case, limits, 1) == pytest.approx(4000 / 5e9 + 2 * 4 * 400 / 10e9)


def test_limits_have_a_level_for_each_cache_and_the_memory(bench):
    if not bench.limits.CACHES.is_dir() or not which("cc"):
        pytest.skip("needs a compiler, and the sizes of caches")
    found = bench.limits.measure_limits()
    *caches, memory = found.levels
    assert memory.name == "memory" and memory.bytes is None and found.gflops > 0
    assert [level.name for level in caches] == [f"L{k}" for k in range(1, len(caches) + 1)]
    assert [level.bytes for level in caches] == sorted(level.bytes for level in caches)
    assert all(level.shared >= 1 and level.gb_s > 0 for level in found.levels)


def test_sizes_of_caches_are_read(bench, monkeypatch, tmp_path):
    told = [(1, "Data", "32K", "00000001"), (1, "Instruction", "64K", "00000001"),
            (3, "Unified", "32M", "00000003,0000000f"), (2, "Unified", "512K", "00000003")]
    for index, values in enumerate(told):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, value in zip(("level", "type", "size", "shared_cpu_map"), values, strict=True):
            (folder / name).write_text(f"{value}\n")
    monkeypatch.setattr(bench.limits, "CACHES", tmp_path)
    assert bench.limits.caches() == [("L1", 2**15, 1), ("L2", 2**19, 2), ("L3", 2**25, 6)]
    assert bench.limits.buffer_size(2**15, None) == 3 * 2**13
    assert bench.limits.buffer_size(2**19, 2**15) == 2**17 and bench.limits.buffer_size(2**16, 2**15) == 3 * 2**14
    assert bench.limits.buffer_size(None, 2**25) == 2**27
    monkeypatch.setattr(bench.limits, "CACHES", tmp_path / "index4")
    with pytest.raises(bench.limits.NotMeasured, match="sizes of the caches are not known"):
        bench.limits.caches()


@pytest.mark.parametrize("compiler, message", [
    ("no-such-compiler -x", "no C compiler: no-such-compiler: No such file"),
    ("false", "false does not compile limits.c"),
])
def test_without_a_compiler_there_is_no_floor(bench, monkeypatch, capsys, tmp_path, compiler, message):
    monkeypatch.setenv("CC", compiler)
    path = tmp_path / "found.json"
    bench.__main__.main(["--quick", "--filter", "Precise", "--peers", "numpy", "--json", str(path)])
    shown = capsys.readouterr().out
    assert f"of floor: not known, {message}" in shown
    head, line = rows(shown)
    assert line[head.index("of floor")] == "-"
    found = json.loads(path.read_text("utf-8"))
    assert found["limits"] is None and found["cases"][0]["of_floor"] is None


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


def test_means_and_the_cases_that_a_peer_is_faster_in(bench, gathered):
    case = bench.case.Case("RNN", "inference", 5, 1, 2, 10)
    other, third = (bench.case.Case("LSTM", task, 5, 1, 2, 10) for task in bench.case.TASKS)
    found = gathered({
        case: {("fastrnn", 2): [10], ("torch", 1): [60], ("torch", 2): [40], ("jax", None): [90]},
        other: {("fastrnn", 1): [1], ("fastrnn", 2): [20], ("torch", 2): [18], ("jax", None): [10]},
        third: {("fastrnn", 2): [10], ("torch", 2): [20]},
    })
    assert [line["best_over_ours"] for line in found["cases"]] == [4, 0.5, 2]
    assert found["best_over_ours"] == pytest.approx({"all": 4 ** (1 / 3), "inference": 2**0.5, "training": 2})
    told = bench.report.table(found).splitlines()[-4:]
    assert told == ["best / ours, geometric means of 3 cases: all 1.59, inference 1.41, training 2.00",
                    "slower than a peer: 1 of 3 cases",
                    f"{other.name}: jax took 10.0 us, fastrnn 20.0", f"{other.name}: torch took 18.0 us, fastrnn 20.0"]
    assert f"{other.name}: one thread took 1.00 us, up to 2 took 20.0" in bench.report.table(found)


STEADY, NOISY = [100, 101, 99, 100, 102, 98, 100], [100, 140, 90, 115, 160, 85, 105]


@pytest.mark.parametrize("before, now, torch, verdict, pace", [
    (STEADY, STEADY, STEADY, "same", 1.0),
    (STEADY, [us * 1.04 for us in STEADY], STEADY, "same", 1.0),  # less than another start of the same program
    (STEADY, [us * 1.2 for us in STEADY], STEADY, "slower", 1.0),
    (STEADY, [us / 1.2 for us in STEADY], STEADY, "faster", 1.0),
    (NOISY, [us * 1.2 for us in NOISY], STEADY, "same", 1.0),  # within what each run saw
    (NOISY, [us * 3 for us in NOISY], STEADY, "slower", 1.0),
    (STEADY, [*STEADY[:-1], 500], STEADY, "same", 1.0),  # one round that something came between
    (STEADY, [us * 2 for us in STEADY], [us * 2 for us in STEADY], "same", 2.0),  # a machine of half the pace
    (STEADY, STEADY, [us * 2 for us in STEADY], "faster", 2.0),
])
def test_change_is_told_from_noise_and_from_the_pace_of_the_machine(bench, gathered, before, now, torch, verdict, pace):
    case = bench.case.Case("RNN", "inference", 5, 1, 2, 10)
    old = gathered({case: {("fastrnn", 1): [1.0] * 7, ("fastrnn", 2): before, ("torch", 2): STEADY}})
    new = gathered({case: {("fastrnn", 1): [9.0] * 7, ("fastrnn", 2): now, ("torch", 2): torch}})
    found, = bench.compare.changes(old, new)
    assert (found.name, found.verdict) == (case.name, verdict)
    assert found.pace == pytest.approx(pace)
    assert found.times == pytest.approx(np.median(now) / np.median(before) / pace, rel=0.01)
    line = rows(bench.compare.table(old, new))[1]
    assert line[0] == case.name and line[-1] == verdict
    assert f"1 {verdict}" in bench.compare.table(old, new).splitlines()[-1]


def test_peers_that_disagree_about_the_pace_are_noise(bench, gathered):
    case = bench.case.Case("RNN", "inference", 5, 1, 2, 10)
    old = {("fastrnn", 2): STEADY, ("torch", 1): STEADY, ("torch", 2): STEADY, ("jax", None): STEADY}
    paces = {("fastrnn", 2): 1.3, ("torch", 1): 0.8, ("torch", 2): 1.0, ("jax", None): 1.2}
    new = {key: [paces[key] * us for us in taken] for key, taken in old.items()}
    found, = bench.compare.changes(gathered({case: old}), gathered({case: new}))
    assert found.pace == pytest.approx(1) and found.times == pytest.approx(1.3)
    assert found.noise > 1.5 * 0.2 and found.verdict == "same"  # from 0.9 to 1.1 between the quartiles


def test_only_peers_of_the_same_version_tell_the_pace(bench, gathered):
    case, gone = (bench.case.Case("RNN", "inference", T, 1, 2, 10) for T in (5, 6))
    twice = [2 * us for us in STEADY]
    old = gathered({case: {("fastrnn", 2): STEADY, ("torch", 2): STEADY}, gone: {("fastrnn", 2): STEADY}})
    new = gathered({case: {("fastrnn", 2): twice, ("torch", 2): twice}}, torch="3")
    found, = bench.compare.changes(old, new)
    assert found.pace is None and found.verdict == "slower" and found.times == pytest.approx(2)
    assert bench.compare.table(gathered({gone: {("fastrnn", 2): STEADY}}), new).startswith("nothing to compare")


def test_pictures_have_a_mark_for_each_case(bench, gathered, tmp_path):
    pytest.importorskip("matplotlib")
    plot = importlib.import_module("bench.plot")
    samples = {("fastrnn", 2): [10.0], ("torch", 2): [20.0]}
    found = gathered({case: samples for case in bench.cases.CASES})
    _, panels = plot.marks(found["cases"], "of_floor")
    for panel, task in zip(panels, bench.case.TASKS, strict=True):
        drawn = [mark for marks in panel.collections for mark in marks.get_offsets()]
        assert len(drawn) == sum(case.task == task for case in bench.cases.CASES)
    names = [text.get_text() for text in panels[0].get_yticklabels()]
    assert names[1] == "T1 B1 I64 H64, a cell" and names[-1] == "g2p_en: T1 B1 I256 H256, a cell"
    plot.draw(found, tmp_path)
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in ("ratios.png", "floor.png"))
    (tmp_path / "less").mkdir()
    plot.draw(gathered({bench.cases.CASES[0]: samples}, limits=None), tmp_path / "less")
    assert [path.name for path in (tmp_path / "less").iterdir()] == ["ratios.png"]


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
