"""The validation boundary: what a caller passed becomes an array that the kernels can read, or an error.

Accepted as numbers: arrays of the module's dtype, of any strides and byte order, read-only or not; float16,
float32, integers and booleans, which are converted; lists; whatever `numpy.asarray` takes, CPU torch tensors
included. Refused with TypeError: float64 for a float32 module, which would lose digits unasked; complex
numbers, strings, objects.
"""

import numpy as np
from numpy.typing import DTypeLike

from fastrnn.parameters import describe

__all__ = ["boolean", "checked_dtype", "one_of", "out_array", "positive_integer", "probability", "real_array",
           "with_shape"]


def checked_dtype(dtype: DTypeLike | None, device: str | None = None) -> np.dtype:
    """The dtype of a module: float32 unless said otherwise. A torch dtype is known by its name."""
    if device is not None and str(device) != "cpu":
        raise ValueError(f"device: expected None or 'cpu', got {device!r}")
    name = str(dtype).removeprefix("torch.")
    try:
        found = np.dtype(np.float32 if dtype is None else name if name in ("float32", "float64") else dtype)
    except TypeError:
        found = None
    if found not in (np.float32, np.float64):
        raise TypeError(f"dtype: expected float32 or float64, got {dtype!r}")
    return found.newbyteorder("=")


def positive_integer(name: str, value: int) -> int:
    """The value as an int of at least 1."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an int, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")
    return int(value)


def boolean(name: str, value: bool) -> bool:
    """The value as a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def probability(name: str, value: float) -> float:
    """The value as a float from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a probability from 0 to 1, got {value}")
    return float(value)


def one_of(name: str, value: str, choices: tuple[str, ...]) -> str:
    """The value, if it is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def real_array(name, value, dtype):
    """The value as an array of `dtype` whose last axis is contiguous; a copy only where it has to be."""
    array = value if type(value) is np.ndarray else _asarray(name, value, dtype)
    if array.dtype != dtype or not array.dtype.isnative:
        kind = array.dtype.kind
        if kind not in "fiub" or (kind == "f" and array.dtype.itemsize > dtype.itemsize):
            raise TypeError(f"{name}: expected numbers of dtype {dtype}, got {array.dtype}")
        return array.astype(dtype, order="C")
    if (array.ndim and array.size and array.strides[-1] != dtype.itemsize) or not array.flags.aligned:
        return np.array(array, order="C")
    return array


def _asarray(name, value, dtype):
    try:
        array = np.asarray(value)
    except ValueError as error:  # ragged lists
        raise ValueError(f"{name}: expected an array, got {type(value).__name__}: {error}") from None
    if array.dtype.kind == "f" and not hasattr(value, "dtype"):
        return array.astype(dtype)  # a list of Python floats has no dtype of its own
    return array


def with_shape(name, value, dtype, shape):
    """The value as a contiguous array of just this shape."""
    array = real_array(name, value, dtype)
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {describe(shape)}, got {describe(array.shape)}")
    return np.ascontiguousarray(array)


def out_array(name, value, dtype, shape):
    """The value, if results can be written to it: an array of just this dtype and shape, writable and contiguous."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name}: expected an ndarray, got {type(value).__name__}")
    if value.dtype != dtype or not value.dtype.isnative:
        raise TypeError(f"{name}: expected dtype {dtype}, got {value.dtype}")
    if value.shape != shape:
        raise ValueError(f"{name}: expected shape {describe(shape)}, got {describe(value.shape)}")
    if not (value.flags.writeable and value.flags.c_contiguous and value.flags.aligned):
        raise ValueError(f"{name}: expected a writable, contiguous array, got one that is "
                         + ("not contiguous" if value.flags.writeable else "read-only"))
    return value
