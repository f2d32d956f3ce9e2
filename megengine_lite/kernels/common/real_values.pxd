# Real values of stored numbers, and back: the inner step of elementwise kernels on quantized types.
from libc.stdint cimport int8_t, int32_t, int64_t
from libc.string cimport memcpy

from megengine_lite.kernels.common.shared_constants cimport KIND_F32, KIND_S32, KIND_U8
from megengine_lite.kernels.common.simd cimport (
    VW, vf, vf_load, vf_max, vf_min_nan, vf_product, vf_rint, vf_set1, vf_store, vf_to_vi_any, vi, vi_load, vi_load_s8, vi_set1,
    vi_store, vi_store_8, vi_to_vf,
)
from megengine_lite.kernels.common.vmath cimport v_copysign


# How an operand is stored: the real value of q is (q - zero) scale.
cdef struct Format:
    int kind
    int32_t zero
    float scale


cdef inline int64_t item_size(int kind) noexcept nogil:
    return 1 if kind <= KIND_U8 else 4


cdef inline vf load_real(const char* p, const Format* f) noexcept nogil:
    """VW real values."""
    cdef vi x
    if f.kind == KIND_F32:
        return vf_load(<const float*>p)
    if f.kind == KIND_S32:
        x = vi_load(<const int32_t*>p)
    else:
        x = vi_load_s8(<const int8_t*>p)
        if f.kind == KIND_U8:
            x = x & vi_set1(255)
    return vf_product(vi_to_vf(x - vi_set1(f.zero)), vf_set1(f.scale))


cdef inline vi to_stored(vf x, vf low, vf high, vi zero) noexcept nogil:
    """x rounded and put between low and high, plus zero; halves go away from zero, NaN becomes `low`."""
    x = vf_min_nan(high, vf_max(x, low))
    return vf_to_vi_any(x + v_copysign(vf_set1(0.49999997), x)) + zero


cdef inline vi to_stored_even(vf x, vf low, vf high, vi zero) noexcept nogil:
    """The same with halves to even numbers."""
    return vf_to_vi_any(vf_rint(vf_min_nan(high, vf_max(x, low)))) + zero


cdef inline void store_stored(char* p, int kind, vi x) noexcept nogil:
    if kind == KIND_S32:
        vi_store(<int32_t*>p, x)
    else:
        vi_store_8(<int8_t*>p, x)


cdef inline vf load_some(const char* p, const Format* f, int64_t n, int64_t step) noexcept nogil:
    """n < VW real values, or one value n times if the step is 0; anything behind them."""
    cdef char some[VW * 4]
    cdef int64_t size = item_size(f.kind), k
    if step:
        memcpy(some, p, n * size)
    else:
        for k in range(VW):
            memcpy(some + k * size, p, size)
    return load_real(some, f)
