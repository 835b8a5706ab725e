"""A layer's backward pass in torch's own differentiable operators, for gradients of gradients.

fastrnn has no second derivative, and torch's oneDNN layer has none either: the layer is run again without it.
"""

import threading
from contextlib import contextmanager

import torch
from torch import _VF

from fastrnn.recurrence import ACTIVATIONS

__all__ = ["backward"]


def backward(call, inputs, kept, grads, needed):
    """As `layer.backward`; the result is part of the graph of inputs and grads."""
    wanted = [tensor for tensor, need in zip(inputs, needed, strict=True) if need]
    with torch.enable_grad(), _without_onednn():
        results = _forward(call, *inputs)
        reached = [i for i, grad in enumerate(grads) if grad is not None]
        found = iter(torch.autograd.grad([results[i] for i in reached], wanted, [grads[i] for i in reached],
                                         create_graph=True, allow_unused=True))
    return [next(found) if need else None for need in needed]


_switching = threading.Lock()


@contextmanager
def _without_onednn():
    # torch has one switch for the process, and `torch.backends.mkldnn.flags` warns where there is no TF32.
    with _switching:
        enabled = torch._C._get_mkldnn_enabled()
        torch._C._set_mkldnn_enabled(False)
        try:
            yield
        finally:
            torch._C._set_mkldnn_enabled(enabled)


def _forward(call, x, *tensors):
    kind, states, parameters = call.pack.kind, tensors[: call.states], list(tensors[call.states :])
    name = f"rnn_{ACTIVATIONS[kind.activation]}" if kind.cell == "RNN" else kind.cell.lower()
    if not states:
        states = _zeros(call, x)
    hx = states if kind.memory else states[0]
    if call.cell:
        parameters += [None] * (4 - len(parameters))
        result = getattr(_VF, f"{name}_cell")(x, hx, *parameters)
        return result if kind.memory else (result,)
    sequence = (x, hx) if call.batch_sizes is None else (x, call.batch_sizes, hx)
    layer = parameters, kind.bias, 1, 0.0, False, kind.directions == 2  # one layer, no dropout
    return getattr(_VF, name)(*sequence, *layer, *([False] if call.batch_sizes is None else []))


def _zeros(call, x):
    rows = x.shape[:1] if call.cell else (call.pack.kind.directions, *(
        x.shape[1:2] if call.batch_sizes is None else (int(call.batch_sizes[0]),)))
    return [x.new_zeros(*rows, size) for size in call.pack.kind.state_sizes()]
