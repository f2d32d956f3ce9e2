/* AVX2: vectors, and dot products of integers in several instructions. */
#ifndef MEGENGINE_LITE_SIMD_AVX2_H
#define MEGENGINE_LITE_SIMD_AVX2_H
#include "avx2_vectors.h"

ML_INLINE vi vi_dot_pairs(vi sum, vi a, vi b) { return sum + (vi)_mm256_madd_epi16((__m256i)a, (__m256i)b); }
ML_INLINE vi vi_dot(vi sum, vi x, vi w) {
    __m256i pairs = _mm256_maddubs_epi16((__m256i)x, (__m256i)w);
    return sum + (vi)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
ML_INLINE vi vi_dot_short(vi sum, vi x, vi w, vi x2, vi w2) {
    __m256i first = _mm256_maddubs_epi16((__m256i)x, (__m256i)w), second = _mm256_maddubs_epi16((__m256i)x2, (__m256i)w2);
    return sum + (vi)_mm256_madd_epi16(_mm256_add_epi16(first, second), _mm256_set1_epi16(1));
}
ML_INLINE vi vi_dot_short_signed(vi sum, vi x, vi w, vi x2, vi w2) { /* |x| times w with the sign of x */
    __m256i first = _mm256_sign_epi8((__m256i)w, (__m256i)x), second = _mm256_sign_epi8((__m256i)w2, (__m256i)x2);
    return vi_dot_short(sum, (vi)_mm256_abs_epi8((__m256i)x), (vi)first, (vi)_mm256_abs_epi8((__m256i)x2), (vi)second);
}

#endif
