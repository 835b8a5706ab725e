"""Memory: calls leak none, running out of it is MemoryError and nothing worse, and no offset is too large."""

import gc
import mmap
import resource
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from cases import KINDS, make
from helpers import all_same, assert_close, python, same

import fastrnn
from fastrnn import recurrence

MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # Linux; in Python from 3.13 on


def resident():
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def recurrent_calls(kind):
    """Functions that make one call each, of every way to use a layer."""
    layer, x = make(kind, 5, 9, 2, bidirectional=True), np.ones((6, 3, 5), np.float32)
    out, lengths, reset = layer(x), [6, 0, 3], np.eye(6, 3, dtype=bool)
    packed = fastrnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    total = layer.backward(layer.forward(x)[2], out[0])

    def repack():
        layer.params["weight_hh_l0"] = layer.params["weight_hh_l0"]
        layer.backward(layer.forward(x)[2])

    def refused():
        for bad, options in ((x[..., :4], {}), (x, {"lengths": [7, 1, 1]}), (x, {"out": (out[0][:5], out[1])})):
            with pytest.raises(ValueError):
                layer(bad, **options)

    return {
        "call": lambda: layer(x), "out": lambda: layer(x, out=out), "lengths": lambda: layer(x, lengths=lengths),
        "reset": lambda: layer(x, reset=reset), "packed": lambda: layer(packed),
        "an open tape": lambda: layer.forward(x, lengths=lengths, reset=reset),
        "backward": lambda: layer.backward(layer.forward(x)[2], out[0]),
        "backward, lengths": lambda: layer.backward(layer.forward(x, lengths=lengths, reset=reset)[2], out[0]),
        "into": lambda: layer.backward(layer.forward(x)[2], out[0], into=total),
        "other weights": repack, "errors": refused,
    }


def calls():
    """The name of each kind of call, and a function that prepares it."""
    found = {f"{kind}: {name}": (lambda kind=kind, name=name: recurrent_calls(kind)[name])
             for kind in KINDS for name in recurrent_calls(kind)}
    x, y = np.ones((3, 5), np.float32), np.ones((3, 9), np.float32)
    for name in ("RNNCell", "LSTMCell", "GRUCell"):
        cell = getattr(fastrnn, name)(5, 9, rng=0)
        h = (y, y) if name == "LSTMCell" else y
        found[name] = lambda cell=cell: lambda: cell(x)
        found[f"{name}: backward"] = lambda cell=cell, h=h: lambda: cell.backward(cell.forward(x)[1], h)
    head = fastrnn.Linear(5, 9, rng=0)
    return found | {"Linear": lambda: lambda: head(x),
                    "Linear: backward": lambda: lambda: head.backward(head.forward(x)[1], y)}


CALLS = calls()


def growth(call, number):
    """Bytes that the process grows in so many calls; the least of three times, since a leak goes on."""
    least = np.inf
    for _ in range(3):
        for _ in range(number // 10):
            call()
        gc.collect()
        before = resident()
        for _ in range(number):
            call()
        gc.collect()
        least = min(least, resident() - before)
        if least <= 0:
            break
    return least


def traced_growth(call):
    """Bytes that Python's own memory grows in 500 calls; the lesser of two times, since other threads make things, too.

    The first 500 do not count: of what was made before the tracing began nothing is known, and NumPy keeps some.
    """
    traced = []
    tracemalloc.start()
    for _ in range(3):
        for _ in range(500):
            call()
        gc.collect()
        traced.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    return min(np.diff(traced))


@pytest.mark.parametrize("name", CALLS)
def test_calls_do_not_leak(name):
    fastrnn.set_num_threads(1)
    call = CALLS[name]()
    grown, traced = growth(call, 2000), traced_growth(call)
    # 64 bytes a call would be 128,000 and 32,000. Measured: at most 0 and 7,600.
    assert grown < 100_000 and traced < 16_000, (grown, traced)


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_a_hundred_thousand_calls_do_not_leak(name):
    grown = growth(CALLS[name](), 100_000)
    print(name, grown)  # a leak of 8 bytes a call would be 800,000. Measured: 0 of all.
    assert grown < 500_000


def test_copies_and_tapes_do_not_leak():
    def once():
        layer = fastrnn.LSTM(5, 400, rng=0)  # 2.6 MB, and as much packed
        layer.backward(layer.forward(np.ones((6, 3, 5), np.float32))[2])

    assert growth(once, 30) < 6e6  # measured: 0


SHORT_OF_MEMORY = """
import resource, numpy as np, fastrnn
from pathlib import Path

fastrnn.set_num_threads(THREADS)
layer = fastrnn.KIND(8, 130, 2, rng=0)
x = np.random.default_rng(0).standard_normal((100, 40, 8), np.float32)
head, small = fastrnn.Linear(130, 300, rng=0), x[:3, :2].copy()

def train():
    output, state, tape = layer.forward(x)
    y, head_tape = head.forward(output)
    g = layer.backward(tape, head.backward(head_tape, y).input)
    return [layer(x)[0], output, y, g.input, g.params.flat]

def again():  # with weights to be packed anew
    for module in (layer, head):
        module.load_state_dict(module.state_dict())

expected, before = train(), layer(small)[0]
again()
size = lambda: int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
failed = 0
for more in range(0, 100_000_000, 250_000):
    resource.setrlimit(resource.RLIMIT_AS, (size() + more, resource.RLIM_INFINITY))
    try:
        results = train()
        break
    except MemoryError:
        failed += 1
        results = None
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert np.array_equal(layer(small)[0], before)
    if failed % 3 == 0:
        again()
assert all(map(np.array_equal, results, expected))
print(failed)
"""


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("threads", [1, 3])
def test_short_of_memory(kind, threads):
    # At every limit, from none to enough, the pass fails by MemoryError or gives the right bits. Without arenas of its
    # own for each thread, and returning what it can, malloc asks the system at each limit anew. (Without lengths: where
    # NumPy 2.4 has no memory for the buffers of a ufunc, it raises without the GIL and crashes.)
    result = python(SHORT_OF_MEMORY.replace("KIND", kind).replace("THREADS", str(threads)), MALLOC_ARENA_MAX="1",
                    MALLOC_MMAP_THRESHOLD_="65536", MALLOC_TRIM_THRESHOLD_="0")
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) >= 20  # measured: 57 to 155


def test_a_tape_is_still_open_when_memory_ran_out():
    result = python("""
import resource, numpy as np, fastrnn
layer, x = fastrnn.LSTM(800, 64, rng=0), np.ones((300, 40, 800), np.float32)  # 38 MB
output, _, tape = layer.forward(x)
total = layer.backward(layer.forward(x)[2], output)
flat = lambda g: [g.input, *g.hx, g.params.flat]
kept = [array.copy() for array in flat(total)]
for into in (None, total):
    resource.setrlimit(resource.RLIMIT_AS, (0, resource.RLIM_INFINITY))
    try:
        layer.backward(tape, output, into=into)
    except MemoryError:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY, "there was memory"
    assert all(map(np.array_equal, flat(total), kept))
assert all(map(np.array_equal, flat(layer.backward(tape, output)), kept))
""", MALLOC_MMAP_THRESHOLD_="65536", MALLOC_TRIM_THRESHOLD_="0")
    assert result.returncode == 0, result.stderr


def far_apart(array, axis):
    """A copy whose steps (axis 0) or rows (1) lie 2^31 elements apart, in memory given only where it is touched."""
    strides = [array.strides[1], array.strides[1], array.itemsize]
    strides[axis] = (1 << 31) * array.itemsize
    size = (array.shape[axis] - 1) * strides[axis] + array.nbytes
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
    copy = np.ndarray(array.shape, array.dtype, memory, strides=strides)
    copy[...] = array
    return copy


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("lengths", [None, [5, 4, 4, 1]])
@pytest.mark.parametrize("kind", KINDS)
def test_offsets_beyond_an_int(kind, lengths, axis):
    if lengths and axis:
        return  # packed rows have the one stride
    rng = np.random.default_rng(0)
    layer = make(kind, 7, 20, bidirectional=True)
    T, B, P = 5, 4, layer._output_size() // 2
    shape = (sum(lengths), 1) if lengths else (T, B)
    lengths = None if lengths is None else np.array(lengths)
    draw = lambda *size: rng.standard_normal(size).astype(np.float32)  # noqa: E731
    x, d_output = draw(*shape, 7), draw(*shape, 2 * P)
    states = (draw(2, B, P), draw(2, B, 20))[: 1 + layer._memory]
    cells = np.zeros((*shape, 40), np.float32) if layer._memory else None
    found = []
    for place in (lambda array: array.copy(), lambda array: far_apart(array, axis)):
        output, finals = place(np.zeros_like(d_output)), recurrence.new_states(states)
        weights, d_params = layer._packed_weights()[0], np.zeros_like(layer.params.flat)
        d_states = tuple(map(np.ones_like, states))
        given = None if cells is None else place(cells)
        record = recurrence.forward(layer._engine, weights, 0, place(x), states, output, finals, lengths, cells=given,
                                    training=True)
        d_cells = None if cells is None else place(np.ones_like(cells))
        d_x = recurrence.backward(layer._engine, weights, 0, record, states, place(d_output), d_cells, d_states,
                                  d_params, layer._offsets[0], lengths)
        found.append([output, finals, d_x, d_states, d_params])
    assert all_same(*found)


@pytest.mark.slow  # one to four minutes, and 12 GB
def test_an_input_of_five_gigabytes():
    T, I = 20_000, 1 << 16
    layer, rng = fastrnn.GRU(I, 3, rng=0), np.random.default_rng(0)
    x = np.empty((T, 1, I), np.float32)
    for t in range(0, T, 100):
        x[t : t + 100] = rng.standard_normal(I, np.float32) * (1 + t)
    assert x.size < 2**31 < 2**32 < x.nbytes
    output, h_n, tape = layer.forward(x)
    h, pieces = None, []
    for t in range(0, T, 1000):
        piece, h, its_tape = layer.forward(x[t : t + 1000], h)
        assert same(output[t : t + 1000], piece)
        pieces.append(its_tape)
    assert same(h, h_n) and same(layer(x)[0], output)
    g = layer.backward(tape, output)
    d_h, t = None, T
    for its_tape in reversed(pieces):
        t -= 1000
        its = layer.backward(its_tape, output[t : t + 1000], d_h)
        d_h = its.hx
        assert_close(g.input[t : t + 1000], its.input, 1e-6, f"input from step {t}")
    assert_close(g.hx, d_h, 1e-6, "hx")
