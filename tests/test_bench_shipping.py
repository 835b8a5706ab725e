"""python -m bench.shipping: what it measures, and what it says. Nothing about speed."""

import importlib
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from helpers import rows

import fastrnn.torch


@pytest.fixture
def shipping(bench):
    return importlib.import_module("bench.shipping")


def test_cases(shipping):
    assert [case.name for case in shipping.CASES] == [
        "DTLN LSTM inference T1 B1 I257 H128 L2", "LSTM training T100 B1 I128 H128", "GRU training T100 B1 I128 H128",
        "LSTM training T50 B32 I128 H128", "GRU training T50 B32 I128 H128"]


def test_table(bench, shipping):
    case = bench.case.Case("RNN", "inference", 5, 1, 2, 10)
    taken = {("torch", 1): 300, ("torch", 2): 250, ("torch with fastrnn", 1): 40, ("torch with fastrnn", 2): 50,
             ("fastrnn", 1): 9, ("fastrnn", 2): 10}
    timed = [bench.measure.Timed(way, threads, [us / 1e6]) for (way, threads), us in taken.items()]
    shown = shipping.table([bench.measure.Measured(case, timed)], [750.2, 810.4, None], [1200.0, 1300.4, 90.04], 2)
    assert rows(shown) == [["", "torch", "torch with fastrnn", "fastrnn"],
                           ["RNN inference T5 B1 I2 H10, us", "250", "40.0", "10.0"],
                           ["installed, MB", "750", "810", "-"],
                           ["import, ms", "1200", "1300", "90.0"]]
    assert "the files of torch; torch and numpy and fastrnn; numpy and fastrnn;" in shown
    assert "median of 7 fresh processes" in shown


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that makes a distribution of some files and their sizes, with what pip says of where it came from."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    def install(name, files, origin=None):
        info = tmp_path / f"{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in [*files, f"{name}/gone.pyc"]))
        if origin is not None:
            (info / "direct_url.json").write_text(json.dumps(origin))
        for file, size in files.items():
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).write_bytes(bytes(size))

    return install


def test_megabytes_of_what_is_installed(shipping, install, tmp_path):
    install("spam", {"spam/a.py": 1_000_000, "spam.libs/b.so": 500_000})
    install("eggs", {"eggs/c.py": 250_000}, {"url": "file:///eggs.whl", "archive_info": {}})
    install("linked", {"linked.pth": 100}, {"url": "file:///linked", "dir_info": {"editable": True}})
    assert shipping.megabytes(["spam"]) == pytest.approx(1.5)
    assert shipping.megabytes(["spam", "eggs"]) == pytest.approx(1.75)
    assert shipping.megabytes(["spam", "linked"]) is None
    (tmp_path / "source.egg-info").mkdir()
    (tmp_path / "source.egg-info" / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: source\nVersion: 1\n")
    (tmp_path / "source.egg-info" / "SOURCES.txt").write_text("spam/a.py\n")
    assert shipping.megabytes(["source"]) is None
    assert shipping.megabytes(["spam", "nowhere_to_be_found"]) is None


def test_imports_are_medians_of_fresh_processes(shipping, monkeypatch):
    taken, run = iter([9, 9, 1, 4, 2, 6, 3, 5]), []  # by turns; the first of each does not count
    monkeypatch.setattr(shipping, "ROUNDS", 3)
    monkeypatch.setattr(shipping.subprocess, "run", lambda command, **_: (
        run.append(command[-1]), SimpleNamespace(stdout=f"{next(taken)}\n"))[1])
    assert shipping.milliseconds(["import a", "import b"]) == [2000, 5000]
    assert ["import a" in program for program in run] == [True, False] * 4


def test_imports_are_run(shipping, monkeypatch):
    monkeypatch.setattr(shipping, "ROUNDS", 1)
    assert all(time >= 0 for time in shipping.milliseconds(["import json", "import ast"]))
    with pytest.raises(subprocess.CalledProcessError):
        shipping.milliseconds(["import nowhere_to_be_found"])


@pytest.mark.parametrize("task", ["inference", "training"])
def test_torch_with_fastrnn_is_checked_and_is_fastrnns(bench, shipping, monkeypatch, task):
    kinds = []
    accelerate = fastrnn.torch.accelerate
    monkeypatch.setattr(fastrnn.torch, "accelerate", lambda model: kinds.append(type(accelerate(model))) or model)
    case, peer = bench.case.Case("GRU", task, 5, 2, 3, 4), bench.peers.Accelerated()
    call, read = peer.prepare(case, arrays := case.arrays(), 1)
    bench.measure.check("this", read(call()), bench.measure.truth(case, arrays))
    assert kinds == [fastrnn.torch.GRU]


def test_program(bench, shipping, monkeypatch, capsys):
    cases = [bench.case.Case("LSTM", "inference", 1, 1, 3, 4, 2), bench.case.Case("GRU", "training", 3, 2, 3, 4)]
    monkeypatch.setattr(shipping, "CASES", cases)
    monkeypatch.setattr(bench.timing, "in_rounds", lambda contestants, *_: [
        [1e-6 * (k + 1)] for k in range(len(contestants))])
    monkeypatch.setattr(shipping, "milliseconds", lambda statements: [1000.0 * len(text) for text in statements])
    monkeypatch.setattr(shipping, "megabytes", lambda names: float(len(names)))
    shipping.main(["--threads", "1"])
    shown = capsys.readouterr().out
    assert "threads: 1\n" in shown and "torch: " in shown and "fastrnn: " in shown
    assert rows(shown)[1:] == [["LSTM inference T1 B1 I3 H4 L2, us", "1.00", "2.00", "3.00"],
                               ["GRU training T3 B2 I3 H4, us", "1.00", "2.00", "3.00"],
                               ["installed, MB", "1.00", "3.00", "2.00"],
                               ["import, ms", "12000", "20000", "21000"]]


def test_wrong_arguments_are_said(shipping, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        shipping.main(["--threads", "0"])
    assert "expected a positive integer, got '0'" in capsys.readouterr().err
    monkeypatch.setattr(shipping, "installed", lambda name: False)
    with pytest.raises(SystemExit):
        shipping.main([])
    assert "expected torch to compare with, which is not installed" in capsys.readouterr().err
