# The loop over time of one layer, forward and back, in one or two directions, on one or several workers.
#
# Forward, a chunk of steps at a time: the input's share of every preactivation in the chunk as one product
# (a row of weights read once serves tens of rows), then step by step the recurrence. All steps at once would
# leave the cache, one step at a time would waste the product on few rows. The workspace is one chunk, whatever T.
#
# Back, chunks from the last: the chain dz_t step by step, then while the chunk is in the cache the gradients of
# input, weights and biases as products.
#
# The reverse direction is the same loop over views with a negative time stride.
#
# Workers share the batch where it is large enough: no synchronisation going forward, and two barriers a chunk
# going back, where each takes other columns of the weight gradients, so that no sum is ever split. A small batch
# of wide layers is shared by hidden units, with a barrier a step.

cdef enum:
    FORWARD_ROWS = 64    # rows (steps x batch) of a chunk

cdef double FLOPS_WORTH_A_BARRIER = 1e5  # some 1 us a step


cdef struct Direction:
    Panels w_ih              # forward: W^T; back: W
    Panels w_hh
    const real* bias         # forward: b_ih + b_hh, whole panels
    Rows x                   # these in the direction's own order of time
    Rows h
    const real* h0           # (B, H)
    real* h_n                # (B, H)
    Rows g                   # gradient of h from the output; data NULL for none
    const real* g_n          # (B, H), of h_n; NULL for none
    Rows dx
    real* d_h0               # (B, H)
    real* dw_ih
    real* dw_hh
    real* db_ih              # NULL without bias
    real* db_hh
    real* dz                 # (steps + 1, B, dz_row): a chunk, and the first step of the chunk after it
    Barrier barrier


cdef struct Sweep:
    Py_ssize_t T
    Py_ssize_t B
    Py_ssize_t I
    Py_ssize_t H
    Activation activation
    Py_ssize_t steps         # of a chunk
    Py_ssize_t dz_row
    int directions
    int workers              # in all
    bint by_units            # workers of a direction share hidden units, else rows
    Direction direction[2]
    real* workspace          # one part for each worker
    Py_ssize_t workspace_size


cdef struct Share:
    # what one worker does of a direction
    int worker
    int workers
    Py_ssize_t b             # rows b .. b + M - 1
    Py_ssize_t M
    Py_ssize_t panel         # hidden units from this panel on
    Py_ssize_t panels


cdef inline Rows rows_at(Rows x, Py_ssize_t t, Py_ssize_t b) noexcept nogil:
    cdef Rows at = x
    at.data = x.data + t * x.t + b * x.b
    return at


cdef inline Rows reversed_in_time(Rows x, Py_ssize_t T) noexcept nogil:
    cdef Rows back = x
    back.data = x.data + (T - 1) * x.t
    back.t = -x.t
    return back


cdef int workers_wanted(const Sweep* s, int threads) noexcept nogil:
    cdef double flops = 2.0 * s.T * s.B * s.H * (s.I + s.H) * s.directions
    return <int>min(<double>threads, 1 + flops / FLOPS_WORTH_A_WORKER)


cdef void share_out(Sweep* s, int workers) noexcept nogil:
    """Decide how the workers divide the layer."""
    cdef int d, each
    cdef Py_ssize_t panels = panels_for(s.H)
    each = max(1, workers // s.directions)
    s.by_units = s.B < 2 * each
    if s.by_units:
        each = <int>min(<double>min(<Py_ssize_t>each, panels), 2.0 * s.B * s.H * s.H / FLOPS_WORTH_A_BARRIER)
    if s.by_units and each <= 1:
        s.by_units = False
        each = <int>min(<Py_ssize_t>max(1, workers // s.directions), s.B)
    s.workers = each * s.directions if workers >= s.directions else 1
    for d in range(s.directions):
        s.direction[d].barrier.size = each
        s.direction[d].barrier.waiting = 0
        s.direction[d].barrier.round = 0


cdef Share share_of(const Sweep* s, const Direction* d, int worker) noexcept nogil:
    cdef Share share
    cdef Py_ssize_t panels = panels_for(s.H)
    cdef Py_ssize_t last
    share.workers = d.barrier.size
    share.worker = worker % share.workers
    share.b = share.panel = 0
    share.M = s.B
    share.panels = panels
    if s.by_units:
        share.panel = panels * share.worker // share.workers
        share.panels = panels * (share.worker + 1) // share.workers - share.panel
    else:
        share.b = s.B * share.worker // share.workers
        share.M = s.B * (share.worker + 1) // share.workers - share.b
    return share


cdef inline int last_direction(const Sweep* s, int worker) noexcept nogil:
    """One worker does all directions one after the other, several have one each."""
    return max((worker + 1) * s.directions // s.workers, worker * s.directions // s.workers + 1)


cdef inline Py_ssize_t shared_columns(const Sweep* s, const Share* share) noexcept nogil:
    return min(s.H - share.panel * PANEL, share.panels * PANEL)


# Forward

cdef void forward_direction(const Sweep* s, Direction* d, const Share* share, real* z) noexcept nogil:
    cdef RNNStep step
    cdef Py_ssize_t width = share.panels * PANEL, unit = share.panel * PANEL
    cdef Py_ssize_t first = 0, t, n, b
    cdef Rows z_rows, h
    z_rows.data = z
    z_rows.t = share.M * width
    z_rows.b = width
    step.activation = s.activation
    step.h_row = d.h.b
    step.recurrence.blocks = 1
    step.recurrence.M = share.M
    step.recurrence.K = s.H
    step.recurrence.w = panels_slice(d.w_hh, share.panel, share.panel + share.panels)
    step.recurrence.a_k = 1
    step.recurrence.start_row = width
    step.recurrence.columns = shared_columns(s, share)
    step.recurrence.finish = rnn_forward_finish
    step.recurrence.cell = &step
    while first < s.T:
        n = min(s.steps, s.T - first)
        affine(z_rows, d.bias + unit, rows_at(d.x, first, share.b),
               panels_slice(d.w_ih, share.panel, share.panel + share.panels), width, n, share.M, 0, 1)
        for t in range(first, first + n):
            step.recurrence.start = z + (t - first) * z_rows.t
            if t == 0:
                step.recurrence.a = d.h0 + share.b * s.H
                step.recurrence.a_row = s.H
            else:
                step.recurrence.a = rows_at(d.h, t - 1, share.b).data
                step.recurrence.a_row = d.h.b
            step.h = rows_at(d.h, t, share.b).data + unit
            product(&step.recurrence)
            if s.by_units:
                barrier_wait(&d.barrier)
        first += n
    h = rows_at(d.h, s.T - 1, share.b)
    for b in range(share.M):
        copy_columns(d.h_n + (share.b + b) * s.H + unit, h.data + b * h.b + unit, shared_columns(s, share))


cdef void forward_worker(void* sweep, int worker) noexcept nogil:
    cdef Sweep* s = <Sweep*>sweep
    cdef int i
    cdef Share share
    for i in range(worker * s.directions // s.workers, last_direction(s, worker)):
        share = share_of(s, &s.direction[i], worker)
        forward_direction(s, &s.direction[i], &share, s.workspace + worker * s.workspace_size)


# Back

cdef void load_gradient(const Sweep* s, const Direction* d, const Share* share, Py_ssize_t first,
                        Py_ssize_t n) noexcept nogil:
    """dz of the chunk = the gradient that reaches h from outside; zeros up to whole panels."""
    cdef Py_ssize_t unit = share.panel * PANEL, columns = shared_columns(s, share)
    cdef Py_ssize_t t, b, i, j
    cdef real* dz
    cdef const real* g
    for t in range(n):
        for b in range(share.b, share.b + share.M):
            dz = d.dz + (t * s.B + b) * s.dz_row + unit
            g = d.g.data + (first + t) * d.g.t + b * d.g.b + unit
            i = 0
            while i < columns:
                store(dz + i, splat(0) if d.g.data == NULL else load_columns(g + i, columns - i))
                i += LANES
            while i < share.panels * PANEL:
                store(dz + i, splat(0))
                i += LANES
            if first + t == s.T - 1 and d.g_n != NULL:
                for j in range(columns):
                    dz[j] += d.g_n[b * s.H + unit + j]


cdef void backward_chain(const Sweep* s, Direction* d, const Share* share, Py_ssize_t first,
                         Py_ssize_t n) noexcept nogil:
    """dz of the chunk, from its last step to its first."""
    cdef RNNStep step
    cdef Py_ssize_t t, unit = share.panel * PANEL
    cdef Product* p = &step.recurrence
    step.activation = s.activation
    step.h_row = d.h.b
    p.blocks = 1
    p.M = share.M
    p.w = panels_slice(d.w_hh, share.panel, share.panel + share.panels)
    p.a_k = 1
    p.a_row = p.start_row = p.out_row = s.dz_row
    p.columns = share.panels * PANEL
    p.finish = rnn_backward_finish
    p.cell = &step
    for t in range(n - 1, -1, -1):
        p.K = 0 if first + t == s.T - 1 else s.H
        p.a = d.dz + ((t + 1) * s.B + share.b) * s.dz_row
        p.out = d.dz + (t * s.B + share.b) * s.dz_row + unit
        p.start = p.out
        step.h = rows_at(d.h, first + t, share.b).data + unit
        product(p)
        if s.by_units:
            barrier_wait(&d.barrier)


cdef void pack_operand(const Sweep* s, const Direction* d, bint recurrent, real* panel, Py_ssize_t first,
                       Py_ssize_t n, Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    """What dz_t is multiplied by in the weight gradients, x_t or h_{t-1}, for one panel of a chunk."""
    cdef Rows source
    if recurrent and first == 0:
        pack_panel(panel, d.h0 + column, s.B, s.H, 1, columns)
        panel += s.B * PANEL
        first, n = 1, n - 1
    source = rows_at(d.h, first - 1, 0) if recurrent else rows_at(d.x, first, 0)
    source.data += column
    pack_rows(panel, source, n, s.B, columns)


cdef void weight_columns(const Sweep* s, const Direction* d, bint recurrent, Py_ssize_t start, Py_ssize_t end,
                         Py_ssize_t first, Py_ssize_t n, real* workspace) noexcept nogil:
    """Panels start .. end - 1 of the gradient of W_hh or W_ih, from one chunk."""
    cdef Panels packed
    cdef Py_ssize_t columns = s.H if recurrent else s.I
    cdef Py_ssize_t panel
    if start >= end:
        return
    packed.data = workspace
    packed.K = n * s.B
    packed.count = end - start
    packed.columns = min(columns, end * PANEL) - start * PANEL
    for panel in range(start, end):
        pack_operand(s, d, recurrent, workspace + (panel - start) * packed.K * PANEL, first, n, panel * PANEL,
                     min(PANEL, columns - panel * PANEL))
    weight_gradient((d.dw_hh if recurrent else d.dw_ih) + start * PANEL, columns, d.dz, s.dz_row, s.H, packed)


cdef void chunk_gradients(const Sweep* s, const Direction* d, const Share* share, Py_ssize_t first, Py_ssize_t n,
                          real* workspace) noexcept nogil:
    """The worker's part of dx, dW and db of the chunk."""
    cdef Rows dz
    cdef Py_ssize_t of_x = panels_for(s.I), of_h = panels_for(s.H)
    cdef Py_ssize_t start = (of_x + of_h) * share.worker // share.workers
    cdef Py_ssize_t end = (of_x + of_h) * (share.worker + 1) // share.workers
    dz.data = d.dz
    dz.t = s.B * s.dz_row
    dz.b = s.dz_row
    affine(rows_at(d.dx, first, 0), NULL, dz, d.w_ih, s.I, n, s.B, share.worker, share.workers)
    weight_columns(s, d, False, min(start, of_x), min(end, of_x), first, n, workspace)
    weight_columns(s, d, True, max(start, of_x) - of_x, max(end, of_x) - of_x, first, n, workspace)
    if d.db_ih != NULL:
        bias_gradient(d.db_ih, d.db_hh, d.dz, s.dz_row, n * s.B, of_h * share.worker // share.workers * PANEL,
                      min(s.H, of_h * (share.worker + 1) // share.workers * PANEL))


cdef void initial_gradient(const Sweep* s, const Direction* d, const Share* share) noexcept nogil:
    """d_h0 = dz_0 W_hh for the worker's rows and units."""
    cdef Rows dz, d_h0
    dz.data = d.dz + share.b * s.dz_row
    d_h0.data = d.d_h0 + share.b * s.H + share.panel * PANEL
    dz.b = s.dz_row
    d_h0.b = s.H
    dz.t = d_h0.t = 0
    affine(d_h0, NULL, dz, panels_slice(d.w_hh, share.panel, share.panel + share.panels),
           shared_columns(s, share), 1, share.M, 0, 1)


cdef void carry_over(const Sweep* s, const Direction* d, const Share* share) noexcept nogil:
    """The chunk's first dz, which the chunk before it starts from, goes behind the place of its last."""
    cdef Py_ssize_t b
    for b in range(share.b, share.b + share.M):
        copy_columns(d.dz + (s.steps * s.B + b) * s.dz_row + share.panel * PANEL,
                     d.dz + b * s.dz_row + share.panel * PANEL, share.panels * PANEL)


cdef void backward_direction(const Sweep* s, Direction* d, const Share* share, real* workspace) noexcept nogil:
    cdef Py_ssize_t first = (s.T - 1) // s.steps * s.steps
    cdef Py_ssize_t n = s.T - first
    while first >= 0:
        load_gradient(s, d, share, first, n)
        backward_chain(s, d, share, first, n)
        barrier_wait(&d.barrier)
        chunk_gradients(s, d, share, first, n, workspace)
        if first == 0:
            initial_gradient(s, d, share)
        carry_over(s, d, share)
        barrier_wait(&d.barrier)
        first -= s.steps
        n = s.steps


cdef void backward_worker(void* sweep, int worker) noexcept nogil:
    cdef Sweep* s = <Sweep*>sweep
    cdef int i
    cdef Share share
    for i in range(worker * s.directions // s.workers, last_direction(s, worker)):
        share = share_of(s, &s.direction[i], worker)
        backward_direction(s, &s.direction[i], &share, s.workspace + worker * s.workspace_size)
