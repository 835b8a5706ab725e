"""The short way in: a call that is plainly one for fastrnn, on parameters that have been packed where they lie.

`modules` and `coverage` come to the same answer, and to a reason if it is no, in twice the time; the kernels take 1 to
3 us for a step of a cell. Hence one function, with the checks of tensors and shapes in it.
"""

import torch

from fastrnn.torch import coverage, operators
from fastrnn.torch.packs import find

__all__ = ["infer", "packs_of"]

Tensor = torch.Tensor


def packs_of(module, x, hx, parameters):
    """The packs of all layers; None where it takes longer to say."""
    if operators.needed() or coverage.of_mode():
        return None
    dtype = parameters[0].dtype
    tensors = (x,) if hx is None else (x, *hx) if module._memory and type(hx) is tuple else (x, hx)
    for tensor in tensors:
        if type(tensor) is not Tensor or tensor.dtype is not dtype or not tensor.is_cpu or not tensor.is_contiguous() \
                or tensor.is_neg():
            return None
    each, packs = len(parameters) // module._count, []
    for layer in range(module._count):
        pack = find(module._kind(layer), parameters[layer * each : (layer + 1) * each])
        if pack is None:
            return None
        packs.append(pack)
    kind, rows = packs[0].kind, module._rows(x)
    sizes = kind.state_sizes()
    if rows is None or x.shape[-1] != kind.input_size or not x.numel() or len(tensors) not in (1, 1 + len(sizes)):
        return None
    for state, size in zip(tensors[1:], sizes, strict=False):
        if state.shape != (*rows, size):
            return None
    return packs


def infer(module, x, states, packs):
    """The kernels' results for a call with such packs, as arrays; no graph is built."""
    addresses = [state.data_ptr() for state in states] + [0] * (2 - len(states))
    return packs[0].engine.infer_at([pack.weights for pack in packs], packs[0].kind.activation, x.shape, x.data_ptr(),
                                    *addresses, packs[0].dtype, module._is_cell, module._batch_first,
                                    torch.get_num_threads())
