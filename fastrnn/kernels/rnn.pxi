# The plain recurrent cell, one step for a range of rows and hidden units.
#
#   z_t = b_ih + b_hh + x_t W_ih^T                     by sweep, for a chunk of steps at once        (1)
#   h_t = f(z_t + h_{t-1} W_hh^T)                                                                  (2)
#
# and back, with g_t the gradient that reaches h_t from the output and dz_t that of f's argument,
#
#   dz_t = (g_t + dz_{t+1} W_hh) f'(h_t),   f' written by the value h_t                              (3)
#
# so that both directions of time are one product with an elementwise end, and only the output need be kept.

cdef struct RNNStep:
    Activation activation
    Product recurrence
    real* h                 # forward: h_t to be written; backward: h_t to be read. (rows, own units)
    Py_ssize_t h_row


cdef void rnn_forward_finish(const void* cell, real* tile, Py_ssize_t tile_row, Py_ssize_t m, Py_ssize_t rows,
                             Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    """(2) for a tile of z_t + h_{t-1} W_hh^T."""
    cdef const RNNStep* step = <const RNNStep*>cell
    cdef Py_ssize_t r
    activate(step.activation, tile, rows * tile_row)
    for r in range(rows):
        copy_columns(step.h + (m + r) * step.h_row + column, tile + r * tile_row, columns)


cdef void rnn_backward_finish(const void* cell, real* tile, Py_ssize_t tile_row, Py_ssize_t m, Py_ssize_t rows,
                              Py_ssize_t column, Py_ssize_t columns) noexcept nogil:
    """(3) for a tile of g_t + dz_{t+1} W_hh; dz_t takes the place of g_t."""
    cdef const RNNStep* step = <const RNNStep*>cell
    cdef Py_ssize_t r, n
    cdef const real* h
    cdef real* dz
    for r in range(rows):
        h = step.h + (m + r) * step.h_row + column
        dz = step.recurrence.out + (m + r) * step.recurrence.out_row + column
        n = 0
        while n < columns:
            store(dz + n, slope(step.activation, load_columns(h + n, columns - n), load(tile + r * tile_row + n)))
            n += LANES
