"""Modules in files: `.safetensors`, which torch and others read, and `.npz`, which takes NumPy alone.

Both hold the weights under torch's names and, under the name ``fastrnn``, what the modules were constructed with, as
JSON. A file is data to be checked and nothing more: no code of it is run, and no memory is taken for what it says, only
for what it has.
"""

import inspect
import io
import os
from collections import defaultdict
from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastrnn.arguments import one_of
from fastrnn.cells import GRUCell, LSTMCell, RNNCell
from fastrnn.layers import GRU, LSTM, RNN
from fastrnn.module import Given, Module
from fastrnn.readout import Linear

# json, pathlib, secrets and zipfile are imported where they are used: NumPy does without them, and so does importing
# this package.

__all__ = ["load", "save"]

KEY = "fastrnn"  # of the JSON in a file
VERSION = 1  # of what the JSON says
ADDED = {"peephole": False}  # arguments that older files do not have, and what they mean by that
CLASSES = {cls.__name__: cls for cls in (RNN, LSTM, GRU, RNNCell, LSTMCell, GRUCell, Linear)}
NPY_HEADER = 256  # bytes; of an array with two dimensions 118


def save(path: str | os.PathLike[str], layer_or_dict: Module | Mapping[str, Module]) -> None:
    """Write a module, or a whole model of them, to a file.

    The file is written beside its place and then moved there, so that on an error an older one is left as it was. The
    generator that dropout draws from is not saved.

    Parameters
    ----------
    path : str or path-like
        Ends in ``.safetensors`` (which takes the package of that name, as in the extra ``fastrnn[files]``) or ``.npz``.
    layer_or_dict : module or mapping of str to module
        `RNN`, `LSTM`, `GRU`, their cells, or `Linear`. In a mapping a name is what torch would put before the weights':
        ``{"encoder": lstm}`` writes ``encoder.weight_ih_l0`` and so on, which torch loads into a model that has them.

    Raises
    ------
    ValueError
        Another suffix, a name that is empty or not printable, or weights that are NaN or infinite.
    TypeError
        What is no such module.
    ImportError
        No safetensors.
    OSError
        A file that cannot be written.

    Examples
    --------
    >>> import os, tempfile, fastrnn
    >>> path = os.path.join(tempfile.mkdtemp(), "model.npz")
    >>> fastrnn.save(path, {"encoder": fastrnn.GRU(4, 2, rng=0), "head": fastrnn.Linear(2, 3, rng=1)})
    >>> fastrnn.load(path)
    {'encoder': GRU(4, 2), 'head': Linear(2, 3)}
    """
    import json

    path = _checked_path(path)
    modules = _named(layer_or_dict)
    described = {name: {"class": type(module).__name__}
                 | {argument: getattr(module, argument) for argument in _arguments(type(module))}
                 for name, module in modules.items()}
    tensors = {f"{name}.{parameter}" if name else parameter: array
               for name, module in modules.items() for parameter, array in module.params.items()}
    for name, tensor in tensors.items():
        _check_finite(name, tensor)
    text = json.dumps({"version": VERSION, "modules": described}, default=str)  # str: of a dtype
    with written_whole(path) as file:
        FORMATS[path.suffix][0](file, text, tensors)


def load(path: str | os.PathLike[str]) -> Any:
    """Read what `save` wrote: the same modules, which give the same bits.

    The class is looked up in a fixed table, its arguments are checked as by a call, and the arrays have to have just
    the names, shapes and dtype that follow from them. A layer with dropout has a new generator;
    ``layer.rng = numpy.random.default_rng(seed)`` makes its training repeatable.

    Parameters
    ----------
    path : str or path-like
        Ends in ``.safetensors`` or ``.npz``.

    Returns
    -------
    module or dict of str to module
        As it was given to `save`.

    Raises
    ------
    ValueError
        Another suffix, or whatever is wrong with the file, whose path is named: damaged, not written by `save`, other
        arrays than its arguments ask for, weights that are NaN or infinite. Weights alone, as torch writes them, are
        for `load_state_dict`.
    ImportError
        No safetensors.
    OSError
        A file that cannot be opened.
    """
    path = _checked_path(path)
    with open(path, "rb") as file:
        try:
            text, tensors = FORMATS[path.suffix][1](file)
        except (ImportError, MemoryError):
            raise
        except Exception as error:  # zipfile, numpy and safetensors have many, struct.error and RuntimeError among them
            raise ValueError(f"{path}: expected a {path.suffix} file, got {type(error).__name__}: {error}") from error
    try:
        return _built(text, tensors)
    except (KeyError, RecursionError, TypeError, ValueError) as error:  # RecursionError: JSON nested too deep
        message = error.args[0] if isinstance(error, KeyError) else error
        raise ValueError(f"{path}: {message}") from error


@contextmanager
def written_whole(path):
    """A binary file, beside its place until all of it is written and then moved there: there is never a part of it."""
    import pathlib
    import secrets

    path = pathlib.Path(path)
    temporary = path.with_name(f".{KEY}-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _checked_path(path):
    """The path as a pathlib.Path, of a format that there is."""
    import pathlib

    path = pathlib.Path(path)
    if path.suffix not in FORMATS:
        raise ValueError(f"path: expected one that ends in {' or '.join(FORMATS)}, got {str(path)!r}")
    return path


def _named(layer_or_dict):
    """The modules by name; one alone has the name ''."""
    alone = not isinstance(layer_or_dict, Mapping)
    modules = {"": layer_or_dict} if alone else dict(layer_or_dict)
    for name, module in modules.items():
        label = "layer_or_dict" if alone else f"layer_or_dict[{name!r}]"
        if not isinstance(name, str):
            raise TypeError(f"{label}: expected a str as the name, got {type(name).__name__}")
        if not alone and not (name and name.isprintable()):
            raise ValueError(f"{label}: expected a name of printable characters, got {name!r}")
        if type(module) is not CLASSES.get(type(module).__name__):
            raise TypeError(f"{label}: expected one of {', '.join(CLASSES)}, got {type(module).__name__}")
    return modules


def _arguments(cls):
    """Names of the arguments of a class that say what a module is."""
    return [name for name in inspect.signature(cls).parameters if name not in ("device", "rng")]


def _check_finite(name, tensor):
    if not np.isfinite(tensor).all():
        raise ValueError(f"{name}: expected finite values, got NaN or infinity")


def _built(text, tensors):
    """The modules that the JSON describes, with these weights."""
    import json

    if text is None:
        raise ValueError(f"expected what fastrnn.save wrote, got a file without {KEY!r}; weights alone, say of torch, "
                         "are read by safetensors.numpy.load_file or numpy.load, and load_state_dict takes them")
    content = json.loads(text)
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise ValueError(f"{KEY}: expected version {VERSION}, got {_shown(content)}")
    if content.keys() != {"version", "modules"} or not isinstance(content["modules"], dict):
        raise ValueError(f"{KEY}: expected modules by name, got {_shown(content)}")
    groups = defaultdict(dict)
    for name, tensor in tensors.items():
        groups[name.rpartition(".")[0]][name] = tensor
    if without := groups.keys() - content["modules"].keys():
        names = [name for group in sorted(without) for name in groups[group]]
        raise ValueError(f"expected arrays of {_shown([*content['modules']])} only, got {_shown(names)}")
    modules = {name: _module(name, described, groups[name]) for name, described in content["modules"].items()}
    return modules[""] if modules.keys() == {""} else modules


def _module(name, described, tensors):
    """One module, of its description and its weights."""
    label = f"{KEY}[{name!r}]"
    if not isinstance(described, dict):
        raise ValueError(f"{label}: expected a class and its arguments, got {_shown(described)}")
    arguments = dict(described)
    cls = CLASSES[one_of(f"{label}: class", arguments.pop("class", None), tuple(CLASSES))]
    dtype = one_of(f"{label}: dtype", arguments.get("dtype"), ("float32", "float64"))
    names = _arguments(cls)
    arguments = {argument: value for argument, value in ADDED.items() if argument in names} | arguments
    if arguments.keys() != set(names):
        raise ValueError(f"{label}: expected the arguments {', '.join(names)}, got {_shown([*arguments])}")
    layers = arguments.get("num_layers", 1)
    if isinstance(layers, int) and layers > len(tensors):  # else the names of a billion layers would be made
        raise ValueError(f"{label}: expected at most {len(tensors)} num_layers (the arrays in the file), got {layers}")
    for key, tensor in tensors.items():
        if tensor.dtype.name != dtype:
            raise ValueError(f"{key}: expected dtype {dtype}, got {tensor.dtype}")
        _check_finite(key, tensor)
    return cls(**arguments, rng=Given(tensors, name and f"{name}."))


def _shown(value):
    """What a file says, short enough for a message."""
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "..."


def _safetensors():
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("safetensors: expected the package, which .safetensors files take, got none: "
                          "pip install 'fastrnn[files]', or write .npz") from error
    return safetensors


def _write_safetensors(file, text, tensors):
    file.write(_safetensors().numpy.save(tensors, {KEY: text}))


def _read_safetensors(file):
    """The JSON, or None, and the arrays by name."""
    with _safetensors().safe_open(file.name, framework="numpy") as archive:
        text = (archive.metadata() or {}).get(KEY)
        return text, {name: archive.get_tensor(name) for name in archive.keys()}


def _write_npz(file, text, tensors):
    np.savez(file, **{KEY: np.frombuffer(text.encode(), np.uint8)}, **tensors)


def _read_npz(file):
    """The JSON, or None, and the arrays by name.

    Nothing here can unpickle. Arrays are views of bytes that have been read, of members that are not compressed: there
    is never more of them than there is of the file, whatever their headers say.
    """
    import zipfile

    tensors, size = {}, os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("expected arrays that are not compressed, as numpy.savez writes them, got compressed ones")
        total = sum(max(member.file_size, member.compress_size) for member in members)
        if total > size:
            raise ValueError(f"expected at most {size} bytes of members (the file's size), got {total}")
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name in tensors:
                raise ValueError(f"{name}: expected one array of this name, got two")
            tensors[name] = _array(archive.read(member))
    text = tensors.pop(KEY, None)
    return None if text is None else text.tobytes(), tensors


def _array(data):
    """A view of a .npy file's bytes as the array that it says it is."""
    stream = io.BytesIO(data)
    if (version := np.lib.format.read_magic(stream)) != (1, 0):
        raise ValueError(f"expected .npy of version (1, 0), got {version}")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream, max_header_size=NPY_HEADER)
    return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran_order else "C")


FORMATS = {".safetensors": (_write_safetensors, _read_safetensors), ".npz": (_write_npz, _read_npz)}
