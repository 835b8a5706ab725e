"""From a layer to an ONNX model: a node for every layer of the stack, and what joins them."""

import os

import numpy as np
import onnx
from onnx import helper, numpy_helper

import fastrnn
from fastrnn.files import written_whole
from fastrnn.onnx.gates import PEEPHOLES, TO_ONNX, ordered

__all__ = ["export"]

# Split takes its sizes as an input from 13 on; nothing here needs a later one. IR version 7 is that of opset 13.
OPSET, IR_VERSION = 13, 7


def export(layer: fastrnn.RNN | fastrnn.LSTM | fastrnn.GRU, path: str | os.PathLike[str]) -> None:
    """Write a layer as an ONNX model, for inference; the numbers of steps and rows stay free.

    Parameters
    ----------
    layer : RNN, LSTM or GRU
        Of any number of layers and directions. `dropout`, which inference does not apply, is left out.
    path : str or os.PathLike
        Where to write. The file appears there whole, or on an error not at all.

    Raises
    ------
    ValueError
        An LSTM with `proj_size`, for which ONNX has no operator; weights of 2 GiB, the most that an ONNX file holds.
    TypeError
        Something else than one of those layers.
    OSError
        A path that cannot be written to.

    Notes
    -----
    Inputs are `input`, `h_0` and, of an LSTM, `c_0`, outputs are `output`, `h_n` and `c_n`: what a call takes and
    gives, in the same shapes, with the axes "time" and "batch" free. The states have to be given: zeros for what is
    None in a call.

    Layer k is the node ``LSTM_l{k}`` (``RNN_l{k}``, ``GRU_l{k}``), and `import_layer` gives its weights back bit for
    bit; with `batch_first` the nodes are time first as ever, between two transpositions. The opset is 13. A float64
    layer makes a float64 model, which is valid, but which onnxruntime has no kernels for.

    Examples
    --------
    >>> import os, tempfile
    >>> import fastrnn, fastrnn.onnx
    >>> gru = fastrnn.GRU(4, 2, rng=0)
    >>> path = os.path.join(tempfile.mkdtemp(), "gru.onnx")
    >>> fastrnn.onnx.export(gru, path)
    >>> fastrnn.onnx.import_layer(path).layer
    GRU(4, 2)
    """
    if not isinstance(layer, (fastrnn.RNN, fastrnn.LSTM, fastrnn.GRU)):
        raise TypeError(f"layer: expected an RNN, LSTM or GRU, got {type(layer).__name__}")
    if layer.proj_size:
        raise ValueError(f"proj_size: expected 0, since ONNX's LSTM has no projection, got {layer.proj_size}")
    if layer.params.flat.nbytes >= onnx.checker.MAXIMUM_PROTOBUF:
        raise ValueError(f"layer: expected weights of less than {onnx.checker.MAXIMUM_PROTOBUF} bytes, the most that "
                         f"an ONNX file holds, got {layer.params.flat.nbytes}")
    model = _model(layer)
    onnx.checker.check_model(model, full_check=True)
    with written_whole(path) as file:
        file.write(model.SerializeToString())


def _model(layer):
    nodes, constants = _stack(layer)
    D = 2 if layer.bidirectional else 1
    sequence = ("batch", "time") if layer.batch_first else ("time", "batch")
    number = helper.np_dtype_to_tensor_dtype(layer.dtype)

    def described(name, end, features):
        """The sequence of this name, and every state."""
        shape = (D * layer.num_layers, "batch", layer.hidden_size)
        return [helper.make_tensor_value_info(name, number, (*sequence, features)),
                *(helper.make_tensor_value_info(f"{state}_{end}", number, shape) for state in _state_names(layer, end))]

    graph = helper.make_graph(nodes, _kind(layer), described("input", "0", layer.input_size),
                              described("output", "n", D * layer.hidden_size),
                              [numpy_helper.from_array(array, name) for name, array in constants.items()])
    return helper.make_model(graph, producer_name="fastrnn", producer_version=fastrnn.__version__,
                             ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])


def _stack(layer):
    """All nodes in order, and the constants by name."""
    D, layers = 2 if layer.bidirectional else 1, layer.num_layers
    initial, final = _state_names(layer, "0"), _state_names(layer, "n")
    nodes, x = [], "input"
    constants = {"output_shape": np.array([0, 0, D * layer.hidden_size])}  # 0: as it is
    if layers > 1:
        constants["state_sizes"] = np.full(layers, D)
        nodes += [helper.make_node("Split", [f"{state}_0", "state_sizes"], names) for state, names in initial.items()]
    if layer.batch_first:
        nodes.append(helper.make_node("Transpose", [x], ["time_first"], perm=[1, 0, 2]))
        x = "time_first"
    for k in range(layers):
        weights = _weights(layer, k)
        constants |= weights
        inputs = [x, *weights, *[""] * (4 - len(weights)), *(names[k] for names in initial.values())]
        if layer.peephole:
            inputs.append(f"P_l{k}")
            constants[f"P_l{k}"] = _stacked(layer, k, PEEPHOLES, "weight_peephole")
        outputs = [f"Y_l{k}", *(names[k] for names in final.values())]
        x = "output" if k == layers - 1 else f"output_l{k}"
        nodes += _layer_nodes(layer, k, inputs, outputs, x)
    if layers > 1:
        nodes += [helper.make_node("Concat", names, [f"{state}_n"], axis=0) for state, names in final.items()]
    return nodes, constants


def _kind(layer):
    """The operator, by the class that a subclass is one of."""
    return next(base.__name__ for base in (fastrnn.RNN, fastrnn.LSTM, fastrnn.GRU) if isinstance(layer, base))


def _state_names(layer, end):
    """For each state what its part of each layer is called; of a single layer that is the whole."""
    suffixes = [f"_l{k}" for k in range(layer.num_layers)] if layer.num_layers > 1 else [""]
    states = ("h", "c") if _kind(layer) == "LSTM" else ("h",)
    return {state: [f"{state}_{end}{suffix}" for suffix in suffixes] for state in states}


def _weights(layer, k):
    """W, R and, with biases, B of a layer, the directions one after another, by name."""
    order = TO_ONNX[_kind(layer)]
    weights = {f"W_l{k}": _stacked(layer, k, order, "weight_ih"), f"R_l{k}": _stacked(layer, k, order, "weight_hh")}
    return weights | ({f"B_l{k}": _stacked(layer, k, order, "bias_ih", "bias_hh")} if layer.bias else {})


def _stacked(layer, k, order, *names):
    """Parameters of a layer with their gates in this order, one below the other; the directions one after another."""
    sides = [f"_l{k}{suffix}" for suffix in (("", "_reverse") if layer.bidirectional else ("",))]
    return np.stack([np.concatenate([ordered(layer.params[name + side], order) for name in names]) for side in sides])


def _layer_nodes(layer, k, inputs, outputs, output):
    """The recurrent node, and those that lay the directions of its Y (time, directions, batch, H) side by side."""
    kind, D = _kind(layer), 2 if layer.bidirectional else 1
    attributes = {"hidden_size": layer.hidden_size, "direction": "bidirectional" if layer.bidirectional else "forward"}
    if kind == "RNN":
        attributes["activations"] = [layer.nonlinearity.capitalize()] * D
    if kind == "GRU":
        attributes["linear_before_reset"] = int(layer.reset_after)
    perm = [2, 0, 1, 3] if layer.batch_first and output == "output" else [0, 2, 1, 3]
    return [helper.make_node(kind, inputs, outputs, f"{kind}_l{k}", **attributes),
            helper.make_node("Transpose", outputs[:1], [f"side_by_side_l{k}"], perm=perm),
            helper.make_node("Reshape", [f"side_by_side_l{k}", "output_shape"], [output])]
