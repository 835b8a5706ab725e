# The short way of training, forward and back, on arguments that are as the kernels want them; as in infer.pxi anything
# else is answered with None. What a forward keeps are the arrays of `recurrence.Record`, so that the long way can go
# back where gradients come that the short one does not take.

cdef object kept(object room, const Shape* s, Py_ssize_t columns):
    """An array for what each direction keeps of every row's step; None if that is nothing."""
    cdef Py_ssize_t shape[4]
    if columns == 0:
        return None
    shape[0], shape[1], shape[2], shape[3] = s.directions, s.T, s.B, columns
    return in_room(room, 4, shape)


cdef object in_room(object room, int ndim, const Py_ssize_t* shape):
    """A new array, or one of `room`."""
    cdef int i
    if room is None:
        return new_array(ndim, shape)
    return room(tuple([shape[i] for i in range(ndim)]), np.PyArray_DescrFromType(REAL_TYPE))


cdef tuple new_record(object room, const Shape* s, int layer, Weights w, object x, object result):
    """What a layer's forward reads and writes and the way back needs."""
    cdef Py_ssize_t shape[3]
    output, cells = result, None
    if s.cell:  # of one step the results are output and cells
        if s.memory:
            output, cells = result
    else:
        shape[0], shape[1], shape[2] = s.T, s.B, s.directions * s.P
        output = result[0] if layer == s.layers - 1 else new_array(3, shape)
        if s.memory:
            shape[2] = s.directions * s.H
            cells = in_room(room, 3, shape)
    return (x, output, cells, kept(room, s, w.cell.saved * whole_vectors(s.H)), kept(room, s, s.middle))


cdef int aim_recorded(Sweep* sweep, list layers, int layer, int activation, const Shape* s, tuple record,
                      States before) except -1:
    """Begin a layer's sweep over the arrays of its record."""
    cdef Weights w = (<tuple>layers[layer])[0]
    cdef Py_ssize_t columns = s.directions * s.H, rows = s.T * s.B, saved = w.cell.saved * whole_vectors(s.H)
    cdef Direction* d
    cdef int i
    aim(sweep, layers[layer], layer, activation, s, sequence(data_of(record[0]), w.I, s, layer == 0),
        sequence(data_of(record[1]), s.directions * s.P, s, layer == s.layers - 1), before)
    for i in range(s.directions):
        d = &sweep.direction[i]
        if s.memory:
            d.c = half_of(sequence(data_of(record[2]), columns, s, False), i, s.H, s.T)
        if saved:
            d.saved = sequence(data_of(record[3]) + i * rows * saved, saved, s, False)
        if s.middle:
            d.middle = sequence(data_of(record[4]) + i * rows * s.middle, s.middle, s, False)
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


def train(list layers not None, int activation, object x, object hx, object room, bint cell, bint batch_first,
          int threads):
    """Forward for training: what `infer` returns, the initial states, and a record of each layer.

    room(shape, dtype) has the arrays that stay with the records; None for new ones.

    The first record's x and the last one's output are as the caller lays them out. What the way back needs of the
    results is read-only.
    """
    cdef Shape s
    cdef States before, after, none
    cdef Numbers input
    cdef list records = []
    cdef tuple record
    cdef int layer
    if not numbers_of(x, False, &input) or not shape_of_call(&input, layers, cell, batch_first, &s):
        return None
    given, none.h, none.c = hx is not None, NULL, NULL
    if not given:
        hx = new_states(&s)
    if not states_in(hx, not given, &s, &before):
        return None
    if not given:
        copy_states(before, none, s.states * s.B * s.P, s.states * s.B * s.H if s.memory else 0)
    result = new_results(&s)
    states_in(result if cell else result[1], True, &s, &after)
    for layer in range(s.layers):
        PyErr_CheckSignals()
        record = new_record(room, &s, layer, (<tuple>layers[layer])[0], x, result)
        train_layer(layers, layer, activation, &s, record, before, after, threads)
        records.append(record)
        x = record[1]
    make_read_only(x)
    if cell and s.memory:
        make_read_only(record[2])
    return result, hx, records


cdef object train_layer_back(list layers, int layer, int activation, const Shape* s, tuple record, Rows g,
                             States before, States gradients, real* d_params, tuple offsets, bint add, int threads):
    """The gradient of a layer's input, from that of its output."""
    cdef Sweep sweep
    cdef Direction* d
    cdef real* first
    cdef Py_ssize_t k, n
    cdef Py_ssize_t shape[4]
    cdef np.ndarray x = record[0]
    cdef int i, ndim = np.PyArray_NDIM(x), more = s.directions - 1
    shape[0] = s.directions
    for i in range(ndim):
        shape[i + more] = np.PyArray_DIM(x, i)
    aim_recorded(&sweep, layers, layer, activation, s, record, before)
    n = s.T * s.B * sweep.I
    d_x = new_array(ndim + more, shape)
    first = data_of(d_x)
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


def train_back(list layers not None, int activation, list records not None, object hx, object d_output, object d_hx,
               object d_params, list offsets not None, bint add, bint cell, bint batch_first, int threads):
    """Back through `train`: the gradients of x and hx; None by the long way, before anything is written.

    The parameters' gradients go to d_params, where offsets of each layer say; d_output may be None, d_hx as well.
    """
    cdef Shape s
    cdef States before, given, gradients
    cdef Numbers flat, input
    cdef Py_ssize_t columns
    cdef Rows g = strided(NULL, 0, 0)
    cdef real* data
    cdef int layer
    d_x = None
    if not numbers_of(d_params, True, &flat) or not numbers_of((<tuple>records[0])[0], False, &input) \
            or not shape_of_call(&input, layers, cell, batch_first, &s) or not states_in(hx, False, &s, &before):
        return None
    if d_output is not None:
        columns = s.directions * s.P
        data = shaped(d_output, False, s.batched + 2, s.B if s.batch_first else s.T, columns, s.T * s.B * columns)
        if data == NULL:
            return None
        g = sequence(data, columns, &s)
    given.h = given.c = NULL
    if d_hx is not None and not states_in(d_hx, False, &s, &given):
        return None
    d_states = new_states(&s)
    states_in(d_states, True, &s, &gradients)
    copy_states(gradients, given, s.states * s.B * s.P, s.states * s.B * s.H if s.memory else 0)
    for layer in range(s.layers - 1, -1, -1):
        PyErr_CheckSignals()
        if layer < s.layers - 1:
            g = sequence(data_of(d_x), s.directions * s.P, &s, False)
        d_x = train_layer_back(layers, layer, activation, &s, records[layer], g, before, gradients, flat.data,
                               offsets[layer], add, threads)
    return d_x, d_states
