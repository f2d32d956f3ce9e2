# Storages, for other compiled modules.

cdef class Storage:
    cdef char* data             # NULL until allocated
    cdef void* block            # what to free, or NULL
    cdef Py_buffer view         # an object's buffer that is held, if has_view
    cdef bint has_view
    cdef readonly Py_ssize_t nbytes
    cdef readonly bint readonly
    cdef readonly object owner
    cdef readonly object device  # the only one that reaches the memory; None for host memory
    cdef object _pending
    cdef object __weakref__

    cdef char* pointer(self) except? NULL
    cdef int view_readonly(self, source) except -1
    cpdef settle(self)
