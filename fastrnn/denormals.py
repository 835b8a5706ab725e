"""Subnormal numbers as zero."""

from fastrnn import arguments
from fastrnn.kernels import pool

__all__ = ["set_flush_denormal"]


def set_flush_denormal(mode: bool) -> bool:
    """Let the calling thread take subnormal (denormal) numbers for zero, as operands and as results.

    Those are below 1.2e-38 in float32 and below 2.2e-308 in float64. Some processors take over a hundred cycles for an
    operation with one, so that input fading into silence, or a gradient that vanishes on its way back, can cost many
    times what other numbers do.

    As `torch.set_flush_denormal` does, it sets the mode of the thread that calls it, which NumPy and all else in that
    thread follow, and threads that are started by it later. The kernels compute on all their threads in the mode of the
    thread that calls them, whoever has set it: results do not depend on the number of threads. The default is off.

    Parameters
    ----------
    mode : bool
        Whether to.

    Returns
    -------
    bool
        Whether this processor is known to have such a mode (x86-64 and aarch64 do); if not, nothing was changed.

    Raises
    ------
    TypeError
        Anything but a bool.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> fastrnn.set_flush_denormal(True)
    True
    >>> print(np.float32(1e-38) * np.float32(0.5))
    0.0
    >>> fastrnn.set_flush_denormal(False)
    True
    >>> print(np.float32(1e-38) * np.float32(0.5))
    5e-39
    """
    return pool.set_flush_denormal(arguments.boolean("mode", mode))
