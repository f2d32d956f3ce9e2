"""Elementwise functions of int64: lengths, sizes, indexes and masks of ONNX models.

Runs whose operands are dense, or one number, have loops that compilers make vectors of; others go by strides. What C
leaves undefined is defined here as numpy has it: sums wrap, a division by zero gives 0.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
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
    NARROW  # to int32, and a fault where a number does not fit

# Steps in bytes along a run.
cdef struct Run:
    const char* x[MAX_INPUTS]
    char* y
    int64_t x_step[MAX_INPUTS]
    int64_t y_step
    int64_t n
    int32_t* fault


cdef inline bint are_small(int64_t x, int64_t y) noexcept nogil:
    """Whether both are in 0 .. 2^32 - 1, and y is not 0: processors divide such numbers in a fraction of the time."""
    return (<uint64_t>x | <uint64_t>y) >> 32 == 0 and y != 0


cdef inline int64_t divided(int64_t x, int64_t y) noexcept nogil:
    """Rounded down."""
    cdef int64_t q
    if are_small(x, y):
        return <uint32_t>x // <uint32_t>y
    if y == 0:
        return 0
    if y == -1:
        return <int64_t>(0 - <uint64_t>x)
    q = x // y
    return q - 1 if q * y != x and (x < 0) != (y < 0) else q


cdef inline int64_t truncated(int64_t x, int64_t y) noexcept nogil:
    """Rounded towards zero. By zero it is 1 for a negative number, as in the definition."""
    if are_small(x, y):
        return <uint32_t>x // <uint32_t>y
    if y == 0:
        return x < 0
    return <int64_t>(0 - <uint64_t>x) if y == -1 else x // y


cdef inline int64_t modulo(int64_t x, int64_t y) noexcept nogil:
    """What is left by the division rounded down."""
    cdef int64_t r
    if are_small(x, y):
        return <uint32_t>x % <uint32_t>y
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
    return x != z


ctypedef fused result:
    int64_t
    int32_t
    uint8_t


cdef inline inlined loop(int function, result* y, const Run* run) noexcept nogil:
    """A run of a function of two operands: of tensors, of a tensor and a number, or of any strides."""
    cdef const int64_t* a = <const int64_t*>run.x[0]
    cdef const int64_t* b = <const int64_t*>run.x[1]
    cdef int64_t a_step = run.x_step[0] // 8, b_step = run.x_step[1] // 8, y_step = run.y_step // sizeof(result)
    cdef int64_t n = run.n, i, number
    if y_step == 1 and a_step == 1 and b_step == 1:
        for i in range(n):
            y[i] = <result>value(function, a[i], b[i])
    elif y_step == 1 and a_step == 1 and b_step == 0:
        number = b[0]
        for i in range(n):
            y[i] = <result>value(function, a[i], number)
    elif y_step == 1 and a_step == 0 and b_step == 1:
        number = a[0]
        for i in range(n):
            y[i] = <result>value(function, number, b[i])
    else:
        for i in range(n):
            y[i * y_step] = <result>value(function, a[i * a_step], b[i * b_step])


cdef inline void negate(int64_t* y, const Run* run) noexcept nogil:
    cdef const int64_t* x = <const int64_t*>run.x[0]
    cdef int64_t x_step = run.x_step[0] // 8, y_step = run.y_step // 8
    cdef int64_t i
    for i in range(run.n):
        y[i * y_step] = <int64_t>(0 - <uint64_t>x[i * x_step])


cdef inline uint64_t narrow_run(
    int32_t* y, int64_t y_step, const int64_t* x, int64_t x_step, int64_t n
) noexcept nogil:
    """Not 0 where a number does not fit. The steps may be constants."""
    cdef int64_t i, number
    cdef uint64_t above = 0
    for i in range(n):
        number = x[i * x_step]
        above |= (<uint64_t>number + <uint64_t>0x80000000) >> 32
        y[i * y_step] = <int32_t>number
    return above


cdef inline void narrow(int32_t* y, const Run* run) noexcept nogil:
    """To int32, and a fault where a number does not fit."""
    cdef const int64_t* x = <const int64_t*>run.x[0]
    cdef int64_t x_step = run.x_step[0] // 8, y_step = run.y_step // 4
    cdef uint64_t above
    if x_step == 1 and y_step == 1:
        above = narrow_run(y, 1, x, 1, run.n)
    else:
        above = narrow_run(y, y_step, x, x_step, run.n)
    if above:
        run.fault[0] = 1


cdef inline int apply(int64_t function, const Run* r) noexcept nogil:
    """One function. The number of its operands, or 0 for a number that stands for none."""
    if function == ADD:
        loop(ADD, <int64_t*>r.y, r)
    elif function == SUB:
        loop(SUB, <int64_t*>r.y, r)
    elif function == MUL:
        loop(MUL, <int64_t*>r.y, r)
    elif function == MAX:
        loop(MAX, <int64_t*>r.y, r)
    elif function == MIN:
        loop(MIN, <int64_t*>r.y, r)
    elif function == FLOOR_DIV:
        loop(FLOOR_DIV, <int64_t*>r.y, r)
    elif function == TRUNCATED_DIV:
        loop(TRUNCATED_DIV, <int64_t*>r.y, r)
    elif function == MOD:
        loop(MOD, <int64_t*>r.y, r)
    elif function == LT:
        loop(LT, <uint8_t*>r.y, r)
    elif function == LEQ:
        loop(LEQ, <uint8_t*>r.y, r)
    elif function == EQ:
        loop(EQ, <uint8_t*>r.y, r)
    elif function == NEQ:
        loop(NEQ, <uint8_t*>r.y, r)
    elif function == NEGATE:
        negate(<int64_t*>r.y, r)
    elif function == NARROW:
        narrow(<int32_t*>r.y, r)
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
    "NARROW": NARROW,
}

include "elemwise_int64_table.pxi"
