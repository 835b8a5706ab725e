# The GRU cell (Cho et al. 2014), one step for a range of rows and hidden units; s is the sigmoid. torch's form resets
# after the product, so that one product serves all three gates; the original resets before it.
#
#   z_t = b_ih + x_t W_ih^T, of r and u with b_hh too  by forward.pxi, for a chunk of steps at once  (1)
#   y_t = h_{t-1} W_hh^T, of n with b_hh                                                           (2)
#   r, u = s of the first two blocks of z_t + y_t                                                  (3)
#   n = tanh(z_n + r y_n)                              reset before: tanh(z_n + (r h_{t-1}) W_hn^T)  (4)
#   h_t = n + u (h_{t-1} - n)                                                                      (5)
#
# (torch writes z for u; reset before, both biases of n are in z_t.) And back, with g_t the gradient that reaches h_t
# from the output, and z, y standing for their blocks,
#
#   dh_t = dh_{t+1} u_{t+1} + dy_{t+1} W_hh + g_t                                                    (6)
#   dz_n = dh_t (1 - u)(1 - n^2),   dz_u = dh_t (h_{t-1} - n) u(1-u)                                 (7)
#   dz_r = dz_n y_n r(1-r),   dy = dz_r, dz_u, dz_n r                                                (8)
#
# or, with reset before, p = r h_{t-1} and dp = dz_n W_hn:
#
#   dz_r = dp h_{t-1} r(1-r),   dh_{t-1} has dp r besides                                            (9)
#
# The slots of dz are n of y, r, u, n of z: the first three are dy, the last three dz. Reset before: r, u, n.
#
# As an LSTM's, a tile is gone over twice: in one loop the chain from z_t to h_t left no room for the next units' one.

cdef inline void gru_gates(const Step* step, real* tile, Py_ssize_t tile_row, Py_ssize_t m, Py_ssize_t rows,
                           Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    """(3), in place."""
    cdef Activation how = step.activation
    cdef Py_ssize_t r, n, v
    cdef real* y
    cdef const real* z
    for r in range(rows):
        n = 0
        while n < columns:
            for v in range(2 * WIDTH):
                y = tile + r * tile_row + n + v * LANES
                z = step.x_part + (m + r) * step.x_row + column + n + v * LANES
                store(y, gate(how, load(z) + load(y)))
            n += 3 * PANEL


cdef void gru_forward_finish(const void* cell, real* tile, Py_ssize_t tile_row, Py_ssize_t m, Py_ssize_t rows,
                             Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    """(3) to (5) for a tile of y_t."""
    cdef const Step* step = <const Step*>cell
    cdef Activation how = step.activation
    cdef Py_ssize_t r, n, unit, left, v
    cdef const real* y
    cdef const real* z
    cdef real* saved
    cdef vec reset, update, candidate, y_n, h
    gru_gates(step, tile, tile_row, m, rows, column, columns)
    for r in range(m, m + rows):
        n = 0
        while n < columns:
            for v in range(WIDTH):
                unit = step.unit + (column + n) // 3 + v * LANES
                left = step.H - unit
                if left <= 0:
                    break
                y = tile + (r - m) * tile_row + n + v * LANES
                z = step.x_part + r * step.x_row + column + n + v * LANES
                reset, update, y_n = load(y), load(y + PANEL), load(y + 2 * PANEL)
                candidate = squash(how, load(z + 2 * PANEL) + reset * y_n)
                h = load_columns(step.h_prev + r * step.h_prev_row + unit, left)
                store_columns(step.h + r * step.h_row + unit, candidate + update * (h - candidate), left)
                if step.saved != NULL:
                    saved = step.saved + r * step.saved_row + 4 * unit
                    store(saved, reset)
                    store(saved + LANES, update)
                    store(saved + 2 * LANES, candidate)
                    store(saved + 3 * LANES, y_n)
            n += 3 * PANEL


cdef void gru_backward_finish(const void* cell, real* tile, Py_ssize_t tile_row, Py_ssize_t m, Py_ssize_t rows,
                              Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    """(7) and (8) for a tile of (6) without g_t."""
    cdef const Step* step = <const Step*>cell
    cdef Activation how = step.activation
    cdef Py_ssize_t r, n, unit, left
    cdef const real* saved
    cdef real* dz
    cdef vec reset, update, candidate, y_n, dh, dz_n
    for r in range(m, m + rows):
        dz = step.dz + r * step.dz_row
        n = 0
        while n < columns:
            unit = step.unit + column + n
            left = step.H - unit
            saved = step.saved + r * step.saved_row + 4 * unit
            reset, update, candidate, y_n = load(saved), load(saved + LANES), load(saved + 2 * LANES), \
                load(saved + 3 * LANES)
            dh = keep_columns(
                load(tile + (r - m) * tile_row + n) + outside(step.g, r * step.g_row + unit, left), left)
            dz_n = dh * (splat(1) - update) * squash_slope(how, candidate)
            store(dz + unit, dz_n * reset)
            store(dz + step.slot + unit, dz_n * y_n * gate_slope(how, reset))
            store(dz + 2 * step.slot + unit, dh * gate_slope(how, update)
                  * (load_columns(step.h_prev + r * step.h_prev_row + unit, left) - candidate))
            store(dz + 3 * step.slot + unit, dz_n)
            store_columns(step.carry + r * step.P + unit, dh * update, left)
            n += LANES


cdef void gru_forward(Step* step) noexcept nogil:
    step.recurrent.finish = gru_forward_finish
    product(&step.recurrent)


cdef void gru_back(Step* step) noexcept nogil:
    step.recurrent.finish = gru_backward_finish
    product(&step.recurrent)


cdef void gru_cell(Cell* cell) noexcept nogil:
    cell.gates = cell.recurrent_slots = cell.recurrent_gates = 3
    cell.slots = cell.saved = 4
    cell.input_slot = 1
    cell.second_slot = 0
    cell.recurrent_slot[0], cell.recurrent_slot[1], cell.recurrent_slot[2] = 1, 2, 0
    cell.span = PANEL
    cell.apart = cell.carries = True
    cell.memory = cell.second = False
    cell.forward = gru_forward
    cell.back = gru_back


# Reset before the product: the candidate waits for r h_{t-1} of all units, so a step is two products.

cdef void gates_forward_finish(const void* cell, real* tile, Py_ssize_t tile_row, Py_ssize_t m, Py_ssize_t rows,
                               Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    """(3) for a tile of y_t's first two blocks; r h_{t-1} goes to middle, u to where h_t will be."""
    cdef const Step* step = <const Step*>cell
    cdef Activation how = step.activation
    cdef Py_ssize_t r, n, unit, left, v
    cdef const real* y
    cdef const real* z
    cdef vec reset, update
    for r in range(m, m + rows):
        n = 0
        while n < columns:
            for v in range(WIDTH):
                unit = step.unit + (column + n) // 2 + v * LANES
                left = step.H - unit
                if left <= 0:
                    break
                y = tile + (r - m) * tile_row + n + v * LANES
                z = step.x_part + r * step.x_row + (column + n) // 2 * 3 + v * LANES
                reset, update = gate(how, load(z) + load(y)), gate(how, load(z + PANEL) + load(y + PANEL))
                store_columns(step.middle + r * step.middle_row + unit,
                              reset * load_columns(step.h_prev + r * step.h_prev_row + unit, left), left)
                store_columns(step.h + r * step.h_row + unit, update, left)
                if step.saved != NULL:
                    store(step.saved + r * step.saved_row + 3 * unit, reset)
            n += 2 * PANEL


cdef void candidate_forward_finish(const void* cell, real* tile, Py_ssize_t tile_row, Py_ssize_t m, Py_ssize_t rows,
                                   Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    """(4) and (5) for a tile of (r h_{t-1}) W_hn^T."""
    cdef const Step* step = <const Step*>cell
    cdef Py_ssize_t r, n, unit, left
    cdef real* h_row
    cdef real* saved
    cdef vec update, candidate, h
    for r in range(m, m + rows):
        h_row = step.h + r * step.h_row
        n = 0
        while n < columns:
            unit = step.unit + column + n
            left = step.H - unit
            candidate = squash(step.activation, load(tile + (r - m) * tile_row + n) + load(
                step.x_part + r * step.x_row + (column + n) // PANEL * 3 * PANEL + 2 * PANEL + n % PANEL))
            update = load_columns(h_row + unit, left)
            h = load_columns(step.h_prev + r * step.h_prev_row + unit, left)
            store_columns(h_row + unit, candidate + update * (h - candidate), left)
            if step.saved != NULL:
                saved = step.saved + r * step.saved_row + 3 * unit
                store(saved + LANES, update)
                store(saved + 2 * LANES, candidate)
            n += LANES


cdef void candidate_backward_finish(const void* cell, real* tile, Py_ssize_t tile_row, Py_ssize_t m, Py_ssize_t rows,
                                    Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    """(7) for a tile of (6) without g_t."""
    cdef const Step* step = <const Step*>cell
    cdef Activation how = step.activation
    cdef Py_ssize_t r, n, unit, left
    cdef const real* saved
    cdef real* dz
    cdef vec update, candidate, dh
    for r in range(m, m + rows):
        dz = step.dz + r * step.dz_row
        n = 0
        while n < columns:
            unit = step.unit + column + n
            left = step.H - unit
            saved = step.saved + r * step.saved_row + 3 * unit
            update, candidate = load(saved + LANES), load(saved + 2 * LANES)
            dh = keep_columns(
                load(tile + (r - m) * tile_row + n) + outside(step.g, r * step.g_row + unit, left), left)
            store(dz + step.slot + unit, dh * gate_slope(how, update)
                  * (load_columns(step.h_prev + r * step.h_prev_row + unit, left) - candidate))
            store(dz + 2 * step.slot + unit, dh * (splat(1) - update) * squash_slope(how, candidate))
            store_columns(step.carry + r * step.P + unit, dh * update, left)
            n += LANES


cdef void reset_backward_finish(const void* cell, real* tile, Py_ssize_t tile_row, Py_ssize_t m, Py_ssize_t rows,
                                Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    """(9) for a tile of dp."""
    cdef const Step* step = <const Step*>cell
    cdef Py_ssize_t r, n, unit, left
    cdef real* carry
    cdef vec reset, dp
    for r in range(m, m + rows):
        carry = step.carry + r * step.P
        n = 0
        while n < columns:
            unit = step.unit + column + n
            left = step.H - unit
            reset = load(step.saved + r * step.saved_row + 3 * unit)
            dp = keep_columns(load(tile + (r - m) * tile_row + n), left)
            store(step.dz + r * step.dz_row + unit, dp * gate_slope(step.activation, reset)
                  * load_columns(step.h_prev + r * step.h_prev_row + unit, left))
            store_columns(carry + unit, load_columns(carry + unit, left) + dp * reset, left)
            n += LANES


cdef void gates_forward(Step* step) noexcept nogil:
    step.recurrent.finish = gates_forward_finish
    product(&step.recurrent)


cdef void candidate_forward(Step* step) noexcept nogil:
    step.second.M = step.recurrent.M
    step.second.a, step.second.a_row = step.middle, step.middle_row
    step.second.finish = candidate_forward_finish
    product(&step.second)


cdef void candidate_back(Step* step) noexcept nogil:
    step.recurrent.finish = candidate_backward_finish
    product(&step.recurrent)


cdef void reset_back(Step* step) noexcept nogil:
    step.second.M = step.recurrent.M
    step.second.a, step.second.a_row = step.dz + 2 * step.slot, step.dz_row
    step.second.finish = reset_backward_finish
    product(&step.second)


cdef void gru_reset_before_cell(Cell* cell) noexcept nogil:
    cdef int g
    cell.gates = cell.slots = cell.saved = 3
    cell.recurrent_slots = cell.recurrent_gates = cell.second_slot = 2
    cell.input_slot = 0
    for g in range(3):
        cell.recurrent_slot[g] = g
    cell.span = PANEL
    cell.apart = cell.carries = cell.second = True
    cell.memory = False
    cell.forward, cell.forward_second = gates_forward, candidate_forward
    cell.back, cell.back_second = candidate_back, reset_back
