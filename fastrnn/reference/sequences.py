"""Cells over sequences: one direction of a layer, and stacks of layers as torch.nn has them."""

from typing import NamedTuple

import numpy as np

from fastrnn.reference.cells import Weights

__all__ = ["layer", "layer_backward", "stack", "stack_backward"]


class SavedLayer(NamedTuple):
    """What the backward pass of a layer needs."""

    cell: object
    x: np.ndarray  # zeros behind the rows' ends
    w: Weights
    order: range  # of the time indices, as the direction visits them
    present: np.ndarray  # (T, B, 1): whether the row has the step
    cut: np.ndarray  # (T, B, 1): whether the state before the step is zero
    before: list  # for each time index, the state before the step
    steps: list  # and what the cell saved


def time_order(steps, reverse):
    """Range of the time indices in the order in which a direction visits them."""
    return range(steps)[::-1] if reverse else range(steps)


def boundaries(reset, present, reverse):
    """Where, in a direction, the state before a step is zero: in reverse the boundary is behind the step."""
    if reset is None:
        return np.zeros_like(present)
    if not reverse:
        return reset[..., None] & present
    cut = np.zeros_like(present)
    cut[:-1] = reset[1:, :, None] & present[1:]
    return cut


@np.errstate(over="ignore", invalid="ignore")
def layer(cell, x, state, w, reverse=False, lengths=None, reset=None):
    """One layer in one direction.

    Parameters
    ----------
    cell : RNN, LSTM or GRU
    x : ndarray, shape (T, B, I)
        T and B may be 0.
    state : tuple of ndarray, shapes (B, P) and, of an LSTM, (B, H)
        Before the first step.
    w : Weights
    reverse : bool
        Go from the last time index of each row to the first.
    lengths : ndarray of int, shape (B,), optional
        Steps that each row has, from 0 to T; T if None.
    reset : ndarray of bool, shape (T, B), optional
        Where a new sequence begins.

    Returns
    -------
    outputs : tuple of ndarray, shapes (T, B, P) and, of an LSTM, (T, B, H)
        The state after each step, at the time index of its input; 0 behind the end of a row.
    state : tuple of ndarray
        The state after the last step taken.
    saved : SavedLayer
        What `layer_backward` needs.

    Examples
    --------
    >>> from fastrnn.reference import RNN
    >>> one = np.ones((1, 1))
    >>> (output,), (h_n,), _ = layer(RNN("linear"), np.ones((3, 1, 1)), (0 * one,), Weights(one, one))
    >>> output.ravel(), h_n
    (array([1., 2., 3.]), array([[3.]]))
    >>> (output,), (h_n,), _ = layer(RNN("linear"), np.ones((3, 1, 1)), (0 * one,), Weights(one, one), lengths=[2])
    >>> output.ravel(), h_n
    (array([1., 2., 0.]), array([[2.]]))
    """
    T, B = x.shape[:2]
    present = (np.arange(T)[:, None] < (np.full(B, T) if lengths is None else np.asarray(lengths)))[..., None]
    saved = SavedLayer(cell, np.where(present, x, 0), w, time_order(T, reverse), present,
                       boundaries(reset, present, reverse), [None] * T, [None] * T)
    outputs = tuple(np.zeros((T, *part.shape), x.dtype) for part in state)
    for t in saved.order:
        saved.before[t] = tuple(np.where(saved.cut[t], 0, part) for part in state)
        after, saved.steps[t] = cell.step(saved.x[t], saved.before[t], w)
        state = tuple(np.where(present[t], new, old) for new, old in zip(after, state, strict=True))
        for output, part in zip(outputs, after, strict=True):
            output[t] = np.where(present[t], part, 0)
    return outputs, tuple(part.copy() for part in state), saved


@np.errstate(over="ignore", invalid="ignore")
def layer_backward(saved, d_outputs, d_state):
    """Gradients of `layer`.

    Parameters
    ----------
    saved : SavedLayer
        What `layer` gave.
    d_outputs : tuple of ndarray or None
        Gradients of `outputs`; None for zeros.
    d_state : tuple of ndarray
        Gradient of the final state.

    Returns
    -------
    dx : ndarray, shape (T, B, I)
    d_state : tuple of ndarray
        Gradient of the state before the first step.
    d_w : Weights

    Examples
    --------
    >>> from fastrnn.reference import RNN
    >>> one, x = np.ones((1, 1)), np.ones((3, 1, 1))
    >>> saved = layer(RNN("linear"), x, (one,), Weights(one, one))[2]
    >>> dx, d_state, d_w = layer_backward(saved, (x,), (0 * one,))
    >>> dx.ravel(), d_state
    (array([3., 2., 1.]), (array([[3.]]),))
    """
    cell, x, w, order, present, cut, before, steps = saved
    dx, d_w = np.zeros_like(x), Weights(*(None if a is None else np.zeros_like(a) for a in w))
    for t in reversed(order):
        d_after = tuple(d + (0 if g is None else g[t]) for d, g in zip(d_state, d_outputs, strict=True))
        d_after = tuple(np.where(present[t], d, 0) for d in d_after)
        dx[t], d_before = cell.step_backward(x[t], before[t], steps[t], d_after, w, d_w)
        d_before = [np.where(cut[t], 0, d) for d in d_before]
        d_state = tuple(np.where(present[t], new, old) for new, old in zip(d_before, d_state, strict=True))
    return dx, tuple(d.copy() for d in d_state), d_w


class SavedStack(NamedTuple):
    """What the backward pass of a stack needs; and the last layer's c at every step, of an LSTM, else None."""

    directions: int
    params: dict
    masks: list | None
    layers: list  # a SavedLayer for each direction of each layer
    cells: np.ndarray | None  # (T, B, D * H)


def suffixes(num_layers, bidirectional):
    """For each layer, how its parameters' names end in each direction: ``[["_l0", "_l0_reverse"], ...]``."""
    return [[f"_l{layer}", f"_l{layer}_reverse"][: 1 + bidirectional] for layer in range(num_layers)]


NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "weight_peephole")  # as `Weights` has them


def stack(cell, input, state, params, num_layers=1, bidirectional=False, masks=None, lengths=None, reset=None):
    """Stack of layers, as torch.nn.RNN, LSTM and GRU.

    Parameters
    ----------
    cell : RNN, LSTM or GRU
    input : ndarray, shape (T, B, I)
        Input of the first layer. The next ones take the outputs of both directions, side by side.
    state : tuple of ndarray, shapes (D * num_layers, B, P) and, of an LSTM, (D * num_layers, B, H)
        Initial states: layer 0 forward, layer 0 reverse, layer 1 forward, and so on.
    params : mapping of str to ndarray
        Weights under the names of torch.nn, ``weight_ih_l0`` to ``bias_hh_l1_reverse``; the biases all there or
        all missing.
    num_layers : int
    bidirectional : bool
        D is 2, or else 1.
    masks : list of ndarray, shape (T, B, D * P), optional
        Dropout: ``num_layers - 1`` masks, already scaled by 1 / (1 - p), each multiplied into the output of a
        layer on its way to the next.
    lengths, reset
        As of `layer`.

    Returns
    -------
    output : ndarray, shape (T, B, D * P)
        States h of the last layer at each step, forward direction first.
    state : tuple of ndarray
        Final states, in the order of the initial ones.
    saved : SavedStack
        What `stack_backward` needs.

    Examples
    --------
    >>> from fastrnn.reference import RNN
    >>> params = {"weight_ih_l0": np.ones((1, 1)), "weight_hh_l0": np.ones((1, 1))}
    >>> output, (h_n,), saved = stack(RNN("linear"), np.ones((2, 1, 1)), (np.zeros((1, 1, 1)),), params)
    >>> output.ravel(), h_n.ravel()
    (array([1., 2.]), array([2.]))
    """
    layers, finals, side_by_side = [], [], [input]
    for names in suffixes(num_layers, bidirectional):
        input = side_by_side[0]
        if masks and layers:
            input = input * masks[len(layers) // len(names) - 1]
        both = []
        for direction, suffix in enumerate(names):
            w = Weights(*(params.get(name + suffix) for name in NAMES))
            begun = tuple(part[len(layers)] for part in state)
            outputs, final, saved = layer(cell, input, begun, w, direction == 1, lengths, reset)
            layers.append(saved)
            both.append(outputs)
            finals.append(final)
        side_by_side = [np.concatenate(parts, axis=2) for parts in zip(*both, strict=True)]
    cells = side_by_side[1] if len(side_by_side) == 2 else None
    saved = SavedStack(1 + bidirectional, params, masks, layers, cells)
    return side_by_side[0], tuple(map(np.stack, zip(*finals, strict=True))), saved


def stack_backward(saved, d_output, d_state, d_cells=None):
    """Gradients of `stack`.

    Parameters
    ----------
    saved : SavedStack
        What `stack` gave.
    d_output : ndarray, shape (T, B, D * P)
    d_state : tuple of ndarray
        Gradients of `output` and of the final states.
    d_cells : ndarray, shape (T, B, D * H), optional
        Gradient of ``saved.cells``.

    Returns
    -------
    d_input : ndarray, shape (T, B, I)
    d_state : tuple of ndarray
        Gradients of the initial states.
    d_params : dict of str to ndarray
        Gradients of the parameters, under their names and in their order.

    Examples
    --------
    >>> from fastrnn.reference import RNN
    >>> params = {"weight_ih_l0": np.ones((1, 1)), "weight_hh_l0": np.ones((1, 1))}
    >>> output, h_n, saved = stack(RNN("linear"), np.ones((2, 1, 1)), (np.zeros((1, 1, 1)),), params)
    >>> d_input, d_state, d_params = stack_backward(saved, np.ones((2, 1, 1)), (np.zeros((1, 1, 1)),))
    >>> d_input.ravel(), d_params["weight_ih_l0"]
    (array([2., 1.]), array([[3.]]))
    """
    D, params, masks, layers, _ = saved
    d_begun, gradients = [None] * len(layers), {}
    for number, names in reversed([*enumerate(suffixes(len(layers) // D, D == 2))]):
        d_input = 0
        for direction, suffix in enumerate(names):
            k = number * D + direction
            parts = [None if d is None else np.split(d, D, axis=2)[direction] for d in (d_output, d_cells)]
            dx, d_begun[k], d_w = layer_backward(layers[k], parts[: len(d_state)], tuple(part[k] for part in d_state))
            d_input = d_input + dx
            gradients |= {name + suffix: d for name, d in zip(NAMES, d_w, strict=True)}
        d_output, d_cells = d_input * masks[number - 1] if masks and number else d_input, None
    return d_output, tuple(map(np.stack, zip(*d_begun, strict=True))), {name: gradients[name] for name in params}
