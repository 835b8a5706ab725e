# The affine map over any number of rows, shared among workers: the readout, forward and back.

cdef enum:
    LINEAR_ROWS = 1024       # rows forward between two looks for signals


cdef struct LinearPass:
    Rows x
    Rows y                   # back: dy
    Rows dx
    Py_ssize_t rows
    Panels w                 # forward: W^T; back: W
    const real* bias
    real* dw
    real* db                 # NULL without bias
    real* workspace          # back: a chunk of dy, and of x in panels; of each worker, columns of dy
    bint add                 # back: to dw and db, instead of writing them
    int workers
    Interrupt interrupt


cdef void run_linear(Task task, LinearPass* job, int threads) noexcept nogil:
    cdef double flops = 2.0 * job.rows * job.w.K * job.w.columns
    cdef int workers = pool_acquire(threads, flops)
    job.workers = workers
    job.interrupt.raised = job.interrupt.next_look = 0
    pool_run(task, job, workers)
    if workers > 1:
        pool_release()


cdef inline bint linear_goes_on(LinearPass* job, const Barrier* barrier, int worker, int chunk) noexcept nogil:
    """As `goes_on` of a sweep."""
    if worker == 0 and chunk:
        look_for_signals(&job.interrupt)
    return not leaves(&job.interrupt, barrier, worker, chunk)


cdef void linear_forward_worker(void* linear_pass, int worker) noexcept nogil:
    cdef LinearPass* job = <LinearPass*>linear_pass
    cdef Py_ssize_t first = 0, n, start, end
    while first < job.rows and linear_goes_on(job, NULL, worker, <int>(first // LINEAR_ROWS)):
        n = min(LINEAR_ROWS, job.rows - first)
        start, end = n * worker // job.workers, n * (worker + 1) // job.workers
        affine(rows_at(job.y, 0, first + start), job.bias, rows_at(job.x, 0, first + start), job.w, job.w.columns,
               end - start)
        first += n


cdef void linear_backward_worker(void* linear_pass, int worker) noexcept nogil:
    """A chunk of rows at a time: dx by rows, dW by other panels of x for each worker, db by other columns of dy."""
    cdef LinearPass* job = <LinearPass*>linear_pass
    cdef Py_ssize_t K = job.w.columns, N = job.w.K, dy_row = padded_row(N)
    cdef Py_ssize_t chunk = min(job.rows, BACKWARD_ROWS), first = 0, n, r, row, last_row, panel
    cdef Py_ssize_t start = panels_for(K) * worker // job.workers, end = panels_for(K) * (worker + 1) // job.workers
    cdef Py_ssize_t of_y = panels_for(N)
    cdef real* dy = job.workspace
    cdef real* of_dy = dy + chunk * (dy_row + panels_for(K) * PANEL + worker * GRADIENT_ROWS)
    cdef Barrier barrier = barrier_of(0, job.workers, 0)
    cdef Panels x
    x.data = dy + chunk * dy_row + start * PANEL * chunk
    x.count = end - start
    x.columns = min(K, end * PANEL) - start * PANEL
    while first < job.rows and linear_goes_on(job, &barrier, worker, <int>(first // chunk)):
        n = min(chunk, job.rows - first)
        row, last_row = n * worker // job.workers, n * (worker + 1) // job.workers
        affine(rows_at(job.dx, 0, first + row), NULL, rows_at(job.y, 0, first + row), job.w, K, last_row - row)
        for r in range(row, last_row):
            copy_columns(dy + r * dy_row, job.y.data + (first + r) * N, N)
        x.K = n
        for panel in range(x.count):
            pack_panel(x.data + panel * n * PANEL, job.x.data + first * K + (start + panel) * PANEL, n, K,
                       min(PANEL, x.columns - panel * PANEL))
        barrier_wait(&barrier, worker)
        weight_gradient(job.dw + start * PANEL, K, dy, dy_row, N, x, job.add or first > 0, of_dy)
        if job.db != NULL:
            bias_gradient(job.db, dy, dy_row, n, of_y * worker // job.workers * PANEL,
                          min(N, of_y * (worker + 1) // job.workers * PANEL), job.add or first > 0)
        barrier_wait(&barrier, worker)
        first += n
