"""From hidden states to predictions."""

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastrnn.arguments import boolean, positive_integer, real_array, with_shape
from fastrnn.module import Module, Tape
from fastrnn.parameters import Gradients, describe
from fastrnn.threads import get_num_threads
from fastrnn.types import Array, Rng

__all__ = ["Linear", "softmax"]


class Linear(Module):
    r"""The affine map ``y = x W^T + b`` over the last axis, as `torch.nn.Linear`: V and c of the textbook RNN.

    Each row's result is the same bits whatever the other rows, and on any number of threads.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
        False: no b.
    device : None or "cpu"
    dtype : float32 or float64
    rng : None, int or numpy.random.Generator
        Where the initial weights, uniform in +-1/sqrt(in_features), come from.

    Attributes
    ----------
    params : Parameters
        Read-only ``weight`` (out_features, in_features) and ``bias`` (out_features,).

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> head = fastrnn.Linear(2, 5, rng=0)
    >>> head(np.zeros((3, 1, 2), np.float32)).shape
    (3, 1, 5)
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, device: str | None = None,
                 dtype: DTypeLike | None = None, *, rng: Rng = None) -> None:
        self.in_features = positive_integer("in_features", in_features)
        self.out_features = positive_integer("out_features", out_features)
        self.bias = boolean("bias", bias)
        shapes = {"weight": (self.out_features, self.in_features), "bias": (self.out_features,)}
        if not self.bias:
            del shapes["bias"]
        super().__init__(shapes, self.in_features, device, dtype, rng)

    def _pack(self):
        return self._engine.Affine(self.params["weight"], self.params.get("bias"))

    def __call__(self, x: ArrayLike) -> Array:
        """Map x.

        Parameters
        ----------
        x : array_like, (..., in_features)

        Returns
        -------
        ndarray, (..., out_features)

        Raises
        ------
        ValueError
            A wrong last dimension.
        TypeError
            Values that are not real numbers, or float64 for a float32 module.
        """
        return self._map(self._rows(x))

    def forward(self, x: ArrayLike) -> tuple[Array, Tape]:
        """Map x, for training.

        `x` is not copied: leave it unchanged until the backward pass.

        Returns
        -------
        y : ndarray, (..., out_features)
        tape : Tape
        """
        x = self._rows(x)
        return self._map(x), Tape(self, (x, self._packed_weights()))

    def backward(self, tape: Tape, d_y: ArrayLike, *, into: Gradients | None = None) -> Gradients:
        """Gradients: ``dx = dy W``, ``dW = dy^T x`` and ``db = dy`` summed over all leading dimensions.

        Parameters
        ----------
        tape : Tape
            From `forward`; it is used up.
        d_y : array_like, (..., out_features)
            Gradient of the loss with respect to y.
        into : Gradients, optional
            Gradients of an earlier pass over the same shapes, to which these are added in place. If Ctrl-C ends the
            call, some may have been added.

        Returns
        -------
        Gradients
            Of `input` and of the parameters; `hx` is None.

        Raises
        ------
        RuntimeError
            A tape used before, or older than the weights.
        ValueError, TypeError
            A wrong shape or dtype, or a tape of another module.
        """
        return self._through(tape, into, d_y)

    def _back(self, saved, into, d_y):
        x, packed = saved
        d_y = with_shape("d_y", d_y, self.dtype, (*x.shape[:-1], self.out_features))
        params = self._gradients(into)
        if into is not None and into.input.shape != x.shape:
            raise ValueError(f"into.input: expected shape {describe(x.shape)}, got {describe(into.input.shape)}")
        d_x = np.empty(x.shape, self.dtype)
        if x.size:
            self._engine.linear_backward(
                packed, x.reshape(-1, self.in_features), d_y.reshape(-1, self.out_features),
                d_x.reshape(-1, self.in_features), params["weight"], params.get("bias"), into is not None,
                get_num_threads())
        elif into is None:
            params.flat[:] = 0
        return Gradients(d_x, None, params)

    def _rows(self, x):
        x = real_array("x", x, self.dtype)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"x: expected last dimension {self.in_features} (in_features), "
                             f"got {x.shape[-1] if x.ndim else 'a number'}")
        return np.ascontiguousarray(x)

    def _map(self, x):
        y = np.empty((*x.shape[:-1], self.out_features), self.dtype)
        if x.size:
            self._engine.linear_forward(self._packed_weights(), x.reshape(-1, self.in_features),
                                        y.reshape(-1, self.out_features), get_num_threads())
        return y

    def _arguments_shown(self):
        return (f"{self.in_features}, {self.out_features}" + ("" if self.bias else ", bias=False")
                + ("" if self.dtype == np.float32 else f", dtype={self.dtype}"))


def as_float(name, value, dtype=None):
    """Argument `name` as a float32 or float64 array, without a copy where it is one already.

    A float64 array stays float64; every other array of real numbers, and every list or number, becomes
    float32. `dtype` overrides the choice.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
    if dtype is None:
        # A list has no dtype of its own: float64 there is NumPy's default, not a choice of the caller.
        double = array.dtype.type is np.float64 and hasattr(value, "dtype")
        dtype = np.float64 if double else np.float32
    return np.asarray(array, dtype)


@np.errstate(over="ignore", invalid="ignore")
def softmax(x: ArrayLike, axis: int = -1) -> Array:
    """Probabilities of unnormalised log-probabilities: ``exp(x) / sum exp(x)``.

    Computed from ``x - max x``, so that no exponential overflows.

    Parameters
    ----------
    x : array_like
        Logits, of any shape. A float64 array is computed in float64, all else in float32.
    axis : int
        The dimension of the classes, along which the result sums to 1.

    Returns
    -------
    ndarray
        A new array of the shape of `x`. A slice that has a NaN or +inf in it, or nothing but -inf, is NaN.

    Raises
    ------
    TypeError
        Values that are not real numbers.
    ValueError
        An axis that `x` does not have (`numpy.exceptions.AxisError`).

    Notes
    -----
    Equation (S1) of `fastrnn.reference`, as torch.softmax.

    Examples
    --------
    >>> import fastrnn
    >>> fastrnn.softmax([1000.0, 1000.0])
    array([0.5, 0.5], dtype=float32)
    """
    x = as_float("x", x)
    # Starting at -inf leaves NaN alone and gives an axis of length 0 a maximum.
    p = np.subtract(x, x.max(axis=axis, keepdims=True, initial=-np.inf), order="C")
    np.exp(p, out=p)
    p /= p.sum(axis=axis, keepdims=True)
    return p
