# The short way in, for inference on arguments that are as the kernels want them: arrays of the right type, shape and
# order, all rows of one length, nothing to reset. It costs about a microsecond, and with `out` it allocates nothing
# as long as the workspace fits the stack. Anything else is answered with None: the long way, in Python, converts it or
# says what is wrong with it.

cdef enum:
    STACK = 24 * 1024        # bytes of workspace
    STACKED_ROWS = 1024      # rows (steps x batch) that go through a stack of layers together


cdef struct Shape:
    # of a call: a stack of layers, or a cell as one layer that takes one step
    Py_ssize_t T
    Py_ssize_t B
    Py_ssize_t H
    Py_ssize_t P
    Py_ssize_t states        # directions * layers
    int directions
    int layers
    bint cell
    bint batched
    bint batch_first
    bint memory
    Py_ssize_t middle        # numbers of a row that a second product reads


cdef struct States:
    real* h                  # (states, B, P); NULL for zeros
    real* c                  # (states, B, H)


cdef struct Memory:
    # workspace, of which parts are taken one after the other
    real* next
    Py_ssize_t left


cdef real* part(Memory* memory, Py_ssize_t count) noexcept:
    cdef real* start = memory.next
    memory.next += whole_vectors(count)
    memory.left -= whole_vectors(count)
    return start


cdef real* shaped(object array, bint writable, int ndim, Py_ssize_t first, Py_ssize_t last,
                  Py_ssize_t count) noexcept:
    """The numbers of an array of so many dimensions, of which first and last have these lengths; NULL if it is none."""
    cdef Numbers a
    if not numbers_of(array, writable, &a) or a.ndim != ndim or a.shape[ndim - 1] != last \
            or (ndim > 1 and a.shape[0] != first) or a.count != count:
        return NULL
    return a.data


cdef bint states_in(object states, bint writable, const Shape* s, States* out) noexcept:
    """Find h, or h and c; False if they are not right."""
    cdef int ndim = s.batched + (1 if s.cell else 2)
    cdef Py_ssize_t first = s.B if s.cell else s.states
    cdef object h = states
    out.c = NULL
    if s.memory:
        if type(states) is not tuple or len(<tuple>states) != 2:
            return False
        h = (<tuple>states)[0]
        out.c = shaped((<tuple>states)[1], writable, ndim, first, s.H, s.states * s.B * s.H)
        if out.c == NULL:
            return False
    out.h = shaped(h, writable, ndim, first, s.P, s.states * s.B * s.P)
    return out.h != NULL


cdef bint shape_of_call(const Numbers* x, list layers, bint cell, bint batch_first, Shape* s) except -1:
    """The sizes that an input x asks for; False if it is not right."""
    cdef Weights w = (<tuple>layers[0])[0]
    cdef int ndim = x.ndim
    s.batched = ndim == (2 if cell else 3)
    if not s.batched and ndim != (1 if cell else 2) or x.shape[ndim - 1] != w.I:
        return False
    s.cell = cell
    s.batch_first = batch_first and s.batched and not cell
    s.T = 1 if cell else x.shape[1 if s.batch_first else 0]
    s.B = x.shape[0 if cell or s.batch_first else 1] if s.batched else 1
    s.H, s.P, s.memory = w.H, w.P, w.cell.memory
    s.middle = w.H if w.cell.second else 0
    s.layers = <int>len(layers)
    s.directions = <int>len(<tuple>layers[0])
    s.states = s.layers * s.directions
    return True


cdef object new_output(const Shape* s):
    cdef Py_ssize_t shape[3]
    shape[0], shape[1], shape[2] = s.T, s.B, s.directions * s.P
    if s.batch_first:
        shape[0], shape[1] = s.B, s.T
    elif not s.batched:
        shape[1] = shape[2]
    return new_array(3 if s.batched else 2, shape)


cdef object new_state(const Shape* s, Py_ssize_t size):
    cdef Py_ssize_t shape[3]
    cdef int ndim = 0
    if not s.cell:
        shape[0] = s.states
        ndim = 1
    if s.batched:
        shape[ndim] = s.B
        ndim += 1
    shape[ndim] = size
    return new_array(ndim + 1, shape)


cdef object new_states(const Shape* s):
    """h, or of an LSTM (h, c), as the caller has states."""
    h = new_state(s, s.P)
    return (h, new_state(s, s.H)) if s.memory else h


cdef object new_results(const Shape* s):
    """Arrays for the results of a call, as the caller gets them."""
    states = new_states(s)
    return states if s.cell else (new_output(s), states)


cdef inline Rows sequence(real* data, Py_ssize_t features, const Shape* s, bint caller=True):
    """A contiguous array of all steps of all rows, as the caller lays it out or as it lies between two layers."""
    if caller and s.batch_first:
        return strided(data, features, s.T * features)
    return strided(data, s.B * features, features)


cdef int aim(Sweep* sweep, tuple weights, int layer, int activation, const Shape* s, Rows x, Rows output,
             States before) except -1:
    """Begin a layer's sweep: where it finds input and initial states, and its output."""
    cdef Direction* d
    cdef Py_ssize_t k
    cdef int i
    begin(sweep, weights, activation, s.T, s.B)
    for i in range(s.directions):
        d = &sweep.direction[i]
        k = first_row_of(layer, i, s)
        d.x = own_order(x, i, s.T)
        d.h = half_of(output, i, s.P, s.T)
        d.h0 = before.h + k * s.P
        if s.memory:
            d.c0 = before.c + k * s.H
    return 0


cdef inline Py_ssize_t first_row_of(int layer, int direction, const Shape* s) noexcept:
    """Of the states of all layers and directions."""
    return (layer * s.directions + direction) * s.B


cdef int infer_layer(list layers, int layer, int activation, const Shape* s, Rows x, Rows output, States before,
                     States after, Memory memory, int threads) except -1:
    cdef Sweep sweep
    cdef Direction* d
    cdef Py_ssize_t k
    cdef int i
    aim(&sweep, layers[layer], layer, activation, s, x, output, before)
    for i in range(s.directions):
        d = &sweep.direction[i]
        k = first_row_of(layer, i, s)
        d.h_n = after.h + k * s.P
        if s.memory:
            d.c_n = after.c + k * s.H
            last_cells_only(d, s.H)
        if s.middle:
            d.middle = strided(part(&memory, s.B * s.middle), 0, s.middle)
    sweep_forward(&sweep, layers[layer], threads, memory.next, memory.left)
    return 0


cdef Py_ssize_t steps_at_a_time(const Shape* s) noexcept:
    """Steps that a stack of layers takes together: what lies between two layers is then no longer than these."""
    if s.layers == 1 or s.directions == 2:
        return s.T
    return min(s.T, max(1, STACKED_ROWS // s.B))


cdef void copy_states(States out, States source, Py_ssize_t of_h, Py_ssize_t of_c) noexcept:
    """Copy states; zeros for NULL."""
    if source.h == NULL:
        memset(out.h, 0, of_h * sizeof(real))
    else:
        memcpy(out.h, source.h, of_h * sizeof(real))
    if of_c == 0:  # then there may be no memory either
        return
    if source.c == NULL:
        memset(out.c, 0, of_c * sizeof(real))
    else:
        memcpy(out.c, source.c, of_c * sizeof(real))


cdef int infer_stack(list layers, int activation, Shape s, Rows x, Rows output, States before, States after,
                     Memory memory, bint in_place, int threads) except -1:
    """All layers; in_place: before may be where after is written."""
    cdef Py_ssize_t of_h = s.states * s.B * s.P, of_c = s.states * s.B * s.H if s.memory else 0
    cdef Py_ssize_t columns = s.directions * s.P, T = s.T, steps = steps_at_a_time(&s), first = 0
    cdef Rows between[2]
    cdef States begun = before
    cdef int layer
    if in_place or before.h == NULL or steps < T:
        begun.h, begun.c = part(&memory, of_h), part(&memory, of_c)
        copy_states(begun, before, of_h, of_c)
    for layer in range(min(2, s.layers - 1)):
        between[layer] = strided(part(&memory, steps * s.B * columns), s.B * columns, columns)
    while first < T:
        if first:
            copy_states(begun, after, of_h, of_c)
        s.T = min(steps, T - first)
        for layer in range(s.layers):
            PyErr_CheckSignals()
            infer_layer(layers, layer, activation, &s, rows_at(x, first, 0) if layer == 0 else between[(layer - 1) % 2],
                        rows_at(output, first, 0) if layer == s.layers - 1 else between[layer % 2], begun, after,
                        memory, threads)
        first += s.T
    return 0


cdef bint overlap(const real* a, Py_ssize_t of_a, const real* b, Py_ssize_t of_b) noexcept:
    return a < b + of_b and b < a + of_a


cdef Py_ssize_t workspace_of(const Shape* s) noexcept:
    """Numbers of workspace that `infer_stack` takes, besides those of a layer's sweep."""
    return s.states * s.B * (s.P + s.H) + s.directions * s.B * s.middle + 8 * LANES \
        + min(2, s.layers - 1) * steps_at_a_time(s) * s.B * s.directions * s.P


cdef int infer_anywhere(list layers, int activation, const Shape* s, Rows x, Rows output, States before, States after,
                        bint in_place, int threads) except -1:
    """`infer_stack` in a workspace on the stack, or where that is too small in memory of its own."""
    cdef char stack[STACK + 64]
    cdef real* own = NULL
    cdef Py_ssize_t needed = workspace_of(s)
    cdef Memory memory
    memory.next = <real*>(<size_t>(stack + 63) // 64 * 64)
    memory.left = STACK // <Py_ssize_t>sizeof(real)
    if needed > memory.left:
        memory.next = own = allocate(needed)
        memory.left = needed
    try:
        infer_stack(layers, activation, s[0], x, output, before, after, memory, in_place, threads)
    finally:
        free(own)
    return 0


cdef bint run(list layers, int activation, const Shape* s, const Numbers* x, States before, object result, bint given,
              int threads) except -1:
    """Write a call's results; False if they, `given` by the caller, are not right."""
    cdef States after
    cdef Py_ssize_t columns = s.directions * s.P, count = s.T * s.B * columns
    cdef real* output
    if not s.cell and (type(result) is not tuple or len(<tuple>result) != 2):
        return False
    if not states_in(result if s.cell else (<tuple>result)[1], True, s, &after):
        return False
    output = after.h
    if not s.cell:
        output = shaped((<tuple>result)[0], True, s.batched + 2, s.B if s.batch_first else s.T, columns, count)
        if output == NULL:
            return False
    if given and overlap(x.data, x.count, output, count):
        return False
    infer_anywhere(layers, activation, s, sequence(x.data, x.shape[x.ndim - 1], s), sequence(output, columns, s),
                   before, after, given, threads)
    return True


def infer_at(list layers not None, int activation, object shape, size_t x, size_t h, size_t c, bint cell,
             bint batch_first, int threads):
    """What `infer` returns, of contiguous numbers at these addresses: x in this shape, h and c 0 for zeros.

    For arrays that are not numpy's. All of it has been checked.
    """
    cdef Shape s
    cdef States before
    cdef Numbers input
    cdef Py_ssize_t sizes[3]
    cdef int i
    input.data, input.ndim, input.shape, input.count = <real*>x, <int>len(shape), sizes, 0
    for i in range(input.ndim):
        sizes[i] = shape[i]
    shape_of_call(&input, layers, cell, batch_first, &s)
    before.h, before.c = <real*>h, <real*>c
    result = new_results(&s)
    run(layers, activation, &s, &input, before, result, False, threads)
    return result


def infer(list layers not None, int activation, object x, object hx, object out, bint cell, bint batch_first,
          int threads):
    """output, h_n (of an LSTM (h_n, c_n)) of a stack of layers, or of a cell the state alone; None by the long way.

    layers holds a tuple of weights for each; hx or None, and out or None, are as the caller of a layer gives them.
    """
    cdef Shape s
    cdef States before
    cdef Numbers input
    if not numbers_of(x, False, &input) or not shape_of_call(&input, layers, cell, batch_first, &s):
        return None
    before.h = before.c = NULL
    if hx is not None and not states_in(hx, False, &s, &before):
        return None
    result = new_results(&s) if out is None else out
    if not run(layers, activation, &s, &input, before, result, out is not None, threads):
        return None
    return result
