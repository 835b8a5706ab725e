"""Forks, threads and signals: a call from anywhere gives the bits it gives alone, none hangs, and Ctrl-C ends it."""

import os
import signal
import sys
import sysconfig
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl
from cases import KINDS, make, passes
from helpers import all_same, flat, python, same

import fastrnn
from fastrnn.kernels import pool
from fastrnn.threads import register_threadpoolctl

PARALLEL = """
import os, signal, sys, threading, numpy as np, fastrnn
fastrnn.set_num_threads(2)
layer = fastrnn.LSTM(64, 128, rng=0)
x = np.random.default_rng(0).standard_normal((50, 32, 64), np.float32)
expected = layer(x)[0]
"""  # the pool has a worker now


def threads_alive():
    return len(os.listdir("/proc/self/task"))


def test_a_forked_child_has_threads_of_its_own():
    result = python(PARALLEL + """
pid = os.fork()
if pid == 0:
    signal.alarm(30)
    before = len(os.listdir("/proc/self/task"))
    right = (layer(x)[0] == expected).all()
    workers = len(os.listdir("/proc/self/task")) - before
    os._exit(0 if right and before == 1 and workers == fastrnn.kernels.pool.threads else 1)
assert os.waitpid(pid, 0)[1] == 0
assert (layer(x)[0] == expected).all()
""")
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(),
                    reason="without the GIL a child may wait for an object that Python locked; without fastrnn, too")
def test_a_fork_while_other_threads_call_and_pack():
    result = python(PARALLEL + """
over = threading.Event()
def call():
    while not over.is_set():
        layer.params["weight_hh_l0"] = layer.params["weight_hh_l0"]  # so that the next call packs
        layer(x[:5])
for _ in range(3):
    threading.Thread(target=call, daemon=True).start()
for _ in range(40):
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        os._exit(0 if (layer(x[:5])[0] == expected[:5]).all() else 1)
    assert os.waitpid(pid, 0)[1] == 0
over.set()
""")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method):
    result = python(PARALLEL + f"""
import multiprocessing
with multiprocessing.get_context({method!r}).Pool(2) as pool:
    for output, _ in pool.map(layer, [x] * 6):
        assert (output == expected).all()
""")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_threads_share_a_layer(kind):
    rng = np.random.default_rng(0)
    layer, x = make(kind, 64, 128, 2), rng.standard_normal((20, 32, 64), np.float32)
    d = rng.standard_normal(layer(x)[0].shape, np.float32)
    fastrnn.set_num_threads(2)
    alone = passes(layer, x, d)
    layer.load_state_dict(layer.state_dict())  # who comes first packs
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(passes, layer, x, d) if i % 3 == 0 else pool.submit(layer, x) for i in range(40)]
        for job in jobs:
            results = flat(job.result())
            assert all_same(results, alone[: len(results)])


@pytest.mark.parametrize("kind", KINDS)
def test_threads_pack_for_the_way_back_at_once(kind):
    """Only one of the packed weights that they make stays; all have to have the same bits, and none half of them."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 1, 256), np.float32)
    for _ in range(20):
        layer = make(kind, 256, 256)
        d = rng.standard_normal(layer(x)[0].shape, np.float32)
        start = threading.Barrier(4)

        def back(layer=layer, d=d, start=start):
            tape = layer.forward(x)[-1]
            start.wait()
            return layer.backward(tape, d)

        with ThreadPoolExecutor(4) as executor:
            found = [job.result() for job in [executor.submit(back) for _ in range(4)]]
        alone = back(start=threading.Barrier(1))
        assert all(same(grads.input, alone.input) and same(grads.params.flat, alone.params.flat) for grads in found)


def test_free_threaded_python_stays_free():
    enabled = getattr(sys, "_is_gil_enabled", lambda: True)()
    assert enabled != bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def test_other_threads_run_during_a_call():
    layer = fastrnn.RNN(64, 128, rng=0)
    x = np.zeros((20_000, 16, 64), np.float32)
    output, h_n = np.full((20_000, 16, 128), np.nan, np.float32), np.empty((1, 16, 128), np.float32)
    layer(x[:1])
    caller = threading.Thread(target=layer, args=(x,), kwargs={"out": (output, h_n)})
    caller.start()
    seen = set()
    while caller.is_alive():  # the first step is there and the last is not: the call is under way, and so is this loop
        seen.add((bool(np.isnan(output[0, 0, 0])), bool(np.isnan(output[-1, -1, -1]))))
        time.sleep(0.001)
    assert (False, True) in seen


def test_idle_workers_sleep():
    ticks = lambda: sum(int(field) for path in Path("/proc/self/task").glob("*/stat")  # noqa: E731
                        for field in path.read_text().rsplit(")", 1)[1].split()[11:13])
    layer, x = fastrnn.RNN(64, 128, rng=0), np.zeros((50, 32, 64), np.float32)
    fastrnn.set_num_threads(4)
    layer(x)
    assert threads_alive() >= (4 if pool.threads else 1)
    time.sleep(0.05)
    for _ in range(5):  # a thread of another library may wake for a moment
        before = ticks()
        time.sleep(0.2)  # 20 ticks of a thread that spins
        if ticks() - before <= 1:
            break
    else:
        pytest.fail("no pause of 0.2 s without work")


@pytest.mark.parametrize("pause", [0, 1e-5, 3e-5, 1e-4])
@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
def test_bursts_of_small_calls(name, pause):
    # Workers that are awake take part, those that sleep do not, and in the third of the pauses they are falling asleep.
    cell = getattr(fastrnn, name)(200, 256, rng=0)
    x = np.random.default_rng(0).standard_normal(200, np.float32)
    fastrnn.set_num_threads(1)
    expected = cell(x)
    fastrnn.set_num_threads(3)
    for _ in range(1000):
        assert all_same(cell(x), expected)
        end = time.perf_counter() + pause
        while time.perf_counter() < end:
            pass


def test_a_burst_of_small_calls_is_shared():
    result = python("""
import os, time, numpy as np, fastrnn
fastrnn.set_num_threads(2)
cell, x = fastrnn.LSTMCell(128, 128, rng=0), np.zeros(128, np.float32)
state = np.zeros(128, np.float32), np.zeros(128, np.float32)
before, fastest, end = len(os.listdir("/proc/self/task")), 1, time.perf_counter() + 30
while time.perf_counter() < end and len(os.listdir("/proc/self/task")) == before:
    for _ in range(100):
        start = time.perf_counter()
        cell(x, state, out=state)
        fastest = min(fastest, time.perf_counter() - start)
    if fastest > 2e-5:  # under a sanitizer, say: those are no small calls
        break
print(len(os.listdir("/proc/self/task")) - before, fastest > 2e-5 or not fastrnn.kernels.pool.threads)
""")
    assert result.stdout in ("1 False\n", "0 True\n", "1 True\n"), result.stdout + result.stderr


def test_threadpoolctl_sees_and_limits_the_pool():
    register_threadpoolctl()
    register_threadpoolctl()
    fastrnn.set_num_threads(3)
    mine = [library for library in threadpoolctl.threadpool_info() if library["user_api"] == "fastrnn"]
    assert len(mine) == 1 and mine[0]["num_threads"] == 3
    for api in (None, "fastrnn"):
        with threadpoolctl.threadpool_limits(1, user_api=api):
            assert fastrnn.get_num_threads() == 1
        assert fastrnn.get_num_threads() == 3


class Interrupted(Exception):
    """What the signal's handler raises, as that of Ctrl-C raises KeyboardInterrupt."""


@contextmanager
def interrupted_after(seconds):
    """Within, a signal comes after so many seconds of computing, and its handler raises.

    On a busy machine a process may wait that long at any place, before it has come to what is to be interrupted.
    """

    def handler(*_):
        raise Interrupted

    before = signal.signal(signal.SIGVTALRM, handler)
    try:
        with pytest.raises(Interrupted):
            signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
            yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


# Rows to each thread; units to each; a direction to each; both; a stack that goes in pieces of time. All take seconds.
LONG = {
    "rows": ("LSTM", {}, (40_000, 16, 64, 128)),
    "units": ("LSTM", {}, (20_000, 1, 64, 512)),
    "directions": ("GRU", {"bidirectional": True}, (60_000, 2, 64, 128)),
    "units and directions": ("GRU", {"bidirectional": True}, (20_000, 1, 64, 384)),
    "pieces": ("RNN", {"num_layers": 3}, (100_000, 1, 64, 256)),
    "two products": ("GRU, reset before", {}, (60_000, 8, 64, 128)),
}


@pytest.mark.parametrize("threads_used", [1, 2, 3])
@pytest.mark.parametrize("form", LONG)
def test_inference_is_interrupted(form, threads_used):
    kind, options, (T, B, I, H) = LONG[form]
    layer, x = make(kind, I, H, **options), np.random.default_rng(0).standard_normal((T, B, I), np.float32)
    fastrnn.set_num_threads(threads_used)
    expected, states = layer(x[:50])
    output = np.full((T, *expected.shape[1:]), np.nan, np.float32)
    with interrupted_after(0.02):
        layer(x, out=(output, states))
    assert np.isnan(output).any()  # it has left in the middle
    assert same(layer(x[:50])[0], expected)
    assert same(layer.forward(x[:50])[0], expected)


@pytest.mark.parametrize("threads_used", [1, 2, 3])
@pytest.mark.parametrize("form", ["rows", "units", "directions"])
def test_training_is_interrupted_and_the_tape_still_open(form, threads_used):
    kind, options, (T, B, I, H) = LONG[form]
    T = T // 8
    layer, x = make(kind, I, H, **options), np.random.default_rng(0).standard_normal((T, B, I), np.float32)
    fastrnn.set_num_threads(threads_used)
    with interrupted_after(0.02):
        while True:
            layer.forward(x)
    fastrnn.set_num_threads(2)
    output, _, tape = layer.forward(x)
    expected = layer.backward(layer.forward(x)[2], output)
    fastrnn.set_num_threads(threads_used)
    with interrupted_after(0.02):
        layer.backward(tape, output)
    assert repr(tape).startswith("<open")
    fastrnn.set_num_threads(2)
    g = layer.backward(tape, output)
    assert all_same([g.input, g.hx, g.params.flat], [expected.input, expected.hx, expected.params.flat])


@pytest.mark.parametrize("threads_used", [1, 2, 3])
def test_linear_is_interrupted(threads_used):
    head, x = fastrnn.Linear(64, 1000, rng=0), np.ones((300_000, 64), np.float32)
    fastrnn.set_num_threads(threads_used)
    with interrupted_after(0.02):
        head(x)
    y, tape = head.forward(x[:50_000])
    with interrupted_after(0.02):
        while True:
            head.backward(tape, y)
            tape = head.forward(x[:50_000])[1]
    tape = head.forward(x[:50])[1]
    assert head.backward(tape, y[:50]).input.shape == (50, 64)


def test_a_handler_that_does_not_raise_changes_nothing():
    layer, x, calls = fastrnn.GRU(64, 128, rng=0), np.zeros((10_000, 8, 64), np.float32), []
    expected = layer(x)[0]
    before = signal.signal(signal.SIGALRM, lambda *_: calls.append(layer(x[:50])[0]))  # a call within the call
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    try:
        output = layer(x)[0]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert same(output, expected) and calls and all(same(call, expected[:50]) for call in calls)
