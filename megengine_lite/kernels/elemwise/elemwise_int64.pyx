"""Elementwise functions of int64, and what converts to it and from it: lengths, sizes and masks of ONNX models.

These tensors are mostly small, so operands are read by their strides. What C leaves undefined is defined here as numpy
has it: sums wrap, a division by zero gives 0.
"""

from libc.stdint cimport INT32_MAX, INT32_MIN, int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memset

from megengine_lite.kernels.common.simd cimport inlined


cpdef enum:  # planners read it
    MAX_INPUTS = 2

cdef enum Int64Function:
    ADD
    SUB
    MUL
    MAX
    MIN
    FLOOR_DIV
    TRUNCATED_DIV
    MOD
    LT
    LEQ
    EQ
    NEQ
    NEGATE
    FROM_INT32
    FROM_BYTE
    TO_FLOAT32
    TO_BOOL
    TO_INT32
    NARROW  # to int32, and a fault where a number does not fit

# Steps in bytes along a run.
cdef struct Run:
    const char* x[MAX_INPUTS]
    char* y
    int64_t x_step[MAX_INPUTS]
    int64_t y_step
    int64_t n
    int32_t* fault


cdef inline int64_t divided(int64_t x, int64_t y) noexcept nogil:
    """Rounded down."""
    cdef int64_t q
    if y == 0:
        return 0
    if y == -1:
        return <int64_t>(0 - <uint64_t>x)
    q = x // y
    return q - 1 if q * y != x and (x < 0) != (y < 0) else q


cdef inline int64_t truncated(int64_t x, int64_t y) noexcept nogil:
    """Rounded towards zero. By zero it is 1 for a negative number, as in the definition."""
    if y == 0:
        return x < 0
    return <int64_t>(0 - <uint64_t>x) if y == -1 else x // y


cdef inline int64_t modulo(int64_t x, int64_t y) noexcept nogil:
    """What is left by the division rounded down."""
    cdef int64_t r
    if y == 0 or y == -1:
        return 0
    r = x % y
    return r + y if r != 0 and (r < 0) != (y < 0) else r


cdef inline int64_t value(int function, int64_t x, int64_t z) noexcept nogil:
    if function == ADD:
        return <int64_t>(<uint64_t>x + <uint64_t>z)
    if function == SUB:
        return <int64_t>(<uint64_t>x - <uint64_t>z)
    if function == MUL:
        return <int64_t>(<uint64_t>x * <uint64_t>z)
    if function == MAX:
        return max(x, z)
    if function == MIN:
        return min(x, z)
    if function == FLOOR_DIV:
        return divided(x, z)
    if function == TRUNCATED_DIV:
        return truncated(x, z)
    if function == MOD:
        return modulo(x, z)
    if function == LT:
        return x < z
    if function == LEQ:
        return x <= z
    if function == EQ:
        return x == z
    if function == NEQ:
        return x != z
    if function == NEGATE:
        return <int64_t>(0 - <uint64_t>x)
    return x


cdef inline inlined loop(int function, int OPERANDS, int SOURCE, int TARGET, const Run* run) noexcept nogil:
    """A run. SOURCE and TARGET are bytes of an element; those of float32 are given as -4."""
    cdef Run r = run[0]  # a copy, which stores to y cannot change
    cdef int64_t i, x, z = 0
    cdef char* y = r.y
    for i in range(r.n):
        if SOURCE == 8:
            x = (<const int64_t*>r.x[0])[0]
        elif SOURCE == 4:
            x = (<const int32_t*>r.x[0])[0]
        else:
            x = (<const uint8_t*>r.x[0])[0]
        if OPERANDS == 2:
            z = (<const int64_t*>r.x[1])[0]
            r.x[1] += r.x_step[1]
        x = value(function, x, z)
        if TARGET == 8:
            (<int64_t*>y)[0] = x
        elif TARGET == -4:
            (<float*>y)[0] = <float>x
        elif TARGET == 4:
            if function == NARROW and (x < INT32_MIN or x > INT32_MAX):
                r.fault[0] = 1
            (<int32_t*>y)[0] = <int32_t>x
        else:
            y[0] = x != 0
        r.x[0] += r.x_step[0]
        y += r.y_step


cdef inline int apply(int64_t function, const Run* r) noexcept nogil:
    """One function. The number of its operands, or 0 for a number that stands for none."""
    if function == ADD:
        loop(ADD, 2, 8, 8, r)
    elif function == SUB:
        loop(SUB, 2, 8, 8, r)
    elif function == MUL:
        loop(MUL, 2, 8, 8, r)
    elif function == MAX:
        loop(MAX, 2, 8, 8, r)
    elif function == MIN:
        loop(MIN, 2, 8, 8, r)
    elif function == FLOOR_DIV:
        loop(FLOOR_DIV, 2, 8, 8, r)
    elif function == TRUNCATED_DIV:
        loop(TRUNCATED_DIV, 2, 8, 8, r)
    elif function == MOD:
        loop(MOD, 2, 8, 8, r)
    elif function == LT:
        loop(LT, 2, 8, 1, r)
    elif function == LEQ:
        loop(LEQ, 2, 8, 1, r)
    elif function == EQ:
        loop(EQ, 2, 8, 1, r)
    elif function == NEQ:
        loop(NEQ, 2, 8, 1, r)
    elif function == NEGATE:
        loop(NEGATE, 1, 8, 8, r)
    elif function == FROM_INT32:
        loop(FROM_INT32, 1, 4, 8, r)
    elif function == FROM_BYTE:
        loop(FROM_BYTE, 1, 1, 8, r)
    elif function == TO_FLOAT32:
        loop(TO_FLOAT32, 1, 8, -4, r)
    elif function == TO_BOOL:
        loop(TO_BOOL, 1, 8, 1, r)
    elif function == TO_INT32:
        loop(TO_INT32, 1, 8, 4, r)
    elif function == NARROW:
        loop(NARROW, 1, 8, 4, r)
    else:
        return 0
    return 2 if function <= NEQ else 1


cdef struct ElemwiseInt64Args:
    const int64_t* table
    char* y
    const char* x[MAX_INPUTS]
    int32_t* fault
    int64_t function, ndim, inputs


cdef void elemwise_int64(const ElemwiseInt64Args* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y = f(x0, x1). `table` is that of `elemwise_int`. One work item = one run along dimension 0."""
    cdef const int64_t* table = a.table
    cdef int64_t ndim = a.ndim, inputs = a.inputs
    cdef int64_t item, rest, d, k, index
    cdef Run r
    r.n = table[0]
    r.y_step = table[ndim]
    r.fault = a.fault
    memset(r.x_step, 0, sizeof(r.x_step))
    for k in range(inputs):
        r.x_step[k] = table[(k + 2) * ndim]
    for item in range(begin, end):
        r.y = a.y
        for k in range(inputs):
            r.x[k] = a.x[k]
        rest = item
        for d in range(1, ndim):
            index = rest % table[d]
            rest //= table[d]
            r.y += index * table[ndim + d]
            for k in range(inputs):
                r.x[k] += index * table[(k + 2) * ndim + d]
        apply(a.function, &r)


# Name of a function -> its number; planners know no other.
FUNCTIONS = {
    "ADD": ADD, "SUB": SUB, "MUL": MUL, "MAX": MAX, "MIN": MIN, "FLOOR_DIV": FLOOR_DIV,
    "TRUNCATED_DIV": TRUNCATED_DIV, "MOD": MOD, "LT": LT, "LEQ": LEQ, "EQ": EQ, "NEQ": NEQ, "NEGATE": NEGATE,
    "FROM_INT32": FROM_INT32, "FROM_BYTE": FROM_BYTE, "TO_FLOAT32": TO_FLOAT32, "TO_BOOL": TO_BOOL,
    "TO_INT32": TO_INT32, "NARROW": NARROW,
}

include "elemwise_int64_table.pxi"
