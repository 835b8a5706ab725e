# The plain recurrent cell (Elman 1990), one step for a range of rows and hidden units.
#
#   z_t = b_ih + b_hh + x_t W_ih^T                     by forward.pxi, for a chunk of steps at once  (1)
#   h_t = f(z_t + h_{t-1} W_hh^T)                                                                  (2)
#
# and back, with g_t the gradient that reaches h_t from the output and dz_t that of f's argument,
#
#   dz_t = (dz_{t+1} W_hh + g_t) f'(h_t),   f' written by the value h_t                              (3)
#
# so that either way of time is one product with an elementwise end, and only the output need be kept.

cdef void rnn_forward_finish(const void* cell, real* tile, Py_ssize_t tile_row, Py_ssize_t m, Py_ssize_t rows,
                             Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    """(2) for a tile of z_t + h_{t-1} W_hh^T."""
    cdef const Step* step = <const Step*>cell
    cdef Py_ssize_t r, n, unit = step.unit + column
    cdef real* h
    columns = min(columns, step.H - unit)
    for r in range(rows):
        h = step.h + (m + r) * step.h_row + unit
        n = 0
        while n < columns:
            store_columns(h + n, activated(step.activation, load(tile + r * tile_row + n)), columns - n)
            n += LANES


cdef void rnn_backward_finish(const void* cell, real* tile, Py_ssize_t tile_row, Py_ssize_t m, Py_ssize_t rows,
                              Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    """(3) for a tile of dz_{t+1} W_hh."""
    cdef const Step* step = <const Step*>cell
    cdef Py_ssize_t r, n, unit, left
    cdef const real* h
    cdef vec dh
    for r in range(rows):
        h = step.h + (m + r) * step.h_row
        n = 0
        while n < columns:
            unit = step.unit + column + n
            left = step.H - unit
            dh = load(tile + r * tile_row + n) + outside(step.g, (m + r) * step.g_row + unit, left)
            store(step.dz + (m + r) * step.dz_row + unit,
                  keep_columns(slope(step.activation, load_columns(h + unit, left), dh), left))
            n += LANES


cdef void rnn_forward(Step* step) noexcept nogil:
    step.recurrent.finish = rnn_forward_finish
    product(&step.recurrent)


cdef void rnn_back(Step* step) noexcept nogil:
    step.recurrent.finish = rnn_backward_finish
    product(&step.recurrent)


cdef void rnn_cell(Cell* cell) noexcept nogil:
    cell.gates = cell.slots = cell.recurrent_slots = cell.recurrent_gates = 1
    cell.input_slot = cell.recurrent_slot[0] = cell.second_slot = cell.saved = 0
    cell.span = PANEL
    cell.apart = cell.carries = cell.memory = cell.second = False
    cell.forward = rnn_forward
    cell.back = rnn_back
