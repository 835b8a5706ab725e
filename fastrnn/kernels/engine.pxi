# What Python sees of one build: packed weights, and a layer's pass forward and back. fastrnn/kernels/__init__.py
# says who calls this; all arguments have been checked: there is no shape or dtype error left to find here, and
# no dimension of T, B and N is 0.

from cpython.exc cimport PyErr_CheckSignals
from libc.limits cimport INT_MAX
from libc.math cimport INFINITY
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from fastrnn.kernels.pool cimport (
    WORTH_SHARING, Barrier, Interrupt, Task, barrier_of, barrier_wait, leaves, look_for_signals, pass_on, pool_acquire,
    pool_release, pool_run,
)

cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void** memory, size_t alignment, size_t size)

include "simd.pxi"
include "activations.pxi"
include "pack.pxi"
include "columns.pxi"
include "tile.pxi"
include "product.pxi"
include "affine.pxi"
include "linear.pxi"
include "step.pxi"
include "rnn.pxi"
include "lstm.pxi"
include "gru.pxi"
include "sweep.pxi"
include "bands.pxi"
include "paces.pxi"
include "forward.pxi"
include "backward.pxi"
include "fingerprint.pxi"
include "weights.pxi"


cdef real* allocate(Py_ssize_t count) except NULL:
    """Memory for `count` numbers, aligned to a cache line."""
    cdef void* memory = NULL
    if posix_memalign(&memory, 64, max(count, 1) * sizeof(real)) != 0:
        raise MemoryError(f"expected {count * sizeof(real)} bytes of workspace, got none")
    return <real*>memory


def processor_level():
    """The x86-64 level (2, 3, 4) that this processor and its operating system support, else 0."""
    return x86_level()


def compiler():
    """Name and version of the compiler that built these kernels."""
    return COMPILER.decode("ascii")


cdef inline Rows rows_of(const real[:, :, :] array, const Py_ssize_t* row):
    """An array (T, B, N), or of packed sequences (R, 1, N)."""
    cdef Rows rows = strided(&array[0, 0, 0], array.strides[0] // <Py_ssize_t>sizeof(real),
                             array.strides[1] // <Py_ssize_t>sizeof(real))
    if row != NULL:
        rows.row, rows.b = row, rows.t
    return rows


cdef inline Rows own_order(Rows rows, int direction, Py_ssize_t T) noexcept:
    return reversed_in_time(rows, T) if direction and rows.row == NULL else rows


cdef inline Rows half_of(Rows rows, int direction, Py_ssize_t columns, Py_ssize_t T) noexcept:
    """The columns of one direction in an output, in own order."""
    rows.data += direction * columns
    return own_order(rows, direction, T)


def linear_forward(Affine affine_map not None, const real[:, ::1] x not None, real[:, ::1] y not None, int threads):
    """y = x W^T + b for rows x (M, K), y (M, N)."""
    cdef LinearPass job
    job.x, job.y = strided(&x[0, 0], 0, x.shape[1]), strided(&y[0, 0], 0, y.shape[1])
    job.rows = x.shape[0]
    job.w, job.bias = affine_map.w, affine_map.bias
    with nogil:
        run_linear(linear_forward_worker, &job, threads)
    pass_on(&job.interrupt)


def linear_backward(Affine affine_map not None, const real[:, ::1] x not None, const real[:, ::1] dy not None,
                    real[:, ::1] dx not None, real[:, ::1] dw not None, real[::1] db, bint add, int threads):
    """Back through linear_forward: dx is written, dw and db (None without bias) are added to or written."""
    cdef LinearPass job
    cdef Py_ssize_t rows = min(x.shape[0], BACKWARD_ROWS), K = x.shape[1], N = dy.shape[1]
    affine_map.prepare_backward()
    job.x, job.y, job.dx = strided(&x[0, 0], 0, K), strided(&dy[0, 0], 0, N), strided(&dx[0, 0], 0, K)
    job.rows = x.shape[0]
    job.w = affine_map.w_back
    job.dw = &dw[0, 0]
    job.add = add
    job.db = NULL
    if db is not None:
        job.db = &db[0]
    job.workspace = allocate(rows * (padded_row(N) + panels_for(K) * PANEL + threads * GRADIENT_ROWS))
    with nogil:
        run_linear(linear_backward_worker, &job, threads)
    free(job.workspace)
    pass_on(&job.interrupt)


cdef int begin(Sweep* s, tuple weights, int activation, Py_ssize_t T, Py_ssize_t B) except -1:
    """The sizes of a pass."""
    cdef Weights first = weights[0]
    memset(s, 0, sizeof(Sweep))
    s.cell = first.cell
    s.activation = <Activation>activation
    s.T, s.B, s.I, s.H, s.P = T, B, first.I, first.H, first.P
    s.directions = <int>len(weights)
    s.row_steps = T * B
    s.long_steps = B * step_flops(s) > FLOPS_WORTH_A_LOOK
    return 0


cdef Py_ssize_t* limit(Sweep* s, const Py_ssize_t[::1] lengths, const unsigned char[:, :, ::1] reset) except? NULL:
    """Lengths and resets, either of which may be None; returns memory to be freed after the pass, or NULL.

    For a direction the memory holds the rows alive at each step and, of packed sequences, the rows before the step.
    """
    cdef Py_ssize_t b = s.B, t
    cdef Py_ssize_t* counts
    cdef int i
    if reset is not None:
        for i in range(s.directions):
            s.direction[i].reset = &reset[i, 0, 0]
    if lengths is None:
        return NULL
    counts = <Py_ssize_t*>allocate(4 * s.T * <Py_ssize_t>sizeof(Py_ssize_t) // <Py_ssize_t>sizeof(real))
    s.lengths = &lengths[0]
    s.row_steps = 0
    for t in range(s.T):
        while b > 0 and lengths[b - 1] <= t:
            b -= 1
        counts[t] = counts[2 * s.T - 1 - t] = b
        counts[2 * s.T + t] = counts[4 * s.T - 1 - t] = s.row_steps
        s.row_steps += b
    for i in range(s.directions):
        s.direction[i].alive = counts + i * s.T
        s.direction[i].row = counts + (2 + i) * s.T
    return counts


cdef int of_sequence(Direction* d, int i, const Sweep* s, const real[:, :, :] x, const real[:, :, :] output,
                     const real[:, :, :] cells, const real[:, :, ::1] h0, const real[:, :, ::1] c0,
                     real[:, :, :, ::1] saved, real[:, :, :, ::1] middle) except -1:
    """Where direction i finds and leaves what forward and back both see."""
    d.x = own_order(rows_of(x, d.row), i, s.T)
    d.h0 = &h0[i, 0, 0]
    d.h = half_of(rows_of(output, d.row), i, s.P, s.T)
    if cells is not None:
        d.c = half_of(rows_of(cells, d.row), i, s.H, s.T)
    if c0 is not None:
        d.c0 = &c0[i, 0, 0]
    if saved is not None:
        d.saved = rows_of(saved[i], d.row)
        if middle is not None:
            d.middle = rows_of(middle[i], d.row)
    elif middle is not None:  # that of one step, for all
        d.middle = strided(&middle[i, 0, 0, 0], 0, s.H)
    return 0


cdef inline real* from_offset(real* vector, Py_ssize_t offset) noexcept:
    """Where something begins in a vector, or NULL."""
    return NULL if offset < 0 else vector + offset


cdef inline void last_cells_only(Direction* d, Py_ssize_t H) noexcept:
    """In inference c need not be kept: each step's takes the place of the one before, in c_n."""
    d.c = strided(d.c_n, 0, H)


cdef int sweep_forward(Sweep* s, tuple weights, int threads, real* workspace, Py_ssize_t size) except -1:
    """Run the pass, in a workspace of that size if it is enough."""
    cdef Weights w
    cdef Direction* d
    cdef real* own = NULL
    cdef Py_ssize_t needed
    cdef int i, workers
    s.chunk_rows = max(s.B, min(s.row_steps, forward_rows(s)))
    for i in range(s.directions):
        d, w = &s.direction[i], weights[i]
        d.w_ih, d.w_hh, d.w_second, d.bias, d.y_bias = w.ih, w.hh, w.second, w.bias, w.y_bias
        d.peephole = w.peephole
    s.workspace_size = whole_vectors(forward_workspace(s, s.direction[0].w_ih.count))
    workers = acquire_workers(s, threads)
    try:
        share_out(s, workers)
        s.workspace = workspace
        needed = s.workers * s.workspace_size + memory_of_bands(s) + memory_of_paces(s)
        if needed > size:
            s.workspace = own = allocate(needed)
        deal_bands(s)
        keep_paces(s)
        with nogil:
            pool_run(forward_worker, s, s.workers)
        pass_on(&s.interrupt)
    finally:
        free(own)
        if workers > 1:
            pool_release()
    return 0


def layer_forward(tuple weights not None, int activation, const real[:, :, :] x not None,
                  const real[:, :, ::1] h0 not None, const real[:, :, ::1] c0, real[:, :, :] output not None,
                  real[:, :, :] cells, real[:, :, ::1] h_n not None, real[:, :, ::1] c_n,
                  real[:, :, :, ::1] saved, real[:, :, :, ::1] middle, const Py_ssize_t[::1] lengths,
                  const unsigned char[:, :, ::1] reset, int threads):
    """One layer over x (T, B, I), weights one for each of the D directions.

    Written: output (T, B, D * P), h_n (D, B, P), and of an LSTM c_n (D, B, H) and, unless None, cells (T, B, D * H);
    in training saved (D, T, B, saved_columns); middle (D, T or 1, B, middle_columns) where the cell has one.
    lengths (B,), falling, or None: if there are any, T is the first of them, and instead of (T, B, ...) all these
    arrays are (R, 1, ...), the R rows of all steps. reset (D, T, B), in each direction's order of time: 1 where the
    state before the step is zero, or None.
    """
    cdef Sweep s
    cdef Direction* d
    cdef int i
    cdef Py_ssize_t* counts
    begin(&s, weights, activation, x.shape[0] if lengths is None else lengths[0], h0.shape[1])
    counts = limit(&s, lengths, reset)
    for i in range(s.directions):
        d = &s.direction[i]
        of_sequence(d, i, &s, x, output, cells, h0, c0, saved, middle)
        d.h_n = &h_n[i, 0, 0]
        if c_n is not None:
            d.c_n = &c_n[i, 0, 0]
            if cells is None:
                last_cells_only(d, s.H)
    try:
        sweep_forward(&s, weights, threads, NULL, 0)
    finally:
        free(counts)


cdef int sweep_backward(Sweep* s, tuple weights, real* d_params, tuple offsets, bint add, int threads) except -1:
    """Run the pass back; offsets says where in d_params the gradients of each direction go."""
    cdef Weights w
    cdef Direction* d
    cdef real* dz
    cdef Py_ssize_t dz_size
    cdef int i, workers
    cdef tuple starts
    s.chunk_rows = max(s.B, min(s.row_steps, backward_rows(s)))
    s.dz_row = padded_row(s.cell.slots * whole_vectors(s.H) + (whole_vectors(s.P) if s.cell.second else 0))
    dz_size = (s.chunk_rows + s.B) * s.dz_row
    for i in range(s.directions):
        d, w, starts = &s.direction[i], weights[i], offsets[i]
        w.prepare_backward()
        d.w_ih, d.w_hh, d.w_second, d.peephole = w.ih_back, w.hh_back, w.second_back, w.peephole
        d.dw_ih, d.dw_hh = from_offset(d_params, starts[0]), from_offset(d_params, starts[1])
        d.db_ih, d.db_hh = from_offset(d_params, starts[2]), from_offset(d_params, starts[3])
        d.dw_second, d.dp = from_offset(d_params, starts[4]), from_offset(d_params, starts[5])
    workers = acquire_workers(s, threads)
    try:
        share_out(s, workers)
        s.add, s.row_parts = add, rows_apart(s)
        s.workspace_size = backward_workspace(s)
        dz = allocate(s.directions * dz_size + s.workers * s.workspace_size + memory_of_paces(s))
        for i in range(s.directions):
            s.direction[i].dz = dz + i * dz_size
        s.workspace = dz + s.directions * dz_size
        keep_paces(s)
        with nogil:
            pool_run(backward_worker, s, s.workers)
        free(dz)
        pass_on(&s.interrupt)
    finally:
        if workers > 1:
            pool_release()
    return 0


def layer_backward(tuple weights not None, int activation, const real[:, :, :] x not None,
                   const real[:, :, ::1] h0 not None, const real[:, :, ::1] c0, const real[:, :, :] output not None,
                   const real[:, :, :] cells, real[:, :, :, ::1] saved, real[:, :, :, ::1] middle,
                   const real[:, :, :] d_output, const real[:, :, :] d_cells, real[:, :, :, ::1] d_x not None,
                   real[:, :, ::1] d_h not None, real[:, :, ::1] d_c, real[::1] d_params not None,
                   tuple offsets not None, bint add, const Py_ssize_t[::1] lengths,
                   const unsigned char[:, :, ::1] reset, int threads):
    """Back through layer_forward.

    d_x (D, T, B, I) is written. d_h and d_c hold the gradients of h_n and c_n and then get those of h0 and c0. To
    d_params is added, or it is written; offsets says for each direction where w_ih, w_hh, b_ih, b_hh, w_hr and the
    peepholes begin there, -1 where there is none. d_output and d_cells may be None, for zeros.
    """
    cdef Sweep s
    cdef Direction* d
    cdef Py_ssize_t* counts
    cdef int i
    begin(&s, weights, activation, x.shape[0] if lengths is None else lengths[0], h0.shape[1])
    counts = limit(&s, lengths, reset)
    for i in range(s.directions):
        d = &s.direction[i]
        of_sequence(d, i, &s, x, output, cells, h0, c0, saved, middle)
        if d_output is not None:
            d.g = half_of(rows_of(d_output, d.row), i, s.P, s.T)
        if d_cells is not None:
            d.g_c = half_of(rows_of(d_cells, d.row), i, s.H, s.T)
        d.dx = own_order(rows_of(d_x[i], d.row), i, s.T)
        d.carry = &d_h[i, 0, 0]
        if d_c is not None:
            d.d_c = &d_c[i, 0, 0]
    try:
        sweep_backward(&s, weights, &d_params[0], offsets, add, threads)
    finally:
        free(counts)


include "arrays.pxi"
include "infer.pxi"
include "train.pxi"
