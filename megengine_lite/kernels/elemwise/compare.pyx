"""Comparisons of float32, whose results are truth values.

Runs whose operands are dense, or one number, have loops that compilers make vectors of; others go by strides.
"""

from libc.math cimport INFINITY, fabsf
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memset

from megengine_lite.kernels.common.simd cimport inlined
from megengine_lite.kernels.elemwise cimport elemwise_modes as M


cpdef enum:  # planners read it
    MAX_INPUTS = 2

# Steps in elements along a run.
cdef struct ComparedRun:
    const float* x[MAX_INPUTS]
    uint8_t* y
    int64_t x_step[MAX_INPUTS]
    int64_t y_step, n


cdef inline bint truth(int mode, float x, float z) noexcept nogil:
    if mode == M.LT:
        return x < z
    if mode == M.LEQ:
        return x <= z
    if mode == M.EQ:
        return x == z
    if mode == M.NEQ:
        return x != z
    if mode == M.ISNAN:
        return x != x
    return fabsf(x) == INFINITY


cdef inline inlined loop(int mode, const ComparedRun* run) noexcept nogil:
    cdef const float* a = run.x[0]
    cdef const float* b = run.x[1]
    cdef uint8_t* y = run.y
    cdef int64_t a_step = run.x_step[0], b_step = run.x_step[1], y_step = run.y_step, n = run.n, i
    cdef float number
    if y_step == 1 and a_step == 1 and b_step == 1:
        for i in range(n):
            y[i] = truth(mode, a[i], b[i])
    elif y_step == 1 and a_step == 1 and b_step == 0:
        number = b[0]
        for i in range(n):
            y[i] = truth(mode, a[i], number)
    elif y_step == 1 and a_step == 0 and b_step == 1:
        number = a[0]
        for i in range(n):
            y[i] = truth(mode, number, b[i])
    else:
        for i in range(n):
            y[i * y_step] = truth(mode, a[i * a_step], b[i * b_step])


cdef inline int apply(int64_t mode, const ComparedRun* r) noexcept nogil:
    """One function. The number of its operands, or 0 for one that is no comparison."""
    if mode == M.LT:
        loop(M.LT, r)
    elif mode == M.LEQ:
        loop(M.LEQ, r)
    elif mode == M.EQ:
        loop(M.EQ, r)
    elif mode == M.NEQ:
        loop(M.NEQ, r)
    elif mode == M.ISNAN:
        loop(M.ISNAN, r)
        return 1
    elif mode == M.ISINF:
        loop(M.ISINF, r)
        return 1
    else:
        return 0
    return 2


cdef struct CompareArgs:
    const int64_t* table
    char* y
    const char* x[MAX_INPUTS]
    int64_t mode, ndim, inputs


cdef void compare_f32(const CompareArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y = whether x0 and x1 are so. `table` is that of `elemwise_int`. One work item = one run along dimension 0.

    A function of one operand has it twice.
    """
    cdef const int64_t* table = a.table
    cdef int64_t ndim = a.ndim, inputs = a.inputs
    cdef int64_t item, rest, d, k, index, y_at
    cdef int64_t x_at[MAX_INPUTS]
    cdef ComparedRun r
    r.n = table[0]
    r.y_step = table[ndim]
    memset(x_at, 0, sizeof(x_at))
    for k in range(inputs):
        r.x_step[k] = table[(k + 2) * ndim] // sizeof(float)
    for item in range(begin, end):
        y_at = 0
        for k in range(inputs):
            x_at[k] = 0
        rest = item
        for d in range(1, ndim):
            index = rest % table[d]
            rest //= table[d]
            y_at += index * table[ndim + d]
            for k in range(inputs):
                x_at[k] += index * table[(k + 2) * ndim + d]
        r.y = <uint8_t*>a.y + y_at
        for k in range(inputs):
            r.x[k] = <const float*>(a.x[k] + x_at[k])
        if inputs == 1:
            r.x[1] = r.x[0]
            r.x_step[1] = r.x_step[0]
        apply(a.mode, &r)


cdef int operands_of(int64_t mode) noexcept nogil:
    """The number of operands of a mode, 0 if it is none of a comparison; runs it on no elements."""
    cdef ComparedRun r
    memset(&r, 0, sizeof(r))
    return apply(mode, &r)


# Mode -> number of operands, for every mode that the kernel has; planners refuse all others.
MODES = {mode: operands_of(mode) for mode in range(M.MODE_COUNT) if operands_of(mode)}

include "compare_table.pxi"
