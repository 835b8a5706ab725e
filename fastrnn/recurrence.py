"""One layer's pass through the kernels, for `recurrent` and `cells`: packing, workspaces, empty sequences.

Below, (T, B, features) is where rows differ in length (sum of lengths, 1, features), as `layout.Layout` packs them.
"""

from typing import NamedTuple

import numpy as np

from fastrnn.threads import get_num_threads

__all__ = ["ACTIVATIONS", "Record", "backward", "forward", "new_states", "offsets", "pack"]

ACTIVATIONS = ("tanh", "relu", "sigmoid")  # in the order of the kernels' Activation


class Record(NamedTuple):
    """What the way back needs of a layer's forward, besides weights and initial states; T, B, D as everywhere."""

    x: np.ndarray  # (T, B, I)
    output: np.ndarray  # (T, B, D * P)
    cells: np.ndarray | None  # (T, B, D * H), of an LSTM
    saved: np.ndarray | None  # (D, T, B, ...), the kernel's own
    middle: np.ndarray | None


def new_states(states):
    """New arrays of the shapes of these."""
    return tuple([np.empty(state.shape, state.dtype) for state in states])


def pack(engine, cell, params, names):
    """Packed weights of a layer: one `Weights` a direction, of the parameters under these names as far as there are."""
    return tuple(engine.Weights(cell, *map(params.get, of_direction)) for of_direction in names)


def offsets(params, names):
    """Where these parameters begin in `params.flat`, -1 where there is none: a tuple for each direction."""
    return tuple(tuple(params.offsets.get(name, -1) for name in of_direction) for of_direction in names)


def forward(engine, weights, activation, x, states, output, finals, lengths=None, reset=None, *, cells=None,
            training=False, room=np.empty, threads=None):
    """One layer over x (T, B, I).

    Parameters
    ----------
    states, finals : tuple of ndarray
        h (D, B, P), and of an LSTM c (D, B, H): before the first step, to be read; and after the last, to be written.
    output : ndarray, (T, B, D * P)
        Written.
    lengths, reset : ndarray or None
        As the kernels take them.
    cells : ndarray, (T, B, D * H), optional
        Written; in training an LSTM has to have it.
    training : bool
        Keep what the way back needs.
    room : callable
        Makes the arrays for that: `np.empty`, or what does the same.
    threads : int, optional
        Most threads to use, if not those of `get_num_threads`.

    Returns
    -------
    Record
    """
    saved = middle = None
    D, one_step = len(weights), (1, states[0].shape[1])
    if training and weights[0].saved_columns:
        saved = room((D, *x.shape[:2], weights[0].saved_columns), x.dtype)
    if weights[0].middle_columns:
        middle = room((D, *(x.shape[:2] if training else one_step), weights[0].middle_columns), x.dtype)
    if x.shape[0] and x.shape[1]:
        (h0, c0), (h_n, c_n) = _pair(states), _pair(finals)
        engine.layer_forward(weights, activation, x, h0, c0, output, cells, h_n, c_n, saved, middle, lengths, reset,
                             threads or get_num_threads())
    else:
        for final, state in zip(finals, states, strict=True):
            final[...] = state
    return Record(x, output, cells, saved, middle)


def backward(engine, weights, activation, record, states, d_output, d_cells, d_states, d_params, offsets, lengths=None,
             reset=None, *, add=False, threads=None):
    """Back through `forward`; returns the gradient of x.

    `d_states` holds the gradients of the final states, and then those of the initial ones. The vector `d_params`
    is written at the `offsets` of this layer, or with `add` added to.
    """
    x, output, cells, saved, middle = record
    if not (len(x) and x.shape[1]):
        if not add:
            d_params[:] = 0  # all of it: no layer has a step
        return np.zeros(x.shape, x.dtype)
    (h0, c0), (d_h, d_c) = _pair(states), _pair(d_states)
    d_x = np.empty((len(weights), *x.shape), x.dtype)  # the directions run side by side, each into its own
    engine.layer_backward(weights, activation, x, h0, c0, output, cells, saved, middle, d_output, d_cells, d_x, d_h,
                          d_c, d_params, offsets, add, lengths, reset, threads or get_num_threads())
    if len(d_x) == 2:
        d_x[0] += d_x[1]
    return d_x[0]


def _pair(states):
    return states if len(states) == 2 else (states[0], None)
