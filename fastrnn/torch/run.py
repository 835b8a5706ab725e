"""The ways through a layer: as an operator, as a node of a graph, or for its results alone."""

import torch

from fastrnn.torch import layer, operators
from fastrnn.torch.graph import Layer
from fastrnn.torch.packs import packed

__all__ = ["run"]


def differentiated(tensors):
    """Whether torch wants a graph of what is computed from these."""
    return torch.is_grad_enabled() and any([tensor.requires_grad for tensor in tensors])


def run(kind, batch_sizes, cell, x, states, parameters, pack=None):
    """One layer over x (T, B, I), or packed (R, I); or one step of a cell over x (B, I).

    The parameters may have been packed already.

    Returns
    -------
    list or tuple of Tensor
        output, h_n, and of an LSTM c_n; of a cell h, and of an LSTMCell c. Part of the graph where there is one.
    """
    if operators.needed():
        return operators.run(kind, batch_sizes, cell, x, states, parameters)
    call = layer.Call(pack or packed(kind, parameters), batch_sizes, cell, len(states))
    if differentiated((x, *states, *parameters)):
        return Layer.apply(call, x, *states, *parameters)
    return layer.forward(call, x, states, training=False)[0]
