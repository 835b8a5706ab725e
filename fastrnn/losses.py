"""Losses: each gives its mean and the gradient that a backward pass starts from."""

import math

import numpy as np
from numpy.typing import ArrayLike

from fastrnn.readout import as_float
from fastrnn.types import Array

__all__ = ["cross_entropy", "mse"]


@np.errstate(over="ignore", invalid="ignore")
def cross_entropy(logits: ArrayLike, target: ArrayLike, ignore_index: int = -100) -> tuple[float, Array]:
    """Mean cross entropy between logits and class indices, and its gradient.

    The classes are the **last** dimension of `logits`, as a readout gives them, where
    `torch.nn.functional.cross_entropy` has them in dimension 1.

    Parameters
    ----------
    logits : array_like, shape (..., C)
        Unnormalised log-probabilities of C classes, with any leading dimensions: ``(L, N, C)`` for one
        prediction a step, ``(N, C)`` for one a sequence, ``(C,)`` for a single one. A float64 array is
        computed in float64, all else in float32.
    target : array_like of int, shape (...)
        The right class of each position, in [0, C), or `ignore_index`.
    ignore_index : int
        Target of the positions that do not count, such as padding.

    Returns
    -------
    loss : float
        Mean over the positions that count, summed in float64. NaN where none counts, as in torch.
    gradient : ndarray, shape (..., C)
        Gradient of the loss with respect to `logits`: a new array of their dtype. Zero where a position does
        not count, whatever its logits, NaN included.

    Raises
    ------
    TypeError
        Logits that are not real numbers, or targets that are not integers.
    ValueError
        No class dimension, a target of another shape, or a class index out of range.

    Notes
    -----
    Equation (S2) of `fastrnn.reference`, with the stable logarithm of the sum of exponentials:
    ``-log p[c] = log(sum exp(x - m)) - (x[c] - m)``, where m is the largest logit.

    Examples
    --------
    >>> import fastrnn
    >>> loss, gradient = fastrnn.cross_entropy([[0.0, 0.0], [5.0, 1.0]], [0, -100])
    >>> round(loss, 4)
    0.6931
    >>> gradient
    array([[-0.5,  0.5],
           [ 0. ,  0. ]], dtype=float32)
    """
    logits, target = as_float("logits", logits), np.asarray(target)
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits: expected shape (..., classes) with at least one class, got {logits.shape}")
    counted = _checked_target(target, logits.shape, ignore_index).reshape(-1)
    loss, gradient = _cross_entropy(logits.reshape(-1, logits.shape[-1]), target.reshape(-1), counted)
    return loss, gradient.reshape(logits.shape)


def _cross_entropy(logits, target, counted):
    """Loss and gradient of rows of logits, of which those `counted` count."""
    rows = np.flatnonzero(counted)
    classes = target[rows]
    # One buffer all the way: shifted logits, their exponentials, the gradient.
    gradient = np.subtract(logits, logits.max(axis=1, keepdims=True), order="C")
    chosen = gradient[rows, classes]
    np.exp(gradient, out=gradient)
    total = gradient.sum(axis=1)
    loss = np.sum(np.log(total[rows]) - chosen, dtype=np.float64) / len(rows) if len(rows) else math.nan

    scale = 1 / max(len(rows), 1)
    gradient *= (scale / total)[:, None]
    gradient[rows, classes] -= scale
    gradient[~counted] = 0
    return float(loss), gradient


def _checked_target(target, logits_shape, ignore_index):
    """Which positions count, after the checks of dtype, shape and range."""
    *leading, classes = logits_shape
    if target.dtype.kind not in "iu":
        raise TypeError(f"target: expected integer class indices, got dtype {target.dtype}")
    if target.shape != tuple(leading):
        raise ValueError(f"target: expected shape {tuple(leading)}, got {target.shape}")
    counted = np.asarray(target != ignore_index)
    wrong = target[counted & ((target < 0) | (target >= classes))]
    if wrong.size:
        raise ValueError(f"target: expected class indices in [0, {classes}), got {wrong[0]}")
    return counted


@np.errstate(over="ignore", invalid="ignore")
def mse(prediction: ArrayLike, target: ArrayLike) -> tuple[float, Array]:
    """Mean squared error, and its gradient.

    Parameters
    ----------
    prediction : array_like
        Of any shape. A float64 array is computed in float64, all else in float32.
    target : array_like
        Of the shape of `prediction`: nothing is broadcast. Converted to its dtype.

    Returns
    -------
    loss : float
        Mean over all elements, summed in float64. NaN where there are none, as in torch.
    gradient : ndarray
        Gradient of the loss with respect to `prediction`: a new array of its shape and dtype.

    Raises
    ------
    TypeError
        Values that are not real numbers.
    ValueError
        A target of another shape.

    Notes
    -----
    Equation (S3) of `fastrnn.reference`, as `torch.nn.functional.mse_loss`.

    Examples
    --------
    >>> import fastrnn
    >>> fastrnn.mse([1.0, 2.0], [0.0, 2.0])
    (0.5, array([1., 0.], dtype=float32))
    """
    prediction = as_float("prediction", prediction)
    target = as_float("target", target, prediction.dtype)
    if target.shape != prediction.shape:
        raise ValueError(f"target: expected shape {prediction.shape}, got {target.shape}")
    if prediction.size == 0:
        return math.nan, np.zeros_like(prediction)
    gradient = np.subtract(prediction, target, order="C").reshape(prediction.shape)
    error = gradient.reshape(-1)
    # einsum casts block by block: float64 sums of float32 squares without a float64 array.
    loss = np.einsum("i,i->", error, error, dtype=np.float64) / error.size
    gradient *= 2 / error.size
    return float(loss), gradient
