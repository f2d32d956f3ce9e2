"""All windows of an image, one after the other in memory; and images that are sums of windows."""

from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from megengine_lite.kernels.common.arguments cimport FilterWindow
from megengine_lite.kernels.common.interleave cimport interleave
from megengine_lite.kernels.common.simd cimport VW, inlined, vf_load, vf_load_n, vf_store, vf_store_n


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


# ---- sums of windows -----------------------------------------------------------------------------------------------

cdef enum:
    BAND_BYTES = 16384  # of the rows that are summed at a time, in the first-level cache

cdef struct SumWindowsArgs:
    const float* x
    float* y
    FilterWindow window
    int64_t h, w, oh, ow, band


def rows_of_band(int64_t w):
    """Rows of w pixels of a work item of sum_windows_f32."""
    return max(BAND_BYTES // (4 * w), 1)


def scratch_bytes(int64_t w, int64_t stride_w, int64_t band):
    """Bytes of scratch of sum_windows_f32 for `band` rows of w pixels."""
    return 0 if stride_w == 1 else band * min(stride_w, w) * part_of_row(w, stride_w) * sizeof(float)


cdef inline int64_t part_of_row(int64_t w, int64_t stride) noexcept nogil:
    """Pixels in one of the `stride` interleaved parts of a row."""
    return (w + stride - 1) // stride


cdef inline void add_row(float* y, const float* x, int64_t n) noexcept nogil:
    cdef int64_t i = 0
    while i + VW <= n:
        vf_store(y + i, vf_load(y + i) + vf_load(x + i))
        i += VW
    if i < n:
        vf_store_n(y + i, vf_load_n(y + i, n - i) + vf_load_n(x + i, n - i), n - i)


cdef inline inlined join_parts(int64_t stride, float* y, const float* x, int64_t part, int64_t w) noexcept nogil:
    """A row of w pixels of its parts; `stride` may be a constant."""
    cdef int64_t whole = w // stride, q, p
    for q in range(whole):
        for p in range(stride):
            y[q * stride + p] = x[p * part + q]
    for p in range(w - whole * stride):
        y[whole * stride + p] = x[p * part + whole]


cdef inline void join_row(int64_t stride, float* y, const float* x, int64_t part, int64_t w) noexcept nogil:
    cdef int64_t whole = w // stride, p
    if stride == 2:
        interleave(2, False, x, part, 2, y, whole)
    elif stride == 4:
        interleave(4, False, x, part, 4, y, whole)
    elif stride == 3:
        join_parts(3, y, x, part, w)
        return
    else:
        join_parts(stride, y, x, part, w)
        return
    for p in range(w - whole * stride):
        y[whole * stride + p] = x[p * part + whole]


cdef void sum_windows_f32(const SumWindowsArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """x [planes, kh, kw, oh, ow] to y [planes, h, w]: the sums of all elements of windows that fall on a pixel.

    Sums go in the order of the elements in a window. With a stride, the pixels of a row that get the same elements of
    windows are summed in a part of their own, and the parts are joined in the end. One work item = `band` rows of a
    plane, the last one of a plane perhaps fewer. Scratch: scratch_bytes.
    """
    cdef const FilterWindow* m = &a.window
    cdef int64_t stride = m.stride_w, part = part_of_row(a.w, stride), bands = (a.h + a.band - 1) // a.band
    cdef int64_t length = a.w if stride == 1 else min(stride, a.w) * part
    cdef int64_t item, plane, top, bottom, r, c, i, up, left, first, last
    cdef const float* x
    cdef float* y
    cdef float* sums
    for item in range(begin, end):
        plane, top = item // bands, item % bands * a.band
        bottom = min(top + a.band, a.h)
        y = a.y + (plane * a.h + top) * a.w
        sums = y if stride == 1 else <float*>scratch
        memset(sums, 0, (bottom - top) * length * sizeof(float))
        for r in range(m.kh):
            up = r * m.dilate_h - m.pad_h
            for c in range(m.kw):
                left = c * m.dilate_w - m.pad_w
                first = first_inside(left, stride, 0, a.ow)
                last = first_inside(left, stride, a.w, a.ow)
                if first >= last:
                    continue
                left += first * stride
                left = left % stride * part + left // stride - top * length
                x = a.x + ((plane * m.kh + r) * m.kw + c) * a.oh * a.ow + first
                for i in range(first_inside(up, m.stride_h, top, a.oh), first_inside(up, m.stride_h, bottom, a.oh)):
                    add_row(sums + (up + i * m.stride_h) * length + left, x + i * a.ow, last - first)
        if stride != 1:
            for i in range(bottom - top):
                join_row(stride, y + i * a.w, sums + i * length, part, a.w)


include "windows_table.pxi"
