"""Recurrent cells: one step at a time, the state in the caller's hands."""

from typing import Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastrnn import recurrence
from fastrnn.arguments import boolean, one_of, out_array, positive_integer, real_array, with_shape
from fastrnn.module import Module, Tape
from fastrnn.parameters import Gradients, describe
from fastrnn.recurrence import ACTIVATIONS
from fastrnn.recurrent import PARAMETERS, parameter_sizes
from fastrnn.threads import get_num_threads
from fastrnn.types import Array, Pair, PairLike, Rng

__all__ = ["GRUCell", "LSTMCell", "RNNCell"]

State = TypeVar("State")
StateLike = TypeVar("StateLike")


class Cell(Module, Generic[State, StateLike]):
    """One step of a recurrent network; `RNNCell`, `LSTMCell` and `GRUCell` say of which."""

    _gates = 1  # blocks of hidden_size rows in a weight
    _cell = "RNN"  # as the kernels call it
    _activation = 0  # of the kernels' Activation; a test sets another one
    _states = 1  # 2 with a second state, c
    _defaults = {"bias": True}  # noqa: RUF012  # of what `repr` shows

    def __init__(self, input_size: int, hidden_size: int, bias: bool, device: str | None, dtype: DTypeLike | None,
                 rng: Rng, peephole: bool = False) -> None:
        self.input_size = positive_integer("input_size", input_size)
        self.hidden_size = positive_integer("hidden_size", hidden_size)
        self.bias = boolean("bias", bias)
        self.peephole = boolean("peephole", peephole)
        shapes = parameter_sizes(self._gates, self.input_size, self.hidden_size, 0, self.bias, self.peephole)
        super().__init__(shapes, self.hidden_size, device, dtype, rng)
        self._offsets = recurrence.offsets(self.params, [PARAMETERS])

    def _pack(self):
        return recurrence.pack(self._engine, self._cell, self.params, [PARAMETERS])

    def __call__(self, input: ArrayLike, hx: StateLike | None = None, *, out: State | None = None) -> State:
        """One step, for inference.

        Parameters
        ----------
        input : array_like, (N, input_size) or (input_size,)
        hx : array_like, (N, hidden_size) or (hidden_size,), optional
            The state before; zeros if None. Of an LSTM a pair, h and c.
        out : ndarray, shaped like `hx`, optional
            Where to write the state after, and what is returned; it may be `hx` itself. Of an LSTM a pair.

        Returns
        -------
        ndarray, shaped like `hx`
            The state after. Of an LSTM a pair.

        Raises
        ------
        ValueError
            A wrong number of dimensions or size.
        TypeError
            Values that are not real numbers, or float64 for a float32 cell.
        """
        result = self._engine.infer([self._packed_weights()], self._activation, input, hx, out, True, False,
                                    get_num_threads())
        if result is not None:
            return result
        x, states, batched = self._arguments(input, hx)
        finals = recurrence.new_states(states)
        if out is not None:
            targets = self._as_tuple("out", out)
            for target, state in zip(targets, states, strict=True):
                out_array("out", target, self.dtype, state.shape[1:] if batched else state.shape[2:])
        recurrence.forward(self._engine, self._packed_weights(), self._activation, x, states, finals[0], finals)
        if out is None:
            return self._as_given(finals, batched)
        for target, final in zip(targets, finals, strict=True):
            target[...] = final[0] if batched else final[0, 0]
        return out

    def forward(self, input: ArrayLike, hx: StateLike | None = None) -> tuple[State, Tape]:
        """One step, for training.

        Parameters
        ----------
        input, hx
            As in a call. Neither is copied: leave both unchanged until the backward pass.

        Returns
        -------
        ndarray, shaped like `hx`
            The state after, read-only: the tape needs it. Of an LSTM a pair.
        tape : Tape
            To be given to `backward`, once. One a step is open when a sequence is stepped through.
        """
        weights = self._packed_weights()
        found = self._engine.train([weights], self._activation, input, hx, None, True, False, get_num_threads())
        if found is not None:
            state, hx, records = found
            return state, Tape(self, (records[0], hx, weights, None))
        x, states, batched = self._arguments(input, hx)
        output, *cells = finals = recurrence.new_states(states)  # of one step the output is the final state
        record = recurrence.forward(self._engine, weights, self._activation, x, states, output, finals,
                                    cells=cells[0] if cells else None, training=True)
        for final in finals:
            final.flags.writeable = False
        return self._as_given(finals, batched), Tape(self, (record, states, weights, batched))

    def backward(self, tape: Tape, d_hx: StateLike, *, into: Gradients | None = None) -> Gradients:
        """Back through one step, by the equations of the layer of this kind.

        Parameters
        ----------
        tape : Tape
            From `forward`; it is used up.
        d_hx : array_like, shaped like the state
            Gradient of the loss with respect to the state after the step. Of an LSTM a pair.
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
        return self._through(tape, into, d_hx)

    def _back(self, saved, into, d_hx):
        record, states, weights, batched = saved
        if batched is None:  # of the short way
            if d_hx is not None:
                gradients = self._back_short(record, states, weights, d_hx, into)
                if gradients is not None:
                    return gradients
            record, states, batched = self._as_long(record, states)
        return self._back_long(record, states, weights, batched, d_hx, into)

    def _back_short(self, record, states, weights, d_hx, into):
        """Gradients by one compiled call, or None where it does not take `d_hx`."""
        params = self._gradients(into)
        self._check_input(into, record[0].shape)
        found = self._engine.train_back([weights], self._activation, [record], states, None, d_hx, params.flat,
                                        [self._offsets], into is not None, True, False, get_num_threads())
        return None if found is None else Gradients(*found, params)

    def _as_long(self, record, states):
        """What the short way kept, as the long way does."""
        x, output, cells, saved, middle = record
        batched = x.ndim == 2
        x, output, *states = [array.reshape(1, -1, array.shape[-1])
                              for array in (x, output, *self._as_tuple("hx", states))]
        cells = None if cells is None else cells.reshape(output.shape)
        return recurrence.Record(x, output, cells, saved, middle), tuple(states), batched

    def _back_long(self, record, states, weights, batched, d_hx, into):
        d_states = self._checked_states("d_hx", d_hx, states[0].shape[1], batched)
        d_states = tuple(map(np.array, d_states))
        params = self._gradients(into)
        self._check_input(into, record.x.shape[1:] if batched else record.x.shape[2:])
        d_x = recurrence.backward(self._engine, weights, self._activation, record, states, None, None, d_states,
                                  params.flat, self._offsets, add=into is not None)
        return Gradients(d_x[0] if batched else d_x[0, 0], self._as_given(d_states, batched), params)

    def _check_input(self, into, shape):
        """Gradients of another input cannot be added to."""
        if into is not None and into.input.shape != shape:
            raise ValueError(f"into.input: expected shape {describe(shape)}, got {describe(into.input.shape)}")

    def _arguments(self, input, hx):
        """Input and states as one step of a sequence, (1, N, features)."""
        x = real_array("input", input, self.dtype)
        if x.ndim not in (1, 2):
            raise ValueError(f"input: expected 1 dimension (unbatched) or 2, got {x.ndim}")
        if x.shape[-1] != self.input_size:
            raise ValueError(f"input: expected last dimension {self.input_size} (input_size), got {x.shape[-1]}")
        batched = x.ndim == 2
        x = x[None] if batched else x[None, None]
        if hx is None:
            shape = (1, x.shape[1], self.hidden_size)
            return x, tuple([np.zeros(shape, self.dtype) for _ in range(self._states)]), batched
        return x, self._checked_states("hx", hx, x.shape[1], batched), batched

    def _checked_states(self, name, states, B, batched):
        """The caller's states as a tuple of arrays (1, N, H)."""
        shape = (1, B, self.hidden_size)
        return tuple([with_shape(name, state, self.dtype, shape[1:] if batched else shape[2:]).reshape(shape)
                      for state in self._as_tuple(name, states)])

    def _as_tuple(self, name, states):
        """The caller's states as a tuple: (h,), or (h, c) of an LSTM."""
        if self._states == 1:
            return (states,)
        if not isinstance(states, (tuple, list)) or len(states) != 2:
            raise TypeError(f"{name}: expected a pair (h, c), got {type(states).__name__}"
                            + (f" of {len(states)}" if isinstance(states, (tuple, list)) else ""))
        return tuple(states)

    def _as_given(self, states, batched):
        """States (1, N, H) as the caller knows them."""
        shown = [state[0] if batched else state[0, 0] for state in states]
        return tuple(shown) if self._states == 2 else shown[0]

    def _arguments_shown(self):
        shown = f"{self.input_size}, {self.hidden_size}"
        for name, default in self._defaults.items():
            if getattr(self, name) != default:
                shown += f", {name}={getattr(self, name)!r}"
        return shown + ("" if self.dtype == np.float32 else f", dtype={self.dtype}")


class RNNCell(Cell[Array, ArrayLike]):
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

    _defaults = Cell._defaults | {"nonlinearity": "tanh"}

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh",
                 device: str | None = None, dtype: DTypeLike | None = None, *, rng: Rng = None) -> None:
        self.nonlinearity = one_of("nonlinearity", nonlinearity, ACTIVATIONS)
        self._activation = ACTIVATIONS.index(nonlinearity)
        super().__init__(input_size, hidden_size, bias, device, dtype, rng)


class LSTMCell(Cell[Pair, PairLike]):
    r"""One step of an LSTM, with the equations of `LSTM`, as `torch.nn.LSTMCell`.

    A sequence stepped through a cell gives the same bits as `LSTM` with the same weights gives at once.

    Parameters
    ----------
    input_size, hidden_size, bias, device, dtype, rng
        As of `RNNCell`.
    peephole : bool
        True: peepholes, as of `LSTM`.

    Attributes
    ----------
    params : Parameters
        Read-only ``weight_ih`` (4 * hidden_size, input_size), ``weight_hh`` (4 * hidden_size, hidden_size),
        ``bias_ih`` and ``bias_hh`` (4 * hidden_size,): gates i, f, g, o; with `peephole` ``weight_peephole``
        (3 * hidden_size,): i, f, o.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> cell = fastrnn.LSTMCell(4, 2, rng=0)
    >>> h, c = cell(np.ones((1, 4), np.float32))
    >>> h, c = cell(np.ones((1, 4), np.float32), (h, c))
    >>> h.shape, c.shape
    ((1, 2), (1, 2))
    """

    _gates, _cell, _states = 4, "LSTM", 2
    _defaults = Cell._defaults | {"peephole": False}

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: str | None = None,
                 dtype: DTypeLike | None = None, *, peephole: bool = False, rng: Rng = None) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype, rng, peephole)


class GRUCell(Cell[Array, ArrayLike]):
    r"""One step of a GRU, with the equations of `GRU`, as `torch.nn.GRUCell`.

    A sequence stepped through a cell gives the same bits as `GRU` with the same weights gives at once.

    Parameters
    ----------
    input_size, hidden_size, bias, device, dtype, rng
        As of `RNNCell`.
    reset_after : bool
        False: the original form, as of `GRU`.

    Attributes
    ----------
    params : Parameters
        Read-only ``weight_ih`` (3 * hidden_size, input_size), ``weight_hh`` (3 * hidden_size, hidden_size),
        ``bias_ih`` and ``bias_hh`` (3 * hidden_size,): gates r, z, n.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> cell = fastrnn.GRUCell(4, 2, rng=0)
    >>> h = cell(np.ones((1, 4), np.float32))
    >>> cell(np.ones((1, 4), np.float32), h).shape
    (1, 2)
    """

    _gates = 3
    _defaults = Cell._defaults | {"reset_after": True}

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: str | None = None,
                 dtype: DTypeLike | None = None, *, reset_after: bool = True, rng: Rng = None) -> None:
        self.reset_after = boolean("reset_after", reset_after)
        self._cell = "GRU" if reset_after else "GRU, reset before"
        super().__init__(input_size, hidden_size, bias, device, dtype, rng)
