"""Optimizers, with torch.optim's equations, and the clipping of gradients.

The parameters of a module are one vector, `params.flat`, and so are its gradients and the optimizer's state:
a step is a few operations on whole vectors.
"""

from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any, Protocol

import numpy as np

from fastrnn.parameters import Gradients, Parameters
from fastrnn.readout import as_float

__all__ = ["SGD", "Adam", "clip_grad_norm"]


def _checked_number(name, value):
    """`value` as a Python float, at least 0."""
    if not isinstance(value, Real):
        raise TypeError(f"{name}: expected a real number, got {type(value).__name__}")
    if not value >= 0:
        raise ValueError(f"{name}: expected a number of at least 0, got {value}")
    return float(value)


def _checked_gradients(gradients):
    """A list of `Gradients`, of one or of several."""
    gradients = list(gradients) if isinstance(gradients, Iterable) else [gradients]
    for i, gradient in enumerate(gradients):
        if not isinstance(gradient, Gradients):
            raise TypeError(f"gradients[{i}]: expected Gradients, got {type(gradient).__name__}")
    return gradients


class Trainable(Protocol):
    """What an optimizer can train: anything with parameters."""

    @property
    def params(self) -> Parameters: ...


class _Optimizer:
    """What the optimizers share: checks, the order of a step, saving and loading."""

    def __init__(self, modules, settings, state_names):
        one = hasattr(modules, "params") or not isinstance(modules, Iterable)
        modules = [modules] if one else list(modules)
        if not modules:
            raise ValueError("modules: expected at least one, got none")
        for i, module in enumerate(modules):
            if not isinstance(getattr(module, "params", None), Parameters):
                raise TypeError(f"modules[{i}]: expected a module with params, got {type(module).__name__}")
            if any(module.params is other.params for other in modules[:i]):
                raise ValueError(f"modules[{i}]: expected each module once, got one a second time")
        self.modules: list[Trainable] = modules
        self.steps = 0
        self._settings = settings
        self._state = {name: [np.zeros_like(m.params.flat) for m in modules] for name in state_names}

    @property
    def lr(self) -> float:
        """Learning rate; may be assigned between steps."""
        return self._settings["lr"]

    @lr.setter
    def lr(self, value: float) -> None:
        self._settings["lr"] = _checked_number("lr", value)

    def step(self, gradients: Gradients | Iterable[Gradients]) -> None:
        """Change the parameters of all modules by one step; on an error, of none.

        Parameters
        ----------
        gradients : Gradients or sequence of Gradients
            Of each module, in the order of the modules. They are not changed.

        Raises
        ------
        TypeError
            Something that is no `Gradients`.
        ValueError
            Another number of them than of modules, or parameters of other names, shapes or order.
        """
        gradients = _checked_gradients(gradients)
        if len(gradients) != len(self.modules):
            raise ValueError(f"gradients: expected {len(self.modules)}, one a module, got {len(gradients)}")
        for i, (module, gradient) in enumerate(zip(self.modules, gradients, strict=True)):
            mine, its = module.params, gradient.params
            if [*mine.shapes.items()] != [*its.shapes.items()]:  # as lists: the vectors have an order
                raise ValueError(f"gradients[{i}]: expected those of {mine!r}, got {its!r}")
        self.steps += 1
        for i, (module, gradient) in enumerate(zip(self.modules, gradients, strict=True)):
            state = [vectors[i] for vectors in self._state.values()]
            module.params.add(self._delta(module.params.flat, gradient.params.flat, *state))

    def state_dict(self) -> dict[str, Any]:
        """Everything that a step depends on besides the parameters and gradients.

        Returns
        -------
        dict of str to number or ndarray
            The settings under their names, the number of `steps` taken, and copies of the state vectors as
            ``"<name>.<index of the module>"``. `numpy.savez` can write it, and `load_state_dict` takes what
            `numpy.load` reads.
        """
        vectors = {f"{name}.{i}": v.copy() for name, vs in self._state.items() for i, v in enumerate(vs)}
        return self._settings | {"steps": self.steps} | vectors

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave, so that training goes on as if it had not stopped.

        Parameters
        ----------
        state : mapping of str to number or array_like
            From an optimizer of the same kind over modules of the same sizes, in the same order. On an error
            nothing is changed.

        Raises
        ------
        KeyError
            A name that is missing, or one too many.
        TypeError, ValueError
            A setting out of range, or a vector that is not one of real numbers or of another length.
        """
        if missing := self._settings.keys() - state.keys():
            raise KeyError(f"state: expected {', '.join(sorted(missing))}, got none")
        new = type(self)(self.modules, **{name: np.asarray(state[name]).tolist() for name in self._settings})
        expected = new.state_dict()
        if difference := expected.keys() ^ state.keys():
            names = ", ".join(sorted(difference))
            raise KeyError(f"state: expected {', '.join(expected)}, got a difference in {names}")
        for name, vectors in new._state.items():
            for i, vector in enumerate(vectors):
                value = as_float(f"{name}.{i}", state[f"{name}.{i}"], vector.dtype)
                if value.shape != vector.shape:
                    raise ValueError(f"{name}.{i}: expected shape {vector.shape}, got {value.shape}")
                vector[:] = value
        new.steps = int(state["steps"])
        self.__dict__.update(new.__dict__)


class SGD(_Optimizer):
    """Stochastic gradient descent, with momentum.

    Parameters
    ----------
    modules : module or sequence of modules
        What to train: anything whose `params` is a `Parameters`.
    lr : float
        Learning rate, at least 0. The attribute `lr` may be assigned later.
    momentum : float
        Part of the velocity that a step keeps, at least 0.
    dampening : float
        Part of the gradient that does not go into the velocity, at least 0.
    weight_decay : float
        Factor of the parameters that is added to their gradient, at least 0.
    nesterov : bool
        Look ahead along the velocity. Needs a momentum and no dampening.

    Attributes
    ----------
    lr : float
        Learning rate.
    steps : int
        Number of steps taken.

    Raises
    ------
    TypeError
        A module without `params`, or a setting that is no real number.
    ValueError
        No module, a module twice, or a setting out of range.

    Notes
    -----
    torch.optim.SGD's equations, after Sutskever et al. 2013 with the learning rate outside the velocity; w
    are the parameters and g their gradient::

        g = g + weight_decay w
        v = g                                    at the first step, then
        v = momentum v + (1 - dampening) g
        w = w - lr v                             with nesterov, w - lr (g + momentum v)

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> rnn = fastrnn.RNN(4, 2)
    >>> optimizer = fastrnn.SGD(rnn, lr=0.1, momentum=0.9)
    >>> output, h_n, tape = rnn.forward(np.ones((5, 3, 4), dtype=np.float32))
    >>> loss, d_output = fastrnn.mse(output, np.zeros_like(output))
    >>> optimizer.step(rnn.backward(tape, d_output))
    >>> fastrnn.mse(rnn(np.ones((5, 3, 4), dtype=np.float32))[0], np.zeros_like(output))[0] < loss
    True
    """

    def __init__(self, modules: Trainable | Iterable[Trainable], lr: float, momentum: float = 0.0,
                 dampening: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False) -> None:
        settings = {
            "lr": _checked_number("lr", lr),
            "momentum": _checked_number("momentum", momentum),
            "dampening": _checked_number("dampening", dampening),
            "weight_decay": _checked_number("weight_decay", weight_decay),
            "nesterov": bool(nesterov),
        }
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError(
                f"nesterov: expected a momentum above 0 and a dampening of 0, got {momentum} and {dampening}"
            )
        super().__init__(modules, settings, ["velocity"] if momentum else [])

    def _delta(self, w, g, velocity=None):
        lr, momentum, dampening, weight_decay, nesterov = self._settings.values()
        if weight_decay:
            g = g + weight_decay * w
        if velocity is None:
            return -lr * g
        if self.steps == 1:
            velocity[:] = g
        else:
            velocity *= momentum
            velocity += (1 - dampening) * g
        return -lr * (g + momentum * velocity if nesterov else velocity)


class Adam(_Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square.

    Parameters
    ----------
    modules : module or sequence of modules
        What to train: anything whose `params` is a `Parameters`.
    lr : float
        Learning rate, at least 0. The attribute `lr` may be assigned later.
    betas : pair of float
        How much of the two means a step keeps, each in [0, 1).
    eps : float
        Added to the denominator, at least 0.
    weight_decay : float
        Factor of the parameters that is added to their gradient, at least 0.

    Attributes
    ----------
    lr : float
        Learning rate.
    steps : int
        Number of steps taken.

    Raises
    ------
    TypeError
        A module without `params`, or a setting that is no real number.
    ValueError
        No module, a module twice, or a setting out of range.

    Notes
    -----
    Kingma & Ba 2015, as torch.optim.Adam computes it; w are the parameters, g their gradient, and t counts
    the steps from 1::

        g = g + weight_decay w
        m = beta1 m + (1 - beta1) g
        v = beta2 v + (1 - beta2) g^2
        w = w - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> rnn = fastrnn.RNN(4, 2)
    >>> optimizer = fastrnn.Adam(rnn)
    >>> output, h_n, tape = rnn.forward(np.ones((5, 3, 4), dtype=np.float32))
    >>> loss, d_output = fastrnn.mse(output, np.zeros_like(output))
    >>> optimizer.step(rnn.backward(tape, d_output))
    >>> fastrnn.mse(rnn(np.ones((5, 3, 4), dtype=np.float32))[0], np.zeros_like(output))[0] < loss
    True
    """

    def __init__(self, modules: Trainable | Iterable[Trainable], lr: float = 1e-3,
                 betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0) -> None:
        if np.shape(betas) != (2,):
            raise ValueError(f"betas: expected two numbers, got {betas!r}")
        settings = {
            "lr": _checked_number("lr", lr),
            "betas": tuple(_checked_number(f"betas[{i}]", beta) for i, beta in enumerate(betas)),
            "eps": _checked_number("eps", eps),
            "weight_decay": _checked_number("weight_decay", weight_decay),
        }
        for i, beta in enumerate(settings["betas"]):
            if beta >= 1:
                raise ValueError(f"betas[{i}]: expected a number in [0, 1), got {beta}")
        super().__init__(modules, settings, ["mean", "square"])

    def _delta(self, w, g, mean, square):
        lr, (beta1, beta2), eps, weight_decay = self._settings.values()
        if weight_decay:
            g = g + weight_decay * w
        mean *= beta1
        mean += (1 - beta1) * g
        square *= beta2
        square += (1 - beta2) * g * g
        delta = np.sqrt(square)
        delta /= (1 - beta2**self.steps) ** 0.5
        delta += eps
        np.divide(mean, delta, out=delta)
        delta *= -lr / (1 - beta1**self.steps)
        return delta


@np.errstate(invalid="ignore")
def clip_grad_norm(gradients: Gradients | Iterable[Gradients], max_norm: float) -> float:
    """Scale the parameter gradients down, in place, where their norm is above a limit.

    Parameters
    ----------
    gradients : Gradients or sequence of Gradients
        One or several; the norm is over all of them together. Only `params` counts and is scaled: the
        gradients of the input and of the initial state are left alone.
    max_norm : float
        The limit, at least 0.

    Returns
    -------
    float
        The Euclidean norm before scaling, summed in float64.

    Raises
    ------
    TypeError
        Something that is no `Gradients`, or a limit that is no real number.
    ValueError
        A limit below 0.

    Notes
    -----
    Pascanu et al. 2013, as torch.nn.utils.clip_grad_norm_: the factor is ``max_norm / (norm + 1e-6)`` where
    that is below 1. A norm that is not finite makes the gradients zero or NaN, there and here.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn
    >>> rnn = fastrnn.RNN(4, 2)
    >>> output, h_n, tape = rnn.forward(np.ones((5, 3, 4), dtype=np.float32))
    >>> grads = rnn.backward(tape, np.ones_like(output))
    >>> norm = fastrnn.clip_grad_norm(grads, 0.25)
    >>> round(float(np.linalg.norm(grads.params.flat)), 4)
    0.25
    """
    gradients, max_norm = _checked_gradients(gradients), _checked_number("max_norm", max_norm)
    vectors = [gradient.params.flat for gradient in gradients]
    # einsum casts block by block: float64 sums of float32 squares without a float64 array.
    norm = sum(float(np.einsum("i,i->", v, v, dtype=np.float64)) for v in vectors) ** 0.5
    factor = max_norm / (norm + 1e-6)
    if not factor >= 1:  # true of NaN, which is to spread
        for vector in vectors:
            vector *= factor
    return norm
