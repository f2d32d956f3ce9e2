/* AVX2, FMA and F16C: vectors of 8 floats, 16 registers. All but dot products of integers. */
#ifndef MEGENGINE_LITE_SIMD_AVX2_VECTORS_H
#define MEGENGINE_LITE_SIMD_AVX2_VECTORS_H
#if defined(__GNUC__) && !defined(__clang__)
/* gcc takes longer to read all of immintrin.h, most of which is AVX-512, than to compile a small kernel. What is needed
 * here are four of its parts; the last three want to be told that it is immintrin.h that includes them. */
#ifndef _IMMINTRIN_H_INCLUDED
#define _IMMINTRIN_H_INCLUDED
#endif
#include <smmintrin.h>
#include <avxintrin.h>
#include <avx2intrin.h>
#include <f16cintrin.h>
#else
#include <immintrin.h>
#endif

#include "x86.h"

/* clang takes any of the three forms of the instruction, moves sums from register to register, loads ahead, and runs out
 * of registers. What is volatile stays at its place, and so do the loads between. */
#if defined(__clang__)
ML_INLINE vf vf_fma_in_place(vf a, vf b, vf c) {
    __asm__ volatile("vfmadd231ps %2, %1, %0" : "+x"(c) : "x"(a), "x"(b) : "memory");
    return c;
}
#else
#define vf_fma_in_place plain_vf_fma_in_place
#endif

/* Lanes that are masked are neither read nor written, whatever lies there. */
ML_INLINE vf vf_load_n(const float *p, int64_t n) { return (vf)_mm256_maskload_ps(p, (__m256i)vi_first(n)); }
ML_INLINE void vf_store_n(float *p, vf x, int64_t n) { _mm256_maskstore_ps(p, (__m256i)vi_first(n), (__m256)x); }
ML_INLINE vf vf_halves(vf a, vf b) { return (vf)_mm256_blend_ps((__m256)a, (__m256)b, 0xf0); }
ML_INLINE vf vf_max(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
ML_INLINE vf vf_min(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
#define vf_max_number vf_max
#define vf_min_number vf_min
#define vf_max_nan vf_max
#define vf_min_nan vf_min
ML_INLINE vf vf_sqrt(vf a) { return (vf)_mm256_sqrt_ps((__m256)a); }
ML_INLINE vf vf_rint(vf a) { return (vf)_mm256_round_ps((__m256)a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
ML_INLINE vf vf_floor(vf a) { return (vf)_mm256_floor_ps((__m256)a); }
ML_INLINE vf vf_trunc(vf a) { return (vf)_mm256_round_ps((__m256)a, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
ML_INLINE vi vf_to_vi(vf a) { return (vi)_mm256_cvttps_epi32((__m256)a); }
ML_INLINE vd vd_max(vd a, vd b) { return (vd)_mm256_max_pd((__m256d)a, (__m256d)b); }
ML_INLINE vd vd_min(vd a, vd b) { return (vd)_mm256_min_pd((__m256d)a, (__m256d)b); }
ML_INLINE int vi_any(vi m) {
    return _mm256_movemask_ps((__m256)m) != 0;
}
ML_INLINE vf vf_permute(vf x, vi order) {
    return (vf)_mm256_permutevar8x32_ps((__m256)x, (__m256i)order);
}
/* Within halves of vectors first, for which there are shuffles of one instruction. */
ML_INLINE void vf_transpose(vf *r) {
    __m256 s[8], t[8];
    for (int k = 0; k < 8; k += 2) {
        s[k] = _mm256_unpacklo_ps((__m256)r[k], (__m256)r[k + 1]);
        s[k + 1] = _mm256_unpackhi_ps((__m256)r[k], (__m256)r[k + 1]);
    }
    for (int k = 0; k < 8; k += 4) {
        t[k] = _mm256_shuffle_ps(s[k], s[k + 2], 0x44);
        t[k + 1] = _mm256_shuffle_ps(s[k], s[k + 2], 0xEE);
        t[k + 2] = _mm256_shuffle_ps(s[k + 1], s[k + 3], 0x44);
        t[k + 3] = _mm256_shuffle_ps(s[k + 1], s[k + 3], 0xEE);
    }
    for (int k = 0; k < 4; ++k) {
        r[k] = (vf)_mm256_permute2f128_ps(t[k], t[k + 4], 0x20);
        r[k + 4] = (vf)_mm256_permute2f128_ps(t[k], t[k + 4], 0x31);
    }
}
ML_INLINE vi vi_max(vi a, vi b) {
    return (vi)_mm256_max_epi32((__m256i)a, (__m256i)b);
}
ML_INLINE vi vi_load_s8(const int8_t *p) {
    return (vi)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p));
}
ML_INLINE vi vi_load_wide(const int8_t *p) { return (vi)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p)); }
ML_INLINE vi vi_low_halves(vi a, vi b) { return (vi)_mm256_permute2x128_si256((__m256i)a, (__m256i)b, 0x20); }
ML_INLINE vi vi_high_halves(vi a, vi b) { return (vi)_mm256_permute2x128_si256((__m256i)a, (__m256i)b, 0x31); }
ML_INLINE void vi_store_8(int8_t *p, vi x) {
    __m128i low = _mm256_castsi256_si128((__m256i)x), high = _mm256_extracti128_si256((__m256i)x, 1);
    __m128i first = _mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    __m128i second = _mm_setr_epi8(-1, -1, -1, -1, 0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1);
    _mm_storel_epi64((__m128i *)p, _mm_or_si128(_mm_shuffle_epi8(low, first), _mm_shuffle_epi8(high, second)));
}
ML_INLINE void vi_store_s8(int8_t *p, vi x) {
    __m128i low = _mm256_castsi256_si128((__m256i)x), high = _mm256_extracti128_si256((__m256i)x, 1);
    __m128i words = _mm_packs_epi32(low, high);
    _mm_storel_epi64((__m128i *)p, _mm_packs_epi16(words, words));
}
ML_INLINE void vi_store4_s8(int low, int8_t *p, vi a, vi b, vi c, vi d) {
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i ab = _mm256_packs_epi32((__m256i)a, (__m256i)b), cd = _mm256_packs_epi32((__m256i)c, (__m256i)d);
    __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(ab, cd), order);
    _mm256_storeu_si256((__m256i *)p, low > -128 ? _mm256_max_epi8(bytes, _mm256_set1_epi8((char)low)) : bytes);
}
ML_INLINE vi vi_load_quad(const void *p) {
    const __m256i halves = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
    const __m256i turn = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    __m256i x = _mm256_permutevar8x32_epi32(_mm256_loadu_si256((const __m256i *)p), halves);
    return (vi)_mm256_shuffle_epi8(x, turn);
}
ML_INLINE void vf_stream(float *p, vf x) { _mm256_stream_ps(p, (__m256)x); }
ML_INLINE vf vf_gather(const float *p, vi index) {
    return (vf)_mm256_i32gather_ps(p, (__m256i)index, 4);
}
ML_INLINE vf vf_load_f16(const uint16_t *p) { return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
ML_INLINE void vf_store_f16(uint16_t *p, vf x) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT));
}
ML_INLINE vf vf_permute2(vf a, vf b, vi order) {
    return vf_select(order < VW, vf_permute(a, order), vf_permute(b, order));
}

#define vf_fma_memory plain_vf_fma_memory
#define vf_dot_bf16 plain_vf_dot_bf16
#define vf_dot_bf16_memory plain_vf_dot_bf16_memory
#define vf_narrow_bf16 plain_vf_narrow_bf16
#define bytes_lookup plain_bytes_lookup

#endif
