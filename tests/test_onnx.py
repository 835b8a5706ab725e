"""ONNX models against onnxruntime, ONNX's own reference and torch: what is imported, what is exported, and both."""

import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers import python
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx_models import BLOCKS, FORMS, H, I, N, T, drawn, made

import fastrnn
import fastrnn.onnx

# Largest error of any element, all of them about 1 or less: four times the worst measured, 4.8e-7 and 9.6e-16.
BOUNDS = {np.float32: 2e-6, np.float64: 4e-15}
# float64 is left to ONNX's reference, since onnxruntime has no kernels for it, and that one's RNN knows tanh alone.
TYPED = [(form, dtype) for form in FORMS for dtype in (np.float32, np.float64)
         if dtype == np.float32 or form not in ("relu", "sigmoid")]


def run(model, feeds):
    """What onnxruntime makes of a model, or ONNX's reference of one of float64."""
    if any(array.dtype == np.float64 for array in feeds.values()):
        return ReferenceEvaluator(model).run(None, feeds)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)


def results(layer, x, hx, **options):
    """output and final states of a layer, one after another."""
    output, finals = layer(x, hx, **options)
    return [output, *(finals if isinstance(finals, tuple) else (finals,))]


def assert_near(got, expected, dtype=np.float32):
    assert len(got) == len(expected)
    for mine, its in zip(got, expected, strict=True):
        assert mine.shape == its.shape and mine.dtype == its.dtype == dtype
        assert np.abs(mine - its).max() <= BOUNDS[dtype]


@pytest.mark.parametrize(("typed", "D", "bias", "layout", "states"), [*itertools.product(
    TYPED, (1, 2), (True, False), (0, 1), (True, False))])
def test_import_runs_to_the_same_numbers(typed, D, bias, layout, states):
    form, dtype = typed
    layer, hx, lengths, computed = fastrnn.onnx.import_layer(made(form, D, bias, layout, dtype, states=states))
    lstm = isinstance(layer, fastrnn.LSTM)
    assert hx is None and lengths is None
    assert computed == (("initial_h", "initial_c")[: 1 + lstm] if states else ())
    assert (layer.bias, layer.batch_first, layer.bidirectional) == (bias, bool(layout), D == 2) and layer.dtype == dtype
    x, initial = drawn(T, N, I, seed=3, dtype=dtype), drawn(2, D, N, H, seed=4, dtype=dtype)[: 1 + lstm]
    # Neither has layout=1 right, or at all: what it means is said here, in terms of layout=0.
    feeds = {"X": x} | (dict(zip(computed, initial, strict=True)) if states else {})
    Y, *finals = run(made(form, D, bias, 0, dtype, states=states), feeds)
    output = Y.swapaxes(1, 2).reshape(T, N, D * H)
    hx = (tuple(initial) if lstm else initial[0]) if states else None
    got = results(layer, x.swapaxes(0, 1) if layout else x, hx)
    assert_near([got[0].swapaxes(0, 1) if layout else got[0], *got[1:]], [output, *finals], dtype)


@pytest.mark.parametrize(("form", "D", "layout"), [*itertools.product(FORMS, (1, 2), (0, 1))])
def test_constant_states_and_lengths_are_handed_over(form, D, layout):
    lstm = FORMS[form][0] == "LSTM"
    initial = drawn(2, D, N, H, seed=4)
    of_layout = lambda layout: {  # noqa: E731
        name: np.ascontiguousarray(array.swapaxes(0, 1) if layout else array)
        for name, array in zip(("initial_h", "initial_c")[: 1 + lstm], initial, strict=False)}
    lengths = [4, 7, 1]
    imported = fastrnn.onnx.import_layer(made(form, D, layout=layout, constants=of_layout(layout), lengths=lengths))
    assert imported.lengths.tolist() == lengths and imported.computed == ()
    for mine, its in zip(imported.hx if lstm else [imported.hx], initial, strict=False):
        assert np.array_equal(mine, its) and mine.flags.writeable
    x = drawn(T, N, I, seed=3)
    Y, *finals = run(made(form, D, constants=of_layout(0), lengths=lengths), {"X": x})
    got = results(imported.layer, x.swapaxes(0, 1) if layout else x, imported.hx, lengths=imported.lengths)
    assert_near([got[0].swapaxes(0, 1) if layout else got[0], *got[1:]],
                [Y.swapaxes(1, 2).reshape(T, N, D * H), *finals])


def test_a_state_that_the_node_lacks_is_zero():
    model = made("LSTM", constants={"initial_c": drawn(1, N, H)}, states=False)
    model.graph.node[0].input.extend(["", "initial_c"])
    h, c = fastrnn.onnx.import_layer(model).hx
    assert h.shape == (1, N, H) and not h.any() and np.array_equal(c, drawn(1, N, H))


def test_weights_by_way_of_constants_and_identities_and_in_branches():
    plain, model = (made("GRU", states=False) for _ in range(2))
    graph = model.graph
    W, R = graph.initializer[:2]
    graph.node.insert(0, helper.make_node("Constant", [], ["const"], value=W))
    graph.node.insert(1, helper.make_node("Identity", ["const"], ["W"]))
    graph.initializer.remove(W)
    model = fastrnn.onnx.import_layer(model)
    expected = fastrnn.onnx.import_layer(plain)
    assert np.array_equal(model.layer.params.flat, expected.layer.params.flat)
    # W and B inside the branch, R outside of it
    inner = helper.make_graph(plain.graph.node, "then", [], plain.graph.output,
                              [tensor for tensor in plain.graph.initializer if tensor.name != "R"])
    branch = helper.make_node("If", ["condition"], ["Y", "Y_h"], then_branch=inner, else_branch=helper.make_graph(
        [], "else", [], []))
    outer = helper.make_model(helper.make_graph([branch], "outer", [], [], [R]))
    assert np.array_equal(fastrnn.onnx.import_layer(outer).layer.params.flat, expected.layer.params.flat)


def test_zero_peepholes_are_peepholes():
    layer = fastrnn.onnx.import_layer(made("LSTM", D=2, constants={"P": np.zeros((2, 3 * H), np.float32)})).layer
    plain, x = fastrnn.onnx.import_layer(made("LSTM", D=2)).layer, drawn(T, N, I)
    assert layer.peephole and not plain.peephole
    assert all(np.array_equal(value, plain.params.get(name, np.zeros(3 * H))) for name, value in layer.params.items())
    assert all(map(np.array_equal, results(layer, x, None), results(plain, x, None)))


def test_default_activations_and_missing_hidden_size():
    plain = made("LSTM", D=2)
    model = made("LSTM", D=2, clip=float("inf"), input_forget=0, activations=["Sigmoid", "Tanh", "tanh"] * 2)
    model.graph.node[0].attribute.remove(next(a for a in model.graph.node[0].attribute if a.name == "hidden_size"))
    mine, its = fastrnn.onnx.import_layer(model).layer, fastrnn.onnx.import_layer(plain).layer
    assert mine.hidden_size == H and np.array_equal(mine.params.flat, its.params.flat)


LAYERS = {"RNN": (fastrnn.RNN, {}), "relu": (fastrnn.RNN, {"nonlinearity": "relu"}),
          "sigmoid": (fastrnn.RNN, {"nonlinearity": "sigmoid"}), "LSTM": (fastrnn.LSTM, {}),
          "LSTM, peephole": (fastrnn.LSTM, {"peephole": True}), "GRU": (fastrnn.GRU, {}),
          "GRU, reset before": (fastrnn.GRU, {"reset_after": False})}


@pytest.mark.parametrize(("typed", "layers", "both", "bias", "batch_first"), [*itertools.product(
    TYPED, (1, 3), (True, False), (True, False), (True, False))])
def test_export_runs_to_the_same_numbers_and_comes_back(tmp_path, typed, layers, both, bias, batch_first):
    form, dtype = typed
    kind, options = LAYERS[form]
    layer = kind(I, H, layers, bias=bias, batch_first=batch_first, bidirectional=both, dtype=dtype, rng=0, **options)
    path, D = tmp_path / "layer.onnx", 2 if both else 1
    fastrnn.onnx.export(layer, path)
    assert [file.name for file in tmp_path.iterdir()] == ["layer.onnx"]
    lstm = kind is fastrnn.LSTM
    model, states = onnx.load(path), ["h_0", "c_0"][: 1 + lstm]
    for steps, rows in ((1, 1), (9, 1), (5, 4)):
        x = drawn(*((rows, steps) if batch_first else (steps, rows)), I, dtype=dtype)
        initial = drawn(2, D * layers, rows, H, seed=1, dtype=dtype)[: len(states)]
        got = run(model, {"input": x} | dict(zip(states, initial, strict=True)))
        assert_near(results(layer, x, tuple(initial) if lstm else initial[0]), got, dtype)
    for k in range(layers):
        again = fastrnn.onnx.import_layer(path, node=k).layer
        for name, value in again.params.items():
            assert value.tobytes() == layer.params[name.replace("_l0", f"_l{k}")].tobytes(), name
        if layers == 1:
            assert repr(again) == (repr(layer) if not batch_first else repr(layer).replace(", batch_first=True", ""))


def test_round_trip_keeps_every_bit_of_odd_values(tmp_path):
    layer = fastrnn.LSTM(I, H)
    odd = np.array([0x7FC12345, 0x7F812345, 0x80000000, 1, 0xFF800000], np.uint32).view(np.float32)
    layer.params["bias_hh_l0"] = np.resize(odd, 4 * H)
    fastrnn.onnx.export(layer, tmp_path / "odd.onnx")
    assert fastrnn.onnx.import_layer(tmp_path / "odd.onnx").layer.params.flat.tobytes() == layer.params.flat.tobytes()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("folding", [True, False])
@pytest.mark.parametrize("kind", BLOCKS)
def test_what_torch_exports(tmp_path, kind, folding):
    torch.manual_seed(0)
    peer, path = getattr(torch.nn, kind)(I, H, num_layers=2, bidirectional=True), tmp_path / "torch.onnx"
    x = drawn(T, N, I)
    torch.onnx.export(peer, (torch.tensor(x),), path, dynamo=False, do_constant_folding=folding)
    output, expected = x, peer(torch.tensor(x))
    for k in range(2):
        layer, hx, lengths, computed = fastrnn.onnx.import_layer(path, node=k)
        assert hx is None and lengths is None  # zeros, which the model makes when it runs
        assert computed == ("initial_h", "initial_c")[: 1 + (kind == "LSTM")]
        for name, value in layer.params.items():
            assert np.array_equal(value, peer.state_dict()[name.replace("_l0", f"_l{k}")].numpy()), name
        output, state = layer(output)
        final = [value[2 * k : 2 * k + 2].detach().numpy()
                 for value in (expected[1] if kind == "LSTM" else [expected[1]])]
        assert_near(state if kind == "LSTM" else [state], final)
    assert_near([output], [expected[0].detach().numpy()])


def test_only_a_request_imports_onnx():
    program = ("import sys, fastrnn; assert not {'onnx', 'fastrnn.onnx'} & set(sys.modules)\n"
               "sys.modules['onnx'] = None\n"
               "import fastrnn.onnx")
    failed = python(program)
    assert r"ImportError: onnx: expected the package of that name, as pip install 'fastrnn[onnx]' brings it" in \
        failed.stderr
