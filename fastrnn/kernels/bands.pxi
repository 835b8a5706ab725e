# Going forward, workers that do not meet in every step take the rows as they come.
#
# A worker's rows are cut in two bands, which it takes in turn, a chunk of steps at a time. When it is through with both
# it takes over one of another's: the slower of two cores, which a neighbour uses too, say, or which is of the smaller
# kind, then has one left to do where it had two. What a band has come to lies where the results do.

cdef extern from "atomics.h" nogil:
    int atomic_get(int* p)
    void atomic_set(int* p, int value)
    int atomic_swap(int* p, int value)


cdef enum:
    BAND_ROWS = 12  # fewer, and their tiles wait for weights from the second-level cache


cdef struct Band:
    # rows of a direction that go through time together
    int taken
    int chunks           # done; INT_MAX when all are
    int direction
    Py_ssize_t b         # rows b .. b + M - 1
    Py_ssize_t M
    Py_ssize_t first     # the next step
    char apart[64]       # from the next one's cache line


cdef inline bint deals_bands(const Sweep* s) noexcept nogil:
    return s.members == 1 and s.workers > 1


cdef int bands_of_each(const Sweep* s) noexcept nogil:
    """How many a worker has to begin with: two, unless they would have too few rows."""
    cdef Py_ssize_t rows = (s.B + s.groups - 1) // s.groups
    return <int>max(2 if s.B // (2 * s.groups) >= BAND_ROWS else 1, (rows + FORWARD_BATCH - 1) // FORWARD_BATCH)


cdef Py_ssize_t memory_of_bands(const Sweep* s) noexcept nogil:
    """Numbers of workspace for all bands."""
    if not deals_bands(s):
        return 0
    return s.workers * bands_of_each(s) * <Py_ssize_t>(sizeof(Band) // sizeof(real))


cdef void deal_bands(Sweep* s) noexcept nogil:
    """To workers that do not meet: each one's are next to each other, behind all workspace."""
    cdef Band* band
    cdef int i, k, n
    s.bands = NULL
    if not deals_bands(s):
        return
    s.of_each = bands_of_each(s)
    s.bands = <Band*>(s.workspace + s.workers * s.workspace_size)
    n = s.groups * s.of_each
    for i in range(s.directions):
        for k in range(n):
            band = &s.bands[i * n + k]
            band.taken = band.chunks = 0
            band.direction = i
            band.b = first_row(s, k, n)
            band.M = first_row(s, k + 1, n) - band.b
            band.first = 0


cdef Band* least_done(const Sweep* s, int start, int end) noexcept nogil:
    """Of bands start .. end - 1 that nobody has; taken. NULL if there is none."""
    cdef Band* best
    cdef int k, chunks, least
    while True:
        best, least = NULL, INT_MAX
        for k in range(start, end):
            chunks = atomic_get(&s.bands[k].chunks)
            if chunks < least and not atomic_get(&s.bands[k].taken):
                best, least = &s.bands[k], chunks
        if best == NULL:
            return NULL
        if not atomic_swap(&best.taken, 1):
            if best.chunks < INT_MAX:
                return best
            atomic_set(&best.taken, 0)


cdef Band* next_band(const Sweep* s, int worker) noexcept nogil:
    """One of the worker's own, two at a time; then one that others have not come to."""
    cdef Band* found = NULL
    cdef int k = worker * s.of_each, end = k + s.of_each
    while k < end and found == NULL:
        found = least_done(s, k, min(end, k + 2))
        k += 2
    return found if found != NULL else least_done(s, 0, s.workers * s.of_each)
