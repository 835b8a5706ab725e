"""How many threads the kernels may use."""

import functools
import os

__all__ = ["get_num_threads", "register_threadpoolctl", "set_num_threads"]

MOST = 2**31 - 1  # that the kernels can be told


def _from_environment():
    for name in ("FASTRNN_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name, "").split(",")[0].strip()
        if text:
            if not text.isdecimal() or not 1 <= int(text) <= MOST:
                raise ValueError(f"{name}: expected a positive integer, got {text!r}")
            return int(text), f"set by {name}"
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)), "the processors that this process may use"
    return os.cpu_count() or 1, "the processors of this machine"


_number, _reason = _from_environment()


def get_num_threads() -> int:
    """Most threads that one call may use.

    Examples
    --------
    >>> import fastrnn
    >>> fastrnn.set_num_threads(1)
    >>> fastrnn.get_num_threads()
    1
    """
    return _number


def set_num_threads(n: int) -> None:
    """Let a call use up to `n` threads, in the whole process; results do not depend on it.

    The default is `FASTRNN_NUM_THREADS`, else `OMP_NUM_THREADS`, else the processors this process may use.
    A call uses fewer where its work is too small to share, and one while another call has the threads.

    Parameters
    ----------
    n : int
        At least 1.

    Raises
    ------
    ValueError, TypeError
        Anything else.
    """
    global _number, _reason
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"n: expected an int, got {type(n).__name__}")
    if not 1 <= n <= MOST:
        raise ValueError(f"n: expected from 1 to {MOST}, got {n}")
    _number, _reason = n, "set by set_num_threads"


@functools.cache
def register_threadpoolctl() -> None:
    """Let the package threadpoolctl see and limit the kernels' threads, under the name "fastrnn".

    Examples
    --------
    >>> import fastrnn.threads, threadpoolctl
    >>> fastrnn.threads.register_threadpoolctl()
    >>> with threadpoolctl.threadpool_limits(1, user_api="fastrnn"):
    ...     fastrnn.get_num_threads()
    1
    """
    from threadpoolctl import LibController, register

    class Controller(LibController):
        user_api = internal_api = "fastrnn"
        filename_prefixes = ("pool.",)
        check_symbols = ("fastrnn_pool",)

        def get_num_threads(self):
            return get_num_threads()

        def set_num_threads(self, num_threads):
            set_num_threads(num_threads)

        def get_version(self):
            return None  # that of the package

    register(Controller)


def reason():
    """Where the number comes from."""
    return _reason
