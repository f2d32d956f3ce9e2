"""Copies of dense memory, and the halo of blocked tensors."""

from libc.stdint cimport int64_t
from libc.string cimport memset, memcpy


cdef struct CopyBytesArgs:
    const char* x
    char* y
    int64_t nbytes, chunk


cdef void copy_bytes(const CopyBytesArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Copies `nbytes` bytes. One work item = `chunk` bytes; the last one may have fewer."""
    cdef int64_t nbytes = a.nbytes, chunk = a.chunk
    cdef int64_t lo = begin * chunk
    cdef int64_t hi = min(end * chunk, nbytes)
    if hi > lo:
        memcpy(a.y + lo, <char*>a.x + lo, hi - lo)


cdef struct FillHaloArgs:
    char* x
    int64_t h, w, halo_h, halo_w, pixel, plane_stride, value


cdef void fill_halo_blocked(const FillHaloArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Sets the border of a blocked tensor (see docs/architecture.md, "Blocked layout") to the byte `value`.

    x points at the start of the allocation of plane 0, that is at the top left corner of the halo.
    One work item = one plane (image n, channel block c).
    """
    cdef int64_t h = a.h, w = a.w, halo_h = a.halo_h, halo_w = a.halo_w
    cdef int64_t pixel = a.pixel, plane_stride = a.plane_stride, value = a.value
    cdef int64_t row = (w + 2 * halo_w) * pixel
    cdef int64_t plane, y
    cdef char* base
    for plane in range(begin, end):
        base = a.x + plane * plane_stride
        memset(base, <int>value, halo_h * row)
        if halo_w:
            for y in range(halo_h, halo_h + h):
                memset(base + y * row, <int>value, halo_w * pixel)
                memset(base + y * row + (halo_w + w) * pixel, <int>value, halo_w * pixel)
        memset(base + (halo_h + h) * row, <int>value, halo_h * row)


include "fill_table.pxi"
