# Rows that need not be whole vectors: no number behind the last column is read or written.

cdef inline void store_columns(real* out, vec v, Py_ssize_t columns) noexcept nogil:
    """Write the next vector of a row of which `columns` are left."""
    if columns >= LANES:
        store(out, v)
    elif columns > 0:
        store_first(out, v, columns)


cdef inline vec keep_columns(vec v, Py_ssize_t columns) noexcept nogil:
    """v, with zeros in the lanes behind a row of which `columns` are left."""
    if columns >= LANES:
        return v
    return keep_first(v, columns) if columns > 0 else splat(0)


cdef inline vec load_columns(const real* source, Py_ssize_t columns) noexcept nogil:
    """The next vector of a row of which `columns` are left; zeros behind them."""
    if columns >= LANES:
        return load(source)
    return load_first(source, columns) if columns > 0 else splat(0)


cdef inline void copy_columns(real* out, const real* source, Py_ssize_t columns) noexcept nogil:
    cdef Py_ssize_t n = 0
    while n < columns:
        store_columns(out + n, load_columns(source + n, columns - n), columns - n)
        n += LANES


cdef inline void place_row(real* out, const real* source, Py_ssize_t columns) noexcept nogil:
    """A copy of a row; zeros for NULL."""
    cdef Py_ssize_t n
    if source != NULL:
        copy_columns(out, source, columns)
        return
    for n in range(columns):
        out[n] = 0
