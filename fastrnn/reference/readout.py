"""Linear layer, softmax and losses: equations (Y1) to (S3)."""

import numpy as np

__all__ = ["cross_entropy", "linear", "linear_backward", "mse", "softmax"]


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
