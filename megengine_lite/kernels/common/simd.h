/* Vector types and the few vector operations that the kernels need, by compilation target.
 *
 * The only file with #if on the instruction set. VW is the number of float32 lanes of a vector and also the
 * channel-block width of the blocked layout that this build works on (4: NCHW44, 8: NCHW88, 16).
 * All loads and stores are unaligned: tensors may live in memory that the user gave us.
 */
#ifndef MEGENGINE_LITE_SIMD_H
#define MEGENGINE_LITE_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define VW 16
#elif defined(__AVX2__)
#define VW 8
#else
#define VW 4
#endif
/* Vector registers: how large a block of a product can be. */
#if defined(__AVX512F__) || defined(__aarch64__)
#define VREGS 32
#else
#define VREGS 16
#endif

typedef float vf __attribute__((vector_size(VW * 4)));
typedef int32_t vi __attribute__((vector_size(VW * 4)));
typedef uint32_t vu __attribute__((vector_size(VW * 4)));
typedef int8_t vb __attribute__((vector_size(VW)));
typedef float vf_u __attribute__((vector_size(VW * 4), aligned(4), may_alias));
typedef int32_t vi_u __attribute__((vector_size(VW * 4), aligned(4), may_alias));
typedef int8_t vb_u __attribute__((vector_size(VW), aligned(1), may_alias));

#define ML_INLINE static inline __attribute__((always_inline))
/* Marks a Cython `cdef inline` helper that must be inlined, so that its constant arguments become immediates. */
#define ML_INLINE_VOID __attribute__((always_inline)) void
/* Marks one that must stay one function, to keep rare code out of unrolled loops. */
#define ML_NOINLINE_VOID __attribute__((noinline, noipa)) void
#pragma GCC diagnostic ignored "-Wattributes" /* Cython also says "inline" where we say noinline */

ML_INLINE vf vf_load(const float *p) { return *(const vf_u *)p; }
ML_INLINE void vf_store(float *p, vf x) { *(vf_u *)p = x; }
/* The value, held in a register: a compiler may otherwise load it from memory again for each use. */
ML_INLINE vf vf_held(vf x) {
#if defined(__x86_64__)
    __asm__("" : "+v"(x));
#elif defined(__aarch64__)
    __asm__("" : "+w"(x));
#endif
    return x;
}
ML_INLINE vi vi_load(const int32_t *p) { return *(const vi_u *)p; }
ML_INLINE void vi_store(int32_t *p, vi x) { *(vi_u *)p = x; }
ML_INLINE vf vf_set1(float x) { return x - (vf){}; }
ML_INLINE vi vi_set1(int32_t x) { return x - (vi){}; }
ML_INLINE vf vf_zero(void) { return (vf){}; }
ML_INLINE vf vf_fma(vf a, vf b, vf c) { return a * b + c; } /* contracted to one instruction where there is one */
ML_INLINE vf vf_select(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }
ML_INLINE vi vf_lt(vf a, vf b) { return a < b; }
ML_INLINE vi vf_le(vf a, vf b) { return a <= b; }
ML_INLINE vi vf_eq(vf a, vf b) { return a == b; }
ML_INLINE vf vi_to_vf(vi x) { return __builtin_convertvector(x, vf); }

/* A product that is rounded before it is added to something: keeps the compiler from making one instruction of both. */
ML_INLINE vf vf_product(vf a, vf b) {
    vf x = a * b;
#if defined(__AVX512F__)
    __asm__("" : "+v"(x));
#elif defined(__x86_64__)
    __asm__("" : "+x"(x));
#elif defined(__aarch64__)
    __asm__("" : "+w"(x));
#endif
    return x;
}

/* Lanes [0, n) of memory, zeros above; and the matching store. n in 0..VW. */
ML_INLINE vf vf_load_n(const float *p, int64_t n) {
#if defined(__AVX512F__)
    return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#else
    vf x = {};
    memcpy(&x, p, (size_t)n * 4);
    return x;
#endif
}
ML_INLINE void vf_store_n(float *p, vf x, int64_t n) {
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)x);
#else
    memcpy(p, &x, (size_t)n * 4);
#endif
}

#if defined(__AVX512F__)
ML_INLINE vf vf_max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); } /* NaN in a gives b */
ML_INLINE vf vf_min(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
ML_INLINE vf vf_sqrt(vf a) { return (vf)_mm512_sqrt_ps((__m512)a); }
ML_INLINE vf vf_rint(vf a) { return (vf)_mm512_roundscale_ps((__m512)a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
ML_INLINE vf vf_floor(vf a) { return (vf)_mm512_roundscale_ps((__m512)a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
ML_INLINE vf vf_trunc(vf a) { return (vf)_mm512_roundscale_ps((__m512)a, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
ML_INLINE vi vf_to_vi(vf a) { return (vi)_mm512_cvttps_epi32((__m512)a); }
#elif defined(__AVX2__)
ML_INLINE vf vf_max(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
ML_INLINE vf vf_min(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
ML_INLINE vf vf_sqrt(vf a) { return (vf)_mm256_sqrt_ps((__m256)a); }
ML_INLINE vf vf_rint(vf a) { return (vf)_mm256_round_ps((__m256)a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
ML_INLINE vf vf_floor(vf a) { return (vf)_mm256_floor_ps((__m256)a); }
ML_INLINE vf vf_trunc(vf a) { return (vf)_mm256_round_ps((__m256)a, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
ML_INLINE vi vf_to_vi(vf a) { return (vi)_mm256_cvttps_epi32((__m256)a); }
#elif defined(__SSE4_1__)
ML_INLINE vf vf_max(vf a, vf b) { return (vf)_mm_max_ps((__m128)a, (__m128)b); }
ML_INLINE vf vf_min(vf a, vf b) { return (vf)_mm_min_ps((__m128)a, (__m128)b); }
ML_INLINE vf vf_sqrt(vf a) { return (vf)_mm_sqrt_ps((__m128)a); }
ML_INLINE vf vf_rint(vf a) { return (vf)_mm_round_ps((__m128)a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
ML_INLINE vf vf_floor(vf a) { return (vf)_mm_floor_ps((__m128)a); }
ML_INLINE vf vf_trunc(vf a) { return (vf)_mm_round_ps((__m128)a, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
ML_INLINE vi vf_to_vi(vf a) { return (vi)_mm_cvttps_epi32((__m128)a); }
#else
ML_INLINE vf vf_max(vf a, vf b) { return vf_select(a > b, a, b); }
ML_INLINE vf vf_min(vf a, vf b) { return vf_select(a < b, a, b); }
ML_INLINE vf vf_sqrt(vf a) { for (int k = 0; k < VW; ++k) a[k] = sqrtf(a[k]); return a; }
ML_INLINE vf vf_rint(vf a) { for (int k = 0; k < VW; ++k) a[k] = rintf(a[k]); return a; }
ML_INLINE vf vf_floor(vf a) { for (int k = 0; k < VW; ++k) a[k] = floorf(a[k]); return a; }
ML_INLINE vf vf_trunc(vf a) { for (int k = 0; k < VW; ++k) a[k] = truncf(a[k]); return a; }
ML_INLINE vi vf_to_vi(vf a) { return __builtin_convertvector(a, vi); }
#endif

/* Like vf_to_vi, for any number: what no int32 holds, NaN too, becomes -2^31. */
ML_INLINE vi vf_to_vi_any(vf a) {
#if defined(__SSE4_1__)
    return vf_to_vi(a);
#else
    vi fits = vf_lt(a, vf_set1(2147483648.0f)) & vf_le(vf_set1(-2147483648.0f), a);
    return (vf_to_vi(vf_select(fits, a, vf_zero())) & fits) | (vi_set1(INT32_MIN) & ~fits);
#endif
}

/* x 2^n for integer-valued n in [-252, 252]; in two steps, so that results near the ends of the range are right. */
ML_INLINE vf vf_ldexp(vf x, vf n) {
#if defined(__AVX512F__)
    return (vf)_mm512_scalef_ps((__m512)x, (__m512)n);
#else
    vi k = vf_to_vi(n), half = k >> 1;
    return x * (vf)((half + 127) << 23) * (vf)((k - half + 127) << 23);
#endif
}

/* Double precision: half a float vector at a time. */
typedef double vd __attribute__((vector_size(VW * 4)));
typedef uint64_t vdu __attribute__((vector_size(VW * 4)));
typedef float vf_half __attribute__((vector_size(VW * 2)));

ML_INLINE vd vd_set1(double x) { return x - (vd){}; }
ML_INLINE vdu vdu_set1(uint64_t x) { return x - (vdu){}; }
ML_INLINE vd vd_low(vf x) {
    vf_half h;
    memcpy(&h, &x, sizeof h);
    return __builtin_convertvector(h, vd);
}
ML_INLINE vd vd_high(vf x) {
    vf_half h;
    memcpy(&h, (char *)&x + sizeof h, sizeof h);
    return __builtin_convertvector(h, vd);
}
ML_INLINE vf vf_from_vd(vd low, vd high) {
    vf x;
    vf_half h = __builtin_convertvector(low, vf_half), g = __builtin_convertvector(high, vf_half);
    memcpy(&x, &h, sizeof h);
    memcpy((char *)&x + sizeof h, &g, sizeof g);
    return x;
}
#if defined(__AVX512F__)
ML_INLINE vd vd_max(vd a, vd b) { return (vd)_mm512_max_pd((__m512d)a, (__m512d)b); }
ML_INLINE vd vd_min(vd a, vd b) { return (vd)_mm512_min_pd((__m512d)a, (__m512d)b); }
#elif defined(__AVX2__)
ML_INLINE vd vd_max(vd a, vd b) { return (vd)_mm256_max_pd((__m256d)a, (__m256d)b); }
ML_INLINE vd vd_min(vd a, vd b) { return (vd)_mm256_min_pd((__m256d)a, (__m256d)b); }
#elif defined(__SSE2__)
ML_INLINE vd vd_max(vd a, vd b) { return (vd)_mm_max_pd((__m128d)a, (__m128d)b); }
ML_INLINE vd vd_min(vd a, vd b) { return (vd)_mm_min_pd((__m128d)a, (__m128d)b); }
#else
ML_INLINE vd vd_max(vd a, vd b) { for (int k = 0; k < VW / 2; ++k) a[k] = a[k] > b[k] ? a[k] : b[k]; return a; }
ML_INLINE vd vd_min(vd a, vd b) { for (int k = 0; k < VW / 2; ++k) a[k] = a[k] < b[k] ? a[k] : b[k]; return a; }
#endif

/* Whether any lane of a comparison's result is true. */
ML_INLINE int vi_any(vi m) {
#if defined(__AVX512F__)
    return _mm512_movepi32_mask((__m512i)m) != 0;
#elif defined(__AVX2__)
    return _mm256_movemask_ps((__m256)m) != 0;
#elif defined(__SSE2__)
    return _mm_movemask_ps((__m128)m) != 0;
#else
    int r = 0;
    for (int k = 0; k < VW; ++k) r |= m[k];
    return r != 0;
#endif
}

/* Interleaving of two vectors, a0 b0 a1 b1 ...: its lower and upper half; and the way back. */
#if defined(__clang__) || __GNUC__ >= 12
#define ML_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define ML_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vi){__VA_ARGS__})
#endif
#if VW == 16
ML_INLINE vf vf_zip_low(vf a, vf b) { return ML_SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23); }
ML_INLINE vf vf_zip_high(vf a, vf b) { return ML_SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31); }
ML_INLINE vf vf_unzip_even(vf a, vf b) { return ML_SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30); }
ML_INLINE vf vf_unzip_odd(vf a, vf b) { return ML_SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31); }
#elif VW == 8
ML_INLINE vf vf_zip_low(vf a, vf b) { return ML_SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
ML_INLINE vf vf_zip_high(vf a, vf b) { return ML_SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
ML_INLINE vf vf_unzip_even(vf a, vf b) { return ML_SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14); }
ML_INLINE vf vf_unzip_odd(vf a, vf b) { return ML_SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15); }
#else
ML_INLINE vf vf_zip_low(vf a, vf b) { return ML_SHUFFLE(a, b, 0, 4, 1, 5); }
ML_INLINE vf vf_zip_high(vf a, vf b) { return ML_SHUFFLE(a, b, 2, 6, 3, 7); }
ML_INLINE vf vf_unzip_even(vf a, vf b) { return ML_SHUFFLE(a, b, 0, 2, 4, 6); }
ML_INLINE vf vf_unzip_odd(vf a, vf b) { return ML_SHUFFLE(a, b, 1, 3, 5, 7); }
#endif

/* Lane k of the result is lane order[k] of x. */
ML_INLINE vf vf_permute(vf x, vi order) {
#if defined(__AVX512F__)
    return (vf)_mm512_permutexvar_ps((__m512i)order, (__m512)x);
#elif defined(__AVX2__)
    return (vf)_mm256_permutevar8x32_ps((__m256)x, (__m256i)order);
#else
    vf y;
    for (int k = 0; k < VW; ++k) y[k] = x[order[k]];
    return y;
#endif
}

/* ---- 8-bit integers ------------------------------------------------------------------------------------------------
 *
 * Products are summed up in fours: lane k of vi_dot adds x[4k..4k+3] . w[4k..4k+3], with signed w. VNNI multiplies all
 * unsigned x (DOT_UNSIGNED); elsewhere the instruction for u8 x s8 saturates, so it serves x in 0..127 only, and other
 * x are multiplied as signed 16-bit numbers: vi_even and vi_odd split a vector into bytes 0, 2 and bytes 1, 3 of each
 * lane, vi_dot_pairs sums up pairs.
 */
typedef int16_t vh __attribute__((vector_size(VW * 4)));
typedef int32_t dword_u __attribute__((aligned(1), may_alias));

ML_INLINE vi vi_set1_bytes(const void *p) { return vi_set1(*(const dword_u *)p); }
ML_INLINE vi vi_even(vi x) { return (vi)((vh)x << 8 >> 8); }
ML_INLINE vi vi_odd(vi x) { return (vi)((vh)x >> 8); }
#if defined(__AVX512VNNI__) && defined(__AVX512F__)
#define DOT_UNSIGNED 1
ML_INLINE vi vi_dot_pairs(vi sum, vi a, vi b) { return (vi)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b); }
ML_INLINE vi vi_dot(vi sum, vi x, vi w) { return (vi)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)x, (__m512i)w); }
#elif defined(__AVX2__)
#define DOT_UNSIGNED 0
ML_INLINE vi vi_dot_pairs(vi sum, vi a, vi b) { return sum + (vi)_mm256_madd_epi16((__m256i)a, (__m256i)b); }
ML_INLINE vi vi_dot(vi sum, vi x, vi w) {
    __m256i pairs = _mm256_maddubs_epi16((__m256i)x, (__m256i)w);
    return sum + (vi)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
#elif defined(__SSE4_1__)
#define DOT_UNSIGNED 0
ML_INLINE vi vi_dot_pairs(vi sum, vi a, vi b) { return sum + (vi)_mm_madd_epi16((__m128i)a, (__m128i)b); }
ML_INLINE vi vi_dot(vi sum, vi x, vi w) {
    __m128i pairs = _mm_maddubs_epi16((__m128i)x, (__m128i)w);
    return sum + (vi)_mm_madd_epi16(pairs, _mm_set1_epi16(1));
}
#else
#define DOT_UNSIGNED 0
ML_INLINE vi vi_dot_pairs(vi sum, vi a, vi b) { return sum + (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16); }
ML_INLINE vi vi_dot(vi sum, vi x, vi w) {
    return vi_dot_pairs(vi_dot_pairs(sum, vi_even(x), vi_even(w)), vi_odd(x), vi_odd(w));
}
#endif

/* Vectors of VW bytes. */
ML_INLINE vb vb_load(const int8_t *p) { return *(const vb_u *)p; }
ML_INLINE void vb_store(int8_t *p, vb x) { *(vb_u *)p = x; }
ML_INLINE vb vb_set1(int8_t x) { return x - (vb){}; }
ML_INLINE vb vb_max(vb a, vb b) {
    vb greater = a > b;
    return (a & greater) | (b & ~greater);
}

ML_INLINE vi vi_max(vi a, vi b) {
#if defined(__AVX512F__)
    return (vi)_mm512_max_epi32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return (vi)_mm256_max_epi32((__m256i)a, (__m256i)b);
#elif defined(__SSE4_1__)
    return (vi)_mm_max_epi32((__m128i)a, (__m128i)b);
#else
    vi greater = a > b;
    return (a & greater) | (b & ~greater);
#endif
}

/* VW signed bytes as a vector of int32, and the low bytes of one. */
ML_INLINE vi vi_load_s8(const int8_t *p) {
#if defined(__AVX512F__)
    return (vi)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p));
#elif defined(__AVX2__)
    return (vi)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p));
#elif defined(__SSE4_1__)
    return (vi)_mm_cvtepi8_epi32(_mm_cvtsi32_si128(*(const dword_u *)p));
#else
    return __builtin_convertvector(*(const vb_u *)p, vi);
#endif
}
ML_INLINE void vi_store_8(int8_t *p, vi x) {
#if defined(__AVX512F__)
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8((__m512i)x));
#elif defined(__AVX2__)
    __m128i low = _mm256_castsi256_si128((__m256i)x), high = _mm256_extracti128_si256((__m256i)x, 1);
    __m128i first = _mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    __m128i second = _mm_setr_epi8(-1, -1, -1, -1, 0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1);
    _mm_storel_epi64((__m128i *)p, _mm_or_si128(_mm_shuffle_epi8(low, first), _mm_shuffle_epi8(high, second)));
#elif defined(__SSE4_1__)
    __m128i low = _mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    *(dword_u *)p = _mm_cvtsi128_si32(_mm_shuffle_epi8((__m128i)x, low));
#else
    *(vb_u *)p = __builtin_convertvector(x, vb);
#endif
}

/* VW signed bytes, saturated. */
ML_INLINE void vi_store_s8(int8_t *p, vi x) {
#if defined(__AVX512F__)
    _mm_storeu_si128((__m128i *)p, _mm512_cvtsepi32_epi8((__m512i)x));
#elif defined(__AVX2__)
    __m128i low = _mm256_castsi256_si128((__m256i)x), high = _mm256_extracti128_si256((__m256i)x, 1);
    __m128i words = _mm_packs_epi32(low, high);
    _mm_storel_epi64((__m128i *)p, _mm_packs_epi16(words, words));
#elif defined(__SSE4_1__)
    __m128i words = _mm_packs_epi32((__m128i)x, (__m128i)x);
    *(dword_u *)p = _mm_cvtsi128_si32(_mm_packs_epi16(words, words));
#else
    for (int k = 0; k < VW; ++k) p[k] = (int8_t)(x[k] < -128 ? -128 : x[k] > 127 ? 127 : x[k]);
#endif
}

/* Four of them, one after the other in memory. */
ML_INLINE void vi_store4_s8(int8_t *p, vi a, vi b, vi c, vi d) {
#if defined(__AVX512F__)
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i ab = _mm512_packs_epi32((__m512i)a, (__m512i)b), cd = _mm512_packs_epi32((__m512i)c, (__m512i)d);
    _mm512_storeu_si512(p, _mm512_permutexvar_epi32(order, _mm512_packs_epi16(ab, cd)));
#elif defined(__AVX2__)
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i ab = _mm256_packs_epi32((__m256i)a, (__m256i)b), cd = _mm256_packs_epi32((__m256i)c, (__m256i)d);
    _mm256_storeu_si256((__m256i *)p, _mm256_permutevar8x32_epi32(_mm256_packs_epi16(ab, cd), order));
#elif defined(__SSE4_1__)
    __m128i ab = _mm_packs_epi32((__m128i)a, (__m128i)b), cd = _mm_packs_epi32((__m128i)c, (__m128i)d);
    _mm_storeu_si128((__m128i *)p, _mm_packs_epi16(ab, cd));
#else
    vi_store_s8(p, a);
    vi_store_s8(p + VW, b);
    vi_store_s8(p + 2 * VW, c);
    vi_store_s8(p + 3 * VW, d);
#endif
}

/* y[k] = table[x[k]] for bytes; the table has 256 entries. */
ML_INLINE void bytes_lookup(const uint8_t *table, const uint8_t *x, uint8_t *y, int64_t n) {
    int64_t k = 0;
#if defined(__AVX512VBMI__)
    const __m512i t0 = _mm512_loadu_si512(table), t1 = _mm512_loadu_si512(table + 64);
    const __m512i t2 = _mm512_loadu_si512(table + 128), t3 = _mm512_loadu_si512(table + 192);
    for (; k + 64 <= n; k += 64) {
        __m512i index = _mm512_loadu_si512(x + k);
        __m512i low = _mm512_permutex2var_epi8(t0, index, t1), high = _mm512_permutex2var_epi8(t2, index, t3);
        _mm512_storeu_si512(y + k, _mm512_mask_blend_epi8(_mm512_movepi8_mask(index), low, high));
    }
#endif
    for (; k < n; ++k) y[k] = table[x[k]];
}

/* Four neighbouring pixels of VW bytes, turned around: lane k has byte k of each. */
ML_INLINE vi vi_load_quad(const void *p) {
#if defined(__AVX512VBMI__)
    const __m512i turn = _mm512_set_epi32(
        0x3f2f1f0f, 0x3e2e1e0e, 0x3d2d1d0d, 0x3c2c1c0c, 0x3b2b1b0b, 0x3a2a1a0a, 0x39291909, 0x38281808, 0x37271707,
        0x36261606, 0x35251505, 0x34241404, 0x33231303, 0x32221202, 0x31211101, 0x30201000);
    return (vi)_mm512_permutexvar_epi8(turn, _mm512_loadu_si512(p));
#elif defined(__AVX2__)
    const __m256i halves = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
    const __m256i turn = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    __m256i x = _mm256_permutevar8x32_epi32(_mm256_loadu_si256((const __m256i *)p), halves);
    return (vi)_mm256_shuffle_epi8(x, turn);
#elif defined(__SSE4_1__)
    const __m128i turn = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return (vi)_mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)p), turn);
#else
    vi x;
    for (int k = 0; k < VW; ++k)
        for (int j = 0; j < 4; ++j) ((char *)&x)[4 * k + j] = ((const char *)p)[j * VW + k];
    return x;
#endif
}

/* Any address may be given; into the first cache, only into the second, or there to be written. */
ML_INLINE void prefetch(const void *p) { __builtin_prefetch(p); }
ML_INLINE void prefetch_far(const void *p) { __builtin_prefetch(p, 0, 2); }
ML_INLINE void prefetch_write(const void *p) { __builtin_prefetch(p, 1, 2); }

/* Stores past the caches, for results larger than them; p is aligned to a vector. stream_end() goes after the last. */
#if defined(__AVX512F__)
ML_INLINE void vf_stream(float *p, vf x) { _mm512_stream_ps(p, (__m512)x); }
ML_INLINE void stream_end(void) { _mm_sfence(); }
#elif defined(__AVX2__)
ML_INLINE void vf_stream(float *p, vf x) { _mm256_stream_ps(p, (__m256)x); }
ML_INLINE void stream_end(void) { _mm_sfence(); }
#elif defined(__SSE2__)
ML_INLINE void vf_stream(float *p, vf x) { _mm_stream_ps(p, (__m128)x); }
ML_INLINE void stream_end(void) { _mm_sfence(); }
#else
ML_INLINE void vf_stream(float *p, vf x) { vf_store(p, x); }
ML_INLINE void stream_end(void) {}
#endif

/* 0, 1, 2, ... */
ML_INLINE vi vi_lanes(void) {
#if VW == 16
    return (vi){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif VW == 8
    return (vi){0, 1, 2, 3, 4, 5, 6, 7};
#else
    return (vi){0, 1, 2, 3};
#endif
}
/* A mask of the first n lanes. */
ML_INLINE vi vi_first(int64_t n) { return vi_lanes() < (int32_t)n; }

/* Lane k is p[index[k]]. */
ML_INLINE vf vf_gather(const float *p, vi index) {
#if defined(__AVX512F__)
    return (vf)_mm512_i32gather_ps((__m512i)index, p, 4);
#elif defined(__AVX2__)
    return (vf)_mm256_i32gather_ps(p, (__m256i)index, 4);
#else
    vf x;
    for (int k = 0; k < VW; ++k) x[k] = p[index[k]];
    return x;
#endif
}

/* VW half-precision numbers as float32 and back (to nearest, ties to even). */
#if defined(__AVX512F__)
ML_INLINE vf vf_load_f16(const uint16_t *p) { return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
ML_INLINE void vf_store_f16(uint16_t *p, vf x) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__F16C__)
ML_INLINE vf vf_load_f16(const uint16_t *p) { return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
ML_INLINE void vf_store_f16(uint16_t *p, vf x) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT));
}
#else
typedef uint16_t vus __attribute__((vector_size(VW * 2)));
typedef uint16_t vus_u __attribute__((vector_size(VW * 2), aligned(2), may_alias));
/* Exponents differ by 112. Numbers below the smallest normal half come out right by a subtraction of floats, whose
 * operands are normal (denormals may be switched off). */
ML_INLINE vf vf_load_f16(const uint16_t *p) {
    vi h = __builtin_convertvector(*(const vus_u *)p, vi);
    vi bits = (h & 0x7FFF) << 13;
    vi exponent = bits & (0x7C00 << 13);
    vf normal = (vf)(bits + (112 << 23)), special = (vf)(bits + (224 << 23));
    vf small = (vf)(bits + (113 << 23)) - vf_set1(6.103515625e-05f);
    vf x = vf_select(exponent == (0x7C00 << 13), special, vf_select(exponent == 0, small, normal));
    return (vf)((vi)x | ((h & 0x8000) << 16));
}
ML_INLINE void vf_store_f16(uint16_t *p, vf x) {
    vi sign = (vi)x & (int32_t)0x80000000, bits = (vi)x ^ sign;
    vi odd = (bits >> 13) & 1;
    vi normal = (bits - (112 << 23) + 0xFFF + odd) >> 13;
    vi small = (vi)((vf)bits + vf_set1(0.5f)) - 0x3F000000;
    vi large = 0x7C00 | ((bits > 0x7F800000) & 0x200);
    vi h = (vi)vf_select(bits < (113 << 23), (vf)small, vf_select(bits >= 0x47800000, (vf)large, (vf)normal));
    *(vus_u *)p = __builtin_convertvector((vu)(h | ((vi)((vu)sign >> 16))), vus);
}
#endif

/* Lane k of the result is element order[k] of the 2 VW elements of a and b. */
ML_INLINE vf vf_permute2(vf a, vf b, vi order) {
#if defined(__AVX512F__)
    return (vf)_mm512_permutex2var_ps((__m512)a, (__m512i)order, (__m512)b);
#elif defined(__AVX2__)
    return vf_select(order < VW, vf_permute(a, order), vf_permute(b, order));
#else
    float both[2 * VW];
    vf_store(both, a);
    vf_store(both + VW, b);
    return vf_gather(both, order);
#endif
}

#endif
