"""Packed copies of torch's parameters, kept as long as the parameters live and have the values that were packed.

Nothing tells for certain that a tensor has not been written to: its version counter does not see `p.data.copy_(...)`,
which many a training loop uses. So a pack knows a fingerprint of what it was made from, and is used only after the
parameters have been read once and found the same: 0.7 us for an LSTM of 32 units, 5 us for one of 128.
"""

import weakref
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from fastrnn import kernels

__all__ = ["Kind", "Pack", "packed"]


class Kind(NamedTuple):
    """What a layer, or a cell, is besides its weights."""

    cell: str  # as the kernels call it
    activation: int  # of the kernels' Activation
    directions: int
    bias: bool
    projected: bool = False

    @property
    def memory(self):
        """Whether there is a second state, c."""
        return self.cell == "LSTM"

    def places(self):
        """Where each of weight_ih, weight_hh, bias_ih, bias_hh, weight_hr stands in a direction's tensors, or None."""
        return (0, 1, *((2, 3) if self.bias else (None, None)), (4 if self.bias else 2) if self.projected else None)


class Pack(NamedTuple):
    """The weights of one layer, packed."""

    kind: Kind
    engine: object  # the kernels for this dtype
    dtype: np.dtype
    weights: tuple  # the engine's Weights, one a direction
    shapes: tuple  # of the parameters, in torch's order
    starts: tuple  # where each begins in a vector of them all, and where that ends
    offsets: tuple  # the same as the kernels take it

    def state_sizes(self):
        """Features of h, and of an LSTM of c."""
        return (self.shapes[1][1], self.shapes[0][0] // 4)[: 2 if self.kind.memory else 1]

    def stale(self):
        """Whether the parameters have changed since."""
        for weights in self.weights:
            if weights.stale():
                return True
        return False


_packs = {}  # of id(weight_ih): where the parameters lay, and their pack


def packed(kind, tensors):
    """The pack of a layer's parameters, made anew if there is none or they have changed.

    Threads may call at once; each gets a right one, whichever is kept.
    """
    first = tensors[0]
    source = (kind, first.shape, *[tensor.data_ptr() for tensor in tensors])
    known, pack = _packs.get(id(first), (None, None))
    if known == source and not pack.stale():
        return pack
    pack = _pack(kind, [tensor.detach().numpy() for tensor in tensors])
    if all([tensor.is_contiguous() for tensor in tensors]):  # else what was packed is a copy that no one changes
        if known is None:
            weakref.finalize(first, _packs.pop, id(first), None).atexit = False
        _packs[id(first)] = source, pack
    return pack


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
