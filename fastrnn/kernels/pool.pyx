"""A pool of POSIX threads that all kernels of the process share.

A call asks for workers with `pool_acquire`, runs one task on each with `pool_run` (the caller is worker 0) and
gives the pool back. Only one call has the pool at a time; another that comes meanwhile is told 1 and works
alone, which by the numerics contract changes no bit. Why not OpenMP: opening a region costs 1.6 to 12 us, its
barrier 0.8 us, and libgomp does not survive a fork, which this pool does: the child starts with none and makes its own.

A worker waits for its mailbox: it spins for some 20 us, so that a loop of calls pays no wake-up, then sleeps. Calls too
small to wake one share with those that are awake (bursts.pxi).
A worker is kept off its caller's processor: left to itself the scheduler of a virtual machine was seen to put both on
one when it woke a sleeper, and to leave them there for several milliseconds (bench/NOTES.md).
"""

from libc.limits cimport INT_MAX
from libc.stdlib cimport calloc, free

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_t:
        pass
    ctypedef struct pthread_attr_t:
        pass
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_create(pthread_t*, const pthread_attr_t*, void* (*)(void*) noexcept nogil, void*)
    int pthread_detach(pthread_t)
    int pthread_mutex_init(pthread_mutex_t*, void*)
    int pthread_mutex_lock(pthread_mutex_t*)
    int pthread_mutex_unlock(pthread_mutex_t*)
    int pthread_cond_init(pthread_cond_t*, void*)
    int pthread_cond_wait(pthread_cond_t*, pthread_mutex_t*)
    int pthread_cond_signal(pthread_cond_t*)
    int pthread_atfork(void (*)() noexcept nogil, void (*)() noexcept nogil, void (*)() noexcept nogil)

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    int SIG_SETMASK
    int sigfillset(sigset_t*)
    int pthread_sigmask(int, const sigset_t*, sigset_t*)

cdef extern from "<sched.h>" nogil:
    int sched_yield()

cdef extern from * nogil:
    """
    #ifdef __linux__
    #include <sched.h>
    #include <pthread.h>
    static int my_processor(void) { return sched_getcpu(); }
    /* Let the thread run wherever the caller may, but not where the caller is now. */
    static void keep_off_my_processor(pthread_t thread) {
        cpu_set_t allowed;
        int mine = my_processor();
        if (mine < 0 || sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) < 2) return;
        CPU_CLR(mine, &allowed);
        pthread_setaffinity_np(thread, sizeof allowed, &allowed);
    }
    #else
    static int my_processor(void) { return -1; }
    static void keep_off_my_processor(pthread_t thread) { (void)thread; }
    #endif
    #if defined(__x86_64__) || defined(__i386__)
    #define relax() __builtin_ia32_pause()
    #else
    #define relax() ((void)0)
    #endif
    /* By this name threadpoolctl knows the library (threads.py). */
    const int fastrnn_pool = 1;
    """
    int my_processor()
    void keep_off_my_processor(pthread_t thread)
    void relax()
    const bint FASTRNN_THREADS  # the build says whether there are any

cdef extern from "atomics.h" nogil:
    int atomic_get(int*)
    void atomic_set(int*, int)
    int atomic_swap(int*, int)
    int atomic_see(int*)
    void atomic_publish(int*, int)

cdef extern from "floats.h" nogil:
    const unsigned long long FLUSHES
    unsigned long long float_mode()
    void set_float_mode(unsigned long long mode)

cdef enum:
    MOST_WORKERS = 256
    SPINS_BEFORE_SLEEP = 1000   # some 20 us of pauses
    SPINS_BEFORE_YIELD = 2000   # some 40 to 100 us: the partner has lost its processor, give it ours


cdef struct Mailbox:
    int full        # 1 from the caller's post to the worker's end
    int asleep
    bint roused     # under the mutex
    int processor   # where the worker was when it began to wait
    int number
    pthread_t thread
    Task task
    void* job
    unsigned long long floats  # the caller's mode, so that all workers round and flush as it does
    pthread_mutex_t mutex
    pthread_cond_t filled
    char apart[64]  # two workers' flags never share a cache line


cdef struct Seat:
    # a worker's place at barriers, of either level
    int round[2]       # how often it has come there
    int last_chunk[2]  # behind which all leave; of the barrier's first worker
    char apart[112]    # from the next one's, and from the line that is fetched along with it


cdef Mailbox* mailboxes[MOST_WORKERS]
cdef Seat seats[MOST_WORKERS]
cdef int workers_alive = 0  # besides the caller
cdef int busy = 0


cdef void wait_for_mail(Mailbox* box) noexcept nogil:
    cdef int _
    atomic_set(&box.processor, my_processor())
    for _ in range(SPINS_BEFORE_SLEEP):
        if atomic_get(&box.full):
            return
        relax()
    pthread_mutex_lock(&box.mutex)
    atomic_set(&box.asleep, 1)
    while not box.roused and not atomic_get(&box.full):
        pthread_cond_wait(&box.filled, &box.mutex)
    box.roused = False
    atomic_set(&box.asleep, 0)
    pthread_mutex_unlock(&box.mutex)


cdef void* work(void* mailbox) noexcept nogil:
    cdef Mailbox* box = <Mailbox*>mailbox
    atomic_set(&box.asleep, 0)
    while True:
        wait_for_mail(box)
        if not atomic_get(&box.full):
            continue
        set_float_mode(box.floats)
        box.task(box.job, box.number)
        atomic_set(&box.full, 0)


cdef void post(Mailbox* box, Task task, void* job) noexcept nogil:
    box.task = task
    box.job = job
    box.floats = float_mode()
    cdef bint in_the_way = atomic_get(&box.processor) == my_processor()
    atomic_set(&box.full, 1)
    if atomic_get(&box.asleep):
        rouse(box)
    elif in_the_way:
        keep_off_my_processor(box.thread)


cdef void rouse(Mailbox* box) noexcept nogil:
    keep_off_my_processor(box.thread)
    pthread_mutex_lock(&box.mutex)
    box.roused = True
    pthread_cond_signal(&box.filled)
    pthread_mutex_unlock(&box.mutex)


cdef bint hire_one() noexcept nogil:
    """Start one more worker; False if the system refuses."""
    global workers_alive
    cdef sigset_t all_signals, before
    cdef Mailbox* box = <Mailbox*>calloc(1, sizeof(Mailbox))
    if box == NULL:
        return False
    pthread_mutex_init(&box.mutex, NULL)
    pthread_cond_init(&box.filled, NULL)
    box.number = workers_alive + 1
    box.asleep = 1  # until it runs
    sigfillset(&all_signals)  # signals are Python's main thread's to handle
    pthread_sigmask(SIG_SETMASK, &all_signals, &before)
    cdef bint started = pthread_create(&box.thread, NULL, work, box) == 0
    pthread_sigmask(SIG_SETMASK, &before, NULL)
    if started:
        pthread_detach(box.thread)
        mailboxes[workers_alive] = box
        workers_alive += 1
    else:
        free(box)
    return started


cdef void hire(int wanted) noexcept nogil:
    """Have so many workers, the caller included, unless the system refuses."""
    while workers_alive + 1 < wanted and hire_one():
        pass


include "bursts.pxi"


cdef int pool_acquire(int threads, double work) noexcept nogil:
    """How many workers the caller may use, itself included, for so many flops or bytes of weights.

    Give them back if it is more than 1.
    """
    global small
    cdef int most = min(threads, MOST_WORKERS), workers
    cdef int worth_waking = <int>min(<double>most, 1 + work / WORTH_WAKING)
    cdef int worth_sharing = <int>min(<double>most, 1 + work / WORTH_SHARING)
    if not FASTRNN_THREADS or worth_sharing <= 1 or atomic_swap(&busy, 1):
        return 1
    small = worth_waking <= 1
    if small:
        workers = workers_awake(worth_sharing)
    else:
        hire(worth_waking)
        workers = min(worth_waking, workers_alive + 1)
    if workers <= 1:
        pool_release()
    return workers


cdef inline int spin(int spins) noexcept nogil:
    """Let some time pass while waiting, for the `spins`th time; the number for the next."""
    if spins < SPINS_BEFORE_YIELD:
        relax()
        return spins + 1
    sched_yield()
    return spins


cdef void take_seats(int workers) noexcept nogil:
    """Make the workers' barriers as if nobody had come yet."""
    cdef int i, level
    for i in range(workers):
        for level in range(2):
            seats[i].round[level], seats[i].last_chunk[level] = 0, INT_MAX


cdef void pool_run(Task task, void* job, int workers) noexcept nogil:
    """task(job, i) for i in 0 .. workers - 1, all at the same time; back when all have ended."""
    cdef int i, spins
    if workers > 1:  # a call that works alone may do so beside one that has the pool
        take_seats(workers)
    for i in range(workers - 1):
        post(mailboxes[i], task, job)
    task(job, 0)
    for i in range(workers - 1):
        spins = 0
        while atomic_get(&mailboxes[i].full):
            spins = spin(spins)
        if spins == SPINS_BEFORE_YIELD:
            partner_was_away()


cdef void pool_release() noexcept nogil:
    atomic_set(&busy, 0)


cdef Barrier barrier_of(int first, int size, int level) noexcept nogil:
    """The barrier at which so many workers of a run meet, from worker `first` on."""
    cdef Barrier barrier
    barrier.first, barrier.size, barrier.level = first, size, level
    return barrier


cdef void barrier_wait(const Barrier* barrier, int worker) noexcept nogil:
    """Wait until all have come; what they wrote before is then seen by all.

    Each says in a cache line of its own how often it has come, and reads all others': two transfers between cores, one
    after the other, where a counter that all add to and a flag that the last one sets are four.
    """
    cdef int i, come, spins
    cdef int* theirs
    if barrier.size <= 1:
        return
    come = seats[worker].round[barrier.level] + 1
    atomic_publish(&seats[worker].round[barrier.level], come)
    for i in range(barrier.size):
        theirs = &seats[barrier.first + i].round[barrier.level]
        spins = 0
        while atomic_see(theirs) - come < 0:
            spins = spin(spins)
        if spins == SPINS_BEFORE_YIELD and worker == 0:
            partner_was_away()


cdef void forget_workers() noexcept nogil:
    """In a forked child no worker is left, whatever they were doing."""
    global workers_alive, busy
    workers_alive = 0
    busy = 0


pthread_atfork(NULL, NULL, forget_workers)

threads = bool(FASTRNN_THREADS)  # for Python to read


def set_flush_denormal(bint mode):
    """Let the calling thread take subnormal numbers for zero, or not; whether the processor does."""
    set_float_mode(float_mode() | FLUSHES if mode else float_mode() & ~FLUSHES)
    return FLUSHES != 0


include "interrupt.pxi"
