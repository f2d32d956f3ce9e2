"""Pooling over up to three axes of plain data, with dilated windows, and positions of maxima.

Windows are clipped at the border. A maximum passes over NaN.
"""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t

from megengine_lite.kernels.common.shared_constants cimport KIND_F32, KIND_S8
from megengine_lite.kernels.common.simd cimport (
    VW, inlined, vf, vf_load, vf_load_n, vf_max, vf_max_nan, vf_set1, vf_store, vf_store_n, vf_unzip_even,
)


cpdef enum:  # planners read it
    AXES = 3

cdef enum:
    MAX_REACH = 1024  # elements of padding, and between the first and the last place of a window, in a padded row

ctypedef fused number:
    float
    int8_t
    uint8_t


# An axis of data of `length` elements and an output of `out`: windows of `size` places, `dilation` apart.
cdef struct PooledAxis:
    int64_t length, out, size, stride, dilation, pad
    const float* counts  # by whose product averages are divided


cdef struct PoolAnyArgs:
    const char* x
    char* y
    int64_t* places  # of maxima, or NULL
    int64_t kind, largest, column_major
    PooledAxis d_, h_, w_


def scratch_bytes(int64_t w, int64_t ow):
    """Bytes of scratch of pool_any: a row of values, behind which vectors are read, places there and of maxima."""
    return 4 * (2 * w + 2 * ow + 2 * MAX_REACH + 4 * VW)


cdef inline number lowest(const number* of) noexcept nogil:
    if number is float:
        return -1.0 / 0.0
    elif number is int8_t:
        return -128
    else:
        return 0


cdef inline int64_t first_inside(const PooledAxis* a, int64_t begin) noexcept nogil:
    """The first place of a window at `begin` that lies in the data."""
    return (-begin + a.dilation - 1) // a.dilation if begin < 0 else 0


cdef inline int64_t behind_inside(const PooledAxis* a, int64_t begin) noexcept nogil:
    return min(a.size, (a.length - 1 - begin) // a.dilation + 1 if begin < a.length else 0)


# Rows of a window are joined first, then columns of what they gave. Of equal maxima the first place counts.

cdef inline inlined join_row(
    bint LARGEST, bint PLACES, const number* x, int64_t n, int32_t place, number* line, int32_t* places
) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        if PLACES:
            places[i] = <int32_t>(place + i) if x[i] > line[i] else places[i]
        if LARGEST:
            line[i] = x[i] if x[i] > line[i] else line[i]
        else:
            line[i] += x[i]


cdef inline inlined join_column(
    bint LARGEST, bint PLACES, int64_t STRIDE, const number* line, const int32_t* of_line, int64_t n, number* y,
    int32_t* places
) noexcept nogil:
    """n elements STRIDE apart, joined with y."""
    cdef int64_t i
    cdef number v
    for i in range(n):
        v = line[i * STRIDE]
        if PLACES:
            places[i] = of_line[i * STRIDE] if v > y[i] or (v == y[i] and of_line[i * STRIDE] < places[i]) else places[i]
        if LARGEST:
            y[i] = v if v > y[i] else y[i]
        else:
            y[i] += v


cdef inline inlined pool_row(
    bint LARGEST, bint PLACES, const PoolAnyArgs* a, const number* x, int64_t item, number* y, void* scratch
) noexcept nogil:
    cdef int64_t w = a.w_.length, ow = a.w_.out, r = item % a.h_.out, s = item // a.h_.out % a.d_.out
    cdef int64_t top = r * a.h_.stride - a.h_.pad, front = s * a.d_.stride - a.d_.pad, left, i, j, k, c, first, last, row
    cdef int64_t slices, rows
    cdef int32_t* of_line = <int32_t*>scratch
    cdef int32_t* places = of_line + w
    cdef number* line = <number*>(places + ow)
    cdef number start = lowest(y) if LARGEST else 0
    cdef int64_t plane = item // (a.h_.out * a.d_.out), size = a.d_.length * a.h_.length * w, place
    cdef float divisor
    x += plane * size
    y += item * ow
    for i in range(ow):
        y[i] = start
        if PLACES:
            places[i] = 0
    slices = behind_inside(&a.d_, front)
    rows = behind_inside(&a.h_, top)
    i = first_inside(&a.d_, front)
    j = first_inside(&a.h_, top)
    row = ((front + i * a.d_.dilation) * a.h_.length + top + j * a.h_.dilation) * w
    slices -= i
    rows -= j
    for i in range(w):
        line[i] = start
        if PLACES:
            of_line[i] = 0
    for i in range(slices):
        for j in range(rows):
            k = row + (i * a.d_.dilation * a.h_.length + j * a.h_.dilation) * w
            join_row(LARGEST, PLACES, x + k, w, <int32_t>k, line, of_line)
    for k in range(a.w_.size):
        left = k * a.w_.dilation - a.w_.pad
        first = (-left + a.w_.stride - 1) // a.w_.stride if left < 0 else 0
        last = min(ow, (w - 1 - left) // a.w_.stride + 1 if left < w else 0)
        if last <= first:
            continue
        c = left + first * a.w_.stride
        if a.w_.stride == 1:
            join_column(LARGEST, PLACES, 1, line + c, of_line + c, last - first, y + first, places + first)
        elif a.w_.stride == 2:
            join_column(LARGEST, PLACES, 2, line + c, of_line + c, last - first, y + first, places + first)
        else:
            join_column(LARGEST, PLACES, a.w_.stride, line + c, of_line + c, last - first, y + first, places + first)
    if not LARGEST:
        divisor = a.d_.counts[s] * a.h_.counts[r]
        for i in range(ow):
            y[i] = <number>(y[i] / max(divisor * a.w_.counts[i], <float>1))
    if PLACES:
        for i in range(ow):
            place = places[i]
            if a.column_major:
                place = (place % w * a.h_.length + place // w % a.h_.length) * a.d_.length + place // (w * a.h_.length)
            a.places[item * ow + i] = plane * size + place if y[i] > start else 0


# ---- float32 with strides of 1 and 2 -------------------------------------------------------------------------------

cdef inline vf joined(bint LARGEST, vf x, vf total) noexcept nogil:
    return vf_max(x, total) if LARGEST else x + total  # NaN in x leaves the total


cdef inline bint fits_line(const PooledAxis* a) noexcept nogil:
    """Whether a row with its padding is short enough to be kept."""
    return a.stride <= 2 and a.pad <= MAX_REACH and (a.size - 1) * a.dilation <= MAX_REACH


cdef inline inlined join_line(
    bint LARGEST, const float* x, int64_t slices, int64_t slice, int64_t rows, int64_t row, int64_t w, float start,
    float* line
) noexcept nogil:
    """The rows of a window as one row of w numbers: of `slices` times `rows` rows that are that far apart."""
    cdef int64_t i = 0, j, k, lanes = min(w, <int64_t>VW)
    cdef const float* at
    cdef vf total
    while i < w:
        i = min(i, w - lanes)
        total = vf_set1(start)
        for j in range(slices):
            at = x + j * slice + i
            for k in range(rows):
                total = joined(LARGEST, vf_load(at) if w >= VW else vf_load_n(at, w), total)
                at += row
        if w >= VW:
            vf_store(line + i, total)
        else:
            vf_store_n(line, total, w)
        i += lanes


cdef inline inlined join_columns(
    bint LARGEST, int64_t STRIDE, int64_t size, int64_t dilation, const float* line, int64_t ow, float divisor,
    const float* counts, float* y
) noexcept nogil:
    """The columns of a window of `size` places of a row with its padding."""
    cdef int64_t i = 0, k
    cdef float start = -1.0 / 0.0 if LARGEST else 0
    cdef const float* at
    cdef vf total, some
    while i < ow:
        if i + VW > ow and ow >= VW:
            i = ow - VW
        at = line + i * STRIDE
        total = vf_set1(start)
        for k in range(size):
            some = vf_load(at)
            if STRIDE == 2:
                some = vf_unzip_even(some, vf_load(at + VW))
            total = joined(LARGEST, some, total)
            at += dilation
        if not LARGEST:
            some = vf_load(counts + i) if ow >= VW else vf_load_n(counts, ow)
            total = total / vf_max_nan(vf_set1(1), vf_set1(divisor) * some)
        if ow >= VW:
            vf_store(y + i, total)
        else:
            vf_store_n(y, total, ow)
        i += VW


cdef inline inlined pool_lines(
    bint LARGEST, int64_t STRIDE, const PoolAnyArgs* a, int64_t begin, int64_t end, float* line
) noexcept nogil:
    """Rows of a window are joined to one with its padding, and columns of that: no column is an exception."""
    cdef PooledAxis depth = a.d_, height = a.h_, width = a.w_
    cdef int64_t w = width.length, ow = width.out, dilation = width.dilation
    cdef int64_t row = height.dilation * w, slice = depth.dilation * height.length * w
    cdef int64_t r = begin % height.out, rest = begin // height.out, s = rest % depth.out, plane = rest // depth.out
    cdef int64_t item, top, front, above, before, rows, slices, i
    cdef float start = -1.0 / 0.0 if LARGEST else 0
    cdef float divisor
    cdef const float* x
    cdef float* y
    for i in range(max(width.pad + w, (ow + VW) * STRIDE + (width.size - 1) * dilation + VW)):
        line[i] = start
    for item in range(begin, end):
        top = r * height.stride - height.pad
        front = s * depth.stride - depth.pad
        above, before = first_inside(&height, top), first_inside(&depth, front)
        rows, slices = behind_inside(&height, top) - above, behind_inside(&depth, front) - before
        x = <const float*>a.x + ((plane * depth.length + front + before * depth.dilation) * height.length + top) * w
        x += above * row
        if slices == 1 and rows == 2:
            join_line(LARGEST, x, 1, slice, 2, row, w, start, line + width.pad)
        elif slices == 1 and rows == 3:
            join_line(LARGEST, x, 1, slice, 3, row, w, start, line + width.pad)
        else:
            join_line(LARGEST, x, slices, slice, rows, row, w, start, line + width.pad)
        y = <float*>a.y + item * ow
        divisor = 1 if LARGEST else depth.counts[s] * height.counts[r]
        if width.size == 2:
            join_columns(LARGEST, STRIDE, 2, dilation, line, ow, divisor, width.counts, y)
        elif width.size == 3:
            join_columns(LARGEST, STRIDE, 3, dilation, line, ow, divisor, width.counts, y)
        else:
            join_columns(LARGEST, STRIDE, width.size, dilation, line, ow, divisor, width.counts, y)
        r += 1
        if r == height.out:
            r = 0
            s += 1
            if s == depth.out:
                s = 0
                plane += 1


# ---- the kernel ----------------------------------------------------------------------------------------------------

cdef inline void pool_numbers(
    const PoolAnyArgs* a, const number* x, int64_t item, number* y, void* scratch
) noexcept nogil:
    if a.places:
        pool_row(True, True, a, x, item, y, scratch)
    else:
        pool_row(True, False, a, x, item, y, scratch)


cdef void pool_any(const PoolAnyArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Maxima, or means of float32, over the last three axes of x.

    places count the elements of x, in column-major order of these axes if `column_major`; 0 where nothing is above the
    lowest number. One work item = one row of y. Scratch: scratch_bytes(w, ow).
    """
    cdef int64_t item
    if a.kind == KIND_F32 and not a.places and fits_line(&a.w_):
        if a.largest and a.w_.stride == 1:
            pool_lines(True, 1, a, begin, end, <float*>scratch)
        elif a.largest:
            pool_lines(True, 2, a, begin, end, <float*>scratch)
        elif a.w_.stride == 1:
            pool_lines(False, 1, a, begin, end, <float*>scratch)
        else:
            pool_lines(False, 2, a, begin, end, <float*>scratch)
        return
    for item in range(begin, end):
        if a.kind == KIND_F32:
            if a.largest:
                pool_numbers(a, <const float*>a.x, item, <float*>a.y, scratch)
            else:
                pool_row(False, False, a, <const float*>a.x, item, <float*>a.y, scratch)
        elif a.kind == KIND_S8:
            pool_numbers(a, <const int8_t*>a.x, item, <int8_t*>a.y, scratch)
        else:
            pool_numbers(a, <const uint8_t*>a.x, item, <uint8_t*>a.y, scratch)


include "pooling_any_table.pxi"
