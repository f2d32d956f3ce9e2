"""Conversion between float, integer and boolean element types.

Block by block: elements become float32 or int32 in the first-level cache, and from there the target type. Types of 64
bits are converted from these and to these, and to one another, at once. Floats that no integer holds give what the
processor's instruction gives, as in numpy.
"""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from megengine_lite.kernels.common.simd cimport (
    VW, vf, vf_load, vf_load_f16, vf_load_n, vf_lt, vf_set1, vf_store, vf_store_f16, vf_store_n, vf_to_vi_any, vi, vi_any,
    vi_load, vi_set1, vi_store, vi_to_vf,
)
from megengine_lite.kernels.common.vmath cimport v_abs

cdef enum Kind:
    FLOAT32 = 0
    FLOAT16 = 1
    BFLOAT16 = 2
    INT32 = 3
    INT16 = 4
    UINT16 = 5
    INT8 = 6
    UINT8 = 7
    BOOL = 8
    INT64 = 9
    FLOAT64 = 10

cpdef enum:  # planners read it
    BLOCK = 512  # elements; a multiple of every vector

cdef enum:
    AT_ONCE = 4  # vectors, so that counting takes less than converting

ctypedef fused small_int:
    int16_t
    uint16_t
    int8_t
    uint8_t


ctypedef fused wide:
    int64_t
    double

ctypedef fused number:
    int32_t
    float
    int64_t
    double


# ---- to float32 or int32 -------------------------------------------------------------------------------------------

cdef inline void widen(const small_int* x, int32_t* y, int64_t n) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        y[i] = x[i]


cdef inline void float_from_half(const uint16_t* x, float* y, int64_t n) noexcept nogil:
    cdef uint16_t rest[VW]
    cdef int64_t i = 0, k
    while i + AT_ONCE * VW <= n:
        for k in range(AT_ONCE):
            vf_store(y + i + k * VW, vf_load_f16(x + i + k * VW))
        i += AT_ONCE * VW
    while i + VW <= n:
        vf_store(y + i, vf_load_f16(x + i))
        i += VW
    if i < n:
        memcpy(rest, x + i, 2 * (n - i))
        vf_store_n(y + i, vf_load_f16(rest), n - i)


cdef inline void float_from_bfloat(const uint16_t* x, float* y, int64_t n) noexcept nogil:
    cdef uint32_t* bits = <uint32_t*>y
    cdef int64_t i
    for i in range(n):
        bits[i] = <uint32_t>x[i] << 16


cdef inline void float_from_int(const int32_t* x, float* y, int64_t n) noexcept nogil:
    cdef int64_t i = 0, k
    while i + AT_ONCE * VW <= n:
        for k in range(AT_ONCE):
            vf_store(y + i + k * VW, vi_to_vf(vi_load(x + i + k * VW)))
        i += AT_ONCE * VW
    while i + VW <= n:
        vf_store(y + i, vi_to_vf(vi_load(x + i)))
        i += VW
    while i < n:
        y[i] = <float>x[i]
        i += 1


cdef inline void int_from_float(const float* x, int32_t* y, int64_t n) noexcept nogil:
    """Towards zero; what no int32 holds becomes -2^31. Reads and writes whole vectors in y."""
    cdef int64_t i = 0, k
    while i + AT_ONCE * VW <= n:
        for k in range(AT_ONCE):
            vi_store(y + i + k * VW, vf_to_vi_any(vf_load(x + i + k * VW)))
        i += AT_ONCE * VW
    while i + VW <= n:
        vi_store(y + i, vf_to_vi_any(vf_load(x + i)))
        i += VW
    if i < n:
        vi_store(y + i, vf_to_vi_any(vf_load_n(x + i, n - i)))


cdef inline const float* as_floats(int64_t kind, const char* x, float* buffer, int64_t n) noexcept nogil:
    """n elements of a float type as float32: in place or in the buffer."""
    if kind == FLOAT32:
        return <const float*>x
    if kind == FLOAT16:
        float_from_half(<const uint16_t*>x, buffer, n)
    else:
        float_from_bfloat(<const uint16_t*>x, buffer, n)
    return buffer


cdef inline const int32_t* as_ints(int64_t kind, const char* x, int32_t* buffer, int64_t n) noexcept nogil:
    """n elements of an integer type as int32: in place or in the buffer."""
    if kind == INT32:
        return <const int32_t*>x
    if kind == INT16:
        widen(<const int16_t*>x, buffer, n)
    elif kind == UINT16:
        widen(<const uint16_t*>x, buffer, n)
    elif kind == INT8:
        widen(<const int8_t*>x, buffer, n)
    else:
        widen(<const uint8_t*>x, buffer, n)
    return buffer


# ---- from float32 or int32 -----------------------------------------------------------------------------------------

cdef inline void put_floats(int64_t kind, const float* x, char* y, int64_t n) noexcept nogil:
    cdef uint16_t rest[VW]
    cdef uint32_t bits
    cdef int64_t i = 0, k
    if kind == FLOAT32:
        if <const char*>x != y:
            memcpy(y, x, 4 * n)
    elif kind == FLOAT16:
        while i + AT_ONCE * VW <= n:
            for k in range(AT_ONCE):
                vf_store_f16(<uint16_t*>y + i + k * VW, vf_load(x + i + k * VW))
            i += AT_ONCE * VW
        while i + VW <= n:
            vf_store_f16(<uint16_t*>y + i, vf_load(x + i))
            i += VW
        if i < n:
            vf_store_f16(rest, vf_load_n(x + i, n - i))
            memcpy(<uint16_t*>y + i, rest, 2 * (n - i))
    else:
        for i in range(n):
            bits = (<const uint32_t*>x)[i]
            bits = 0x7FC00000 if x[i] != x[i] else bits + 0x7FFF + (bits >> 16 & 1)
            (<uint16_t*>y)[i] = <uint16_t>(bits >> 16)


cdef inline void put_ints(int64_t kind, const int32_t* x, char* y, int64_t n) noexcept nogil:
    cdef int64_t i
    if kind == INT32:
        memcpy(y, x, 4 * n)
    elif kind == INT16 or kind == UINT16:
        for i in range(n):
            (<uint16_t*>y)[i] = <uint16_t>x[i]
    elif kind == BOOL:
        for i in range(n):
            (<uint8_t*>y)[i] = x[i] != 0
    else:
        for i in range(n):
            (<uint8_t*>y)[i] = <uint8_t>x[i]


cdef inline void truths(const float* x, uint8_t* y, int64_t n) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        y[i] = x[i] != 0.0


# ---- types of 64 bits ----------------------------------------------------------------------------------------------

cdef inline void cast_to(number* y, const wide* x, int64_t n) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        y[i] = <number>x[i]


cdef inline void cast_from(wide* y, const number* x, int64_t n) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        y[i] = <wide>x[i]


cdef inline void truths_of(uint8_t* y, const wide* x, int64_t n) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        y[i] = x[i] != 0


cdef inline void from_wide(int64_t target, const wide* x, int32_t* ints, char* y, int64_t n) noexcept nogil:
    if target == BOOL:
        truths_of(<uint8_t*>y, x, n)
    elif target == FLOAT32:
        cast_to(<float*>y, x, n)
    elif target == FLOAT64:
        cast_to(<double*>y, x, n)
    elif target == INT64:
        cast_to(<int64_t*>y, x, n)
    elif target == INT32:
        cast_to(<int32_t*>y, x, n)
    else:
        cast_to(ints, x, n)
        put_ints(target, ints, y, n)


cdef inline bint fit_int32(const float* x, int64_t n) noexcept nogil:
    """Whether all numbers are between -2^31 and 2^31. Reads whole vectors."""
    cdef int64_t i = 0
    cdef vi fit = vi_set1(-1)
    while i < n:
        fit = fit & vf_lt(v_abs(vf_load(x + i) if i + VW <= n else vf_load_n(x + i, n - i)), vf_set1(2147483648.0))
        i += VW
    return not vi_any(~fit)


cdef inline void to_wide(
    int64_t source, const char* x, float* floats, int32_t* ints, wide* y, int64_t n
) noexcept nogil:
    cdef const float* real
    if source <= BFLOAT16 and wide is int64_t:
        real = as_floats(source, x, floats, n)
        if fit_int32(real, n):  # processors make vectors of int32 of floats, but not all of them of int64
            int_from_float(real, ints, n)
            cast_from(y, <const int32_t*>ints, n)
        else:
            cast_from(y, real, n)
    elif source <= BFLOAT16:
        cast_from(y, as_floats(source, x, floats, n), n)
    else:
        cast_from(y, as_ints(source, x, ints, n), n)


cdef struct ConvertArgs:
    const char* x
    char* y
    int64_t n, source, target, source_size, target_size


cdef void convert_elements(const ConvertArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y = x in another type; `kind`s are those above, `size`s bytes per element. One work item = BLOCK elements."""
    cdef int64_t n = a.n, source = a.source, target = a.target, source_size = a.source_size, target_size = a.target_size
    cdef float floats[BLOCK]
    cdef int32_t ints[BLOCK]
    cdef int64_t item, count
    cdef const char* x
    cdef char* y
    cdef float* buffer
    cdef const float* real
    for item in range(begin, end):
        count = min(<int64_t>BLOCK, n - item * BLOCK)
        x = a.x + item * BLOCK * source_size
        y = a.y + item * BLOCK * target_size
        buffer = <float*>y if target == FLOAT32 else floats
        if source == INT64:
            from_wide(target, <const int64_t*>x, ints, y, count)
        elif source == FLOAT64:
            from_wide(target, <const double*>x, ints, y, count)
        elif target == INT64:
            to_wide(source, x, floats, ints, <int64_t*>y, count)
        elif target == FLOAT64:
            to_wide(source, x, floats, ints, <double*>y, count)
        elif source <= BFLOAT16:
            real = as_floats(source, x, buffer, count)
            if target <= BFLOAT16:
                put_floats(target, real, y, count)
            elif target == BOOL:
                truths(real, <uint8_t*>y, count)
            else:
                int_from_float(real, ints, count)
                put_ints(target, ints, y, count)
        elif target <= BFLOAT16:
            float_from_int(as_ints(source, x, ints, count), buffer, count)
            put_floats(target, buffer, y, count)
        else:
            put_ints(target, as_ints(source, x, ints, count), y, count)


# Name of an element type -> its number; planners know no other.
KINDS = {
    "FLOAT32": FLOAT32, "FLOAT16": FLOAT16, "BFLOAT16": BFLOAT16, "INT32": INT32, "INT16": INT16, "UINT16": UINT16,
    "INT8": INT8, "UINT8": UINT8, "BYTE": UINT8, "BOOL": BOOL, "INT64": INT64, "FLOAT64": FLOAT64,
}

include "typecvt_table.pxi"
