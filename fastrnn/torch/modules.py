"""torch.nn's RNN, LSTM, GRU and cells with another `forward`; all else, what is saved and shown too, is torch's."""

import copy

import torch
from torch.nn.utils.rnn import PackedSequence

from fastrnn.recurrence import ACTIVATIONS
from fastrnn.torch import coverage, operators, plans
from fastrnn.torch.packs import Kind, packed
from fastrnn.torch.run import run

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell", "Twin", "explain"]


class Twin:
    """What fastrnn's modules for torch have in common."""

    _cell = "RNN"  # as the kernels call it
    _memory = False  # whether there is a second state, c

    @property
    def _activation(self):
        return ACTIVATIONS.index(self.nonlinearity) if self._cell == "RNN" else 0

    def forward(self, input, hx=None):
        """As torch's. What fastrnn does not cover, wrong arguments included, is torch's own code; see `explain`."""
        if torch.compiler.is_dynamo_compiling():  # which does not see into what is compiled already
            return self._forward_anew(input, hx)
        return plans.forward(self, input, hx)

    def _forward_anew(self, input, hx):
        """`forward` the long way, and a plan for the next call."""
        parameters, packs = self._parameters_now(), None
        if self._reason_for_torch(input, hx, parameters) is not None:
            return super().forward(input, hx)
        if not operators.needed():
            packs = [packed(kind, of_layer) for kind, of_layer in self._layers(parameters)]
            plans.remember(self, parameters, packs)
        return self._run(input, self._as_tuple(hx), parameters, packs)

    def _parameters_now(self):
        """The parameters, which `functional_call`, a parametrization or pruning may have put others in place of."""
        own = self._parameters
        return [own[name] if name in own else getattr(self, name) for name in self._names()]

    def _layers(self, parameters):
        """Pairs of each layer's kind and parameters."""
        each = len(parameters) // self._count
        return [(self._kind(layer), parameters[layer * each : (layer + 1) * each]) for layer in range(self._count)]

    def _reason_for_torch(self, input, hx, parameters):
        """Why a call is left to torch, or None."""
        packed = input if isinstance(input, PackedSequence) else None
        name, x = ("input", input) if packed is None else ("input.data", input.data)
        if hx is not None and self._memory and (not isinstance(hx, (tuple, list)) or len(hx) != 2):
            return "hx is not a pair"
        states, dtype = self._as_tuple(hx), parameters[0].dtype
        tensors = (x, *states, *parameters)
        odd = coverage.unreadable(tensors, dtype)
        if odd is not None:
            return coverage.of_tensor((name, *["hx"] * len(states), *self._names())[odd], tensors[odd], dtype)
        return coverage.of_mode() or self._wrong_shape(name, x, packed, states) or self._wrong_parameter(parameters)

    def _wrong_shape(self, name, x, packed, states):
        rows = self._rows(x, packed)
        if rows is None or x.shape[-1] != self.input_size or not x.numel():
            return f"{name} has the shape {tuple(x.shape)}"
        if packed is not None and torch.compiler.is_compiling():
            return None  # how many rows there are is not known there
        for state, size in zip(states, self._kind(0).state_sizes(), strict=False):
            if state.shape != (*rows, size):
                return f"hx has the shape {tuple(state.shape)}, rather than {(*map(int, rows), size)}"
        return None

    def _wrong_parameter(self, parameters):
        shapes = [shape for kind, _ in self._layers(parameters) for shape in kind.shapes()]
        for name, tensor, shape in zip(self._names(), parameters, shapes, strict=True):
            if tensor.shape != shape:
                return f"{name} has the shape {tuple(tensor.shape)}, rather than {shape}"
        return None

    def _as_tuple(self, states):
        return () if states is None else tuple(states) if self._memory else (states,)

    def _as_given(self, states):
        """The reverse of `_as_tuple`."""
        return tuple(states) if self._memory else states[0]

    def __prepare_scriptable__(self):
        """TorchScript compiles torch's own module, over the same parameters, and puts it into the model."""
        plain = copy.copy(self)
        plain.__class__ = type(self).__mro__[type(self).__mro__.index(Twin) + 1]
        return plain


class Layers(Twin):
    """RNN, LSTM and GRU, over sequences."""

    _is_cell = False

    @property
    def _batch_first(self):
        return self.batch_first

    @property
    def _count(self):
        return self.num_layers

    def _drops(self):
        """Whether a call drops anything."""
        return self.training and self.dropout > 0 and self.num_layers > 1

    def _names(self):
        return self._flat_weights_names

    def _kind(self, layer):
        D = 2 if self.bidirectional else 1
        features = D * (self.proj_size or self.hidden_size) if layer else self.input_size
        return Kind(self._cell, self._activation, D, self.bias, features, self.hidden_size, self.proj_size)

    def _rows(self, x, packed=None):
        """The sizes of a state before the last one, with this input; None if that has not the right dimensions."""
        count = self.num_layers * (2 if self.bidirectional else 1)
        if packed is not None:
            return (count, packed.batch_sizes[0]) if x.dim() == 2 else None
        if x.dim() == 3:
            return count, x.shape[0 if self.batch_first else 1]
        return (count,) if x.dim() == 2 else None

    def _run(self, input, states, parameters, packs):
        if isinstance(input, PackedSequence):
            x, batch_sizes, order, back = input
            states = [state if order is None else state.index_select(1, order) for state in states]
            x, finals = self._stack(x, batch_sizes, states, parameters, packs)
            finals = [final if back is None else final.index_select(1, back) for final in finals]
            return PackedSequence(x, batch_sizes, order, back), self._as_given(finals)
        if input.dim() == 2:
            states = [state[:, None] for state in states]
            x, finals = self._stack(input[:, None], None, states, parameters, packs)
            return x[:, 0], self._as_given([final[:, 0] for final in finals])
        x, finals = self._stack(input.transpose(0, 1) if self.batch_first else input, None, states, parameters, packs)
        return x.transpose(0, 1) if self.batch_first else x, self._as_given(finals)

    def _stack(self, x, batch_sizes, states, parameters, packs):
        """Output and final states of all layers over x (T, B, I), or packed (R, I)."""
        finals = []
        for layer, (kind, of_layer) in enumerate(self._layers(parameters)):
            if layer and self._drops():
                x = torch.nn.functional.dropout(x, self.dropout)
            D = kind.directions
            begun = [state[layer * D : (layer + 1) * D] for state in states] if self.num_layers > 1 else states
            x, *last = run(kind, batch_sizes, False, x, begun, of_layer, packs and packs[layer])
            finals.append(last)
        return x, [torch.cat(of_layers) for of_layers in zip(*finals, strict=True)] if finals[1:] else finals[0]


class RNN(Layers, torch.nn.RNN):
    """`torch.nn.RNN` that runs in fastrnn, with the same arguments, parameters, buffers, hooks and saved form."""


class LSTM(Layers, torch.nn.LSTM):
    """`torch.nn.LSTM` that runs in fastrnn, with the same arguments, parameters, buffers, hooks and saved form."""

    _cell, _memory = "LSTM", True


class GRU(Layers, torch.nn.GRU):
    """`torch.nn.GRU` that runs in fastrnn, with the same arguments, parameters, buffers, hooks and saved form."""

    _cell = "GRU"


class Cell(Twin):
    """RNNCell, LSTMCell and GRUCell, one step."""

    _is_cell, _batch_first, _count = True, False, 1

    def _drops(self):
        return False

    def _names(self):
        return ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if self.bias else ("weight_ih", "weight_hh")

    def _kind(self, layer):
        return Kind(self._cell, self._activation, 1, self.bias, self.input_size, self.hidden_size)

    def _rows(self, x, packed=None):
        """As of `Layers`."""
        return x.shape[:-1] if packed is None and x.dim() in (1, 2) else None

    def _run(self, input, states, parameters, packs):
        kind, pack = self._kind(0), packs and packs[0]
        if input.dim() == 2:
            return self._as_given(run(kind, None, True, input, states, parameters, pack))
        results = run(kind, None, True, input[None], [state[None] for state in states], parameters, pack)
        return self._as_given([state[0] for state in results])


class RNNCell(Cell, torch.nn.RNNCell):
    """`torch.nn.RNNCell` that runs in fastrnn, with the same arguments, parameters, buffers, hooks and saved form."""


class LSTMCell(Cell, torch.nn.LSTMCell):
    """`torch.nn.LSTMCell` that runs in fastrnn, with the same arguments, parameters, buffers, hooks and saved form."""

    _cell, _memory = "LSTM", True


class GRUCell(Cell, torch.nn.GRUCell):
    """`torch.nn.GRUCell` that runs in fastrnn, with the same arguments, parameters, buffers, hooks and saved form."""

    _cell = "GRU"


def explain(module: torch.nn.Module, input: torch.Tensor | PackedSequence,
            hx: torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None = None) -> str:
    """Which code a call ``module(input, hx)`` runs, and why if it is not fastrnn's.

    Parameters
    ----------
    module : Module
        One of this package's.
    input, hx
        As in a call.

    Returns
    -------
    str
        "fastrnn", or "torch: " and the reason.

    Raises
    ------
    TypeError
        A module that is none of this package's.

    Examples
    --------
    >>> import torch, fastrnn.torch
    >>> lstm = fastrnn.torch.LSTM(4, 8, dtype=torch.bfloat16)
    >>> fastrnn.torch.explain(lstm, torch.zeros(10, 3, 4, dtype=torch.bfloat16))
    'torch: input is torch.bfloat16'
    """
    if not isinstance(module, Twin):
        raise TypeError(f"module: expected one of fastrnn.torch, got {type(module).__module__}.{type(module).__name__}")
    reason = module._reason_for_torch(input, hx, module._parameters_now())
    return "fastrnn" if reason is None else f"torch: {reason}"
