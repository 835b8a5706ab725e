"""Made-up ONNX models of one recurrent node, for the tests to import."""

import numpy as np
from onnx import helper, numpy_helper

__all__ = ["BLOCKS", "FORMS", "H", "I", "N", "T", "drawn", "made"]

FORMS = {
    "RNN": ("RNN", {}), "relu": ("RNN", {"activations": ["Relu"]}), "sigmoid": ("RNN", {"activations": ["Sigmoid"]}),
    "LSTM": ("LSTM", {}), "LSTM, peephole": ("LSTM", {}), "GRU": ("GRU", {"linear_before_reset": 1}),
    "GRU, reset before": ("GRU", {}),
}
BLOCKS = {"RNN": 1, "LSTM": 4, "GRU": 3}
T, N, I, H = 7, 3, 4, 5


def drawn(*shape, seed=0, dtype=np.float32):
    return (np.random.default_rng(seed).standard_normal(shape) / 2).astype(dtype)


def made(form, D=1, bias=True, layout=0, dtype=np.float32, constants=None, lengths=None, states=True, **attributes):
    """A model of one node, whose initial states, if it has any, are inputs of the graph."""
    kind, own = FORMS[form]
    G = BLOCKS[kind]
    own = {name: value * D if isinstance(value, list) else value for name, value in own.items()}
    arrays = {"W": drawn(D, G * H, I, dtype=dtype), "R": drawn(D, G * H, H, seed=1, dtype=dtype)}
    arrays |= {"B": drawn(D, 2 * G * H, seed=2, dtype=dtype)} if bias else {}
    arrays |= {"P": drawn(D, 3 * H, seed=5, dtype=dtype)} if form == "LSTM, peephole" else {}
    arrays |= {"sequence_lens": np.array(lengths, np.int32)} if lengths is not None else {}
    arrays |= constants or {}
    names = ["initial_h", "initial_c"][: 2 if kind == "LSTM" else 1] if states else []
    given = {*arrays, *names}
    inputs = ["X", *(name if name in given else "" for name in ("W", "R", "B", "sequence_lens", *names))]
    inputs += [*[""] * (7 - len(inputs)), "P"] if "P" in given else []
    outputs = ["Y", "Y_h", "Y_c"][: 3 if kind == "LSTM" else 2]
    node = helper.make_node(kind, inputs, outputs, name="the node", **{
        "hidden_size": H, "direction": "bidirectional" if D == 2 else "forward", "layout": layout} | own | attributes)
    described = lambda name: helper.make_tensor_value_info(  # noqa: E731
        name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), None)
    graph = helper.make_graph(
        [node], "graph", [*map(described, ["X", *(name for name in names if name not in arrays)])],
        [*map(described, outputs)], [numpy_helper.from_array(array, name) for name, array in arrays.items()])
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 14)])
