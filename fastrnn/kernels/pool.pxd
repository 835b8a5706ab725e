ctypedef void (*Task)(void* job, int worker) noexcept nogil

cdef struct Barrier:
    int first       # of the workers that meet
    int size
    int level       # 0 or 1: a worker may belong to two

cdef struct Interrupt:  # zeros at first
    int raised          # by the handler of a signal: the call is to be left
    long long next_look

cdef int pool_acquire(int wanted) noexcept nogil
cdef void pool_run(Task task, void* job, int workers) noexcept nogil
cdef void pool_release() noexcept nogil
cdef Barrier barrier_of(int first, int size, int level) noexcept nogil
cdef void barrier_wait(const Barrier* barrier, int worker) noexcept nogil
cdef void look_for_signals(Interrupt* interrupt) noexcept nogil
cdef bint leaves(Interrupt* interrupt, const Barrier* barrier, int worker, int chunk) noexcept nogil
cdef int pass_on(const Interrupt* interrupt) except -1
