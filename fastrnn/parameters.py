"""Named arrays over one flat buffer: the weights of a module, and their gradients.

Keeping every parameter of a module in one contiguous vector makes an optimizer a handful of operations
on one array, a sum of gradients one addition, and a global norm one dot product.
"""

from collections.abc import Iterator, Mapping
from itertools import accumulate
from math import prod
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastrnn.types import Array

__all__ = ["Gradients", "NamedArrays", "Parameters", "describe", "matching"]


def describe(shape):
    """Shape as it is written in an error message, ``(3, 4)``."""
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def real_numbers(name, value):
    """The value as an array of real numbers; torch tensors are taken from their graph."""
    if hasattr(value, "detach"):
        value = value.detach()
    try:
        array = np.asarray(value)
    except (RuntimeError, TypeError, ValueError) as error:  # bfloat16, another device, a ragged list
        raise TypeError(f"{name}: expected what numpy.asarray takes, got {type(value).__name__}: {error}") from error
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
    return array


def matching(shapes, state_dict, prefix=""):
    """The values of a state dict as arrays by name, if those that begin with `prefix` are just these parameters.

    Raises
    ------
    KeyError, ValueError, TypeError
        As `Module.load_state_dict`.
    """
    if not isinstance(prefix, str):
        raise TypeError(f"prefix: expected a str, got {type(prefix).__name__}")
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"state_dict: expected a mapping, got {type(state_dict).__name__}")
    if prefix:
        prefix = prefix.removesuffix(".") + "."
    expected = {prefix + name: name for name in shapes}
    given = [name for name in state_dict if not prefix or (isinstance(name, str) and name.startswith(prefix))]
    missing = [name for name in expected if name not in state_dict]
    unexpected = [str(name) for name in given if name not in expected]
    arrays = {name: real_numbers(name, state_dict[name]) for name in expected if name in state_dict}
    wrong = [f"{name}: expected shape {describe(shapes[expected[name]])}, got {describe(array.shape)}"
             for name, array in arrays.items() if array.shape != shapes[expected[name]]]
    if missing or unexpected:
        parts = [f"state_dict: expected {', '.join(expected)}", f"missing: {', '.join(missing) or 'none'}",
                 f"unexpected: {', '.join(unexpected) or 'none'}", *wrong]
        raise KeyError("; ".join(parts))
    if wrong:
        raise ValueError(f"state_dict: {'; '.join(wrong)}")
    return {expected[name]: array for name, array in arrays.items()}


class NamedArrays(Mapping[str, Array]):
    """Mapping of names to arrays that are views of one vector.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Names and shapes, in the order in which they lie in the vector.
    dtype : numpy dtype
        float32 or float64.

    Attributes
    ----------
    flat : ndarray, shape (sum of sizes,)
        All values, one array after another.
    shapes : dict of str to tuple of int
    offsets : dict of str to int
        Where each array begins in `flat`.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], dtype: DTypeLike) -> None:
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        sizes = [*map(prod, self.shapes.values())]
        self.offsets = dict(zip(self.shapes, accumulate(sizes, initial=0), strict=False))
        self.flat: Array = np.zeros(sum(sizes), dtype)

    def empty_like(self) -> "NamedArrays":
        """Arrays of any values under the same names.

        Returns
        -------
        NamedArrays
        """
        empty = NamedArrays.__new__(NamedArrays)
        empty.shapes, empty.offsets, empty.flat = self.shapes, self.offsets, np.empty(self.flat.shape, self.flat.dtype)
        return empty

    def __getitem__(self, name: str) -> Array:
        start, shape = self.offsets[name], self.shapes[name]
        return self.flat[start : start + prod(shape)].reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def __repr__(self):
        inner = ", ".join(f"{name}: {describe(shape)}" for name, shape in self.shapes.items())
        return f"{type(self).__name__}({inner}; {self.flat.dtype})"


class Parameters(NamedArrays):
    """The weights of a module: a mapping of names to read-only arrays.

    Values change only through item assignment, `assign` and `add`. Each raises `version`, by which packed
    copies of the weights and open tapes know that they are stale.

    Examples
    --------
    >>> import fastrnn
    >>> rnn = fastrnn.RNN(4, 2)
    >>> rnn.params["weight_ih_l0"].shape
    (2, 4)
    >>> rnn.params["bias_hh_l0"] = [1.0, 2.0]
    >>> rnn.params["bias_hh_l0"]
    array([1., 2.], dtype=float32)
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], dtype: DTypeLike) -> None:
        super().__init__(shapes, dtype)
        self.version = 0
        self._own(self.flat)

    def _own(self, values):
        """Take a vector as the values, to be shown read-only."""
        self._values = values
        self.flat = values.view()
        self.flat.flags.writeable = False

    def __setitem__(self, name: str, value: ArrayLike) -> None:
        self.assign({name: value})

    def assign(self, mapping: Mapping[str, ArrayLike]) -> None:
        """Replace the named arrays by the values of `mapping`; all of them, or on an error none.

        Parameters
        ----------
        mapping : mapping of str to array_like
            Anything `numpy.asarray` takes, CPU torch tensors included (with or without a gradient, not of bfloat16),
            in the shape of the parameter.

        Raises
        ------
        KeyError
            A name that is no parameter of this module.
        ValueError
            An array of another shape.
        TypeError
            Values that are not real numbers, or that NumPy does not take.
        """
        new = {name: self._checked(name, value) for name, value in mapping.items()}
        flat = np.array(self._values)
        for name, value in new.items():
            start = self.offsets[name]
            flat[start : start + value.size] = value.ravel()
        self._values[:] = flat
        self.version += 1

    def _checked(self, name, value):
        if name not in self.shapes:
            raise KeyError(f"{name}: expected one of {', '.join(self)}")
        value = real_numbers(name, value)
        if value.shape != self.shapes[name]:
            raise ValueError(f"{name}: expected shape {describe(self.shapes[name])}, got {describe(value.shape)}")
        return value

    def add(self, delta: ArrayLike) -> None:
        """Add a vector, laid out as `flat`, to all values: one step of an optimizer."""
        self._values += delta
        self.version += 1

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name != "flat"}  # a view would become a copy

    def __setstate__(self, state):
        vars(self).update(state)
        self._own(np.array(self._values))  # copy.copy hands over the very vector


class Gradients:
    """What a backward pass gives.

    Attributes
    ----------
    input : ndarray
        Gradient of the input, of its shape.
    hx : ndarray, tuple of ndarray or None
        Gradient of the initial state, of its shape; of an LSTM a pair; None for a module without state.
    params : NamedArrays
        Gradients of the parameters, by name; `params.flat` is all of them as one vector.

    Gradients of the same module and shapes add, ``a + b``, which accumulates over backward passes.
    """

    __slots__ = ("hx", "input", "params")

    input: Array
    hx: Any  # a type for each kind of module would have to be written wherever gradients are passed on
    params: NamedArrays

    def __init__(self, input: Array, hx: Any, params: NamedArrays) -> None:
        self.input, self.hx, self.params = input, hx, params

    def __add__(self, other: "Gradients") -> "Gradients":
        if not isinstance(other, Gradients):
            return NotImplemented
        hx = tuple(map(np.copy, self.hx)) if isinstance(self.hx, tuple) else None if self.hx is None else self.hx.copy()
        total = Gradients(self.input.copy(), hx, self.params.empty_like())
        total.params.flat[:] = self.params.flat
        total += other
        return total

    def __iadd__(self, other: "Gradients") -> Self:
        if not isinstance(other, Gradients):
            return NotImplemented
        if list(self.params.shapes.items()) != list(other.params.shapes.items()):
            raise ValueError(f"gradients: expected those of {self.params!r}, got those of {other.params!r}")
        for name, mine, its in (("input", [self.input], [other.input]), ("hx", self._states(), other._states())):
            if [array.shape for array in mine] != [array.shape for array in its]:
                raise ValueError(f"gradients.{name}: expected shape {' and '.join(describe(a.shape) for a in mine)}, "
                                 f"got {' and '.join(describe(a.shape) for a in its)}")
        self.params.flat += other.params.flat
        self._add_states(other)
        return self

    def _states(self):
        """The gradients of the states, one or two or none."""
        return self.hx if isinstance(self.hx, tuple) else () if self.hx is None else (self.hx,)

    def _add_states(self, other):
        """Add all but the parameters."""
        self.input += other.input
        for mine, its in zip(self._states(), other._states(), strict=True):
            mine += its

    def __repr__(self):
        hx = " and ".join(describe(state.shape) for state in self._states()) or None
        return f"Gradients(input: {describe(self.input.shape)}, hx: {hx}, params: {self.params!r})"
