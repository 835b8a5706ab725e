ctypedef void (*Task)(void* job, int worker) noexcept nogil

cdef struct Barrier:
    int waiting
    int round
    int size
    int last_chunk  # behind which all leave

cdef struct Interrupt:  # zeros at first
    int raised          # by the handler of a signal: the call is to be left
    long long next_look

cdef int pool_acquire(int wanted) noexcept nogil
cdef void pool_run(Task task, void* job, int workers) noexcept nogil
cdef void pool_release() noexcept nogil
cdef void barrier_for(Barrier* barrier, int size) noexcept nogil
cdef void barrier_wait(Barrier* barrier) noexcept nogil
cdef void look_for_signals(Interrupt* interrupt) noexcept nogil
cdef bint leaves(Interrupt* interrupt, Barrier* barrier, int thread, int chunk) noexcept nogil
cdef int pass_on(const Interrupt* interrupt) except -1
