ctypedef void (*Task)(void* job, int worker) noexcept nogil

cdef struct Barrier:
    int waiting
    int round
    int size

cdef int pool_acquire(int wanted) noexcept nogil
cdef void pool_run(Task task, void* job, int workers) noexcept nogil
cdef void pool_release() noexcept nogil
cdef void barrier_wait(Barrier* barrier) noexcept nogil
