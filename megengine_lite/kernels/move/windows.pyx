"""All windows of an image, one after the other in memory; and images that are sums of windows."""

from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from megengine_lite.kernels.common.arguments cimport FilterWindow


cdef enum:
    PIECE = 16  # bytes that are copied at a time, also where a run is shorter
    SHORT = 8 * PIECE  # runs above are left to the C library


cdef inline void copy_run(
    char* y, const char* x, int64_t nbytes, const char* x_end, const char* y_end
) noexcept nogil:
    """Copies nbytes, and perhaps some behind them that are written again: outputs come in the order of memory."""
    cdef int64_t pieces = (nbytes + PIECE - 1) // PIECE, k
    if nbytes > SHORT or x + pieces * PIECE > x_end or y + pieces * PIECE > y_end:
        memcpy(y, x, nbytes)
        return
    for k in range(pieces):
        memcpy(y + k * PIECE, x + k * PIECE, PIECE)


cdef inline void copy_apart(char* y, const char* x, int64_t n, int64_t step, int64_t item) noexcept nogil:
    """n elements of `item` bytes that are `step` bytes apart in x."""
    cdef int64_t k
    for k in range(n):
        if item == 4:
            memcpy(y + k * 4, x + k * step, 4)
        elif item == 2:
            memcpy(y + k * 2, x + k * step, 2)
        elif item == 1:
            y[k] = x[k * step]
        else:
            memcpy(y + k * item, x + k * step, item)


cdef inline int64_t first_inside(int64_t begin, int64_t dilate, int64_t limit, int64_t n) noexcept nogil:
    """The first k in [0, n) with begin + k dilate >= limit; n if there is none."""
    return 0 if begin >= limit else min((limit - begin + dilate - 1) // dilate, n)


cdef struct CopyWindowsArgs:
    const char* x
    char* y
    FilterWindow window
    int64_t planes, h, w, oh, ow, item, outside


cdef void copy_windows(const CopyWindowsArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """x [planes, h, w] to y [planes, oh, ow, kh, kw], elements of `item` bytes; the bytes of others are `outside`.

    One work item = a row of windows of one plane.
    """
    cdef const FilterWindow* m = &a.window
    cdef int64_t item = a.item, kw = m.kw, row_bytes = a.w * item
    cdef const char* x_end = a.x + a.planes * a.h * row_bytes
    cdef const char* x
    cdef const char* y_end
    cdef char* y
    cdef int64_t index, i, j, r, top, left, first, last
    for index in range(begin, end):
        x = a.x + index // a.oh * a.h * row_bytes
        y = a.y + index * a.ow * m.kh * kw * item
        y_end = y + a.ow * m.kh * kw * item
        top = index % a.oh * m.stride_h - m.pad_h
        for j in range(a.ow):
            left = j * m.stride_w - m.pad_w
            first, last = 0, kw
            if left < 0 or left + (kw - 1) * m.dilate_w >= a.w:
                first = first_inside(left, m.dilate_w, 0, kw)
                last = first_inside(left, m.dilate_w, a.w, kw)
            for r in range(m.kh):
                i = top + r * m.dilate_h
                if i < 0 or i >= a.h or last <= first:
                    memset(y, <int>a.outside, kw * item)
                elif m.dilate_w > 1:
                    memset(y, <int>a.outside, first * item)
                    copy_apart(
                        y + first * item, x + i * row_bytes + (left + first * m.dilate_w) * item, last - first,
                        m.dilate_w * item, item,
                    )
                    memset(y + last * item, <int>a.outside, (kw - last) * item)
                else:
                    if first:
                        memset(y, <int>a.outside, first * item)
                    copy_run(
                        y + first * item, x + i * row_bytes + (left + first) * item, (last - first) * item, x_end, y_end
                    )
                    if last < kw:
                        memset(y + last * item, <int>a.outside, (kw - last) * item)
                y += kw * item


cdef struct SumWindowsArgs:
    const float* x
    float* y
    FilterWindow window
    int64_t h, w, oh, ow


cdef void sum_windows_f32(const SumWindowsArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """x [planes, kh, kw, oh, ow] to y [planes, h, w]: the sums of all elements of windows that fall on a pixel.

    One work item = one plane.
    """
    cdef const FilterWindow* m = &a.window
    cdef int64_t plane, r, c, i, j, row, left, first, last
    cdef const float* x
    cdef float* y
    for plane in range(begin, end):
        memset(a.y + plane * a.h * a.w, 0, a.h * a.w * sizeof(float))
        for r in range(m.kh):
            for c in range(m.kw):
                left = c * m.dilate_w - m.pad_w
                first = first_inside(left, m.stride_w, 0, a.ow)
                last = first_inside(left, m.stride_w, a.w, a.ow)
                for i in range(a.oh):
                    row = i * m.stride_h + r * m.dilate_h - m.pad_h
                    if not 0 <= row < a.h:
                        continue
                    x = a.x + (((plane * m.kh + r) * m.kw + c) * a.oh + i) * a.ow
                    y = a.y + (plane * a.h + row) * a.w + left
                    if m.stride_w == 1:
                        for j in range(first, last):
                            y[j] += x[j]
                    else:
                        for j in range(first, last):
                            y[j * m.stride_w] += x[j]


include "windows_table.pxi"
