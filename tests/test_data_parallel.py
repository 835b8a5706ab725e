"""Several processes train to the weights of one: under PyTorch's DistributedDataParallel, and over MPI."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import fastrnn
import fastrnn.torch

ROOT = Path(__file__).parents[1]  # bench/ lies beside tests/ and is not installed
PACKAGE = Path(fastrnn.__file__).parents[1]
MPIRUN = shutil.which("mpirun", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
OPEN_MPI = {  # would not run as root, or more ranks than there are processors; MPICH does
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1", "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}
STEPS = 5
# Of weights of up to 0.1, float32: gradients are sums in another order, and Adam's first steps are as long for a tiny
# gradient as for a large one. Measured 6.2e-7 under torch and 8.6e-7 over MPI; half of each batch alone gives 2e-2.
APART = 4e-6

needs_mpi = pytest.mark.skipif(not (MPIRUN and find_spec("mpi4py")), reason="MPI, or mpi4py, is not installed")


@pytest.fixture(scope="module")
def programs():
    """The modules, beside whichever fastrnn is under test; processes that are started here find the same."""
    threads = fastrnn.get_num_threads(), torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(PACKAGE), *sys.path, str(ROOT)])
        yield SimpleNamespace(**{name: importlib.import_module(f"bench.tasks.{name}")
                                 for name in ("data_parallel", "shares")})
    fastrnn.set_num_threads(threads[0])
    torch.set_num_threads(threads[1])


@pytest.fixture(scope="module")
def alone(programs):
    """Weights that one process trains to, with the whole batch."""
    return programs.data_parallel.train(STEPS, 1)[0]


@pytest.mark.parametrize("options", [{}, {"static_graph": True, "gradient_as_bucket_view": True}],
                         ids=lambda options: " ".join(options) or "plain")
def test_two_processes_train_to_the_weights_of_one(programs, alone, options):
    (first, _), (second, _) = programs.data_parallel.together(2, STEPS, 1, **options)
    assert all(torch.equal(first[name], second[name]) for name in alone)
    assert programs.shares.apart(alone, first) < APART


def test_a_share_alone_trains_to_other_weights(programs, alone):
    half, _ = programs.data_parallel.train(STEPS, 1, rank=1, processes=2)
    assert programs.shares.apart(alone, half) > 1000 * APART


def test_the_recurrent_layer_is_fastrnns(programs, monkeypatch):
    kinds = []
    monkeypatch.setattr(programs.data_parallel, "accelerate",
                        lambda model: kinds.append(type(fastrnn.torch.accelerate(model).rnn)) or model)
    programs.data_parallel.train(1, 1)
    assert kinds == [fastrnn.torch.LSTM]


def test_shares_are_equal_and_make_up_the_batch(programs):
    batches = [(np.arange(12).reshape(2, 6), np.arange(12, 24).reshape(2, 6), first) for first in (True, False)]
    shares = [list(programs.shares.share(batches, rank, 3)) for rank in range(3)]
    for step, (inputs, targets, first) in enumerate(batches):
        parts = [share[step] for share in shares]
        assert [part[0].shape for part in parts] == [(2, 2)] * 3 and {part[2] for part in parts} == {first}
        assert np.array_equal(np.concatenate([part[0] for part in parts], axis=1), inputs)
        assert np.array_equal(np.concatenate([part[1] for part in parts], axis=1), targets)


def test_rows_that_cannot_be_shared_equally(programs):
    with pytest.raises(ValueError, match=r"processes: expected a divisor of the 6 rows, got 4"):
        next(programs.shares.share([(np.zeros((2, 6)), np.zeros((2, 6)), True)], 0, 4))


def test_report(programs, capsys):
    one, two, three = ({"w": np.float32([0, x]), "b": np.float32([-4])} for x in (1, 1.5, 1.25))
    programs.shares.report(7, (one, 2.0), [(two, 1.0), (three, 1.1)], (4, 2))
    assert capsys.readouterr().out.splitlines() == [
        "after 7 steps the weights, of up to 4, are at most 0.25 apart from process to process,",
        "and 0.5 from those of one process with the whole batch",
        "seconds: 2.00 in 1 process of 4 threads, 1.00 in 2 of 2"]


def test_weights_that_are_not_numbers_are_apart(programs):
    first, second = ({"w": np.float32([[0, x]]), "b": torch.tensor([-4.0])} for x in (1, np.nan))
    assert programs.shares.apart(first, first) == 0
    assert np.isnan(programs.shares.apart(first, second)) and np.isnan(programs.shares.apart(second, second))


def test_program(programs, capsys, monkeypatch):
    called, train = [], programs.data_parallel.train
    monkeypatch.setattr(programs.data_parallel, "together",
                        lambda *arguments: called.append(arguments) or [train(1, 1)] * 4)
    monkeypatch.setattr(fastrnn, "get_num_threads", lambda: 9)
    programs.data_parallel.main(["--processes", "4", "--steps", "1"])
    assert called == [(4, 1, 2)]
    assert "seconds: " in (shown := capsys.readouterr().out) and shown.endswith("in 4 of 2\n")


@pytest.mark.parametrize("arguments, message", [
    (["--processes", "5"], "--processes: expected a divisor of the 32 rows, got 5"),
    (["--processes", "0"], "expected a positive integer, got '0'"),
    (["--steps", "x"], "expected a positive integer, got 'x'"),
])
def test_wrong_arguments_are_said(programs, capsys, arguments, message):
    with pytest.raises(SystemExit):
        programs.data_parallel.main(arguments)
    assert message in capsys.readouterr().err


def run_by_mpi(ranks, folder, *arguments):
    """The program, run to its end."""
    environment = os.environ | OPEN_MPI | {"PYTHONPATH": os.pathsep.join([str(PACKAGE), str(ROOT)])}
    return subprocess.run([MPIRUN, "-n", str(ranks), sys.executable, "-m", "bench.tasks.data_parallel_mpi", *arguments],
                          cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@needs_mpi
def test_two_ranks_train_to_the_weights_of_one(tmp_path):
    done = run_by_mpi(2, tmp_path, "--steps", str(STEPS))
    assert done.returncode == 0, done.stderr
    found = re.fullmatch(r"after 5 steps the weights, of up to 0\.\d+, are at most 0 apart from process to process,\n"
                         r"and (\S+) from those of one process with the whole batch\n"
                         r"seconds: .* in 1 process of \d+ threads, .* in 2 of \d+\n", done.stdout)
    assert found, done.stdout
    assert 0 < float(found[1]) < APART


@needs_mpi
def test_ranks_that_cannot_share_equally(tmp_path):
    done = run_by_mpi(3, tmp_path)
    assert done.returncode != 0 and done.stdout == ""
    assert "-n: expected a divisor of the 32 rows, got 3" in done.stderr
