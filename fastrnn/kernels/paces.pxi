# Workers that share units meet in every step, so the slowest sets the time of all: one whose core is of the smaller
# kind, say, or has a busy sibling. Where a step is long enough to be timed they share the units by their pace: each
# measures how long it works at a step, without waiting, and for every chunk the panels of units are divided anew. Of a
# chunk's steps the shortest counts. A core that is given to another process now and then is as fast as ever in between,
# when all are at work; if its worker had less to do those steps would take longer. No bit depends
# on who computes what.

cdef extern from *:
    """
    #include <time.h>
    static double seconds_now(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    }
    """
    double seconds_now() nogil

cdef double FLOPS_WORTH_A_WATCH = 2e7  # of a step: some 100 us of two workers


cdef struct Pace:
    # of a worker; in two places, since others may still look at the last chunk's when it is in the next
    Py_ssize_t panels[2]  # of units in a chunk
    double seconds[2]     # of work in its shortest step
    double began          # to work, this time
    int place             # of the present chunk
    char apart[80]        # from the next one's, and from the line that is fetched along with it


cdef inline bint paced(const Sweep* s) noexcept nogil:
    """Whether shares follow the pace; not where workers divide rows of dW, too, which takes equal ones."""
    return s.members > 1 and s.row_parts <= 1 and not s.cell.second and s.B * step_flops(s) > FLOPS_WORTH_A_WATCH


cdef Py_ssize_t memory_of_paces(const Sweep* s) noexcept nogil:
    """Numbers of workspace for all workers'."""
    return s.workers * <Py_ssize_t>(sizeof(Pace) // sizeof(real)) if paced(s) else 0


cdef inline double pace_of(const Pace* pace, int place) noexcept nogil:
    """Panels a second."""
    return pace.panels[place] / pace.seconds[place]


cdef void divide_by_pace(const Sweep* s, Share* share, int place) noexcept nogil:
    """Half-way from the shares that the group had to those in which all would be through at the same time."""
    cdef const Pace* pace = &s.paces[share.group.first]
    cdef Py_ssize_t panels = panels_for(s.H), before = 0, start = 0, end
    cdef double total = 0, so_far = 0
    cdef int i
    for i in range(s.members):
        total += pace_of(&pace[i], place)
    for i in range(share.number - share.group.first + 1):
        before += pace[i].panels[place]
        so_far += pace_of(&pace[i], place)
        end = <Py_ssize_t>(0.5 * (before + panels * so_far / total) + 0.5)
        share.panel, start = start, max(start + 1, min(end, panels - (s.members - 1 - i)))
    share.panels = start - share.panel
    share.state_panel, share.state_panels = share.panel, share.panels
    share.parts = s.groups * panels
    share.part = share.worker // s.members * panels + share.panel
    share.part_end = share.part + share.panels


cdef void follow_pace(const Sweep* s, Share* share, int chunk) noexcept nogil:
    """Begin a chunk, with units by the pace in the one before."""
    cdef Pace* mine
    if s.paces == NULL:
        return
    mine = &s.paces[share.number]
    if chunk:
        divide_by_pace(s, share, mine.place)
    mine.place = chunk & 1
    mine.panels[mine.place] = share.panels
    mine.seconds[mine.place] = INFINITY


cdef inline void begin_steps(const Sweep* s, const Share* share) noexcept nogil:
    if s.paces != NULL:
        s.paces[share.number].began = seconds_now()


cdef inline void meet(const Sweep* s, const Share* share) noexcept nogil:
    """End a step: wait for the group, and do not count that as work."""
    cdef Pace* mine
    if s.paces == NULL:
        barrier_wait(&share.group, share.number)
        return
    mine = &s.paces[share.number]
    mine.seconds[mine.place] = min(mine.seconds[mine.place], max(1e-9, seconds_now() - mine.began))
    barrier_wait(&share.group, share.number)
    mine.began = seconds_now()
