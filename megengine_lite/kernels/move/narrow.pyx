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


include "narrow_table.pxi"
