# y = x W^T + b over the rows of a stretch of time, and its gradients: the input half of every cell, and Linear.
#
#   y  = b + x W^T                                                                                 (1)
#   dx = dy W                                                                                      (2)
#   dW = dW + dy^T x,   db = db + sum over rows of dy                                              (3)
#
# (3) runs over `rows` at a time that are still in the cache. There x is the packed operand (packing is a copy
# of whole vectors) and dy the one read in place, a column of it being a row of the product; dy lies in a
# workspace whose rows are an odd number of cache lines apart, since at a power of two the rows of a column
# share a few cache sets (seen: 55-87 instead of 100 GFLOP/s from 256 columns on).

cdef enum:
    BACKWARD_ROWS = 256
    ROWS_AHEAD = 16
    COLUMN_VECTORS = 4       # summed side by side: each waits for its last addition


cdef struct Rows:
    # Row (t, b) of a (T, B, N) array is at data[t * t_stride + b * b_stride]; of packed sequences, which have no two
    # strides, at data[(row[t] + b) * b_stride].
    real* data
    Py_ssize_t t
    Py_ssize_t b
    const Py_ssize_t* row    # NULL for two strides


cdef inline Rows strided(const real* data, Py_ssize_t t, Py_ssize_t b) noexcept nogil:
    """Rows with two strides."""
    cdef Rows rows
    rows.data = <real*>data
    rows.t = t
    rows.b = b
    rows.row = NULL
    return rows


cdef inline Rows rows_at(Rows x, Py_ssize_t t, Py_ssize_t b) noexcept nogil:
    cdef Rows at = x
    at.data = x.data + (t * x.t if x.row == NULL else x.row[t] * x.b) + b * x.b
    return at


cdef inline Py_ssize_t padded_row(Py_ssize_t columns) noexcept nogil:
    """Length of a workspace row that holds whole vectors: an odd number of cache lines."""
    cdef Py_ssize_t line = 64 // <Py_ssize_t>sizeof(real)
    return ((whole_vectors(columns) + line - 1) // line | 1) * line


cdef inline Rows stretch_of(Rows x, Py_ssize_t T, Py_ssize_t B) noexcept nogil:
    """The rows of T steps as those of one, if they lie one below the other; data is NULL if not."""
    if T == 1 or (x.row == NULL and x.t == B * x.b):
        return strided(x.data, 0, x.b)
    if x.row == NULL and B == 1:
        return strided(x.data, 0, x.t)
    return strided(NULL, 0, 0)


cdef void affine(Rows y, const real* bias, Rows x, Panels w, Py_ssize_t columns, Py_ssize_t rows) noexcept nogil:
    """(1) for rows one below the other, and with w packed the other way and no bias (2)."""
    cdef Product p
    p.out, p.out_row = y.data, y.b
    p.a, p.a_row = x.data, x.b
    p.M = rows
    p.start = bias
    p.start_row = 0
    p.a_k = 1
    p.K = w.K
    p.w = w
    p.backwards = False
    p.together = 1
    p.columns = columns
    p.finish = NULL
    p.before = NULL
    product(&p)


cdef void pack_rows(real* panel, Rows x, Py_ssize_t T, Py_ssize_t B, Py_ssize_t columns) noexcept nogil:
    """The rows (t, b) of one panel's columns of x, one below the other."""
    cdef Py_ssize_t t
    if x.t == x.b * B:
        pack_panel(panel, x.data, T * B, x.b, columns)
    elif B == 1:
        pack_panel(panel, x.data, T, x.t, columns)
    else:
        for t in range(T):
            pack_panel(panel + t * B * PANEL, x.data + t * x.t, B, x.b, columns)


cdef void gather_columns(real* out, const real* source, Py_ssize_t row, Py_ssize_t rows,
                         Py_ssize_t columns) noexcept nogil:
    """Some columns of all rows, the rows GRADIENT_ROWS apart."""
    cdef Py_ssize_t r, n
    for r in range(rows):
        n = 0
        while n < columns:
            fetch(source + (r + ROWS_AHEAD) * row + n)
            n += CACHE_LINE
        copy_columns(out + r * GRADIENT_ROWS, source + r * row, columns)


cdef inline void put_columns(real* out, vec v, Py_ssize_t columns, bint add) noexcept nogil:
    """Write the next vector of a row of which `columns` are left, or add it to what is there."""
    store_columns(out, load_columns(out, columns) + v if add else v, columns)


cdef void outer_product(real* dw, Py_ssize_t dw_row, const real* dy, Py_ssize_t M, const real* x, Py_ssize_t columns,
                        bint add) noexcept nogil:
    """dW of (3) for a single row: written from the first to the last number, which is how memory takes it fastest."""
    cdef Py_ssize_t m, n
    cdef vec factor
    for m in range(M):
        factor = splat(dy[m])
        n = 0
        while n < columns:
            put_columns(dw + m * dw_row + n, factor * load(x + n), columns - n, add)
            n += LANES


cdef void weight_gradient(real* dw, Py_ssize_t dw_row, const real* dy, Py_ssize_t dy_row, Py_ssize_t M, Panels x,
                          bint add, real* columns) noexcept nogil:
    """dW of (3) for the columns in x; a strip of rows of dW outside, that is of columns of dy, gathered in `columns`.

    It is added to what is there, or written: dW is as large as W, and with few rows moving it is all there is to do.
    """
    cdef Product p
    cdef Py_ssize_t m = 0
    if x.K == 1:
        outer_product(dw, dw_row, dy, M, x.data, x.columns, add)
        return
    p.out_row = p.start_row = dw_row
    p.a_row = 1
    p.a_k = GRADIENT_ROWS
    p.a = columns
    p.K = x.K
    p.w = x
    p.backwards = False
    p.together = 1
    p.columns = x.columns
    p.finish = NULL
    p.before = NULL
    while m < M:
        p.M = min(GRADIENT_ROWS, M - m)
        gather_columns(columns, dy + m, dy_row, x.K, p.M)
        p.out = dw + m * dw_row
        p.start = p.out if add else NULL
        product(&p)
        p.backwards = not p.backwards
        m += p.M


cdef inline void sum_columns(const int vectors, real* db, const real* dy, Py_ssize_t dy_row, Py_ssize_t rows,
                             Py_ssize_t columns, bint add) noexcept nogil:
    """db of (3) for so many vectors of columns, the last of which need not be full."""
    cdef vec total[COLUMN_VECTORS]
    cdef Py_ssize_t r
    cdef int v
    for v in range(vectors):
        total[v] = splat(0)
    for r in range(rows):
        for v in range(vectors):
            total[v] = total[v] + load(dy + r * dy_row + v * LANES)
    for v in range(vectors):
        put_columns(db + v * LANES, total[v], columns - v * LANES, add)


cdef void bias_gradient(real* db, const real* dy, Py_ssize_t dy_row, Py_ssize_t rows, Py_ssize_t first,
                        Py_ssize_t last, bint add) noexcept nogil:
    """db of (3) for columns first .. last - 1, added to what is there or written."""
    cdef Py_ssize_t n = first
    while last - n >= COLUMN_VECTORS * LANES:
        sum_columns(COLUMN_VECTORS, db + n, dy + n, dy_row, rows, last - n, add)
        n += COLUMN_VECTORS * LANES
    while n < last:
        sum_columns(1, db + n, dy + n, dy_row, rows, last - n, add)
        n += LANES
