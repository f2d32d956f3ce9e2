"""Filling memory: zeros in the halo of a blocked tensor, and constant fills."""

from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset, memcpy

from megengine_lite.kernels.common.kernel cimport KernelArgs


cdef void fill_bytes(const KernelArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """One work item = one chunk of `chunk` bytes of y, all set to `value`."""
    cdef int64_t nbytes = a.i[0], chunk = a.i[1], value = a.i[2]
    cdef int64_t lo = begin * chunk
    cdef int64_t hi = min(end * chunk, nbytes)
    if hi > lo:
        memset(<char*>a.p[0] + lo, <int>value, hi - lo)


cdef void copy_bytes(const KernelArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """One work item = one chunk of `chunk` bytes."""
    cdef int64_t nbytes = a.i[0], chunk = a.i[1]
    cdef int64_t lo = begin * chunk
    cdef int64_t hi = min(end * chunk, nbytes)
    if hi > lo:
        memcpy(<char*>a.p[1] + lo, <char*>a.p[0] + lo, hi - lo)


cdef void fill_halo_blocked(const KernelArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Sets the border of a blocked tensor (see docs/architecture.md, "Blocked layout") to the byte `value`.

    x points at the start of the allocation of plane 0, that is at the top left corner of the halo.
    One work item = one plane (image n, channel block c).
    """
    cdef int64_t h = a.i[0], w = a.i[1], halo_h = a.i[2], halo_w = a.i[3]
    cdef int64_t pixel = a.i[4], plane_stride = a.i[5], value = a.i[6]
    cdef int64_t row = (w + 2 * halo_w) * pixel
    cdef int64_t plane, y
    cdef char* base
    for plane in range(begin, end):
        base = <char*>a.p[0] + plane * plane_stride
        memset(base, <int>value, halo_h * row)
        if halo_w:
            for y in range(halo_h, halo_h + h):
                memset(base + y * row, <int>value, halo_w * pixel)
                memset(base + y * row + (halo_w + w) * pixel, <int>value, halo_w * pixel)
        memset(base + (halo_h + h) * row, <int>value, halo_h * row)


# name -> (address, pointers, integers, reals)
KERNELS = {
    "fill_bytes": (<uintptr_t>&fill_bytes, "y", "nbytes chunk value", ""),
    "copy_bytes": (<uintptr_t>&copy_bytes, "x y", "nbytes chunk", ""),
    "fill_halo_blocked": (
        <uintptr_t>&fill_halo_blocked, "x", "h w halo_h halo_w pixel plane_stride value", ""
    ),
}
