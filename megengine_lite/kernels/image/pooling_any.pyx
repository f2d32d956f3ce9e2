"""Pooling over up to three axes of plain data, with dilated windows, and positions of maxima.

Windows are clipped at the border. A maximum passes over NaN.
"""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t

from megengine_lite.kernels.common.shared_constants cimport KIND_F32, KIND_S8
from megengine_lite.kernels.common.simd cimport (
    VW, inlined, vf, vf_load, vf_max, vf_set1, vf_store, vf_unzip_even,
)


cpdef enum:  # planners read it
    AXES = 3

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
    """Bytes of scratch of pool_any: a row of values, behind which a vector is read, places there and of maxima."""
    return 4 * (2 * w + ow + VW)


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


cdef inline vf joined(bint LARGEST, vf x, vf total) noexcept nogil:
    return vf_max(x, total) if LARGEST else x + total  # NaN in x leaves the total


cdef inline inlined join_floats(
    bint LARGEST, const float* x, int64_t slices, int64_t slice, int64_t rows, int64_t row, int64_t w, float start,
    float* line
) noexcept nogil:
    """join_row of all rows at once, of `slices` times `rows` that are that far apart; w >= VW."""
    cdef int64_t i = 0, j, k
    cdef vf total
    while i < w:
        i = min(i, w - VW)
        total = vf_set1(start)
        for j in range(slices):
            for k in range(rows):
                total = joined(LARGEST, vf_load(x + j * slice + k * row + i), total)
        vf_store(line + i, total)
        i += VW


cdef inline inlined join_column(
    bint LARGEST, bint PLACES, int64_t STRIDE, const number* line, const int32_t* of_line, int64_t n, number* y,
    int32_t* places
) noexcept nogil:
    """n elements STRIDE apart, joined with y. Up to VW elements behind the line are read."""
    cdef int64_t i = 0
    cdef number v
    cdef vf some
    if number is float and not PLACES and STRIDE <= 2:
        while i + VW <= n:
            some = vf_load(line + i * STRIDE)
            if STRIDE == 2:
                some = vf_unzip_even(some, vf_load(line + i * STRIDE + VW))
            vf_store(y + i, joined(LARGEST, some, vf_load(y + i)))
            i += VW
    for i in range(i, n):
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
    if number is float and not PLACES and w >= VW and slices > 0 and rows > 0:
        join_floats(
            LARGEST, x + row, slices, a.d_.dilation * a.h_.length * w, rows, a.h_.dilation * w, w, start, line
        )
    else:
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
