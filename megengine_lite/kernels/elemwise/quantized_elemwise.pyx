"""Elementwise functions of quantized tensors: by tables of 256 entries, by arithmetic on real values; conversions.

All kernels walk over the same iteration space. The work items are the points of a space s0 x s1 x s2. Each item has
`rows` runs of `run` elements (`last_run` in the last item). Strides are in bytes. Within a run an operand is dense, or
a single element if its step is 0.
"""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t
from libc.string cimport memcpy

from megengine_lite.kernels.common.real_values cimport (
    Format, item_size, load_real, load_some, store_stored, to_stored, to_stored_even,
)
from megengine_lite.kernels.common.shared_constants cimport KIND_F32, KIND_U8
from megengine_lite.kernels.common.simd cimport (
    VW, bytes_lookup, inlined, outlined, vf, vf_load, vf_load_n, vf_max, vf_min, vf_product, vf_set1, vf_store, vi, vi_set1,
    vi_store_8,
)

cpdef enum:  # planners read it
    BLOCK = 4096  # elements of a work item of quantize_f32

cdef enum BinaryFunction:
    ADD = 0
    SUB = 1
    MUL = 2
    MAX = 3
    MIN = 4
    FIRST = 5  # the first operand alone: a conversion


# ---- iteration -------------------------------------------------------------------------------------------------------

# The iteration space; `last` is the number of the last item.
cdef struct ElemwiseSpace:
    int64_t s1, s2, rows, run, last_run, last


# Byte strides of an operand: along s0, s1 and s2, and from run to run.
cdef struct Steps:
    int64_t s0, s1, s2, row


cdef inline int64_t offset_of(const ElemwiseSpace* s, const Steps* t, int64_t item) noexcept nogil:
    return item // (s.s1 * s.s2) * t.s0 + item // s.s2 % s.s1 * t.s1 + item % s.s2 * t.s2


# Where a kernel is on its way over the runs of its work items: the operands of a run, and its elements.
cdef struct Walk:
    const char* x1
    const char* x2
    char* y
    int64_t n, item, row


cdef inline Walk before_first(const ElemwiseSpace* s, int64_t begin) noexcept nogil:
    return Walk(NULL, NULL, NULL, 0, begin - 1, s.rows - 1)


cdef inline bint next_run(
    Walk* w, const ElemwiseSpace* s, int64_t end, const void* x1, const Steps* t1, const void* x2, const Steps* t2,
    void* y, const Steps* ty
) noexcept nogil:
    """Goes to the next run; False behind the last one. x1, x2 and y are where the operands begin."""
    w.row += 1
    if w.row < s.rows:
        w.x1 += t1.row
        w.x2 += t2.row
        w.y += ty.row
        return True
    w.row = 0
    w.item += 1
    if w.item >= end:
        return False
    w.x1 = <const char*>x1 + offset_of(s, t1, w.item)
    w.x2 = <const char*>x2 + offset_of(s, t2, w.item)
    w.y = <char*>y + offset_of(s, ty, w.item)
    w.n = s.last_run if w.item == s.last else s.run
    return True


# ---- tables ----------------------------------------------------------------------------------------------------------

cdef struct TableArgs:
    const uint8_t* table
    const uint8_t* x
    uint8_t* y
    ElemwiseSpace space
    Steps x_, y_


cdef void table_8(const TableArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y = table[x] for elements of 8 bits; x counts as an unsigned number."""
    cdef Walk w = before_first(&a.space, begin)
    while next_run(&w, &a.space, end, a.x, &a.x_, a.x, &a.x_, a.y, &a.y_):
        bytes_lookup(a.table, <const uint8_t*>w.x1, <uint8_t*>w.y, w.n)


cdef struct TablePairArgs:
    const uint8_t* table
    const uint8_t* x1
    const uint8_t* x2
    uint8_t* y
    ElemwiseSpace space
    Steps x1_, x2_, y_
    int64_t step1, step2


cdef void table_pair_8(const TablePairArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y = table[x1][x2] for elements of 8 bits: any function of two operands, at one load each."""
    cdef const uint8_t* table = a.table
    cdef int64_t step1 = a.step1, step2 = a.step2, k, n
    cdef Walk w = before_first(&a.space, begin)
    cdef const uint8_t* x1
    cdef const uint8_t* x2
    cdef uint8_t* y
    while next_run(&w, &a.space, end, a.x1, &a.x1_, a.x2, &a.x2_, a.y, &a.y_):
        x1 = <const uint8_t*>w.x1
        x2 = <const uint8_t*>w.x2
        y = <uint8_t*>w.y
        n = w.n
        for k in range(n):
            y[k] = table[<int64_t>x1[k * step1] * 256 + x2[k * step2]]


# ---- real values -----------------------------------------------------------------------------------------------------

cdef struct StoredResult:
    int kind
    float scale, low, high
    int32_t zero
    bint divide, ties_even


cdef inline void store_result(char* y, vf x, const StoredResult* to) noexcept nogil:
    if to.kind == KIND_F32:
        vf_store(<float*>y, x)
        return
    if to.divide:
        x = x / vf_set1(to.scale)
    else:
        x = vf_product(x, vf_set1(<float>1.0 / to.scale))
    if to.ties_even:
        store_stored(y, to.kind, to_stored_even(x, vf_set1(to.low), vf_set1(to.high), vi_set1(to.zero)))
        return
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
    char* y, const StoredResult* to, int64_t n
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


cdef inline inlined quantize_run(
    bint DIVIDE, bint EVEN, const float* x, char* y, const StoredResult* to, int64_t n
) noexcept nogil:
    """n float32 numbers, whole vectors, to 8 bits."""
    cdef vf low = vf_set1(to.low), high = vf_set1(to.high), scale = vf_set1(to.scale if DIVIDE else 1 / to.scale)
    cdef vi zero = vi_set1(to.zero)
    cdef vf v
    cdef int64_t k = 0
    while k < n:
        v = vf_load(x + k)
        v = v / scale if DIVIDE else vf_product(v, scale)
        vi_store_8(<int8_t*>y + k, to_stored_even(v, low, high, zero) if EVEN else to_stored(v, low, high, zero))
        k += VW


cdef inline void quantize_whole(const float* x, char* y, const StoredResult* to, int64_t n) noexcept nogil:
    if to.divide and to.ties_even:
        quantize_run(True, True, x, y, to, n)
    elif to.divide:
        quantize_run(True, False, x, y, to, n)
    elif to.ties_even:
        quantize_run(False, True, x, y, to, n)
    else:
        quantize_run(False, False, x, y, to, n)


cdef inline outlined run_of_any(
    int function, const char* x1, const Format* f1, int64_t step1, const char* x2, const Format* f2, int64_t step2,
    char* y, const StoredResult* to, int64_t n
) noexcept nogil:
    cdef int64_t whole
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
        if f1.kind == KIND_F32 and step1 and to.kind <= KIND_U8:
            whole = n // VW * VW
            quantize_whole(<const float*>x1, y, to, whole)
            x1, y, n = x1 + 4 * whole, y + whole, n - whole
        run_of(FIRST, x1, f1, step1, x2, f2, step2, y, to, n)


cdef struct BinaryInt8Args:
    const char* x1
    const char* x2
    char* y
    ElemwiseSpace space
    Steps x1_, x2_, y_
    int64_t step1, step2, function, kind1, zero1, kind2, zero2, y_kind, y_zero, divide, ties_even
    double scale1, scale2, y_scale, low, high


cdef void binary_int8(const BinaryInt8Args* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y = function(x1, x2) on real values; FIRST converts x1 and ignores x2.

    The operands and y are stored as int8, uint8, int32 or float32. `low` and `high` are the bounds of the stored result
    without its zero point; a ReLU raises `low` to 0. If `divide`, the result is divided by its
    scale, otherwise multiplied with the reciprocal: the original does the one in some operators and the other in
    others, and they differ where a result lies half-way between two numbers.
    """
    cdef int function = <int>a.function
    cdef Format f1 = Format(<int>a.kind1, <int32_t>a.zero1, <float>a.scale1)
    cdef Format f2 = Format(<int>a.kind2, <int32_t>a.zero2, <float>a.scale2)
    cdef StoredResult to = StoredResult(
        <int>a.y_kind, <float>a.y_scale, <float>a.low, <float>a.high, <int32_t>a.y_zero, a.divide, <bint>a.ties_even
    )
    cdef Walk w = before_first(&a.space, begin)
    while next_run(&w, &a.space, end, a.x1, &a.x1_, a.x2, &a.x2_, a.y, &a.y_):
        run_of_any(function, w.x1, &f1, a.step1, w.x2, &f2, a.step2, w.y, &to, w.n)


cdef struct QuantizeArgs:
    const float* x
    const float* scale
    const char* zero
    char* y
    int64_t n, kind


cdef void quantize_f32(const QuantizeArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y = x / scale, rounded, halves to even numbers, plus zero; NaN becomes the lowest number. `kind` is that of y.

    The scale and the zero point are numbers in memory. One work item = BLOCK elements.
    """
    # Without casts both would have the type of the first.
    cdef int32_t zero = <int32_t>(<const uint8_t*>a.zero)[0] if a.kind == KIND_U8 else <int32_t>(<const int8_t*>a.zero)[0]
    cdef float lowest = 0 if a.kind == KIND_U8 else -128
    cdef StoredResult to = StoredResult(
        <int>a.kind, a.scale[0], lowest - zero, lowest + 255 - zero, zero, True, True
    )
    cdef int64_t first = begin * BLOCK, n = min(end * BLOCK, a.n) - first, whole = n // VW * VW
    cdef float rest[VW]
    cdef char some[VW]
    quantize_whole(a.x + first, a.y + first, &to, whole)
    if whole < n:
        vf_store(rest, vf_load_n(a.x + first + whole, n - whole))
        quantize_whole(rest, some, &to, VW)
        memcpy(a.y + first + whole, some, n - whole)


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


cdef struct BinaryS32Args:
    const char* x1
    const char* x2
    char* y
    ElemwiseSpace space
    Steps x1_, x2_, y_
    int64_t step1, step2, function


cdef void binary_s32(const BinaryS32Args* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """int32 arithmetic that wraps around: ADD, SUB, MAX or MIN."""
    cdef int64_t step1 = a.step1, step2 = a.step2, function = a.function
    cdef Walk w = before_first(&a.space, begin)
    cdef const int32_t* x1
    cdef const int32_t* x2
    cdef int32_t* y
    while next_run(&w, &a.space, end, a.x1, &a.x1_, a.x2, &a.x2_, a.y, &a.y_):
        x1 = <const int32_t*>w.x1
        x2 = <const int32_t*>w.x2
        y = <int32_t*>w.y
        if function == ADD:
            run_of_integers(ADD, x1, step1, x2, step2, y, w.n)
        elif function == SUB:
            run_of_integers(SUB, x1, step1, x2, step2, y, w.n)
        elif function == MAX:
            run_of_integers(MAX, x1, step1, x2, step2, y, w.n)
        elif function == MIN:
            run_of_integers(MIN, x1, step1, x2, step2, y, w.n)


# Name -> number of every function of the kernel; planners know no other.
FUNCTIONS = {"ADD": ADD, "SUB": SUB, "MUL": MUL, "MAX": MAX, "MIN": MIN, "FIRST": FIRST}
INTEGER_FUNCTIONS = {"ADD": ADD, "SUB": SUB, "MAX": MAX, "MIN": MIN}

include "quantized_elemwise_table.pxi"
