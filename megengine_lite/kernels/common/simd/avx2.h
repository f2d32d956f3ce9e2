/* AVX2: vectors, and dot products of integers in several instructions. */
#ifndef MEGENGINE_LITE_SIMD_AVX2_H
#define MEGENGINE_LITE_SIMD_AVX2_H
#include "avx2_vectors.h"

ML_INLINE vi vi_dot_pairs(vi sum, vi a, vi b) { return sum + (vi)_mm256_madd_epi16((__m256i)a, (__m256i)b); }
ML_INLINE vi vi_dot(vi sum, vi x, vi w) {
    __m256i pairs = _mm256_maddubs_epi16((__m256i)x, (__m256i)w);
    return sum + (vi)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

#endif
