"""The thread pool: one for the process, created at first use and again after ``fork``.

The caller and all workers that come in time work on a run together and take pieces of its steps, so a worker
that the system holds back delays nobody (docs/design/work-pieces.md). Waiting threads spin for at most ``SPIN_NS``
and then sleep on a condition variable, so an idle process takes no processor time. If another network is using the
pool, a run has one thread only; results do not depend on that. If the system gives fewer threads than are asked for,
those that exist do the work.

On ARM64 with cores of different speed, workers stay on the fast ones, as many workers as there are of these. Others, and
the caller, are where the system puts them.
"""

import os

from libc.stdint cimport INT64_MAX, int64_t

from megengine_lite.log import logger

cdef enum:
    MAX_POOL = 64
    MAX_CORES = 1024
    OPEN = 1 << 30


cdef extern from "platform.h" nogil:
    int64_t ml_now_ns()
    void ml_pause()
    int ml_is_arm64()
    void ml_keep_on(const int* cores, int n, int least)


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
    #define ml_exchange_if(p, old, v) __atomic_compare_exchange_n(p, old, v, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
    #define ml_add(p, v) __atomic_add_fetch(p, v, __ATOMIC_SEQ_CST)
    """
    int64_t ml_load(int64_t* p)
    void ml_store(int64_t* p, int64_t v)
    bint ml_exchange_if(int64_t* p, int64_t* old, int64_t v)
    int64_t ml_add(int64_t* p, int64_t v)


cdef int64_t SPIN_NS = 50_000
# After the system has refused a thread, it is not asked again for this time: asking takes longer than a small run.
cdef int64_t PATIENCE_NS = 1_000_000_000


# A counter on which threads wait until it changes.
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


cdef struct Pool:
    pthread_mutex_t busy        # held during a run
    Gate start                  # moves when a job is given out
    Gate progress               # moves when something that threads of a run wait for has happened
    Gate left                   # moves when the last worker has left a run that is over
    int64_t state               # OPEN while workers may join, plus the number of workers inside
    int64_t workers             # created so far
    int64_t ask_at              # when to ask the system for threads again, after it has refused one
    int threads                 # of the current run, at most
    job_fn job
    void* context


cdef Pool pool


cdef void reset_pool() noexcept nogil:
    pthread_mutex_init(&pool.busy, NULL)
    gate_init(&pool.start)
    gate_init(&pool.progress)
    gate_init(&pool.left)
    pool.state = 0
    pool.workers = 0
    pool.ask_at = 0


cdef bint join_run() noexcept nogil:
    """A worker enters the current run, unless that is over already."""
    cdef int64_t state = ml_load(&pool.state)
    while state & OPEN:
        if ml_exchange_if(&pool.state, &state, state + 1):
            return True
    return False


cdef void leave_run() noexcept nogil:
    if ml_add(&pool.state, -1) == 0:
        gate_advance(&pool.left)


cdef void close_run() noexcept nogil:
    """Lets no more workers in, and waits for those inside."""
    cdef int64_t seen = ml_load(&pool.left.value)
    if ml_add(&pool.state, -OPEN) == 0:
        return
    gate_wait(&pool.left, seen)


# Where workers should be; none if it does not matter.
cdef int[MAX_CORES] fast
cdef int fast_count = 0
cdef bint cores_are_chosen = False


def prefer_cores(cores):
    """From now on, new workers are kept on the cores with these numbers, as many workers as there are cores."""
    global fast_count
    fast_count = 0
    for core in cores[:MAX_CORES]:
        fast[fast_count] = core
        fast_count += 1


cdef choose_cores():
    """Prefers the fast cores of a processor that has others, too. To be called before the first run on threads."""
    global cores_are_chosen
    if cores_are_chosen or not ml_is_arm64():
        return
    cores_are_chosen = True
    from megengine_lite._core.system.cores import fast_cores
    from megengine_lite._core.system.processor import cores

    prefer_cores(fast_cores(cores()))


cdef struct Birth:
    # What a new worker must know; the creator waits until it has been read.
    int thread
    int64_t jobs_seen
    int64_t read


cdef void* worker_main(void* argument) noexcept nogil:
    cdef Birth* birth = <Birth*>argument
    cdef int thread = birth.thread
    cdef int64_t seen = birth.jobs_seen
    if fast_count:
        ml_keep_on(fast, fast_count, thread)
    ml_store(&birth.read, 1)
    while True:
        gate_wait(&pool.start, seen)
        seen = ml_load(&pool.start.value)
        if join_run():
            if thread < pool.threads:
                pool.job(pool.context, thread, pool.threads)
            leave_run()


cdef int64_t progress_seen() noexcept nogil:
    return ml_load(&pool.progress.value)


cdef void progress_made() noexcept nogil:
    gate_advance(&pool.progress)


cdef void progress_wait(int64_t seen) noexcept nogil:
    gate_wait(&pool.progress, seen)


cdef void add_workers(int64_t wanted) noexcept nogil:
    cdef pthread_t handle
    cdef Birth birth
    if pool.workers >= wanted or (pool.ask_at and ml_now_ns() < pool.ask_at):
        return
    while pool.workers < wanted:
        birth.thread = <int>pool.workers + 1
        birth.jobs_seen = pool.start.value
        birth.read = 0
        if pool.workers >= most_workers or pthread_create(&handle, NULL, worker_main, &birth) != 0:
            pool.ask_at = ml_now_ns() + PATIENCE_NS
            return
        pthread_detach(handle)
        while not ml_load(&birth.read):
            ml_pause()
        pool.workers += 1


cdef void run_on_threads(job_fn job, void* context, int threads) noexcept nogil:
    """Runs a job on the caller, as thread 0, and on up to ``threads - 1`` workers; returns when all have left it.

    The job must be complete when thread 0 returns from it. It is told that it is alone (``threads`` = 1) when the pool
    is busy or the system gives no threads.
    """
    if threads <= 1 or pthread_mutex_trylock(&pool.busy) != 0:
        job(context, 0, 1)
        return
    threads = min(threads, MAX_POOL)
    add_workers(threads - 1)
    if pool.workers == 0:
        job(context, 0, 1)
    else:
        pool.threads = threads
        pool.job = job
        pool.context = context
        ml_store(&pool.state, OPEN)
        gate_advance(&pool.start)
        job(context, 0, threads)
        close_run()
    pthread_mutex_unlock(&pool.busy)


cdef bint told = False  # of threads that were refused


cdef tell_of_refusal(int threads):
    """Says once in the log that runs have fewer threads than they may have."""
    global told
    if told or pool.ask_at == 0:
        return
    told = True
    logger.warning(
        "the system gives no more threads: %d work on a run that may have %d. Raise the limit on processes and threads "
        "(ulimit -u, the pids limit of the container), or lower threads_number",
        pool.workers + 1,
        threads,
    )


# As if the system gave no more threads than this.
cdef int64_t most_workers = INT64_MAX


def limit_workers(int64_t most):
    """For tests: from now on the system refuses threads when there are ``most`` workers."""
    global most_workers
    most_workers = most


def _after_fork():
    reset_pool()


# Threads that work on one run at most, the caller's among them.
MOST_THREADS = MAX_POOL

reset_pool()
if hasattr(os, "register_at_fork"):  # a child process does not have its parent's threads
    os.register_at_fork(after_in_child=_after_fork)
