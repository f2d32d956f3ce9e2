"""Rows and columns of images at any places, whatever their elements: resizing to the nearest pixel."""

from libc.stdint cimport int16_t, int32_t, int64_t
from libc.string cimport memcpy

from megengine_lite.kernels.common.simd cimport VW, vf, vf_load, vf_store, vf_zip_high, vf_zip_low


cdef struct PickPixelsArgs:
    const char* x
    const int32_t* rows
    const int32_t* columns
    char* y
    int64_t h, w, oh, ow, item, doubles


ctypedef fused element:
    char
    int16_t
    int32_t
    int64_t


cdef inline void pick(const element* x, const int32_t* columns, int64_t n, element* y) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        y[i] = x[columns[i]]


cdef inline void double_32(const float* x, int64_t n, float* y) noexcept nogil:
    """Each of n elements twice."""
    cdef int64_t i = 0
    cdef vf v
    while i + VW <= n:
        v = vf_load(x + i)
        vf_store(y + 2 * i, vf_zip_low(v, v))
        vf_store(y + 2 * i + VW, vf_zip_high(v, v))
        i += VW
    while i < n:
        y[2 * i] = y[2 * i + 1] = x[i]
        i += 1


cdef void pick_pixels(const PickPixelsArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y[p, r, c] = x[p, rows[r], columns[c]]; x [planes, h, w] and y [planes, oh, ow] are dense, of `item` bytes.

    Without columns rows are copied whole. `doubles`: the columns are 0 0 1 1 2 2 ... One work item = one row of y.
    """
    cdef int64_t w = a.w, ow = a.ow, item = a.item, nbytes = ow * item, work, r, k
    cdef const int32_t* columns = a.columns
    cdef const char* x
    cdef char* y
    for work in range(begin, end):
        r = work % a.oh
        y = a.y + work * nbytes
        if r and work > begin and a.rows[r] == a.rows[r - 1]:
            memcpy(y, y - nbytes, nbytes)
            continue
        x = a.x + (work // a.oh * a.h + a.rows[r]) * w * item
        if not columns:
            memcpy(y, x, nbytes)
        elif item == 4 and a.doubles:
            double_32(<const float*>x, w, <float*>y)
        elif item == 4:
            pick(<const int32_t*>x, columns, ow, <int32_t*>y)
        elif item == 1:
            pick(<const char*>x, columns, ow, y)
        elif item == 8:
            pick(<const int64_t*>x, columns, ow, <int64_t*>y)
        elif item == 2:
            pick(<const int16_t*>x, columns, ow, <int16_t*>y)
        else:
            for k in range(ow):
                memcpy(y + k * item, x + columns[k] * item, item)


include "pick_pixels_table.pxi"
