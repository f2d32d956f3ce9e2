"""Rounds float32 numbers to bfloat16, as products of bfloat16 read them: neighbours are pairs."""

from libc.stdint cimport int64_t

from megengine_lite.kernels.common.simd cimport VW, bf16, vf_load, vf_load_n, vf_narrow_bf16

cpdef enum:  # planners read it
    NUMBERS = 4096  # of a work item


cdef struct NarrowArgs:
    const float* x
    void* y
    int64_t n


cdef void narrow_bf16(const NarrowArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y = n numbers of x as bfloat16, ties to even. One work item = NUMBERS of them; y has room for whole vectors."""
    cdef bf16* y = <bf16*>a.y
    cdef int64_t i = begin * NUMBERS, last = min(a.n, end * NUMBERS)
    while i + VW <= last:
        vf_narrow_bf16(y + i, vf_load(a.x + i))
        i += VW
    if i < last:
        vf_narrow_bf16(y + i, vf_load_n(a.x + i, last - i))


cdef struct NarrowRowsArgs:
    const float* x
    void* y
    int64_t m, n, inner, x_outer, x_inner, x_row, y_row


cdef void narrow_rows_bf16(const NarrowRowsArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Rows of a batch of m x n matrices, whose columns lie side by side, as rows of y_row bfloat16 behind each other.

    y_row is n rounded up to whole vectors, which are filled up with zeros. One work item = one row. Matrix number q
    begins at q // inner and q % inner times the outer and inner strides.
    """
    cdef int64_t item, q, i
    cdef const float* x
    cdef bf16* y
    for item in range(begin, end):
        q = item // a.m
        x = a.x + q // a.inner * a.x_outer + q % a.inner * a.x_inner + item % a.m * a.x_row
        y = <bf16*>a.y + item * a.y_row
        i = 0
        while i + VW <= a.n:
            vf_narrow_bf16(y + i, vf_load(x + i))
            i += VW
        if i < a.n:
            vf_narrow_bf16(y + i, vf_load_n(x + i, a.n - i))


include "narrow_table.pxi"
