"""The inputs of a recurrent node, and which of them are constant.

A model comes from anywhere. Nothing of it is believed before it has been checked; of its nodes only those few are
computed that move numbers about, which is how torch writes the order of the gates where it folds no constants, and
onnx's reference does that; no data is read from outside the model's folder, which onnx sees to.
"""

from typing import NamedTuple

from onnx import TensorProto, checker, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from fastrnn.parameters import describe

__all__ = ["Inputs"]

INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")  # RNN and GRU end with initial_h
MOVING = ("Identity", "Slice", "Concat", "Unsqueeze")  # none gives more numbers than it takes
MOST_NODES = 64  # of these for an input; torch takes 21 for B of an LSTM with two directions
TYPES = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT32, TensorProto.INT64)


class Constant(NamedTuple):
    """An output as it is made of tensors, by name, and of nodes that move their numbers about, in order."""

    output: str
    tensors: dict
    nodes: list


class Inputs:
    """The inputs of a recurrent node by ONNX's names for them; the constant ones can be had as arrays."""

    def __init__(self, node, scope, opsets, folder):
        known = INPUTS if node.op_type == "LSTM" else INPUTS[:6]
        if len(node.input) > len(known):
            raise ValueError(f"input: expected at most {len(known)} of {node.op_type}, got {len(node.input)}")
        sources = {}
        for graph in scope:
            sources |= {output: inner for inner in graph.node for output in inner.output}
            sources |= {tensor.name: tensor for tensor in graph.initializer}
        given = zip(known, node.input, strict=False)
        self._found = {name: _traced(value, sources) for name, value in given if value and name != "X"}
        for name in ("W", "R"):
            if name not in self._found:
                raise ValueError(f"{name}: expected a constant, got none")
        self._types, self._opsets, self._folder = ("float32", "float64"), opsets, folder

    def computed(self):
        """Names of the inputs that are there but not constant."""
        return tuple(name for name, found in self._found.items() if not isinstance(found, Constant))

    def constant(self, name):
        """An input as an array; None if there is no such input. All but sequence_lens are of the first one's type."""
        if name not in self._found:
            return None
        found = self._found[name]
        if not isinstance(found, Constant):
            raise ValueError(f"{name}: expected a constant, got {found}")
        tensors = {inner: self._array(name, tensor) for inner, tensor in found.tensors.items()}
        array = self._moved(name, found, tensors) if found.nodes else tensors[found.output]
        types = ("int32",) if name == "sequence_lens" else self._types
        if array.dtype.name not in types:
            raise TypeError(f"{name}: expected {' or '.join(types)}, got {array.dtype.name}")
        if name != "sequence_lens":
            self._types = (array.dtype.name,)
        return array

    def _array(self, name, tensor):
        if tensor.data_type not in TYPES:
            names = {number: found.lower() for found, number in TensorProto.DataType.items()}
            raise TypeError(f"{name}: expected {' or '.join(self._types)}, "
                            f"got {names.get(tensor.data_type, f'type {tensor.data_type}')}")
        if tensor.data_location == TensorProto.EXTERNAL and self._folder is None:
            raise ValueError(f"{name}: expected data inside a model that is not given as a path, "
                             "got a reference to another file")
        try:
            return numpy_helper.to_array(tensor, self._folder or "")
        except (ValueError, TypeError, OverflowError, OSError, RuntimeError, checker.ValidationError) as error:
            raise ValueError(f"{name}: expected data for shape {describe(tensor.dims)}, got what cannot be read: "
                             f"{error}") from error

    def _moved(self, name, found, tensors):
        """What the nodes make of the tensors, unless that could be far more than these are."""
        sizes = {inner: array.size for inner, array in tensors.items()}
        limit = 4 * sum(sizes.values())  # each is used once, or once for each direction; the rest is room
        nothing = helper.make_tensor_value_info
        try:
            for node in found.nodes:
                size = sum(sizes[inner] for inner in node.input if inner)
                if size > limit:
                    raise ValueError(f"more than {limit} numbers")
                sizes |= dict.fromkeys(node.output, size)
            graph = helper.make_graph(
                found.nodes, "constant", [nothing(inner, TensorProto.UNDEFINED, None) for inner in tensors],
                [nothing(found.output, TensorProto.UNDEFINED, None)])
            return ReferenceEvaluator(helper.make_model(graph, opset_imports=self._opsets)).run(None, tensors)[0]
        except Exception as error:  # the reference says nothing about what it raises
            raise ValueError(f"{name}: expected a constant, got nodes that cannot be computed: {error}") from error


def _traced(output, sources):
    """A name traced back to a Constant, or in words what it is instead."""
    tensors, nodes, pending = {}, {}, [output]
    while pending:
        name = pending.pop()
        if not name or name in tensors or name in nodes:
            continue
        source = sources.get(name)
        if source is not None and not isinstance(source, TensorProto) and source.op_type == "Constant":
            source = next((attribute.t for attribute in source.attribute if attribute.name == "value"), source)
        if isinstance(source, TensorProto):
            tensors[name] = source
        elif source is None:
            return "what the model is given"
        elif source.op_type not in MOVING or source.domain not in ("", "ai.onnx") or len(nodes) == MOST_NODES:
            return f"what {source.op_type} computes"
        else:
            nodes[name] = source
            pending += source.input
    return Constant(output, tensors, [node for name, node in sources.items() if name in nodes])
