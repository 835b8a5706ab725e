"""One recurrent layer, or one step of a cell, forward and back on torch's tensors; of graphs it knows nothing.

Arrays are views of the tensors' memory and tensors views of the arrays': nothing is copied on the way in or out.
"""

from typing import NamedTuple

import numpy as np
import torch

from fastrnn import recurrence
from fastrnn.arguments import real_array
from fastrnn.sequences import PackedSequence
from fastrnn.torch.packs import Pack

__all__ = ["KEPT", "Call", "backward", "forward"]

KEPT = 4  # what the way back needs besides inputs: output, cells, saved, middle, as in `recurrence.Record`


class Call(NamedTuple):
    """One pass of a layer, besides its tensors."""

    pack: Pack
    batch_sizes: torch.Tensor | None  # of a PackedSequence
    cell: bool  # one step: x (B, I), states (B, H), and the results are the states
    states: int  # how many are given: none, for zeros, or all

    def lengths(self):
        """Of the rows, falling; None if all have as many steps as x."""
        if self.batch_sizes is None:
            return None
        return PackedSequence(None, self.batch_sizes.numpy()).sorted_lengths()


def array_of(tensor):
    """The tensor's numbers, with a contiguous last axis; a copy only where there was none."""
    array = tensor.detach().numpy()
    return real_array("tensor", array, array.dtype)


def forward(call, x, states, training):
    """One layer over x (T, B, I), or packed (R, I); or one step of a cell over x (B, I).

    Returns
    -------
    results : list of Tensor
        output, h_n, and of an LSTM c_n; of a cell h, and of an LSTMCell c.
    kept : list of Tensor or None
        `KEPT` of them.
    """
    pack, lengths = call.pack, call.lengths()
    x, states = _arrays(call, x, states, lengths)
    finals = recurrence.new_states(states)
    if call.cell:  # of one step the output is the final state
        output, *cells = finals
        cells = cells[0] if cells else None
    else:
        output, *cells = [np.empty((*x.shape[:2], len(pack.weights) * state.shape[2]), x.dtype) for state in states]
        cells = cells[0] if cells and training else None
    record = recurrence.forward(
        pack.engine, pack.weights, pack.kind.activation, x, states, output, finals, lengths, cells=cells,
        training=training, threads=torch.get_num_threads())
    if call.cell:
        results = [torch.from_numpy(array[0]) for array in (output, cells) if array is not None]
        kept = [*results, *[None] * (2 - len(results))]
    else:
        results = [torch.from_numpy(output if lengths is None else output[:, 0]), *map(torch.from_numpy, finals)]
        kept = [results[0], _tensor(cells)]
    return results, [*kept, _tensor(record.saved), _tensor(record.middle)]


def backward(call, inputs, kept, grads, needed):
    """Gradients of x, states and parameters from those of the results; None where they are not needed.

    `inputs` are the tensors of which gradients are `needed`; `grads` may have None for zeros.
    """
    pack, lengths = call.pack, call.lengths()
    x, states = _arrays(call, inputs[0], inputs[1 : 1 + call.states], lengths)
    output, cells, saved, middle = [None if tensor is None else tensor.numpy() for tensor in kept]
    d_output, d_finals = (None, grads) if call.cell else (grads[0], grads[1:])
    d_output = None if d_output is None else array_of(d_output)
    if call.cell:
        output, cells = output[None], None if cells is None else cells[None]
    elif lengths is not None:
        output, d_output = output[:, None], None if d_output is None else d_output[:, None]
    d_states = tuple([np.zeros(state.shape, state.dtype) if grad is None else
                      np.array(array_of(grad).reshape(state.shape), order="C")
                      for grad, state in zip(d_finals, states, strict=True)])
    d_parameters = np.empty(pack.starts[-1], x.dtype)
    record = recurrence.Record(x, output, cells, saved, middle)
    d_x = recurrence.backward(
        pack.engine, pack.weights, pack.kind.activation, record, states, d_output, None, d_states, d_parameters,
        pack.offsets, lengths, threads=torch.get_num_threads())
    found = [d_x if lengths is None else d_x[:, 0], *d_states[: call.states]]
    if call.cell:
        found = [array[0] for array in found]
    found += [d_parameters[start:end].reshape(shape)
              for start, end, shape in zip(pack.starts[:-1], pack.starts[1:], pack.shapes, strict=True)]
    return [torch.from_numpy(array) if need else None for array, need in zip(found, needed, strict=True)]


def _arrays(call, x, states, lengths):
    """Input and states as the kernels read them."""
    x, states = array_of(x), [array_of(state) for state in states]
    if call.cell:
        x, states = x[None], [state[None] for state in states]
    elif lengths is not None:
        x = x[:, None]
    if not states:
        B = x.shape[1] if lengths is None else len(lengths)
        states = [np.zeros((len(call.pack.weights), B, size), x.dtype) for size in call.pack.kind.state_sizes()]
    return x, tuple(map(np.ascontiguousarray, states))


def _tensor(array):
    return None if array is None else torch.from_numpy(array)
