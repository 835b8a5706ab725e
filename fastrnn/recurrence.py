"""One layer's pass through the kernels, for `layers` and `cells`: packing, empty sequences, both directions."""

import numpy as np

from fastrnn.threads import get_num_threads

__all__ = ["backward", "forward", "pack"]


def pack(engine, parameters):
    """Packed weights of a layer from (w_ih, w_hh, b_ih, b_hh) of each direction in turn; biases may be None."""
    packed = []
    for w_ih, w_hh, b_ih, b_hh in zip(*[iter(parameters)] * 4, strict=True):
        packed += [engine.Affine(w_ih, None if b_ih is None else b_ih + b_hh), engine.Affine(w_hh)]
    return tuple(packed)


def forward(engine, packed, activation, x, h0, output, h_n):
    """Write output (T, B, D * H) and h_n (D, B, H) of a layer over x (T, B, I) from h0 (D, B, H)."""
    if output.size:
        engine.rnn_forward(packed, activation, x, h0, output, h_n, get_num_threads())
    else:
        h_n[...] = h0


def backward(engine, packed, activation, x, h0, output, d_output, d_h_n, d_h0, gradients):
    """Back through `forward`: write d_h0, add to gradients (as `pack` takes them), return the gradient of x."""
    if not output.size:
        d_h0[...] = 0 if d_h_n is None else d_h_n
        return np.zeros(x.shape, x.dtype)
    d_x = np.empty((len(h0), *x.shape), x.dtype)  # the directions run side by side, each into its own
    engine.rnn_backward(packed, activation, x, h0, output, d_output, d_h_n, d_x, d_h0, gradients, get_num_threads())
    if len(d_x) == 2:
        d_x[0] += d_x[1]
    return d_x[0]
