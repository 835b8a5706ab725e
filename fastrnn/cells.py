"""Recurrent cells: one step at a time, the state in the caller's hands."""

import numpy as np

from fastrnn import recurrence
from fastrnn.arguments import boolean, one_of, positive_integer, real_array, with_shape
from fastrnn.layers import GATES, NONLINEARITIES
from fastrnn.module import Module, Tape
from fastrnn.parameters import Gradients, describe

__all__ = ["RNNCell"]


class RNNCell(Module):
    r"""One step of an Elman network, ``h' = f(x W_ih^T + b_ih + h W_hh^T + b_hh)``, as `torch.nn.RNNCell`.

    A sequence stepped through a cell gives the same bits as `RNN` with the same weights gives at once.

    Parameters
    ----------
    input_size, hidden_size : int
        Features of the input and of the state.
    bias : bool
        False: no b_ih, b_hh.
    nonlinearity : {"tanh", "relu", "sigmoid"}
        f.
    device : None or "cpu"
    dtype : float32 or float64
    rng : None, int or numpy.random.Generator
        Where the initial weights, uniform in +-1/sqrt(hidden_size), come from.

    Attributes
    ----------
    params : Parameters
        Read-only ``weight_ih`` (hidden_size, input_size), ``weight_hh`` (hidden_size, hidden_size),
        ``bias_ih`` and ``bias_hh`` (hidden_size,).

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> cell = fastrnn.RNNCell(4, 2, rng=0)
    >>> h = np.zeros((1, 2), np.float32)
    >>> for x in np.ones((3, 1, 4), np.float32):
    ...     h = cell(x, h)
    >>> h.shape
    (1, 2)
    """

    def __init__(self, input_size, hidden_size, bias=True, nonlinearity="tanh", device=None, dtype=None, *, rng=None):
        self.input_size = positive_integer("input_size", input_size)
        self.hidden_size = positive_integer("hidden_size", hidden_size)
        self.bias = boolean("bias", bias)
        self.nonlinearity = one_of("nonlinearity", nonlinearity, NONLINEARITIES)
        self._activation = NONLINEARITIES.index(nonlinearity)
        H = self.hidden_size
        sizes = [(H, self.input_size), (H, H), (H,), (H,)]
        shapes = dict(list(zip(GATES, sizes, strict=True))[: 4 if self.bias else 2])
        super().__init__(shapes, H, device, dtype, rng)

    def _pack(self):
        return recurrence.pack(self._engine, tuple(map(self.params.get, GATES)))

    def __call__(self, input, hx=None):
        """One step, for inference.

        Parameters
        ----------
        input : array_like, (N, input_size) or (input_size,)
        hx : array_like, (N, hidden_size) or (hidden_size,), optional
            The state before; zeros if None.

        Returns
        -------
        ndarray, shaped like `hx`
            The state after.

        Raises
        ------
        ValueError
            A wrong number of dimensions or size.
        TypeError
            Values that are not real numbers, or float64 for a float32 cell.
        """
        x, h0, batched = self._arguments(input, hx)
        h = self._step(x, h0)
        return h[0] if batched else h[0, 0]

    def forward(self, input, hx=None):
        """One step, for training.

        Parameters
        ----------
        input, hx : array_like
            As in a call. Neither is copied: leave both unchanged until the backward pass.

        Returns
        -------
        h : ndarray, shaped like `hx`
            The state after, read-only: the tape needs it.
        tape : Tape
            To be given to `backward`, once. One a step is open when a sequence is stepped through.
        """
        x, h0, batched = self._arguments(input, hx)
        h = self._step(x, h0)
        h.flags.writeable = False
        return h[0] if batched else h[0, 0], Tape(self, (x, h0, h, batched, self._packed_weights()))

    def backward(self, tape, d_h, *, into=None):
        """Back through one step.

        With a the argument of f: ``da = d_h f'(a)``, ``d_input = da W_ih``, ``d_hx = da W_hh``,
        ``dW_ih = da^T input``, ``dW_hh = da^T hx``, ``db = da`` summed over rows.

        Parameters
        ----------
        tape : Tape
            From `forward`; it is used up.
        d_h : array_like, shaped like the state
            Gradient of the loss with respect to the state after the step.
        into : Gradients, optional
            Gradients of an earlier pass over the same shapes, to which these are added in place.

        Returns
        -------
        Gradients
            Of `input`, of `hx`, and of the parameters.

        Raises
        ------
        RuntimeError
            A tape used before, or older than the weights.
        ValueError, TypeError
            A wrong shape or dtype, or a tape of another cell.
        """
        x, h0, h, batched, packed = Tape._use(tape, self)
        B = x.shape[1]
        d_h = with_shape("d_h", d_h, self.dtype, (B, self.hidden_size) if batched else (self.hidden_size,))
        params = self._gradients(into)
        if into is not None:
            shown = x[0].shape if batched else x[0, 0].shape
            if into.input.shape != shown:
                raise ValueError(f"into.input: expected shape {describe(shown)}, got {describe(into.input.shape)}")
        d_h0 = np.empty_like(h0)
        d_x = recurrence.backward(self._engine, packed, self._activation, x, h0, h, None, d_h.reshape(h0.shape), d_h0,
                                  tuple(map(params.get, GATES)))
        tape._close()
        gradients = Gradients(d_x[0] if batched else d_x[0, 0], d_h0[0] if batched else d_h0[0, 0], params)
        if into is None:
            return gradients
        into.input += gradients.input
        into.hx += gradients.hx
        return into

    def _arguments(self, input, hx):
        """Input and state as one step of a sequence, (1, N, features)."""
        x = real_array("input", input, self.dtype)
        if x.ndim not in (1, 2):
            raise ValueError(f"input: expected 1 dimension (unbatched) or 2, got {x.ndim}")
        if x.shape[-1] != self.input_size:
            raise ValueError(f"input: expected last dimension {self.input_size} (input_size), got {x.shape[-1]}")
        batched = x.ndim == 2
        x = x[None] if batched else x[None, None]
        shape = (1, x.shape[1], self.hidden_size)
        if hx is None:
            return x, np.zeros(shape, self.dtype), batched
        return x, with_shape("hx", hx, self.dtype, shape[1:] if batched else shape[2:]).reshape(shape), batched

    def _step(self, x, h0):
        h, h_n = np.empty_like(h0), np.empty_like(h0)
        recurrence.forward(self._engine, self._packed_weights(), self._activation, x, h0, h, h_n)
        return h

    def _arguments_shown(self):
        return (f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")
                + ("" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity!r}")
                + ("" if self.dtype == np.float32 else f", dtype={self.dtype}"))
