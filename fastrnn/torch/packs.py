"""Packed copies of torch's parameters, kept as long as the parameters live and have the values that were packed.

Nothing tells for certain that a tensor has not been written to: its version counter does not see `p.data.copy_(...)`,
which many a training loop uses. So a pack knows a fingerprint of what it was made from, and is used only after the
parameters have been read once and found the same: some 2 us for an LSTM of 64 units, 10 us for one of 128.
"""

import weakref
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from fastrnn import kernels, layers
from fastrnn.recurrent import parameter_sizes

__all__ = ["Kind", "Pack", "packed", "renewed"]


class Kind(NamedTuple):
    """What a layer, or a cell, is besides its weights."""

    cell: str  # as the kernels call it
    activation: int  # of the kernels' Activation
    directions: int
    bias: bool
    input_size: int
    hidden_size: int
    proj_size: int = 0

    @property
    def memory(self):
        """Whether there is a second state, c."""
        return self.cell == "LSTM"

    def state_sizes(self):
        """Features of h, and of an LSTM of c."""
        P = self.proj_size or self.hidden_size
        return (P, self.hidden_size) if self.memory else (P,)

    def shapes(self):
        """Of the parameters in torch's order, one direction after the other."""
        gates = getattr(layers, self.cell)._gates
        sizes = parameter_sizes(gates, self.input_size, self.hidden_size, self.proj_size, self.bias)
        return [*sizes.values()] * self.directions

    def places(self):
        """Where each of `recurrent.PARAMETERS` stands in a direction's tensors, or None: torch has no peepholes."""
        biases = (2, 3) if self.bias else (None, None)
        return (0, 1, *biases, (4 if self.bias else 2) if self.proj_size else None, None)


class Pack(NamedTuple):
    """The weights of one layer, packed."""

    kind: Kind
    engine: object  # the kernels for this dtype
    dtype: np.dtype
    weights: tuple  # the engine's Weights, one a direction
    shapes: tuple  # of the parameters, in torch's order
    starts: tuple  # where each begins in a vector of them all, and where that ends
    offsets: tuple  # the same as the kernels take it


_packs = {}  # of id(weight_ih): the parameters' place in memory, and their pack


def packed(kind, tensors):
    """The pack of a layer's parameters, which are right for it, made anew if there is none of them as they are now.

    Threads may call at once; each gets a right one, whichever is kept.
    """
    place, pack = _packs.get(id(tensors[0]), (None, None))
    if place is None or place != _place(kind, tensors) or any([weights.stale() for weights in pack.weights]):
        return renewed(kind, tensors)
    return pack


def renewed(kind, tensors):
    """A new pack, kept for the next call unless what it is of is a copy that no one changes."""
    place = _place(kind, tensors)
    pack = _pack(kind, [tensor.detach().numpy() for tensor in tensors])
    if all(place):
        if id(tensors[0]) not in _packs:
            weakref.finalize(tensors[0], _packs.pop, id(tensors[0]), None).atexit = False
        _packs[id(tensors[0])] = place, pack
    return pack


def _place(kind, tensors):
    """Where the parameters of a layer lie; with a False in it for one that is not contiguous."""
    return [kind, *[tensor.is_contiguous() and tensor.data_ptr() for tensor in tensors]]


def _pack(kind, arrays):
    # The kernels keep views of the arrays: no other tensor gets their memory while there is a pack of them.
    arrays = [np.ascontiguousarray(array) for array in arrays]
    engine = kernels.engine[arrays[0].dtype]
    starts = [*accumulate([array.size for array in arrays], initial=0)]
    each, places = len(arrays) // kind.directions, kind.places()
    weights, offsets = [], []
    for first in range(0, len(arrays), each):
        weights.append(engine.Weights(kind.cell, *[None if p is None else arrays[first + p] for p in places]))
        offsets.append(tuple([-1 if p is None else starts[first + p] for p in places]))
    shapes = tuple([array.shape for array in arrays])
    return Pack(kind, engine, arrays[0].dtype, tuple(weights), shapes, tuple(starts), tuple(offsets))
