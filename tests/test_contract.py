"""The numerics contract: the same bits for a row in any batch, on any threads, in one call or in pieces."""

import shutil
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from cases import KINDS, OPTIONS, Case, by_reference, finite_worst_error, make, one_unit, passes, reference_cell, run
from helpers import all_same, assert_close, flat, python, same

import fastrnn
from fastrnn import kernels, reference


def rows_of(states, rows):
    """Those rows of states (..., N, H)."""
    return tuple(s[:, rows] for s in states) if isinstance(states, tuple) else states[:, rows]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("T", "B", "I", "H"), [(20, 13, 33, 65), (3, 64, 7, 128), (40, 2, 16, 16)])
def test_row_in_any_batch_and_any_pieces(kind, T, B, I, H):
    rng = np.random.default_rng(0)
    layer = make(kind, I, H, 2)
    x = rng.standard_normal((T, B, I), np.float32)
    output, states = layer(x)
    for b in (0, B // 2, B - 1):
        assert same(layer(x[:, b : b + 1])[0], output[:, b : b + 1])
        assert same(layer(x[:, b:])[0], output[:, b:])
        assert same(layer(x[:, b])[0], output[:, b])
    for cut in (1, T // 2, T - 1):
        first, carried = layer(x[:cut])
        second, carried = layer(x[cut:], carried)
        assert same(np.concatenate([first, second]), output) and all_same(carried, states)
    assert same(layer.forward(x)[0], output)
    first = make(kind, I, H, 2, batch_first=True)
    assert same(first(x.swapaxes(0, 1))[0].swapaxes(0, 1), output)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("T", "B", "I", "H"), [(60, 1, 64, 384), (40, 33, 40, 70), (200, 5, 100, 128),
                                                (5, 1100, 9, 24),
                                                (20, 33, 30, 576),   # units that change hands from chunk to chunk,
                                                (20, 40, 30, 160)])  # and rows
def test_any_number_of_threads(kind, T, B, I, H, bidirectional):
    rng = np.random.default_rng(0)
    layer = make(kind, I, H, bidirectional=bidirectional)
    x, lengths, reset = rng.standard_normal((T, B, I), np.float32), rng.integers(0, T + 1, B), rng.random((T, B)) < 0.02
    fastrnn.set_num_threads(1)
    d = rng.standard_normal(layer(x[:1])[0].shape, np.float32).repeat(T, axis=0)
    for options in ({}, {"lengths": lengths, "reset": reset}):
        fastrnn.set_num_threads(1)
        alone = passes(layer, x, d, **options)
        assert all_same(layer(x, **options), alone[: len(alone) // 2])
        for n in (2, 3, 4, 7):
            fastrnn.set_num_threads(n)
            assert all_same(passes(layer, x, d, **options), alone), n
            assert all_same(layer(x, **options), alone[: len(alone) // 2])


@pytest.mark.parametrize("kind", KINDS)
def test_more_workers_than_panels_of_columns(kind):
    """Some compute different rows of the same columns of dW."""
    rng = np.random.default_rng(0)
    layer = make(kind, 8, 576)
    x = rng.standard_normal((20, 33, 8), np.float32)
    fastrnn.set_num_threads(1)
    d = rng.standard_normal(layer(x)[0].shape, np.float32)
    alone = passes(layer, x, d)
    fastrnn.set_num_threads(40)
    for _ in range(3):
        assert all_same(passes(layer, x, d), alone)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_batch_first_on_any_number_of_threads(kind, bidirectional):
    """Rows that do not lie in the order of the steps, so wide that most workers have no whole one of a chunk's dx."""
    rng = np.random.default_rng(0)
    layer, first = [make(kind, 5000, 130, bidirectional=bidirectional, batch_first=how) for how in (False, True)]
    x = rng.standard_normal((3, 2, 5000), np.float32)
    fastrnn.set_num_threads(1)
    d = rng.standard_normal(layer(x)[0].shape, np.float32)
    output, *others = passes(layer, x, d)
    for n in (1, 2, 16):
        fastrnn.set_num_threads(n)
        its, *its_others = passes(first, x.swapaxes(0, 1).copy(), d.swapaxes(0, 1).copy())
        for mine, theirs in zip([output, *others], [its, *its_others], strict=True):
            assert same(mine, theirs.swapaxes(0, 1) if mine.shape[:2] == (3, 2) else theirs)


@pytest.mark.parametrize(("kind", "H"), [("RNN", 2070), ("LSTM", 530), ("GRU", 1050)])
def test_sums_of_thousands_in_blocks_of_k(kind, H):
    """Going back, sums over gates and units of many rows rest in memory; those of few rows do not."""
    rng = np.random.default_rng(0)
    layer, B = make(kind, 40, H), 41
    x, d = rng.standard_normal((3, B, 40), np.float32), rng.standard_normal((3, B, H), np.float32)
    fastrnn.set_num_threads(1)
    expected, together = passes(layer, x, d), layer.backward(layer.forward(x)[2], d)
    for threads in (1, 3):
        fastrnn.set_num_threads(threads)
        assert all_same(passes(layer, x, d), expected)
        for b in (0, 7, B - 1):
            row = slice(b, b + 1)
            alone = layer.backward(layer.forward(x[:, row])[2], d[:, row])
            assert same(alone.input, together.input[:, row]) and all_same(alone.hx, rows_of(together.hx, row))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_lengths_are_rows_alone(kind, bidirectional):
    rng = np.random.default_rng(0)
    layer = make(kind, 9, 20, 2, bidirectional=bidirectional)
    x, lengths = rng.standard_normal((12, 7, 9), np.float32), np.array([3, 12, 0, 12, 1, 7, 7])
    output, states, tape = layer.forward(x, lengths=lengths)
    d = rng.standard_normal(output.shape, np.float32)
    g = layer.backward(tape, d)
    for b, length in enumerate(lengths):
        row = slice(b, b + 1)
        alone, state, tape = layer.forward(x[:length, row])
        assert same(output[:length, row], alone) and not output[length:, b].any()
        assert all_same(rows_of(states, row), state)
        one = layer.backward(tape, d[:length, row])
        assert same(g.input[:length, row], one.input) and not g.input[length:, b].any()
        assert all_same(rows_of(g.hx, row), one.hx)
    behind = np.arange(12)[:, None] >= lengths
    x[behind] = np.nan  # is not read
    d[behind] = np.nan
    again = passes(layer, x, d, lengths=lengths)
    assert all_same(again, [output, states, g.input, g.hx, g.params.flat])


@pytest.mark.parametrize("options", [{}, {"proj_size": 7}])
def test_peepholes_of_zero_are_none(options):
    rng = np.random.default_rng(0)
    plain, layer = (fastrnn.LSTM(9, 20, 2, bidirectional=True, peephole=peephole, rng=0, **options)
                    for peephole in (False, True))
    weights = plain.state_dict()
    zeros = {name: np.zeros_like(value) for name, value in layer.params.items() if "peephole" in name}
    assert len(zeros) == 4 and all(zero.shape == (60,) for zero in zeros.values())
    layer.load_state_dict(weights | zeros)
    x, lengths, reset = rng.standard_normal((12, 7, 9), np.float32), rng.integers(0, 13, 7), rng.random((12, 7)) < 0.2
    d = rng.standard_normal(plain(x)[0].shape, np.float32)
    for more in ({}, {"lengths": lengths, "reset": reset}):
        *expected, _ = passes(plain, x, d, **more)
        *got, _ = passes(layer, x, d, **more)
        assert all_same(got, expected) and all_same(layer(x, **more), plain(x, **more))
        mine, its = (one.backward(one.forward(x, **more)[2], d).params for one in (layer, plain))
        assert all(same(mine[name], its[name]) for name in its)


@pytest.mark.parametrize("kind", KINDS)
def test_packed_is_padded(kind):
    rng = np.random.default_rng(0)
    layer = make(kind, 9, 20, 2, bidirectional=True)
    x, lengths = rng.standard_normal((12, 7, 9), np.float32), np.array([3, 12, 1, 12, 1, 7, 7])
    output, states, tape = layer.forward(x, lengths=lengths)
    packed = fastrnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    for call in (layer, layer.forward):
        got, got_states = call(packed)[:2]
        assert isinstance(got, fastrnn.PackedSequence)
        padded, found = fastrnn.pad_packed_sequence(got)
        assert same(padded, output) and all_same(got_states, states) and np.array_equal(found, lengths)
    d = rng.standard_normal(output.shape, np.float32)
    g = layer.backward(tape, d)
    of_packed = layer.backward(layer.forward(packed)[2], fastrnn.pack_padded_sequence(d, lengths, enforce_sorted=False))
    assert same(fastrnn.pad_packed_sequence(packed._replace(data=of_packed.input))[0], g.input)
    assert all_same(of_packed.hx, g.hx) and same(of_packed.params.flat, g.params.flat)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_resets_are_pieces_apart(kind, batch_first):
    rng = np.random.default_rng(0)
    layer = make(kind, 9, 20)
    T, cut, B = 11, 4, 5
    x, hx = rng.standard_normal((T, B, 9), np.float32), layer(np.ones((1, B, 9), np.float32))[1]
    d = rng.standard_normal(layer(x)[0].shape, np.float32)
    reset = np.zeros((T, B), bool)
    reset[cut] = True
    output, states, tape = layer.forward(x, hx, reset=reset)
    g = layer.backward(tape, d)
    first, _, tape = layer.forward(x[:cut], hx)
    g_first = layer.backward(tape, d[:cut])
    second, state, tape = layer.forward(x[cut:])
    g_second = layer.backward(tape, d[cut:])
    assert same(output, np.concatenate([first, second])) and all_same(states, state)
    assert same(g.input, np.concatenate([g_first.input, g_second.input])) and all_same(g.hx, g_first.hx)
    assert_close(g.params.flat, g_first.params.flat + g_second.params.flat, 1e-6, "params")
    if batch_first:
        twin = make(kind, 9, 20, batch_first=True)
        assert same(twin(x.swapaxes(0, 1), hx, reset=reset.T)[0].swapaxes(0, 1), output)


@pytest.mark.parametrize("kind", KINDS)
def test_resets_of_rows_at_different_steps_both_directions(kind):
    rng = np.random.default_rng(0)
    T, B = 13, 6
    x, lengths = rng.standard_normal((T, B, 6), np.float32), np.array([13, 9, 13, 2, 5, 0])
    reset = rng.random((T, B)) < 0.25
    layer = make(kind, 6, 17, 1, bidirectional=True)
    hx = layer(np.ones((1, B, 6), np.float32))[1]
    output = layer(x, hx, lengths=lengths, reset=reset)[0]
    columns = output.shape[2] // 2
    for b in range(B):
        starts = [0, *(t for t in range(1, lengths[b]) if reset[t, b]), lengths[b]]
        for first, end in pairwise(starts):
            state = flat(rows_of(hx, slice(b, b + 1)))
            for direction, kept in ((0, first == 0 and not reset[0, b]), (1, end == lengths[b])):
                begun = tuple(s * np.float32(kept) for s in state)
                piece = layer(x[first:end, b : b + 1], begun if len(begun) == 2 else begun[0])[0]
                part = slice(direction * columns, (direction + 1) * columns)
                assert same(output[first:end, b : b + 1, part], piece[..., part]), (b, first, direction)


@pytest.mark.parametrize("kind", KINDS)
def test_streaming_into_given_arrays(kind):
    rng = np.random.default_rng(0)
    layer = make(kind, 9, 20, 2)
    x = rng.standard_normal((8, 3, 9), np.float32)
    output, states = layer(x)
    step, carried = layer(x[:1])
    given = step, carried
    for t in range(1, 8):  # the state is read from where the next one is written
        got = layer(x[t : t + 1], carried, out=given)
        assert got[0] is step and all(a is b for a, b in zip(flat(got[1]), flat(carried), strict=True))
        assert same(step, output[t : t + 1])
    assert all_same(carried, states)
    lengths = np.array([2, 8, 5])
    expected = layer(x, lengths=lengths)
    got = layer(x, lengths=lengths, out=(np.full_like(output, np.nan), tuple(map(np.empty_like, states))
                                         if isinstance(states, tuple) else np.empty_like(states)))
    assert all_same(got, expected)


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_cells_step_into_given_arrays(kind):
    rng = np.random.default_rng(0)
    cell = getattr(fastrnn, kind.split(",")[0] + "Cell")(9, 20, rng=0, **OPTIONS.get(kind, {}))
    for x in (rng.standard_normal((8, 3, 9), np.float32), rng.standard_normal((8, 9), np.float32)):
        state = given = cell(x[0])
        given = tuple(map(np.copy, given)) if isinstance(given, tuple) else given.copy()
        for t in range(1, 8):
            state = cell(x[t], state)
            assert cell(x[t], given, out=given) is given
        assert all_same(given, state)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("B", [1, 3])
def test_a_stack_goes_through_long_sequences_in_pieces(kind, B):
    layer, x = make(kind, 5, 12, 3), np.random.default_rng(0).standard_normal((2500, B, 5), np.float32)
    output, states, _ = layer.forward(x)  # layer after layer
    assert all_same(layer(x), [output, states])
    begun = layer(x[:7])[1]
    expected = layer.forward(x, begun)[:2]
    assert all_same(layer(x, begun), expected)
    assert all_same(layer(x, begun, out=(np.empty_like(output), begun)), expected)  # begun, where its end is written


def test_memory_of_inference_does_not_grow_with_the_steps():
    code = """
import resource, numpy as np, fastrnn
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
for kind in (fastrnn.RNN, fastrnn.LSTM, fastrnn.GRU):
    layer, x = kind(4, 64, 3, rng=0), np.ones((200_000, 1, 4), np.float32)
    given = np.ones((200_000, 1, 64), np.float32), layer(x[:1])[1]  # 51 MB
    before = peak()
    layer(x, out=given)
    print(peak() - before)
"""
    result = python(code)
    assert result.returncode == 0, result.stderr
    assert max(map(int, result.stdout.split())) < 4e6, result.stdout


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"])
def test_a_step_into_given_arrays_allocates_none(name):
    module, x = getattr(fastrnn, name)(9, 512, rng=0), np.ones((1, 9), np.float32)
    x = x if "Cell" in name else x[None]
    given = module(x)
    for out in (None, given):  # without arrays to write to, the measurement sees those that are made
        tracemalloc.start()
        for _ in range(3):
            module(x, given if "Cell" in name else given[1], out=out)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (peak >= 512 * 4) == (out is None), peak


def random_like(rng, arrays):
    """Other numbers in the same shapes."""
    if isinstance(arrays, tuple):
        return tuple(random_like(rng, array) for array in arrays)
    return rng.standard_normal(arrays.shape, np.float32)


def other_strides(array):
    """The same numbers, such that they have to be copied."""
    return array[..., ::-1].copy()[..., ::-1]


def results_of(backward, tapes, d, d_hx):
    """Gradients of two tapes of the same pass, and then their sum by way of `into`."""
    g = backward(tapes[0], *d, d_hx)
    alone = [array.copy() for array in flat([g.input, g.hx, g.params.flat])]
    assert backward(tapes[1], *d, d_hx, into=g) is g
    return [*alone, *flat([g.input, g.hx, g.params.flat])]


@pytest.mark.parametrize("shape", [(4, 3, 5), (4, 5)])
@pytest.mark.parametrize("options", [{}, {"num_layers": 3, "batch_first": True},
                                     {"num_layers": 2, "bidirectional": True, "batch_first": True}])
@pytest.mark.parametrize("kind", KINDS)
def test_training_by_one_compiled_call_and_layer_by_layer(kind, options, shape, monkeypatch):
    rng = np.random.default_rng(0)
    layer, x = make(kind, 5, 18, **options), rng.standard_normal(shape, np.float32)
    hx = random_like(rng, layer(x)[1])
    d, d_hx = random_like(rng, layer(x)[0]), random_like(rng, hx)
    with monkeypatch.context() as patched:
        patched.setattr("fastrnn.recurrence.forward", None)
        patched.setattr("fastrnn.recurrence.backward", None)
        output, states, first = layer.forward(x, hx)
        expected = results_of(layer.backward, (first, layer.forward(x, hx)[2]), [d], d_hx)
    assert not output.flags.writeable and all_same((output, states), layer(x, hx))
    T, rows = (shape[0], ()) if len(shape) == 2 else (shape[1], shape[0]) if layer.batch_first else shape[:2]
    for options in ({}, {"lengths": np.full(rows, T)}):
        for gradient in (d, other_strides(d)):
            passes = [layer.forward(x, hx, **options) for _ in range(2)]
            assert all_same(passes[0][:2], (output, states))
            assert all_same(results_of(layer.backward, [tape for *_, tape in passes], [gradient], d_hx), expected)


@pytest.mark.parametrize("shape", [(3, 5), (5,)])
@pytest.mark.parametrize("kind", KINDS[:-1])
def test_training_a_cell_by_one_compiled_call_and_by_parts(kind, shape, monkeypatch):
    rng = np.random.default_rng(0)
    cell = getattr(fastrnn, kind.split(",")[0] + "Cell")(5, 18, rng=0, **OPTIONS.get(kind, {}))
    x = rng.standard_normal(shape, np.float32)
    hx = random_like(rng, cell(x))
    d_hx = random_like(rng, hx)
    with monkeypatch.context() as patched:
        patched.setattr("fastrnn.recurrence.forward", None)
        patched.setattr("fastrnn.recurrence.backward", None)
        state, first = cell.forward(x, hx)
        expected = results_of(cell.backward, (first, cell.forward(x, hx)[1]), [], d_hx)
    assert not any(array.flags.writeable for array in flat([state])) and all_same(state, cell(x, hx))
    strided = tuple(map(other_strides, d_hx)) if isinstance(d_hx, tuple) else other_strides(d_hx)
    for given in (x, other_strides(x)):
        for gradient in (d_hx, strided):
            passes = [cell.forward(given, hx) for _ in range(2)]
            assert all_same(passes[0][0], state)
            assert all_same(results_of(cell.backward, [tape for _, tape in passes], [], gradient), expected)


def test_strides_and_kinds_of_input():
    rng = np.random.default_rng(0)
    rnn, x = fastrnn.RNN(5, 9, rng=0), rng.standard_normal((6, 3, 5), np.float32)
    expected = rnn(x)[0]
    read_only = x.copy()
    read_only.flags.writeable = False
    wide = np.zeros((6, 3, 10), np.float32)
    wide[..., ::2] = x
    unaligned = np.frombuffer(b"\0" + x.tobytes(), np.float32, offset=1).reshape(x.shape)
    forms = [np.asfortranarray(x), x[::-1].copy()[::-1], x[..., ::-1].copy()[..., ::-1], wide[..., ::2], read_only,
             x.astype(">f4"), unaligned, np.ma.array(x), x.tolist()]
    for form in forms:
        assert same(rnn(form)[0], expected)
        assert all_same(passes(rnn, form, np.ones_like(expected)), passes(rnn, x, np.ones_like(expected)))
    before = x.copy()
    passes(rnn, x, np.ones_like(expected))
    assert same(x, before)
    halves = (x * 4).round().astype(np.float16)
    assert same(rnn(halves)[0], rnn(halves.astype(np.float32))[0])


@pytest.mark.parametrize("kind", [*KINDS[:-1], "relu", "sigmoid"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_stay_in_their_row(kind, bad):
    rng = np.random.default_rng(0)
    layer = make(kind, 5, 9) if kind in KINDS else fastrnn.RNN(5, 9, nonlinearity=kind, rng=0)
    x = rng.standard_normal((6, 8, 5), np.float32)
    clean = layer(x)[0]
    x[2, 3, 1] = bad
    got = layer(x)[0]
    zeros = (np.zeros((1, 8, 9), np.float32),) * (1 + layer._memory)
    expected = reference.stack(reference_cell(layer), x, zeros, layer.params)[0]
    assert np.array_equal(np.isnan(got), np.isnan(expected)) and np.array_equal(np.isinf(got), np.isinf(expected))
    others = np.arange(8) != 3
    assert same(got[:, others], clean[:, others])


@pytest.mark.parametrize("build", kernels.runnable())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_every_build(kind, build, dtype):
    bound = 1e-13 if dtype == np.float64 else 2e-5
    for seed in range(40):
        case = Case(kind, seed, dtype, beyond=True)
        case.layer._engine = kernels.load(build, dtype)
        assert finite_worst_error(run(case), by_reference(case)) <= bound


def activation_of(build, name, x):
    return one_unit(build, x.dtype, 0.0, name)(x.reshape(1, -1, 1))[0].ravel()


@pytest.mark.parametrize("build", kernels.runnable())
@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_within_4_ulp(build, name, dtype):
    rng = np.random.default_rng(0)
    bits = np.arange(0, int(np.float32(10).view(np.uint32)) + 1, 997, dtype=np.uint32).view(np.float32)
    small = (10.0 ** rng.uniform(-44 if dtype == np.float32 else -320, 3, 200_000)).astype(dtype)
    x = np.concatenate([bits.astype(dtype), rng.uniform(0, 100, 200_000).astype(dtype), small])
    x = np.concatenate([x, -x, dtype([0, np.inf, -np.inf, np.finfo(dtype).max])])
    wide = x.astype(np.longdouble)
    with np.errstate(all="ignore"):
        exact = np.tanh(wide) if name == "tanh" else 1 / (1 + np.exp(-wide))
    rounded = exact.astype(dtype)
    ulps = np.abs(activation_of(build, name, x).astype(np.longdouble) - exact) / np.spacing(np.abs(rounded))
    # Measured: tanh 2.49 (float32) and 2.51 (float64), sigmoid 2.98 and 2.38, the same to 0.01 in every build.
    assert ulps.max() <= 4, (x[ulps.argmax()], ulps.max())
    assert np.isnan(activation_of(build, name, dtype([np.nan]))).all()


def test_import_leaves_subnormals_and_forced_builds():
    code = "import numpy as np, fastrnn; x = np.full(9, 1e-40, np.float32) * np.float32(0.5); assert (x > 0).all()"
    assert python(code).returncode == 0
    for name in kernels.runnable():
        shown = python("import fastrnn.kernels as k; print(k.build, k.reason)", FASTRNN_BUILD=name)
        assert shown.stdout == f"{name} forced by FASTRNN_BUILD\n"
    assert "FASTRNN_BUILD: expected one of" in python("import fastrnn", FASTRNN_BUILD="v9").stderr
    assert python("import fastrnn; print(fastrnn.get_num_threads())", FASTRNN_NUM_THREADS="3").stdout == "3\n"
    assert "FASTRNN_NUM_THREADS: expected" in python("import fastrnn", FASTRNN_NUM_THREADS="many").stderr


def test_sources_without_kernels_say_so(tmp_path):
    package = Path(fastrnn.__file__).parent
    shutil.copytree(package, tmp_path / "fastrnn", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    result = python("import fastrnn", PYTHONPATH=str(tmp_path))
    assert "ImportError: fastrnn: expected compiled kernels in" in result.stderr
    assert "'pip install -e .' builds them in place" in result.stderr
