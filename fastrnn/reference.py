"""Every equation of the package in plain NumPy: the definition that the kernels are held to.

Slow, and meant to be read: an explicit loop over time, one line an equation, no validation, and nothing
imported from the rest of the package. All work in the dtype that they are given, float32 or float64.

Dimensions: `T` steps, `B` sequences, `I` inputs, `H` hidden units, `D` directions, `O` outputs, `C` classes.
Arrays are time-major, `(T, B, ...)`. Weights have the shapes and the names of torch.nn: `w_ih` is `(H, I)`,
`w_hh` is `(H, H)`. In the reverse direction read t+1 for t-1.

Elman network, forward (the documentation of torch.nn.RNN)::

    (R1)  z[t] = x[t] W_ih^T + b_ih + h[t-1] W_hh^T + b_hh
    (R2)  h[t] = f(z[t])                            f one of tanh, relu, sigmoid, linear

where h before the first step is h0. Backward (back-propagation through time; Werbos 1990, Proc. IEEE 78(10)),
dy being the gradient of the loss with respect to y, and g what a step gets from the one after it, or the last
step from the final state::

    (R3)  dh[t] = d_output[t] + g
    (R4)  dz[t] = dh[t] * f'(z[t])                  f' expressed by h[t] = f(z[t])
    (R5)  g     = dz[t] W_hh                        for the step before; after the first step, dh0
    (R6)  dx[t] = dz[t] W_ih
    (R7)  dW_ih = sum over t of dz[t]^T x[t]
    (R8)  dW_hh = sum over t of dz[t]^T h[t-1]
    (R9)  db_ih = db_hh = sum over t and the batch of dz[t]

Linear layer::

    (Y1)  y  = x W^T + b
    (Y2)  dx = dy W
    (Y3)  dW = sum over the leading dimensions of dy^T x
    (Y4)  db = sum over the leading dimensions of dy

Softmax and losses, n the number of terms of the mean::

    (S1)  p = exp(x - max x) / sum exp(x - max x)
    (S2)  cross entropy = -(1/n) sum log p[target]  dx = (p - onehot(target)) / n
    (S3)  squared error = (1/n) sum (x - target)^2  dx = 2 (x - target) / n
"""

from typing import NamedTuple

import numpy as np

__all__ = ["cross_entropy", "linear", "linear_backward", "mse", "rnn", "rnn_backward", "rnn_forward",
           "rnn_stack_backward", "softmax"]


def sigmoid(z):
    """Logistic function of each element."""
    with np.errstate(over="ignore"):  # exp(-z) = inf is right: its reciprocal is the limit, 0
        return 1 / (1 + np.exp(-z))


# The functions f of (R2), and their derivatives by the value h = f(z). As in torch, relu(NaN) is NaN and lets
# the gradient through. "linear" is for tests: with integer data it makes every result exact.
NONLINEARITIES = {
    "tanh": (np.tanh, lambda h: 1 - h * h),
    "relu": (lambda z: np.maximum(z, 0), lambda h: np.where(h <= 0, 0, 1).astype(h.dtype)),
    "sigmoid": (sigmoid, lambda h: h * (1 - h)),
    "linear": (lambda z: z, np.ones_like),
}


def time_order(steps, reverse):
    """Range of the time indices in the order in which a direction visits them."""
    return range(steps)[::-1] if reverse else range(steps)


@np.errstate(over="ignore", invalid="ignore")
def rnn_forward(x, h0, w_ih, w_hh, b_ih, b_hh, nonlinearity="tanh", reverse=False):
    """One layer of an Elman network in one direction, equations (R1) and (R2).

    Parameters
    ----------
    x, h0 : ndarray, shapes (T, B, I) and (B, H)
        Input, and the state before the first step; T and B may be 0.
    w_ih, w_hh : ndarray, shapes (H, I) and (H, H)
        Weights.
    b_ih, b_hh : ndarray, shape (H,), or None
        Biases.
    nonlinearity : {"tanh", "relu", "sigmoid", "linear"}
        The function f; "linear" is the identity, for tests.
    reverse : bool
        Go from the last time index to the first.

    Returns
    -------
    output : ndarray, shape (T, B, H)
        The state after each step, at the time index of its input.
    h_n : ndarray, shape (B, H)
        The state after the last step taken.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> output, h_n = rnn_forward(np.ones((3, 1, 1)), 0 * one, one, one, None, None, "linear")
    >>> output.ravel(), h_n
    (array([1., 2., 3.]), array([[3.]]))
    """
    f, _ = NONLINEARITIES[nonlinearity]
    b_ih, b_hh = (0 if b is None else b for b in (b_ih, b_hh))
    output = np.empty((len(x), *h0.shape), x.dtype)
    h = h0.copy()
    for t in time_order(len(x), reverse):
        z = x[t] @ w_ih.T + b_ih + h @ w_hh.T + b_hh  # (R1)
        h = output[t] = f(z)  # (R2)
    return output, h


@np.errstate(over="ignore", invalid="ignore")
def rnn_backward(x, h0, output, w_ih, w_hh, d_output, d_hn, nonlinearity="tanh", reverse=False):
    """Gradients of `rnn_forward`, equations (R3) to (R9).

    Parameters
    ----------
    x, h0, output, w_ih, w_hh, nonlinearity, reverse
        What `rnn_forward` took, and the output that it gave.
    d_output, d_hn : ndarray, shapes (T, B, H) and (B, H)
        Gradients of `output` and of `h_n`; the last step gets both.

    Returns
    -------
    dx, dh0, dw_ih, dw_hh : ndarray
        Gradients, in the shapes of `x`, `h0`, `w_ih` and `w_hh`.
    db : ndarray, shape (H,)
        Gradient of either bias.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> x = np.ones((3, 1, 1))
    >>> output, _ = rnn_forward(x, one, one, one, None, None, "linear")
    >>> dx, dh0, *_ = rnn_backward(x, one, output, one, one, x, 0 * one, "linear")
    >>> dx.ravel(), dh0
    (array([3., 2., 1.]), array([[3.]]))
    """
    _, derivative = NONLINEARITIES[nonlinearity]
    order = time_order(len(x), reverse)
    dx, dw_ih, dw_hh, db = (np.zeros_like(a) for a in (x, w_ih, w_hh, w_hh[:, 0]))
    g = d_hn.copy()
    for t in reversed(order):
        h_prev = h0 if t == order[0] else output[t - order.step]
        dh = d_output[t] + g  # (R3)
        dz = dh * derivative(output[t])  # (R4)
        g = dz @ w_hh  # (R5)
        dx[t] = dz @ w_ih  # (R6)
        dw_ih += dz.T @ x[t]  # (R7)
        dw_hh += dz.T @ h_prev  # (R8)
        db += dz.sum(axis=0)  # (R9)
    return dx, g, dw_ih, dw_hh, db


class Saved(NamedTuple):
    """What the backward pass of a stack needs: the arguments, and what was computed on the way."""

    hx: np.ndarray
    params: dict
    nonlinearity: str
    masks: list | None
    inputs: list  # of each layer, the mask applied
    outputs: list  # of each direction of each layer


def suffixes(num_layers, bidirectional):
    """For each layer, how its parameters' names end in each direction: ``[["_l0", "_l0_reverse"], ...]``."""
    return [[f"_l{layer}", f"_l{layer}_reverse"][: 1 + bidirectional] for layer in range(num_layers)]


def rnn(input, hx, params, num_layers=1, nonlinearity="tanh", bidirectional=False, masks=None):
    """Stack of Elman networks, as torch.nn.RNN.

    Parameters
    ----------
    input : ndarray, shape (T, B, I)
        Input of the first layer. The next ones take the outputs of both directions, side by side.
    hx : ndarray, shape (D * num_layers, B, H)
        Initial states: layer 0 forward, layer 0 reverse, layer 1 forward, and so on.
    params : mapping of str to ndarray
        Weights under the names of torch.nn.RNN, ``weight_ih_l0`` to ``bias_hh_l1_reverse``; the biases all
        there or all missing.
    num_layers : int
    nonlinearity : {"tanh", "relu", "sigmoid", "linear"}
    bidirectional : bool
        D is 2, or else 1.
    masks : list of ndarray, shape (T, B, D * H), optional
        Dropout: ``num_layers - 1`` masks, already scaled by 1 / (1 - p), each multiplied into the output of a
        layer on its way to the next.

    Returns
    -------
    output : ndarray, shape (T, B, D * H)
        States of the last layer at each step, forward direction first.
    h_n : ndarray, shape (D * num_layers, B, H)
        Final states, in the order of `hx`.
    saved : Saved
        What `rnn_stack_backward` needs.

    Examples
    --------
    >>> params = {"weight_ih_l0": np.ones((1, 1)), "weight_hh_l0": np.ones((1, 1))}
    >>> output, h_n, saved = rnn(np.ones((2, 1, 1)), np.zeros((1, 1, 1)), params, nonlinearity="linear")
    >>> output.ravel(), h_n.ravel()
    (array([1., 2.]), array([2.]))
    """
    saved = Saved(hx, params, nonlinearity, masks, inputs=[], outputs=[])
    h_n = []
    for names in suffixes(num_layers, bidirectional):
        if masks and saved.inputs:
            input = input * masks[len(saved.inputs) - 1]
        saved.inputs.append(input)
        for direction, name in enumerate(names):
            w_ih, w_hh = params["weight_ih" + name], params["weight_hh" + name]
            b_ih, b_hh = params.get("bias_ih" + name), params.get("bias_hh" + name)
            output, h = rnn_forward(input, hx[len(h_n)], w_ih, w_hh, b_ih, b_hh, nonlinearity, direction == 1)
            saved.outputs.append(output)
            h_n.append(h)
        input = np.concatenate(saved.outputs[-len(names) :], axis=2)
    return input, np.stack(h_n), saved


def rnn_stack_backward(saved, d_output, d_hn):
    """Gradients of `rnn`.

    Parameters
    ----------
    saved : Saved
        What `rnn` gave.
    d_output, d_hn : ndarray, shapes (T, B, D * H) and (D * num_layers, B, H)
        Gradients of `output` and `h_n`.

    Returns
    -------
    d_input, d_hx : ndarray
        Gradients, in the shapes of `input` and `hx`.
    d_params : dict of str to ndarray
        Gradients of the parameters, under their names and in their order.

    Examples
    --------
    >>> params = {"weight_ih_l0": np.ones((1, 1)), "weight_hh_l0": np.ones((1, 1))}
    >>> output, h_n, saved = rnn(np.ones((2, 1, 1)), np.zeros((1, 1, 1)), params, nonlinearity="linear")
    >>> d_input, d_hx, d_params = rnn_stack_backward(saved, np.ones((2, 1, 1)), np.zeros((1, 1, 1)))
    >>> d_input.ravel(), d_params["weight_ih_l0"]
    (array([2., 1.]), array([[3.]]))
    """
    hx, params, nonlinearity, masks, inputs, outputs = saved
    directions = len(hx) // len(inputs)
    d_hx = np.empty_like(hx)
    gradients = {}
    for layer, names in reversed([*enumerate(suffixes(len(inputs), directions == 2))]):
        x, d_x = inputs[layer], np.zeros_like(inputs[layer])
        for direction, name in enumerate(names):
            k = layer * directions + direction
            w_ih, w_hh = params["weight_ih" + name], params["weight_hh" + name]
            part = np.split(d_output, directions, axis=2)[direction]
            dx, d_hx[k], dw_ih, dw_hh, db = rnn_backward(
                x, hx[k], outputs[k], w_ih, w_hh, part, d_hn[k], nonlinearity, reverse=direction == 1
            )
            d_x += dx
            gradients |= {"weight_ih" + name: dw_ih, "weight_hh" + name: dw_hh}
            gradients |= {"bias_ih" + name: db, "bias_hh" + name: db.copy()}
        d_output = d_x * masks[layer - 1] if masks and layer else d_x
    return d_output, d_hx, {name: gradients[name] for name in params}


def linear(x, weight, bias=None):
    """Linear layer, equation (Y1).

    Parameters
    ----------
    x : ndarray, shape (..., I)
    weight : ndarray, shape (O, I)
    bias : ndarray, shape (O,), or None

    Returns
    -------
    ndarray, shape (..., O)

    Examples
    --------
    >>> linear(np.array([1.0, 2.0]), np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([0.0, 10.0]))
    array([ 1., 13.])
    """
    return x @ weight.T + (0 if bias is None else bias)  # (Y1)


def linear_backward(x, weight, d_y):
    """Gradients of `linear`, equations (Y2) to (Y4).

    Parameters
    ----------
    x, weight
        What `linear` took.
    d_y : ndarray, shape (..., O)
        Gradient of its output.

    Returns
    -------
    dx, d_weight, d_bias : ndarray, shapes (..., I), (O, I) and (O,)

    Examples
    --------
    >>> linear_backward(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), np.array([[1.0]]))
    (array([[3., 4.]]), array([[1., 2.]]), array([1.]))
    """
    leading = tuple(range(x.ndim - 1))
    dx = d_y @ weight  # (Y2)
    d_weight = np.tensordot(d_y, x, (leading, leading))  # (Y3)
    d_bias = d_y.sum(axis=leading)  # (Y4)
    return dx, d_weight, d_bias


@np.errstate(invalid="ignore")
def softmax(x):
    """Softmax over the last dimension, equation (S1).

    Parameters
    ----------
    x : ndarray, shape (..., C)
        At least one class.

    Returns
    -------
    ndarray, shape (..., C)

    Examples
    --------
    >>> softmax(np.array([1000.0, 1000.0]))
    array([0.5, 0.5])
    """
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)  # (S1)


@np.errstate(invalid="ignore", divide="ignore")
def cross_entropy(logits, target, ignore_index=-100):
    """Mean cross entropy of class indices and its gradient, equation (S2).

    Parameters
    ----------
    logits : ndarray, shape (..., C)
        Unnormalised log-probabilities, the classes in the last dimension.
    target : ndarray of int, shape (...)
        Class indices.
    ignore_index : int
        Target that does not count: neither in the sum nor in n, and of zero gradient.

    Returns
    -------
    loss : float
        NaN where no target counts.
    gradient : ndarray, shape (..., C)

    Examples
    --------
    >>> loss, gradient = cross_entropy(np.zeros((1, 2)), np.array([0]))
    >>> round(loss, 6), gradient
    (0.693147, array([[-0.5,  0.5]]))
    """
    counted = (target != ignore_index)[..., None]
    onehot = target[..., None] == np.arange(logits.shape[-1])
    n = counted.sum()
    x = logits - logits.max(axis=-1, keepdims=True)
    log_p = x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
    loss = float(-np.sum(log_p[onehot & counted], dtype=np.float64) / n)  # (S2)
    gradient = np.where(counted, (softmax(logits) - onehot) / max(n, 1), 0).astype(logits.dtype)  # (S2)
    return loss, gradient


@np.errstate(invalid="ignore", over="ignore")
def mse(prediction, target):
    """Mean squared error and its gradient, equation (S3).

    Parameters
    ----------
    prediction, target : ndarray
        Of one shape, which is any.

    Returns
    -------
    loss : float
        NaN where there are no elements.
    gradient : ndarray
        Of the shape of `prediction`.

    Examples
    --------
    >>> mse(np.array([1.0, 2.0]), np.array([0.0, 2.0]))
    (0.5, array([1., 0.]))
    """
    error = prediction - target
    loss = float(np.sum(error * error, dtype=np.float64) / error.size)  # (S3)
    gradient = 2 * error / max(error.size, 1)  # (S3)
    return loss, gradient
