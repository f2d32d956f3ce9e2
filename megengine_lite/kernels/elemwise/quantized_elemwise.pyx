"""Elementwise functions of quantized tensors: tables for bytes, arithmetic on real values, conversions.

All kernels walk over the same iteration space: work items are the points of (s0, s1, s2); each is `rows` runs of `run`
elements (`last_run` in the last item). Strides are in bytes; within a run an operand is dense, or one element if its
step is 0.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uintptr_t
from libc.string cimport memcpy

from megengine_lite.kernels.common.kernel cimport KernelArgs
from megengine_lite.kernels.common.real cimport (
    KIND_F32, Format, item_size, load_real, load_some, store_stored, to_stored,
)
from megengine_lite.kernels.common.simd cimport (
    VW, bytes_lookup, inlined, outlined, vf, vf_max, vf_min, vf_product, vf_set1, vf_store, vi, vi_set1,
)

cdef enum Function:
    ADD = 0
    SUB = 1
    MUL = 2
    MAX = 3
    MIN = 4
    FIRST = 5  # the first operand alone: a conversion


# ---- iteration -------------------------------------------------------------------------------------------------------

# The iteration space and the byte strides of up to three operands, read from integers 0 on:
# s1 s2 rows run last_run, then for each operand its strides of s0, s1, s2 and rows.
cdef struct Space:
    int64_t s1, s2, rows, run, last_run
    const int64_t* strides


cdef inline Space space_of(const KernelArgs* a) noexcept nogil:
    cdef Space s
    s.s1 = a.i[0]
    s.s2 = a.i[1]
    s.rows = a.i[2]
    s.run = a.i[3]
    s.last_run = a.i[4]
    s.strides = &a.i[5]
    return s


cdef inline int64_t offset_of(const Space* s, int operand, int64_t item) noexcept nogil:
    cdef const int64_t* t = s.strides + 4 * operand
    return item // (s.s1 * s.s2) * t[0] + item // s.s2 % s.s1 * t[1] + item % s.s2 * t[2]


# ---- tables ----------------------------------------------------------------------------------------------------------

cdef void table_8(const KernelArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y = table[x] for bytes; the table has 256 entries in the order of x as an unsigned number."""
    cdef const uint8_t* table = <const uint8_t*>a.p[0]
    cdef Space s = space_of(a)
    cdef int64_t last = a.i[13], item, r, n
    cdef const uint8_t* x
    cdef uint8_t* y
    for item in range(begin, end):
        x = <const uint8_t*>a.p[1] + offset_of(&s, 0, item)
        y = <uint8_t*>a.p[2] + offset_of(&s, 1, item)
        n = s.last_run if item == last else s.run
        for r in range(s.rows):
            bytes_lookup(table, x, y, n)
            x += s.strides[3]
            y += s.strides[7]


cdef void table_pair_8(const KernelArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y = table[x1][x2] for bytes; any function of two operands, at one load each."""
    cdef const uint8_t* table = <const uint8_t*>a.p[0]
    cdef Space s = space_of(a)
    cdef int64_t last = a.i[17], step1 = a.i[18], step2 = a.i[19], item, r, k, n
    cdef const uint8_t* x1
    cdef const uint8_t* x2
    cdef uint8_t* y
    for item in range(begin, end):
        x1 = <const uint8_t*>a.p[1] + offset_of(&s, 0, item)
        x2 = <const uint8_t*>a.p[2] + offset_of(&s, 1, item)
        y = <uint8_t*>a.p[3] + offset_of(&s, 2, item)
        n = s.last_run if item == last else s.run
        for r in range(s.rows):
            for k in range(n):
                y[k] = table[<int64_t>x1[k * step1] * 256 + x2[k * step2]]
            x1 += s.strides[3]
            x2 += s.strides[7]
            y += s.strides[11]


# ---- real values -----------------------------------------------------------------------------------------------------

cdef struct Result:
    int kind
    float scale, low, high
    int32_t zero
    bint divide


cdef inline void store_result(char* y, vf x, const Result* to) noexcept nogil:
    if to.kind == KIND_F32:
        vf_store(<float*>y, x)
        return
    if to.divide:
        x = x / vf_set1(to.scale)
    else:
        x = vf_product(x, vf_set1(<float>1.0 / to.scale))
    store_stored(y, to.kind, to_stored(x, vf_set1(to.low), vf_set1(to.high), vi_set1(to.zero)))


cdef inline vf apply(int function, vf a, vf b) noexcept nogil:
    if function == ADD:
        return a + b
    if function == SUB:
        return a - b
    if function == MUL:
        return vf_product(a, b)
    if function == MAX:
        return vf_max(a, b)
    if function == MIN:
        return vf_min(a, b)
    return a  # FIRST


cdef inline inlined run_of(
    int FUNCTION, const char* x1, const Format* f1, int64_t step1, const char* x2, const Format* f2, int64_t step2,
    char* y, const Result* to, int64_t n
) noexcept nogil:
    cdef int64_t k = 0, size1 = item_size(f1.kind) * step1, size2 = item_size(f2.kind) * step2, size = item_size(to.kind)
    cdef char some[VW * 4]
    cdef vf a = vf_set1(0.0), b = a
    if not step1:
        a = load_some(x1, f1, 1, 0)
    if not step2:
        b = load_some(x2, f2, 1, 0)
    while k + VW <= n:
        if step1:
            a = load_real(x1 + k * size1, f1)
        if FUNCTION != FIRST and step2:
            b = load_real(x2 + k * size2, f2)
        store_result(y + k * size, apply(FUNCTION, a, b), to)
        k += VW
    if k < n:
        if step1:
            a = load_some(x1 + k * size1, f1, n - k, 1)
        if FUNCTION != FIRST and step2:
            b = load_some(x2 + k * size2, f2, n - k, 1)
        store_result(some, apply(FUNCTION, a, b), to)
        memcpy(y + k * size, some, (n - k) * size)


cdef inline outlined run_of_any(
    int function, const char* x1, const Format* f1, int64_t step1, const char* x2, const Format* f2, int64_t step2,
    char* y, const Result* to, int64_t n
) noexcept nogil:
    if function == ADD:
        run_of(ADD, x1, f1, step1, x2, f2, step2, y, to, n)
    elif function == SUB:
        run_of(SUB, x1, f1, step1, x2, f2, step2, y, to, n)
    elif function == MUL:
        run_of(MUL, x1, f1, step1, x2, f2, step2, y, to, n)
    elif function == MAX:
        run_of(MAX, x1, f1, step1, x2, f2, step2, y, to, n)
    elif function == MIN:
        run_of(MIN, x1, f1, step1, x2, f2, step2, y, to, n)
    elif function == FIRST:
        run_of(FIRST, x1, f1, step1, x2, f2, step2, y, to, n)


cdef void quantized_binary(const KernelArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y = function(x1, x2) on real values; FIRST converts x1 and ignores x2. `low` and `high` bound the stored result
    without its zero point, so they can hold a ReLU. The result is divided by its scale, or multiplied with the
    reciprocal if `divide` is 0: the original does both, and ties tell them apart."""
    cdef Space s = space_of(a)
    cdef int64_t last = a.i[17], step1 = a.i[18], step2 = a.i[19], item, r, n
    cdef int function = <int>a.i[20]
    cdef Format f1 = Format(<int>a.i[21], <int32_t>a.i[22], <float>a.f[0])
    cdef Format f2 = Format(<int>a.i[23], <int32_t>a.i[24], <float>a.f[1])
    cdef Result to = Result(<int>a.i[25], <float>a.f[2], <float>a.f[3], <float>a.f[4], <int32_t>a.i[26], a.i[27])
    cdef const char* x1
    cdef const char* x2
    cdef char* y
    for item in range(begin, end):
        x1 = <const char*>a.p[0] + offset_of(&s, 0, item)
        x2 = <const char*>a.p[1] + offset_of(&s, 1, item)
        y = <char*>a.p[2] + offset_of(&s, 2, item)
        n = s.last_run if item == last else s.run
        for r in range(s.rows):
            run_of_any(function, x1, &f1, step1, x2, &f2, step2, y, &to, n)
            x1 += s.strides[3]
            x2 += s.strides[7]
            y += s.strides[11]


cdef inline int32_t integer(int function, int32_t a, int32_t b) noexcept nogil:
    if function == ADD:
        return <int32_t>(<uint32_t>a + <uint32_t>b)
    if function == SUB:
        return <int32_t>(<uint32_t>a - <uint32_t>b)
    if function == MAX:
        return max(a, b)
    return min(a, b)  # MIN


cdef inline inlined run_of_integers(
    int FUNCTION, const int32_t* x1, int64_t step1, const int32_t* x2, int64_t step2, int32_t* y, int64_t n
) noexcept nogil:
    cdef int64_t k
    cdef int32_t a = x1[0], b = x2[0]
    if step1 and step2:
        for k in range(n):
            y[k] = integer(FUNCTION, x1[k], x2[k])
    elif step1:
        for k in range(n):
            y[k] = integer(FUNCTION, x1[k], b)
    elif step2:
        for k in range(n):
            y[k] = integer(FUNCTION, a, x2[k])
    else:
        for k in range(n):
            y[k] = integer(FUNCTION, a, b)


cdef void binary_s32(const KernelArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """int32 arithmetic that wraps around: ADD, SUB, MAX or MIN."""
    cdef Space s = space_of(a)
    cdef int64_t last = a.i[17], step1 = a.i[18], step2 = a.i[19], function = a.i[20], item, r, n
    cdef const char* x1
    cdef const char* x2
    cdef char* y
    for item in range(begin, end):
        x1 = <const char*>a.p[0] + offset_of(&s, 0, item)
        x2 = <const char*>a.p[1] + offset_of(&s, 1, item)
        y = <char*>a.p[2] + offset_of(&s, 2, item)
        n = s.last_run if item == last else s.run
        for r in range(s.rows):
            if function == ADD:
                run_of_integers(ADD, <const int32_t*>x1, step1, <const int32_t*>x2, step2, <int32_t*>y, n)
            elif function == SUB:
                run_of_integers(SUB, <const int32_t*>x1, step1, <const int32_t*>x2, step2, <int32_t*>y, n)
            elif function == MAX:
                run_of_integers(MAX, <const int32_t*>x1, step1, <const int32_t*>x2, step2, <int32_t*>y, n)
            elif function == MIN:
                run_of_integers(MIN, <const int32_t*>x1, step1, <const int32_t*>x2, step2, <int32_t*>y, n)
            x1 += s.strides[3]
            x2 += s.strides[7]
            y += s.strides[11]


_SPACE = "s1 s2 rows run last_run"
_X = "x_s0 x_s1 x_s2 x_row"
_PAIR = "x1_s0 x1_s1 x1_s2 x1_row x2_s0 x2_s1 x2_s2 x2_row"
_Y = "y_s0 y_s1 y_s2 y_row last"
# Name -> number of every function of the kernel; planners know no other.
FUNCTIONS = {"ADD": ADD, "SUB": SUB, "MUL": MUL, "MAX": MAX, "MIN": MIN, "FIRST": FIRST}
INTEGER_FUNCTIONS = {"ADD": ADD, "SUB": SUB, "MAX": MAX, "MIN": MIN}
# name -> (address, pointers, integers, reals)
KERNELS = {
    "table_8": (<uintptr_t>&table_8, "table x y", f"{_SPACE} {_X} {_Y}", ""),
    "table_pair_8": (<uintptr_t>&table_pair_8, "table x1 x2 y", f"{_SPACE} {_PAIR} {_Y} step1 step2", ""),
    "quantized_binary": (
        <uintptr_t>&quantized_binary,
        "x1 x2 y",
        f"{_SPACE} {_PAIR} {_Y} step1 step2 function kind1 zero1 kind2 zero2 y_kind y_zero divide",
        "scale1 scale2 y_scale low high",
    ),
    "binary_s32": (<uintptr_t>&binary_s32, "x1 x2 y", f"{_SPACE} {_PAIR} {_Y} step1 step2 function", ""),
}
