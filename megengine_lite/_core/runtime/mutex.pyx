"""The lock of compiled code: each forward takes two of them."""

from cpython.exc cimport PyErr_CheckSignals


cdef extern from "pythread.h" nogil:
    ctypedef int PyLockStatus
    PyLockStatus PY_LOCK_ACQUIRED
    PyThread_type_lock PyThread_allocate_lock()
    void PyThread_free_lock(PyThread_type_lock)
    PyLockStatus PyThread_acquire_lock_timed(PyThread_type_lock, long long microseconds, int interruptible)
    void PyThread_release_lock(PyThread_type_lock)


cdef class Mutex:
    """A lock like ``threading.RLock``, which compiled code takes without calls of Python objects."""

    def __cinit__(self):
        self.lock = PyThread_allocate_lock()
        if self.lock == NULL:
            raise MemoryError("no memory for a lock")

    def __dealloc__(self):
        if self.lock != NULL:
            PyThread_free_lock(self.lock)

    cdef bint take_if_free(self):
        """Takes the lock, unless another thread has it."""
        cdef unsigned long me = PyThread_get_thread_ident()
        if self.owner != me:
            if PyThread_acquire_lock_timed(self.lock, 0, 0) != PY_LOCK_ACQUIRED:
                return False
            self.owner = me
        self.depth += 1
        return True

    cdef int take(self) except -1:
        """Waits for the lock and takes it. If a signal handler raises meanwhile, the lock is not taken."""
        cdef PyLockStatus status
        if self.take_if_free():
            return 0
        while True:
            with nogil:
                status = PyThread_acquire_lock_timed(self.lock, -1, 1)
            if status == PY_LOCK_ACQUIRED:
                break
            PyErr_CheckSignals()
        self.owner = PyThread_get_thread_ident()
        self.depth = 1
        return 0

    cdef void give(self) noexcept:
        self.depth -= 1
        if self.depth == 0:
            self.owner = 0
            PyThread_release_lock(self.lock)
