"""Whatever a file may hold that `save` did not write: an error that names it, and nothing worse."""

import io
import json
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch

import fastrnn


@pytest.fixture(params=[".npz", ".safetensors"])
def path(request, tmp_path):
    return tmp_path / f"model{request.param}"


# An RNNCell(2, 2) and an LSTM(2, 3) of before there were peepholes, which the tests below change a part of.
DESCRIBED = {"class": "RNNCell", "input_size": 2, "hidden_size": 2, "bias": True, "nonlinearity": "tanh",
             "dtype": "float32"}
WEIGHTS = {"weight_ih": np.ones((2, 2), np.float32), "weight_hh": np.ones((2, 2), np.float32),
           "bias_ih": np.ones(2, np.float32), "bias_hh": np.ones(2, np.float32)}
LAYER = {"class": "LSTM", "input_size": 2, "hidden_size": 3, "num_layers": 1, "bias": False, "batch_first": False,
         "dropout": 0.0, "bidirectional": False, "proj_size": 0, "dtype": "float32"}
OF_LAYER = {"weight_ih_l0": np.ones((12, 2), np.float32), "weight_hh_l0": np.ones((12, 3), np.float32)}
DTYPES = {"float32": "F32", "float64": "F64", "float16": "F16", "int8": "I8", "bool": "BOOL", "complex64": "C64"}


def write(path, text, tensors):
    """A file of either format with this JSON, or none, and these arrays."""
    if path.suffix == ".npz":
        if text is not None:
            tensors = {"fastrnn": np.frombuffer(text.encode(), np.uint8)} | tensors
        np.savez(path, **tensors)
        return
    header, end = {} if text is None else {"__metadata__": {"fastrnn": text}}, 0
    for name, array in tensors.items():
        start, end = end, end + array.nbytes
        header[name] = {"dtype": DTYPES[str(array.dtype)], "shape": array.shape, "data_offsets": [start, end]}
    write_safetensors(path, json.dumps(header).encode(), b"".join(array.tobytes() for array in tensors.values()))


def write_safetensors(path, header, data):
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def craft(path, described, tensors):
    """A file with one module."""
    write(path, json.dumps({"version": 1, "modules": {"": described}}), tensors)


def refused(path, message):
    """Loading is a ValueError that names the file, and takes no more than a megabyte of memory."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message) as caught:
            fastrnn.load(path)
        assert tracemalloc.get_traced_memory()[1] < 2e6
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(str(path))


def test_what_is_crafted_here_is_right(path):
    craft(path, DESCRIBED, WEIGHTS)
    assert np.array_equal(fastrnn.load(path).params.flat, np.ones(12))
    craft(path, LAYER, OF_LAYER)
    assert repr(fastrnn.load(path)) == "LSTM(2, 3, bias=False)"


@pytest.mark.parametrize(("message", "text"), [
    ("Expecting value", ""),
    ("fastrnn: expected version 1, got 3", "3"),
    ("fastrnn: expected version 1, got {'version': 2", '{"version": 2, "modules": {}}'),
    ("fastrnn: expected modules by name, got {'version': 1}", '{"version": 1}'),
    ("fastrnn: expected modules by name, got {'version': 1, 'modules': \\[\\]}", '{"version": 1, "modules": []}'),
    ("fastrnn: expected modules by name, got .*'more'", '{"version": 1, "modules": {}, "more": 1}'),
    (r"expected arrays of \[\] only, got \['(weight|bias)_.h', .*\]",
     '{"version": 1, "modules": {}}'),
    (r"fastrnn\['a'\]: expected a class and its arguments, got \[\]", '{"version": 1, "modules": {"a": [], "": 1}}'),
    ("recursion", "[" * 100_000),
    ("Exceeds the limit", '{"version": 1, "modules": {"": {"class": "RNNCell", "hidden_size": 1' + "0" * 5000),
])
def test_other_json(path, message, text):
    write(path, text, WEIGHTS)
    refused(path, message)


def test_json_that_is_no_text(tmp_path):
    for value in (b"\xff\xfe\x00", b"\x80", b'{"version": "\xff"}'):
        np.savez(tmp_path / "model.npz", fastrnn=np.frombuffer(value, np.uint8))
        refused(tmp_path / "model.npz", "decode")


@pytest.mark.parametrize(("message", "change"), [
    (r"fastrnn\[''\]: class: expected one of 'RNN', .*'Linear', got None", {"class": None}),
    (r"fastrnn\[''\]: class: expected one of 'RNN', .*, got 'os.system'", {"class": "os.system"}),
    (r"fastrnn\[''\]: class: expected one of 'RNN', .*, got \['LSTM'\]", {"class": ["LSTM"]}),
    (r"fastrnn\[''\]: dtype: expected one of 'float32', 'float64', got 'O'", {"dtype": "O"}),
    (r"fastrnn\[''\]: dtype: expected one of 'float32', 'float64', got \{\}", {"dtype": {}}),
    (r"fastrnn\[''\]: expected the arguments input_size, .*, got .*'rng'", {"rng": 0}),
    (r"fastrnn\[''\]: expected the arguments input_size, .*, got .*'device'", {"device": "cpu"}),
    (r"fastrnn\[''\]: expected the arguments input_size, .*, got .*'__init__'", {"__init__": "x" * 1000}),
    ("hidden_size: expected an int, got str", {"hidden_size": "1e9"}),
    ("hidden_size: expected an int, got bool", {"hidden_size": True}),
    ("hidden_size: expected an int, got float", {"hidden_size": 3.0}),
    ("hidden_size: expected an int, got list", {"hidden_size": [3]}),
    ("hidden_size: expected an int, got NoneType", {"hidden_size": None}),
    ("hidden_size: expected at least 1, got -3", {"hidden_size": -3}),
    ("input_size: expected at least 1, got 0", {"input_size": 0}),
    ("num_layers: expected an int, got dict", {"num_layers": {}}),
    ("bias: expected True or False, got 0", {"bias": 0}),
    ("dropout: expected a probability from 0 to 1, got nan", {"dropout": float("nan")}),
    ("dropout: expected a probability from 0 to 1, got inf", {"dropout": float("inf")}),
    (r"proj_size: expected from 0 to 2 \(below hidden_size\), got 3", {"proj_size": 3}),
    (r"state_dict: weight_ih_l0: expected shape \(12, 4\), got \(12, 2\)", {"input_size": 4}),
    (r"state_dict: weight_ih_l0: expected shape \(400000, 2\), got \(12, 2\); weight_hh_l0: expected shape "
     r"\(400000, 100000\), got \(12, 3\)", {"hidden_size": 100_000}),  # 160 GB
    (r"weight_ih_l0: expected shape \(40{400}, 2\), got \(12, 2\)", {"hidden_size": 10**400}),
    (r"fastrnn\[''\]: expected at most 2 num_layers \(the arrays in the file\), got 1000000000", {"num_layers": 10**9}),
    ("missing: weight_ih_l1, weight_hh_l1; unexpected: none", {"num_layers": 2}),
    ("missing: weight_ih_l0_reverse, weight_hh_l0_reverse; unexpected: none", {"bidirectional": True}),
    ("missing: bias_ih_l0, bias_hh_l0; unexpected: none", {"bias": True}),
    ("missing: weight_peephole_l0; unexpected: none", {"peephole": True}),
    ("peephole: expected True or False, got 1", {"peephole": 1}),
    ("peephole: expected True or False, got None", {"peephole": None}),
    ("expected the arguments", {"class": "GRU"}),
    ("expected the arguments", {"class": "GRU", "peephole": False}),
    ("weight_.h_l0: expected dtype float64, got float32", {"dtype": "float64"}),
])
def test_other_arguments(path, message, change):
    craft(path, LAYER | change, OF_LAYER)
    refused(path, message)


def test_arguments_that_are_left_out(path):
    for name in LAYER:
        craft(path, {key: value for key, value in LAYER.items() if key != name}, OF_LAYER)
        refused(path, rf"{name}: expected one of .*, got None|expected the arguments .*{name}.*, got")


@pytest.mark.parametrize("name", ["../../some", "", ".", "..", "a\nb", "ü", "weight_ih_l0.", "/", "é\t", "x" * 5000])
def test_other_names(path, name):
    craft(path, LAYER, OF_LAYER | {name: np.ones(2, np.float32)})
    refused(path, "unexpected|expected arrays of")
    craft(path, LAYER, {"weight_ih_l0": OF_LAYER["weight_ih_l0"], name: OF_LAYER["weight_hh_l0"]})
    refused(path, "missing: weight_hh_l0|expected arrays of")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(path, value):
    craft(path, DESCRIBED, WEIGHTS | {"bias_hh": np.array([value, 0], np.float32)})
    refused(path, "bias_hh: expected finite values, got NaN or infinity")


@pytest.mark.parametrize("dtype", ["float16", "int8", "bool", "complex64", "float64"])
def test_other_dtypes(path, dtype):
    craft(path, DESCRIBED, WEIGHTS | {"bias_ih": np.ones(2, dtype)})
    refused(path, f"bias_ih: expected dtype float32, got {dtype}|SafetensorError: ")  # older ones: no C64


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 1), (1, 2), (2, 0), (1,) * 30])
def test_other_shapes(path, shape):
    craft(path, DESCRIBED, WEIGHTS | {"bias_ih": np.ones(shape, np.float32)})
    refused(path, rf"bias_ih: expected shape \(2,\), got \({', '.join(map(str, shape))}")


def test_byte_order_does_not_matter(tmp_path):
    craft(tmp_path / "model.npz", DESCRIBED, {name: 2 * array.astype(">f4") for name, array in WEIGHTS.items()})
    assert np.array_equal(fastrnn.load(tmp_path / "model.npz").params.flat, np.full(12, 2))


def test_fortran_order(tmp_path):
    array = np.arange(4, dtype=np.float32).reshape(2, 2)
    craft(tmp_path / "model.npz", DESCRIBED, WEIGHTS | {"weight_ih": np.asfortranarray(array)})
    assert np.array_equal(fastrnn.load(tmp_path / "model.npz").params["weight_ih"], array)


# Damage

def outcome(path, data):
    """Load these bytes: what comes of it, which may be nothing but a module, or a ValueError that names the file."""
    path.write_bytes(data)
    try:
        return fastrnn.load(path)
    except ValueError as error:
        assert str(error).startswith(str(path))


def test_truncated_anywhere(path):
    fastrnn.save(path, {"net": fastrnn.Linear(1, 1, rng=0)})
    whole = path.read_bytes()
    assert all(outcome(path, whole[:length]) is None for length in range(len(whole)))
    assert all(outcome(path, whole[start:]) is None for start in range(1, len(whole), 7)) or path.suffix == ".npz"


def test_every_byte_changed(path):
    fastrnn.save(path, {"net": fastrnn.Linear(1, 1, rng=0)})
    whole = path.read_bytes()
    expected = fastrnn.load(path)["net"].params.flat
    harmless = 0
    for i in range(len(whole)):
        for change in (1, 0x80, 0xFF):
            loaded = outcome(path, whole[:i] + bytes([whole[i] ^ change]) + whole[i + 1 :])
            if loaded is not None:
                harmless += 1
                if path.suffix == ".npz":  # has a checksum of each array
                    assert all(np.array_equal(module.params.flat, expected) for module in loaded.values())
    assert harmless < len(whole)  # of three times as many


@pytest.mark.parametrize("data", [
    b"", b"PK", b"\x93NUMPY", pickle.dumps([1]), b"\0" * 1000, b"PK\x05\x06" + b"\xff" * 18, bytes(range(256)) * 10])
def test_other_files(path, data):
    path.write_bytes(data)
    refused(path, f"expected a {path.suffix} file, got ")


def test_safetensors_headers(tmp_path):
    path = tmp_path / "model.safetensors"
    entry = lambda shape, *offsets: {"dtype": "F32", "shape": shape, "data_offsets": offsets}  # noqa: E731
    for length in (2**63, 2**64 - 1, 2**40, 100_000_001, 3):
        path.write_bytes(struct.pack("<Q", length) + b"{}")
        refused(path, "expected a .safetensors file, got SafetensorError")
    for tensors in ({"a": entry([2], 0, 2**40)}, {"a": entry([2**40], 0, 8)}, {"a": entry([2**63, 2**63], 0, 8)},
                    {"a": entry([2], 8, 0)}, {"a": entry([-2], 0, 8)}, {"a": entry([2], 4, 12)}, {"a": entry([], 0, 8)},
                    {"a": entry([2], 0, 8), "b": entry([2], 0, 8)}, {"a": entry([2], 0, 8) | {"dtype": "O"}},
                    {"a": 3}, {"__metadata__": {"fastrnn": {"version": 1}}}, {"__metadata__": []}, []):
        write_safetensors(path, json.dumps(tensors).encode(), bytes(8))
        refused(path, "expected a .safetensors file, got SafetensorError")
    write_safetensors(path, b'{"a":' * 10_000, b"")
    refused(path, "expected a .safetensors file, got SafetensorError")
    write_safetensors(path, b'{"\xff": 1}', b"")
    refused(path, "expected a .safetensors file, got SafetensorError")


def test_safetensors_of_other_dtypes(tmp_path):
    path = tmp_path / "model.safetensors"
    for dtype in ("bfloat16", "float8_e4m3fn", "int64"):
        tensors = {name: torch.ones(array.shape).to(getattr(torch, dtype)) for name, array in WEIGHTS.items()}
        text = json.dumps({"version": 1, "modules": {"": DESCRIBED}})
        safetensors.torch.save_file(tensors, path, {"fastrnn": text})
        refused(path, f": expected dtype float32, got {dtype}|expected a .safetensors file, got .*{dtype}")


RAN = []


def run():
    RAN.append(1)


class Payload:
    def __reduce__(self):
        return run, ()


def test_pickles_are_not_run(path):
    RAN.clear()
    payload = pickle.dumps(Payload())
    pickle.loads(payload)
    assert RAN == [1]  # it would run
    path.write_bytes(payload)
    refused(path, f"expected a {path.suffix} file")
    np.save(stream := io.BytesIO(), np.array([Payload(), Payload()], object))
    path.write_bytes(stream.getvalue())
    refused(path, f"expected a {path.suffix} file")
    path = path.with_suffix(".npz")
    text = json.dumps({"version": 1, "modules": {"": DESCRIBED}})
    for name in ("fastrnn", "bias_ih", "other"):
        arrays = {"fastrnn": np.frombuffer(text.encode(), np.uint8)} | WEIGHTS
        np.savez(path, **arrays | {name: np.array([Payload(), Payload()], object)})
        refused(path, "expected a .npz file, got ValueError: cannot create an OBJECT array")
    assert RAN == [1]


def npy(header):
    """A .npy file of version 1 with this header, and a float after it."""
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header.encode() + bytes(4)


def test_npz_headers(tmp_path):
    path = tmp_path / "model.npz"
    for member in (
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999, 0), }"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -1), }"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': [1], }"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1, " * 70 + "), }"),
        npy("{'descr': 'V0', 'fortran_order': False, 'shape': (1000000000000,), }"),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"),
        npy("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,), }"),
        npy("{'descr': '<f4', 'fortran_order': 1, 'shape': (1,), }"),
        npy("__import__('os').abort()"), npy("(" * 200), npy("-" * 250 + "1"), npy("-" * 9000 + "1"), npy("'''"),
        npy(""), npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1L" + "0" * 100 + ",)"), b"", b"x",
        b"\x93NUMPY\x03\0" + npy("{}")[8:], b"\x93NUMPY\x01\0\xff\xff{}",
    ):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", member)
        refused(path, "expected a .npz file, got ")


def test_npz_members(tmp_path):
    path = tmp_path / "model.npz"
    np.savez_compressed(path, **WEIGHTS)
    refused(path, "expected arrays that are not compressed, as numpy.savez writes them, got compressed ones")
    np.savez_compressed(path, bomb=np.zeros(50_000_000, np.uint8))
    refused(path, "expected arrays that are not compressed")
    craft(path, DESCRIBED, WEIGHTS)
    whole = path.read_bytes()
    at = whole.index(b"PK\1\2")
    path.write_bytes(whole[: at + 20] + struct.pack("<II", 2**31, 2**31) + whole[at + 28 :])
    refused(path, rf"expected at most {len(whole)} bytes of members \(the file's size\), got 214748")
    path.write_bytes(whole[: at + 8] + b"\1" + whole[at + 9 :])
    refused(path, "encrypted")
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("bias_ih.npy", archive.read("bias_ih.npy"))
    refused(path, "encrypted")
    path.write_bytes(whole)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("bias_ih.npy", archive.read("bias_ih.npy"))
    refused(path, "bias_ih: expected one array of this name, got two")
