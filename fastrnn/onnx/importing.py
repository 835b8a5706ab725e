"""From a node of an ONNX model to a layer."""

import math
import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper

import fastrnn
from fastrnn.arguments import one_of, positive_integer
from fastrnn.onnx.gates import FROM_ONNX, PEEPHOLES, ordered
from fastrnn.onnx.inputs import Inputs
from fastrnn.onnx.model import find_node, load
from fastrnn.parameters import describe
from fastrnn.recurrence import ACTIVATIONS

__all__ = ["Imported", "import_layer"]

# What an attribute is if it is not given; hidden_size, which is not here, is then that of R.
COMMON = {"activation_alpha": [], "activation_beta": [], "activations": [], "clip": math.inf, "direction": b"forward",
          "layout": 0}
DEFAULTS = {"RNN": COMMON, "LSTM": COMMON | {"input_forget": 0}, "GRU": COMMON | {"linear_before_reset": 0}}
FUNCTIONS = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh")}


class Imported(NamedTuple):
    """A layer, and what else its node says.

    Attributes
    ----------
    layer : RNN, LSTM or GRU
    hx : ndarray, pair of ndarray or None
        The initial states, as the layer takes them, where the node has constants for them; zeros for the one of an
        LSTM's that it has none for. None if it has none at all.
    lengths : ndarray of int32, (N,), or None
        The rows' lengths where `sequence_lens` is constant.
    computed : tuple of str
        Which of "sequence_lens", "initial_h" and "initial_c" the model is given or computes when it runs, and are
        therefore not in `hx` and `lengths`: to be passed in each call, ``layer(x, hx, lengths=lengths)``.
    """

    layer: fastrnn.RNN | fastrnn.LSTM | fastrnn.GRU
    hx: Any
    lengths: NDArray[np.int32] | None
    computed: tuple[str, ...]


def import_layer(model: str | os.PathLike[str] | bytes | ModelProto, node: str | int | None = None) -> Imported:
    """Make a layer of an RNN, LSTM or GRU node of an ONNX model.

    Parameters
    ----------
    model : str, os.PathLike, bytes or onnx.ModelProto
        A model, as a file, as its content or as an object. Weights that lie in files of their own are read only
        for a path, and only from its folder.
    node : str or int, optional
        The node's name, or its index among the recurrent nodes, those in branches and loops included. None if there
        is only one.

    Returns
    -------
    Imported
        The layer, and the node's initial states and lengths.

    Raises
    ------
    ValueError
        A file that is no ONNX model; no such node, or several; an attribute or an input that cannot be represented,
        which the message names: direction "reverse", clip, input_forget, activations other than the layer's, weights
        that are computed; shapes that do not fit together.
    TypeError
        Weights that are neither float32 nor float64, or not of one type.
    OSError
        A path that cannot be read.

    Notes
    -----
    A node is one layer, with one direction or both; of a stack each node becomes a layer of its own, to be called
    one after the other. W, R, B and P are initializers or Constants, or put together from such by Slice, Concat,
    Unsqueeze and Identity, as torch exports them where it folds no constants.

    The layer takes and gives what torch's does: where Y is (L, D, N, hidden_size) `output` is
    (L, N, D * hidden_size). layout=1 becomes `batch_first`, of which states are not concerned: they are
    (D, N, hidden_size) in either case. linear_before_reset becomes `reset_after`. An LSTM with an input P gets
    `peephole`, also where P is all zeros.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np, fastrnn, fastrnn.onnx
    >>> path = os.path.join(tempfile.mkdtemp(), "stack.onnx")
    >>> fastrnn.onnx.export(fastrnn.LSTM(4, 2, num_layers=2, rng=0), path)
    >>> imported = fastrnn.onnx.import_layer(path, node="LSTM_l1")
    >>> imported.layer, imported.computed
    (LSTM(2, 2), ('initial_h', 'initial_c'))
    """
    model, folder = load(model)
    proto, scope = find_node(model.graph, node)
    inputs, attributes = Inputs(proto, scope, model.opset_import, folder), _attributes(proto)
    layer = _layer(proto.op_type, attributes, inputs)
    D, H = 2 if layer.bidirectional else 1, layer.hidden_size
    hx, lengths = _states_and_lengths(inputs, layer, D, H)
    return Imported(layer, hx, lengths, inputs.computed())


def _attributes(proto):
    """The attributes of a node with their defaults, checked one by one."""
    values = dict(DEFAULTS[proto.op_type])
    for attribute in proto.attribute:
        name = attribute.name
        if name not in values and name != "hidden_size":
            raise ValueError(f"{name}: expected no such attribute of {proto.op_type}, got one")
        try:
            value = helper.get_attribute_value(attribute)
        except ValueError as error:
            raise ValueError(f"{name}: expected a value, got none: {error}") from error
        wanted = type(values.get(name, 0))
        if type(value) is not wanted:
            raise TypeError(f"{name}: expected {wanted.__name__}, got {type(value).__name__}")
        values[name] = value
    for name, meaning in (("activation_alpha", []), ("activation_beta", []), ("clip", math.inf), ("input_forget", 0)):
        if values.get(name, meaning) != meaning:
            raise ValueError(f"{name}: expected none, since fastrnn has no such thing, got {values[name]}")
    one_of("layout", values["layout"], (0, 1))
    one_of("linear_before_reset", values.get("linear_before_reset", 0), (0, 1))
    values["direction"] = _text(values["direction"])
    if values["direction"] not in ("forward", "bidirectional"):
        remedy = ": change it to forward, and reverse the layer's input and output in time"
        raise ValueError(f"direction: expected forward or bidirectional, got {values['direction']}"
                         + (remedy if values["direction"] == "reverse" else ""))
    return values


def _text(value):
    """What stands in a string attribute, legible whatever it is."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _nonlinearity(kind, activations, D):
    """The activations checked: those that the layer has, the same in both directions. Of an RNN its nonlinearity."""
    given = [_text(name).lower() for name in activations]
    if kind == "RNN":
        first = given[0] if given else "tanh"
        if first not in ACTIVATIONS or given not in ([], [first] * D):
            raise ValueError("activations: expected one of Tanh, Relu, Sigmoid for each direction, the same for both, "
                             f"got {', '.join(map(_text, activations))}")
        return first
    if given and given != [*FUNCTIONS[kind]] * D:
        raise ValueError(f"activations: expected {', '.join(FUNCTIONS[kind]).title()} for each direction, "
                         f"got {', '.join(map(_text, activations))}")
    return None


def _layer(kind, attributes, inputs):
    """The layer with its weights."""
    D, order = 2 if attributes["direction"] == "bidirectional" else 1, FROM_ONNX[kind]
    W, R, B, P = map(inputs.constant, "WRBP")
    options = {"RNN": {"nonlinearity": _nonlinearity(kind, attributes["activations"], D)},
               "LSTM": {"peephole": P is not None},
               "GRU": {"reset_after": attributes.get("linear_before_reset") == 1}}[kind]
    G = len(order)
    if "hidden_size" in attributes:
        H = positive_integer("hidden_size", attributes["hidden_size"])
    else:
        H = _fitting("R", R, (D, f"{G} * hidden_size", "hidden_size")).shape[2]
    _fitting("W", W, (D, G * H, "input_size"))
    _fitting("R", R, (D, G * H, H))
    _fitting("B", B, (D, 2 * G * H))
    _fitting("P", P, (D, 3 * H))
    layer = getattr(fastrnn, kind)(W.shape[2], H, bias=B is not None, batch_first=attributes["layout"] == 1,
                                   bidirectional=D == 2, dtype=W.dtype, **options)
    params = {}
    for d, suffix in enumerate(("", "_reverse")[:D]):
        found = {"weight_ih": W[d], "weight_hh": R[d]}
        if B is not None:
            found |= dict(zip(("bias_ih", "bias_hh"), np.split(B[d], 2), strict=True))
        params |= {f"{name}_l0{suffix}": ordered(array, order) for name, array in found.items()}
        if P is not None:
            params[f"weight_peephole_l0{suffix}"] = ordered(P[d], PEEPHOLES)
    layer.load_state_dict(params)
    return layer


def _states_and_lengths(inputs, layer, D, H):
    """Initial states and lengths as far as they are constant, of as many rows as each other."""
    computed, N = inputs.computed(), "N"
    found = {name: None if name in computed else inputs.constant(name)
             for name in ("initial_h", "initial_c", "sequence_lens")}
    for name, array in found.items():
        shape = (N,) if name == "sequence_lens" else (N, D, H) if layer.batch_first else (D, N, H)
        if _fitting(name, array, shape) is not None:
            N = array.shape[shape.index(N)]
    lengths = found.pop("sequence_lens")
    if all(array is None for array in found.values()):
        return None, lengths
    states = [np.zeros((D, N, H), layer.dtype) if array is None else
              np.array(array.swapaxes(0, 1) if layer.batch_first else array, order="C") for array in found.values()]
    return tuple(states) if isinstance(layer, fastrnn.LSTM) else states[0], lengths


def _fitting(name, array, shape):
    """The array, or None, if it has this shape, in which a word stands for a size that may be any."""
    if array is None:
        return None
    wanted = tuple(found if isinstance(size, str) else size for found, size in zip(array.shape, shape, strict=False))
    if array.ndim != len(shape) or array.shape != wanted:
        raise ValueError(f"{name}: expected shape {describe(shape)}, got {describe(array.shape)}")
    return array
