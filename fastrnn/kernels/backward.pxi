# Back through time, chunks from the last: the chain of dz_t step by step, then while the chunk is in the cache the
# gradients of input, weights and biases as products over its rows, those of one step behind those of the other.

cdef Py_ssize_t backward_workspace(const Sweep* s) noexcept nogil:
    """A worker's rows of dx, then packed operands of a chunk's weight gradients and gathered columns of dz.

    Before these it holds what `backward_chain` gathers: states, a step's dz and sums.
    """
    cdef Py_ssize_t panels = operand_panels(s) // column_parts(s) + 1
    cdef Py_ssize_t of_x = (s.chunk_rows // (s.groups * s.members) + 1) * s.I
    if paced(s):
        panels, of_x = operand_panels(s), s.chunk_rows * s.I
    return max(of_x, s.chunk_rows * (PANEL * panels + GRADIENT_ROWS), s.B * (s.P + s.H + s.dz_row + padded_row(s.P)))


cdef inline real* dz_at(const Sweep* s, const Direction* d, const Chunk* chunk, Py_ssize_t t) noexcept nogil:
    """dz of a step of the chunk, or of the one after it."""
    return d.dz + (s.chunk_rows if t == chunk.first + chunk.n else row_in(s, d, chunk, t)) * s.dz_row


cdef void zero_rows(const unsigned char* reset, real* rows, Py_ssize_t row, Py_ssize_t M,
                    Py_ssize_t columns) noexcept nogil:
    cdef Py_ssize_t b
    for b in range(M):
        if reset[b]:
            place_row(rows + b * row, NULL, columns)


cdef const real* gradient_behind(const Sweep* s, const Direction* d, const Share* share, const Chunk* chunk,
                                 Py_ssize_t t, Py_ssize_t M, real* scratch) noexcept nogil:
    """dz of step t + 1 as step t sees it: nothing of it where the state was reset between them."""
    cdef const real* dz = dz_at(s, d, chunk, t + 1) + share.b * s.dz_row
    cdef const unsigned char* reset = resets(s, d, share, t + 1, M)
    cdef Py_ssize_t b
    if reset == NULL:
        return dz
    for b in range(M):
        copy_columns(scratch + b * s.dz_row, dz + b * s.dz_row, s.dz_row)
    zero_rows(reset, scratch, s.dz_row, M, s.dz_row)
    return scratch


cdef inline void move_on(Step* step, Py_ssize_t rows) noexcept nogil:
    """Point step at what the forward pass left of rows that many further on; back again by a negative number."""
    step.h_prev += rows * step.h_prev_row
    step.c_prev += rows * step.c_prev_row
    step.h += rows * step.h_row
    step.c += rows * step.c_row
    step.saved += rows * step.saved_row
    step.middle += rows * step.middle_row


cdef void back_one_step(const Sweep* s, const Direction* d, const Share* share, const Chunk* chunk, Py_ssize_t t,
                        Step* step, Py_ssize_t start, Py_ssize_t end, const real* behind,
                        Advance back) noexcept nogil:
    """A product of a step back for rows start .. end - 1; behind: dz of the step after, NULL where there is none."""
    cdef Py_ssize_t b = share.b + start
    states_and_saved(d, share, t, step)
    move_on(step, start)
    step.g = step.g_c = NULL
    if d.g.data != NULL:
        step.g, step.g_row = rows_at(d.g, t, b).data, d.g.b
    if d.g_c.data != NULL:
        step.g_c, step.g_c_row = rows_at(d.g_c, t, b).data, d.g_c.b
    step.dz = dz_at(s, d, chunk, t) + b * s.dz_row
    step.carry = d.carry + b * s.P
    step.d_c = d.d_c + b * s.H
    step.recurrent.M = end - start
    step.recurrent.a = behind
    step.recurrent.K = step.recurrent.w.K if behind != NULL else 0
    step.recurrent.start = NULL
    if behind == NULL or s.cell.carries:
        step.recurrent.start = step.carry + step.state
    back(step)
    move_on(step, -start)


cdef void initial_gradient(const Sweep* s, const Direction* d, const Share* share, const Chunk* chunk, Py_ssize_t t,
                           const Step* step, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
    """Rows start .. end - 1 begin with step t: what reaches their first state takes the place of carry."""
    cdef Product p = step.recurrent
    cdef Py_ssize_t b = share.b + start
    p.M, p.K = end - start, p.w.K
    p.a = dz_at(s, d, chunk, t) + b * s.dz_row
    p.out = d.carry + b * s.P + step.state
    p.out_row = s.P
    p.start = p.out if s.cell.carries else NULL
    p.finish = NULL
    product(&p)


cdef void backward_chain(Sweep* s, Direction* d, const Share* share, const Chunk* chunk,
                         real* scratch) noexcept nogil:
    """dz of the chunk, from its last step to its first."""
    cdef Step step
    cdef Py_ssize_t t, M, after, before
    cdef const unsigned char* reset
    cdef const real* behind
    begin_step(s, d, share, &step)
    step.dz_row = s.dz_row
    step.slot = whole_vectors(s.H)
    step.recurrent.w = own_state_panels(d.w_hh, share)
    step.recurrent.K = step.recurrent.w.K
    step.recurrent.together = 1
    step.recurrent.columns = own_states(s, share)
    step.recurrent.a_row = s.dz_row
    step.recurrent.start_row = s.P
    step.recurrent.out = scratch + share.M * (s.P + s.H + s.dz_row)
    step.recurrent.out_row = padded_row(s.P)
    if s.cell.second:
        step.second.w = own_panels(d.w_second, share, 1)
        step.second.K = d.w_second.K
        step.second.columns = own_units(s, share)
    begin_steps(s, share)
    for t in range(chunk.first + chunk.n - 1, chunk.first - 1, -1):
        M = 0 if interrupted(s, share) else alive(s, d, share, t)
        after, before = min(M, alive(s, d, share, t + 1)), min(M, alive(s, d, share, t - 1))
        if M:
            state_before(s, d, share, t, M, &step, scratch)
        if after:
            behind = gradient_behind(s, d, share, chunk, t, after, scratch + share.M * (s.P + s.H))
            back_one_step(s, d, share, chunk, t, &step, 0, after, behind, s.cell.back)
        if after < M:
            back_one_step(s, d, share, chunk, t, &step, after, M, NULL, s.cell.back)
        if s.cell.second:
            barrier_wait(&share.group, share.number)
        if s.cell.second and M:
            back_one_step(s, d, share, chunk, t, &step, 0, M, NULL, s.cell.back_second)
        meet(s, share)
        if before < M:
            initial_gradient(s, d, share, chunk, t, &step, before, M)
        reset = resets(s, d, share, t, M)
        if reset != NULL:
            zero_rows(reset, d.carry + share.b * s.P + step.state, s.P, M, own_states(s, share))
            if s.cell.memory:
                zero_rows(reset, d.d_c + share.b * s.H + step.unit, s.H, M, own_units(s, share))


# The gradients of a weight are the sum over rows of dz^T times an operand:

cdef enum Operand:
    INPUT                    # x_t
    STATE                    # h_{t-1}
    MIDDLE                   # what the second product read


cdef Py_ssize_t operand_columns(const Sweep* s, Operand operand) noexcept nogil:
    if operand == INPUT:
        return s.I
    if operand == STATE:
        return s.P
    return s.H if s.cell.second else 0


cdef Py_ssize_t operand_panels(const Sweep* s) noexcept nogil:
    """Of all operands."""
    return panels_for(s.I) + panels_for(s.P) + panels_for(operand_columns(s, MIDDLE))


cdef inline Py_ssize_t column_parts(const Sweep* s) noexcept nogil:
    """How many workers compute different columns of dW, or groups of row_parts that compute the same."""
    return s.groups * s.members // s.row_parts


cdef int rows_apart(const Sweep* s) noexcept nogil:
    """The best row_parts: more than 1 where there are few panels for so many workers.

    A product of so many rows and panels also copies: columns of dz, which costs as much as a fifth of a panel, and the
    operand, as much as some 16 rows.
    """
    cdef Py_ssize_t panels = operand_panels(s), of_each
    cdef double rows = s.cell.gates * s.H, least = INFINITY, cost
    cdef int workers = s.groups * s.members, parts, best = 1
    if panels >= 2 * workers:
        return 1
    for parts in range(1, workers + 1):
        of_each = (panels + workers // parts - 1) // (workers // parts)
        cost = rows / parts * (of_each + 0.2) + 16 * of_each
        if cost < least:
            least, best = cost, parts
    return best


cdef void pack_steps(const Sweep* s, const Direction* d, Rows source, const Chunk* chunk, real* panel,
                     Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    """One panel of what belongs to the steps of a chunk."""
    source.data += column
    if d.row == NULL:
        pack_rows(panel, rows_at(source, chunk.first, 0), chunk.n, s.B, columns)
    else:
        pack_panel(panel, packed_at(source, chunk).data, chunk.rows, source.b, columns)


cdef void pack_states(const Sweep* s, const Direction* d, Rows states, const real* initial, Py_ssize_t size,
                      const Chunk* chunk, real* panel, Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    """One panel of the states before each step of a chunk; initial (B, size) are those before the first."""
    cdef Py_ssize_t first = chunk.first, n = chunk.n
    states.data += column
    initial += column
    if d.row != NULL or d.reset != NULL:
        gather_states(s, d, states, initial, size, chunk, panel, columns)
        return
    if first == 0:
        pack_panel(panel, initial, s.B, size, columns)
        panel += s.B * PANEL
        first, n = 1, n - 1
    pack_rows(panel, rows_at(states, first - 1, 0), n, s.B, columns)


cdef void gather_states(const Sweep* s, const Direction* d, Rows states, const real* initial, Py_ssize_t size,
                        const Chunk* chunk, real* panel, Py_ssize_t columns) noexcept nogil:
    """`pack_states` of a panel's columns where rows begin at different steps or are reset."""
    cdef Py_ssize_t t, M, going_on
    cdef const unsigned char* reset
    cdef Share all_rows
    cdef real* out
    all_rows.b, all_rows.M = 0, s.B
    for t in range(chunk.first, chunk.first + chunk.n):
        out = panel + row_in(s, d, chunk, t) * PANEL
        M = alive(s, d, &all_rows, t)
        going_on = min(M, alive(s, d, &all_rows, t - 1))
        if going_on:
            pack_panel(out, rows_at(states, t - 1, 0).data, going_on, states.b, columns)
        pack_panel(out + going_on * PANEL, initial + going_on * size, M - going_on, size, columns)
        reset = resets(s, d, &all_rows, t, M)
        if reset != NULL:
            zero_rows(reset, out, PANEL, M, PANEL)


cdef void pack_operand(const Sweep* s, const Direction* d, Operand operand, const Chunk* chunk, real* panel,
                       Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    """One panel of an operand over the rows of a chunk."""
    if operand == STATE:
        pack_states(s, d, d.h, d.h0, s.P, chunk, panel, column, columns)
    else:
        pack_steps(s, d, d.x if operand == INPUT else d.middle, chunk, panel, column, columns)


cdef void gate_gradients(Sweep* s, const Direction* d, const Share* share, Operand operand, Panels packed,
                         Py_ssize_t column, bint add, real* of_dz) noexcept nogil:
    """Columns `column` and on of all weights that saw the operand; of_dz is where columns of dz are gathered."""
    cdef Py_ssize_t slot = whole_vectors(s.H)
    cdef int gate
    if operand == MIDDLE and s.cell.second_slot < 0:
        own_rows(s, share, d.dw_second + column, s.H, d.dz + s.cell.slots * slot, s.P, packed, add, of_dz)
        return
    for gate in range(s.cell.gates):
        if interrupted(s, share):
            return
        if operand == INPUT:
            own_rows(s, share, d.dw_ih + gate * s.H * s.I + column, s.I, d.dz + (s.cell.input_slot + gate) * slot,
                     s.H, packed, add, of_dz)
        elif (operand == STATE) == (gate < s.cell.recurrent_gates):
            own_rows(s, share, d.dw_hh + gate * s.H * s.P + column, s.P, d.dz + s.cell.recurrent_slot[gate] * slot,
                     s.H, packed, add, of_dz)


cdef inline void own_rows(const Sweep* s, const Share* share, real* dw, Py_ssize_t dw_row, const real* dz,
                          Py_ssize_t rows, Panels packed, bint add, real* of_dz) noexcept nogil:
    """The worker's part of so many rows of a weight's gradient."""
    cdef int part = share.worker % s.row_parts
    cdef Py_ssize_t first = rows * part // s.row_parts
    weight_gradient(dw + first * dw_row, dw_row, dz + first, s.dz_row, rows * (part + 1) // s.row_parts - first, packed,
                    add, of_dz)


cdef void weight_columns(Sweep* s, const Direction* d, const Share* share, Operand operand, Py_ssize_t start,
                         Py_ssize_t end, const Chunk* chunk, real* workspace) noexcept nogil:
    """Panels start .. end - 1 of the gradients that an operand has a part in."""
    cdef Panels packed
    cdef Py_ssize_t columns = operand_columns(s, operand), panel
    start, end = max(0, start), min(end, panels_for(columns))
    if start >= end:
        return
    packed.data = workspace
    packed.K = chunk.rows
    packed.count = end - start
    packed.columns = min(columns, end * PANEL) - start * PANEL
    for panel in range(start, end):
        pack_operand(s, d, operand, chunk, workspace + (panel - start) * packed.K * PANEL, panel * PANEL,
                     min(PANEL, columns - panel * PANEL))
    gate_gradients(s, d, share, operand, packed, start * PANEL, chunk.add,
                   workspace + packed.count * packed.K * PANEL)


cdef void input_gradient(const Sweep* s, const Direction* d, const Share* share, const Chunk* chunk,
                         real* workspace) noexcept nogil:
    """dx = dz W_ih, for some rows of the chunk: where they belong, or first one below the other in the workspace."""
    cdef Py_ssize_t first = start_of_own(share, chunk.rows), last = end_of_own(share, chunk.rows), r
    cdef const real* dz = d.dz + s.cell.input_slot * whole_vectors(s.H) + first * s.dz_row
    cdef Rows dx = packed_at(d.dx, chunk) if d.row != NULL else stretch_of(rows_at(d.dx, chunk.first, 0), chunk.n, s.B)
    cdef bint scattered = dx.data == NULL
    dx = strided(workspace, 0, s.I) if scattered else rows_at(dx, 0, first)
    affine(dx, NULL, strided(dz, 0, s.dz_row), d.w_ih, s.I, last - first)
    for r in range(first, last if scattered else first):
        copy_columns(rows_at(d.dx, chunk.first + r // s.B, r % s.B).data, workspace + (r - first) * s.I, s.I)


cdef inline Py_ssize_t first_unit(const Sweep* s, int worker, int workers) noexcept nogil:
    """Where the units begin that a worker sums over the rows."""
    return min(s.H, panels_for(s.H) * worker // workers * PANEL)


cdef void bias_gradients(const Sweep* s, const Direction* d, const Share* share, const Chunk* chunk) noexcept nogil:
    cdef Py_ssize_t slot = whole_vectors(s.H)
    cdef Py_ssize_t first = first_unit(s, share.worker, share.workers)
    cdef Py_ssize_t last = first_unit(s, share.worker + 1, share.workers)
    cdef int gate
    if d.db_ih == NULL:
        return
    for gate in range(s.cell.gates):
        bias_gradient(d.db_ih + gate * s.H, d.dz + (s.cell.input_slot + gate) * slot, s.dz_row, chunk.rows,
                      first, last, chunk.add)
        bias_gradient(d.db_hh + gate * s.H, d.dz + s.cell.recurrent_slot[gate] * slot, s.dz_row, chunk.rows, first,
                      last, chunk.add)


cdef void peephole_gradient(real* dp, const real* dz, Py_ssize_t dz_row, const real* cells, Py_ssize_t rows,
                            Py_ssize_t columns, bint add) noexcept nogil:
    """Sum over rows of dz c, for the columns of a panel of cells."""
    cdef Py_ssize_t n = 0, r
    cdef vec total
    while n < columns:
        total = splat(0)
        for r in range(rows):
            total = total + load(dz + r * dz_row + n) * load(cells + r * PANEL + n)
        put_columns(dp + n, total, columns - n, add)
        n += LANES


cdef void peephole_gradients(const Sweep* s, const Direction* d, const Share* share, const Chunk* chunk,
                             real* cells) noexcept nogil:
    """dp of i and f, which saw c_{t-1}, and of o, which saw c_t."""
    cdef Py_ssize_t slot = whole_vectors(s.H), columns
    cdef Py_ssize_t column = first_unit(s, share.worker, share.workers)
    cdef Py_ssize_t last = first_unit(s, share.worker + 1, share.workers)
    cdef int gate
    if d.dp == NULL:
        return
    while column < last:
        columns = min(PANEL, last - column)
        pack_states(s, d, d.c, d.c0, s.H, chunk, cells, column, columns)
        for gate in range(2):
            peephole_gradient(d.dp + gate * s.H + column, d.dz + gate * slot + column, s.dz_row, cells, chunk.rows,
                              columns, chunk.add)
        pack_steps(s, d, d.c, chunk, cells, column, columns)
        peephole_gradient(d.dp + 2 * s.H + column, d.dz + 3 * slot + column, s.dz_row, cells, chunk.rows, columns,
                          chunk.add)
        column += PANEL


cdef void chunk_gradients(Sweep* s, const Direction* d, const Share* share, const Chunk* chunk,
                          real* workspace) noexcept nogil:
    """The worker's part of dx, dW, db and dp of the chunk."""
    cdef Py_ssize_t of_x = panels_for(s.I), of_h = panels_for(s.P), panels = operand_panels(s)
    cdef Py_ssize_t parts = share.parts // s.row_parts
    cdef Py_ssize_t start = panels * min(parts, share.part // s.row_parts) // parts
    cdef Py_ssize_t end = panels * min(parts, (share.part_end - 1) // s.row_parts + 1) // parts
    input_gradient(s, d, share, chunk, workspace)
    weight_columns(s, d, share, INPUT, start, end, chunk, workspace)
    weight_columns(s, d, share, STATE, start - of_x, end - of_x, chunk, workspace)
    weight_columns(s, d, share, MIDDLE, start - of_x - of_h, end - of_x - of_h, chunk, workspace)
    bias_gradients(s, d, share, chunk)
    peephole_gradients(s, d, share, chunk, workspace)


cdef void carry_over(const Sweep* s, const Direction* d, const Share* share, const Chunk* chunk) noexcept nogil:
    """The chunk's first dz, which the chunk before it starts from, goes behind the place of its last."""
    cdef Py_ssize_t rows = rows_of_step(s, d, chunk.first), b
    cdef const real* dz = dz_at(s, d, chunk, chunk.first)
    for b in range(rows * share.worker // share.workers, rows * (share.worker + 1) // share.workers):
        copy_columns(d.dz + (s.chunk_rows + b) * s.dz_row, dz + b * s.dz_row, s.dz_row)


cdef void backward_direction(Sweep* s, Direction* d, Share share, real* workspace) noexcept nogil:
    cdef Py_ssize_t end = s.T
    cdef Chunk chunk
    cdef int number = 0
    while end > 0 and goes_on(s, &share.all, &share, number):
        follow_pace(s, &share, number)
        chunk = chunk_before(s, d, end)
        chunk.add = s.add or number > 0
        backward_chain(s, d, &share, &chunk, workspace)
        barrier_wait(&share.all, share.number)
        chunk_gradients(s, d, &share, &chunk, workspace)
        carry_over(s, d, &share, &chunk)
        barrier_wait(&share.all, share.number)
        end = chunk.first
        number += 1


cdef void backward_worker(void* sweep, int worker) noexcept nogil:
    cdef Sweep* s = <Sweep*>sweep
    cdef int i
    for i in range(first_direction(s, worker), last_direction(s, worker)):
        backward_direction(s, &s.direction[i], share_of(s, worker), s.workspace + worker * s.workspace_size)
