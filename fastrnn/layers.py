"""Recurrent layers over whole sequences: RNN, LSTM, GRU. Their arguments and equations; `recurrent` does the rest."""

from typing import Literal, overload

from numpy.typing import ArrayLike, DTypeLike

from fastrnn.arguments import boolean, one_of, positive_integer
from fastrnn.module import Tape
from fastrnn.parameters import Gradients
from fastrnn.recurrence import ACTIVATIONS
from fastrnn.recurrent import Recurrent, projection_size
from fastrnn.sequences import PackedSequence
from fastrnn.types import Array, Pair, PairLike, Rng

__all__ = ["GRU", "LSTM", "RNN"]


class RNN(Recurrent):
    r"""Elman network over whole sequences, with the arguments and shapes of `torch.nn.RNN`.

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

    Backward, with g_t the gradient that reaches h_t from above and from the step after it::

        da_t = g_t f'(a_t),   dx_t = da_t W_ih,   da_t W_hh to the step before
        dW_ih = sum_t da_t^T x_t,   dW_hh = sum_t da_t^T h_{t-1},   db = sum_t da_t

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> rnn = fastrnn.RNN(4, 2, num_layers=2, rng=0)
    >>> output, h_n = rnn(np.zeros((3, 1, 4), np.float32))
    >>> output.shape, h_n.shape
    ((3, 1, 2), (2, 1, 2))
    """

    _defaults = {"num_layers": 1, "nonlinearity": "tanh"} | Recurrent._defaults

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh",
                 bias: bool = True, batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
                 device: str | None = None, dtype: DTypeLike | None = None, *, rng: Rng = None) -> None:
        self.nonlinearity = one_of("nonlinearity", nonlinearity, ACTIVATIONS)
        self._activation = ACTIVATIONS.index(nonlinearity)
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype,
                         rng)


class LSTM(Recurrent):
    r"""Long short-term memory over whole sequences, with the arguments and shapes of `torch.nn.LSTM`.

    Every layer computes, for each step t (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al.
    2000)::

        i_t = sigmoid(x_t W_ii^T + b_ii + h_{t-1} W_hi^T + b_hi)
        f_t = sigmoid(x_t W_if^T + b_if + h_{t-1} W_hf^T + b_hf)
        g_t =    tanh(x_t W_ig^T + b_ig + h_{t-1} W_hg^T + b_hg)
        o_t = sigmoid(x_t W_io^T + b_io + h_{t-1} W_ho^T + b_ho)
        c_t = f_t c_{t-1} + i_t g_t
        h_t = o_t tanh(c_t)

    and with `proj_size` h_t = (o_t tanh(c_t)) W_hr^T (Sak et al. 2014). With `peephole` gates see the cell as well:
    p_i c_{t-1} and p_f c_{t-1}, elementwise, are in the sums of i_t and f_t, p_o c_t in that of o_t (Gers, Schraudolph
    & Schmidhuber 2002; ONNX's P).

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype, rng
        As of `RNN`.
    proj_size : int
        Size of h where it is projected, less than hidden_size; 0: not projected.
    peephole : bool
        True: peepholes, an addition to what torch has.

    Attributes
    ----------
    params : Parameters
        ``weight_ih_l{k}`` (4 * hidden_size, features), ``weight_hh_l{k}`` (4 * hidden_size, proj_size or
        hidden_size), ``bias_ih_l{k}``, ``bias_hh_l{k}`` (4 * hidden_size,), each the gates i, f, g, o one below
        the other; ``weight_hr_l{k}`` (proj_size, hidden_size) with `proj_size`; ``weight_peephole_l{k}``
        (3 * hidden_size,) with `peephole`, the gates i, f, o one below the other.

    Notes
    -----
    Shapes are those of `RNN`; the state is a pair, (h, c): h is (D * num_layers, N, proj_size or hidden_size) and c
    (D * num_layers, N, hidden_size); output is (L, N, D * (proj_size or hidden_size)).

    Backward, dh_t and dc_t what reaches them from above and from the step after::

        dc_t += dh_t o_t (1 - tanh(c_t)^2)
        di_t = dc_t g_t i_t (1 - i_t),   df_t = dc_t c_{t-1} f_t (1 - f_t)
        dg_t = dc_t i_t (1 - g_t^2),     do_t = dh_t tanh(c_t) o_t (1 - o_t)
        dc_t f_t to c_{t-1},             dz_t W_hh to h_{t-1},              dx_t = dz_t W_ih

    with dz_t = (di_t, df_t, dg_t, do_t); the weights' gradients are as of `RNN`, dz for da. With `proj_size` dh_t is
    dh_t W_hr there, and dW_hr = sum_t dh_t^T (o_t tanh(c_t)). With `peephole` do_t p_o is part of dc_t, and
    di_t p_i + df_t p_f of what goes to c_{t-1}; dp_i = sum_t di_t c_{t-1}, dp_f = sum_t df_t c_{t-1},
    dp_o = sum_t do_t c_t.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> lstm = fastrnn.LSTM(4, 2, bidirectional=True, rng=0)
    >>> output, (h_n, c_n) = lstm(np.zeros((3, 1, 4), np.float32))
    >>> output.shape, h_n.shape, c_n.shape
    ((3, 1, 4), (2, 1, 2), (2, 1, 2))
    """

    _gates, _cell, _memory = 4, "LSTM", True
    _defaults = Recurrent._defaults | {"proj_size": 0, "peephole": False}

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
                 device: str | None = None, dtype: DTypeLike | None = None, *, peephole: bool = False,
                 rng: Rng = None) -> None:
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype,
                         rng, projection_size(proj_size, positive_integer("hidden_size", hidden_size)), peephole)

    @overload
    def __call__(self, input: PackedSequence, hx: PairLike | None = None, *, lengths: None = None,
                 reset: ArrayLike | None = None, out: None = None,
                 return_cells: Literal[False] = False) -> tuple[PackedSequence, Pair]: ...

    @overload
    def __call__(self, input: PackedSequence, hx: PairLike | None = None, *, lengths: None = None,
                 reset: ArrayLike | None = None, out: None = None,
                 return_cells: Literal[True]) -> tuple[PackedSequence, Pair, PackedSequence]: ...

    @overload
    def __call__(self, input: ArrayLike, hx: PairLike | None = None, *, lengths: ArrayLike | None = None,
                 reset: ArrayLike | None = None, out: tuple[Array, Pair] | None = None,
                 return_cells: Literal[False] = False) -> tuple[Array, Pair]: ...

    @overload
    def __call__(self, input: ArrayLike, hx: PairLike | None = None, *, lengths: ArrayLike | None = None,
                 reset: ArrayLike | None = None, out: tuple[Array, Pair] | None = None,
                 return_cells: Literal[True]) -> tuple[Array, Pair, Array]: ...

    def __call__(self, input, hx=None, *, lengths=None, reset=None, out=None, return_cells=False):
        """Run the network, for inference.

        Keeps nothing and drops nothing; any number of threads may call at once.

        Parameters
        ----------
        input, lengths, reset, out
            As of `RNN`.
        hx : pair of array_like, optional
            (h, c), the initial states; zeros if None.
        return_cells : bool
            True: add a third result.

        Returns
        -------
        output : ndarray or PackedSequence
        h_n, c_n : pair of ndarray
        cells : ndarray or PackedSequence, with `return_cells`
            The last layer's c for every step, laid out as `output`, (L, N, D * hidden_size).

        Raises
        ------
        ValueError, TypeError
            As of `RNN`.
        """
        return self._infer(input, hx, lengths, reset, out,
                           return_cells is not False and boolean("return_cells", return_cells))

    @overload
    def forward(self, input: PackedSequence, hx: PairLike | None = None, *, lengths: None = None,
                reset: ArrayLike | None = None,
                return_cells: Literal[False] = False) -> tuple[PackedSequence, Pair, Tape]: ...

    @overload
    def forward(self, input: PackedSequence, hx: PairLike | None = None, *, lengths: None = None,
                reset: ArrayLike | None = None,
                return_cells: Literal[True]) -> tuple[PackedSequence, Pair, PackedSequence, Tape]: ...

    @overload
    def forward(self, input: ArrayLike, hx: PairLike | None = None, *, lengths: ArrayLike | None = None,
                reset: ArrayLike | None = None,
                return_cells: Literal[False] = False) -> tuple[Array, Pair, Tape]: ...

    @overload
    def forward(self, input: ArrayLike, hx: PairLike | None = None, *, lengths: ArrayLike | None = None,
                reset: ArrayLike | None = None,
                return_cells: Literal[True]) -> tuple[Array, Pair, Array, Tape]: ...

    def forward(self, input, hx=None, *, lengths=None, reset=None, return_cells=False):
        """Run the network for training: with dropout, and a tape for `backward`.

        Parameters
        ----------
        input, hx, lengths, reset, return_cells
            As in a call. `input` is not copied: leave it unchanged until the backward pass.

        Returns
        -------
        output : ndarray or PackedSequence
        h_n, c_n : pair of ndarray
        cells : ndarray or PackedSequence, with `return_cells`
        tape : Tape
            To be given to `backward`, once.

        Raises
        ------
        ValueError, TypeError
            As of `RNN`.
        """
        output, state, cells, tape = self._train(input, hx, lengths, reset, boolean("return_cells", return_cells))
        return (output, state, cells, tape) if return_cells else (output, state, tape)

    def backward(self, tape: Tape, d_output: ArrayLike | PackedSequence | None = None,
                 d_hx: tuple[ArrayLike | None, ArrayLike | None] | None = None,
                 d_cells: ArrayLike | PackedSequence | None = None, *, into: Gradients | None = None) -> Gradients:
        """Backpropagation through time: gradients of any loss on `output`, `h_n`, `c_n` and `cells`.

        Parameters
        ----------
        tape, d_output, into
            As of `RNN`.
        d_hx : pair of array_like, shaped like (h_n, c_n), optional
            Either of them may be None.
        d_cells : array_like or PackedSequence, shaped like `cells`, optional
            Gradient of the loss with respect to `cells`; zeros if None.

        Returns
        -------
        Gradients
            `hx` is a pair.

        Raises
        ------
        RuntimeError, ValueError, TypeError
            As of `RNN`.
        """
        return self._through(tape, into, d_output, d_hx, d_cells)


class GRU(Recurrent):
    r"""Gated recurrent unit over whole sequences, with the arguments and shapes of `torch.nn.GRU`.

    Every layer computes, for each step t (Cho et al. 2014; with the reset gate behind the product, as in torch and
    cuDNN)::

        r_t = sigmoid(x_t W_ir^T + b_ir + h_{t-1} W_hr^T + b_hr)
        z_t = sigmoid(x_t W_iz^T + b_iz + h_{t-1} W_hz^T + b_hz)
        n_t =    tanh(x_t W_in^T + b_in + r_t (h_{t-1} W_hn^T + b_hn))
        h_t = (1 - z_t) n_t + z_t h_{t-1}

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype, rng
        As of `RNN`.
    reset_after : bool
        False: the original form, n_t = tanh(x_t W_in^T + b_in + (r_t h_{t-1}) W_hn^T + b_hn), which ONNX calls
        linear_before_reset=0. At most a tenth slower on one thread.

    Attributes
    ----------
    params : Parameters
        ``weight_ih_l{k}`` (3 * hidden_size, features), ``weight_hh_l{k}`` (3 * hidden_size, hidden_size),
        ``bias_ih_l{k}``, ``bias_hh_l{k}`` (3 * hidden_size,), each the gates r, z, n one below the other.

    Notes
    -----
    Shapes are those of `RNN`.

    Backward, dh_t what reaches h_t from above and from the step after, and u_t = h_{t-1} W_hn^T + b_hn::

        dn_t = dh_t (1 - z_t) (1 - n_t^2),   dz_t = dh_t (h_{t-1} - n_t) z_t (1 - z_t)
        du_t = dn_t r_t,                     dr_t = dn_t u_t r_t (1 - r_t)
        dx_t = (dr_t, dz_t, dn_t) W_ih,      dh_t z_t + (dr_t, dz_t, du_t) W_hh to h_{t-1}

    The gradients of W_ih, b_ih are sums of products as of `RNN` with (dr, dz, dn), those of W_hh, b_hh with
    (dr, dz, du). In the original form du_t = dn_t; q_t = dn_t W_hn takes the place of dn_t u_t with h_{t-1}:
    dr_t = q_t h_{t-1} r_t (1 - r_t), q_t r_t goes to h_{t-1}, and dW_hn = sum_t dn_t^T (r_t h_{t-1}).

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> gru = fastrnn.GRU(4, 2, rng=0)
    >>> output, h_n = gru(np.zeros((3, 1, 4), np.float32))
    >>> output.shape, h_n.shape
    ((3, 1, 2), (1, 1, 2))
    """

    _gates = 3
    _defaults = Recurrent._defaults | {"reset_after": True}

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
                 device: str | None = None, dtype: DTypeLike | None = None, *, reset_after: bool = True,
                 rng: Rng = None) -> None:
        self.reset_after = boolean("reset_after", reset_after)
        self._cell = "GRU" if reset_after else "GRU, reset before"
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype,
                         rng)
