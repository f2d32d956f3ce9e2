"""Resizing of integers: weighted sums of a few rows and columns, added up as the definitions do to the last bit."""

from libc.math cimport floorf, rint, roundf
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t

from megengine_lite.kernels.common.shared_constants cimport KIND_S8, KIND_U8
from megengine_lite.kernels.common.simd cimport inlined

ctypedef fused number:
    int8_t
    uint8_t
    int32_t


cdef struct ResizeIntArgs:
    const char* x
    const int32_t* rows
    const double* row_weights
    const int32_t* columns
    const double* column_weights
    char* y
    int64_t kind, h, w, oh, ow, taps_y, taps_x
    double low, high


def scratch_bytes(int64_t w):
    """Bytes of scratch of resize_int: a row of the image."""
    return sizeof(double) * w


cdef inline inlined resize_row(
    const ResizeIntArgs* a, const number* x, int64_t r, number* y, double* line
) noexcept nogil:
    cdef int64_t w = a.w, ow = a.ow, i, k
    cdef const number* row
    cdef const int32_t* columns
    cdef const double* weights
    cdef double weight, total
    for k in range(a.taps_y):
        row = x + a.rows[r * a.taps_y + k] * w
        weight = a.row_weights[r * a.taps_y + k]
        if k == 0:
            for i in range(w):
                line[i] = row[i] * weight
        else:
            for i in range(w):
                line[i] += row[i] * weight
    for i in range(ow):
        total = 0.0
        columns = a.columns + i
        weights = a.column_weights + i
        for k in range(a.taps_x):
            total += line[columns[k * ow]] * weights[k * ow]
        y[i] = <number>rint(min(max(total, a.low), a.high))


cdef void resize_int(const ResizeIntArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """x [planes, h, w] to y [planes, oh, ow], numbers of a kind (S8, U8, S32), rounded and put between low and high.

    Halves go to even numbers. rows [oh][taps_y], columns [taps_x][ow] and their weights. Scratch: scratch_bytes(w). One
    work item = one row of y.
    """
    cdef int64_t item, x, r
    cdef double* line = <double*>scratch
    for item in range(begin, end):
        r = item % a.oh
        x = item // a.oh * a.h * a.w
        if a.kind == KIND_S8:
            resize_row(a, <const int8_t*>a.x + x, r, <int8_t*>a.y + item * a.ow, line)
        elif a.kind == KIND_U8:
            resize_row(a, <const uint8_t*>a.x + x, r, <uint8_t*>a.y + item * a.ow, line)
        else:
            resize_row(a, <const int32_t*>a.x + x, r, <int32_t*>a.y + item * a.ow, line)


# ---- images of bytes, with the rules of MegEngine ------------------------------------------------------------------

cdef struct ResizeBytesArgs:
    const char* x
    const int32_t* rows
    const float* row_weights
    const int32_t* columns
    const float* column_weights
    char* y
    int64_t kind, floors, h, w, oh, ow, taps_y, taps_x
    double low, high


def bytes_scratch_bytes(int64_t ow, int64_t taps_y):
    """Bytes of scratch of resize_bytes: a line of the result for each tap, their numbers, and their sum."""
    return sizeof(int64_t) * taps_y + sizeof(float) * ow * (taps_y + 1)


cdef inline inlined join_columns(const ResizeBytesArgs* a, const number* x, float* line) noexcept nogil:
    """A row of the image with the columns of the result."""
    cdef int64_t i, k
    for i in range(a.ow):
        line[i] = <float>x[a.columns[i]] * a.column_weights[i]
    for k in range(1, a.taps_x):
        for i in range(a.ow):
            line[i] += <float>x[a.columns[k * a.ow + i]] * a.column_weights[k * a.ow + i]


cdef inline inlined resize_bytes_row(
    const ResizeBytesArgs* a, const number* x, int64_t item, number* y, int64_t* held, float* lines, float* total
) noexcept nogil:
    """One row of the result. held: which row of all images each line was made of."""
    cdef int64_t r = item % a.oh, first = item // a.oh * a.h, k, i, row, place
    cdef float low = <float>a.low, high = <float>a.high, weight, value
    cdef float* line
    for k in range(a.taps_y):
        row = first + a.rows[r * a.taps_y + k]
        place = row % a.taps_y
        line = lines + place * a.ow
        if held[place] != row:
            join_columns(a, x + row * a.w, line)
            held[place] = row
        weight = a.row_weights[r * a.taps_y + k]
        if k == 0:
            for i in range(a.ow):
                total[i] = line[i] * weight
        else:
            for i in range(a.ow):
                total[i] += line[i] * weight
    for i in range(a.ow):
        value = floorf(total[i]) if a.floors else roundf(total[i])
        y[item * a.ow + i] = <number>min(max(value, low), high)


cdef void resize_bytes(const ResizeBytesArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """x [planes, h, w] to y [planes, oh, ow] in float32, first columns and then rows, as resize_int in all else.

    Results are rounded, halves away from zero, or rounded down if `floors`. Scratch: bytes_scratch_bytes(ow, taps_y).
    """
    cdef int64_t item, k
    cdef int64_t* held = <int64_t*>scratch
    cdef float* lines = <float*>(held + a.taps_y)
    cdef float* total = lines + a.taps_y * a.ow
    for k in range(a.taps_y):
        held[k] = -1
    for item in range(begin, end):
        if a.kind == KIND_S8:
            resize_bytes_row(a, <const int8_t*>a.x, item, <int8_t*>a.y, held, lines, total)
        else:
            resize_bytes_row(a, <const uint8_t*>a.x, item, <uint8_t*>a.y, held, lines, total)


include "resize_int_table.pxi"
