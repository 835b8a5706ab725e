"""The memory of a tape that has been used up serves the next one, and nobody sees it."""

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cases import KINDS, make, passes
from helpers import all_same, flat

import fastrnn
from fastrnn.reserve import Reserve


def example(rng, T, columns=32):
    return rng.standard_normal((T, 3, 9), np.float32), rng.standard_normal((T, 3, columns), np.float32)


def size_of(layer):
    return sum(array.size for array in layer._reserve)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "proj" not in kind])
def test_tapes_that_overlap_and_change_in_size(kind):
    """Each pass gives what a layer without a past gives."""
    rng = np.random.default_rng(0)
    layer = make(kind, 9, 20, 2, bidirectional=True)
    for T in (7, 7, 5, 4, 3, 12, 1, 7):
        x, d = example(rng, T, 40)
        lengths = rng.integers(0, T + 1, 3)
        for options in ({}, {"lengths": lengths}, {}):
            output, states, tape = layer.forward(x, **options)
            output_2, states_2, second = layer.forward(-x, **options)
            g = layer.backward(tape, d)
            third = layer.forward(x[::-1], **options)[2]  # in the memory of the first
            g_2 = layer.backward(second, d)
            layer.backward(third, d)
            expected = passes(make(kind, 9, 20, 2, bidirectional=True), x, d, **options)
            assert all_same(flat([output, states, g.input, g.hx, g.params.flat]), expected)
            expected = passes(make(kind, 9, 20, 2, bidirectional=True), -x, d, **options)
            assert all_same(flat([output_2, states_2, g_2.input, g_2.hx, g_2.params.flat]), expected)


def test_memory_is_the_same_and_let_go_by_inference():
    layer, (x, d) = make("LSTM", 9, 32, 2), example(np.random.default_rng(0), 7)
    layer.backward(layer.forward(x)[2], d)
    held = [array.ctypes.data for array in layer._reserve]
    assert len(held) == 4  # of each layer cells and gates
    tape = layer.forward(x)[2]
    assert not layer._reserve
    layer.backward(tape, d)
    assert [array.ctypes.data for array in layer._reserve] == held
    assert not pickle.loads(pickle.dumps(layer))._reserve and not copy.deepcopy(layer)._reserve
    layer(x)
    assert not layer._reserve


def test_small_tapes_are_not_kept(monkeypatch):
    layer, (x, d) = make("LSTM", 9, 32), example(np.random.default_rng(0), 7)
    monkeypatch.setattr(fastrnn.reserve, "LARGE", 4 * 7 * 3 * 128)
    layer.backward(layer.forward(x)[2], d)
    assert size_of(layer) == 7 * 3 * 128
    monkeypatch.setattr(fastrnn.reserve, "LARGE", 4 * 7 * 3 * 128 + 1)
    layer.backward(layer.forward(x)[2], d)
    assert not layer._reserve


def test_cells_that_the_caller_has_stay_as_they_are():
    layer, (x, d) = make("LSTM", 9, 32), example(np.random.default_rng(0), 7)
    _, _, cells, tape = layer.forward(x, return_cells=True)
    before = cells.copy()
    layer.backward(tape, d)
    layer.forward(-x)
    layer.forward(-x, return_cells=True)
    assert np.array_equal(cells, before)


def test_a_failed_way_back_keeps_the_tape_and_its_memory():
    layer, (x, d) = make("LSTM", 9, 32), example(np.random.default_rng(0), 7)
    tape = layer.forward(x)[2]
    with pytest.raises(ValueError, match="d_output: expected"):
        layer.backward(tape, d[1:])
    assert not layer._reserve
    expected = passes(layer, x, d)[3:]
    g = layer.backward(tape, d)
    assert all_same(flat([g.input, g.hx, g.params.flat]), expected)


def test_one_thread_of_several_uses_a_tape():
    layer, (x, d) = make("LSTM", 9, 32), example(np.random.default_rng(0), 7)
    expected = passes(layer, x, d)[3:]

    def use(tape):
        try:
            g = layer.backward(tape, d)
        except RuntimeError as error:
            return str(error)
        return all_same(flat([g.input, g.hx, g.params.flat]), expected)

    with ThreadPoolExecutor(4) as pool:
        for _ in range(100):
            found = list(pool.map(use, [layer.forward(x)[2]] * 4))
            assert found.count(True) == 1 and sum("not used before" in str(one) for one in found) == 3, found


def test_a_tape_cannot_be_shared():
    layer, (x, d) = make("LSTM", 9, 32), example(np.random.default_rng(0), 7)
    tape = layer.forward(x)[2]
    with pytest.raises(TypeError, match="tape: expected one owner"):
        copy.copy(tape)
    layer.backward(tape, d)


def test_threads_take_each_array_once():
    reserve, dtype = Reserve(), np.dtype(np.float32)
    arrays = [np.zeros(1000, dtype) for _ in range(1000)]
    reserve.extend(arrays)
    taken = []
    threads = [threading.Thread(target=lambda: taken.extend(reserve.empty((10, 100), dtype) for _ in range(500)))
               for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bases = [id(array.base) for array in taken if array.base is not None]
    assert len(taken) == 2000 and len(bases) == len(set(bases)) and set(bases) >= set(map(id, arrays))
