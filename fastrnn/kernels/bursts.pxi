# Small calls: they are over before a sleeping worker would have woken, so they are shared with those that are awake.
# In a burst of them the workers are woken for the calls to come, and spin from one to the next. A worker that loses its
# processor to somebody else meanwhile costs the call milliseconds: small calls are then done alone for many times as
# long, so that on a machine whose processors are all in use they lose a few per cent at most.

cdef extern from "clock.h" nogil:
    long long nanoseconds()

cdef enum:
    CLOSE = 40000           # nanoseconds from one small call to the next in a burst
    CALLS_OF_A_BURST = 16   # before workers are woken
    ALONE = 32              # times as long as the call took that waited for a processor: none is shared

cdef bint small = False         # the call that has the pool
cdef int burst = 0              # small calls that followed each other closely
cdef long long small_call = 0   # when the last one began
cdef long long alone_until = 0


cdef int workers_awake(int wanted) noexcept nogil:
    """A small call begins: how many of so many, the caller included, are awake."""
    global burst, small_call
    cdef long long now = nanoseconds()
    cdef int i, awake = 1
    burst = min(burst + 1, CALLS_OF_A_BURST) if now - small_call < CLOSE else 0
    small_call = now
    if now < alone_until:
        return 1
    if burst == CALLS_OF_A_BURST:
        hire(wanted)
    wanted = min(wanted, workers_alive + 1)
    while awake < wanted and not atomic_get(&mailboxes[awake - 1].asleep):
        awake += 1
    if burst == CALLS_OF_A_BURST:
        for i in range(awake - 1, wanted - 1):
            rouse(mailboxes[i])
    return awake


cdef void partner_was_away() noexcept nogil:
    """The caller has waited for a worker that had lost its processor."""
    global alone_until
    cdef long long now
    if small:
        now = nanoseconds()
        alone_until = now + ALONE * (now - small_call)
