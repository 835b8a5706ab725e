# The LSTM cell (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000, as torch.nn.LSTM), one step
# for a range of rows and hidden units; s is the sigmoid.
#
#   z_t = b_ih + b_hh + x_t W_ih^T                     by forward.pxi, for a chunk of steps at once  (1)
#   i, f, g, o = s, s, tanh, s of the four blocks of z_t + h_{t-1} W_hh^T                          (2)
#   c_t = f c_{t-1} + i g                                                                          (3)
#   m_t = o tanh(c_t),   h_t = m_t, or with a projection m_t W_hr^T                                (4)
#
# and back, with g_t the gradient that reaches h_t from the output, e_t that of c_t,
#
#   dh_t = dz_{t+1} W_hh + g_t,   dm_t = dh_t, or dh_t W_hr                                          (5)
#   dc_t = dc_{t+1} f_{t+1} + e_t + dm_t o (1 - tanh(c_t)^2)                                         (6)
#   di = dc_t g,   df = dc_t c_{t-1},   dg = dc_t i,   do = dm_t tanh(c_t)                           (7)
#   dz_t = di i(1-i), df f(1-f), dg (1-g^2), do o(1-o)                                               (8)
#
# With peepholes p (Gers, Schraudolph & Schmidhuber 2002), by which gates see c,
#
#   z_i, z_f have p_i c_{t-1}, p_f c_{t-1} besides, z_o has p_o c_t                                  (9)
#   dc_t has dz_o p_o besides, before (7) of i, f, g;   dc_{t-1} has dz_i p_i + dz_f p_f              (10)
#
# The four gates of LANES units are one tile's neighbours, so (2) to (4) find all they need in the cache that the
# product has just written. They go over the tile twice: in one loop the chain from z_t to h_t, some 110 cycles, left
# room for the next row's only in part. i, f, g, o are kept for the way back, tanh(c_t) is computed again.
#
# Whether there are peepholes is known to the compiler: the functions with `peephole` are inlined into a finish with and
# one without, which has no trace of them.

cdef inline void lstm_gates(const bint peephole, const Step* step, real* tile, Py_ssize_t tile_row, Py_ssize_t m,
                            Py_ssize_t rows, Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    """(2), in place; with peepholes o, which sees c_t, is left for later."""
    cdef Activation how = step.activation
    cdef Py_ssize_t r, n, unit
    cdef int v
    cdef real* z
    cdef real* saved
    cdef const real* p
    cdef vec i, f, c_prev
    for r in range(rows):
        saved = step.saved + (m + r) * step.saved_row + 4 * step.unit + column
        n = 0
        while n < columns:
            z = tile + r * tile_row + n
            i, f = load(z), load(z + LANES)
            if peephole:
                unit = step.unit + (column + n) // 4
                p = step.peephole + 3 * unit
                c_prev = load_columns(step.c_prev + (m + r) * step.c_prev_row + unit, step.H - unit)
                i, f = i + load(p) * c_prev, f + load(p + LANES) * c_prev
            store(z, gate(how, i))
            store(z + LANES, gate(how, f))
            store(z + 2 * LANES, squash(how, load(z + 2 * LANES)))
            if not peephole:
                store(z + 3 * LANES, gate(how, load(z + 3 * LANES)))
            if step.saved != NULL:
                for v in range(4):
                    store(saved + n + v * LANES, load(z + v * LANES))
            n += 4 * LANES


cdef inline void lstm_finish(const bint peephole, const void* cell, real* tile, Py_ssize_t tile_row, Py_ssize_t m,
                             Py_ssize_t rows, Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    """(2) to (4) for a tile of z_t + h_{t-1} W_hh^T, with peepholes (9)."""
    cdef const Step* step = <const Step*>cell
    cdef Py_ssize_t r, n, unit, left
    cdef const real* z
    cdef const real* c_prev
    cdef real* c_row
    cdef real* m_row
    cdef vec c, o
    lstm_gates(peephole, step, tile, tile_row, m, rows, column, columns)
    for r in range(m, m + rows):
        c_prev, c_row = step.c_prev + r * step.c_prev_row, step.c + r * step.c_row
        m_row = step.middle + r * step.middle_row if step.cell.second else step.h + r * step.h_row
        n = 0
        while n < columns:
            unit = step.unit + (column + n) // 4
            left = step.H - unit
            z = tile + (r - m) * tile_row + n
            c = load(z + LANES) * load_columns(c_prev + unit, left) + load(z) * load(z + 2 * LANES)
            store_columns(c_row + unit, c, left)
            o = load(z + 3 * LANES)
            if peephole:
                o = gate(step.activation, o + load(step.peephole + 3 * unit + 2 * LANES) * c)
                if step.saved != NULL:
                    store(step.saved + r * step.saved_row + 4 * unit + 3 * LANES, o)
            store_columns(m_row + unit, o * squash(step.activation, c), left)
            n += 4 * LANES


cdef void lstm_forward_finish(const void* cell, real* tile, Py_ssize_t tile_row, Py_ssize_t m, Py_ssize_t rows,
                              Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    lstm_finish(False, cell, tile, tile_row, m, rows, column, columns)


cdef void peephole_forward_finish(const void* cell, real* tile, Py_ssize_t tile_row, Py_ssize_t m, Py_ssize_t rows,
                                  Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    lstm_finish(True, cell, tile, tile_row, m, rows, column, columns)


cdef void lstm_projected_finish(const void* cell, real* tile, Py_ssize_t tile_row, Py_ssize_t m, Py_ssize_t rows,
                                Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    """dh_t of (5) for a tile of dz_{t+1} W_hh, kept behind the slots of dz_t."""
    cdef const Step* step = <const Step*>cell
    cdef Py_ssize_t r, n, unit, left
    for r in range(m, m + rows):
        n = 0
        while n < columns:
            unit = step.state + column + n
            left = step.P - unit
            store(step.dz + r * step.dz_row + 4 * step.slot + unit, keep_columns(
                load(tile + (r - m) * tile_row + n) + outside(step.g, r * step.g_row + unit, left), left))
            n += LANES


cdef inline void lstm_finish_back(const bint peephole, const void* cell, real* tile, Py_ssize_t tile_row, Py_ssize_t m,
                                  Py_ssize_t rows, Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    """(6) to (8) for a tile of dm_t, without g_t yet where there is no projection; with peepholes (10)."""
    cdef const Step* step = <const Step*>cell
    cdef Activation how = step.activation
    cdef Py_ssize_t r, n, unit, left
    cdef const real* saved
    cdef const real* p
    cdef real* dz
    cdef real* d_c
    cdef vec i, f, g, o, c, dm, dc, dz_i, dz_f, dz_o
    for r in range(m, m + rows):
        dz, d_c = step.dz + r * step.dz_row, step.d_c + r * step.H
        n = 0
        while n < columns:
            unit = step.unit + column + n
            left = step.H - unit
            saved = step.saved + r * step.saved_row + 4 * unit
            i, f, g, o = load(saved), load(saved + LANES), load(saved + 2 * LANES), load(saved + 3 * LANES)
            c = squash(how, load_columns(step.c + r * step.c_row + unit, left))
            dm = load(tile + (r - m) * tile_row + n)
            if not step.cell.second:
                dm = dm + outside(step.g, r * step.g_row + unit, left)
            dm = keep_columns(dm, left)
            dc = load_columns(d_c + unit, left) + outside(step.g_c, r * step.g_c_row + unit, left) \
                + dm * o * squash_slope(how, c)
            dz_o = dm * c * gate_slope(how, o)
            p = step.peephole + 3 * unit
            if peephole:
                dc = dc + dz_o * load(p + 2 * LANES)
            dz_i = dc * g * gate_slope(how, i)
            dz_f = dc * load_columns(step.c_prev + r * step.c_prev_row + unit, left) * gate_slope(how, f)
            store(dz + unit, dz_i)
            store(dz + step.slot + unit, dz_f)
            store(dz + 2 * step.slot + unit, dc * i * squash_slope(how, g))
            store(dz + 3 * step.slot + unit, dz_o)
            dc = dc * f
            if peephole:
                dc = dc + dz_i * load(p) + dz_f * load(p + LANES)
            store_columns(d_c + unit, dc, left)
            n += LANES


cdef void lstm_backward_finish(const void* cell, real* tile, Py_ssize_t tile_row, Py_ssize_t m, Py_ssize_t rows,
                               Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    lstm_finish_back(False, cell, tile, tile_row, m, rows, column, columns)


cdef void peephole_backward_finish(const void* cell, real* tile, Py_ssize_t tile_row, Py_ssize_t m, Py_ssize_t rows,
                                   Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    lstm_finish_back(True, cell, tile, tile_row, m, rows, column, columns)


cdef void lstm_forward(Step* step) noexcept nogil:
    step.recurrent.finish = lstm_forward_finish if step.peephole == NULL else peephole_forward_finish
    product(&step.recurrent)


cdef void lstm_project(Step* step) noexcept nogil:
    step.second.M = step.recurrent.M
    step.second.a, step.second.a_row = step.middle, step.middle_row
    step.second.out, step.second.out_row = step.h + step.state, step.h_row
    step.second.finish = NULL
    product(&step.second)


cdef Finish finish_back(const Step* step) noexcept nogil:
    return lstm_backward_finish if step.peephole == NULL else peephole_backward_finish


cdef void lstm_back(Step* step) noexcept nogil:
    step.recurrent.finish = lstm_projected_finish if step.cell.second else finish_back(step)
    product(&step.recurrent)


cdef void lstm_project_back(Step* step) noexcept nogil:
    step.second.M = step.recurrent.M
    step.second.a, step.second.a_row = step.dz + 4 * step.slot, step.dz_row
    step.second.finish = finish_back(step)
    product(&step.second)


cdef void lstm_cell(Cell* cell, bint projection) noexcept nogil:
    cdef int g
    cell.gates = cell.slots = cell.recurrent_slots = cell.recurrent_gates = cell.saved = 4
    cell.input_slot = 0
    cell.second_slot = -1
    for g in range(4):
        cell.recurrent_slot[g] = g
    cell.span = LANES
    cell.apart = cell.carries = False
    cell.memory = True
    cell.second = projection
    cell.forward, cell.forward_second = lstm_forward, lstm_project
    cell.back, cell.back_second = lstm_back, lstm_project_back
