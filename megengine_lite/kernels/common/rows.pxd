# Copying and filling short rows of floats, inline.
from libc.stdint cimport int64_t, uintptr_t

from megengine_lite.kernels.common.simd cimport (
    VW, vf, vf_load, vf_load_n, vf_set1, vf_store, vf_store_n, vf_stream,
)


cdef inline bint is_aligned(const float* p) noexcept nogil:
    """Whether p is at the beginning of a vector."""
    return <uintptr_t>p % (4 * VW) == 0


cdef inline void copy_row(float* y, const float* x, int64_t n) noexcept nogil:
    """Of a row that is no multiple of a vector, the last vector overlaps with the one before."""
    cdef int64_t i = 0
    while i + VW <= n:
        vf_store(y + i, vf_load(x + i))
        i += VW
    if i < n and n >= VW:
        vf_store(y + n - VW, vf_load(x + n - VW))
    elif i < n:
        vf_store_n(y + i, vf_load_n(x + i, n - i), n - i)


cdef inline void fill_row(float* y, float value, int64_t n) noexcept nogil:
    cdef vf v = vf_set1(value)
    cdef int64_t i = 0
    while i + VW <= n:
        vf_store(y + i, v)
        i += VW
    if i < n and n >= VW:
        vf_store(y + n - VW, v)
    elif i < n:
        vf_store_n(y + i, v, n - i)


cdef inline void stream_row(float* y, const float* x, int64_t n) noexcept nogil:
    """copy_row past the caches. The kernel must call stream_end() before it ends."""
    cdef int64_t i = (-<int64_t><uintptr_t>y) % (4 * VW) // 4
    if i < 0:
        i += VW
    i = min(i, n)
    if i:
        vf_store_n(y, vf_load_n(x, i), i)
    while i + VW <= n:
        vf_stream(y + i, vf_load(x + i))
        i += VW
    if i < n:
        vf_store_n(y + i, vf_load_n(x + i, n - i), n - i)
