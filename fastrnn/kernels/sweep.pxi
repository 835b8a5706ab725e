# One layer's pass over time, in one or two directions, on one or several workers: what both ways share.
#
# The reverse direction is the same loop over views with a negative time stride; "own order" below is the order of time
# in which a direction goes. Rows of different lengths come sorted, the longest first, and packed: the rows of a step
# one below the other, then those of the next. So those alive at a step are the first so many: forward they leave from
# the end, in the reverse direction they join there; and the rows of a chunk of steps are one stretch of memory.
#
# Workers share the batch, in groups that share the hidden units of their rows. Groups do not synchronise going forward,
# but single workers take over each other's rows in the end (bands.pxi); going back all meet twice a chunk, where
# each worker takes other columns of the weight gradients, so that no sum is ever split. Within a group there is a
# barrier a step, two where a step is two products. Workers that meet have shares by their pace (paces.pxi). Where there
# are rows enough a group is one worker: larger ones are for few rows of wide layers, and for weights that are better
# not read by each.

cdef enum:
    FORWARD_ROWS = 64  # rows (steps x batch) of a chunk going forward

# Seconds, to choose groups by what a step would take: of a core with AVX2 or AVX-512 and a second-level cache of
# LARGE_WEIGHTS, measured (bench/NOTES.md).
cdef double A_FLOP = 1 / 130e9
cdef double A_BYTE_FROM_L2 = 1 / 170e9
cdef double A_BYTE_FROM_L3 = 1 / 30e9
cdef double A_BYTE_FROM_ANOTHER_CORE = 1 / 2.5e9  # some 25 ns a cache line that it has just written
cdef double A_BARRIER = 0.4e-6                    # and what waiting for the slowest costs
cdef double A_WORKER_AT_IT = 0.05e-6              # each adds

cdef double FLOPS_WORTH_A_LOOK = 1e9     # some 10 ms: then signals are looked for within a chunk, too


cdef struct Direction:
    Panels w_ih              # forward: W^T; back: W
    Panels w_hh
    Panels w_second
    const real* bias         # in the order of the columns of w_ih
    const real* y_bias       # in that of w_hh; NULL for none
    const real* peephole     # as a step has them
    Rows x                   # these in own order
    Rows h
    Rows c
    Rows saved               # data NULL in inference
    Rows middle
    const real* h0           # (B, P)
    const real* c0           # (B, H)
    real* h_n
    real* c_n
    Rows g                   # gradient of h from the output, of c from the cells; data NULL for none
    Rows g_c
    Rows dx
    real* carry              # (B, P): at first the gradient of h_n, in the end that of h0
    real* d_c                # (B, H): likewise of c
    real* dw_ih
    real* dw_hh
    real* dw_second
    real* db_ih              # NULL without bias
    real* db_hh
    real* dp                 # of the peepholes; NULL without
    real* dz                 # rows of a chunk, and behind them those of the first step of the chunk after it
    const Py_ssize_t* alive  # rows at each step, own order; NULL for all
    const Py_ssize_t* row    # of packed sequences, own order: how many rows lie before those of the step
    const unsigned char* reset  # (T, B), own order: 1 where the state before the step is zero; NULL for nowhere


cdef struct Band


cdef struct Pace


cdef struct Sweep:
    Cell cell
    Activation activation
    Py_ssize_t T
    Py_ssize_t B
    Py_ssize_t I
    Py_ssize_t H
    Py_ssize_t P             # size of h: H, or that of the projection
    const Py_ssize_t* lengths  # (B,), falling; NULL for T everywhere
    Py_ssize_t row_steps     # sum of the lengths
    Py_ssize_t chunk_rows    # most rows of a chunk of steps
    Py_ssize_t dz_row
    int directions
    int workers              # in all
    int groups               # of a direction: each has rows of its own
    int members              # of a group: each has hidden units of its own
    int row_parts            # going back, else 0: workers that compute different rows of the same columns of dW
    bint add                 # going back: to d_params, instead of writing them
    bint long_steps          # a step takes long enough to look for signals in each
    Interrupt interrupt
    Band* bands              # going forward; NULL where each group keeps to its rows
    Pace* paces              # of the workers; NULL where shares stay as they are
    int of_each              # bands that a worker begins with
    Direction direction[2]
    real* workspace          # one part for each worker
    Py_ssize_t workspace_size


cdef Py_ssize_t backward_rows(const Sweep* s) noexcept nogil:
    """Rows of a chunk going back: more for large weights, whose gradients each chunk reads and writes."""
    cdef Py_ssize_t size = s.cell.gates * s.H * (s.I + s.P) * <Py_ssize_t>sizeof(real)
    return BACKWARD_ROWS if size <= 1 << 22 else 2 * BACKWARD_ROWS


cdef Py_ssize_t forward_rows(const Sweep* s) noexcept nogil:
    """Rows of a chunk going forward, unless a step has more."""
    cdef Py_ssize_t size = s.cell.gates * s.H * s.I * <Py_ssize_t>sizeof(real)
    return FORWARD_ROWS if size <= LARGE_WEIGHTS else 4 * FORWARD_ROWS


cdef struct Share:
    # what one worker does of a direction
    int number               # of the worker among all
    int worker               # among those of the direction
    int workers
    Barrier all              # of the direction
    Barrier group
    Py_ssize_t b             # rows b .. b + M - 1
    Py_ssize_t M
    Py_ssize_t panel         # hidden units from this panel on
    Py_ssize_t panels
    Py_ssize_t state_panel   # columns of h; others with a projection
    Py_ssize_t state_panels
    Py_ssize_t part          # of what the direction's workers divide without meeting: part .. part_end - 1 of so many
    Py_ssize_t part_end
    Py_ssize_t parts


cdef inline Py_ssize_t own_units(const Sweep* s, const Share* share) noexcept nogil:
    """How many hidden units are the worker's, from share.panel * PANEL on."""
    return min(s.H - share.panel * PANEL, share.panels * PANEL)


cdef inline Py_ssize_t own_states(const Sweep* s, const Share* share) noexcept nogil:
    """How many columns of h are the worker's, from share.state_panel * PANEL on."""
    return min(s.P - share.state_panel * PANEL, share.state_panels * PANEL)


cdef inline Py_ssize_t start_of_own(const Share* share, Py_ssize_t n) noexcept nogil:
    """The first of n rows or columns that the direction's workers divide, and that are the worker's."""
    return n * share.part // share.parts


cdef inline Py_ssize_t end_of_own(const Share* share, Py_ssize_t n) noexcept nogil:
    return n * share.part_end // share.parts


cdef inline Rows reversed_in_time(Rows x, Py_ssize_t T) noexcept nogil:
    cdef Rows back = x
    back.data = x.data + (T - 1) * x.t
    back.t = -x.t
    return back


cdef struct Chunk:
    # steps first .. first + n - 1 in own order; going back a row (t, b) is number row_in(chunk, t) + b of `rows`
    Py_ssize_t first
    Py_ssize_t n
    Py_ssize_t rows
    Py_ssize_t before        # rows that lie before those of the chunk, if packed
    bint add                 # its weight gradients to those that are there


cdef Py_ssize_t rows_of_step(const Sweep* s, const Direction* d, Py_ssize_t t) noexcept nogil:
    return s.B if d.alive == NULL else d.alive[t]


cdef Chunk placed(const Sweep* s, const Direction* d, Chunk chunk) noexcept nogil:
    """The chunk, with its place in packed memory, where the reverse direction has its last step first."""
    if d.row != NULL:
        chunk.before = min(d.row[chunk.first], d.row[chunk.first + chunk.n - 1])
    return chunk


cdef Chunk chunk_before(const Sweep* s, const Direction* d, Py_ssize_t end) noexcept nogil:
    """The chunk that ends before a step."""
    cdef Chunk chunk
    chunk.first, chunk.n, chunk.rows, chunk.before = end - 1, 1, rows_of_step(s, d, end - 1), 0
    while chunk.first > 0 and chunk.rows + rows_of_step(s, d, chunk.first - 1) <= s.chunk_rows:
        chunk.first -= 1
        chunk.rows += rows_of_step(s, d, chunk.first)
        chunk.n += 1
    return placed(s, d, chunk)


cdef inline Py_ssize_t row_in(const Sweep* s, const Direction* d, const Chunk* chunk, Py_ssize_t t) noexcept nogil:
    """Number of a step's first row in its chunk."""
    return (t - chunk.first) * s.B if d.row == NULL else d.row[t] - chunk.before


cdef inline Rows packed_at(Rows x, const Chunk* chunk) noexcept nogil:
    """The rows of a chunk of packed sequences, one below the other."""
    return strided(x.data + chunk.before * x.b, 0, x.b)


cdef double step_flops(const Sweep* s) noexcept nogil:
    """Of one row's step of the recurrence."""
    return 2.0 * s.cell.gates * s.H * s.P


cdef double work_of(const Sweep* s) noexcept nogil:
    """Flops, or bytes of weights: a core multiplies some 100 GFLOP/s and reads 100 GB/s, so more counts."""
    cdef double weights = s.cell.gates * s.H * <double>sizeof(real), input_part, recurrence
    input_part = max(2.0 * s.row_steps * s.cell.gates * s.H, weights) * s.I
    recurrence = max(s.row_steps * step_flops(s), s.T * weights * s.P)
    return s.directions * (input_part + recurrence)


cdef inline double largest_and_mean(Py_ssize_t n, Py_ssize_t parts) noexcept nogil:
    """Of as equal parts of n as there are: half-way from the largest to the mean, where all have finished but some."""
    return 0.5 * ((n + parts - 1) // parts + n / <double>parts)


cdef double step_time(const Sweep* s, int groups, int members) noexcept nogil:
    """Seconds that a step of the recurrence takes so many groups of so many, roughly."""
    cdef Py_ssize_t panels = panels_for(s.H), a_unit = s.cell.gates * <Py_ssize_t>sizeof(real)
    cdef double rows = largest_and_mean(s.B, groups), part = largest_and_mean(panels, members) / panels
    cdef double time = part * rows * step_flops(s) * (sizeof(real) / 4) * A_FLOP, meeting
    cdef bint large = part * a_unit * s.H * (s.I + s.P) > LARGE_WEIGHTS
    time += part * a_unit * s.H * s.P * (A_BYTE_FROM_L3 if large else A_BYTE_FROM_L2)
    if members > 1:
        meeting = A_BARRIER + members * A_WORKER_AT_IT
        meeting += (1 - part) * rows * s.P * sizeof(real) * A_BYTE_FROM_ANOTHER_CORE
        time += meeting * (2 if s.cell.second else 1)
    return time


cdef void share_out(Sweep* s, int workers) noexcept nogil:
    """Decide how the workers divide the layer."""
    cdef int each = max(1, workers // s.directions), members, groups
    cdef double least = INFINITY, time
    for members in range(1, <int>min(<Py_ssize_t>each, panels_for(s.H)) + 1):
        groups = <int>min(<Py_ssize_t>(each // members), s.B)
        time = step_time(s, groups, members)
        if time < least:
            least, s.groups, s.members = time, groups, members
    s.workers = s.groups * s.members * s.directions if workers >= s.directions else 1


cdef int acquire_workers(Sweep* s, int threads) noexcept nogil:
    """Workers for the pass, no more than its shape can use; given back as the pool says."""
    cdef double work = work_of(s)
    if threads > 1 and WORTH_SHARING <= work:
        share_out(s, threads)
        threads = s.workers
    return pool_acquire(threads, work)


cdef Py_ssize_t first_row(const Sweep* s, int worker, int workers) noexcept nogil:
    """Where a worker's rows begin, so that all have about as many steps to do."""
    cdef Py_ssize_t b = 0, done = 0
    if s.lengths == NULL or worker == workers:
        return s.B * worker // workers
    while b < s.B and done * workers < s.row_steps * worker:
        done += s.lengths[b]
        b += 1
    return b


cdef Share share_of(const Sweep* s, int number) noexcept nogil:
    """The share of worker `number`, of the direction or, where it is alone, of each."""
    cdef Share share
    cdef Py_ssize_t panels = panels_for(s.H), state_panels = panels_for(s.P)
    cdef int group, member
    share.number = number
    share.workers = s.groups * s.members
    share.worker = number % share.workers
    group, member = share.worker // s.members, share.worker % s.members
    share.all = barrier_of(number - share.worker, share.workers, 0)
    share.group = barrier_of(number - member, s.members, 1)
    share.b = first_row(s, group, s.groups)
    share.M = first_row(s, group + 1, s.groups) - share.b
    share.panel = panels * member // s.members
    share.panels = panels * (member + 1) // s.members - share.panel
    share.state_panel = state_panels * member // s.members
    share.state_panels = state_panels * (member + 1) // s.members - share.state_panel
    share.part, share.part_end, share.parts = share.worker, share.worker + 1, share.workers
    return share


cdef inline bint goes_on(Sweep* s, const Barrier* barrier, const Share* share, int chunk) noexcept nogil:
    """Whether a worker is to do its chunk of that number, in which it is at the barrier; if not, a signal has come."""
    if share.number == 0 and (chunk or share.b):
        look_for_signals(&s.interrupt)
    return not leaves(&s.interrupt, barrier, share.number, chunk)


cdef inline bint interrupted(Sweep* s, const Share* share) noexcept nogil:
    """Within a chunk of long steps, whether a signal has come. What is left is not computed then; barriers are met."""
    if not s.long_steps:
        return False
    if share.number == 0:
        look_for_signals(&s.interrupt)
    return leaves(&s.interrupt, NULL, share.number, 0)


cdef inline int first_direction(const Sweep* s, int worker) noexcept nogil:
    return worker * s.directions // s.workers


cdef inline int last_direction(const Sweep* s, int worker) noexcept nogil:
    """One worker does all directions one after the other, several have one each."""
    return max((worker + 1) * s.directions // s.workers, first_direction(s, worker) + 1)


cdef inline Panels own_panels(Panels w, const Share* share, int each) noexcept nogil:
    """The worker's panels of weights that have `each` panels for a panel of units."""
    return panels_slice(w, share.panel * each, min(w.count, (share.panel + share.panels) * each))


cdef inline Panels own_state_panels(Panels w, const Share* share) noexcept nogil:
    """The worker's panels of weights that give columns of h."""
    return panels_slice(w, share.state_panel, share.state_panel + share.state_panels)


cdef inline Py_ssize_t alive(const Sweep* s, const Direction* d, const Share* share, Py_ssize_t t) noexcept nogil:
    """How many of the share's rows have a step t, own order."""
    if t < 0 or t >= s.T:
        return 0
    if d.alive == NULL:
        return share.M
    return max(0, min(share.M, d.alive[t] - share.b))


cdef inline const unsigned char* resets(const Sweep* s, const Direction* d, const Share* share, Py_ssize_t t,
                                        Py_ssize_t M) noexcept nogil:
    """The share's row of d.reset for step t, or NULL if none of the M is set."""
    cdef const unsigned char* reset
    cdef Py_ssize_t b
    if d.reset == NULL or t >= s.T:
        return NULL
    reset = d.reset + t * s.B + share.b
    for b in range(M):
        if reset[b]:
            return reset
    return NULL


cdef inline void state_before(const Sweep* s, const Direction* d, const Share* share, Py_ssize_t t, Py_ssize_t M,
                              Step* step, real* scratch) noexcept nogil:
    """Point step at the states before step t: where they lie, or gathered where they come from different places."""
    if t > 0 and d.alive == NULL and d.reset == NULL:
        step.h_prev, step.h_prev_row = rows_at(d.h, t - 1, share.b).data, d.h.b
        step.c_prev, step.c_prev_row = rows_at(d.c, t - 1, share.b).data, d.c.b
    else:
        gathered_state(s, d, share, t, M, step, scratch)


cdef void gathered_state(const Sweep* s, const Direction* d, const Share* share, Py_ssize_t t, Py_ssize_t M,
                         Step* step, real* scratch) noexcept nogil:
    """The states before step t, of c the worker's units alone: in inference others are by then writing theirs there."""
    cdef Py_ssize_t before = alive(s, d, share, t - 1), b, unit = share.panel * PANEL, units = own_units(s, share)
    cdef const unsigned char* reset = resets(s, d, share, t, M)
    cdef const real* h
    cdef const real* c
    if reset == NULL and before == 0:
        step.h_prev, step.h_prev_row = d.h0 + share.b * s.P, s.P
        step.c_prev, step.c_prev_row = d.c0 + share.b * s.H, s.H
        return
    step.h_prev, step.h_prev_row = rows_at(d.h, t - 1, share.b).data, d.h.b
    step.c_prev, step.c_prev_row = rows_at(d.c, t - 1, share.b).data, d.c.b
    if reset == NULL and before >= M:
        return
    for b in range(M):
        h, c = step.h_prev + b * step.h_prev_row, step.c_prev + b * step.c_prev_row + unit
        if b >= before:
            h, c = d.h0 + (share.b + b) * s.P, d.c0 + (share.b + b) * s.H + unit
        if reset != NULL and reset[b]:
            h = c = NULL
        place_row(scratch + b * s.P, h, s.P)
        if s.cell.memory:
            place_row(scratch + share.M * s.P + b * s.H + unit, c, units)
    step.h_prev, step.h_prev_row = scratch, s.P
    step.c_prev, step.c_prev_row = scratch + share.M * s.P, s.H


cdef void begin_step(const Sweep* s, const Direction* d, const Share* share, Step* step) noexcept nogil:
    """What stays the same in all steps."""
    step.cell = s.cell
    step.activation = s.activation
    step.H, step.P = s.H, s.P
    step.unit, step.state = share.panel * PANEL, share.state_panel * PANEL
    step.h_row, step.c_row = d.h.b, d.c.b
    step.saved_row, step.middle_row = d.saved.b, d.middle.b
    step.peephole = d.peephole
    step.saved = step.middle = step.c = NULL
    step.recurrent.a_k = step.second.a_k = 1
    step.recurrent.cell = step.second.cell = step
    step.recurrent.out = step.second.out = step.second.start = NULL
    step.second.start_row = 0
    step.recurrent.before = step.second.before = NULL
    step.second.together = 1


cdef void states_and_saved(const Direction* d, const Share* share, Py_ssize_t t, Step* step) noexcept nogil:
    """Point step at what belongs to step t; its strips go the other way than those of the steps beside it."""
    step.recurrent.backwards = step.second.backwards = t & 1
    step.h = rows_at(d.h, t, share.b).data
    step.c = rows_at(d.c, t, share.b).data
    step.middle = rows_at(d.middle, t, share.b).data
    if d.saved.data != NULL:
        step.saved = rows_at(d.saved, t, share.b).data
