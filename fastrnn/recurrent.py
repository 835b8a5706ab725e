"""What RNN, LSTM and GRU have in common: arguments, shapes, layers and directions. The arithmetic is in the kernels."""

import warnings
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastrnn import recurrence
from fastrnn.arguments import boolean, out_array, positive_integer, probability, real_array, with_shape
from fastrnn.layout import Layout
from fastrnn.module import Module, Tape
from fastrnn.parameters import Gradients, describe
from fastrnn.reserve import Reserve
from fastrnn.sequences import PackedSequence
from fastrnn.threads import get_num_threads
from fastrnn.types import Array, Rng

__all__ = ["PARAMETERS", "Recurrent", "parameter_sizes", "projection_size"]

# torch's names, in torch's order; the last is an addition to what torch has.
PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "weight_peephole")


def parameter_sizes(gates, features, H, proj_size, bias, peephole=False):
    """Shapes of the parameters of one direction of a layer, or of a cell, by name."""
    rows = gates * H
    shapes = {"weight_ih": (rows, features), "weight_hh": (rows, proj_size or H)}
    if bias:
        shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
    if proj_size:
        shapes["weight_hr"] = (proj_size, H)
    if peephole:
        shapes["weight_peephole"] = (3 * H,)
    return shapes


def projection_size(value, hidden_size):
    """An LSTM's proj_size: an int from 0 up to hidden_size - 1."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"proj_size: expected an int, got {type(value).__name__}")
    if not 0 <= value < hidden_size:
        raise ValueError(f"proj_size: expected from 0 to {hidden_size - 1} (below hidden_size), got {value}")
    return int(value)


class Recurrent(Module):
    """A stack of recurrent layers; `RNN`, `LSTM` and `GRU` say which."""

    _gates = 1  # blocks of hidden_size rows in a weight
    _cell = "RNN"  # as the kernels call it
    _activation = 0  # of the kernels' Activation; a test sets another one
    _memory = False  # whether there is a second state, c
    _defaults = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0,  # noqa: RUF012
                 "bidirectional": False}  # of what `repr` shows

    def __init__(self, input_size: int, hidden_size: int, num_layers: int, bias: bool, batch_first: bool,
                 dropout: float, bidirectional: bool, device: str | None, dtype: DTypeLike | None, rng: Rng,
                 proj_size: int = 0, peephole: bool = False) -> None:
        self.input_size = positive_integer("input_size", input_size)
        self.hidden_size = positive_integer("hidden_size", hidden_size)
        self.num_layers = positive_integer("num_layers", num_layers)
        self.bias = boolean("bias", bias)
        self.batch_first = boolean("batch_first", batch_first)
        self.dropout = probability("dropout", dropout)
        self.bidirectional = boolean("bidirectional", bidirectional)
        self.proj_size = proj_size
        self.peephole = boolean("peephole", peephole)
        self._suffixes = ("", "_reverse") if bidirectional else ("",)
        if self.dropout and self.num_layers == 1:
            warnings.warn(f"dropout: expected num_layers above 1, since the last layer's output is not dropped, "
                          f"got dropout={dropout} and num_layers=1", stacklevel=3)
        super().__init__(self._shapes(), self.hidden_size, device, dtype, rng)
        self._offsets = [recurrence.offsets(self.params, self._names(layer)) for layer in range(self.num_layers)]

    def _shapes(self):
        shapes = {}
        for layer in range(self.num_layers):
            features = self._output_size() if layer else self.input_size
            sizes = parameter_sizes(self._gates, features, self.hidden_size, self.proj_size, self.bias, self.peephole)
            shapes |= {f"{name}_l{layer}{suffix}": size for suffix in self._suffixes for name, size in sizes.items()}
        return shapes

    def _output_size(self):
        return len(self._suffixes) * (self.proj_size or self.hidden_size)

    def _cells_size(self):
        return len(self._suffixes) * self.hidden_size

    def _names(self, layer):
        """Names that the parameters of a layer may have, for each direction."""
        return [[f"{name}_l{layer}{suffix}" for name in PARAMETERS] for suffix in self._suffixes]

    def _start(self):
        super()._start()
        self._reserve = Reserve()

    def _pack(self):
        return [recurrence.pack(self._engine, self._cell, self.params, self._names(layer))
                for layer in range(self.num_layers)]

    def _part(self, states, layer):
        """What of (D * num_layers, N, size) states belongs to a layer."""
        if self.num_layers == 1:
            return states
        D = len(self._suffixes)
        return tuple(state[layer * D : (layer + 1) * D] for state in states)

    @overload
    def __call__(self, input: PackedSequence, hx: ArrayLike | None = None, *, lengths: None = None,
                 reset: ArrayLike | None = None, out: None = None) -> tuple[PackedSequence, Array]: ...

    @overload
    def __call__(self, input: ArrayLike, hx: ArrayLike | None = None, *, lengths: ArrayLike | None = None,
                 reset: ArrayLike | None = None, out: tuple[Array, Array] | None = None) -> tuple[Array, Array]: ...

    def __call__(self, input, hx=None, *, lengths=None, reset=None, out=None):
        """Run the network, for inference.

        Keeps nothing and drops nothing; any number of threads may call at once.

        Parameters
        ----------
        input : array_like or PackedSequence
            (L, N, input_size), (N, L, input_size) with `batch_first`, or (L, input_size).
        hx : array_like, optional
            Initial states, (D * num_layers, N, hidden_size) or (D * num_layers, hidden_size); zeros if None. Of an
            LSTM a pair of them, h and c.
        lengths : array_like of int, (N,), optional
            Steps that each row has, 0 to L in any order; L if None. A row ends there: its final state is that of its
            last step, the reverse direction starts there, behind it `output` is 0, and no time is spent. Without a
            batch a single int.
        reset : array_like of bool, (L, N), (N, L) with `batch_first`, or (L,), optional
            Where a new sequence begins inside a row: the state before such a step is zero. The reverse direction
            runs the pieces apart as well; `hx` is what it starts the last one from.
        out : tuple, optional
            Arrays for the results, as they are returned: written and returned instead of new ones. If Ctrl-C, or
            another signal whose handler raises, ends the call, they hold no results, and no state to go on from.

        Returns
        -------
        output : ndarray or PackedSequence
            The last layer's h for every step; see the class for shapes. Packed if `input` is.
        h_n : ndarray
            Every layer's and direction's last state, shaped like `hx`. Of an LSTM a pair, h_n and c_n.

        Raises
        ------
        ValueError
            A wrong number of dimensions or size.
        TypeError
            Values that are not real numbers, or float64 for a float32 layer.
        """
        return self._infer(input, hx, lengths, reset, out, False)

    @overload
    def forward(self, input: PackedSequence, hx: ArrayLike | None = None, *, lengths: None = None,
                reset: ArrayLike | None = None) -> tuple[PackedSequence, Array, Tape]: ...

    @overload
    def forward(self, input: ArrayLike, hx: ArrayLike | None = None, *, lengths: ArrayLike | None = None,
                reset: ArrayLike | None = None) -> tuple[Array, Array, Tape]: ...

    def forward(self, input, hx=None, *, lengths=None, reset=None):
        """Run the network for training: with dropout, and a tape for `backward`.

        Parameters
        ----------
        input, hx, lengths, reset
            As in a call. `input` is not copied: leave it unchanged until the backward pass.

        Returns
        -------
        output, h_n
            As from a call, and without dropout the same bits. `output` is read-only, since the tape needs it; where
            rows differ in length it is a copy.
        tape : Tape
            To be given to `backward`, once. Several may be open at a time.

        Raises
        ------
        ValueError, TypeError
            As a call.
        """
        output, state, _, tape = self._train(input, hx, lengths, reset)
        return output, state, tape

    def backward(self, tape: Tape, d_output: ArrayLike | PackedSequence | None = None, d_hx: ArrayLike | None = None, *,
                 into: Gradients | None = None) -> Gradients:
        """Backpropagation through time: gradients of any loss on `output` and `h_n`.

        The equations stand in the class's notes, and numbered in `fastrnn.reference`.

        Parameters
        ----------
        tape : Tape
            From `forward` of this network, with the weights unchanged since. It is used up.
        d_output : array_like or PackedSequence, shaped like `output`, optional
            Gradient of the loss with respect to `output`; zeros if None. What lies behind a row's length is not read.
        d_hx : array_like, shaped like `h_n`, optional
            Gradient of the loss with respect to `h_n`; zeros if None. Of an LSTM a pair, either of which may be None.
        into : Gradients, optional
            Gradients of an earlier pass over the same shapes, to which these are added in place. If Ctrl-C, or between
            two layers a lack of memory, ends the call, some may have been added.

        Returns
        -------
        Gradients
            Of `input`, of `hx`, and of the parameters; `into`, if given.

        Raises
        ------
        RuntimeError
            A tape used before, or older than the weights.
        ValueError, TypeError
            A wrong shape or dtype, or a tape of another network. The tape is then still open.
        MemoryError, KeyboardInterrupt
            The tape is then still open.
        """
        return self._through(tape, into, d_output, d_hx, None)

    def _infer(self, input, hx, lengths, reset, out, return_cells):
        """output, state and, with return_cells, cells: what a call returns."""
        if self._reserve:
            self._reserve.clear()
        if lengths is None and reset is None and not return_cells:
            result = self._engine.infer(self._packed_weights(), self._activation, input, hx, out, False,
                                        self.batch_first, get_num_threads())
            if result is not None:
                return result
        x, states, layout = self._arguments(input, hx, lengths, reset)
        finals = recurrence.new_states(states)
        self._check_out(out, layout, states)
        cells = None
        for layer in range(self.num_layers):
            last = layer == self.num_layers - 1
            output = layout.empty(self._output_size(), self.dtype, last)
            if last and return_cells:
                cells = layout.empty(self._cells_size(), self.dtype)
            recurrence.forward(self._engine, self._packed_weights()[layer], self._activation, x,
                               self._part(states, layer), output, self._part(finals, layer), layout.lengths,
                               layout.reset, cells=cells)
            x = output
        output, finals = layout.shown(x), tuple(map(layout.shown_state, finals))
        if out is None:
            out = output, self._as_given(finals)
        else:
            out[0][...] = output
            for target, final in zip(self._as_tuple(out[1]), finals, strict=True):
                target[...] = final
        return (*out, layout.shown(cells)) if return_cells else out

    def _check_out(self, out, layout, states):
        """`out` has arrays that the results fit in, or is None."""
        if out is None:
            return
        if not isinstance(out, tuple) or len(out) != 2:
            raise TypeError(f"out: expected a tuple (output, {'(h_n, c_n)' if self._memory else 'h_n'}), "
                            f"got {type(out).__name__}")
        if layout.packed:
            raise ValueError("out: expected None with a PackedSequence, got arrays")
        out_array("out[0]", out[0], self.dtype, layout.shown_shape(self._output_size()))
        for target, state in zip(self._as_tuple(out[1], "out[1]"), states, strict=True):
            out_array("out[1]", target, self.dtype, layout.shown_state(state).shape)

    def _train(self, input, hx, lengths, reset, return_cells=False):
        """output, state, cells (or None) and tape of a forward."""
        drops = self.dropout and self.num_layers > 1
        room = self._reserve.empty if self._reserve else None
        if lengths is None and reset is None and not return_cells and not drops:
            packed = self._packed_weights()
            found = self._engine.train(packed, self._activation, input, hx, room, False, self.batch_first,
                                       get_num_threads())
            if found is not None:
                (output, state), hx, records = found
                return output, state, None, Tape(self, (records, hx, packed, self.batch_first, None))
        x, states, layout = self._arguments(input, hx, lengths, reset)
        finals = recurrence.new_states(states)
        records, masks = [], []
        mask = cells = None
        for layer in range(self.num_layers):
            if layer and drops:
                mask = self._dropout_mask(x.shape)
                x = x * mask
            last = layer == self.num_layers - 1
            output = layout.empty(self._output_size(), self.dtype, last)
            if self._memory:
                cells = layout.empty(self._cells_size(), self.dtype, last)
            record = recurrence.forward(
                self._engine, self._packed_weights()[layer], self._activation, x, self._part(states, layer), output,
                self._part(finals, layer), layout.lengths, layout.reset, cells=cells, training=True,
                room=room or np.empty)
            output.flags.writeable = False
            if cells is not None:
                cells.flags.writeable = False
            records.append(record)
            masks.append(mask)
            x = output
        tape = Tape(self, (records, states, self._packed_weights(), layout, masks))
        shown = layout.shown(cells) if return_cells else None
        return layout.shown(x), self._as_given(tuple(map(layout.shown_state, finals))), shown, tape

    def _back(self, saved, into, d_output, d_hx, d_cells):
        records, states, packed, layout, masks = saved
        if isinstance(layout, bool):  # of the short way, which has to know no more than `batch_first`
            if d_cells is None:
                gradients = self._back_short(records, states, packed, layout, d_output, d_hx, into)
                if gradients is not None:
                    return gradients
            records, states, layout, masks = self._as_long(records, states, layout)
        return self._back_long(records, states, packed, layout, masks, d_output, d_hx, d_cells, into)

    def _used_up(self, saved):
        records, _, _, layout, _ = saved
        self._reserve.keep(records, cells=isinstance(layout, bool))  # those of the long way may be the caller's

    def _back_short(self, records, states, packed, batch_first, d_output, d_hx, into):
        """Gradients by one compiled call, or None where it does not take these."""
        if into is not None:
            self._check_shapes(into, records[0][0].shape, [state.shape for state in self._as_tuple(states)])
        params = self._gradients(into)
        found = self._engine.train_back(packed, self._activation, records, states, d_output, d_hx, params.flat,
                                        self._offsets, into is not None, False, batch_first, get_num_threads())
        return None if found is None else Gradients(*found, params)

    def _as_long(self, records, states, batch_first):
        """What the short way kept, as the long way does."""
        layout = Layout.of_array(records[0][0], batch_first)
        records = [recurrence.Record(*record) for record in records]
        records[0] = records[0]._replace(x=layout.sequence(records[0].x))
        records[-1] = records[-1]._replace(output=layout.sequence(records[-1].output))
        return records, tuple(map(layout.state, self._as_tuple(states))), layout, [None] * len(records)

    def _back_long(self, records, states, packed, layout, masks, d_output, d_hx, d_cells, into):
        """Gradients, layer by layer."""
        g = self._gradient_of("d_output", d_output, layout, self._output_size())
        g_cells = self._gradient_of("d_cells", d_cells, layout, self._cells_size())
        d_states = self._state_gradients(d_hx, states, layout)
        if into is not None:
            self._check_shapes(into, layout.shown_shape(self.input_size),
                               [layout.shown_state(state).shape for state in states])
        params = self._gradients(into)
        for layer in reversed(range(self.num_layers)):
            g = recurrence.backward(
                self._engine, packed[layer], self._activation, records[layer], self._part(states, layer), g, g_cells,
                self._part(d_states, layer), params.flat, self._offsets[layer], layout.lengths, layout.reset,
                add=into is not None)
            g_cells = None
            if masks[layer] is not None:
                g *= masks[layer]
        d_input = layout.shown(g)
        if layout.packed:
            d_input = d_input.data
        return Gradients(d_input, self._as_given(tuple(map(layout.shown_state, d_states))), params)

    def _gradient_of(self, name, value, layout, features):
        """The gradient of an output as the kernels read it, or None."""
        if value is None:
            return None
        if isinstance(value, PackedSequence):
            value = value.data
        return layout.sequence(with_shape(name, value, self.dtype, layout.shown_shape(features)))

    def _state_gradients(self, d_hx, states, layout):
        """New arrays with the gradients of the final states."""
        given = self._as_tuple(d_hx, "d_hx") if d_hx is not None else (None,) * len(states)
        found = []
        for value, state in zip(given, states, strict=True):
            if value is None:
                found.append(np.zeros(state.shape, self.dtype))
            else:
                value = with_shape("d_hx", value, self.dtype, layout.shown_state(state).shape)
                found.append(np.array(layout.state(value), order="C"))
        return tuple(found)

    def _arguments(self, input, hx, lengths, reset):
        """Input and initial states as the kernels read them, and their layout."""
        packed = isinstance(input, PackedSequence)
        x = real_array("input", input.data if packed else input, self.dtype)
        if packed and x.ndim != 2:
            raise ValueError(f"input: expected 2 dimensions (of a PackedSequence's data), got {x.ndim}")
        if x.ndim not in (2, 3):
            raise ValueError(f"input: expected 2 dimensions (unbatched) or 3, got {x.ndim}")
        if x.shape[-1] != self.input_size:
            raise ValueError(f"input: expected last dimension {self.input_size} (input_size), got {x.shape[-1]}")
        layout = Layout.of_packed(input) if packed else Layout.of_array(x, self.batch_first)
        if lengths is not None:
            layout.set_lengths(lengths)
        if reset is not None:
            layout.set_reset(reset, len(self._suffixes))
        return layout.sequence(x), self._initial_states(hx, layout), layout

    def _initial_states(self, hx, layout):
        layers, B = len(self._suffixes) * self.num_layers, layout.B
        shapes = [(layers, B, self.proj_size or self.hidden_size)] + [(layers, B, self.hidden_size)] * self._memory
        if hx is None:
            return tuple([np.zeros(shape, self.dtype) for shape in shapes])
        states = []
        for value, shape in zip(self._as_tuple(hx, "hx"), shapes, strict=True):
            shown = shape if layout.batched else (shape[0], shape[2])
            states.append(np.ascontiguousarray(layout.state(with_shape("hx", value, self.dtype, shown))))
        return tuple(states)

    def _as_tuple(self, states, name="hx"):
        """The caller's states as a tuple: (h,), or (h, c) of an LSTM."""
        if not self._memory:
            return (states,)
        if not isinstance(states, (tuple, list)) or len(states) != 2:
            raise TypeError(f"{name}: expected a pair (h, c), got {type(states).__name__}"
                            + (f" of {len(states)}" if isinstance(states, (tuple, list)) else ""))
        return tuple(states)

    def _as_given(self, states):
        """The reverse of `_as_tuple`."""
        return states if self._memory else states[0]

    def _check_shapes(self, into, input_shape, state_shapes):
        """Gradients of other shapes cannot be added to; said before anything is written."""
        self._gradients(into)
        wanted = [("into.input", into.input, input_shape)]
        wanted += [("into.hx", mine, shape)
                   for mine, shape in zip(self._as_tuple(into.hx, "into.hx"), state_shapes, strict=True)]
        for name, array, shape in wanted:
            if np.shape(array) != shape:
                raise ValueError(f"{name}: expected shape {describe(shape)}, got {describe(np.shape(array))}")

    def _dropout_mask(self, shape):
        if self.dropout == 1:
            return np.zeros(shape, self.dtype)
        kept = self.rng.random(shape, np.float32) >= self.dropout
        return kept.astype(self.dtype) / self.dtype.type(1 - self.dropout)

    def _arguments_shown(self):
        shown = f"{self.input_size}, {self.hidden_size}"
        for name, default in self._defaults.items():
            if getattr(self, name) != default:
                shown += f", {name}={getattr(self, name)!r}"
        return shown + ("" if self.dtype == np.float32 else f", dtype={self.dtype}")
