from libc.stdint cimport int64_t

# A job runs once on every participating thread, with that thread's number and the number of threads.
ctypedef void (*job_fn)(void* context, int thread, int threads) noexcept nogil

cdef int run_on_threads(job_fn job, void* context, int threads) noexcept nogil
cdef void join_threads(int threads) noexcept nogil
