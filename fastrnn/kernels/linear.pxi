# The affine map over any number of rows, shared among workers: the readout, forward and back.

cdef struct LinearPass:
    Rows x
    Rows y                   # back: dy
    Rows dx
    Py_ssize_t rows
    Panels w                 # forward: W^T; back: W
    const real* bias
    real* dw
    real* db                 # NULL without bias
    real* workspace          # back: a chunk of dy, and of x in panels
    int workers
    Barrier barrier


cdef void run_linear(Task task, LinearPass* job, int threads) noexcept nogil:
    cdef double flops = 2.0 * job.rows * job.w.K * job.w.columns
    cdef int workers = pool_acquire(<int>min(<double>threads, 1 + flops / WORK_WORTH_A_WORKER))
    job.workers = job.barrier.size = workers
    job.barrier.waiting = job.barrier.round = 0
    pool_run(task, job, workers)
    if workers > 1:
        pool_release()


cdef void linear_forward_worker(void* linear_pass, int worker) noexcept nogil:
    cdef LinearPass* job = <LinearPass*>linear_pass
    affine(job.y, job.bias, job.x, job.w, job.w.columns, 1, job.rows, worker, job.workers)


cdef void linear_backward_worker(void* linear_pass, int worker) noexcept nogil:
    """dx by rows; dW a chunk of rows at a time, each worker other panels of x and other columns of dy."""
    cdef LinearPass* job = <LinearPass*>linear_pass
    cdef Py_ssize_t K = job.w.columns, N = job.w.K, dy_row = padded_row(N)
    cdef Py_ssize_t chunk = min(job.rows, BACKWARD_ROWS), first = 0, n, r, panel
    cdef Py_ssize_t start = panels_for(K) * worker // job.workers, end = panels_for(K) * (worker + 1) // job.workers
    cdef Py_ssize_t of_y = panels_for(N)
    cdef real* dy = job.workspace
    cdef Panels x
    affine(job.dx, NULL, job.y, job.w, K, 1, job.rows, worker, job.workers)
    x.data = dy + chunk * dy_row + start * PANEL * chunk
    x.count = end - start
    x.columns = min(K, end * PANEL) - start * PANEL
    while first < job.rows:
        n = min(chunk, job.rows - first)
        for r in range(n * worker // job.workers, n * (worker + 1) // job.workers):
            copy_columns(dy + r * dy_row, job.y.data + (first + r) * N, N)
        x.K = n
        for panel in range(x.count):
            pack_panel(x.data + panel * n * PANEL, job.x.data + first * K + (start + panel) * PANEL, n, K,
                       min(PANEL, x.columns - panel * PANEL))
        barrier_wait(&job.barrier)
        weight_gradient(job.dw + start * PANEL, K, dy, dy_row, N, x)
        if job.db != NULL:
            bias_gradient(job.db, dy, dy_row, n, of_y * worker // job.workers * PANEL,
                          min(N, of_y * (worker + 1) // job.workers * PANEL))
        barrier_wait(&job.barrier)
        first += n
