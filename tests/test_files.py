"""Files give back the same bits, torch reads them, and a save that fails leaves the older file."""

import sys

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from helpers import python

import fastrnn
from fastrnn import files

SUFFIXES = [".npz", ".safetensors"]
MODULES = {
    "RNN": lambda **o: fastrnn.RNN(3, 5, 2, "relu", dropout=0.25, batch_first=True, **o),
    "RNN, sigmoid": lambda **o: fastrnn.RNN(3, 5, nonlinearity="sigmoid", bias=False, **o),
    "LSTM": lambda **o: fastrnn.LSTM(3, 5, 2, bidirectional=True, **o),
    "LSTM, projected": lambda **o: fastrnn.LSTM(3, 5, proj_size=2, bias=False, **o),
    "LSTM, peephole": lambda **o: fastrnn.LSTM(3, 5, 2, bidirectional=True, proj_size=2, peephole=True, **o),
    "GRU": lambda **o: fastrnn.GRU(3, 5, 3, bidirectional=True, dropout=1, **o),
    "GRU, reset before": lambda **o: fastrnn.GRU(3, 5, reset_after=False, **o),
    "RNNCell": lambda **o: fastrnn.RNNCell(3, 5, nonlinearity="relu", **o),
    "LSTMCell": lambda **o: fastrnn.LSTMCell(3, 5, bias=False, **o),
    "LSTMCell, peephole": lambda **o: fastrnn.LSTMCell(3, 5, peephole=True, **o),
    "GRUCell": lambda **o: fastrnn.GRUCell(3, 5, reset_after=False, **o),
    "Linear": lambda **o: fastrnn.Linear(3, 5, **o),
    "Linear, no bias": lambda **o: fastrnn.Linear(3, 5, bias=False, **o),
}


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    return tmp_path / f"model{request.param}"


def same(mine, its):
    """Two modules of the same class, arguments, weights and results, bit for bit."""
    x = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(mine.dtype)
    x = x[0] if isinstance(mine, (fastrnn.RNNCell, fastrnn.LSTMCell, fastrnn.GRUCell)) else x
    results = [module(x) if isinstance(module, fastrnn.Linear) else module(x)[0] for module in (mine, its)]
    return (repr(mine) == repr(its) and type(mine) is type(its) and mine.params.shapes == its.params.shapes
            and np.array_equal(mine.params.flat, its.params.flat) and np.array_equal(*results))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MODULES)
def test_round_trip(path, name, dtype):
    module = MODULES[name](dtype=dtype, rng=0)
    fastrnn.save(path, module)
    loaded = fastrnn.load(str(path))
    assert same(module, loaded) and loaded.dtype == dtype
    assert {a: getattr(module, a) for a in files._arguments(type(module))} == {
        a: getattr(loaded, a) for a in files._arguments(type(module))}
    if "float32" in dtype and "LSTM" in name:
        loaded.params["weight_ih" if "Cell" in name else "weight_ih_l0"] = np.zeros((20, 3))  # not a view of the file
        assert not same(module, loaded) and same(module, fastrnn.load(path))


def test_round_trip_of_a_model(path):
    model = {name: make(rng=i) for i, (name, make) in enumerate(MODULES.items())} | {
        "a.b": fastrnn.Linear(3, 2), "a": fastrnn.Linear(3, 4), "ends.": fastrnn.Linear(3, 1),
        "../ü": fastrnn.GRU(3, 2)}
    fastrnn.save(path, model)
    loaded = fastrnn.load(path)
    assert list(loaded) == list(model) and all(same(model[name], loaded[name]) for name in model)
    fastrnn.save(path, {})
    assert fastrnn.load(path) == {}
    fastrnn.save(path, {"one": model["a"]})
    assert list(fastrnn.load(path)) == ["one"]


def test_dropout_after_loading_has_a_generator_of_its_own(path):
    rnn, x = fastrnn.RNN(3, 50, 2, dropout=0.5, rng=0), np.ones((4, 2, 3), np.float32)
    fastrnn.save(path, rnn)
    loaded = [fastrnn.load(path), fastrnn.load(path)]
    assert not np.array_equal(loaded[0].forward(x)[0], loaded[1].forward(x)[0])
    for module in loaded:
        module.rng = np.random.default_rng(1)
    assert np.array_equal(loaded[0].forward(x)[0], loaded[1].forward(x)[0])


def test_torch_loads_a_model_and_its_weights_are_loaded(tmp_path):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.head = torch.nn.LSTM(3, 5, 2, bidirectional=True), torch.nn.Linear(10, 2)

    model = {"encoder": fastrnn.LSTM(3, 5, 2, bidirectional=True, rng=0), "head": fastrnn.Linear(10, 2, rng=1)}
    fastrnn.save(tmp_path / "mine.safetensors", model)
    twin = Model()
    twin.load_state_dict(safetensors.torch.load_file(tmp_path / "mine.safetensors"))
    for name, module in model.items():
        assert all(np.array_equal(value, getattr(twin, name).state_dict()[key]) for key, value in module.params.items())

    its = Model()
    path = tmp_path / "its.safetensors"
    safetensors.torch.save_file(its.state_dict(), path)
    with pytest.raises(ValueError, match=r"its.safetensors: expected what fastrnn.save wrote, got a file without "
                                         r"'fastrnn'; .*load_state_dict takes them"):
        fastrnn.load(path)
    model["encoder"].load_state_dict(safetensors.numpy.load_file(path), prefix="encoder.")
    assert np.array_equal(model["encoder"].params["weight_hh_l1_reverse"], its.encoder.weight_hh_l1_reverse.detach())
    np.savez(tmp_path / "plain.npz", **model["head"].params)
    with pytest.raises(ValueError, match=r"plain.npz: expected what fastrnn.save wrote, got a file without 'fastrnn'"):
        fastrnn.load(tmp_path / "plain.npz")


# Saving

@pytest.mark.parametrize(("error", "message", "value"), [
    (TypeError, "layer_or_dict: expected one of RNN, LSTM, .*, Linear, got list", []),
    (TypeError, r"layer_or_dict\['a'\]: expected one of RNN, .*, got int", {"a": 1}),
    (TypeError, "layer_or_dict: expected one of RNN, .*, got RNN", torch.nn.RNN(2, 2)),
    (TypeError, r"layer_or_dict\[1\]: expected a str as the name, got int", {1: fastrnn.Linear(1, 1)}),
    (ValueError, r"layer_or_dict\[''\]: expected a name of printable characters, got ''", {"": fastrnn.Linear(1, 1)}),
    (ValueError, "expected a name of printable characters", {"a\0b": fastrnn.Linear(1, 1)}),
    (ValueError, "expected a name of printable characters", {"\ud800": fastrnn.Linear(1, 1)}),
])
def test_what_cannot_be_saved(path, error, message, value):
    path.write_bytes(b"before")
    with pytest.raises(error, match=message):
        fastrnn.save(path, value)
    assert path.read_bytes() == b"before" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(path, value):
    cell = fastrnn.RNNCell(2, 2)
    cell.params["bias_hh"] = [0, value]
    with pytest.raises(ValueError, match=r"net.bias_hh: expected finite values, got NaN or infinity"):
        fastrnn.save(path, {"net": cell})
    assert not path.exists()


def test_a_save_that_fails_halfway_leaves_the_old_file(path, monkeypatch):
    old = fastrnn.RNNCell(2, 2)
    fastrnn.save(path, old)

    def fail(file, *_):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setitem(files.FORMATS, path.suffix, (fail, files.FORMATS[path.suffix][1]))
    with pytest.raises(OSError, match="no space left"):
        fastrnn.save(path, fastrnn.RNNCell(2, 2))
    assert list(path.parent.iterdir()) == [path]
    assert np.array_equal(fastrnn.load(path).params.flat, old.params.flat)


def test_paths(tmp_path):
    for name in ("model.pt", "model", "model.NPZ"):
        for call in (fastrnn.load, lambda path: fastrnn.save(path, fastrnn.Linear(1, 1))):
            with pytest.raises(ValueError, match=r"path: expected one that ends in .safetensors or .npz, got '.*model"):
                call(tmp_path / name)
    for suffix in SUFFIXES:
        with pytest.raises(FileNotFoundError, match="nowhere"):
            fastrnn.load(tmp_path / f"nowhere{suffix}")
        with pytest.raises(FileNotFoundError, match="nowhere"):
            fastrnn.save(tmp_path / "nowhere" / f"model{suffix}", fastrnn.Linear(1, 1))
        folder = tmp_path / f"folder{suffix}"
        folder.mkdir()
        with pytest.raises(IsADirectoryError, match="folder"):
            fastrnn.load(folder)


def test_without_safetensors(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    fastrnn.save(path, fastrnn.Linear(1, 1))
    before = path.read_bytes()
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    message = r"safetensors: expected the package, .* pip install 'fastrnn\[files\]', or write .npz"
    with pytest.raises(ImportError, match=message):
        fastrnn.load(path)
    with pytest.raises(ImportError, match=message):
        fastrnn.save(path, fastrnn.Linear(1, 1))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    fastrnn.save(tmp_path / "model.npz", fastrnn.Linear(1, 1))
    assert isinstance(fastrnn.load(tmp_path / "model.npz"), fastrnn.Linear)


def test_importing_takes_none_of_the_peers():
    program = ("import sys, fastrnn\n"
               "print(*sorted({'torch', 'onnx', 'safetensors', 'jax', 'keras', 'zipfile', 'json'} & set(sys.modules)))")
    run = python(program)
    assert run.returncode == 0 and run.stdout.split() == []
