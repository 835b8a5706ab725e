# Rows that need not be whole vectors: no number behind the last column is read or written.

cdef inline void copy_columns(real* out, const real* source, Py_ssize_t columns) noexcept nogil:
    cdef Py_ssize_t n = 0
    while n + LANES <= columns:
        store(out + n, load(source + n))
        n += LANES
    while n < columns:
        out[n] = source[n]
        n += 1


cdef inline void place_row(real* out, const real* source, Py_ssize_t columns) noexcept nogil:
    """A copy of a row; zeros for NULL."""
    cdef Py_ssize_t n
    if source != NULL:
        copy_columns(out, source, columns)
        return
    for n in range(columns):
        out[n] = 0


cdef inline void store_columns(real* out, vec v, Py_ssize_t columns) noexcept nogil:
    """Write the next vector of a row of which `columns` are left."""
    cdef tile_values values
    cdef Py_ssize_t n
    if columns >= LANES:
        store(out, v)
        return
    store(values.values, v)
    for n in range(columns):
        out[n] = values.values[n]


cdef inline vec keep_columns(vec v, Py_ssize_t columns) noexcept nogil:
    """v, with zeros in the lanes behind a row of which `columns` are left."""
    cdef tile_values values
    cdef Py_ssize_t n
    if columns >= LANES:
        return v
    store(values.values, v)
    for n in range(max(0, columns), LANES):
        values.values[n] = 0
    return load(values.values)


cdef inline vec load_columns(const real* source, Py_ssize_t columns) noexcept nogil:
    """The next vector of a row of which `columns` are left; zeros behind them."""
    cdef tile_values values
    cdef Py_ssize_t n
    if columns >= LANES:
        return load(source)
    store(values.values, splat(0))
    for n in range(columns):
        values.values[n] = source[n]
    return load(values.values)
