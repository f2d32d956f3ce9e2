cdef extern from "pythread.h" nogil:
    ctypedef void* PyThread_type_lock
    unsigned long PyThread_get_thread_ident()


cdef class Mutex:
    cdef PyThread_type_lock lock
    cdef unsigned long owner    # thread that holds it; 0 for none
    cdef int depth              # how often that has taken it

    cdef bint take_if_free(self)
    cdef int take(self) except -1
    cdef void give(self) noexcept
