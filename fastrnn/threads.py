"""How many threads the kernels may use."""

import os

__all__ = ["get_num_threads", "set_num_threads"]


def _from_environment():
    for name in ("FASTRNN_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name, "").split(",")[0].strip()
        if text:
            if not text.isdecimal() or int(text) < 1:
                raise ValueError(f"{name}: expected a positive integer, got {text!r}")
            return int(text), f"set by {name}"
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)), "the processors that this process may use"
    return os.cpu_count() or 1, "the processors of this machine"


_number, _reason = _from_environment()


def get_num_threads():
    """Most threads that one call may use.

    Examples
    --------
    >>> import fastrnn
    >>> fastrnn.set_num_threads(1)
    >>> fastrnn.get_num_threads()
    1
    """
    return _number


def set_num_threads(n):
    """Let a call use up to `n` threads, in the whole process; results do not depend on it.

    The default is `FASTRNN_NUM_THREADS`, else `OMP_NUM_THREADS`, else the processors this process may use.
    A call uses fewer where its work is too small to share, and one while another call has the threads.

    Parameters
    ----------
    n : int
        At least 1.
    """
    global _number, _reason
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"n: expected an int, got {type(n).__name__}")
    if n < 1:
        raise ValueError(f"n: expected at least 1, got {n}")
    _number, _reason = n, "set by set_num_threads"


def reason():
    """Where the number comes from."""
    return _reason
