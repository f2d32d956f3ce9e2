# Cython's view of simd.h: vector types behave like C numbers, arithmetic passes through to the compiler.
from libc.stdint cimport uint16_t, int8_t, int32_t, int64_t, uint8_t, uint64_t


cdef extern from "simd.h" nogil:
    enum: VW
    enum: VREGS
    enum: DOT_BFLOAT16
    ctypedef float vf
    ctypedef int vi
    ctypedef unsigned int vu  # for sums that wrap
    ctypedef void inlined "ML_INLINE_VOID"   # return type of helpers that must be inlined
    ctypedef void outlined "ML_NOINLINE_VOID"  # and of those that must not be
    bint is_constant "__builtin_constant_p"(int64_t x)  # after inlining
    vf vf_load(const float* p)
    void vf_store(float* p, vf x)
    vf vf_held(vf x)
    vi vi_load(const int32_t* p)
    void vi_store(int32_t* p, vi x)
    vf vf_set1(float x)
    vi vi_set1(int32_t x)
    vf vf_zero()
    vf vf_fma(vf a, vf b, vf c)
    vf vf_fma_lane(vf a, int lane, vf b, vf c)
    vf vf_fma_in_order(vf a, vf b, vf c)
    vf vf_fma_memory(const float* p, vf b, vf c)
    vf vf_dot_bf16(vf x, vf w, vf sum)
    vf vf_dot_bf16_memory(const float* x, vf w, vf sum)
    vf vf_fma_in_place(vf a, vf b, vf c)
    vf vf_product(vf a, vf b)
    vf vf_select(vi mask, vf yes, vf no)
    vi vf_lt(vf a, vf b)
    vi vf_le(vf a, vf b)
    vi vf_eq(vf a, vf b)
    bint vi_any(vi mask)
    vf vi_to_vf(vi x)
    vi vi_select(vi mask, vi yes, vi no)
    vi vi_lt(vi a, vi b)
    vi vf_to_vi(vf x)
    vi vf_to_vi_any(vf x)
    vf vf_load_n(const float* p, int64_t n)
    void vf_store_n(float* p, vf x, int64_t n)
    vf vf_max(vf a, vf b)
    vf vf_min(vf a, vf b)
    vf vf_max_number(vf a, vf b)
    vf vf_min_number(vf a, vf b)
    vf vf_max_nan(vf a, vf b)
    vf vf_min_nan(vf a, vf b)
    vf vf_sqrt(vf a)
    vf vf_rint(vf a)
    vf vf_floor(vf a)
    vf vf_trunc(vf a)
    # bfloat16 and float16 in memory.
    ctypedef struct bf16:
        pass
    ctypedef struct f16:
        pass
    ctypedef struct bf16_pair:
        pass
    vf vf_load_bf16(const bf16* p)
    vf vf_first_of_pairs(vi pairs)
    vf vf_second_of_pairs(vi pairs)
    void vf_store_bf16(bf16* p, vf x)
    void vf_narrow_bf16(bf16* p, vf x)
    vi vi_pairs_bf16(vf first, vf second)
    # Double precision, half a vector at a time.
    ctypedef double vd
    ctypedef uint64_t vdu
    vd vd_set1(double x)
    vdu vdu_set1(uint64_t x)
    vd vd_low(vf x)
    vd vd_high(vf x)
    vf vf_from_vd(vd low, vd high)
    vd vd_max(vd a, vd b)
    vd vd_min(vd a, vd b)
    vd vd_finite(vd x)
    vi vi_from_vd(vd low, vd high)
    # Shuffles.
    vf vf_zip_low(vf a, vf b)
    vf vf_zip_high(vf a, vf b)
    vf vf_zip_even(vf a, vf b)
    vf vf_unzip_even(vf a, vf b)
    vf vf_unzip_odd(vf a, vf b)
    vf vf_halves(vf a, vf b)
    vf vf_spread(int group, int lane, vf x)
    vf vf_permute(vf x, vi order)
    void vf_transpose(vf* r)
    # 8-bit integers.
    enum: DOT_UNSIGNED
    enum: DOT_SIGNED
    enum: DOT_SHORT
    enum: DOT_STEPS
    enum: DOT_MATRIX
    enum: BY_LANE
    vi vi_set1_bytes(const void* p)
    vi vi_even(vi x)
    vi vi_odd(vi x)
    vi vi_dot(vi sum, vi x, vi w)
    vi vi_dot_signed(vi sum, vi x, vi w)
    vi vi_dot_short(vi sum, vi x, vi w, vi x2, vi w2)
    vi vi_dot_short_signed(vi sum, vi x, vi w, vi x2, vi w2)
    vi vi_load_quads(const void* p, int n)
    vi vi_dot_lane(vi sum, vi x, int lane, vi w)
    vi vi_dot_signed_lane(vi sum, vi x, int lane, vi w)
    vi vi_dot_pairs(vi sum, vi a, vi b)
    vi vi_spread_pair(vi x, int pair)
    vi vi_byte_products(vi x, vi w, int upper)
    vi vi_add_pairs(vi sum, vi products)
    vi vi_even_pairs(vi a, vi b)
    vi vi_odd_pairs(vi a, vi b)
    vi vi_low_halves(vi a, vi b)
    vi vi_high_halves(vi a, vi b)
    vi vi_load_wide(const int8_t* p)
    vi vi_add_16(vi a, vi b)
    vi vi_subtract_16(vi a, vi b)
    vi vi_shift_right(vi a, int bits)
    vi vi_matrix(vi sum, vi x, vi w)
    vi vi_matrix_signed(vi sum, vi x, vi w)
    ctypedef int vb
    vb vb_load(const int8_t* p)
    void vb_store(int8_t* p, vb x)
    vb vb_set1(int8_t x)
    vb vb_max(vb a, vb b)
    vi vi_load_s8(const int8_t* p)
    void vi_store_8(int8_t* p, vi x)
    vi vi_max(vi a, vi b)
    void vi_store_s8(int8_t* p, vi x)
    void vi_store4_s8(int low, int8_t* p, vi a, vi b, vi c, vi d)
    void bytes_lookup(const uint8_t* table, const uint8_t* x, uint8_t* y, int64_t n)
    vi vi_load_quad(const void* p)
    void forget_loads()
    float* moved_by(float* p, int64_t step)
    const float* moved_by_const "moved_by"(const float* p, int64_t step)
    void prefetch(const void* p)
    void prefetch_far(const void* p)
    void prefetch_write(const void* p)
    void vf_stream(float* p, vf x)
    void stream_end()
    vi vi_lanes()
    vi vi_first(int64_t n)
    vf vf_gather(const float* p, vi index)
    vf vf_load_f16(const uint16_t* p)
    void vf_store_f16(uint16_t* p, vf x)
    vf vf_permute2(vf a, vf b, vi order)
