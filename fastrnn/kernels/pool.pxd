ctypedef void (*Task)(void* job, int worker) noexcept nogil

cdef struct Barrier:
    int first       # of the workers that meet
    int size
    int level       # 0 or 1: a worker may belong to two

cdef struct Interrupt:  # zeros at first
    int raised          # by the handler of a signal: the call is to be left
    long long next_look

cdef enum:
    WORTH_SHARING = 500000   # flops, or bytes of weights: with a worker that is awake; less never is
    WORTH_WAKING = 2000000   # some 20 us of one core, what waking a worker costs

cdef int pool_acquire(int threads, double work) noexcept nogil
cdef void pool_run(Task task, void* job, int workers) noexcept nogil
cdef void pool_release() noexcept nogil
cdef Barrier barrier_of(int first, int size, int level) noexcept nogil
cdef void barrier_wait(const Barrier* barrier, int worker) noexcept nogil
cdef void look_for_signals(Interrupt* interrupt) noexcept nogil
cdef bint leaves(Interrupt* interrupt, const Barrier* barrier, int worker, int chunk) noexcept nogil
cdef int pass_on(const Interrupt* interrupt) except -1
