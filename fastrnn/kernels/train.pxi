# The short way of training, forward and back, on arguments that are as the kernels want them; as in infer.pxi anything
# else is answered with None. What a forward keeps are the arrays of `recurrence.Record`, so that the long way can go
# back where gradients come that the short one does not take.

cdef real* numbers(object array) except? NULL:
    """Where a contiguous array's numbers lie as long as it is kept; NULL for None."""
    cdef Py_buffer view
    if array is None:
        return NULL
    PyObject_GetBuffer(array, &view, PyBUF_C_CONTIGUOUS)
    PyBuffer_Release(&view)
    return <real*>view.buf


cdef object kept(object room, const Shape* s, Py_ssize_t columns, object dtype):
    """An array for what each direction keeps of every row's step; None if that is nothing."""
    return room((s.directions, s.T, s.B, columns), dtype) if columns else None


cdef tuple new_record(object room, const Shape* s, int layer, Weights w, object x, object result, object dtype):
    """What a layer's forward reads and writes and the way back needs."""
    output, cells = result, None
    if s.cell:  # of one step the results are output and cells
        if s.memory:
            output, cells = result
    else:
        output = result[0] if layer == s.layers - 1 else empty((s.T, s.B, s.directions * s.P), dtype)
        if s.memory:
            cells = room((s.T, s.B, s.directions * s.H), dtype)
    return (x, output, cells, kept(room, s, w.cell.saved * whole_vectors(s.H), dtype), kept(room, s, s.middle, dtype))


cdef int aim_recorded(Sweep* sweep, list layers, int layer, int activation, const Shape* s, tuple record,
                      States before) except -1:
    """Begin a layer's sweep over the arrays of its record."""
    cdef Weights w = (<tuple>layers[layer])[0]
    cdef Py_ssize_t columns = s.directions * s.H, rows = s.T * s.B, saved = w.cell.saved * whole_vectors(s.H)
    cdef Direction* d
    cdef int i
    aim(sweep, layers[layer], layer, activation, s, sequence(numbers(record[0]), w.I, s, layer == 0),
        sequence(numbers(record[1]), s.directions * s.P, s, layer == s.layers - 1), before)
    for i in range(s.directions):
        d = &sweep.direction[i]
        if s.memory:
            d.c = half_of(sequence(numbers(record[2]), columns, s, False), i, s.H, s.T)
        if saved:
            d.saved = sequence(numbers(record[3]) + i * rows * saved, saved, s, False)
        if s.middle:
            d.middle = sequence(numbers(record[4]) + i * rows * s.middle, s.middle, s, False)
    return 0


cdef int train_layer(list layers, int layer, int activation, const Shape* s, tuple record, States before, States after,
                     int threads) except -1:
    cdef Sweep sweep
    cdef Direction* d
    cdef Py_ssize_t k
    cdef int i
    aim_recorded(&sweep, layers, layer, activation, s, record, before)
    for i in range(s.directions):
        d = &sweep.direction[i]
        k = first_row_of(layer, i, s)
        d.h_n = after.h + k * s.P
        if s.memory:
            d.c_n = after.c + k * s.H
    return sweep_forward(&sweep, layers[layer], threads, NULL, 0)


cdef object train_held(Held* held, list layers, int activation, object x, object hx, object room, bint cell,
                       bint batch_first, int threads):
    cdef Shape s
    cdef States before, after
    cdef Py_buffer* input = hold(held, x, 0)
    cdef list records = []
    cdef tuple record
    cdef int layer
    if input == NULL or not shape_of_call(input, layers, cell, batch_first, &s):
        return None
    dtype = x.dtype
    if hx is None:
        hx = new_states(&s, zeros, dtype)
    if not hold_states(held, hx, 0, &s, &before):
        return None
    result = new_results(&s, dtype)
    hold_states(held, result if cell else result[1], PyBUF_WRITABLE, &s, &after)
    for layer in range(s.layers):
        PyErr_CheckSignals()
        record = new_record(room, &s, layer, (<tuple>layers[layer])[0], x, result, dtype)
        train_layer(layers, layer, activation, &s, record, before, after, threads)
        records.append(record)
        x = record[1]
    x.setflags(write=False)
    if cell and s.memory:
        record[2].setflags(write=False)
    return result, hx, records


def train(list layers not None, int activation, object x, object hx, object room, bint cell, bint batch_first,
          int threads):
    """Forward for training: what `infer` returns, the initial states, and a record of each layer.

    room makes the arrays that stay with the records: `np.empty`, or what does the same.

    The first record's x and the last one's output are as the caller lays them out. What the way back needs of the
    results is read-only.
    """
    cdef Held held
    held.count = 0
    try:
        return train_held(&held, layers, activation, x, hx, room, cell, batch_first, threads)
    finally:
        release(&held)


cdef object train_layer_back(list layers, int layer, int activation, const Shape* s, tuple record, Rows g,
                             States before, States gradients, real* d_params, tuple offsets, bint add, int threads):
    """The gradient of a layer's input, from that of its output."""
    cdef Sweep sweep
    cdef Direction* d
    cdef real* first
    cdef Py_ssize_t k, n
    cdef int i
    cdef tuple shape = record[0].shape
    aim_recorded(&sweep, layers, layer, activation, s, record, before)
    n = s.T * s.B * sweep.I
    d_x = empty(shape if s.directions == 1 else (s.directions, *shape), record[0].dtype)
    first = numbers(d_x)
    for i in range(s.directions):
        d = &sweep.direction[i]
        k = first_row_of(layer, i, s)
        d.dx = own_order(sequence(first + i * n, sweep.I, s, layer == 0), i, s.T)
        d.carry = gradients.h + k * s.P
        if s.memory:
            d.d_c = gradients.c + k * s.H
        if g.data != NULL:
            d.g = half_of(g, i, s.P, s.T)
    sweep_backward(&sweep, layers[layer], d_params, offsets, add, threads)
    if s.directions == 1:
        return d_x
    for k in range(n):
        first[k] += first[n + k]
    return d_x[0]


cdef object train_held_back(Held* held, list layers, int activation, object records, object hx, object d_output,
                            object d_hx, object d_params, list offsets, bint add, bint cell, bint batch_first,
                            int threads):
    cdef Shape s
    cdef States before, given, gradients
    cdef Py_ssize_t columns
    cdef Rows g = strided(NULL, 0, 0)
    cdef Py_buffer* flat = hold(held, d_params, PyBUF_WRITABLE)
    cdef Py_buffer* input = hold(held, (<tuple>records[0])[0], 0)
    cdef real* data
    cdef int layer
    d_x = None
    if flat == NULL or input == NULL or not shape_of_call(input, layers, cell, batch_first, &s) \
            or not hold_states(held, hx, 0, &s, &before):
        return None
    if d_output is not None:
        columns = s.directions * s.P
        data = hold_shaped(held, d_output, 0, s.batched + 2, s.B if s.batch_first else s.T, columns,
                           s.T * s.B * columns)
        if data == NULL:
            return None
        g = sequence(data, columns, &s)
    given.h = given.c = NULL
    if d_hx is not None and not hold_states(held, d_hx, 0, &s, &given):
        return None
    dtype = records[0][0].dtype
    d_states = new_states(&s, empty, dtype)
    hold_states(held, d_states, PyBUF_WRITABLE, &s, &gradients)
    copy_states(gradients, given, s.states * s.B * s.P, s.states * s.B * s.H if s.memory else 0)
    for layer in range(s.layers - 1, -1, -1):
        PyErr_CheckSignals()
        if layer < s.layers - 1:
            g = sequence(numbers(d_x), s.directions * s.P, &s, False)
        d_x = train_layer_back(layers, layer, activation, &s, records[layer], g, before, gradients, <real*>flat.buf,
                               offsets[layer], add, threads)
    return d_x, d_states


def train_back(list layers not None, int activation, list records not None, object hx, object d_output, object d_hx,
               object d_params, list offsets not None, bint add, bint cell, bint batch_first, int threads):
    """Back through `train`: the gradients of x and hx; None by the long way, before anything is written.

    The parameters' gradients go to d_params, where offsets of each layer say; d_output may be None, d_hx as well.
    """
    cdef Held held
    held.count = 0
    try:
        return train_held_back(&held, layers, activation, records, hx, d_output, d_hx, d_params, offsets, add, cell,
                               batch_first, threads)
    finally:
        release(&held)
