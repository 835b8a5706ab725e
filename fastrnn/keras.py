"""Layers of Keras: their weights, as `get_weights` gives them, into layers of this package."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fastrnn.arguments import boolean, one_of
from fastrnn.layers import GRU, LSTM, RNN
from fastrnn.module import Given
from fastrnn.parameters import describe, real_numbers
from fastrnn.recurrence import ACTIVATIONS

__all__ = ["from_keras_weights"]

# Class, and for each of its gates, in torch's order, where Keras has it: Keras has the LSTM's in the same order
# (i, f, c, o; its c is our g), and the GRU's as z, r, h, where torch has r, z, n.
KINDS = {"SimpleRNN": (RNN, [0]), "LSTM": (LSTM, [0, 1, 2, 3]), "GRU": (GRU, [1, 0, 2])}


def from_keras_weights(kind: str, weights: Sequence[ArrayLike], *, activation: str = "tanh",
                       recurrent_activation: str = "sigmoid", reset_after: bool | None = None,
                       bidirectional: bool = False, batch_first: bool = True) -> RNN | LSTM | GRU:
    """A layer with the weights of one of Keras, ``keras.layers.SimpleRNN``, ``LSTM`` or ``GRU``.

    Keras multiplies from the other side, ``x kernel + h recurrent_kernel + bias``, has one bias where torch has two
    (then ``bias_hh`` is zero) and orders a GRU's gates z, r, h. The equations are those of the ``step`` and ``call`` of
    its cells (keras/src/layers/rnn/simple_rnn.py, lstm.py, gru.py of Keras 3).

    Parameters
    ----------
    kind : {"SimpleRNN", "LSTM", "GRU"}
    weights : sequence of array_like
        What ``layer.get_weights()`` gives, G being 1, 4 or 3 gates: ``kernel`` (input_size, G * hidden_size),
        ``recurrent_kernel`` (hidden_size, G * hidden_size) and, with ``use_bias``, ``bias`` (G * hidden_size,) or, of a
        GRU with ``reset_after``, (2, 3 * hidden_size). Of a ``Bidirectional`` the forward layer's and then the backward
        layer's.
    activation, recurrent_activation : str
        As the Keras layer has them: "tanh" and "sigmoid"; of a SimpleRNN, which has the first alone, "relu" and
        "sigmoid" as well. No other one can be represented.
    reset_after : bool or None
        Of a GRU. None: what the shape of the bias says; without a bias it has to be given, and is True in Keras unless
        it was said otherwise.
    bidirectional : bool
        True: `weights` are those of a ``keras.layers.Bidirectional``, with its ``merge_mode="concat"``.
    batch_first : bool
        True, as in Keras: input and output are (N, L, features).

    Returns
    -------
    RNN, LSTM or GRU
        float64 if the kernel is, else float32. Called, it gives the whole sequence and the last state (of two
        directions the backward one's is ``h_n[1]``): ``return_sequences`` and ``return_state`` choose among these.
        ``go_backwards``, ``stateful`` (carry the state), masks (`lengths`) and dropout are the caller's as well.

    Raises
    ------
    ValueError
        Another kind or activation, another number of arrays, another shape, or a `reset_after` that the bias is not of.
    TypeError
        Values that are not real numbers.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> weights = [np.ones((4, 6)), np.ones((2, 6)), np.zeros((2, 6))]
    >>> fastrnn.from_keras_weights("GRU", weights)
    GRU(4, 2, batch_first=True, dtype=float64)
    """
    cls, gates = KINDS[one_of("kind", kind, tuple(KINDS))]
    one_of("activation", activation, ACTIVATIONS if cls is RNN else ("tanh",))
    one_of("recurrent_activation", recurrent_activation, ("sigmoid",))
    directions = 2 if boolean("bidirectional", bidirectional) else 1
    arrays = [real_numbers(f"weights[{i}]", value) for i, value in enumerate(weights)]
    if len(arrays) not in (2 * directions, 3 * directions):
        raise ValueError(f"weights: expected {2 * directions} arrays (without biases) or {3 * directions}, "
                         f"got {len(arrays)}")
    bias = len(arrays) == 3 * directions
    I, H = _sizes(arrays[0], len(gates))
    options = {"nonlinearity": activation} if cls is RNN else {}
    if cls is GRU:
        options["reset_after"] = _reset_after(reset_after, arrays[2] if bias else None)
    elif reset_after is not None:
        raise ValueError(f"reset_after: expected None of kind {kind!r}, got {reset_after!r}")
    rows = len(gates) * H
    _check_shapes(arrays, [(I, rows), (H, rows)] + [(2, rows) if options.get("reset_after") else (rows,)] * bias)
    each = len(arrays) // directions
    state = _direction(arrays[:each], gates, "_l0")
    if bidirectional:
        state |= _direction(arrays[each:], gates, "_l0_reverse")
    return cls(I, H, bias=bias, batch_first=batch_first, bidirectional=bidirectional, rng=Given(state),
               dtype=np.float64 if arrays[0].dtype == np.float64 else np.float32, **options)


def _sizes(kernel, gates):
    """input_size and hidden_size of a kernel."""
    if kernel.ndim != 2 or 0 in kernel.shape or kernel.shape[1] % gates:
        raise ValueError(f"weights[0]: expected shape (input_size, {gates} * hidden_size), "
                         f"got {describe(kernel.shape)}")
    return kernel.shape[0], kernel.shape[1] // gates


def _check_shapes(arrays, shapes):
    """Each direction's arrays have these shapes."""
    for i, array in enumerate(arrays):
        shape = shapes[i % len(shapes)]
        if array.shape != shape:
            raise ValueError(f"weights[{i}]: expected shape {describe(shape)}, got {describe(array.shape)}")


def _reset_after(given, bias):
    """A GRU's reset_after: as it is given, or as the bias says."""
    if given is not None:
        boolean("reset_after", given)
    if bias is None:
        if given is None:
            raise ValueError("reset_after: expected True or False for weights without a bias, got None")
        return given
    found = bias.ndim == 2
    if given not in (None, found):
        raise ValueError(f"reset_after: expected {found} for a bias of shape {describe(bias.shape)}, got {given}")
    return found


def _direction(arrays, gates, suffix):
    """One direction's weights under torch's names."""
    kernel, recurrent_kernel, *biases = arrays
    found = {"weight_ih": _ordered(kernel.T, gates), "weight_hh": _ordered(recurrent_kernel.T, gates)}
    if biases:
        b_ih, b_hh = biases[0] if biases[0].ndim == 2 else (biases[0], np.zeros_like(biases[0]))
        found |= {"bias_ih": _ordered(b_ih, gates), "bias_hh": _ordered(b_hh, gates)}
    return {name + suffix: array for name, array in found.items()}


def _ordered(rows, gates):
    """Blocks of rows, one a gate, in torch's order."""
    return rows.reshape(len(gates), -1, *rows.shape[1:])[gates].reshape(rows.shape)
