"""Fourier transforms of rows, as many at a time as a vector has lanes."""

from libc.stdint cimport int64_t
from libc.string cimport memset

from megengine_lite.kernels.common.simd cimport VW, inlined, outlined, vf, vf_load, vf_set1, vf_store

cpdef enum:  # planners read them
    MAX_FACTORS = 16
    MAX_LENGTH = 16384


RADICES = (4, 2, 3, 5, 7)
"""The factors that a length may have."""


def scratch_bytes(int64_t n):
    """Bytes of scratch of fourier_rows_f32: the complex numbers of a group of rows, twice."""
    return 4 * n * VW * sizeof(float)


cdef struct FourierRowsArgs:
    const float* x
    const float* window  # n numbers, or NULL
    const float* turns  # cosine and sine of k / n of a turn, for k < n
    float* y
    int64_t rows, rows_of_signal, signal_stride, row_stride, parts, length, n, bins, inverse, factors
    int64_t factor[MAX_FACTORS]


cdef inline inlined one_pass(
    int R, const float* x, float* y, const float* turns, int64_t n, int64_t stride, int64_t whole
) noexcept nogil:
    """Transforms of R numbers that are n / R apart, in each of `stride` interleaved sequences of n numbers.

    Results are put in order as they are written (Stockham's algorithm). A number is VW real parts and VW imaginary
    ones.
    """
    cdef int64_t m = n // R, step = stride * m * 2 * VW, to = stride * 2 * VW, p, q, at
    cdef vf re[7]
    cdef vf im[7]
    cdef vf cosine[7]
    cdef vf sine[7]
    cdef vf turn_re[7]
    cdef vf turn_im[7]
    cdef vf sum_re[4]
    cdef vf sum_im[4]
    cdef vf difference_re[4]
    cdef vf difference_im[4]
    cdef vf a, b, c, d
    cdef const float* source
    cdef float* target
    cdef int j, k
    if R != 2 and R != 4:
        for j in range(1, R):
            cosine[j] = vf_set1(turns[2 * (whole // R * j)])
            sine[j] = vf_set1(turns[2 * (whole // R * j) + 1])
    for p in range(m):
        for j in range(1, R):
            at = 2 * (j * p * stride)
            turn_re[j] = vf_set1(turns[at])
            turn_im[j] = vf_set1(turns[at + 1])
        for q in range(stride):
            source = x + (q + stride * p) * 2 * VW
            target = y + (q + stride * R * p) * 2 * VW
            for k in range(R):
                re[k] = vf_load(source + k * step)
                im[k] = vf_load(source + k * step + VW)
            if R == 2:
                a = re[0]
                b = im[0]
                re[0] = a + re[1]
                im[0] = b + im[1]
                re[1] = a - re[1]
                im[1] = b - im[1]
            elif R == 4:
                for k in range(2):
                    sum_re[k] = re[k] + re[k + 2]
                    sum_im[k] = im[k] + im[k + 2]
                    difference_re[k] = re[k] - re[k + 2]
                    difference_im[k] = im[k] - im[k + 2]
                re[0] = sum_re[0] + sum_re[1]
                im[0] = sum_im[0] + sum_im[1]
                re[1] = difference_re[0] + difference_im[1]
                im[1] = difference_im[0] - difference_re[1]
                re[2] = sum_re[0] - sum_re[1]
                im[2] = sum_im[0] - sum_im[1]
                re[3] = difference_re[0] - difference_im[1]
                im[3] = difference_im[0] + difference_re[1]
            else:
                # Results j and R - j differ in the sign of their sines only.
                for k in range(1, R // 2 + 1):
                    sum_re[k] = re[k] + re[R - k]
                    sum_im[k] = im[k] + im[R - k]
                    difference_re[k] = re[k] - re[R - k]
                    difference_im[k] = im[k] - im[R - k]
                for j in range(1, R // 2 + 1):
                    a = re[0]
                    b = im[0]
                    c = vf_set1(0.0)
                    d = vf_set1(0.0)
                    for k in range(1, R // 2 + 1):
                        a = a + cosine[j * k % R] * sum_re[k]
                        b = b + cosine[j * k % R] * sum_im[k]
                        c = c + sine[j * k % R] * difference_im[k]
                        d = d + sine[j * k % R] * difference_re[k]
                    re[j] = a + c
                    im[j] = b - d
                    re[R - j] = a - c
                    im[R - j] = b + d
                for k in range(1, R // 2 + 1):
                    re[0] = re[0] + sum_re[k]
                    im[0] = im[0] + sum_im[k]
            vf_store(target, re[0])
            vf_store(target + VW, im[0])
            for j in range(1, R):
                vf_store(target + j * to, re[j] * turn_re[j] + im[j] * turn_im[j])
                vf_store(target + j * to + VW, im[j] * turn_re[j] - re[j] * turn_im[j])


cdef inline outlined pass_of(
    int64_t factor, const float* x, float* y, const float* turns, int64_t n, int64_t stride, int64_t whole
) noexcept nogil:
    if factor == 4:
        one_pass(4, x, y, turns, n, stride, whole)
    elif factor == 2:
        one_pass(2, x, y, turns, n, stride, whole)
    elif factor == 3:
        one_pass(3, x, y, turns, n, stride, whole)
    elif factor == 5:
        one_pass(5, x, y, turns, n, stride, whole)
    else:
        one_pass(7, x, y, turns, n, stride, whole)


cdef inline void load_row(
    const FourierRowsArgs* a, const float* x, float* numbers, int64_t parts, int64_t swap
) noexcept nogil:
    """The numbers of a row into one lane. An inverse transform is one with real and imaginary parts exchanged."""
    cdef const float* window = a.window
    cdef int64_t k, part
    for part in range(parts):
        if window:
            for k in range(a.length):
                numbers[2 * k * VW + (part ^ swap) * VW] = x[k * parts + part] * window[k]
        else:
            for k in range(a.length):
                numbers[2 * k * VW + (part ^ swap) * VW] = x[k * parts + part]


cdef void fourier_rows_f32(const FourierRowsArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """The first `bins` numbers of the transform of each row, as pairs in dense y.

    A row has `length` real numbers, or pairs of them if `parts` is 2, times the window; zeros follow up to n. Rows of a
    signal are `row_stride` apart. n is the product of the factors, each one of RADICES. One work item = VW rows.
    Scratch: scratch_bytes(n).
    """
    cdef int64_t n = a.n, bins = a.bins, work, first, rows, lane, row, k, left, stride, swap = a.inverse
    cdef float scale = <float>(1.0 / n if a.inverse else 1.0)
    cdef float* numbers
    cdef float* others
    cdef float* y
    for work in range(begin, end):
        numbers = <float*>scratch
        others = numbers + 2 * n * VW
        first = work * VW
        rows = min(<int64_t>VW, a.rows - first)
        if a.parts == 1 or a.length < n or rows < VW:
            memset(numbers, 0, 2 * n * VW * sizeof(float))
        for lane in range(rows):
            row = first + lane
            load_row(
                a, a.x + row // a.rows_of_signal * a.signal_stride + row % a.rows_of_signal * a.row_stride,
                numbers + lane, a.parts, swap,
            )
        left = n
        stride = 1
        for k in range(a.factors):
            pass_of(a.factor[k], numbers, others, a.turns, left, stride, n)
            numbers, others = others, numbers
            left //= a.factor[k]
            stride *= a.factor[k]
        for lane in range(rows):
            y = a.y + (first + lane) * bins * 2
            for k in range(bins):
                y[2 * k] = numbers[(2 * k + swap) * VW + lane] * scale
                y[2 * k + 1] = numbers[(2 * k + 1 - swap) * VW + lane] * scale


include "fourier_table.pxi"
