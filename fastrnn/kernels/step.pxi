# What a cell is to the sweep: its sizes, and two functions that take some rows one step on and one step back.
#
# A cell's preactivations are `gates` blocks of H rows in torch's weights. Their gradients lie in `slots` vectors of
# the units side by side, [slot][unit], each filled up to whole vectors; the slots that the input's weights saw start
# at `input_slot`, and `recurrent_slot` says where each gate's recurrent weights find theirs. They differ in the GRU
# alone, whose candidate sees input and state apart.

cdef struct Step

ctypedef void (*Advance)(Step* step) noexcept nogil


cdef struct Cell:
    int gates
    int slots
    int input_slot
    int recurrent_slot[4]
    int recurrent_slots      # the first so many slots are the operand of the recurrent product back
    int second_slot          # that of the second product; -1: the gradient of the projected state, behind all slots
    int recurrent_gates      # gates of the recurrent product; a second product has the others
    Py_ssize_t span          # units of a gate side by side in the packed columns
    int saved                # values a unit that the way back needs, besides states
    bint apart               # finish takes the input's share and the state's one by one, not their sum
    bint carries             # part of the state's gradient goes by the recurrent product
    bint memory              # has a second state, c
    bint second              # a step is two products: a projection, or a reset before the product
    Advance forward          # by the first
    Advance forward_second   # by the second, which reads what the first left of all units
    Advance back
    Advance back_second


cdef struct Step:
    Cell cell
    Activation activation
    Py_ssize_t H
    Py_ssize_t P             # size of h: H, or that of the projection
    Py_ssize_t unit          # the first of the units that the products compute; row pointers are at unit 0
    Py_ssize_t state         # the first of the columns of h; another one with a projection
    Product recurrent
    Product second
    const real* x_part       # the input's share of the preactivations, own columns only
    Py_ssize_t x_row
    const real* h_prev
    Py_ssize_t h_prev_row
    const real* c_prev
    Py_ssize_t c_prev_row
    real* h
    Py_ssize_t h_row
    real* c
    Py_ssize_t c_row
    real* saved              # [block of LANES units][value][LANES]; NULL in inference
    Py_ssize_t saved_row
    real* middle             # what the second product reads
    Py_ssize_t middle_row
    const real* g            # gradient of h from outside; NULL for none
    Py_ssize_t g_row
    const real* g_c          # and of c
    Py_ssize_t g_c_row
    real* dz
    Py_ssize_t dz_row
    Py_ssize_t slot          # length of one
    const real* peephole     # [block of LANES units][i, f, o][LANES]; NULL for none
    real* carry              # (rows, P)
    real* d_c                # (rows, H)


cdef inline vec squash(Activation activation, vec x) noexcept nogil:
    """tanh, or in the tests' linear mode x."""
    if activation == IDENTITY:
        return x
    return tanh(x)


cdef inline vec gate(Activation activation, vec x) noexcept nogil:
    """sigmoid, or in the tests' linear mode x."""
    if activation == IDENTITY:
        return x
    return sigmoid(x)


cdef inline vec squash_slope(Activation activation, vec y) noexcept nogil:
    if activation == IDENTITY:
        return splat(1)
    return splat(1) - y * y


cdef inline vec gate_slope(Activation activation, vec y) noexcept nogil:
    if activation == IDENTITY:
        return splat(1)
    return y * (splat(1) - y)


cdef inline vec outside(const real* g, Py_ssize_t at, Py_ssize_t left) noexcept nogil:
    """A vector of a gradient that may not be there."""
    if g == NULL:
        return splat(0)
    return load_columns(g + at, left)
