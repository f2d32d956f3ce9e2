# What each mode of a reduction does with an element, and reductions of contiguous elements, in vectors.
from libc.float cimport FLT_MAX
from libc.stdint cimport int64_t

from megengine_lite.kernels.common.simd cimport (
    VW, inlined, vf, vf_load, vf_load_n, vf_max, vf_min, vf_permute, vf_select, vf_set1, vf_store, vf_zero, vi_first,
    vi_lanes, vi_set1,
)
from megengine_lite.kernels.common.vmath cimport v_is_nan

include "reduce_mode_numbers.pxi"  # numbers of ReduceMode

cdef enum:
    MAX_OF_NUMBERS = MODE_COUNT  # a mode of the kernel alone: passes over NaN, as pooling does
    BLOCK = 256  # terms added one after another


cdef inline vf neutral(int mode, float bound) noexcept nogil:
    """The number that a reduction begins with; minima are at most `bound`, maxima at least its negative."""
    if mode == PRODUCT:
        return vf_set1(1.0)
    if mode == MIN:
        return vf_set1(bound)
    if mode == MAX or mode == MAX_OF_NUMBERS:
        return vf_set1(-bound)
    return vf_zero()


cdef inline vf taken(int mode, vf x) noexcept nogil:
    """What an element contributes."""
    if mode == MAX_OF_NUMBERS:
        return vf_max(x, vf_set1(-FLT_MAX))  # never NaN
    return x * x if mode == SUM_SQR else x


cdef inline vf combined(int mode, vf total, vf x) noexcept nogil:
    """NaN stays, if an element contributes one: vf_min and vf_max give their second operand when one is NaN."""
    if mode == PRODUCT:
        return total * x
    if mode == MIN:
        return vf_select(v_is_nan(x), x, vf_min(x, total))
    if mode == MAX:
        return vf_select(v_is_nan(x), x, vf_max(x, total))
    if mode == MAX_OF_NUMBERS:
        return vf_max(x, total)
    return total + x


cdef inline vf load_head(int mode, const float* x, int64_t n, float bound) noexcept nogil:
    """The contributions of the first n < VW elements; the lanes behind them are neutral."""
    return vf_select(vi_first(n), taken(mode, vf_load_n(x, n)), neutral(mode, bound))


cdef inline inlined reduce_run(int mode, const float* x, int64_t n, float bound, vf* total) noexcept nogil:
    """total = total combined with n contiguous elements."""
    cdef vf a, b, c, d
    cdef int64_t i = 0, end
    while i + 4 * VW <= n:
        a = taken(mode, vf_load(x + i))
        b = taken(mode, vf_load(x + i + VW))
        c = taken(mode, vf_load(x + i + 2 * VW))
        d = taken(mode, vf_load(x + i + 3 * VW))
        end = min(n - 4 * VW, i + BLOCK * 4 * VW)
        i += 4 * VW
        while i <= end:
            a = combined(mode, a, taken(mode, vf_load(x + i)))
            b = combined(mode, b, taken(mode, vf_load(x + i + VW)))
            c = combined(mode, c, taken(mode, vf_load(x + i + 2 * VW)))
            d = combined(mode, d, taken(mode, vf_load(x + i + 3 * VW)))
            i += 4 * VW
        total[0] = combined(mode, total[0], combined(mode, combined(mode, a, b), combined(mode, c, d)))
    while i + VW <= n:
        total[0] = combined(mode, total[0], taken(mode, vf_load(x + i)))
        i += VW
    if i < n:
        total[0] = combined(mode, total[0], load_head(mode, x + i, n - i, bound))


cdef inline float across_lanes(int mode, vf x) noexcept nogil:
    cdef float lanes[VW]
    cdef int half = VW // 2
    while half:
        x = combined(mode, x, vf_permute(x, vi_lanes() ^ vi_set1(half)))
        half //= 2
    vf_store(lanes, x)
    return lanes[0]
