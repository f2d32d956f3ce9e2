from libc.stdint cimport int64_t

# What each thread of a run calls: with its number, and the largest number of threads that may take part.
ctypedef void (*job_fn)(void* context, int thread, int threads) noexcept nogil

cdef void run_on_threads(job_fn job, void* context, int threads) noexcept nogil
cdef tell_of_refusal(int threads)
cdef choose_cores()

# How the threads of a run wait for each other: read `seen`, check whether the awaited event has happened, wait.
cdef int64_t progress_seen() noexcept nogil
cdef void progress_made() noexcept nogil
cdef void progress_wait(int64_t seen) noexcept nogil
