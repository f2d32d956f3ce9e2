# Copying and filling short rows of floats, inline.
from libc.stdint cimport int64_t

from megengine_lite.kernels.simd cimport VW, vf, vf_load, vf_load_n, vf_set1, vf_store, vf_store_n


cdef inline void copy_row(float* y, const float* x, int64_t n) noexcept nogil:
    cdef int64_t i = 0
    while i + VW <= n:
        vf_store(y + i, vf_load(x + i))
        i += VW
    if i < n:
        vf_store_n(y + i, vf_load_n(x + i, n - i), n - i)


cdef inline void fill_row(float* y, float value, int64_t n) noexcept nogil:
    cdef vf v = vf_set1(value)
    cdef int64_t i = 0
    while i + VW <= n:
        vf_store(y + i, v)
        i += VW
    if i < n:
        vf_store_n(y + i, v, n - i)
