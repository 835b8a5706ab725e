"""torch.nn's RNN, LSTM, GRU and cells with another `forward`; all else, what is saved and shown too, is torch's."""

import copy

import torch
from torch.nn.utils.rnn import PackedSequence

from fastrnn.recurrence import ACTIVATIONS
from fastrnn.torch import coverage
from fastrnn.torch.packs import Kind, packed
from fastrnn.torch.run import differentiated, run

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell", "Twin", "explain"]


class Twin:
    """What fastrnn's modules for torch have in common."""

    _cell = "RNN"  # as the kernels call it
    _activation = 0  # of the kernels' Activation
    _memory = False  # whether there is a second state, c

    def forward(self, input, hx=None):
        """As torch's. What fastrnn does not cover, wrong arguments included, is torch's own code; see `explain`."""
        parameters = self._parameters_now()
        if self._reason_for_torch(input, hx, parameters) is None:
            return self._run(input, self._as_tuple(hx), parameters)
        return super().forward(input, hx)

    def _reason_for_torch(self, input, hx, parameters):
        packed = input if isinstance(input, PackedSequence) else None
        name, x = ("input", input) if packed is None else ("input.data", input.data)
        if hx is not None and self._memory and (not isinstance(hx, (tuple, list)) or len(hx) != 2):
            return "hx is not a pair"
        states, dtype = self._as_tuple(hx), parameters[0].dtype
        for given, tensor in zip((name, "hx", "hx"), (x, *states), strict=False):
            if not isinstance(tensor, torch.Tensor):
                return f"{given} is a {type(tensor).__name__}"
        return coverage.of_mode() \
            or coverage.of_tensors((x, *states, *parameters), (name, *["hx"] * len(states), *self._names()), dtype) \
            or self._wrong_shape(name, x, packed, states)

    def _parameters_now(self):
        """The parameters, which `functional_call`, a parametrization or pruning may have put others in place of."""
        own = self._parameters
        return [own[name] if name in own else getattr(self, name) for name in self._names()]

    def _as_tuple(self, states):
        return () if states is None else tuple(states) if self._memory else (states,)

    def _as_given(self, states):
        """The reverse of `_as_tuple`."""
        return tuple(states) if self._memory else states[0]

    def _tensors(self, arrays):
        """States as the kernels give them, an array or two, as tensors."""
        if self._memory:
            h, c = arrays
            return torch.from_numpy(h), torch.from_numpy(c)
        return torch.from_numpy(arrays)

    @staticmethod
    def _plain(x, states, parameters):
        """Whether a call only has to give results, without a graph of any kind."""
        return not torch.compiler.is_compiling() and not differentiated((x, *states, *parameters))

    def _infer(self, kind, layers, x, states, parameters, cell, batch_first=False):
        """Results without a graph, by the short way through the kernels."""
        each = len(parameters) // layers
        packs = [packed(kind, parameters[i : i + each]) for i in range(0, len(parameters), each)]
        x, states = x.contiguous(), [state.contiguous() for state in states]
        engine, dtype = packs[0].engine, packs[0].dtype
        addresses = [state.data_ptr() for state in states] + [0] * (2 - len(states))
        return engine.infer_at([pack.weights for pack in packs], kind.activation, x.shape, x.data_ptr(), *addresses,
                               dtype, cell, batch_first, torch.get_num_threads())

    def __prepare_scriptable__(self):
        """TorchScript compiles torch's own module, over the same parameters."""
        plain = copy.copy(self)
        plain.__class__ = type(self).__mro__[type(self).__mro__.index(Twin) + 1]
        return plain


class Layers(Twin):
    """RNN, LSTM and GRU, over sequences."""

    def _names(self):
        return self._flat_weights_names

    def _wrong_shape(self, name, x, packed, states):
        batched = packed is not None or x.dim() == 3
        if x.dim() not in ((2,) if packed is not None else (2, 3)) or x.shape[-1] != self.input_size or not x.numel():
            return f"{name} has the shape {tuple(x.shape)}"
        if not states or (packed is not None and torch.compiler.is_compiling()):
            return None
        rows = () if not batched else (int(packed.batch_sizes[0]),) if packed is not None \
            else (x.shape[0 if self.batch_first else 1],)
        layers = self.num_layers * (2 if self.bidirectional else 1)
        for state, size in zip(states, (self.proj_size or self.hidden_size, self.hidden_size), strict=False):
            if state.shape != (layers, *rows, size):
                return f"hx has the shape {tuple(state.shape)}, rather than {(layers, *rows, size)}"
        return None

    def _run(self, input, states, parameters):
        dropped = self.training and self.dropout > 0 and self.num_layers > 1
        kind = Kind(self._cell, self._activation, 2 if self.bidirectional else 1, self.bias, self.proj_size > 0)
        if not isinstance(input, PackedSequence) and not dropped and self._plain(input, states, parameters):
            output, finals = self._infer(kind, self.num_layers, input, states, parameters, False, self.batch_first)
            return torch.from_numpy(output), self._tensors(finals)
        if isinstance(input, PackedSequence):
            x, batch_sizes, order, back = input
            states = [state if order is None else state.index_select(1, order) for state in states]
            x, finals = self._stack(kind, x, batch_sizes, states, parameters)
            finals = [final if back is None else final.index_select(1, back) for final in finals]
            return PackedSequence(x, batch_sizes, order, back), self._as_given(finals)
        if input.dim() == 2:
            x, finals = self._stack(kind, input[:, None], None, [state[:, None] for state in states], parameters)
            return x[:, 0], self._as_given([final[:, 0] for final in finals])
        x, finals = self._stack(kind, input.transpose(0, 1) if self.batch_first else input, None, states, parameters)
        return x.transpose(0, 1) if self.batch_first else x, self._as_given(finals)

    def _stack(self, kind, x, batch_sizes, states, parameters):
        """Output and final states of all layers over x (T, B, I), or packed (R, I)."""
        D, each, finals = kind.directions, len(parameters) // self.num_layers, []
        for layer in range(self.num_layers):
            if layer and self.training and self.dropout:
                x = torch.nn.functional.dropout(x, self.dropout)
            of_layer = [state[layer * D : (layer + 1) * D] for state in states] if self.num_layers > 1 else states
            x, *last = run(kind, batch_sizes, False, x, of_layer, parameters[layer * each : (layer + 1) * each])
            finals.append(last)
        return x, [torch.cat(of_layers) for of_layers in zip(*finals, strict=True)] if finals[1:] else finals[0]


class RNN(Layers, torch.nn.RNN):
    """`torch.nn.RNN` that runs in fastrnn, with the same arguments, parameters, buffers, hooks and saved form."""

    @property
    def _activation(self):
        return ACTIVATIONS.index(self.nonlinearity)


class LSTM(Layers, torch.nn.LSTM):
    """`torch.nn.LSTM` that runs in fastrnn, with the same arguments, parameters, buffers, hooks and saved form."""

    _cell, _memory = "LSTM", True


class GRU(Layers, torch.nn.GRU):
    """`torch.nn.GRU` that runs in fastrnn, with the same arguments, parameters, buffers, hooks and saved form."""

    _cell = "GRU"


class Cell(Twin):
    """RNNCell, LSTMCell and GRUCell, one step."""

    def _names(self):
        return ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if self.bias else ("weight_ih", "weight_hh")

    def _wrong_shape(self, name, x, packed, states):
        if x.dim() not in (1, 2) or x.shape[-1] != self.input_size or not x.numel():
            return f"{name} has the shape {tuple(x.shape)}"
        for state in states:
            if state.shape != (*x.shape[:-1], self.hidden_size):
                return f"hx has the shape {tuple(state.shape)}, rather than {(*x.shape[:-1], self.hidden_size)}"
        return None

    def _run(self, input, states, parameters):
        kind = Kind(self._cell, self._activation, 1, self.bias)
        if self._plain(input, states, parameters):
            return self._tensors(self._infer(kind, 1, input, states, parameters, True))
        if input.dim() == 2:
            return self._as_given(run(kind, None, True, input, states, parameters))
        results = run(kind, None, True, input[None], [state[None] for state in states], parameters)
        return self._as_given([state[0] for state in results])


class RNNCell(Cell, torch.nn.RNNCell):
    """`torch.nn.RNNCell` that runs in fastrnn, with the same arguments, parameters, buffers, hooks and saved form."""

    @property
    def _activation(self):
        return ACTIVATIONS.index(self.nonlinearity)


class LSTMCell(Cell, torch.nn.LSTMCell):
    """`torch.nn.LSTMCell` that runs in fastrnn, with the same arguments, parameters, buffers, hooks and saved form."""

    _cell, _memory = "LSTM", True


class GRUCell(Cell, torch.nn.GRUCell):
    """`torch.nn.GRUCell` that runs in fastrnn, with the same arguments, parameters, buffers, hooks and saved form."""

    _cell = "GRU"


def explain(module, input, hx=None):
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
