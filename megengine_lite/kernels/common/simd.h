/* Vector types and the few vector operations that the kernels need.
 *
 * What depends on the instruction set comes from the build, which reads it from the table in _core/cpu/isa.py:
 *
 *   ML_SIMD_HEADER  the header of the set, simd/avx2.h say; no other file has #if on an instruction set
 *   VW              float32 lanes of a vector, also the channel-block width of the blocked layout (4: NCHW44, 8: NCHW88)
 *   VREGS           vector registers: how large a block of a product can be
 *   DOT_UNSIGNED    whether vi_dot multiplies all unsigned bytes, and kernels give it nothing else
 *   DOT_SIGNED      whether vi_dot_signed is to be used: it multiplies all signed bytes
 *   DOT_SHORT       whether vi_dot_short and vi_dot_short_signed are worth the choice: they add eight products in 16 bits
 *   DOT_STEPS       whether a dot product takes several instructions, and registers for what is between them
 *   DOT_MATRIX      whether vi_matrix and vi_matrix_signed are instructions, with twice the products of vi_dot
 *   DOT_BFLOAT16    whether vf_dot_bf16 is an instruction, for processors that have one more feature; nobody calls it else
 *   BY_LANE         whether multiplications by one lane of a vector are better than by a number from memory
 *
 * All loads and stores are unaligned: tensors may live in memory that the user gave us.
 */
#ifndef MEGENGINE_LITE_SIMD_H
#define MEGENGINE_LITE_SIMD_H

#ifndef ML_SIMD_HEADER
#error "kernels are compiled by setup.py, which says for which instruction set"
#endif

#include <math.h>
#include <stdint.h>
#include <string.h>

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
ML_INLINE vi vi_select(vi mask, vi yes, vi no) { return (mask & yes) | (~mask & no); }
ML_INLINE vi vi_lt(vi a, vi b) { return a < b; }

/* bfloat16: the upper half of a float32. Two vectors of them are stored as pairs: the low half of lane k is number k of the
 * first vector, the high half that of the second. */
typedef struct { uint16_t bits; } bf16;
typedef struct { uint16_t bits; } f16;
typedef struct { bf16 first, second; } bf16_pair;
typedef uint16_t vus __attribute__((vector_size(VW * 2)));
typedef uint16_t vus_u __attribute__((vector_size(VW * 2), aligned(2), may_alias));

ML_INLINE vf vf_load_bf16(const bf16 *p) { return (vf)(__builtin_convertvector(*(const vus_u *)p, vu) << 16); }
ML_INLINE vf vf_first_of_pairs(vi pairs) { return (vf)(pairs << 16); }
ML_INLINE vf vf_second_of_pairs(vi pairs) { return (vf)(pairs & (int32_t)0xFFFF0000); }
/* Rounded to bfloat16, ties to even; the lower halves are zero. NaN stays NaN. */
ML_INLINE vi vi_rounded_bf16(vf x) {
    vu bits = (vu)x, rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000;
    return vi_select((vi)(x == x), (vi)rounded, (vi)((bits | 0x400000) & 0xFFFF0000));
}
ML_INLINE void vf_store_bf16(bf16 *p, vf x) { *(vus_u *)p = __builtin_convertvector((vu)vi_rounded_bf16(x) >> 16, vus); }
ML_INLINE vi vi_pairs_bf16(vf first, vf second) {
    return (vi)((vu)vi_rounded_bf16(first) >> 16) | vi_rounded_bf16(second);
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

/* x, and 0 where x is infinite or NaN. */
ML_INLINE vd vd_finite(vd x) {
    vdu finite = (vdu)(x - x == (vd){});
    return (vd)((vdu)x & finite);
}
/* The nearest integers, halves to even, of numbers that int32 can hold: adding 1.5 2^52 leaves them in the low bits. */
typedef uint32_t vu_half __attribute__((vector_size(VW * 2)));
ML_INLINE vi vi_from_vd(vd low, vd high) {
    vi x;
    vu_half h = __builtin_convertvector((vdu)(low + vd_set1(6755399441055744.0)), vu_half);
    vu_half g = __builtin_convertvector((vdu)(high + vd_set1(6755399441055744.0)), vu_half);
    memcpy(&x, &h, sizeof h);
    memcpy((char *)&x + sizeof h, &g, sizeof g);
    return x;
}

/* Interleaving of two vectors, a0 b0 a1 b1 ...: its lower and upper half, or a0 b0 a2 b2 ... of it; and the way back. */
#if defined(__clang__) || __GNUC__ >= 12
#define ML_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define ML_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vi){__VA_ARGS__})
#endif
#if VW == 16
ML_INLINE vf vf_zip_low(vf a, vf b) { return ML_SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23); }
ML_INLINE vf vf_zip_high(vf a, vf b) { return ML_SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31); }
ML_INLINE vf vf_zip_even(vf a, vf b) { return ML_SHUFFLE(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30); }
ML_INLINE vf vf_unzip_even(vf a, vf b) { return ML_SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30); }
ML_INLINE vf vf_unzip_odd(vf a, vf b) { return ML_SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31); }
#elif VW == 8
ML_INLINE vf vf_zip_low(vf a, vf b) { return ML_SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
ML_INLINE vf vf_zip_high(vf a, vf b) { return ML_SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
ML_INLINE vf vf_zip_even(vf a, vf b) { return ML_SHUFFLE(a, b, 0, 8, 2, 10, 4, 12, 6, 14); }
ML_INLINE vf vf_unzip_even(vf a, vf b) { return ML_SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14); }
ML_INLINE vf vf_unzip_odd(vf a, vf b) { return ML_SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15); }
#else
ML_INLINE vf vf_zip_low(vf a, vf b) { return ML_SHUFFLE(a, b, 0, 4, 1, 5); }
ML_INLINE vf vf_zip_high(vf a, vf b) { return ML_SHUFFLE(a, b, 2, 6, 3, 7); }
ML_INLINE vf vf_zip_even(vf a, vf b) { return ML_SHUFFLE(a, b, 0, 4, 2, 6); }
ML_INLINE vf vf_unzip_even(vf a, vf b) { return ML_SHUFFLE(a, b, 0, 2, 4, 6); }
ML_INLINE vf vf_unzip_odd(vf a, vf b) { return ML_SHUFFLE(a, b, 1, 3, 5, 7); }
#endif

/* Lane `lane` of each `group` neighbouring lanes, in all of them: group is 2, 4 or 8, and less than VW. */
#define ML_SPREAD(K, G, L) ((K) / (G) * (G) + (L))
#define ML_SPREAD_4(K, G, L) ML_SPREAD(K, G, L), ML_SPREAD(K + 1, G, L), ML_SPREAD(K + 2, G, L), ML_SPREAD(K + 3, G, L)
#define ML_SPREAD_8(K, G, L) ML_SPREAD_4(K, G, L), ML_SPREAD_4(K + 4, G, L)
#if VW == 16
#define ML_SPREAD_ALL(G, L) ML_SPREAD_8(0, G, L), ML_SPREAD_8(8, G, L)
#elif VW == 8
#define ML_SPREAD_ALL(G, L) ML_SPREAD_8(0, G, L)
#else
#define ML_SPREAD_ALL(G, L) ML_SPREAD_4(0, G, L)
#endif
#define ML_SPREAD_IF(G, L) if (group == (G) && lane == (L)) return ML_SHUFFLE(x, x, ML_SPREAD_ALL(G, L))
ML_INLINE vf vf_spread(int group, int lane, vf x) {
    ML_SPREAD_IF(2, 0);
    ML_SPREAD_IF(2, 1);
#if VW > 4
    ML_SPREAD_IF(4, 0);
    ML_SPREAD_IF(4, 1);
    ML_SPREAD_IF(4, 2);
    ML_SPREAD_IF(4, 3);
#endif
#if VW > 8
    ML_SPREAD_IF(8, 0);
    ML_SPREAD_IF(8, 1);
    ML_SPREAD_IF(8, 2);
    ML_SPREAD_IF(8, 3);
    ML_SPREAD_IF(8, 4);
    ML_SPREAD_IF(8, 5);
    ML_SPREAD_IF(8, 6);
    ML_SPREAD_IF(8, 7);
#endif
    return x;
}

/* ---- 8-bit integers ------------------------------------------------------------------------------------------------
 *
 * Products are summed up in fours: lane k of vi_dot adds x[4k..4k+3] . w[4k..4k+3], with signed w. VNNI multiplies all
 * unsigned x (DOT_UNSIGNED); on other x86 processors the instruction for u8 x s8 saturates, so it serves x in 0..127
 * only, and other x are multiplied as signed 16-bit numbers: vi_even and vi_odd split a vector into bytes 0, 2 and
 * bytes 1, 3 of each lane, vi_dot_pairs sums up pairs. Where the sums of eight products fit 16 bits (DOT_SHORT, and
 * weights that are small enough), vi_dot_short and vi_dot_short_signed take two quads at a time. ARM64 multiplies signed x by vi_dot_signed (DOT_SIGNED).
 * vi_dot_lane and vi_dot_signed_lane take lane k of x, a constant, for all lanes (BY_LANE). vi_matrix and
 * vi_matrix_signed multiply two rows of eight bytes of x with two of w: the four sums are those of the first row of x with
 * both of w, then of the second (DOT_MATRIX). vi_load_wide makes 16-bit numbers of 2 VW signed bytes.
 * vi_low_halves and vi_high_halves take the lower, or the upper halves of two vectors, one behind the other.
 */
typedef int16_t vh __attribute__((vector_size(VW * 4)));
typedef int32_t dword_u __attribute__((aligned(1), may_alias));

ML_INLINE vi vi_set1_bytes(const void *p) { return vi_set1(*(const dword_u *)p); }
ML_INLINE vi vi_even(vi x) { return (vi)((vh)x << 8 >> 8); }
ML_INLINE vi vi_odd(vi x) { return (vi)((vh)x >> 8); }
/* Of numbers of 16 bits, twice as many as lanes. */
ML_INLINE vi vi_add_16(vi a, vi b) { return (vi)((vh)a + (vh)b); }
ML_INLINE vi vi_subtract_16(vi a, vi b) { return (vi)((vh)a - (vh)b); }
ML_INLINE vi vi_shift_right(vi a, int bits) { return a >> bits; }

/* Vectors of VW bytes. */
ML_INLINE vb vb_load(const int8_t *p) { return *(const vb_u *)p; }
ML_INLINE void vb_store(int8_t *p, vb x) { *(vb_u *)p = x; }
ML_INLINE vb vb_set1(int8_t x) { return x - (vb){}; }
ML_INLINE vb vb_max(vb a, vb b) {
    vb greater = a > b;
    return (a & greater) | (b & ~greater);
}

/* p + step. The compiler does not see it, and so does not keep p + k step for every k, which would be on the stack. */
#define moved_by(p, step)                        \
    ({                                           \
        __typeof__(p) ml_moved = (p) + (step);   \
        __asm__("" : "+r"(ml_moved));            \
        ml_moved;                                \
    })

/* What was loaded before is loaded again after this, instead of being kept: in more registers than there are, perhaps.
 * And nothing that stands after it is loaded before. */
ML_INLINE void forget_loads(void) { __asm__ volatile("" ::: "memory"); }

/* Any address may be given; into the first cache, only into the second, or there to be written. */
ML_INLINE void prefetch(const void *p) { __builtin_prefetch(p); }
ML_INLINE void prefetch_far(const void *p) { __builtin_prefetch(p, 0, 2); }
ML_INLINE void prefetch_write(const void *p) { __builtin_prefetch(p, 1, 2); }

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

#include "simd/plain.h"
#define ML_QUOTED(path) #path
#define ML_FILE(path) ML_QUOTED(path)
#include ML_FILE(ML_SIMD_HEADER)

#endif
