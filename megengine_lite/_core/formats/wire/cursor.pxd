# The window on file bytes, for the compiled readers of the formats.
from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef class Cursor:
    cdef Py_buffer _buffer
    cdef bint _held
    cdef const uint8_t* _data
    cdef uint64_t _budget
    cdef readonly uint64_t size
    cdef readonly uint64_t begin
    cdef readonly object view
    cdef readonly str what

    cdef int need(self, uint64_t offset, uint64_t length, str thing) except -1
    cdef int charge(self, uint64_t nbytes) except -1
    cdef uint32_t load32(self, uint64_t offset) noexcept
