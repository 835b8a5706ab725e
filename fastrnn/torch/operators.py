"""The layer as custom operators of torch, for what sees operators only: torch.compile, torch.export, fake tensors.

Eager calls do not come here: to them an autograd function is cheaper.
"""

import importlib.abc
import importlib.util
import sys

import numpy as np
import torch

from fastrnn import kernels
from fastrnn.torch import layer
from fastrnn.torch.packs import Kind, packed

__all__ = ["needed", "run"]


def needed():
    """Whether torch is compiling, or a mode watches the operators that are called."""
    return torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0


def run(kind, batch_sizes, cell, x, states, parameters):
    """As `run.run`, which packs inside the operator: here parameters may have no memory."""
    training = torch.is_grad_enabled()
    results = _layer(x, batch_sizes, list(states), list(parameters), *kind, cell, training, kernels.build)
    return results[: _count(kind, cell)]


def _count(kind, cell):
    """How many results there are: the states, and of a layer its output."""
    return (0 if cell else 1) + (2 if kind.memory else 1)


@torch.library.custom_op("fastrnn::layer", mutates_args=())
def _layer(x: torch.Tensor, batch_sizes: torch.Tensor | None, states: list[torch.Tensor],
           parameters: list[torch.Tensor], name: str, activation: int, directions: int, bias: bool, input_size: int,
           hidden_size: int, proj_size: int, cell: bool, training: bool, build: str) -> list[torch.Tensor]:
    """Results, and in training cells, saved and middle, empty where there are none.

    The size of saved depends on the build of the kernels. That is an argument for torch, which keeps compiled code on
    disk and finds it by an operator's arguments, to tell one build's code from another's.
    """
    kind = Kind(name, activation, directions, bias, input_size, hidden_size, proj_size)
    call = _call(batch_sizes, states, parameters, kind, cell)
    results, kept = layer.forward(call, x, states, training)
    return [*results, *_or_empty(x, _not_results(kept, cell))] if training else results


@_layer.register_fake
def _(x, batch_sizes, states, parameters, name, activation, directions, bias, input_size, hidden_size, proj_size, cell,
      training, build):
    kind = Kind(name, activation, directions, bias, input_size, hidden_size, proj_size)
    sizes, steps, H = kind.state_sizes(), x.shape[:-1], hidden_size
    if cell:
        results, steps = [x.new_empty(*steps, size) for size in sizes], (1, *steps)
    else:
        if batch_sizes is None:
            B = steps[1]
        else:
            B = states[0].shape[1] if states else torch.library.get_ctx().new_dynamic_size()
            steps = (*steps, 1)
        finals = [x.new_empty(directions, B, size) for size in sizes]
        results = [x.new_empty(*x.shape[:-1], directions * sizes[0]), *finals]
    if not training:
        return results
    saved = kernels.engine[np.dtype(str(x.dtype).removeprefix("torch."))].saved_columns(name, H)
    cells = x.new_empty(*steps, directions * H) if kind.memory and not cell else None
    saved = x.new_empty(directions, *steps, saved) if saved else None
    middle = x.new_empty(directions, *steps, H) if proj_size else None
    return [*results, *_or_empty(x, [cells, saved, middle])]


@torch.library.custom_op("fastrnn::layer_backward", mutates_args=())
def _layer_backward(inputs: list[torch.Tensor], batch_sizes: torch.Tensor | None, kept: list[torch.Tensor],
                    grads: list[torch.Tensor], states: int, name: str, activation: int, directions: int, bias: bool,
                    input_size: int, hidden_size: int, proj_size: int, cell: bool) -> list[torch.Tensor]:
    """Gradients of all inputs: x, states, parameters."""
    kind = Kind(name, activation, directions, bias, input_size, hidden_size, proj_size)
    call = _call(batch_sizes, inputs[1 : 1 + states], inputs[1 + states :], kind, cell)
    kept = [tensor if tensor.numel() else None for tensor in kept]
    return layer.backward(call, inputs, kept, grads, [True] * len(inputs))


@_layer_backward.register_fake
def _(inputs, *rest):
    return [torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in inputs]


def _setup_context(ctx, inputs, output):
    x, batch_sizes, states, parameters, *kind, cell, training, _ = inputs
    ctx.kind, ctx.cell, ctx.states, ctx.results = Kind(*kind), cell, len(states), _count(Kind(*kind), cell)
    results, kept = output[: ctx.results], output[ctx.results :]
    cells = results[1] if cell and ctx.kind.memory else None
    ctx.batch_sizes = batch_sizes
    if training:
        kept = [results[0], kept[0] if cells is None else cells, *kept[1:]]
    ctx.save_for_backward(x, *states, *parameters, *kept)


def _backward(ctx, grads):
    inputs, kept = ctx.saved_tensors[: -layer.KEPT], ctx.saved_tensors[-layer.KEPT :]
    found = _layer_backward(list(inputs), ctx.batch_sizes, list(kept), list(grads[: ctx.results]), ctx.states,
                            *ctx.kind, ctx.cell)
    d_states, d_parameters = found[1 : 1 + ctx.states], found[1 + ctx.states :]
    return found[0], None, d_states, d_parameters, *[None] * 10


_layer.register_autograd(_backward, setup_context=_setup_context)


def _call(batch_sizes, states, parameters, kind, cell):
    return layer.Call(packed(kind, parameters), batch_sizes, cell, len(states))


def _not_results(kept, cell):
    """What is kept besides results: an operator may not return one tensor twice."""
    return [None if cell else kept[1], *kept[2:]]


def _or_empty(x, tensors):
    return [x.new_empty(0) if tensor is None else tensor for tensor in tensors]


class _AllowRecurrentModules(importlib.abc.MetaPathFinder):
    """Sets `torch._dynamo.config.allow_rnn` when that module is imported, which torch.compile does.

    Dynamo does not look into an RNN, LSTM or GRU, or a subclass, without it. To import Dynamo here would cost everyone
    the second or two that it takes.
    """

    name = "torch._dynamo.config"

    def find_spec(self, name, path, target=None):
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run_module = spec.loader.exec_module

        def exec_module(module):
            run_module(module)
            module.allow_rnn = True

        spec.loader.exec_module = exec_module
        return spec


if _AllowRecurrentModules.name in sys.modules:
    sys.modules[_AllowRecurrentModules.name].allow_rnn = True
else:
    sys.meta_path.insert(0, _AllowRecurrentModules())
