"""python -m fastrnn check: the installed kernels, held to the NumPy reference on this processor."""

import numpy as np

from fastrnn import kernels, reference
from fastrnn.layers import RNN
from fastrnn.readout import Linear
from fastrnn.threads import get_num_threads, set_num_threads

__all__ = ["BOUNDS", "run"]

# Allowed error of an array, relative to its largest element: some ten times the worst measured, 2.9e-6 and 4.6e-15.
BOUNDS = {"float32": 3e-5, "float64": 5e-14}

# Steps, rows, input and hidden size, layers, nonlinearity, both directions. Sizes that fill no vector and no
# tile, and the ways to share work: none, rows to each thread, units to each thread, a direction to each.
RECURRENT = [
    (1, 1, 1, 1, 1, "tanh", False),
    (7, 5, 9, 33, 2, "tanh", True),
    (4, 14, 40, 17, 1, "sigmoid", True),
    (9, 1, 3, 70, 2, "relu", True),
    (60, 8, 128, 130, 2, "tanh", True),
    (12, 1, 31, 515, 1, "sigmoid", False),
    (33, 37, 65, 64, 1, "relu", False),
]
LINEAR = [(1, 1, 1), (3, 70, 75), (301, 129, 67)]  # rows, input and output features


def relative_error(got, expected):
    """Largest error, relative to the largest element; infinite if there is anything but numbers."""
    with np.errstate(invalid="ignore"):
        error = np.abs(got - expected).max() / np.abs(expected).max()
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


def recurrent_errors(build, dtype, case):
    """Errors of outputs and of gradients of an `RNN`."""
    T, B, I, H, layers, nonlinearity, bidirectional = case
    rng = np.random.default_rng(0)
    rnn = RNN(I, H, layers, nonlinearity, bidirectional=bidirectional, dtype=dtype, rng=rng)
    rnn._engine = kernels.load(build, dtype)
    shapes = [(T, B, I), ((1 + bidirectional) * layers, B, H), (T, B, (1 + bidirectional) * H)]
    x, h0, d_output = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    d_h_n = h0[::-1].copy()

    params = doubled(rnn.params)
    output, h_n, saved = reference.rnn(x.astype(np.float64), h0.astype(np.float64), params, layers, nonlinearity,
                                       bidirectional)
    d_x, d_h0, d_params = reference.rnn_stack_backward(saved, d_output.astype(np.float64), d_h_n.astype(np.float64))

    def errors():
        *outputs, tape = rnn.forward(x, h0)
        grads = rnn.backward(tape, d_output, d_h_n)
        return (worst_error([*outputs, *rnn(x, h0)], [output, h_n] * 2),
                worst_error([grads.input, grads.hx, *grads.params.values()], [d_x, d_h0, *d_params.values()]))

    return on_every_thread_count(errors)


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
            errors = [recurrent_errors(build, dtype, case) for case in RECURRENT]
            errors += [linear_errors(build, dtype, case) for case in LINEAR]
            outputs, gradients = np.max(errors, axis=0)
            within = max(outputs, gradients) <= bound
            right &= within
            print(f"{build:8} {dtype}  outputs {outputs:.1e}  gradients {gradients:.1e}  bound {bound:.0e}  "
                  f"{'ok' if within else 'FAILED'}")
    return bool(right)
