"""The worker pool: one for the process, created at first use, re-created after ``fork``.

A forward pass runs its whole program on every participating thread and meets the others at a barrier after each
parallel step. Waiting threads spin for at most ``SPIN_NS``, then sleep on a condition variable, so an idle process
takes no processor time. If another network holds the pool, a run takes one thread only; results do not depend on
the number of threads.
"""

import os

from libc.stdint cimport int64_t

cdef enum:
    MAX_POOL = 64


cdef extern from "platform.h" nogil:
    int64_t ml_now_ns()
    void ml_pause()


cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_t:
        pass
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_create(pthread_t*, void*, void* (*)(void*) noexcept nogil, void*)
    int pthread_detach(pthread_t)
    int pthread_mutex_init(pthread_mutex_t*, void*)
    int pthread_mutex_lock(pthread_mutex_t*)
    int pthread_mutex_trylock(pthread_mutex_t*)
    int pthread_mutex_unlock(pthread_mutex_t*)
    int pthread_cond_init(pthread_cond_t*, void*)
    int pthread_cond_wait(pthread_cond_t*, pthread_mutex_t*)
    int pthread_cond_broadcast(pthread_cond_t*)


cdef extern from * nogil:
    """
    #define ml_load(p) __atomic_load_n(p, __ATOMIC_SEQ_CST)
    #define ml_store(p, v) __atomic_store_n(p, v, __ATOMIC_SEQ_CST)
    #define ml_add(p, v) __atomic_add_fetch(p, v, __ATOMIC_SEQ_CST)
    """
    int64_t ml_load(int64_t* p)
    void ml_store(int64_t* p, int64_t v)
    int64_t ml_add(int64_t* p, int64_t v)


cdef int64_t SPIN_NS = 50_000


# A counter that threads wait on until it has moved on.
cdef struct Gate:
    int64_t value
    int64_t sleepers
    pthread_mutex_t mutex
    pthread_cond_t moved


cdef void gate_init(Gate* g) noexcept nogil:
    g.value = 0
    g.sleepers = 0
    pthread_mutex_init(&g.mutex, NULL)
    pthread_cond_init(&g.moved, NULL)


cdef void gate_advance(Gate* g) noexcept nogil:
    # Sequentially consistent: either a thread that goes to sleep sees the new value, or we see it among the sleepers.
    ml_add(&g.value, 1)
    if ml_load(&g.sleepers) == 0:
        return
    pthread_mutex_lock(&g.mutex)
    pthread_cond_broadcast(&g.moved)
    pthread_mutex_unlock(&g.mutex)


cdef void gate_wait(Gate* g, int64_t seen) noexcept nogil:
    """Returns when the value is no longer ``seen``."""
    cdef int64_t stop
    cdef int k
    if ml_load(&g.value) != seen:
        return
    stop = ml_now_ns() + SPIN_NS
    while True:
        for k in range(64):
            if ml_load(&g.value) != seen:
                return
            ml_pause()
        if ml_now_ns() > stop:
            break
    pthread_mutex_lock(&g.mutex)
    ml_add(&g.sleepers, 1)
    while ml_load(&g.value) == seen:
        pthread_cond_wait(&g.moved, &g.mutex)
    ml_add(&g.sleepers, -1)
    pthread_mutex_unlock(&g.mutex)


# A meeting point: it lets nobody on before all have arrived.
cdef struct Barrier:
    Gate passed
    int64_t arrived


cdef void barrier_init(Barrier* b) noexcept nogil:
    gate_init(&b.passed)
    b.arrived = 0


cdef void barrier_wait(Barrier* b, int threads) noexcept nogil:
    cdef int64_t seen = ml_load(&b.passed.value)
    if ml_add(&b.arrived, 1) == threads:
        ml_store(&b.arrived, 0)
        gate_advance(&b.passed)
    else:
        gate_wait(&b.passed, seen)


cdef struct Pool:
    pthread_mutex_t busy        # held during a run
    Gate start                  # moves when a job is given out
    Barrier steps               # where the threads of a run meet between steps
    Barrier finish              # where all workers meet when the run ends
    int64_t workers             # created so far
    int threads                 # of the current run
    job_fn job
    void* context


cdef Pool pool


cdef void reset_pool() noexcept nogil:
    pthread_mutex_init(&pool.busy, NULL)
    gate_init(&pool.start)
    barrier_init(&pool.steps)
    barrier_init(&pool.finish)
    pool.workers = 0


cdef struct Birth:
    # What a new worker must know; the creator waits until it has been read.
    int thread
    int64_t jobs_seen
    int64_t read


cdef void* worker_main(void* argument) noexcept nogil:
    cdef Birth* birth = <Birth*>argument
    cdef int thread = birth.thread
    cdef int64_t seen = birth.jobs_seen
    ml_store(&birth.read, 1)
    while True:
        gate_wait(&pool.start, seen)
        seen += 1
        if thread < pool.threads:
            pool.job(pool.context, thread, pool.threads)
        # Workers without a part arrive too: nobody may miss the next job.
        barrier_wait(&pool.finish, <int>pool.workers + 1)


cdef void join_threads(int threads) noexcept nogil:
    """Returns when all ``threads`` threads of the current run have called it."""
    barrier_wait(&pool.steps, threads)


cdef void add_workers(int64_t wanted) noexcept nogil:
    cdef pthread_t handle
    cdef Birth birth
    while pool.workers < wanted:
        birth.thread = <int>pool.workers + 1
        birth.jobs_seen = pool.start.value
        birth.read = 0
        if pthread_create(&handle, NULL, worker_main, &birth) != 0:
            return
        pthread_detach(handle)
        while not ml_load(&birth.read):
            ml_pause()
        pool.workers += 1


cdef int run_on_threads(job_fn job, void* context, int threads) noexcept nogil:
    """Runs a job on ``threads`` threads, the caller being number 0; returns how many really ran.

    Fewer than asked for run when the pool is busy (then one) or the system gives no more threads.
    """
    cdef int ran
    if threads <= 1 or pthread_mutex_trylock(&pool.busy) != 0:
        job(context, 0, 1)
        return 1
    threads = min(threads, MAX_POOL)
    add_workers(threads - 1)
    ran = <int>min(<int64_t>threads, pool.workers + 1)
    pool.threads = ran
    pool.job = job
    pool.context = context
    gate_advance(&pool.start)
    job(context, 0, ran)
    barrier_wait(&pool.finish, <int>pool.workers + 1)
    pthread_mutex_unlock(&pool.busy)
    return ran


def _after_fork():
    reset_pool()


reset_pool()
# A child process has none of its parent's threads.
os.register_at_fork(after_in_child=_after_fork)
