/* SSE up to 4.1: vectors of 4 floats, 16 registers. */
#ifndef MEGENGINE_LITE_SIMD_SSE_H
#define MEGENGINE_LITE_SIMD_SSE_H
#include <smmintrin.h>

#include "x86.h"

#define vf_fma_in_place plain_vf_fma_in_place

ML_INLINE vf vf_halves(vf a, vf b) { return (vf)_mm_blend_ps((__m128)a, (__m128)b, 0xc); }
ML_INLINE vf vf_max(vf a, vf b) { return (vf)_mm_max_ps((__m128)a, (__m128)b); }
ML_INLINE vf vf_min(vf a, vf b) { return (vf)_mm_min_ps((__m128)a, (__m128)b); }
#define vf_max_number vf_max
#define vf_min_number vf_min
#define vf_max_nan vf_max
#define vf_min_nan vf_min
ML_INLINE vf vf_sqrt(vf a) { return (vf)_mm_sqrt_ps((__m128)a); }
ML_INLINE vf vf_rint(vf a) { return (vf)_mm_round_ps((__m128)a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
ML_INLINE vf vf_floor(vf a) { return (vf)_mm_floor_ps((__m128)a); }
ML_INLINE vf vf_trunc(vf a) { return (vf)_mm_round_ps((__m128)a, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
ML_INLINE vi vf_to_vi(vf a) { return (vi)_mm_cvttps_epi32((__m128)a); }
ML_INLINE vd vd_max(vd a, vd b) { return (vd)_mm_max_pd((__m128d)a, (__m128d)b); }
ML_INLINE vd vd_min(vd a, vd b) { return (vd)_mm_min_pd((__m128d)a, (__m128d)b); }
ML_INLINE int vi_any(vi m) {
    return _mm_movemask_ps((__m128)m) != 0;
}
ML_INLINE vi vi_dot_pairs(vi sum, vi a, vi b) { return sum + (vi)_mm_madd_epi16((__m128i)a, (__m128i)b); }
ML_INLINE vi vi_dot(vi sum, vi x, vi w) {
    __m128i pairs = _mm_maddubs_epi16((__m128i)x, (__m128i)w);
    return sum + (vi)_mm_madd_epi16(pairs, _mm_set1_epi16(1));
}
ML_INLINE vi vi_dot_short(vi sum, vi x, vi w, vi x2, vi w2) {
    __m128i first = _mm_maddubs_epi16((__m128i)x, (__m128i)w), second = _mm_maddubs_epi16((__m128i)x2, (__m128i)w2);
    return sum + (vi)_mm_madd_epi16(_mm_add_epi16(first, second), _mm_set1_epi16(1));
}
ML_INLINE vi vi_dot_short_signed(vi sum, vi x, vi w, vi x2, vi w2) { /* |x| times w with the sign of x */
    __m128i first = _mm_sign_epi8((__m128i)w, (__m128i)x), second = _mm_sign_epi8((__m128i)w2, (__m128i)x2);
    return vi_dot_short(sum, (vi)_mm_abs_epi8((__m128i)x), (vi)first, (vi)_mm_abs_epi8((__m128i)x2), (vi)second);
}
ML_INLINE vi vi_max(vi a, vi b) {
    return (vi)_mm_max_epi32((__m128i)a, (__m128i)b);
}
ML_INLINE vi vi_load_s8(const int8_t *p) {
    return (vi)_mm_cvtepi8_epi32(_mm_cvtsi32_si128(*(const dword_u *)p));
}
ML_INLINE vi vi_load_wide(const int8_t *p) { return (vi)_mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)p)); }
ML_INLINE vi vi_low_halves(vi a, vi b) { return (vi)_mm_unpacklo_epi64((__m128i)a, (__m128i)b); }
ML_INLINE vi vi_high_halves(vi a, vi b) { return (vi)_mm_unpackhi_epi64((__m128i)a, (__m128i)b); }
ML_INLINE void vi_store_8(int8_t *p, vi x) {
    __m128i low = _mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    *(dword_u *)p = _mm_cvtsi128_si32(_mm_shuffle_epi8((__m128i)x, low));
}
ML_INLINE void vi_store_s8(int8_t *p, vi x) {
    __m128i words = _mm_packs_epi32((__m128i)x, (__m128i)x);
    *(dword_u *)p = _mm_cvtsi128_si32(_mm_packs_epi16(words, words));
}
ML_INLINE void vi_store4_s8(int low, int8_t *p, vi a, vi b, vi c, vi d) {
    __m128i ab = _mm_packs_epi32((__m128i)a, (__m128i)b), cd = _mm_packs_epi32((__m128i)c, (__m128i)d);
    __m128i bytes = _mm_packs_epi16(ab, cd);
    _mm_storeu_si128((__m128i *)p, low > -128 ? _mm_max_epi8(bytes, _mm_set1_epi8((char)low)) : bytes);
}
ML_INLINE vi vi_load_quad(const void *p) {
    const __m128i turn = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return (vi)_mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)p), turn);
}
ML_INLINE void vf_stream(float *p, vf x) { _mm_stream_ps(p, (__m128)x); }

#define vf_fma_memory plain_vf_fma_memory
#define vf_dot_bf16 plain_vf_dot_bf16
#define vf_dot_bf16_memory plain_vf_dot_bf16_memory
#define vf_narrow_bf16 plain_vf_narrow_bf16
#define vf_load_n plain_vf_load_n
#define vf_store_n plain_vf_store_n
#define vf_transpose plain_vf_transpose
#define vf_permute plain_vf_permute
#define bytes_lookup plain_bytes_lookup
#define vf_gather plain_vf_gather
#define vf_load_f16 plain_vf_load_f16
#define vf_store_f16 plain_vf_store_f16
#define vf_permute2 plain_vf_permute2

#endif
