"""Bad input is an error that names the argument and both numbers, and changes nothing; good input is taken."""

import copy
import inspect
import pickle

import numpy as np
import pytest
import torch

import fastrnn


@pytest.fixture
def rnn():
    return fastrnn.RNN(4, 3, 2, rng=0)


X = np.ones((5, 2, 4), np.float32)


@pytest.mark.parametrize(("error", "message", "input", "hx"), [
    (ValueError, r"input: expected last dimension 4 \(input_size\), got 5", np.ones((5, 2, 5), np.float32), None),
    (ValueError, r"input: expected 2 dimensions \(unbatched\) or 3, got 1", np.ones(4, np.float32), None),
    (ValueError, r"hx: expected shape \(2, 2, 3\), got \(1, 2, 3\)", X, np.ones((1, 2, 3), np.float32)),
    (TypeError, "input: expected numbers of dtype float32, got float64", X.astype(float), None),
    (TypeError, "input: expected numbers of dtype float32, got complex64", X.astype(np.complex64), None),
    (TypeError, "hx: expected numbers of dtype float32, got float64", X, np.ones((2, 2, 3))),
    (TypeError, "input: expected numbers of dtype float32, got <U1", [["a"]], None),
    (ValueError, "input: expected an array, got list", [[1.0], [1.0, 2.0]], None),
])
def test_bad_calls(rnn, error, message, input, hx):
    for call in (rnn, rnn.forward):
        with pytest.raises(error, match=message):
            call(input, hx)


@pytest.mark.parametrize(("error", "message", "arguments"), [
    (ValueError, "hidden_size: expected at least 1, got 0", {"hidden_size": 0}),
    (TypeError, "input_size: expected an int, got float", {"input_size": 2.0}),
    (ValueError, "nonlinearity: expected one of 'tanh', 'relu', 'sigmoid', got 'selu'", {"nonlinearity": "selu"}),
    (ValueError, "dropout: expected a probability from 0 to 1, got 2", {"dropout": 2}),
    (TypeError, "bias: expected True or False, got 1", {"bias": 1}),
    (TypeError, "dtype: expected float32 or float64, got 'int8'", {"dtype": "int8"}),
    (ValueError, "device: expected None or 'cpu', got 'cuda'", {"device": "cuda"}),
])
def test_bad_construction(error, message, arguments):
    with pytest.raises(error, match=message):
        fastrnn.RNN(**{"input_size": 4, "hidden_size": 3, **arguments})


def test_tapes(rnn):
    output, h_n, tape = rnn.forward(X)
    with pytest.raises(ValueError, match=r"d_output: expected shape \(5, 2, 3\), got \(5, 2, 4\)"):
        rnn.backward(tape, X)
    with pytest.raises(ValueError, match=r"d_hx: expected shape \(2, 2, 3\), got \(2, 3\)"):
        rnn.backward(tape, None, h_n[0])
    with pytest.raises(ValueError, match="tape: expected one of this"):
        fastrnn.RNN(4, 3, 2).backward(tape, output)
    with pytest.raises(TypeError, match="tape: expected a Tape, got int"):
        rnn.backward(3, output)
    rnn.backward(tape, output)
    with pytest.raises(RuntimeError, match="tape: expected one not used before"):
        rnn.backward(tape, output)
    with pytest.raises(ValueError, match="read-only"):
        output[0] = 0
    for change in (lambda: rnn.load_state_dict(rnn.state_dict()), lambda: rnn.params.add(0),
                   lambda: rnn.params.__setitem__("bias_ih_l0", np.zeros(3))):
        tape = rnn.forward(X)[2]
        change()
        with pytest.raises(RuntimeError, match="tape: expected weights of version"):
            rnn.backward(tape, output)


def test_gradients_add_and_accumulate(rnn):
    d = np.ones((5, 2, 3), np.float32)
    tapes = [rnn.forward(X)[2] for _ in range(4)]  # all open at once
    a, b = rnn.backward(tapes[2], d), rnn.backward(tapes[0], 2 * d)
    total = a + b
    assert np.allclose(total.params.flat, 3 * a.params.flat, rtol=1e-5)
    into = rnn.backward(tapes[1], d)
    assert rnn.backward(tapes[3], 2 * d, into=into) is into
    assert np.allclose(into.params.flat, total.params.flat, rtol=1e-5)
    assert np.allclose(into.input, total.input, rtol=1e-5)
    short = rnn.forward(X[:2])[2]
    with pytest.raises(ValueError, match=r"into.input: expected shape \(2, 2, 4\), got \(5, 2, 4\)"):
        rnn.backward(short, d[:2], into=into)
    with pytest.raises(TypeError, match="into: expected Gradients, got dict"):
        rnn.backward(short, d[:2], into={})


def test_weights_change_only_knowingly_and_are_seen(rnn):
    before = rnn(X)[0]
    with pytest.raises(ValueError, match="read-only"):
        rnn.params["weight_ih_l0"][0] = 1
    with pytest.raises(ValueError, match=r"bias_ih_l0: expected shape \(3,\), got \(4,\)"):
        rnn.params["bias_ih_l0"] = np.ones(4)
    state = rnn.state_dict()
    with pytest.raises(KeyError, match="missing: bias_hh_l1; unexpected: other"):
        rnn.load_state_dict({**{k: v for k, v in state.items() if k != "bias_hh_l1"}, "other": 1})
    with pytest.raises(ValueError, match="weight_hh_l1: expected shape"):
        rnn.load_state_dict({**state, "weight_hh_l1": np.ones((2, 2))})
    assert np.array_equal(rnn(X)[0], before)
    rnn.params["bias_ih_l0"] = torch.ones(3)
    assert not np.array_equal(rnn(X)[0], before)


class Model(torch.nn.Module):
    """A model of torch with two layers in it, of which the tests pick one."""

    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.ModuleDict({"rnn": torch.nn.RNN(4, 3, 2)})
        self.encoder2 = torch.nn.RNN(4, 3, 2)
        self.head = torch.nn.Linear(3, 2)


@pytest.mark.parametrize("prefix", ["encoder.rnn.", "encoder.rnn"])
def test_load_state_dict_picks_a_layer_of_torch(rnn, prefix):
    its = Model()
    expected = {name: value.detach().numpy() for name, value in its.encoder["rnn"].named_parameters()}
    for state in (its.state_dict(), dict(its.named_parameters()),  # the second with gradients
                  {name: value.numpy() for name, value in its.state_dict().items()} | {3: None}):
        rnn.load_state_dict(fastrnn.RNN(4, 3, 2).state_dict())
        rnn.load_state_dict(state, prefix=prefix)
        assert all(np.array_equal(rnn.params[name], value) for name, value in expected.items())
    head = fastrnn.Linear(3, 2)
    head.load_state_dict(its.state_dict(), prefix="head")
    head.params["bias"] = its.head.bias  # with a gradient
    rnn.load_state_dict(dict(its.encoder["rnn"].named_parameters()))


def test_load_state_dict_lists_all_that_is_wrong(rnn):
    before, state = rnn(X)[0], rnn.state_dict()
    wrong = {**state, "weight_hh_l1": np.ones((2, 2)), "bias_ih_l0": np.ones(4)}
    shapes = (r"bias_ih_l0: expected shape \(3,\), got \(4,\)", r"weight_hh_l1: expected shape \(3, 3\), got \(2, 2\)")
    with pytest.raises(ValueError, match=f"state_dict: {shapes[0]}; {shapes[1]}$"):
        rnn.load_state_dict(wrong)
    del wrong["bias_hh_l0"], wrong["weight_ih_l1"]
    with pytest.raises(KeyError, match="state_dict: expected weight_ih_l0, .*; missing: bias_hh_l0, weight_ih_l1; "
                                       f"unexpected: 7, other; {shapes[0]}; {shapes[1]}"):
        rnn.load_state_dict(wrong | {7: 1, "other": 2})
    model = Model().state_dict()
    del model["encoder.rnn.bias_hh_l1"]
    with pytest.raises(KeyError, match=r"expected encoder.rnn.weight_ih_l0, .*; missing: encoder.rnn.bias_hh_l1; "
                                       "unexpected: encoder.rnn.more'$"):
        rnn.load_state_dict(model | {"encoder.rnn.more": 1}, prefix="encoder.rnn")
    with pytest.raises(KeyError, match=r"missing: encoder.weight_ih_l0, .*; unexpected: encoder.rnn.weight_ih_l0, "):
        rnn.load_state_dict(model, prefix="encoder")
    with pytest.raises(KeyError, match=r"missing: decoder.weight_ih_l0, .*; unexpected: none"):
        rnn.load_state_dict(model, prefix="decoder")
    with pytest.raises(TypeError, match="prefix: expected a str, got int"):
        rnn.load_state_dict(model, prefix=1)
    with pytest.raises(TypeError, match="state_dict: expected a mapping, got list"):
        rnn.load_state_dict([*state])
    assert np.array_equal(rnn(X)[0], before)


def test_values_that_numpy_does_not_take(rnn):
    state, before = rnn.state_dict(), rnn.params.flat.copy()
    for value, message in [
        (torch.ones(3, dtype=torch.bfloat16), "expected what numpy.asarray takes, got Tensor: .*BFloat16"),
        (torch.ones(3, device="meta"), "expected what numpy.asarray takes, got Tensor: .*meta"),
        ([1.0, [2.0, 3.0]], "expected what numpy.asarray takes, got list: .*inhomogeneous"),
        (["a", "b", "c"], "expected real numbers, got dtype <U1"),
        (np.ones(3, complex), "expected real numbers, got dtype complex128"),
    ]:
        with pytest.raises(TypeError, match=f"bias_ih_l0: {message}"):
            rnn.load_state_dict(state | {"bias_ih_l0": value})
        with pytest.raises(TypeError, match=f"bias_ih_l0: {message}"):
            rnn.params["bias_ih_l0"] = value
    assert np.array_equal(rnn.params.flat, before)


def test_copies_and_repr(rnn):
    expected = rnn(X)[0]
    for twin in (pickle.loads(pickle.dumps(rnn)), copy.copy(rnn), copy.deepcopy(rnn)):
        assert np.array_equal(twin(X)[0], expected)
    deep = copy.deepcopy(rnn)
    deep.params["bias_ih_l0"] = np.ones(3)
    assert np.array_equal(rnn(X)[0], expected) and not np.array_equal(deep(X)[0], expected)
    assert repr(rnn) == repr(torch.nn.RNN(4, 3, num_layers=2))
    assert repr(fastrnn.RNNCell(4, 3)) == repr(torch.nn.RNNCell(4, 3))


@pytest.mark.parametrize("shape", [(0, 2, 4), (5, 0, 4), (0, 4)])
def test_empty(rnn, shape):
    states = (2, shape[1], 3) if len(shape) == 3 else (2, 3)
    hx = np.full(states, 0.5, np.float32)
    output, h_n, tape = rnn.forward(np.empty(shape, np.float32), hx)
    assert output.shape == (*shape[:-1], 3) and np.array_equal(h_n, hx)
    g = rnn.backward(tape, output, hx)
    assert g.input.shape == shape and np.array_equal(g.hx, hx) and not g.params.flat.any()


def test_other_errors():
    with pytest.raises(ValueError, match="n: expected from 1 to 2147483647, got 0"):
        fastrnn.set_num_threads(0)
    with pytest.raises(ValueError, match=r"x: expected last dimension 3 \(in_features\), got 4"):
        fastrnn.Linear(3, 2)(X)
    with pytest.raises(ValueError, match=r"input: expected last dimension 3 \(input_size\), got 4"):
        fastrnn.RNNCell(3, 2)(X[0])


KINDS = ["RNN", "LSTM", "GRU"]
H, C = np.ones((2, 2, 3), np.float32), np.ones((2, 2, 3), np.float32)


@pytest.fixture(params=KINDS)
def layer(request):
    return getattr(fastrnn, request.param)(4, 3, 2, rng=0)


@pytest.mark.parametrize(("error", "message", "options"), [
    (ValueError, r"lengths: expected shape \(2,\), got \(3,\)", {"lengths": [5, 5, 5]}),
    (ValueError, r"lengths: expected from 0 to 5 \(the steps of input\), got 6", {"lengths": [6, 0]}),
    (ValueError, r"lengths: expected from 0 to 5 \(the steps of input\), got -1", {"lengths": [5, -1]}),
    (TypeError, "lengths: expected integers, got float64", {"lengths": [5.0, 1.0]}),
    (TypeError, "lengths: expected integers, got bool", {"lengths": [True, False]}),
    (ValueError, r"reset: expected shape \(5, 2\), got \(2, 5\)", {"reset": np.zeros((2, 5), bool)}),
    (TypeError, "reset: expected booleans, got int64", {"reset": np.zeros((5, 2), np.int64)}),
])
def test_bad_lengths_and_resets(layer, error, message, options):
    for call in (layer, layer.forward):
        with pytest.raises(error, match=message):
            call(X, **options)
    packed = fastrnn.pack_padded_sequence(X, [5, 3])
    with pytest.raises(ValueError, match="lengths: expected None beside a PackedSequence"):
        layer(packed, lengths=[5, 3])
    with pytest.raises(ValueError, match=r"reset: expected shape \(8,\), got \(5, 2\)"):
        layer(packed, reset=np.zeros((5, 2), bool))


def test_bad_out_is_not_written(layer):
    output, states = layer(X)
    first = states[0] if isinstance(states, tuple) else states
    with_first = lambda h: (h, *states[1:]) if isinstance(states, tuple) else h  # noqa: E731
    read_only, mixed = output.copy(), np.asfortranarray(output)
    read_only.flags.writeable = False
    for error, message, out in [
        (TypeError, r"out: expected a tuple \(output, ", output),
        (TypeError, r"out\[0\]: expected dtype float32, got float64", (output.astype(float), states)),
        (TypeError, r"out\[0\]: expected an ndarray, got list", (output.tolist(), states)),
        (ValueError, r"out\[0\]: expected shape \(5, 2, 3\), got \(4, 2, 3\)", (output[1:], states)),
        (ValueError, r"out\[0\]: expected a writable, contiguous array, got .* read-only", (read_only, states)),
        (ValueError, r"out\[0\]: expected a writable, contiguous array, got .* not contiguous", (mixed, states)),
        (ValueError, r"out\[1\]: expected shape \(2, 2, 3\), got \(1, 2, 3\)", (output, with_first(first[:1]))),
    ]:
        before = output.copy()
        for options in ({}, {"lengths": [5, 2]}):
            with pytest.raises(error, match=message):
                layer(2 * X, out=out, **options)
        assert np.array_equal(output, before)
    with pytest.raises(ValueError, match="out: expected None with a PackedSequence, got arrays"):
        layer(fastrnn.pack_padded_sequence(X, [5, 3]), out=(output, states))


@pytest.mark.parametrize(("error", "message", "arguments"), [
    (ValueError, r"proj_size: expected from 0 to 2 \(below hidden_size\), got 3", {"proj_size": 3}),
    (ValueError, r"proj_size: expected from 0 to 2 \(below hidden_size\), got -1", {"proj_size": -1}),
    (TypeError, "proj_size: expected an int, got float", {"proj_size": 1.0}),
    (TypeError, "hidden_size: expected an int, got str", {"hidden_size": "3", "proj_size": 1}),
])
def test_bad_projection(error, message, arguments):
    with pytest.raises(error, match=message):
        fastrnn.LSTM(**{"input_size": 4, "hidden_size": 3, **arguments})


def test_bad_states_and_gradients_of_an_lstm():
    lstm, cell = fastrnn.LSTM(4, 3, 2, rng=0), fastrnn.LSTMCell(4, 3, rng=0)
    for call in (lstm, lstm.forward):
        with pytest.raises(TypeError, match=r"hx: expected a pair \(h, c\), got ndarray"):
            call(X, H)
        with pytest.raises(TypeError, match=r"hx: expected a pair \(h, c\), got tuple of 3"):
            call(X, (H, C, C))
        with pytest.raises(ValueError, match=r"hx: expected shape \(2, 2, 3\), got \(1, 2, 3\)"):
            call(X, (H, C[:1]))
        with pytest.raises(TypeError, match="return_cells: expected True or False, got 1"):
            call(X, return_cells=1)
    with pytest.raises(TypeError, match=r"hx: expected a pair \(h, c\), got ndarray"):
        cell(X[0], H[0])
    with pytest.raises(ValueError, match=r"hx: expected shape \(2, 3\), got \(3,\)"):
        cell(X[0], (H[0], C[0, 0]))
    output, _, tape = lstm.forward(X)
    for message, d in [(r"d_hx: expected shape \(2, 2, 3\), got \(2, 3\)", {"d_hx": (H[0], None)}),
                       (r"d_cells: expected shape \(5, 2, 3\), got \(5, 2, 4\)", {"d_cells": X})]:
        with pytest.raises(ValueError, match=message):
            lstm.backward(tape, output, **d)
    with pytest.raises(TypeError, match=r"d_hx: expected a pair \(h, c\), got ndarray"):
        lstm.backward(tape, output, H)
    assert lstm.backward(tape, output, (None, C)).input.shape == X.shape  # the tape was still open


def test_bad_out_of_a_cell():
    for cell, state in ((fastrnn.GRUCell(4, 3, rng=0), H[0]), (fastrnn.LSTMCell(4, 3, rng=0), (H[0], C[0]))):
        joined = lambda h, state=state: (h, state[1]) if isinstance(state, tuple) else h  # noqa: E731
        with pytest.raises(ValueError, match=r"out: expected shape \(2, 3\), got \(3,\)"):
            cell(X[0], state, out=joined(np.empty(3, np.float32)))
        with pytest.raises(TypeError, match="out: expected dtype float32, got float64"):
            cell(X[0], state, out=joined(np.empty((2, 3))))


POSITIONS = {  # of torch.nn's arguments
    "RNN": "num_layers nonlinearity bias batch_first dropout bidirectional device dtype",
    "LSTM": "num_layers bias batch_first dropout bidirectional proj_size device dtype",
    "GRU": "num_layers bias batch_first dropout bidirectional device dtype",
    "RNNCell": "bias nonlinearity device dtype", "LSTMCell": "bias device dtype", "GRUCell": "bias device dtype",
}


@pytest.mark.parametrize("cls", [fastrnn.LSTM, fastrnn.LSTMCell])
def test_peepholes_are_drawn_after_all_else(cls):
    plain, layer = cls(4, 3, rng=0), cls(4, 3, peephole=True, rng=0)
    *names, last = layer.params
    assert names == [*plain.params] and last.startswith("weight_peephole")
    assert repr(plain) == f"{cls.__name__}(4, 3)" and repr(layer) == f"{cls.__name__}(4, 3, peephole=True)"
    rng, bound = np.random.default_rng(0), 1 / np.sqrt(3)
    for name, value in layer.params.items():
        assert np.array_equal(value, rng.uniform(-bound, bound, value.shape).astype(np.float32))
        assert name == last or np.array_equal(value, plain.params[name])
    assert layer.params[last].shape == (9,)
    with pytest.raises(TypeError, match="peephole: expected True or False, got 1"):
        cls(4, 3, peephole=1)
    with pytest.raises(KeyError, match=f"missing: {last}; unexpected: none"):
        layer.load_state_dict(plain.state_dict())


@pytest.mark.parametrize("name", POSITIONS)
def test_arguments_and_repr_are_those_of_torch(name):
    parameters = inspect.signature(getattr(fastrnn, name)).parameters.values()
    by_position = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert by_position == ["input_size", "hidden_size", *POSITIONS[name].split()]
    given = (4, 3, False) if "Cell" in name else (4, 3, 2, *["tanh"] * (name == "RNN"), False, True, 0.25, True)
    mine, its = getattr(fastrnn, name)(*given), getattr(torch.nn, name)(*given)
    assert repr(mine) == repr(its)
    assert mine.params.shapes == {key: tuple(p.shape) for key, p in its.named_parameters()}
