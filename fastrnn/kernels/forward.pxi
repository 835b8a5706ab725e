# Forward over time, a chunk of steps at a time: the input's share of every preactivation in the chunk as one product
# (a row of weights read once serves tens of rows), then step by step the recurrence. All steps at once would
# leave the cache, one step at a time would waste the product on few rows. The workspace is one chunk, whatever T.

cdef enum:
    FORWARD_ROWS = 64    # rows (steps x batch) of a chunk


cdef Py_ssize_t forward_workspace(const Sweep* s, Py_ssize_t panels) noexcept nogil:
    """Preactivations of a chunk, and gathered states."""
    return s.B * (s.steps * panels * PANEL + s.P + s.H)


cdef void input_part(const Sweep* s, const Direction* d, const Share* share, Rows z, Panels w, const real* bias,
                     Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """Preactivations of steps first .. first + n - 1 as far as the input goes; steps of equal rows as one product."""
    cdef Py_ssize_t t = first, last, M
    while t < first + n:
        M = alive(s, d, share, t)
        last = t + 1
        while last < first + n and alive(s, d, share, last) == M:
            last += 1
        if M:
            affine(rows_at(z, t - first, 0), bias, rows_at(d.x, t, share.b), w, z.b, last - t, M, 0, 1)
        t = last


cdef void final_state(const Sweep* s, const Direction* d, const Share* share, Py_ssize_t t, Py_ssize_t start,
                      Py_ssize_t end) noexcept nogil:
    """The share's rows start .. end - 1 end with step t, or before any if t is -1: own units to h_n and c_n."""
    cdef Py_ssize_t b, unit = share.panel * PANEL
    cdef Py_ssize_t units = min(s.H - unit, share.panels * PANEL)
    cdef const real* h
    cdef const real* c
    for b in range(share.b + start, share.b + end):
        if t < 0:
            h, c = d.h0 + b * s.P, d.c0 + b * s.H
        else:
            h, c = rows_at(d.h, t, b).data, rows_at(d.c, t, b).data
        copy_columns(d.h_n + b * s.P + unit, h + unit, s.P if s.cell.second else units)
        if s.cell.memory and (t < 0 or d.c.data != d.c_n):
            copy_columns(d.c_n + b * s.H + unit, c + unit, units)


cdef void forward_direction(const Sweep* s, Direction* d, const Share* share, real* workspace) noexcept nogil:
    cdef Step step
    cdef Panels w = own_panels(d.w_ih, share, s.cell.gates)
    cdef Py_ssize_t first = 0, t, n, M, after
    cdef Rows z
    cdef real* gathered
    cdef const real* y_bias = d.y_bias
    z.data = workspace
    z.b = w.count * PANEL
    z.t = share.M * z.b
    gathered = workspace + s.steps * z.t
    begin_step(s, d, share, &step)
    step.x_row = z.b
    if y_bias != NULL:
        y_bias += step.unit * s.cell.gates
    step.recurrent.w = own_panels(d.w_hh, share, s.cell.recurrent_gates)
    step.recurrent.K = s.P
    step.recurrent.together = s.cell.recurrent_gates * s.cell.span // PANEL
    step.recurrent.columns = step.recurrent.w.count * PANEL
    if s.cell.second:
        step.second.w = d.w_second
        step.second.K = d.w_second.K
        step.second.columns = d.w_second.columns
    if d.alive != NULL:
        final_state(s, d, share, -1, max(alive(s, d, share, 0), alive(s, d, share, s.T - 1)), share.M)
    while first < s.T:
        n = min(s.steps, s.T - first)
        input_part(s, d, share, z, w, d.bias + step.unit * s.cell.gates, first, n)
        for t in range(first, first + n):
            M = alive(s, d, share, t)
            if M:
                state_before(s, d, share, t, M, &step, gathered)
                states_and_saved(d, share, t, &step)
                step.x_part = z.data + (t - first) * z.t
                step.recurrent.M = M
                step.recurrent.a, step.recurrent.a_row = step.h_prev, step.h_prev_row
                if s.cell.apart:
                    step.recurrent.start, step.recurrent.start_row = y_bias, 0
                else:
                    step.recurrent.start, step.recurrent.start_row = step.x_part, z.b
                s.cell.forward(&step)
                after = alive(s, d, share, t + 1)
                if after < M:
                    final_state(s, d, share, t, after, M)
            if s.by_units:
                barrier_wait(&d.barrier)
        first += n


cdef void forward_worker(void* sweep, int worker) noexcept nogil:
    cdef Sweep* s = <Sweep*>sweep
    cdef int i
    cdef Share share
    for i in range(first_direction(s, worker), last_direction(s, worker)):
        share = share_of(s, &s.direction[i], worker)
        forward_direction(s, &s.direction[i], &share, s.workspace + worker * s.workspace_size)
