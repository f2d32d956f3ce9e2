/* AVX-512 F, DQ, BW, VL, VBMI and VNNI: vectors of 16 floats, 32 registers. */
#ifndef MEGENGINE_LITE_SIMD_AVX512_H
#define MEGENGINE_LITE_SIMD_AVX512_H
#include <immintrin.h>

#include "x86.h"

#define vf_fma_in_place plain_vf_fma_in_place

ML_INLINE vf vf_load_n(const float *p, int64_t n) {
    return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
ML_INLINE void vf_store_n(float *p, vf x, int64_t n) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)x);
}
/* A compiler would load the factor only once for two products: fewer loads, but more instructions. */
ML_INLINE vf vf_fma_memory(const float *p, vf b, vf c) {
    __asm__("vfmadd231ps %1%{1to16%}, %2, %0" : "+v"(c) : "m"(*p), "v"(b));
    return c;
}
/* AVX-512 BF16, which not every processor with this set has. In assembly, so that no other code may need it. */
ML_INLINE vf vf_dot_bf16(vf x, vf w, vf sum) {
    __asm__("vdpbf16ps %1, %2, %0" : "+v"(sum) : "v"(x), "v"(w));
    return sum;
}
ML_INLINE vf vf_dot_bf16_memory(const float *x, vf w, vf sum) {
    __asm__("vdpbf16ps %1%{1to16%}, %2, %0" : "+v"(sum) : "m"(*x), "v"(w));
    return sum;
}
ML_INLINE void vf_narrow_bf16(bf16 *p, vf x) {
    __m256i narrow;
    __asm__("vcvtneps2bf16 %1, %0" : "=v"(narrow) : "v"(x));
    _mm256_storeu_si256((__m256i *)p, narrow);
}
ML_INLINE vf vf_halves(vf a, vf b) { return (vf)_mm512_mask_blend_ps(0xff00, (__m512)a, (__m512)b); }
ML_INLINE vf vf_max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
ML_INLINE vf vf_min(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
#define vf_max_number vf_max
#define vf_min_number vf_min
#define vf_max_nan vf_max
#define vf_min_nan vf_min
ML_INLINE vf vf_sqrt(vf a) { return (vf)_mm512_sqrt_ps((__m512)a); }
ML_INLINE vf vf_rint(vf a) { return (vf)_mm512_roundscale_ps((__m512)a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
ML_INLINE vf vf_floor(vf a) { return (vf)_mm512_roundscale_ps((__m512)a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
ML_INLINE vf vf_trunc(vf a) { return (vf)_mm512_roundscale_ps((__m512)a, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
ML_INLINE vi vf_to_vi(vf a) { return (vi)_mm512_cvttps_epi32((__m512)a); }
ML_INLINE vd vd_max(vd a, vd b) { return (vd)_mm512_max_pd((__m512d)a, (__m512d)b); }
ML_INLINE vd vd_min(vd a, vd b) { return (vd)_mm512_min_pd((__m512d)a, (__m512d)b); }
ML_INLINE int vi_any(vi m) {
    return _mm512_movepi32_mask((__m512i)m) != 0;
}
ML_INLINE vf vf_permute(vf x, vi order) {
    return (vf)_mm512_permutexvar_ps((__m512i)order, (__m512)x);
}
ML_INLINE vi vi_dot_pairs(vi sum, vi a, vi b) { return (vi)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b); }
ML_INLINE vi vi_dot(vi sum, vi x, vi w) { return (vi)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)x, (__m512i)w); }
#define vf_transpose plain_vf_transpose
#define vi_dot_short plain_vi_dot_short
#define vi_dot_short_signed plain_vi_dot_short_signed
#define vi_load_wide plain_vi_load_wide
#define vi_low_halves plain_vi_low_halves
#define vi_high_halves plain_vi_high_halves
ML_INLINE vi vi_max(vi a, vi b) {
    return (vi)_mm512_max_epi32((__m512i)a, (__m512i)b);
}
ML_INLINE vi vi_load_s8(const int8_t *p) {
    return (vi)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p));
}
ML_INLINE void vi_store_8(int8_t *p, vi x) {
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8((__m512i)x));
}
ML_INLINE void vi_store_s8(int8_t *p, vi x) {
    _mm_storeu_si128((__m128i *)p, _mm512_cvtsepi32_epi8((__m512i)x));
}
ML_INLINE void vi_store4_s8(int low, int8_t *p, vi a, vi b, vi c, vi d) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i ab = _mm512_packs_epi32((__m512i)a, (__m512i)b), cd = _mm512_packs_epi32((__m512i)c, (__m512i)d);
    __m512i bytes = _mm512_permutexvar_epi32(order, _mm512_packs_epi16(ab, cd));
    _mm512_storeu_si512(p, low > -128 ? _mm512_max_epi8(bytes, _mm512_set1_epi8((char)low)) : bytes);
}
ML_INLINE void bytes_lookup(const uint8_t *table, const uint8_t *x, uint8_t *y, int64_t n) {
    int64_t k = 0;
    const __m512i t0 = _mm512_loadu_si512(table), t1 = _mm512_loadu_si512(table + 64);
    const __m512i t2 = _mm512_loadu_si512(table + 128), t3 = _mm512_loadu_si512(table + 192);
    for (; k + 64 <= n; k += 64) {
        __m512i index = _mm512_loadu_si512(x + k);
        __m512i low = _mm512_permutex2var_epi8(t0, index, t1), high = _mm512_permutex2var_epi8(t2, index, t3);
        _mm512_storeu_si512(y + k, _mm512_mask_blend_epi8(_mm512_movepi8_mask(index), low, high));
    }
    for (; k < n; ++k) y[k] = table[x[k]];
}
ML_INLINE vi vi_load_quad(const void *p) {
    const __m512i turn = _mm512_set_epi32(
        0x3f2f1f0f, 0x3e2e1e0e, 0x3d2d1d0d, 0x3c2c1c0c, 0x3b2b1b0b, 0x3a2a1a0a, 0x39291909, 0x38281808, 0x37271707,
        0x36261606, 0x35251505, 0x34241404, 0x33231303, 0x32221202, 0x31211101, 0x30201000);
    return (vi)_mm512_permutexvar_epi8(turn, _mm512_loadu_si512(p));
}
ML_INLINE void vf_stream(float *p, vf x) { _mm512_stream_ps(p, (__m512)x); }
ML_INLINE vf vf_gather(const float *p, vi index) {
    return (vf)_mm512_i32gather_ps((__m512i)index, p, 4);
}
ML_INLINE vf vf_load_f16(const uint16_t *p) { return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
ML_INLINE void vf_store_f16(uint16_t *p, vf x) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT));
}
ML_INLINE vf vf_permute2(vf a, vf b, vi order) {
    return (vf)_mm512_permutex2var_ps((__m512)a, (__m512i)order, (__m512)b);
}

#endif
