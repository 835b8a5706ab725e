# Ctrl-C during a long call. Python runs the handlers of signals in its main thread, and there between its own
# instructions alone, so a kernel that takes seconds lets them in itself: the calling thread looks at the clock between
# two chunks of its work, and every LOOK_EVERY takes the GIL and asks Python. If a handler raises, as that of Ctrl-C
# does, all threads leave, and the call ends with what was raised. A call of one chunk never reads the clock.

cdef extern from "clock.h" nogil:
    long long nanoseconds()

cdef extern from * nogil:
    """
    /* What they raise stays set in the thread, which has released the GIL and will go on with it. */
    static int handlers_raise(void) {
        PyGILState_STATE state = PyGILState_Ensure();
        int raised = PyErr_CheckSignals() != 0;
        PyGILState_Release(state);
        return raised;
    }
    """
    int handlers_raise()

cdef enum:
    LOOK_EVERY = 100000000  # nanoseconds


cdef void look_for_signals(Interrupt* interrupt) noexcept nogil:
    """By the calling thread, between two chunks."""
    cdef long long now = nanoseconds()
    if interrupt.next_look == 0:
        interrupt.next_look = now + LOOK_EVERY
    elif now >= interrupt.next_look and not interrupt.raised:
        atomic_set(&interrupt.raised, handlers_raise())
        interrupt.next_look = nanoseconds() + LOOK_EVERY


cdef bint leaves(Interrupt* interrupt, const Barrier* barrier, int worker, int chunk) noexcept nogil:
    """Whether a worker is to leave instead of doing its chunk of that number.

    Workers that meet in every chunk at a barrier (else NULL) have to leave behind the same one: the first of them names
    it when it begins with it, which all others see when they are through, having met it in between.
    """
    cdef bint raised = atomic_get(&interrupt.raised)
    cdef int* last_chunk
    if barrier == NULL or barrier.size <= 1:
        return raised
    last_chunk = &seats[barrier.first].last_chunk[barrier.level]
    if raised and worker == barrier.first and chunk < last_chunk[0]:
        atomic_set(last_chunk, chunk)
    return chunk > atomic_get(last_chunk)


cdef int pass_on(const Interrupt* interrupt) except -1:
    """Raise what a handler has raised, now that all threads have left."""
    return -1 if interrupt.raised else 0
