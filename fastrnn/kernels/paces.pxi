# The slowest of the workers that meet sets the time of all: one whose core is of the smaller kind, say, or has a busy
# sibling. So their shares follow their pace, of the units where they share these, and going back of the rows where they
# share those (forward these have bands): each measures how long it works at a step, without waiting, and for every
# chunk all is divided anew. Of a chunk's steps the shortest counts. A core that is given to another process now and
# then is as fast as ever in between, when all are at work; if its worker had less to do those steps would take longer.
# No bit depends on who computes what.

cdef extern from "clock.h" nogil:
    long long nanoseconds()

# Of a step that is long enough to be timed:
cdef double FLOPS_SHARED_BY_UNITS = 2e7  # some 100 us of two workers
cdef double FLOPS_SHARED_BY_ROWS = 2e6


cdef struct Pace:
    # of a worker; in two places, since others may still look at the last chunk's when it is in the next
    Py_ssize_t own[2]     # panels of units, or rows, in a chunk
    double shortest[2]    # step's work, in nanoseconds
    long long began       # to work, this time
    int place             # of the present chunk
    char apart[80]        # from the next one's, and from the line that is fetched along with it


cdef inline bint paced(const Sweep* s) noexcept nogil:
    """Whether shares follow the pace; not where workers divide rows of dW, too, which takes equal ones."""
    if s.members > 1:
        return s.row_parts <= 1 and not s.cell.second and s.B * step_flops(s) > FLOPS_SHARED_BY_UNITS
    return s.row_parts == 1 and s.groups > 1 and s.lengths == NULL and s.B * step_flops(s) > FLOPS_SHARED_BY_ROWS


cdef Py_ssize_t memory_of_paces(const Sweep* s) noexcept nogil:
    """Numbers of workspace for all workers'."""
    return s.workers * <Py_ssize_t>(sizeof(Pace) // sizeof(real)) if paced(s) else 0


cdef void keep_paces(Sweep* s) noexcept nogil:
    """Behind all workspace, or not at all."""
    s.paces = <Pace*>(s.workspace + s.workers * s.workspace_size) if paced(s) else NULL


cdef inline double pace_of(const Pace* pace, int place) noexcept nogil:
    return pace.own[place] / pace.shortest[place]


cdef void divide_by_pace(const Sweep* s, Share* share, int place) noexcept nogil:
    """A quarter of the way from the shares that workers had to those in which all would be through at the same time.

    Half-way, what is but noise moves a panel of a few dozen, which costs 1 to 5 % (bench/NOTES.md).
    """
    cdef Barrier among = share.group if s.members > 1 else share.all
    cdef const Pace* pace = &s.paces[among.first]
    cdef Py_ssize_t n = panels_for(s.H) if s.members > 1 else s.B, before = 0, start = 0, end = 0
    cdef double total = 0, so_far = 0
    cdef int i
    for i in range(among.size):
        total += pace_of(&pace[i], place)
    for i in range(share.number - among.first + 1):
        before += pace[i].own[place]
        so_far += pace_of(&pace[i], place)
        start, end = end, max(end + 1, min(<Py_ssize_t>(0.75 * before + 0.25 * n * so_far / total + 0.5),
                                           n - (among.size - 1 - i)))
    if s.members > 1:
        share.panel = share.state_panel = start
        share.panels = share.state_panels = end - start
        share.parts = s.groups * n
        share.part = share.worker // s.members * n + start
    else:
        share.b, share.M = start, end - start
        share.parts, share.part = n, start
    share.part_end = share.part + end - start


cdef void follow_pace(const Sweep* s, Share* share, int chunk) noexcept nogil:
    """Begin a chunk, with a share by the pace in the one before."""
    cdef Pace* mine
    if s.paces == NULL:
        return
    mine = &s.paces[share.number]
    if chunk:
        divide_by_pace(s, share, mine.place)
    mine.place = chunk & 1
    mine.own[mine.place] = share.panels if s.members > 1 else share.M
    mine.shortest[mine.place] = INFINITY


cdef inline void begin_steps(const Sweep* s, const Share* share) noexcept nogil:
    if s.paces != NULL:
        s.paces[share.number].began = nanoseconds()


cdef inline void meet(const Sweep* s, const Share* share) noexcept nogil:
    """End a step: wait for the group, and do not count that as work."""
    cdef Pace* mine
    if s.paces == NULL:
        barrier_wait(&share.group, share.number)
        return
    mine = &s.paces[share.number]
    mine.shortest[mine.place] = min(mine.shortest[mine.place], max(1.0, <double>(nanoseconds() - mine.began)))
    barrier_wait(&share.group, share.number)
    mine.began = nanoseconds()
