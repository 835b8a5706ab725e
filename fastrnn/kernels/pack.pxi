# Packed weights: a matrix w (K, columns) in panels of PANEL columns, [panel][k][PANEL], filled up with zeros.
#
# Forward, w is W^T, and its columns are dealt so that all gates of a few units lie side by side, for one tile to
# hold: `span` units of the first gate, the same units of the second, and so on, then the next units. Back, w is W,
# its columns the units, and its rows the gates one after the other, each filled up to whole vectors, as the
# gradients of the preactivations lie (step.pxi).

cdef struct Panels:
    real* data
    Py_ssize_t K
    Py_ssize_t columns
    Py_ssize_t count


cdef inline Py_ssize_t panels_for(Py_ssize_t columns) noexcept nogil:
    return (columns + PANEL - 1) // PANEL


cdef inline Py_ssize_t whole_vectors(Py_ssize_t columns) noexcept nogil:
    """Length of a row of so many columns filled up to whole vectors."""
    return (columns + LANES - 1) // LANES * LANES


cdef inline Panels panels_slice(Panels w, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Panels first .. last - 1 of w."""
    cdef Panels part = w
    part.data = w.data + first * w.K * PANEL
    part.count = last - first
    part.columns = min(w.columns, last * PANEL) - first * PANEL
    return part


cdef void pack_columns(real* panel, const real* source, Py_ssize_t K, Py_ssize_t k_stride, Py_ssize_t n_stride,
                       Py_ssize_t columns, Py_ssize_t width) noexcept nogil:
    """panel[k, n] = source[k * k_stride + n * n_stride] for n < columns, zero from there to width."""
    cdef Py_ssize_t k, n
    for k in range(K):
        if n_stride == 1 and columns == PANEL:
            for n in range(WIDTH):
                store(panel + n * LANES, load(source + n * LANES))
        else:
            for n in range(columns):
                panel[n] = source[n * n_stride]
            for n in range(columns, width):
                panel[n] = 0
        panel += PANEL
        source += k_stride


cdef inline void pack_panel(real* panel, const real* source, Py_ssize_t K, Py_ssize_t k_stride,
                            Py_ssize_t columns) noexcept nogil:
    """A panel of rows that lie one below the other."""
    pack_columns(panel, source, K, k_stride, 1, columns, PANEL)


cdef void pack_forward(Panels* w, const real* weight, Py_ssize_t units, int gates, Py_ssize_t span) noexcept nogil:
    """W^T of a weight (gates * units, K)."""
    cdef Py_ssize_t column = 0, unit, gate
    while column < w.count * PANEL:
        unit = column // (gates * span) * span
        gate = column // span % gates
        pack_columns(w.data + column // PANEL * PANEL * w.K + column % PANEL, weight + (gate * units + unit) * w.K,
                     w.K, 1, w.K, max(0, min(span, units - unit)), span)
        column += span


cdef void pack_back(Panels* w, const real* weight, Py_ssize_t units, const int* gates, int slots) noexcept nogil:
    """W of a weight (gates * units, w.columns); slot i of the rows, w.K / slots long, is gate gates[i]."""
    cdef Py_ssize_t n, length = w.K // slots, k
    cdef int slot
    cdef real* panel
    for n in range(w.count):
        for slot in range(slots):
            panel = w.data + (n * w.K + slot * length) * PANEL
            pack_panel(panel, weight + gates[slot] * units * w.columns + n * PANEL, units, w.columns,
                       min(PANEL, w.columns - n * PANEL))
            for k in range(units * PANEL, length * PANEL):
                panel[k] = 0


cdef void deal(real* out, Py_ssize_t count, const real* source, Py_ssize_t units, int gates,
               Py_ssize_t span) noexcept nogil:
    """Add a vector (gates * units) to `count` columns dealt as in `pack_forward`."""
    cdef Py_ssize_t column, unit
    for column in range(count):
        unit = column // (gates * span) * span + column % span
        if unit < units:
            out[column] += source[column // span % gates * units + unit]
