"""An ONNX model as it is read: its recurrent nodes, and their inputs that are constant.

A model comes from anywhere. Nothing of it is believed before it has been checked, nothing is computed but what is
asked for, and no data is read from outside the model's folder, which `onnx` sees to.
"""

import os

import onnx
from onnx import TensorProto, numpy_helper

from fastrnn.onnx.gates import TO_ONNX
from fastrnn.parameters import describe

__all__ = ["Inputs", "find_node", "load"]

INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")  # RNN and GRU end with initial_h
TYPES = {number: name for name, number in TensorProto.DataType.items()}


def load(model):
    """The graph of a path, of bytes or of a ModelProto, and the folder that its data may lie in, or None."""
    if isinstance(model, onnx.ModelProto):
        return model.graph, None
    if isinstance(model, (str, os.PathLike)):
        with open(model, "rb") as file:
            content = file.read()
        shown, folder = repr(os.fspath(model)), os.path.dirname(os.path.abspath(model))
    elif isinstance(model, (bytes, bytearray)):
        content, shown, folder = bytes(model), f"{len(model)} bytes", None
    else:
        raise TypeError(f"model: expected a path, bytes or an onnx.ModelProto, got {type(model).__name__}")
    try:
        return onnx.load_model_from_string(content).graph, folder
    except Exception as error:  # protobuf's own DecodeError, of which onnx promises nothing
        raise ValueError(f"model: expected an ONNX model, got {shown}: {error}") from error


def find_node(graph, node):
    """The node of this name or index, or the only one, and the graphs whose names it sees, the outermost first."""
    found = list(_recurrent(graph, ()))
    listed = ", ".join(f"{i}: {proto.op_type} {proto.name!r}" for i, (proto, _) in enumerate(found[:20]))
    listed += f" and {len(found) - 20} more" if len(found) > 20 else ""
    if not found:
        raise ValueError("model: expected a node that is an RNN, LSTM or GRU, got none")
    if node is None and len(found) > 1:
        raise ValueError(f"node: expected the name or index of one of {listed}, got None")
    if isinstance(node, bool) or not isinstance(node, (int, str, type(None))):
        raise TypeError(f"node: expected a name, an index or None, got {type(node).__name__}")
    chosen = [pair for pair in found if pair[0].name == node] if isinstance(node, str) else found[node or 0 :][:1]
    if len(chosen) != 1 or (isinstance(node, int) and node < 0):
        raise ValueError(f"node: expected the name or index of one of {listed}, got {node!r}"
                         + (f", which {len(chosen)} have" if len(chosen) > 1 else ""))
    return chosen[0]


def _recurrent(graph, outer):
    """All recurrent nodes, those inside the branches and bodies of others too, each with its graphs."""
    scope = (*outer, graph)
    for node in graph.node:
        if node.op_type in TO_ONNX and node.domain in ("", "ai.onnx"):
            yield node, scope
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _recurrent(inner, scope)


class Inputs:
    """The inputs of a recurrent node by ONNX's names for them; the constant ones can be had as arrays."""

    def __init__(self, node, scope, folder):
        known = INPUTS if node.op_type == "LSTM" else INPUTS[:6]
        if len(node.input) > len(known):
            raise ValueError(f"input: expected at most {len(known)} of {node.op_type}, got {len(node.input)}")
        given = {name: value for name, value in zip(known, node.input, strict=False) if value}
        sources = {}
        for graph in scope:
            sources |= {output: inner for inner in graph.node for output in inner.output}
            sources |= {tensor.name: tensor for tensor in graph.initializer}
        self._found = {name: _source(sources, value) for name, value in given.items() if name != "X"}
        for name in ("W", "R"):
            if name not in self._found:
                raise ValueError(f"{name}: expected an initializer or a Constant, got none")
        self._types, self._folder = (TensorProto.FLOAT, TensorProto.DOUBLE), folder

    def computed(self):
        """Names of the inputs that are there but not constant."""
        return tuple(name for name, found in self._found.items() if not isinstance(found, TensorProto))

    def constant(self, name):
        """An input as an array; None if there is no such input. All but sequence_lens are of one type."""
        if name not in self._found:
            return None
        tensor = self._found[name]
        if not isinstance(tensor, TensorProto):
            raise ValueError(f"{name}: expected an initializer or a Constant, got "
                             + ("an input of the graph" if tensor is None else f"what {tensor.op_type} computes"))
        types = (TensorProto.INT32,) if name == "sequence_lens" else self._types
        if tensor.data_type not in types:
            raise TypeError(f"{name}: expected {' or '.join(TYPES[number] for number in types)}, "
                            f"got {TYPES.get(tensor.data_type, tensor.data_type)}")
        if name != "sequence_lens":
            self._types = (tensor.data_type,)
        if tensor.data_location == TensorProto.EXTERNAL and self._folder is None:
            raise ValueError(f"{name}: expected data inside a model that is not given as a path, "
                             "got a reference to another file")
        try:
            return numpy_helper.to_array(tensor, self._folder or "")
        except (ValueError, TypeError, OverflowError, OSError, RuntimeError, onnx.checker.ValidationError) as error:
            raise ValueError(f"{name}: expected data for shape {describe(tensor.dims)}, got what cannot be read: "
                             f"{error}") from error


def _source(sources, name):
    """The tensor that a name stands for, or else the node that computes it; None if it is an input of the graph."""
    seen = set()
    while True:
        seen.add(name)
        source = sources.get(name)
        if source is None or isinstance(source, TensorProto):
            return source
        if source.op_type == "Constant":
            return next((attribute.t for attribute in source.attribute if attribute.name == "value"), source)
        if source.op_type != "Identity" or len(source.input) != 1 or source.input[0] in seen:
            return source
        name = source.input[0]
