# What Python sees of one build: packed weights, and a layer's pass forward and back. fastrnn/kernels/__init__.py
# says who calls this; all arguments have been checked: there is no shape or dtype error left to find here, and
# no dimension of T, B and N is 0.

from libc.stdlib cimport free

from fastrnn.kernels.pool cimport (
    Barrier, Task, barrier_wait, pool_acquire, pool_release, pool_run,
)

cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void** memory, size_t alignment, size_t size)

include "simd.pxi"
include "activations.pxi"
include "tile.pxi"
include "affine.pxi"
include "linear.pxi"
include "rnn.pxi"
include "sweep.pxi"


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


cdef class Affine:
    """Packed weight (N, K) of y = x W^T + bias: ready for y, and on first use also for dx = dy W."""

    cdef const real[:, ::1] weight
    cdef Panels w
    cdef Panels w_back
    cdef real* bias

    def __cinit__(self, const real[:, ::1] weight not None, const real[::1] bias=None):
        cdef Py_ssize_t N = weight.shape[0], K = weight.shape[1], n
        self.weight = weight
        self.w = self.packed(N, K, 1, K)
        self.bias = allocate(self.w.count * PANEL)
        for n in range(self.w.count * PANEL):
            self.bias[n] = bias[n] if bias is not None and n < N else 0

    def __dealloc__(self):
        free(self.w.data)
        free(self.w_back.data)
        free(self.bias)

    cdef Panels packed(self, Py_ssize_t columns, Py_ssize_t K, Py_ssize_t k_stride, Py_ssize_t n_stride) except *:
        cdef Panels w
        w.K = K
        w.columns = columns
        w.count = panels_for(columns)
        w.data = allocate(w.count * K * PANEL)
        pack(&w, &self.weight[0, 0], k_stride, n_stride)
        return w

    cdef int prepare_backward(self) except -1:
        """Pack for dx = dy W. Under the GIL, so that one caller does it for all."""
        if self.w_back.data == NULL:
            self.w_back = self.packed(self.weight.shape[1], self.weight.shape[0], self.weight.shape[1], 1)
        return 0


cdef inline Rows rows_of(const real[:, :, :] array):
    cdef Rows rows
    rows.data = <real*>&array[0, 0, 0]
    rows.t = array.strides[0] // <Py_ssize_t>sizeof(real)
    rows.b = array.strides[1] // <Py_ssize_t>sizeof(real)
    return rows


cdef inline Rows half_of(Rows rows, int direction, Py_ssize_t H, Py_ssize_t T) noexcept:
    """The columns of one direction in an output, in that direction's order of time."""
    rows.data += direction * H
    return reversed_in_time(rows, T) if direction else rows


cdef void begin(Sweep* s, int activation, const real[:, :, :] x, const real[:, :, ::1] h0) noexcept:
    s.T, s.B, s.I, s.H = x.shape[0], x.shape[1], x.shape[2], h0.shape[2]
    s.directions = <int>h0.shape[0]
    s.activation = <Activation>activation
    s.dz_row = padded_row(s.H)


def linear_forward(Affine affine_map not None, const real[:, ::1] x not None, real[:, ::1] y not None, int threads):
    """y = x W^T + b for rows x (M, K), y (M, N)."""
    cdef LinearPass job
    job.x, job.y = flat_rows(&x[0, 0], x.shape[1]), flat_rows(&y[0, 0], y.shape[1])
    job.rows = x.shape[0]
    job.w, job.bias = affine_map.w, affine_map.bias
    with nogil:
        run_linear(linear_forward_worker, &job, threads)


def linear_backward(Affine affine_map not None, const real[:, ::1] x not None, const real[:, ::1] dy not None,
                    real[:, ::1] dx not None, real[:, ::1] dw not None, real[::1] db, int threads):
    """Back through linear_forward: dx is written, dw and db (None without bias) are added to."""
    cdef LinearPass job
    cdef Py_ssize_t rows = min(x.shape[0], BACKWARD_ROWS), K = x.shape[1], N = dy.shape[1]
    affine_map.prepare_backward()
    job.x, job.y, job.dx = flat_rows(&x[0, 0], K), flat_rows(&dy[0, 0], N), flat_rows(&dx[0, 0], K)
    job.rows = x.shape[0]
    job.w = affine_map.w_back
    job.dw = &dw[0, 0]
    job.db = NULL
    if db is not None:
        job.db = &db[0]
    job.workspace = allocate(rows * (padded_row(N) + panels_for(K) * PANEL))
    with nogil:
        run_linear(linear_backward_worker, &job, threads)
    free(job.workspace)


def rnn_forward(tuple weights not None, int activation, const real[:, :, :] x not None,
                const real[:, :, ::1] h0 not None, real[:, :, :] output not None,
                real[:, :, ::1] h_n not None, int threads):
    """One layer over (T, B, I) into output (T, B, D * H) and h_n (D, B, H); weights: (ih, hh) a direction."""
    cdef Sweep s
    cdef Direction* d
    cdef Affine ih, hh
    cdef int i, workers
    begin(&s, activation, x, h0)
    s.steps = min(s.T, max(1, FORWARD_ROWS // s.B))
    s.workspace_size = s.steps * s.B * padded_row(s.H)
    for i in range(s.directions):
        d = &s.direction[i]
        ih, hh = weights[2 * i], weights[2 * i + 1]
        d.w_ih, d.w_hh, d.bias = ih.w, hh.w, ih.bias
        d.x = reversed_in_time(rows_of(x), s.T) if i else rows_of(x)
        d.h = half_of(rows_of(output), i, s.H, s.T)
        d.h0, d.h_n = &h0[i, 0, 0], &h_n[i, 0, 0]
    workers = pool_acquire(workers_wanted(&s, threads))
    try:
        share_out(&s, workers)
        s.workspace = allocate(s.workers * s.workspace_size)
        with nogil:
            pool_run(forward_worker, &s, s.workers)
        free(s.workspace)
    finally:
        if workers > 1:
            pool_release()


def rnn_backward(tuple weights not None, int activation, const real[:, :, :] x not None,
                 const real[:, :, ::1] h0 not None, const real[:, :, :] output not None,
                 const real[:, :, :] d_output, const real[:, :, ::1] d_h_n, real[:, :, :, ::1] d_x not None,
                 real[:, :, ::1] d_h0 not None, tuple gradients not None, int threads):
    """Back through rnn_forward: d_x (D, T, B, I) and d_h0 are written, gradients added to.

    gradients: (w_ih, w_hh, b_ih or None, b_hh or None) a direction; d_output and d_h_n may be None, for zeros.
    """
    cdef Sweep s
    cdef Direction* d
    cdef Affine ih, hh
    cdef real[:, ::1] dw_ih, dw_hh
    cdef real[::1] db_ih, db_hh
    cdef real* dz
    cdef Py_ssize_t dz_size, panels
    cdef int i, workers
    begin(&s, activation, x, h0)
    s.steps = min(s.T, max(1, BACKWARD_ROWS // s.B))
    panels = panels_for(s.I) + panels_for(s.H)
    dz_size = (s.steps + 1) * s.B * s.dz_row
    for i in range(s.directions):
        d = &s.direction[i]
        ih, hh = weights[2 * i], weights[2 * i + 1]
        ih.prepare_backward()
        hh.prepare_backward()
        d.w_ih, d.w_hh = ih.w_back, hh.w_back
        d.x = reversed_in_time(rows_of(x), s.T) if i else rows_of(x)
        d.h = half_of(rows_of(output), i, s.H, s.T)
        d.h0, d.d_h0 = &h0[i, 0, 0], &d_h0[i, 0, 0]
        d.g.data = NULL
        if d_output is not None:
            d.g = half_of(rows_of(d_output), i, s.H, s.T)
        d.g_n = NULL
        if d_h_n is not None:
            d.g_n = &d_h_n[i, 0, 0]
        d.dx = reversed_in_time(rows_of(d_x[i]), s.T) if i else rows_of(d_x[i])
        dw_ih, dw_hh = gradients[4 * i], gradients[4 * i + 1]
        db_ih, db_hh = gradients[4 * i + 2], gradients[4 * i + 3]
        d.dw_ih, d.dw_hh = &dw_ih[0, 0], &dw_hh[0, 0]
        d.db_ih = d.db_hh = NULL
        if db_ih is not None:
            d.db_ih, d.db_hh = &db_ih[0], &db_hh[0]
    workers = pool_acquire(workers_wanted(&s, threads))
    try:
        share_out(&s, workers)
        s.workspace_size = s.steps * s.B * PANEL * (panels // (s.workers // s.directions if s.workers > 1 else 1) + 1)
        dz = allocate(s.directions * dz_size + s.workers * s.workspace_size)
        for i in range(s.directions):
            s.direction[i].dz = dz + i * dz_size
        s.workspace = dz + s.directions * dz_size
        with nogil:
            pool_run(backward_worker, &s, s.workers)
        free(dz)
    finally:
        if workers > 1:
            pool_release()
