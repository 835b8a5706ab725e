"""python -m bench.scaling: what it measures, and what it says. Nothing about speed."""

import importlib
from types import SimpleNamespace

import pytest
import torch
from helpers import rows


@pytest.fixture
def scaling(bench):
    return importlib.import_module("bench.scaling")


def test_cases(scaling):
    assert len(scaling.CASES) == len(scaling.SHAPES) * 3 * 2
    assert not any(case.single for case in scaling.CASES)


@pytest.mark.parametrize(("threads", "numbers"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (16, [1, 2, 4, 8, 16])])
def test_numbers_of_threads(scaling, threads, numbers):
    assert scaling.up_to(threads) == numbers


def test_table(bench, scaling):
    case = bench.case.Case("RNN", "inference", 5, 1, 2, 10)
    taken = {("fastrnn", 1): 90, ("fastrnn", 2): 50, ("torch", 1): 300, ("torch", 2): 400}
    timed = [bench.measure.Timed(who, threads, [us / 1e6]) for (who, threads), us in taken.items()]
    on_gpu = bench.measure.Timed("cuDNN", None, [170 / 1e6])
    head = ["case", "", "1, us", "2, us", "times", "GPU, us"]
    for more, gpu in ([], "-"), ([on_gpu], "170"):
        shown = scaling.table([bench.measure.Measured(case, timed + more)], [1, 2])
        assert rows(shown) == [head, ["RNN inference T5 B1 I2 H10", "fastrnn", "90.0", "50.0", "1.80", "-"],
                               ["", "torch", "300", "400", "1.00", gpu]]


@pytest.mark.parametrize("task", ["inference", "training"])
def test_a_run(bench, scaling, monkeypatch, capsys, task):
    monkeypatch.setattr(scaling, "CASES", [bench.case.Case("LSTM", task, 5, 2, 3, 4)])
    scaling.main(["--threads", "2", "--quick", "--filter", "lstm"])
    out = capsys.readouterr().out
    assert "threads: 2" in out
    head, ours, theirs = rows(out)
    assert head[2:4] == ["1, us", "2, us"]
    assert [ours[1], theirs[1]] == ["fastrnn", "torch"]
    assert all(float(us) > 0 for us in ours[2:4] + theirs[2:4])


def test_a_filter_that_finds_nothing(scaling, capsys):
    with pytest.raises(SystemExit):
        scaling.main(["--filter", "spam"])
    assert "GRU training T50 B128 I1024 H1024" in capsys.readouterr().err


def test_a_gpu_is_asked_for_what_torch_gives(bench):
    """With the CPU for the GPU: torch's own results, of full precision, and a call that waits for them."""
    case, gpu, waits = bench.case.Case("GRU", "training", 4, 2, 3, 5), bench.peers.Cuda(), []
    cuda = SimpleNamespace(synchronize=lambda: waits.append(1))
    devices = {"cuda": torch.device("cpu")}
    cudnn = SimpleNamespace(allow_tf32=True)  # torch's own cannot be set once torch's test helpers were imported
    stand_ins = {"cuda": cuda, "device": devices.get, "backends": SimpleNamespace(cudnn=cudnn)}
    gpu.torch = SimpleNamespace(**vars(torch) | stand_ins)
    arrays = case.arrays()
    call, read = gpu.prepare(case, arrays, None)
    bench.measure.check("the GPU", read(call()), bench.measure.truth(case, arrays))
    assert waits == [1] and not cudnn.allow_tf32
