# Going forward, workers that do not meet in every step take the rows as they come.
#
# A worker's rows are cut in two stretches, which it takes in turn, a chunk of steps at a time. When it is through with
# both it takes over one of another's: the slower of two cores, which a neighbour uses too, say, or which is of the
# smaller kind, then has one left to do where it had two. What a stretch has come to lies where the results do.

# Rows of a stretch at least, where a worker's are cut in two: fewer would wait for weights from the second-level cache.
cdef Py_ssize_t LEAST_ROWS = 8 if TILE_VECTORS < FETCHING_VECTORS else 16  # 8 measured with AVX2, 16 a guess


cdef struct Stretch:
    # rows of a direction that go through time together
    int taken
    int chunks           # done; INT_MAX when all are
    int direction
    Py_ssize_t b         # rows b .. b + M - 1
    Py_ssize_t M
    Py_ssize_t first     # the next step
    char apart[64]       # from the next one's cache line


cdef inline bint deals_stretches(const Sweep* s) noexcept nogil:
    return s.members == 1 and s.workers > 1


cdef int stretches_of_each(const Sweep* s) noexcept nogil:
    """How many a worker has to begin with."""
    cdef Py_ssize_t rows = (s.B + s.groups - 1) // s.groups
    return <int>max(2 if s.B // (2 * s.groups) >= LEAST_ROWS else 1, (rows + FORWARD_BATCH - 1) // FORWARD_BATCH)


cdef Py_ssize_t memory_of_stretches(const Sweep* s) noexcept nogil:
    """So many numbers."""
    if not deals_stretches(s):
        return 0
    return s.workers * stretches_of_each(s) * <Py_ssize_t>(sizeof(Stretch) // sizeof(real))


cdef void deal_stretches(Sweep* s) noexcept nogil:
    """To workers that do not meet: each one's are next to each other, behind all workspace."""
    cdef Stretch* stretch
    cdef int i, k, n
    s.stretches = NULL
    if not deals_stretches(s):
        return
    s.of_each = stretches_of_each(s)
    s.stretches = <Stretch*>(s.workspace + s.workers * s.workspace_size)
    n = s.groups * s.of_each
    for i in range(s.directions):
        for k in range(n):
            stretch = &s.stretches[i * n + k]
            stretch.taken = stretch.chunks = 0
            stretch.direction = i
            stretch.b = first_row(s, k, n)
            stretch.M = first_row(s, k + 1, n) - stretch.b
            stretch.first = 0


cdef Stretch* least_done(const Sweep* s, int start, int end) noexcept nogil:
    """Of stretches start .. end - 1 that nobody has; taken. NULL if there is none."""
    cdef Stretch* best
    cdef int k, chunks, least
    while True:
        best, least = NULL, INT_MAX
        for k in range(start, end):
            chunks = see(&s.stretches[k].chunks)
            if chunks < least and not see(&s.stretches[k].taken):
                best, least = &s.stretches[k], chunks
        if best == NULL:
            return NULL
        if take(&best.taken):
            if best.chunks < INT_MAX:
                return best
            give_back(&best.taken)


cdef Stretch* next_stretch(const Sweep* s, int worker) noexcept nogil:
    """One of the worker's own, two at a time; then one that others have not come to."""
    cdef Stretch* found = NULL
    cdef int k = worker * s.of_each, end = k + s.of_each
    while k < end and found == NULL:
        found = least_done(s, k, min(end, k + 2))
        k += 2
    return found if found != NULL else least_done(s, 0, s.workers * s.of_each)
