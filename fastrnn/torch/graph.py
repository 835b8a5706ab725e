"""The layer as a node of the graph that torch's autograd builds."""

import torch

from fastrnn.torch import decomposed, layer

__all__ = ["Layer"]


class Layer(torch.autograd.Function):
    """Back through time by fastrnn; where the gradient is to be differentiated again, by torch's own operators."""

    @staticmethod
    def forward(ctx, call, x, *tensors):
        results, kept = layer.forward(call, x, tensors[: call.states], training=True)
        ctx.call = call
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, *tensors, *kept)
        return tuple(results)

    @staticmethod
    def backward(ctx, *grads):
        inputs, kept = ctx.saved_tensors[: -layer.KEPT], ctx.saved_tensors[-layer.KEPT :]
        back = decomposed.backward if torch.is_grad_enabled() else layer.backward
        found = back(ctx.call, inputs, kept, grads, ctx.needs_input_grad[1:])
        return None, *found
