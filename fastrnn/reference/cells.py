"""One step of each cell, forward and back: equations (R1) to (P5)."""

from typing import NamedTuple

import numpy as np

__all__ = ["GRU", "LSTM", "RNN", "Weights"]


class Weights(NamedTuple):
    """The parameters of one direction of a layer, or their gradients; all but the first two may be missing."""

    w_ih: np.ndarray  # (gates * H, I)
    w_hh: np.ndarray  # (gates * H, P)
    b_ih: np.ndarray | None = None  # (gates * H,)
    b_hh: np.ndarray | None = None
    w_hr: np.ndarray | None = None  # (P, H)
    p: np.ndarray | None = None  # (3 * H,), peepholes of the gates i, f, o


def sigmoid(z):
    """Logistic function of each element."""
    with np.errstate(over="ignore"):  # exp(-z) = inf is right: its reciprocal is the limit, 0
        return 1 / (1 + np.exp(-z))


# Functions, and their derivatives by the value h = f(z). As in torch, relu(NaN) is NaN and lets the gradient
# through. "linear" is for tests: with integer data it makes every result exact.
NONLINEARITIES = {
    "tanh": (np.tanh, lambda h: 1 - h * h),
    "relu": (lambda z: np.maximum(z, 0), lambda h: np.where(h <= 0, 0, 1).astype(h.dtype)),
    "sigmoid": (sigmoid, lambda h: h * (1 - h)),
    "linear": (lambda z: z, np.ones_like),
}


def product(x, weight, bias):
    """x W^T + b, where there is a b."""
    return x @ weight.T + (0 if bias is None else bias)


def add(total, value):
    """Add to the gradient of a parameter, if there is such a parameter."""
    if total is not None:
        total += value


def products_backward(x, h, dz, dy, w, d_w):
    """Gradients of the two products of a step.

    Parameters
    ----------
    x, h : ndarray, shapes (B, I) and (B, P)
    dz, dy : ndarray, shape (B, gates * H)
        Gradients of x W_ih^T + b_ih and of h W_hh^T + b_hh.
    w, d_w : Weights
        The latter is added to.

    Returns
    -------
    dx, dh : ndarray
    """
    add(d_w.w_ih, dz.T @ x)  # (P3)
    add(d_w.w_hh, dy.T @ h)  # (P4)
    add(d_w.b_ih, dz.sum(axis=0))  # (P5)
    add(d_w.b_hh, dy.sum(axis=0))
    return dz @ w.w_ih, dy @ w.w_hh  # (P1), (P2)


class RNN:
    """Elman network.

    Parameters
    ----------
    nonlinearity : {"tanh", "relu", "sigmoid", "linear"}
        The function f; "linear" is the identity, for tests.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> (h,), saved = RNN("linear").step(one, (2 * one,), Weights(one, one))
    >>> h
    array([[3.]])
    """

    gates = 1

    def __init__(self, nonlinearity="tanh"):
        self.f, self.derivative = NONLINEARITIES[nonlinearity]

    def step(self, x, state, w):
        """One step.

        Parameters
        ----------
        x : ndarray, shape (B, I)
        state : tuple of ndarray
            Before the step.
        w : Weights

        Returns
        -------
        state : tuple of ndarray
            After the step.
        saved : tuple of ndarray
            What `step_backward` needs.
        """
        z = product(x, w.w_ih, w.b_ih) + product(state[0], w.w_hh, w.b_hh)  # (R1)
        h = self.f(z)  # (R2)
        return (h,), (h,)

    def step_backward(self, x, state, saved, d_state, w, d_w):
        """Gradients of `step`.

        Parameters
        ----------
        x, state, w
            What `step` took.
        saved
            What it gave.
        d_state : tuple of ndarray
            Gradient of the state after the step.
        d_w : Weights
            Gradients of the parameters, to which this step's are added.

        Returns
        -------
        dx : ndarray, shape (B, I)
        d_state : tuple of ndarray
            Gradient of the state before the step.
        """
        dz = d_state[0] * self.derivative(saved[0])  # (R3)
        dx, dh = products_backward(x, state[0], dz, dz, w, d_w)
        return dx, (dh,)


class LSTM:
    """Long short-term memory, with projection and peepholes where the weights have them. The methods are as of `RNN`.

    Parameters
    ----------
    linear : bool
        True: the identity in place of tanh and sigmoid, for tests.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> (h, c), saved = LSTM(linear=True).step(one, (one, one), Weights(np.ones((4, 1)), np.ones((4, 1))))
    >>> h, c
    (array([[12.]]), array([[6.]]))
    """

    gates = 4

    def __init__(self, linear=False):
        self.s, self.s_slope = NONLINEARITIES["linear" if linear else "sigmoid"]
        self.tanh, self.tanh_slope = NONLINEARITIES["linear" if linear else "tanh"]

    def step(self, x, state, w):
        """As of `RNN`."""
        h, c = state
        z = product(x, w.w_ih, w.b_ih) + product(h, w.w_hh, w.b_hh)  # (L1)
        i, f, g, o = np.split(z, 4, axis=1)
        if w.p is not None:
            p_i, p_f, p_o = np.split(w.p, 3)
            i, f = i + p_i * c, f + p_f * c  # (L10)
        i, f, g = self.s(i), self.s(f), self.tanh(g)  # (L2)
        c = f * c + i * g  # (L3)
        o = self.s(o if w.p is None else o + p_o * c)  # (L2), (L11)
        m = o * self.tanh(c)  # (L4)
        h = m if w.w_hr is None else m @ w.w_hr.T  # (L5)
        return (h, c), (i, f, g, o, c, m)

    def step_backward(self, x, state, saved, d_state, w, d_w):
        """As of `RNN`."""
        (h, c_prev), (dh, dc), (i, f, g, o, c, m) = state, d_state, saved
        dm = dh if w.w_hr is None else dh @ w.w_hr  # (L6)
        add(d_w.w_hr, dh.T @ m)
        tanh_c = self.tanh(c)
        dc = dc + dm * o * self.tanh_slope(tanh_c)  # (L7)
        do = dm * tanh_c * self.s_slope(o)
        if w.p is not None:
            p_i, p_f, p_o = np.split(w.p, 3)
            dc = dc + do * p_o  # (L12)
        di, df, dg = dc * g * self.s_slope(i), dc * c_prev * self.s_slope(f), dc * i * self.tanh_slope(g)
        dz = np.concatenate([di, df, dg, do], axis=1)  # (L8)
        d_before = dc * f  # (L9)
        if w.p is not None:
            d_before = d_before + di * p_i + df * p_f  # (L13)
            add(d_w.p, np.concatenate([(di * c_prev).sum(axis=0), (df * c_prev).sum(axis=0),
                                       (do * c).sum(axis=0)]))  # (L14)
        dx, dh = products_backward(x, h, dz, dz, w, d_w)
        return dx, (dh, d_before)


class GRU:
    """Gated recurrent unit. The methods are as of `RNN`.

    Parameters
    ----------
    reset_after : bool
        Whether the reset gate acts behind the recurrent product, or before it.
    linear : bool
        True: the identity in place of tanh and sigmoid, for tests.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> (h,), saved = GRU(linear=True).step(one, (2 * one,), Weights(np.ones((3, 1)), np.ones((3, 1))))
    >>> h  # r and u are 3, n is 1 + 3 * 2
    array([[-8.]])
    """

    gates = 3

    def __init__(self, reset_after=True, linear=False):
        self.reset_after = reset_after
        self.s, self.s_slope = NONLINEARITIES["linear" if linear else "sigmoid"]
        self.tanh, self.tanh_slope = NONLINEARITIES["linear" if linear else "tanh"]

    def step(self, x, state, w):
        """As of `RNN`."""
        (h,), H = state, w.w_hh.shape[1]
        z, y = product(x, w.w_ih, w.b_ih), product(h, w.w_hh, w.b_hh)  # (G1)
        (z_r, z_u, z_n), (y_r, y_u, y_n) = np.split(z, 3, axis=1), np.split(y, 3, axis=1)
        r, u = self.s(z_r + y_r), self.s(z_u + y_u)  # (G2)
        if self.reset_after:
            n = self.tanh(z_n + r * y_n)  # (G3)
        else:
            n = self.tanh(z_n + product(r * h, w.w_hh[2 * H :], None if w.b_hh is None else w.b_hh[2 * H :]))  # (G8)
        return ((1 - u) * n + u * h,), (r, u, n, y_n)  # (G4)

    def step_backward(self, x, state, saved, d_state, w, d_w):
        """As of `RNN`."""
        (h,), (dh,), (r, u, n, y_n) = state, d_state, saved
        dn = dh * (1 - u) * self.tanh_slope(n)  # (G5)
        du = dh * (h - n) * self.s_slope(u)
        if not self.reset_after:
            return self._reset_before_backward(x, h, r, dh * u, dn, du, w, d_w)
        dr = dn * y_n * self.s_slope(r)  # (G6)
        dz, dy = np.concatenate([dr, du, dn], axis=1), np.concatenate([dr, du, dn * r], axis=1)  # (G7)
        dx, d_before = products_backward(x, h, dz, dy, w, d_w)
        return dx, (d_before + dh * u,)

    def _reset_before_backward(self, x, h, r, dh, dn, du, w, d_w):
        H = h.shape[1]
        q = dn @ w.w_hh[2 * H :]  # (G9)
        dr = q * h * self.s_slope(r)
        dz = np.concatenate([dr, du, dn], axis=1)
        add(d_w.w_ih, dz.T @ x)  # (P3)
        add(d_w.w_hh, np.concatenate([dz[:, : 2 * H].T @ h, dn.T @ (r * h)]))  # (P4)
        add(d_w.b_ih, dz.sum(axis=0))  # (P5)
        add(d_w.b_hh, dz.sum(axis=0))
        return dz @ w.w_ih, (dh + dz[:, : 2 * H] @ w.w_hh[: 2 * H] + q * r,)  # (P1), (P2)
