"""Random uses of a recurrent layer, and what fastrnn, torch and the reference make of them."""

import warnings

import numpy as np
from helpers import flat

import fastrnn
from fastrnn import kernels, reference

__all__ = ["KINDS", "OPTIONS", "Case", "by_reference", "by_torch", "finite_worst_error", "make", "one_unit", "passes",
           "reference_cell", "run"]

SIZES = [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 129, 130]


KINDS = ["RNN", "LSTM", "LSTM, peephole", "GRU", "GRU, reset before", "LSTM, projected"]  # all but the last have a cell
OPTIONS = {"LSTM, peephole": {"peephole": True}, "GRU, reset before": {"reset_after": False}}  # of layer and cell


def make(kind, I, H, num_layers=1, **options):
    """A layer of that kind, of seed 0."""
    options |= OPTIONS.get(kind, {}) | ({"proj_size": H // 2} if kind == "LSTM, projected" else {})
    return getattr(fastrnn, kind.split(",")[0])(I, H, num_layers, rng=0, **options)


def one_unit(build, dtype, recurrent, nonlinearity):
    """An RNN of that build that computes h_t = f(x_t + recurrent h_{t-1}), for numbers to be followed one by one."""
    rnn = fastrnn.RNN(1, 1, nonlinearity=nonlinearity, bias=False, dtype=dtype)
    rnn._engine = kernels.load(build, dtype)
    rnn.load_state_dict({"weight_ih_l0": [[1.0]], "weight_hh_l0": [[recurrent]]})
    return rnn


def passes(layer, x, d, **options):
    """All results of a forward and a backward pass."""
    output, states, tape = layer.forward(x, **options)
    g = layer.backward(tape, d)
    return flat([output, states, g.input, g.hx, g.params.flat])


class Case:
    """A layer, and the arrays of one forward and one backward pass; all drawn from a seed.

    Arrays are time-major with a batch, (T, B, ...); `shown` turns them into what the layer takes. With `beyond` also
    what torch does not have: no steps, no rows, rows of no steps alone, resets, every cell state, peepholes, the
    original GRU.
    """

    def __init__(self, kind, seed, dtype, beyond=False):
        rng = np.random.default_rng(seed)
        choose = lambda *values: values[rng.integers(len(values))]  # noqa: E731
        least = 0 if beyond else 1
        I, H, layers, bias = choose(*SIZES), choose(*SIZES), int(rng.integers(1, 4)), choose(True, False)
        self.batched = bool(rng.random() < 0.8)
        T, B = int(rng.integers(least, 20)), int(rng.integers(least, 14)) if self.batched else 1
        arguments = {"num_layers": layers, "bias": bias, "batch_first": choose(True, False),
                     "bidirectional": choose(True, False), "dtype": dtype, "rng": 1}
        if kind == "RNN":  # in float32 rounding decides on which side of relu's kink an argument near 0 lies
            arguments["nonlinearity"] = choose("tanh", "relu" if dtype == np.float64 else "tanh")
        if kind == "LSTM" and H > 1 and rng.random() < 0.4:
            arguments["proj_size"] = int(rng.integers(1, H))
        if kind == "LSTM" and beyond:
            arguments["peephole"] = choose(True, False)
        if kind == "GRU" and beyond:
            arguments["reset_after"] = choose(True, False)
        self.layer = getattr(fastrnn, kind)(I, H, **arguments)
        P, D = getattr(self.layer, "proj_size", 0) or H, 2 if self.layer.bidirectional else 1
        self.lengths = rng.integers(0, T + 1, B) if choose(True, False) else None
        if self.lengths is not None and not beyond:
            self.lengths[rng.integers(B)] = T
        self.packed = self.lengths is not None and self.batched and choose(True, False)
        self.reset = rng.random((T, B)) < 0.2 if beyond and choose(True, False) else None
        draw = lambda *shape: rng.standard_normal(shape).astype(dtype)  # noqa: E731
        self.x, self.d_output = draw(T, B, I), draw(T, B, D * P)
        sizes = [P, H][: 2 if kind == "LSTM" else 1]
        self.states = tuple(draw(D * layers, B, size) for size in sizes)
        if choose(True, False):
            self.states = tuple(map(np.zeros_like, self.states))
        self.d_states = tuple(draw(D * layers, B, size) for size in sizes)
        self.d_cells = draw(T, B, D * H) if beyond and kind == "LSTM" and choose(True, False) else None
        output, state = choose((1, 1), (1, 0), (0, 1))  # which results the loss is of
        self.d_output *= output
        self.d_states = tuple(d * dtype(state) for d in self.d_states)

    def shown(self, array):
        """A (T, B, ...) array as the layer takes it."""
        if self.packed:
            return fastrnn.pack_padded_sequence(array, self.lengths, enforce_sorted=False)
        if not self.batched:
            return array[:, 0]
        return array.swapaxes(0, 1) if self.layer.batch_first else array

    def time_major(self, array):
        """The reverse of `shown`."""
        if self.packed:
            return fastrnn.pad_packed_sequence(array, total_length=len(self.x))[0]
        if not self.batched:
            return array[:, None]
        return array.swapaxes(0, 1) if self.layer.batch_first else array

    def shown_states(self, states):
        """States as the layer takes them: alone or a pair, batched or not."""
        states = tuple(state if self.batched else state[:, 0] for state in states)
        return states if len(states) == 2 else states[0]

    def plain_states(self, states):
        """The reverse of `shown_states`."""
        states = states if isinstance(states, tuple) else (states,)
        return tuple(state if self.batched else state[:, None] for state in states)


def named(output, finals, d_input, d_states, params, cells=None):
    """The results of a case by name."""
    found = {"output": output, "input": d_input, **params} | ({} if cells is None else {"cells": cells})
    found |= {f"final state {i}": final for i, final in enumerate(finals)}
    return found | {f"initial state {i}": d for i, d in enumerate(d_states)}


def run(case):
    """Results of fastrnn."""
    layer = case.layer
    options = {} if case.lengths is None or case.packed else {
        "lengths": case.lengths if case.batched else case.lengths[0]}
    if case.reset is not None and not case.packed:
        options["reset"] = case.shown(case.reset)
    elif case.reset is not None:
        options["reset"] = case.shown(case.reset).data
    if case.d_cells is not None:
        options["return_cells"] = True
    output, finals, *cells, tape = layer.forward(case.shown(case.x), case.shown_states(case.states), **options)
    d_cells = {} if case.d_cells is None else {"d_cells": case.shown(case.d_cells)}
    g = layer.backward(tape, case.shown(case.d_output), case.shown_states(case.d_states), **d_cells)
    d_input = case.shown(case.x)._replace(data=g.input) if case.packed else g.input
    return named(case.time_major(output), case.plain_states(finals), case.time_major(d_input), case.plain_states(g.hx),
                 g.params, case.time_major(cells[0]) if cells else None)


def reference_cell(layer, linear=False):
    """The cell of the reference that a layer, or a cell, is made of."""
    if isinstance(layer, (fastrnn.RNN, fastrnn.RNNCell)):
        return reference.RNN("linear" if linear else layer.nonlinearity)
    if isinstance(layer, (fastrnn.LSTM, fastrnn.LSTMCell)):
        return reference.LSTM(linear)
    return reference.GRU(layer.reset_after, linear)


def by_reference(case, linear=False):
    """Results of the reference."""
    layer = case.layer
    output, finals, saved = reference.stack(reference_cell(layer, linear), case.x, case.states, layer.params,
                                            layer.num_layers, layer.bidirectional, None, case.lengths, case.reset)
    d_input, d_states, d_params = reference.stack_backward(saved, case.d_output, case.d_states, case.d_cells)
    return named(output, finals, d_input, d_states, d_params, None if case.d_cells is None else saved.cells)


def by_torch(case):
    """Results of torch, which does not take rows of no steps: those are left out there, and put back as they are."""
    import torch  # here, so that other tests run where there is none

    layer, T = case.layer, len(case.x)
    kind = type(layer).__name__
    options = {"nonlinearity": layer.nonlinearity} if kind == "RNN" else (
        {"proj_size": layer.proj_size} if kind == "LSTM" else {})
    twin = getattr(torch.nn, kind)(layer.input_size, layer.hidden_size, layer.num_layers, bias=layer.bias,
                                   bidirectional=layer.bidirectional, dtype=getattr(torch, str(layer.dtype)), **options)
    twin.load_state_dict({name: torch.from_numpy(a) for name, a in layer.state_dict().items()})
    lengths = np.full(case.x.shape[1], T) if case.lengths is None else case.lengths
    rows = lengths > 0
    tensor = lambda array: torch.from_numpy(array[:, rows])  # noqa: E731
    x, states = tensor(case.x).requires_grad_(), [tensor(state).requires_grad_() for state in case.states]
    utils = torch.nn.utils.rnn
    given = x if case.lengths is None else utils.pack_padded_sequence(x, lengths[rows], enforce_sorted=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "LSTM with projections is not supported with oneDNN")
        output, finals = twin(given, tuple(states) if kind == "LSTM" else states[0])
    finals = finals if kind == "LSTM" else (finals,)
    if case.lengths is not None:
        output = utils.pad_packed_sequence(output, total_length=T)[0]
    loss = (output * tensor(case.d_output)).sum()
    loss = loss + sum((a * tensor(d)).sum() for a, d in zip(finals, case.d_states, strict=True))
    loss.backward()

    def whole(tensor, of_empty_rows):
        array = of_empty_rows.copy()
        array[:, rows] = tensor.detach().numpy()
        return array

    return named(whole(output, np.zeros_like(case.d_output)), [*map(whole, finals, case.states)],
                 whole(x.grad, np.zeros_like(case.x)),
                 [whole(state.grad, d) for state, d in zip(states, case.d_states, strict=True)],
                 {name: p.grad.numpy() for name, p in twin.named_parameters()})


def finite_worst_error(got, expected):
    """The largest error, of any named array, relative to its largest element or to 1 if that is more."""
    assert got.keys() == expected.keys()
    worst = 0.0
    for name, value in expected.items():
        assert got[name].shape == value.shape, name
        if value.size:
            error = np.abs(got[name] - value).max() / max(1, np.abs(value).max())
            assert np.isfinite(error), name
            worst = max(worst, float(error))
    return worst
