"""Pooling of int8 numbers in blocked layout."""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t

from megengine_lite.kernels.common.arguments cimport (
    POOL_AVERAGE, POOL_AVERAGE_COUNT_EXCLUDE_PADDING, POOL_MAX, PoolingWindow, Strides,
)
from megengine_lite.kernels.common.simd cimport (
    VW, inlined, outlined, vb, vb_load, vb_max, vb_set1, vb_store, vf, vf_rint, vf_set1, vf_to_vi, vi, vi_load_s8, vi_set1,
    vi_store_8, vi_to_vf,
)
from megengine_lite.kernels.common.vmath cimport v_copysign


cdef inline outlined max_row(
    const int8_t* x, int64_t x_row, const PoolingWindow* p, int64_t y0, int64_t y1, int64_t ow, vb flip, int8_t* y
) noexcept nogil:
    cdef int64_t o, first, last, r, c
    cdef vb best
    for o in range(ow):
        first = max(o * p.stride_w - p.pad_w, 0)
        last = min(o * p.stride_w - p.pad_w + p.kw, p.w)
        best = vb_set1(-128)
        for r in range(y0, y1):
            for c in range(first, last):
                best = vb_max(best, vb_load(x + r * x_row + c * VW) ^ flip)
        vb_store(y + o * VW, best ^ flip)


cdef inline outlined average_row(
    const int8_t* x, int64_t x_row, const PoolingWindow* p, int64_t y0, int64_t y1, int64_t ow, int32_t mask,
    int64_t area, int32_t zero, bint truncate, bint ties_even, int8_t* y
) noexcept nogil:
    """Divides by `area`, where padding counts as zero points, or by the number of pixels inside if `area` is 0."""
    cdef int64_t o, first, last, r, c, inside
    cdef vi total
    cdef vf mean
    for o in range(ow):
        first = max(o * p.stride_w - p.pad_w, 0)
        last = min(o * p.stride_w - p.pad_w + p.kw, p.w)
        inside = (y1 - y0) * (last - first)
        total = vi_set1(<int32_t>(zero * (area - inside)) if area else 0)
        for r in range(y0, y1):
            for c in range(first, last):
                total = total + (vi_load_s8(x + r * x_row + c * VW) & vi_set1(mask))
        mean = vi_to_vf(total) / vf_set1(<float>(area if area else inside))
        if ties_even:
            mean = vf_rint(mean - vf_set1(<float>zero)) + vf_set1(<float>zero)
        elif not truncate:
            mean = mean + v_copysign(vf_set1(0.49999997), mean)
        vi_store_8(y + o * VW, vf_to_vi(mean))


cdef struct PoolInt8Args:
    const int8_t* x
    int8_t* y
    Strides x_, y_
    int64_t blocks, mask, zero, truncate, ties_even
    PoolingWindow pool


cdef void pool_int8(const PoolInt8Args* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """One work item = one output row of one channel block of one image. x and y point at element (0, 0, 0, 0).

    `mask` is -1 for signed numbers and 255 for unsigned ones. Averages are rounded,
    halves away from zero or, if `ties_even`, to even numbers; or truncated if `truncate`.
    """
    cdef int64_t x_row = a.x_.row, x_plane = a.x_.plane, x_image = a.x_.image
    cdef int64_t y_row = a.y_.row, y_plane = a.y_.plane, y_image = a.y_.image
    cdef int64_t blocks = a.blocks, oh = a.pool.oh, ow = a.pool.ow, mode = a.pool.mode, mask = a.mask
    cdef PoolingWindow p = a.pool
    cdef int64_t item, n, block, o, y0, y1
    cdef const int8_t* x
    cdef int8_t* y
    for item in range(begin, end):
        n = item // (blocks * oh)
        block = item // oh % blocks
        o = item % oh
        x = a.x + n * x_image + block * x_plane
        y = a.y + n * y_image + block * y_plane + o * y_row
        y0 = max(o * p.stride_h - p.pad_h, 0)
        y1 = min(o * p.stride_h - p.pad_h + p.kh, p.h)
        if mode == POOL_MAX:
            max_row(x, x_row, &p, y0, y1, ow, vb_set1(0 if mask == -1 else -128), y)
        else:
            average_row(
                x, x_row, &p, y0, y1, ow, <int32_t>mask, p.kh * p.kw if mode == POOL_AVERAGE else 0, <int32_t>a.zero,
                <bint>a.truncate, <bint>a.ties_even, y
            )


MODES = (POOL_MAX, POOL_AVERAGE, POOL_AVERAGE_COUNT_EXCLUDE_PADDING)  # planners refuse all others

include "pooling_int8_table.pxi"
