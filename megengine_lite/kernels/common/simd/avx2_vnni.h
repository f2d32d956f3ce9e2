/* AVX2 and AVX-VNNI: dot products of integers by one instruction. */
#ifndef MEGENGINE_LITE_SIMD_AVX2_VNNI_H
#define MEGENGINE_LITE_SIMD_AVX2_VNNI_H
#include "avx2_vectors.h"
#if defined(__GNUC__) && !defined(__clang__)
#include <avxvnniintrin.h>
#endif

ML_INLINE vi vi_dot_pairs(vi sum, vi a, vi b) { return (vi)_mm256_dpwssd_avx_epi32((__m256i)sum, (__m256i)a, (__m256i)b); }
ML_INLINE vi vi_dot(vi sum, vi x, vi w) { return (vi)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)x, (__m256i)w); }
#define vi_dot_short plain_vi_dot_short
#define vi_dot_short_signed plain_vi_dot_short_signed

#endif
