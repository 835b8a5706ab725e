# Forward over time, a chunk of steps at a time: the input's share of every preactivation in the chunk as one product
# (a row of weights read once serves tens of rows), then step by step the recurrence. All steps at once would
# leave the cache, one step at a time would waste the product on few rows. The workspace is one chunk, whatever T.
#
# Where W_ih is small beside the rows of a step, its product is joined to the recurrence's instead: the tiles of a step
# sum over x_t first and h_{t-1} then, in the same order and so to the same bits, and nothing lies in memory between.

cdef enum:
    JOINED_INPUTS = 4    # a row, at most: W_ih is then read again in each step, and not for tens of rows at once
    FORWARD_BATCH = 256  # rows of the batch that go through time together, at most


cdef Py_ssize_t forward_workspace(const Sweep* s, Py_ssize_t panels) noexcept nogil:
    """Preactivations of a chunk, its input gathered, and gathered states."""
    return s.chunk_rows * (padded_row(panels * PANEL) + s.I) + s.B * (s.P + s.H)


cdef Chunk chunk_from(const Sweep* s, const Direction* d, const Share* share, Py_ssize_t first) noexcept nogil:
    """The chunk of the share's rows that begins with a step."""
    cdef Chunk chunk
    chunk.first, chunk.n, chunk.rows, chunk.before = first, 1, alive(s, d, share, first), 0
    while first + chunk.n < s.T and chunk.rows + alive(s, d, share, first + chunk.n) <= s.chunk_rows:
        chunk.rows += alive(s, d, share, first + chunk.n)
        chunk.n += 1
    return placed(s, d, chunk)


cdef inline bint one_stretch(const Sweep* s, const Direction* d, const Share* share) noexcept nogil:
    """Whether the rows of a chunk are one stretch of packed sequences. If not, they come by steps in own order."""
    return d.row != NULL and share.M == s.B


cdef Rows input_rows(const Sweep* s, const Direction* d, const Share* share, const Chunk* chunk,
                     real* workspace) noexcept nogil:
    """The chunk's rows of x one below the other, as they lie or gathered: as many of a tile's rows as there are."""
    cdef Rows x = packed_at(d.x, chunk) if one_stretch(s, d, share) else stretch_of(
        rows_at(d.x, chunk.first, share.b), chunk.n, share.M)
    cdef Py_ssize_t t, b
    if x.data == NULL:
        x = strided(workspace, 0, s.I)
        for t in range(chunk.first, chunk.first + chunk.n):
            for b in range(share.b, share.b + alive(s, d, share, t)):
                copy_columns(workspace, rows_at(d.x, t, b).data, s.I)
                workspace += s.I
    return x


cdef void final_state(const Sweep* s, const Direction* d, const Share* share, Py_ssize_t t, Py_ssize_t start,
                      Py_ssize_t end) noexcept nogil:
    """The share's rows start .. end - 1 end with step t, or before any if t is -1: own units to h_n and c_n."""
    cdef Py_ssize_t b, unit = share.panel * PANEL, state = share.state_panel * PANEL
    cdef const real* h
    cdef const real* c
    for b in range(share.b + start, share.b + end):
        if t < 0:
            h, c = d.h0 + b * s.P, d.c0 + b * s.H
        else:
            h, c = rows_at(d.h, t, b).data, rows_at(d.c, t, b).data
        copy_columns(d.h_n + b * s.P + state, h + state, own_states(s, share))
        if s.cell.memory and (t < 0 or d.c.data != d.c_n):
            copy_columns(d.c_n + b * s.H + unit, c + unit, own_units(s, share))


cdef inline void forward_second(Sweep* s, const Share* share, Step* step, Py_ssize_t M) noexcept nogil:
    """The second product of a step, once all units are there."""
    barrier_wait(&share.group, share.number)
    if M:
        s.cell.forward_second(step)


cdef inline void step_on(const Direction* d, Step* step, Py_ssize_t x_rows) noexcept nogil:
    """Point step at the next step, which all its rows have."""
    step.h_prev, step.h_prev_row = step.h, step.h_row
    step.c_prev, step.c_prev_row = step.c, step.c_row
    step.h += d.h.t
    step.c += d.c.t
    step.middle += d.middle.t
    if step.saved != NULL:
        step.saved += d.saved.t
    step.x_part += x_rows
    step.recurrent.backwards = step.second.backwards = not step.recurrent.backwards


cdef inline bint joins_input(const Sweep* s, const Share* share) noexcept nogil:
    """Whether each step multiplies its own input, in the tiles that multiply the state."""
    return not s.cell.apart and s.I <= JOINED_INPUTS * share.M and s.cell.gates * s.H * s.I < SMALL_WEIGHTS


cdef void begin_products(const Sweep* s, const Direction* d, const Share* share, Step* step) noexcept nogil:
    """What stays the same in the products of all steps."""
    step.recurrent.w = own_panels(d.w_hh, share, s.cell.recurrent_gates)
    step.recurrent.K = s.P
    step.recurrent.together = s.cell.recurrent_gates * s.cell.span // PANEL
    step.recurrent.columns = step.recurrent.w.count * PANEL
    step.recurrent.start, step.recurrent.start_row = NULL, 0
    if d.y_bias != NULL:
        step.recurrent.start = d.y_bias + step.unit * s.cell.gates
    if s.cell.second:
        step.second.w = own_state_panels(d.w_second, share)
        step.second.K = d.w_second.K
        step.second.columns = step.second.w.columns


cdef void forward_chunk(Sweep* s, Direction* d, const Share* share, const Chunk* chunk,
                        real* workspace) noexcept nogil:
    cdef Step step
    cdef Product of_input
    cdef Panels w = own_panels(d.w_ih, share, s.cell.gates)
    cdef Py_ssize_t t, M, after, row = 0
    cdef Py_ssize_t z_row = padded_row(w.count * PANEL)
    cdef Rows z = strided(workspace, share.M * z_row, z_row)
    cdef real* input = workspace + s.chunk_rows * z.b
    cdef real* states = input + s.chunk_rows * s.I
    cdef const real* bias
    cdef bint plain = d.alive == NULL and d.reset == NULL, joined = joins_input(s, share)
    begin_step(s, d, share, &step)
    begin_products(s, d, share, &step)
    step.x_row = z.b
    bias = d.bias + step.unit * s.cell.gates
    if joined:
        of_input.a_row, of_input.a_k, of_input.K, of_input.w = d.x.b, 1, s.I, w
        step.recurrent.before, step.recurrent.start = &of_input, bias
    else:
        affine(z, bias, input_rows(s, d, share, chunk, input), w, w.columns, chunk.rows)
    begin_steps(s, share)
    for t in range(chunk.first, chunk.first + chunk.n):
        M = 0 if interrupted(s, share) else alive(s, d, share, t)
        if M:
            if plain and t > chunk.first:
                step_on(d, &step, share.M * z.b)
            else:
                state_before(s, d, share, t, M, &step, states)
                states_and_saved(d, share, t, &step)
                step.x_part = rows_at(z, 0, row_in(s, d, chunk, t) if one_stretch(s, d, share) else row).data
            step.recurrent.M = M
            step.recurrent.a, step.recurrent.a_row = step.h_prev, step.h_prev_row
            if joined:
                of_input.a = rows_at(d.x, t, share.b).data
            elif not s.cell.apart:
                step.recurrent.start, step.recurrent.start_row = step.x_part, z.b
            s.cell.forward(&step)
        if s.cell.second:
            forward_second(s, share, &step, M)
        if M:
            after = alive(s, d, share, t + 1)
            if after < M:
                final_state(s, d, share, t, after, M)
        meet(s, share)
        row += M


cdef Py_ssize_t forward_direction(Sweep* s, Direction* d, Share share, Py_ssize_t first, int number, int last,
                                  real* workspace) noexcept nogil:
    """Chunks number .. last - 1, the first of which begins with step `first`; returns the step after them."""
    cdef Chunk chunk
    if d.alive != NULL and first == 0:
        final_state(s, d, &share, -1, max(alive(s, d, &share, 0), alive(s, d, &share, s.T - 1)), share.M)
    while first < s.T and number < last and goes_on(s, &share.group, &share, number):
        follow_pace(s, &share, number)
        chunk = chunk_from(s, d, &share, first)
        forward_chunk(s, d, &share, &chunk, workspace)
        first += chunk.n
        number += 1
    return first


cdef void forward_bands(Sweep* s, int worker) noexcept nogil:
    """A chunk of a band at a time, until all are done or in others' hands."""
    cdef Share share = share_of(s, worker)
    cdef Band* band = next_band(s, worker)
    cdef int chunks
    while band != NULL:
        share.b, share.M, chunks = band.b, band.M, band.chunks
        band.first = forward_direction(s, &s.direction[band.direction], share, band.first, chunks, chunks + 1,
                                       s.workspace + worker * s.workspace_size)
        atomic_set(&band.chunks, INT_MAX if band.first == s.T else chunks + 1)
        atomic_set(&band.taken, 0)
        if leaves(&s.interrupt, NULL, worker, 0):
            return
        band = next_band(s, worker)


cdef void forward_worker(void* sweep, int worker) noexcept nogil:
    cdef Sweep* s = <Sweep*>sweep
    cdef int i
    cdef Share share, part
    cdef Py_ssize_t block, blocks
    if s.bands != NULL:
        forward_bands(s, worker)
        return
    for i in range(first_direction(s, worker), last_direction(s, worker)):
        part = share = share_of(s, worker)
        blocks = (share.M + FORWARD_BATCH - 1) // FORWARD_BATCH
        for block in range(blocks):
            part.b = share.b + share.M * block // blocks
            part.M = share.b + share.M * (block + 1) // blocks - part.b
            forward_direction(s, &s.direction[i], part, 0, 0, INT_MAX, s.workspace + worker * s.workspace_size)
