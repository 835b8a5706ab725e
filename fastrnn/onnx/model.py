"""An ONNX model as it is read, and the recurrent nodes in it."""

import os

import onnx
from google.protobuf.message import DecodeError

from fastrnn.onnx.gates import TO_ONNX

__all__ = ["find_node", "load"]


def load(model):
    """The ModelProto of a path, of bytes or of itself, and the folder that its data may lie in, or None."""
    if isinstance(model, onnx.ModelProto):
        return model, None
    if isinstance(model, (str, os.PathLike)):
        with open(model, "rb") as file:
            content = file.read()
        shown, folder = repr(os.fspath(model)), os.path.dirname(os.path.abspath(model))
    elif isinstance(model, (bytes, bytearray)):
        content, shown, folder = bytes(model), f"{len(model)} bytes", None
    else:
        raise TypeError(f"model: expected a path, bytes or an onnx.ModelProto, got {type(model).__name__}")
    try:
        return onnx.load_model_from_string(content), folder
    except DecodeError as error:
        raise ValueError(f"model: expected an ONNX model, got {shown}: {error}") from error


def find_node(graph, node):
    """The node of this name or index, or the only one, and the graphs whose names it sees, the outermost first."""
    found = list(_recurrent(graph, ()))
    listed = ", ".join(f"{i}: {proto.op_type} {proto.name!r}" for i, (proto, _) in enumerate(found[:20]))
    listed += f" and {len(found) - 20} more" if len(found) > 20 else ""
    if not found:
        raise ValueError("model: expected a node that is an RNN, LSTM or GRU, got none")
    if isinstance(node, bool) or not isinstance(node, (int, str, type(None))):
        raise TypeError(f"node: expected a name, an index or None, got {type(node).__name__}")
    if node is None:
        chosen = found
    elif isinstance(node, str):
        chosen = [pair for pair in found if pair[0].name == node]
    else:
        chosen = found[node : node + 1] if node >= 0 else []
    if len(chosen) != 1:
        raise ValueError(f"node: expected the name or index of one of {listed}, got {node!r}"
                         + (f", which {len(chosen)} have" if node is not None and chosen else ""))
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
