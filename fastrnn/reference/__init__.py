"""Every equation of the package in plain NumPy: the definition that the kernels are held to.

Slow, and meant to be read: an explicit loop over time, one line an equation, no validation, and nothing
imported from the rest of the package. All work in the dtype that they are given, float32 or float64.

Dimensions: `T` steps, `B` sequences, `I` inputs, `H` hidden units, `P` features of the state h (H, unless an LSTM
projects it), `D` directions, `O` outputs, `C` classes. Arrays are time-major, `(T, B, ...)`. Weights have the shapes,
names and gate order of torch.nn: `w_ih` is `(gates * H, I)`, `w_hh` is `(gates * H, P)`. In the reverse direction read
t+1 for t-1. States are tuples: (h,), and (h, c) of an LSTM.

dy is the gradient of the loss with respect to y (back-propagation through time; Werbos 1990, Proc. IEEE 78(10)); what
a step gets from the one after it, or the last step from the final state, is included in dh[t] and dc[t]. s is the
sigmoid 1 / (1 + exp(-z)).

Elman network (Elman 1990; the documentation of torch.nn.RNN)::

    (R1)  z[t] = x[t] W_ih^T + b_ih + h[t-1] W_hh^T + b_hh
    (R2)  h[t] = f(z[t])                            f one of tanh, relu, sigmoid, linear
    (R3)  dz[t] = dh[t] * f'(z[t])                  f' expressed by h[t] = f(z[t])

Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate of Gers et al. 2000; projection of Sak et al. 2014)::

    (L1)  z[t] = x[t] W_ih^T + b_ih + h[t-1] W_hh^T + b_hh
    (L2)  i, f, g, o = s(z_i), s(z_f), tanh(z_g), s(z_o)
    (L3)  c[t] = f * c[t-1] + i * g
    (L4)  m[t] = o * tanh(c[t])
    (L5)  h[t] = m[t], or with a projection m[t] W_hr^T
    (L6)  dm[t] = dh[t], or dh[t] W_hr;             dW_hr = sum over t of dh[t]^T m[t]
    (L7)  dc[t] gets dm[t] * o * (1 - tanh(c[t])^2) besides
    (L8)  dz[t] = dc * g * i(1-i), dc * c[t-1] * f(1-f), dc * i * (1 - g^2), dm * tanh(c[t]) * o(1-o)
    (L9)  dc[t-1] = dc[t] * f

and with peepholes p, by which gates see c (Gers, Schraudolph & Schmidhuber 2002, JMLR 3)::

    (L10) z_i, z_f get p_i * c[t-1], p_f * c[t-1] besides
    (L11) z_o gets p_o * c[t] besides
    (L12) dc[t] gets dz_o * p_o besides, before (L8) of the others
    (L13) dc[t-1] gets dz_i * p_i + dz_f * p_f besides
    (L14) dp_i, dp_f, dp_o = sums over t and the batch of dz_i * c[t-1], dz_f * c[t-1], dz_o * c[t]

Gated recurrent unit (Cho et al. 2014), reset after the product as in torch and cuDNN; u is torch's z, and z, y are what
input and state contribute::

    (G1)  z[t] = x[t] W_ih^T + b_ih,  y[t] = h[t-1] W_hh^T + b_hh
    (G2)  r, u = s(z_r + y_r), s(z_u + y_u)
    (G3)  n = tanh(z_n + r * y_n)
    (G4)  h[t] = (1 - u) * n + u * h[t-1]
    (G5)  dn = dh[t] * (1 - u) * (1 - n^2),  du = dh[t] * (h[t-1] - n) * u(1-u)
    (G6)  dr = dn * y_n * r(1-r)
    (G7)  dz[t] = dr, du, dn;                       dy[t] = dr, du, dn * r;   dh[t-1] gets dh[t] * u besides

or reset before it, the original form, ONNX's linear_before_reset=0::

    (G8)  y_n = (r * h[t-1]) W_hn^T + b_hn,  n = tanh(z_n + y_n)
    (G9)  q = dn W_hn;  dr = q * h[t-1] * r(1-r);   dy[t] = dz[t];            dh[t-1] gets q * r besides

The products of all cells, dy being dz but for the GRU that resets after::

    (P1)  dx[t] = dz[t] W_ih
    (P2)  dh[t-1] = dy[t] W_hh
    (P3)  dW_ih = sum over t of dz[t]^T x[t]
    (P4)  dW_hh = sum over t of dy[t]^T h[t-1]      with (G8) the rows of n: dn[t]^T (r * h[t-1])
    (P5)  db_ih, db_hh = sums over t and the batch of dz[t], dy[t]

Sequences: a row of length l has the steps 0 to l-1, behind which outputs are 0; the final state is that of its last
step, and the reverse direction starts there. A reset at t parts a row between t-1 and t: what goes on there, in
either direction, goes on from a state of zeros, and no gradient passes.

Linear layer::

    (Y1)  y  = x W^T + b
    (Y2)  dx = dy W
    (Y3)  dW = sum over the leading dimensions of dy^T x
    (Y4)  db = sum over the leading dimensions of dy

Softmax and losses, n the number of terms of the mean::

    (S1)  p = exp(x - max x) / sum exp(x - max x)
    (S2)  cross entropy = -(1/n) sum log p[target]  dx = (p - onehot(target)) / n
    (S3)  squared error = (1/n) sum (x - target)^2  dx = 2 (x - target) / n
"""

from fastrnn.reference.cells import GRU, LSTM, RNN, Weights
from fastrnn.reference.readout import cross_entropy, linear, linear_backward, mse, softmax
from fastrnn.reference.sequences import layer, layer_backward, stack, stack_backward

__all__ = ["GRU", "LSTM", "RNN", "Weights", "cross_entropy", "layer", "layer_backward", "linear", "linear_backward",
           "mse", "softmax", "stack", "stack_backward"]
