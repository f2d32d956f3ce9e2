# The last columns of int8 products, which are no whole vectors.
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memcpy

from megengine_lite.kernels.common.dot cimport MAX_SUMS
from megengine_lite.kernels.common.requantize cimport Int8Output, result_size, store_sums
from megengine_lite.kernels.common.simd cimport VW, outlined


cdef inline outlined store_some_columns(
    const int32_t* sums, int rows, int vectors, int64_t columns, const Int8Output* o
) noexcept nogil:
    """Stores the last columns of C, which are no whole vectors, through a block on the stack."""
    cdef float block[MAX_SUMS * VW]
    cdef int64_t size = result_size(o)
    cdef Int8Output whole = o[0]
    cdef int r
    whole.y = <uint8_t*>block
    whole.y_pixel = vectors * VW * size
    store_sums(sums, rows, vectors, &whole)
    for r in range(rows):
        memcpy(o.y + r * o.y_pixel, whole.y + r * whole.y_pixel, columns * size)
