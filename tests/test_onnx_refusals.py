"""What fastrnn.onnx cannot take is an error that names it; no file crashes it, runs anything or is half written."""

import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import H, I, drawn, made

import fastrnn
import fastrnn.onnx

float64, float16 = np.zeros((1, 4 * H, H)), np.zeros((1, 4 * H, H), np.float16)
zeros = lambda *shape: np.zeros(shape, np.float32)  # noqa: E731


@pytest.mark.parametrize(("error", "message", "arguments"), [
    (ValueError, "^direction: expected forward or bidirectional, got reverse: change it to forward, and reverse the "
     "layer's input and output in time$", {"direction": "reverse"}),
    (ValueError, r"^direction: expected forward or bidirectional, got \\xff$", {"direction": b"\xff"}),
    (ValueError, r"^clip: expected none, since fastrnn has no such thing, got 1\.5$", {"clip": 1.5}),
    (ValueError, "^clip: expected none, since .*, got nan$", {"clip": float("nan")}),
    (ValueError, "^input_forget: expected none, since .*, got 1$", {"input_forget": 1}),
    (ValueError, r"^activation_alpha: expected none, since .*, got \[0\.5\]$", {"activation_alpha": [0.5]}),
    (ValueError, r"^activation_beta: expected none, since .*, got \[0\.5\]$", {"activation_beta": [0.5]}),
    (ValueError, "^activations: expected Sigmoid, Tanh, Tanh for each direction, got Sigmoid, Tanh, Elu$",
     {"activations": ["Sigmoid", "Tanh", "Elu"]}),
    (ValueError, "^activations: expected Sigmoid, Tanh for each direction, got Sigmoid, Tanh$",
     {"form": "GRU", "D": 2, "activations": ["Sigmoid", "Tanh"]}),
    (ValueError, "^activations: expected one of Tanh, Relu, Sigmoid for each direction, the same for both, "
     "got Tanh, Relu$", {"form": "RNN", "D": 2, "activations": ["Tanh", "Relu"]}),
    (ValueError, "^activations: expected one of .*, got Softsign$", {"form": "RNN", "activations": ["Softsign"]}),
    (ValueError, "^activations: expected Sigmoid, Tanh, Tanh for each direction, got 1, 2, 3$",
     {"activations": [1, 2, 3]}),
    (ValueError, "^layout: expected one of 0, 1, got 2$", {"layout": 2}),
    (ValueError, "^linear_before_reset: expected one of 0, 1, got 2$", {"form": "GRU", "linear_before_reset": 2}),
    (ValueError, "^linear_before_reset: expected no such attribute of LSTM, got one$", {"linear_before_reset": 1}),
    (ValueError, "^output_sequence: expected no such attribute of RNN", {"form": "RNN", "output_sequence": 1}),
    (TypeError, "^hidden_size: expected int, got bytes$", {"hidden_size": "5"}),
    (TypeError, "^direction: expected bytes, got int$", {"direction": 1}),
    (ValueError, "^hidden_size: expected at least 1, got -1$", {"hidden_size": -1}),
    (ValueError, r"^W: expected shape \(1, 24, input_size\), got \(1, 20, 4\)$", {"hidden_size": 6}),
    (ValueError, r"^W: expected shape \(2, 20, input_size\), got \(1, 20, 4\)$", {"direction": "bidirectional"}),
    (ValueError, "^input_size: expected at least 1, got 0$", {"constants": {"W": zeros(1, 4 * H, 0)}}),
    (ValueError, r"^R: expected shape \(1, 20, 5\), got \(1, 20, 6\)$", {"constants": {"R": zeros(1, 4 * H, H + 1)}}),
    (ValueError, r"^R: expected shape \(1, 20, 5\), got \(\)$", {"constants": {"R": zeros()}}),
    (ValueError, r"^B: expected shape \(1, 40\), got \(1, 20\)$", {"constants": {"B": zeros(1, 4 * H)}}),
    (ValueError, r"^P: expected shape \(1, 15\), got \(1, 10\)$", {"constants": {"P": zeros(1, 2 * H)}}),
    (ValueError, r"^P: expected shape \(2, 15\), got \(1, 15\)$",
     {"D": 2, "constants": {"P": zeros(1, 3 * H)}}),
    (TypeError, "^P: expected float32, got float64$", {"constants": {"P": np.zeros((1, 3 * H))}}),
    (ValueError, r"^initial_h: expected shape \(1, N, 5\), got \(3, 1, 5\)$",
     {"constants": {"initial_h": zeros(3, 1, H)}}),
    (ValueError, r"^initial_h: expected shape \(N, 1, 5\), got \(2, 3, 5\)$",
     {"constants": {"initial_h": zeros(2, 3, H)}, "layout": 1}),
    (ValueError, r"^initial_c: expected shape \(1, 3, 5\), got \(1, 2, 5\)$",
     {"constants": {"initial_h": zeros(1, 3, H), "initial_c": zeros(1, 2, H)}}),
    (ValueError, r"^sequence_lens: expected shape \(3,\), got \(2,\)$",
     {"constants": {"initial_h": zeros(1, 3, H)}, "lengths": [1, 2]}),
    (TypeError, "^sequence_lens: expected int32, got int64$", {"constants": {"sequence_lens": np.array([1, 2])}}),
    (TypeError, "^W: expected float32 or float64, got float16$", {"constants": {"W": float16}}),
    (TypeError, "^W: expected float32 or float64, got int32$", {"constants": {"W": np.zeros((1, 20, 4), np.int32)}}),
    (TypeError, "^R: expected float32, got float64$", {"constants": {"R": float64}}),
])
def test_what_a_layer_cannot_be(error, message, arguments):
    arguments = {"form": "LSTM"} | arguments
    with pytest.raises(error, match=message):
        fastrnn.onnx.import_layer(made(**arguments))


def changed(change, form="LSTM"):
    model = made(form)
    change(model.graph, model.graph.node[0])
    return model


def nodes_for_W(*nodes):
    """A change: W is what the last node makes, of the initializer "weights" that it was."""
    def change(graph, node):
        graph.initializer[0].name = "weights"
        for inner in reversed(nodes):
            graph.node.insert(0, inner)
    return change


doubled = [helper.make_node("Concat", [name] * 2, [name + "2"], axis=0)
           for name in ("weights", "weights2", "weights22")]


@pytest.mark.parametrize(("message", "change"), [
    ("^W: expected a constant, got none$", lambda graph, node: node.input.__setitem__(1, "")),
    ("^P: expected a constant, got what the model is given$", lambda graph, node: node.input.append("X")),
    ("^R: expected a constant, got none$", lambda graph, node: node.input.__delitem__(slice(2, None))),
    ("^W: expected a constant, got what the model is given$", lambda graph, node: node.input.__setitem__(1, "X")),
    ("^W: expected a constant, got what DequantizeLinear computes$",
     nodes_for_W(helper.make_node("DequantizeLinear", ["weights", "scale"], ["W"]))),
    ("^W: expected a constant, got what Slice computes$",  # of another domain
     nodes_for_W(helper.make_node("Slice", ["weights"], ["W"], domain="mine"))),
    ("^W: expected a constant, got what Constant computes$",
     nodes_for_W(helper.make_node("Constant", [], ["W"], value_floats=[1.0]))),
    ("^W: expected a constant, got what Identity computes$", nodes_for_W(*(
        helper.make_node("Identity", [f"W{i + 1}" if i < 99 else "weights"], [f"W{i}" if i else "W"])
        for i in range(100)))),
    ("^W: expected a constant, got nodes that cannot be computed: 'W'", nodes_for_W(  # of itself
        helper.make_node("Identity", ["W"], ["W"]))),
    ("^W: expected a constant, got nodes that cannot be computed: more than 320 numbers",
     nodes_for_W(*doubled, helper.make_node("Identity", ["weights222"], ["W"]))),
    ("^W: expected a constant, got nodes that cannot be computed: .*axis",
     nodes_for_W(helper.make_node("Concat", ["weights"] * 2, ["W"], axis=7))),
    ("^input: expected at most 8 of LSTM, got 9$", lambda graph, node: node.input.extend(["", ""])),
    (r"^W: expected data for shape \(1, 20, 5\), got what cannot be read: cannot reshape",
     lambda graph, node: graph.initializer[0].dims.__setitem__(2, 5)),
    (r"^W: expected data for shape \(4611686018427387904, 20, 4\), got what cannot be read: ",
     lambda graph, node: graph.initializer[0].dims.__setitem__(0, 2**62)),
    ("^direction: expected a value, got none: ", lambda graph, node: node.attribute.append(
        onnx.AttributeProto(name="direction", ref_attr_name="another"))),
    ("^model: expected a node that is an RNN, LSTM or GRU, got none$",
     lambda graph, node: setattr(node, "domain", "mine")),
    ("^node: expected the name or index of one of 0: LSTM 'the node', 1: LSTM 'the node', got None$",
     lambda graph, node: graph.node.append(node)),
])
def test_models_that_do_not_hold_together(message, change):
    with pytest.raises(ValueError, match=message):
        fastrnn.onnx.import_layer(changed(change))


@pytest.mark.parametrize(("error", "message", "node"), [
    (ValueError, "^node: expected the name or index of one of 0: LSTM 'the node', 1: LSTM 'the node', got 'the node', "
     "which 2 have$", "the node"),
    (ValueError, "^node: expected the name or index of one of 0: .*, got 'another'$", "another"),
    (ValueError, "^node: expected the name or index of one of 0: .*, got 2$", 2),
    (ValueError, "^node: expected the name or index of one of 0: .*, got -1$", -1),
    (TypeError, "^node: expected a name, an index or None, got bool$", True),
    (TypeError, "^node: expected a name, an index or None, got float$", 0.0),
])
def test_nodes_that_are_not_there(error, message, node):
    with pytest.raises(error, match=message):
        fastrnn.onnx.import_layer(changed(lambda graph, node: graph.node.append(node)), node)


def test_of_many_nodes_twenty_are_listed():
    with pytest.raises(ValueError, match=r"19: LSTM 'the node' and 10 more, got None$"):
        fastrnn.onnx.import_layer(changed(lambda graph, node: graph.node.extend([node] * 29)))


def test_unknown_types_of_tensors():
    for number, name in ((TensorProto.BFLOAT16, "bfloat16"), (TensorProto.STRING, "string"), (999, "type 999")):
        with pytest.raises(TypeError, match=f"^W: expected float32 or float64, got {name}$"):
            fastrnn.onnx.import_layer(changed(
                lambda graph, node, number=number: setattr(graph.initializer[0], "data_type", number)))


def test_not_a_model(tmp_path):
    with pytest.raises(TypeError, match=r"^model: expected a path, bytes or an onnx.ModelProto, got int$"):
        fastrnn.onnx.import_layer(3)
    with pytest.raises(ValueError, match=r"^model: expected an ONNX model, got 7 bytes: "):
        fastrnn.onnx.import_layer(b"not one")
    (tmp_path / "picture.onnx").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match=r"^model: expected an ONNX model, got '.*picture\.onnx': "):
        fastrnn.onnx.import_layer(tmp_path / "picture.onnx")
    with pytest.raises(FileNotFoundError):
        fastrnn.onnx.import_layer(str(tmp_path / "missing.onnx"))


def test_every_truncation_and_every_flipped_byte():
    """An error, or a layer: of other weights, or of what was cut off not being needed."""
    model = made("LSTM", constants={"P": zeros(1, 3 * H)})
    head, cut = helper.make_node("Concat", ["half", "half"], ["W"], axis=1), drawn(1, 2 * H, I)
    model.graph.node.insert(0, head)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(cut, "half"))
    content = model.SerializeToString()
    assert np.array_equal(fastrnn.onnx.import_layer(content).layer.params["weight_ih_l0"][:H], cut[0, :H])
    broken = [content[:length] for length in range(len(content))]
    for place in range(len(content)):
        for flip in (0x01, 0x04, 0x80, 0xFF):
            broken.append(content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :])
    taken = 0
    for some in broken:
        try:
            taken += isinstance(fastrnn.onnx.import_layer(some).layer, fastrnn.LSTM)
        except (ValueError, TypeError):
            pass
    assert 0 < taken < len(broken)


def external(tmp_path, location, **more):
    """The path of a model whose W lies elsewhere."""
    folder = tmp_path / "models"
    folder.mkdir(exist_ok=True)
    model = made("LSTM")
    W = model.graph.initializer[0]
    (tmp_path / "secret").write_bytes(W.raw_data)
    (folder / "weights").write_bytes(W.raw_data)
    W.ClearField("raw_data")
    W.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        W.external_data.add(key=key, value=str(value))
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def test_data_in_other_files(tmp_path):
    path = external(tmp_path, "weights")
    expected = fastrnn.onnx.import_layer(made("LSTM")).layer.params.flat
    assert np.array_equal(fastrnn.onnx.import_layer(path).layer.params.flat, expected)
    for not_a_path in (path.read_bytes(), onnx.load(path, load_external_data=False)):
        with pytest.raises(ValueError, match=r"^W: expected data inside a model that is not given as a path"):
            fastrnn.onnx.import_layer(not_a_path)
    os.symlink(tmp_path / "secret", tmp_path / "models" / "link")
    for location, more in (("../secret", {}), (tmp_path / "secret", {}), ("link", {}), ("missing", {}), ("", {}),
                           ("weights", {"length": 2**40}), ("weights", {"length": -1}), ("weights", {"offset": "x"})):
        with pytest.raises(ValueError, match=r"^W: expected data for shape \(1, 20, 4\), got what cannot be read: "):
            fastrnn.onnx.import_layer(external(tmp_path, location, **more))


def test_what_is_not_exported(tmp_path, monkeypatch):
    path, layer = tmp_path / "layer.onnx", fastrnn.LSTM(I, H)
    path.write_bytes(b"before")
    with pytest.raises(TypeError, match=r"^layer: expected an RNN, LSTM or GRU, got LSTMCell$"):
        fastrnn.onnx.export(fastrnn.LSTMCell(I, H), path)
    with pytest.raises(ValueError, match=r"^proj_size: expected 0, since ONNX's LSTM has no projection, got 2$"):
        fastrnn.onnx.export(fastrnn.LSTM(I, H, proj_size=2), path)
    with monkeypatch.context() as patch:
        patch.setattr(onnx.checker, "MAXIMUM_PROTOBUF", 880)
        with pytest.raises(ValueError, match=r"^layer: expected weights of less than 880 bytes, the most that an ONNX "
                                             "file holds, got 880$"):
            fastrnn.onnx.export(layer, path)
    with pytest.raises(FileNotFoundError):
        fastrnn.onnx.export(layer, tmp_path / "missing" / "layer.onnx")
    monkeypatch.setattr(os, "replace", lambda *paths: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fastrnn.onnx.export(layer, path)
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


def test_dropout_is_left_out(tmp_path):
    layer = fastrnn.GRU(I, H, 2, dropout=0.5, rng=0)
    fastrnn.onnx.export(layer, tmp_path / "with.onnx")
    layer.dropout = 0.0
    fastrnn.onnx.export(layer, tmp_path / "without.onnx")
    assert (tmp_path / "with.onnx").read_bytes() == (tmp_path / "without.onnx").read_bytes()
