"""What RNN, RNNCell and Linear have in common: parameters, their packed copies, saving and loading; the tape."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastrnn import kernels
from fastrnn.arguments import checked_dtype
from fastrnn.parameters import Gradients, Parameters, matching
from fastrnn.types import Array, Rng

__all__ = ["Given", "Module", "Tape"]


class Given(dict):
    """The weights that a module starts with, by name after a prefix: handed over in place of its `rng`."""

    def __init__(self, weights, prefix=""):
        super().__init__(weights)
        self.prefix = prefix


class Module:
    """A set of parameters, drawn uniformly from +-1/sqrt(fan) or given, and kernels that read a packed copy of them.

    The packed copy is made at the first call after a change and kept; it is only ever replaced whole, so that
    threads may share a module. No lock keeps two from packing at once: a child forked meanwhile would wait for it for
    ever.
    """

    def __init__(self, shapes: dict[str, tuple[int, ...]], fan: int, device: str | None, dtype: DTypeLike | None,
                 rng: "Rng | Given") -> None:
        self.dtype = checked_dtype(dtype, device)
        # Given weights are compared before memory is taken: what a file says of its sizes may be anything.
        given = matching(shapes, rng, rng.prefix) if isinstance(rng, Given) else None
        self.rng = np.random.default_rng(rng if given is None else None)
        self.params = Parameters(shapes, self.dtype)
        bound = 1 / np.sqrt(fan)
        self.params.assign(given or {name: self.rng.uniform(-bound, bound, shape) for name, shape in shapes.items()})
        self._start()

    def _start(self):
        self._engine = kernels.engine[self.dtype]
        self._packed = (-1, None)  # version of the weights, packed weights

    def _pack(self):
        """The weights packed for the kernels, of whatever form the module's calls need."""
        raise NotImplementedError

    def _packed_weights(self):
        version, packed = self._packed
        if version != self.params.version:
            version = self.params.version
            packed = self._pack()
            self._packed = (version, packed)
        return packed

    def _gradients(self, into):
        """Where parameter gradients go: they are added to those of `into`, or written to new arrays."""
        if into is None:
            return self.params.empty_like()
        if not isinstance(into, Gradients):
            raise TypeError(f"into: expected Gradients, got {type(into).__name__}")
        if into.params.shapes != self.params.shapes or into.params.flat.dtype != self.dtype:
            raise ValueError(f"into: expected gradients of {self.params!r}, got {into.params!r}")
        return into.params

    def _back(self, saved, into, *gradients):
        """Gradients, from what a tape saved and those of its results; of parameters those of `into`, if given."""
        raise NotImplementedError

    def _used_up(self, saved):
        """Called with what a tape saved once it is used up."""

    def _through(self, tape, into, *gradients):
        """`_back` through a tape, which is open again if it fails; all is added to `into` if there is one."""
        saved = Tape._use(tape, self)
        try:
            found = self._back(saved, into, *gradients)
        except BaseException:
            tape._reopen(saved)
            raise
        self._used_up(saved)
        if into is None:
            return found
        into._add_states(found)
        return into

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters by name, as `torch.nn.Module.state_dict` names them.

        Returns
        -------
        dict of str to ndarray
        """
        return {name: array.copy() for name, array in self.params.items()}

    def load_state_dict(self, state_dict: Mapping[str, ArrayLike], *, prefix: str = "") -> None:
        """Replace all parameters; on an error, none.

        Parameters
        ----------
        state_dict : mapping of str to array_like
            Just the names and shapes of `state_dict()`. Values may be torch tensors and parameters, of any dtype that
            NumPy has: ``.float()`` makes one of bfloat16.
        prefix : str
            Only the names that begin with it count, and without it: ``"encoder.lstm."`` picks one layer out of a whole
            model. The dot at its end may be left out.

        Raises
        ------
        KeyError
            Names that are missing or not expected; all are listed, and the arrays of another shape.
        ValueError
            Arrays of another shape; all are listed.
        TypeError
            Values that are not real numbers, or that NumPy does not take.
        """
        self.params.assign(matching(self.params.shapes, state_dict, prefix))

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name not in ("_engine", "_packed", "_reserve")}

    def __setstate__(self, state):
        vars(self).update(state)
        self._start()

    def __repr__(self):
        return f"{type(self).__name__}({self._arguments_shown()})"


class Tape:
    """What a training forward keeps for its backward pass, which uses it up.

    It refers to the caller's input without copying it: leave that array as it is until the backward pass. The memory of
    a large one that has been used up serves the layer's next one, until the layer is called without a tape.
    """

    __slots__ = ("_module", "_saved", "_version")

    def __init__(self, module, saved):
        self._module, self._saved, self._version = module, [saved], module.params.version

    def __copy__(self):
        raise TypeError("tape: expected one owner of its arrays, got a shallow copy; copy.deepcopy copies them, too")

    def __repr__(self):
        return f"<{'open' if self._saved else 'used'} tape of {self._module!r}>"

    def _use(self, module):
        """The saved values, for one call alone, of whatever thread."""
        if not isinstance(self, Tape):
            raise TypeError(f"tape: expected a Tape, got {type(self).__name__}")
        if self._module is not module:
            raise ValueError(f"tape: expected one of this {module!r}, got one of another, {self._module!r}")
        if self._saved and self._version != module.params.version:
            raise RuntimeError(f"tape: expected weights of version {self._version}, as in its forward pass, "
                               f"got version {module.params.version}: they have changed since")
        try:
            return self._saved.pop()
        except IndexError:
            raise RuntimeError("tape: expected one not used before, got one whose backward pass has been run") from None

    def _reopen(self, saved):
        self._saved.append(saved)
