"""python -m fastrnn check: the installed kernels, held to the NumPy reference on this processor."""

from itertools import product

import numpy as np

from fastrnn import kernels, reference
from fastrnn.layers import GRU, LSTM, RNN
from fastrnn.readout import Linear
from fastrnn.threads import get_num_threads, set_num_threads

__all__ = ["BOUNDS", "run"]

# Allowed error of an array, relative to its largest element: nine and five times the worst measured, 3.3e-6 and
# 1.1e-14.
BOUNDS = {"float32": 3e-5, "float64": 5e-14}

# Steps, rows, input and hidden size, layers, both directions. Sizes that fill no vector and no tile, and the ways to
# share work: none, rows to each thread, units to each thread, a direction to each.
SHAPES = [
    (1, 1, 1, 1, 1, False),
    (7, 5, 9, 33, 2, True),
    (4, 14, 40, 17, 1, True),
    (9, 1, 3, 70, 2, True),
    (20, 8, 128, 130, 1, True),
    (12, 1, 31, 259, 1, False),
    (33, 37, 65, 64, 1, False),
]
LAYERS = {  # each cell, by what it is called here
    "RNN tanh": (RNN, {}),
    "RNN relu": (RNN, {"nonlinearity": "relu"}),
    "RNN sigmoid": (RNN, {"nonlinearity": "sigmoid"}),
    "LSTM": (LSTM, {}),
    "LSTM peephole": (LSTM, {"peephole": True}),
    "GRU": (GRU, {}),
    "GRU reset before": (GRU, {"reset_after": False}),
}
LINEAR = [(1, 1, 1), (3, 70, 75), (301, 129, 67)]  # rows, input and output features


def relative_error(got, expected):
    """Largest error, relative to the largest element; infinite if there is anything but numbers."""
    with np.errstate(invalid="ignore"):
        error = np.abs(got - expected).max() / (np.abs(expected).max() or 1)
    return float(error) if np.isfinite(error) else np.inf


def worst_error(got, expected):
    """The largest `relative_error` of pairs of arrays."""
    return max(relative_error(*pair) for pair in zip(got, expected, strict=True))


def doubled(params):
    """Parameters in float64, as the reference takes them."""
    return {name: value.astype(np.float64) for name, value in params.items()}


def on_every_thread_count(function):
    """The function's pairs of errors, on one thread and on as many as there are; the larger of each."""
    most = get_num_threads()
    try:
        errors = []
        for threads in sorted({1, most}):
            set_num_threads(threads)
            errors.append(function())
    finally:
        set_num_threads(most)
    return np.max(errors, axis=0)


def reference_cell(layer):
    """The cell of the reference that a layer is made of."""
    if isinstance(layer, RNN):
        return reference.RNN(layer.nonlinearity)
    return reference.LSTM() if isinstance(layer, LSTM) else reference.GRU(layer.reset_after)


def as_tuple(states):
    """The states of a layer, one or two."""
    return states if isinstance(states, tuple) else (states,)


def recurrent_errors(build, dtype, name, shape):
    """Errors of outputs and of gradients of a layer: of all rows in full, then with lengths and resets."""
    T, B, I, H, layers, bidirectional = shape
    rng = np.random.default_rng(0)
    kind, options = LAYERS[name]
    layer = kind(I, H, layers, bidirectional=bidirectional, dtype=dtype, rng=rng, **options)
    layer._engine = kernels.load(build, dtype)
    D, cell = 1 + bidirectional, reference_cell(layer)
    x, d_output, *states = (rng.standard_normal(size).astype(dtype)
                            for size in ((T, B, I), (T, B, D * H), (D * layers, B, H), (D * layers, B, H)))
    states = tuple(states) if kind is LSTM else tuple(states[:1])
    given = states if kind is LSTM else states[0]
    wide = [array.astype(np.float64) for array in (x, d_output, *states)]

    def errors_with(lengths, reset):
        output, finals, saved = reference.stack(cell, wide[0], tuple(wide[2:]), doubled(layer.params), layers,
                                                bidirectional, None, lengths, reset)
        d_x, d_states, d_params = reference.stack_backward(saved, wide[1], tuple(wide[2:]))

        def errors():
            inferred = layer(x, given, lengths=lengths, reset=reset)
            *trained, tape = layer.forward(x, given, lengths=lengths, reset=reset)
            grads = layer.backward(tape, d_output, given)
            outputs = [array for result in (inferred, trained) for array in (result[0], *as_tuple(result[1]))]
            return (worst_error(outputs, [output, *finals] * 2),
                    worst_error([grads.input, *as_tuple(grads.hx), *grads.params.values()],
                                [d_x, *d_states, *d_params.values()]))

        return on_every_thread_count(errors)

    return np.maximum(errors_with(None, None), errors_with(rng.integers(1, T + 1, B), rng.random((T, B)) < 0.1))


def linear_errors(build, dtype, case):
    """Errors of outputs and of gradients of a `Linear`."""
    rows, features, outputs = case
    rng = np.random.default_rng(0)
    head = Linear(features, outputs, dtype=dtype, rng=rng)
    head._engine = kernels.load(build, dtype)
    x, d_y = (rng.standard_normal((rows, size)).astype(dtype) for size in (features, outputs))

    weight, bias = doubled(head.params).values()
    y = reference.linear(x.astype(np.float64), weight, bias)
    gradients = reference.linear_backward(x.astype(np.float64), weight, d_y.astype(np.float64))

    def errors():
        got, tape = head.forward(x)
        grads = head.backward(tape, d_y)
        return worst_error([got], [y]), worst_error([grads.input, *grads.params.values()], gradients)

    return on_every_thread_count(errors)


def run():
    """Compare every build that this processor runs with the reference, and print a line for each.

    Returns
    -------
    bool
        Whether all errors are within `BOUNDS`.
    """
    right = True
    for build in kernels.runnable():
        for dtype, bound in BOUNDS.items():
            errors = [recurrent_errors(build, dtype, *case) for case in product(LAYERS, SHAPES)]
            errors += [linear_errors(build, dtype, case) for case in LINEAR]
            outputs, gradients = np.max(errors, axis=0)
            within = max(outputs, gradients) <= bound
            right &= within
            print(f"{build:8} {dtype}  outputs {outputs:.1e}  gradients {gradients:.1e}  bound {bound:.0e}  "
                  f"{'ok' if within else 'FAILED'}")
    return bool(right)
