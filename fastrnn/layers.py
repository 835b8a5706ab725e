"""Recurrent layers over whole sequences: arguments, shapes, parameters. The arithmetic is in the kernels."""

import warnings

import numpy as np

from fastrnn import recurrence
from fastrnn.arguments import boolean, one_of, positive_integer, probability, real_array, with_shape
from fastrnn.module import Module, Tape
from fastrnn.parameters import Gradients, describe

__all__ = ["RNN"]

NONLINEARITIES = ("tanh", "relu", "sigmoid")  # in the order of the kernels' Activation
GATES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class RNN(Module):
    r"""Elman recurrent network over whole sequences, with the arguments and shapes of `torch.nn.RNN`.

    Every layer computes, for each step t (Elman 1990; the notation is that of `torch.nn.RNN`)::

        h_t = f(x_t W_ih^T + b_ih + h_{t-1} W_hh^T + b_hh)

    and gives the sequence of h_t to the next layer.

    Parameters
    ----------
    input_size, hidden_size : int
        Features of the input and of the state.
    num_layers : int
        Layers, one on the other.
    nonlinearity : {"tanh", "relu", "sigmoid"}
        f. The last is an addition to what torch has.
    bias : bool
        False: no b_ih, b_hh.
    batch_first : bool
        True: input and output are (N, L, features) rather than (L, N, features). States are not concerned.
    dropout : float
        Probability with which `forward` (training) sets each output of every layer but the last to zero,
        scaling the others by 1/(1 - dropout). A call (inference) drops nothing.
    bidirectional : bool
        True: a second set of weights runs from the end to the beginning; outputs lie side by side.
    device : None or "cpu"
    dtype : float32 or float64
        Of parameters, input, output and state.
    rng : None, int or numpy.random.Generator
        Where the initial weights, uniform in +-1/sqrt(hidden_size), and the dropout come from.

    Attributes
    ----------
    params : Parameters
        Read-only arrays by name: ``weight_ih_l{k}`` (hidden_size, input_size, or D * hidden_size for k > 0),
        ``weight_hh_l{k}`` (hidden_size, hidden_size), ``bias_ih_l{k}``, ``bias_hh_l{k}`` (hidden_size,);
        with the suffix ``_reverse`` for the second direction.

    Notes
    -----
    Shapes, with L steps, N rows, D = 2 if bidirectional else 1:

    ========== ================================ =========================
    array      batched                          unbatched
    ========== ================================ =========================
    input      (L, N, input_size)               (L, input_size)
    hx, h_n    (D * num_layers, N, hidden_size) (D * num_layers, hidden_size)
    output     (L, N, D * hidden_size)          (L, D * hidden_size)
    ========== ================================ =========================

    L = 0 and N = 0 are allowed; the final state is then the initial one.

    Arrays of the layer's dtype are read in place if their last axis is contiguous. float16, float32, integers,
    booleans and lists are converted; float64 for a float32 layer is refused.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> rnn = fastrnn.RNN(4, 2, num_layers=2, rng=0)
    >>> output, h_n = rnn(np.zeros((3, 1, 4), np.float32))
    >>> output.shape, h_n.shape
    ((3, 1, 2), (2, 1, 2))
    """

    def __init__(self, input_size, hidden_size, num_layers=1, nonlinearity="tanh", bias=True, batch_first=False,
                 dropout=0.0, bidirectional=False, device=None, dtype=None, *, rng=None):
        self.input_size = positive_integer("input_size", input_size)
        self.hidden_size = positive_integer("hidden_size", hidden_size)
        self.num_layers = positive_integer("num_layers", num_layers)
        self.nonlinearity = one_of("nonlinearity", nonlinearity, NONLINEARITIES)
        self.bias = boolean("bias", bias)
        self.batch_first = boolean("batch_first", batch_first)
        self.dropout = probability("dropout", dropout)
        self.bidirectional = boolean("bidirectional", bidirectional)
        self._activation = NONLINEARITIES.index(nonlinearity)
        self._suffixes = ("", "_reverse") if bidirectional else ("",)
        if self.dropout and self.num_layers == 1:
            warnings.warn(f"dropout: expected num_layers above 1, since the last layer's output is not dropped, "
                          f"got dropout={dropout} and num_layers=1", stacklevel=2)
        super().__init__(self._shapes(), self.hidden_size, device, dtype, rng)

    def _shapes(self):
        H, shapes = self.hidden_size, {}
        for layer in range(self.num_layers):
            features = self.input_size if layer == 0 else H * len(self._suffixes)
            sizes = [(H, features), (H, H), (H,), (H,)]
            for suffix in self._suffixes:
                names = [f"{gate}_l{layer}{suffix}" for gate in GATES]
                shapes |= dict(list(zip(names, sizes, strict=True))[: 4 if self.bias else 2])
        return shapes

    def _of_layer(self, arrays, layer):
        """The four arrays of each direction of a layer in one tuple, None for a bias that is not there."""
        return tuple(arrays.get(f"{gate}_l{layer}{suffix}") for suffix in self._suffixes for gate in GATES)

    def _pack(self):
        return [recurrence.pack(self._engine, self._of_layer(self.params, layer)) for layer in range(self.num_layers)]

    def _states_of(self, states, layer):
        """The part of (D * num_layers, N, H) states that belongs to a layer; None stays None."""
        D = len(self._suffixes)
        return None if states is None else states[layer * D : (layer + 1) * D]

    def __call__(self, input, hx=None):
        """Run the network, for inference.

        Keeps nothing and drops nothing; any number of threads may call at once.

        Parameters
        ----------
        input : array_like, (L, N, input_size), (N, L, input_size) with `batch_first`, or (L, input_size)
        hx : array_like, (D * num_layers, N, hidden_size) or (D * num_layers, hidden_size), optional
            Initial states; zeros if None.

        Returns
        -------
        output : ndarray
            The last layer's h_t for every step; see the class for shapes.
        h_n : ndarray
            Every layer's and direction's last state, shaped like `hx`.

        Raises
        ------
        ValueError
            A wrong number of dimensions or size.
        TypeError
            Values that are not real numbers, or float64 for a float32 layer.
        """
        x, h0, layout = self._arguments(input, hx)
        h_n = np.empty_like(h0)
        for layer in range(self.num_layers):
            x = self._layer_forward(layer, x, h0, h_n, layout)
        return layout.shown(x), layout.shown_state(h_n)

    def forward(self, input, hx=None):
        """Run the network for training: with dropout, and a tape for `backward`.

        Parameters
        ----------
        input, hx : array_like
            As in a call. `input` is not copied: leave it unchanged until the backward pass.

        Returns
        -------
        output, h_n : ndarray
            As from a call, and without dropout the same bits. `output` is read-only: the tape needs it.
        tape : Tape
            To be given to `backward`, once. Several may be open at a time.

        Raises
        ------
        ValueError, TypeError
            As a call.
        """
        x, h0, layout = self._arguments(input, hx)
        h_n = np.empty_like(h0)
        steps = []  # (input, output, mask on the input or None) of each layer
        mask = None
        for layer in range(self.num_layers):
            if layer and self.dropout:
                mask = self._dropout_mask(x.shape)
                x = x * mask
            output = self._layer_forward(layer, x, h0, h_n, layout)
            output.flags.writeable = False
            steps.append((x, output, mask))
            x = output
        tape = Tape(self, (steps, h0, layout, self._packed_weights()))
        return layout.shown(x), layout.shown_state(h_n), tape

    def backward(self, tape, d_output=None, d_hx=None, *, into=None):
        """Backpropagation through time: gradients of any loss on `output` and `h_n`.

        With g_t the gradient that reaches h_t from above and a_t the argument of f (see the class)::

            da_t = (g_t + da_{t+1} W_hh) f'(a_t)
            dx_t = da_t W_ih,   dW_ih = sum_t da_t^T x_t,   dW_hh = sum_t da_t^T h_{t-1},   db = sum_t da_t

        Parameters
        ----------
        tape : Tape
            From `forward` of this network, with the weights unchanged since. It is used up.
        d_output : array_like, shaped like `output`, optional
            Gradient of the loss with respect to `output`; zeros if None.
        d_hx : array_like, shaped like `h_n`, optional
            Gradient of the loss with respect to `h_n`; zeros if None.
        into : Gradients, optional
            Gradients of an earlier pass over the same shapes, to which these are added in place.

        Returns
        -------
        Gradients
            Of `input`, of `hx`, and of the parameters; `into`, if given.

        Raises
        ------
        RuntimeError
            A tape used before, or older than the weights.
        ValueError, TypeError
            A wrong shape or dtype, or a tape of another network. The tape is then still open.
        """
        steps, h0, layout, packed = Tape._use(tape, self)
        T, B = steps[0][0].shape[:2]
        g = d_h_n = None
        if d_output is not None:
            g = with_shape("d_output", d_output, self.dtype, layout.shown_shape(T, B, steps[-1][1].shape[2]))
            g = layout.time_major(g)
        if d_hx is not None:
            d_h_n = with_shape("d_hx", d_hx, self.dtype, layout.shown_state(h0).shape).reshape(h0.shape)
        params = self._gradients(into)
        d_h0 = np.empty_like(h0)
        if into is not None:
            _check_shapes(into, layout.shown_shape(T, B, self.input_size), layout.shown_state(h0).shape)
        for layer in reversed(range(self.num_layers)):
            x, output, mask = steps[layer]
            g = recurrence.backward(
                self._engine, packed[layer], self._activation, x, self._states_of(h0, layer), output, g,
                self._states_of(d_h_n, layer), self._states_of(d_h0, layer), self._of_layer(params, layer))
            if mask is not None:
                g *= mask
        tape._close()
        gradients = Gradients(layout.shown(g), layout.shown_state(d_h0), params)
        if into is None:
            return gradients
        into.input += gradients.input
        into.hx += gradients.hx
        return into

    def _arguments(self, input, hx):
        """The input as (L, N, input_size), the initial state as (D * num_layers, N, H), and their layout."""
        x = real_array("input", input, self.dtype)
        if x.ndim not in (2, 3):
            raise ValueError(f"input: expected 2 dimensions (unbatched) or 3, got {x.ndim}")
        if x.shape[-1] != self.input_size:
            raise ValueError(f"input: expected last dimension {self.input_size} (input_size), got {x.shape[-1]}")
        layout = Layout(x.ndim == 3, self.batch_first)
        x = layout.time_major(x)
        shape = (len(self._suffixes) * self.num_layers, x.shape[1], self.hidden_size)
        if hx is None:
            return x, np.zeros(shape, self.dtype), layout
        shown = shape if layout.batched else (shape[0], shape[2])
        return x, with_shape("hx", hx, self.dtype, shown).reshape(shape), layout

    def _layer_forward(self, layer, x, h0, h_n, layout):
        T, B = x.shape[:2]
        last = layer == self.num_layers - 1
        output = (layout if last else TIME_MAJOR).empty(T, B, len(self._suffixes) * self.hidden_size, self.dtype)
        recurrence.forward(self._engine, self._packed_weights()[layer], self._activation, x,
                           self._states_of(h0, layer), output, self._states_of(h_n, layer))
        return output

    def _dropout_mask(self, shape):
        if self.dropout == 1:
            return np.zeros(shape, self.dtype)
        kept = self.rng.random(shape, np.float32) >= self.dropout
        return kept.astype(self.dtype) / self.dtype.type(1 - self.dropout)

    def _arguments_shown(self):
        shown = f"{self.input_size}, {self.hidden_size}"
        defaults = {"num_layers": 1, "nonlinearity": "tanh", "bias": True, "batch_first": False, "dropout": 0.0,
                    "bidirectional": False}
        for name, default in defaults.items():
            if getattr(self, name) != default:
                shown += f", {name}={getattr(self, name)!r}"
        return shown + ("" if self.dtype == np.float32 else f", dtype={self.dtype}")


class Layout:
    """How the caller lays out a sequence, and the views between that and (L, N, features)."""

    __slots__ = ("batch_first", "batched")

    def __init__(self, batched, batch_first):
        self.batched, self.batch_first = batched, batched and batch_first

    def time_major(self, array):
        """The caller's array as (L, N, features)."""
        return array.swapaxes(0, 1) if self.batch_first else array if self.batched else array[:, None]

    def shown(self, array):
        """The (L, N, features) array as the caller knows it."""
        return array.swapaxes(0, 1) if self.batch_first else array if self.batched else array[:, 0]

    def shown_shape(self, T, B, features):
        """Shape of such an array as the caller knows it."""
        return (B, T, features) if self.batch_first else (T, B, features) if self.batched else (T, features)

    def shown_state(self, states):
        """(D * num_layers, N, H) states as the caller knows them."""
        return states if self.batched else states[:, 0]

    def empty(self, T, B, features, dtype):
        """A new (L, N, features) array that is contiguous as the caller sees it."""
        return self.time_major(np.empty(self.shown_shape(T, B, features), dtype))


TIME_MAJOR = Layout(True, False)


def _check_shapes(into, input_shape, hx_shape):
    """Gradients of other shapes cannot be added to; said before anything is written."""
    for name, shape in (("input", input_shape), ("hx", hx_shape)):
        if getattr(into, name).shape != shape:
            raise ValueError(f"into.{name}: expected shape {describe(shape)}, "
                             f"got {describe(getattr(into, name).shape)}")
