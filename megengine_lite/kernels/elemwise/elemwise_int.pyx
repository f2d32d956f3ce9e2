"""Elementwise functions of integers and truth values: index arithmetic, masks.

Arithmetic is done in 32 bits and the low bits are kept, so that results wrap; divisions and products of which the upper
bits are kept take 64. What C leaves undefined is defined here: a division by zero gives 0, a shift by too much shifts
everything out.
"""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memset

from megengine_lite.kernels.elemwise cimport elemwise_modes as M
from megengine_lite.kernels.common.simd cimport inlined, outlined


cpdef enum:  # planners read it
    MAX_INPUTS = 4

ctypedef fused integer:
    int32_t
    int16_t
    uint16_t
    int8_t
    uint8_t

# Stands for the unsigned type of the same size, too.
ctypedef fused either:
    int32_t
    int16_t
    int8_t

cdef enum:
    SPREAD_BYTES = 512  # of a number that is written out, so that loops over it are dense

# Dense operands of one run.
cdef struct IntegerRun:
    const void* x[MAX_INPUTS]
    void* y
    int64_t n
    int64_t bits
    bint is_signed


# ---- one result ----------------------------------------------------------------------------------------------------

cdef inline int32_t added(int32_t x, int32_t y) noexcept nogil:
    return <int32_t>(<uint32_t>x + <uint32_t>y)


cdef inline int32_t subtracted(int32_t x, int32_t y) noexcept nogil:
    return <int32_t>(<uint32_t>x - <uint32_t>y)


cdef inline int32_t multiplied(int32_t x, int32_t y) noexcept nogil:
    return <int32_t>(<uint32_t>x * <uint32_t>y)


cdef inline int64_t floor_div(int64_t x, int64_t y) noexcept nogil:
    cdef int64_t q
    if y == 0:
        return 0
    q = x // y
    return q - 1 if q * y != x and (x < 0) != (y < 0) else q


cdef inline int64_t modulo(int64_t x, int64_t y) noexcept nogil:
    return x - floor_div(x, y) * y if y else 0


cdef inline int32_t shift_left(int32_t x, int32_t y, int64_t bits) noexcept nogil:
    return <int32_t>(<uint32_t>x << y) if 0 <= y < bits else 0


cdef inline int32_t shift_right(int32_t x, int32_t y, int64_t bits) noexcept nogil:
    if 0 <= y < bits:
        return x >> y
    return -1 if x < 0 else 0


cdef inline int64_t upper_half(int64_t x, int64_t y, const IntegerRun* r) noexcept nogil:
    """Product of fixed-point numbers, rounded. Only the square of the smallest number must be saturated."""
    cdef int64_t digits = r.bits - r.is_signed
    cdef int64_t largest = (<int64_t>1 << digits) - 1
    return min((x * y + (<int64_t>1 << (digits - 1))) >> digits, largest)


cdef inline inlined value(
    int mode, integer kind, int64_t p, int64_t q, int64_t s, int64_t t, const IntegerRun* r, int64_t* y
) noexcept nogil:
    """One function; `kind` is only there for its type, in which sums wrap.

    Two use the operands as they come: of these, compilers make operations on bytes only if nothing narrows them before.
    """
    cdef int32_t a = <int32_t>p, b = <int32_t>q, c = <int32_t>s, d = <int32_t>t
    if mode == M.RELU:
        y[0] = max(a, 0)
    elif mode == M.ABS:
        y[0] = -p if p < 0 else p
    elif mode == M.NEGATE:
        y[0] = -p
    elif mode == M.ABS_GRAD:
        y[0] = b if a > 0 else subtracted(0, b)
    elif mode == M.ADD:
        y[0] = added(a, b)
    elif mode == M.FLOOR_DIV:
        y[0] = floor_div(a, b)
    elif mode == M.MAX:
        y[0] = max(a, b)
    elif mode == M.MIN:
        y[0] = min(a, b)
    elif mode == M.MOD:
        y[0] = modulo(a, b)
    elif mode == M.MUL:
        y[0] = multiplied(a, b)
    elif mode == M.SUB:
        y[0] = subtracted(a, b)
    elif mode == M.SWITCH_GT0:
        y[0] = b if a > 0 else 0
    elif mode == M.LT:
        y[0] = a < b
    elif mode == M.LEQ:
        y[0] = a <= b
    elif mode == M.EQ:
        y[0] = a == b
    elif mode == M.NEQ:
        y[0] = a != b
    elif mode == M.SHL:
        y[0] = shift_left(a, b, r.bits)
    elif mode == M.SHR:
        y[0] = shift_right(a, b, r.bits)
    elif mode == M.COND_LEQ_MOV:
        y[0] = c if a <= b else 0
    elif mode == M.COND_LT_MOV:
        y[0] = c if a < b else 0
    elif mode == M.FUSE_MUL_ADD3:
        y[0] = added(multiplied(a, b), c)
    elif mode == M.FUSE_MUL_ADD4:
        y[0] = added(multiplied(a, b), multiplied(c, d))
    elif mode == M.FUSE_ADD_RELU:
        y[0] = max(<int32_t><integer>added(a, b), 0)
    elif mode == M.RMULH:
        y[0] = upper_half(a, b, r)
    elif mode == M.NOT:
        y[0] = a == 0
    elif mode == M.AND:
        y[0] = (a != 0) & (b != 0)
    elif mode == M.OR:
        y[0] = (a | b) != 0
    elif mode == M.XOR:
        y[0] = (a != 0) != (b != 0)
    elif mode == M.PRELU:
        y[0] = a if a > 0 else multiplied(a, b)
    elif mode == M.CLIP:
        y[0] = b if a <= b else (a if a <= c else c)
    elif mode == M.RELU6:
        y[0] = min(max(a, 0), 6)
    elif mode == M.SQUARE:
        y[0] = multiplied(a, a)
    else:  # SIGN
        y[0] = (a > 0) - (a < 0)


# ---- runs ------------------------------------------------------------------------------------------------------------

cdef inline inlined loop(int mode, int OPERANDS, bint TRUTH, integer* y, const IntegerRun* run) noexcept nogil:
    """A run. With TRUTH, results are truth values of one byte."""
    cdef IntegerRun r = run[0]  # a copy, which stores to y cannot change
    cdef const integer* a = <const integer*>r.x[0]
    cdef const integer* b = <const integer*>r.x[1]
    cdef const integer* c = <const integer*>r.x[2]
    cdef const integer* d = <const integer*>r.x[3]
    cdef uint8_t* truth = <uint8_t*>y
    cdef int64_t i
    cdef int64_t p, q, s, t
    cdef int64_t result = 0
    for i in range(r.n):
        p = a[i]
        q = b[i] if OPERANDS > 1 else 0
        s = c[i] if OPERANDS > 2 else 0
        t = d[i] if OPERANDS > 3 else 0
        value(mode, <integer>0, p, q, s, t, &r, &result)
        if TRUTH:
            truth[i] = <uint8_t>result
        else:
            y[i] = <integer>result


# The functions below return False, and write nothing, for a mode that they do not have: MODES is made of that. A number
# at the end is that of the operands. First come those whose results have the same bits with and without a sign.

cdef bint equal2(int64_t mode, either* y, const IntegerRun* r) noexcept nogil:
    """Results are truth values; those of the functions below are of the type of the operands."""
    if mode == M.EQ:
        loop(M.EQ, 2, True, y, r)
    elif mode == M.NEQ:
        loop(M.NEQ, 2, True, y, r)
    else:
        return False
    return True


cdef bint wrap1(int64_t mode, either* y, const IntegerRun* r) noexcept nogil:
    if mode == M.NEGATE:
        loop(M.NEGATE, 1, False, y, r)
    elif mode == M.NOT:
        loop(M.NOT, 1, False, y, r)
    elif mode == M.SQUARE:
        loop(M.SQUARE, 1, False, y, r)
    else:
        return False
    return True


cdef bint wrap2(int64_t mode, either* y, const IntegerRun* r) noexcept nogil:
    if mode == M.ADD:
        loop(M.ADD, 2, False, y, r)
    elif mode == M.MUL:
        loop(M.MUL, 2, False, y, r)
    elif mode == M.SUB:
        loop(M.SUB, 2, False, y, r)
    elif mode == M.EQ:
        loop(M.EQ, 2, False, y, r)
    elif mode == M.NEQ:
        loop(M.NEQ, 2, False, y, r)
    elif mode == M.SHL:
        loop(M.SHL, 2, False, y, r)
    elif mode == M.AND:
        loop(M.AND, 2, False, y, r)
    elif mode == M.OR:
        loop(M.OR, 2, False, y, r)
    elif mode == M.XOR:
        loop(M.XOR, 2, False, y, r)
    else:
        return False
    return True


cdef bint wrap3(int64_t mode, either* y, const IntegerRun* r) noexcept nogil:
    if mode == M.FUSE_MUL_ADD3:
        loop(M.FUSE_MUL_ADD3, 3, False, y, r)
    else:
        return False
    return True


cdef bint wrap4(int64_t mode, either* y, const IntegerRun* r) noexcept nogil:
    if mode == M.FUSE_MUL_ADD4:
        loop(M.FUSE_MUL_ADD4, 4, False, y, r)
    else:
        return False
    return True


cdef bint compare2(int64_t mode, integer* y, const IntegerRun* r) noexcept nogil:
    """Results are truth values."""
    if mode == M.LT:
        loop(M.LT, 2, True, y, r)
    elif mode == M.LEQ:
        loop(M.LEQ, 2, True, y, r)
    else:
        return False
    return True


cdef bint calculate1(int64_t mode, integer* y, const IntegerRun* r) noexcept nogil:
    if mode == M.RELU:
        loop(M.RELU, 1, False, y, r)
    elif mode == M.ABS:
        loop(M.ABS, 1, False, y, r)
    elif mode == M.RELU6:
        loop(M.RELU6, 1, False, y, r)
    elif mode == M.SIGN:
        loop(M.SIGN, 1, False, y, r)
    else:
        return False
    return True


cdef bint calculate2(int64_t mode, integer* y, const IntegerRun* r) noexcept nogil:
    if mode == M.ABS_GRAD:
        loop(M.ABS_GRAD, 2, False, y, r)
    elif mode == M.FLOOR_DIV:
        loop(M.FLOOR_DIV, 2, False, y, r)
    elif mode == M.MAX:
        loop(M.MAX, 2, False, y, r)
    elif mode == M.MIN:
        loop(M.MIN, 2, False, y, r)
    elif mode == M.MOD:
        loop(M.MOD, 2, False, y, r)
    elif mode == M.SWITCH_GT0:
        loop(M.SWITCH_GT0, 2, False, y, r)
    elif mode == M.LT:
        loop(M.LT, 2, False, y, r)
    elif mode == M.LEQ:
        loop(M.LEQ, 2, False, y, r)
    elif mode == M.SHR:
        loop(M.SHR, 2, False, y, r)
    elif mode == M.FUSE_ADD_RELU:
        loop(M.FUSE_ADD_RELU, 2, False, y, r)
    elif mode == M.RMULH:
        loop(M.RMULH, 2, False, y, r)
    elif mode == M.PRELU:
        loop(M.PRELU, 2, False, y, r)
    else:
        return False
    return True


cdef bint calculate3(int64_t mode, integer* y, const IntegerRun* r) noexcept nogil:
    if mode == M.COND_LEQ_MOV:
        loop(M.COND_LEQ_MOV, 3, False, y, r)
    elif mode == M.COND_LT_MOV:
        loop(M.COND_LT_MOV, 3, False, y, r)
    elif mode == M.CLIP:
        loop(M.CLIP, 3, False, y, r)
    else:
        return False
    return True


cdef inline int apply_either(int64_t mode, bint truth, either* y, const IntegerRun* r) noexcept nogil:
    """One function for which signs do not matter. The number of its operands, or 0 for a mode that is not such."""
    if truth:
        return 2 if equal2(mode, y, r) else 0
    if wrap2(mode, y, r):
        return 2
    if wrap1(mode, y, r):
        return 1
    if wrap3(mode, y, r):
        return 3
    return 4 if wrap4(mode, y, r) else 0


cdef inline int apply(int64_t mode, bint truth, integer* y, const IntegerRun* r) noexcept nogil:
    """One function. The number of its operands, or 0 for a mode that does not exist here."""
    cdef int operands
    if integer is uint16_t:
        operands = apply_either(mode, truth, <int16_t*>y, r)
    elif integer is uint8_t:
        operands = apply_either(mode, truth, <int8_t*>y, r)
    else:
        operands = apply_either(mode, truth, y, r)
    if operands:
        return operands
    if truth:
        return 2 if compare2(mode, y, r) else 0
    if calculate2(mode, y, r):
        return 2
    if calculate1(mode, y, r):
        return 1
    return 3 if calculate3(mode, y, r) else 0


cdef outlined run_all(int64_t mode, bint truth, integer* y, const IntegerRun* r, int* operands) noexcept nogil:
    """The same, as a function by itself: one of all takes a compiler half as long again."""
    operands[0] = apply(mode, truth, y, r)


cdef inline void apply_to(int64_t mode, bint truth, int64_t size, const IntegerRun* r) noexcept nogil:
    """The same for elements of a size and sign."""
    cdef int operands
    if size == 4:
        run_all(mode, truth, <int32_t*>r.y, r, &operands)
    elif size == 2 and r.is_signed:
        run_all(mode, truth, <int16_t*>r.y, r, &operands)
    elif size == 2:
        run_all(mode, truth, <uint16_t*>r.y, r, &operands)
    elif r.is_signed:
        run_all(mode, truth, <int8_t*>r.y, r, &operands)
    else:
        run_all(mode, truth, <uint8_t*>r.y, r, &operands)


cdef inline void spread(void* y, const void* x, int64_t size, int64_t n) noexcept nogil:
    """Writes the number of `size` bytes at x n times."""
    cdef int64_t i
    cdef int32_t word
    cdef int16_t half
    if size == 4:
        word = (<const int32_t*>x)[0]
        for i in range(n):
            (<int32_t*>y)[i] = word
    elif size == 2:
        half = (<const int16_t*>x)[0]
        for i in range(n):
            (<int16_t*>y)[i] = half
    else:
        memset(y, (<const int8_t*>x)[0], n)


cdef int operands_of(int64_t mode, bint truth) noexcept nogil:
    """The number of operands of a mode, 0 if the kernel does not have it: runs it on no elements."""
    cdef IntegerRun r
    cdef int32_t nothing = 0
    cdef int operands
    memset(&r, 0, sizeof(r))
    run_all(mode, truth, &nothing, &r, &operands)
    return operands


# Mode -> number of operands, for every mode of the kernel: all of them, and those that can give truth values. Planners
# refuse all others.
MODES = {mode: operands_of(mode, False) for mode in range(M.MODE_COUNT) if operands_of(mode, False)}
TRUTH_MODES = {mode: operands_of(mode, True) for mode in range(M.MODE_COUNT) if operands_of(mode, True)}


cdef struct ElemwiseIntArgs:
    const int64_t* table
    char* y
    const char* x[MAX_INPUTS]
    int64_t mode, size, is_signed, ndim, inputs, truth


cdef void elemwise_int(const ElemwiseIntArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y = f(x0, ...) for integers of `size` bytes; with `truth`, comparisons that give bytes.

    A number that is repeated along dimension 0 is written out before: compilers use vectors only for dense operands.
    `table`: `ndim` extents, innermost first; then for y and each input `ndim` strides in bytes, innermost ones 0 or one
    element. One work item = one run along dimension 0.
    """
    cdef const int64_t* table = a.table
    cdef int64_t mode = a.mode, size = a.size, ndim = a.ndim, inputs = a.inputs
    cdef bint truth = a.truth != 0
    cdef int64_t item, rest, d, k, index
    cdef int64_t n = table[0], largest = n, done  # elements: of a run, of a piece of it, before a piece
    cdef int64_t offset[MAX_INPUTS + 1]
    cdef char numbers[MAX_INPUTS][SPREAD_BYTES]
    cdef const void* spread_from[MAX_INPUTS]
    cdef IntegerRun r
    r.bits = 8 * size
    r.is_signed = a.is_signed != 0
    memset(spread_from, 0, sizeof(spread_from))
    for k in range(inputs):
        if table[(k + 2) * ndim] == 0:
            largest = min(n, SPREAD_BYTES // size)
    for item in range(begin, end):
        memset(offset, 0, sizeof(offset))
        rest = item
        for d in range(1, ndim):
            index = rest % table[d]
            rest //= table[d]
            for k in range(inputs + 1):
                offset[k] += index * table[(k + 1) * ndim + d]
        for k in range(inputs):
            r.x[k] = a.x[k] + offset[k + 1]
            if table[(k + 2) * ndim] == 0:
                if spread_from[k] != r.x[k]:
                    spread_from[k] = r.x[k]
                    spread(numbers[k], r.x[k], size, largest)
                r.x[k] = numbers[k]
        r.y = a.y + offset[0]
        r.n = largest
        apply_to(mode, truth, size, &r)
        done = largest
        while done < n:
            r.y = <char*>r.y + r.n * (1 if truth else size)
            for k in range(inputs):
                r.x[k] = <const char*>r.x[k] + r.n * table[(k + 2) * ndim]
            r.n = min(largest, n - done)
            apply_to(mode, truth, size, &r)
            done += r.n


include "elemwise_int_table.pxi"
