/* ARM64: vectors of 4 floats, 32 registers. Dot products of bytes as the compiler may use them: SMMLA and USMMLA,
 * SDOT and USDOT, or SMULL. */
#ifndef MEGENGINE_LITE_SIMD_NEON_H
#define MEGENGINE_LITE_SIMD_NEON_H
#include <arm_neon.h>

/* Instructions by lane take the number of the lane as a constant; where it is one, this is the one instruction. */
#define ML_BY_LANE(lane, instruction, ...)             \
    switch (lane) {                                    \
    case 0: return instruction(__VA_ARGS__, 0);        \
    case 1: return instruction(__VA_ARGS__, 1);        \
    case 2: return instruction(__VA_ARGS__, 2);        \
    default: return instruction(__VA_ARGS__, 3);       \
    }

ML_INLINE vf vf_held(vf x) {
    __asm__("" : "+w"(x));
    return x;
}
ML_INLINE vf vf_product(vf a, vf b) {
    vf x = a * b;
    __asm__("" : "+w"(x));
    return x;
}
/* gcc would make a vector of a lane that is used twice, bring loads forward, and run out of registers. What is volatile
 * stays in the order of the source. clang needs no such help. */
#if defined(__clang__)
#define ML_FMA_LANE(c, b, a, lane) (vf)vfmaq_laneq_f32((float32x4_t)(c), (float32x4_t)(b), (float32x4_t)(a), lane)
ML_INLINE vf vf_fma_in_order(vf a, vf b, vf c) { return vf_fma(a, b, c); }
#else
#define ML_FMA_LANE(c, b, a, lane)                                                                   \
    ({                                                                                               \
        vf ml_sum = c;                                                                               \
        __asm__ volatile("fmla %0.4s, %1.4s, %2.s[" #lane "]" : "+w"(ml_sum) : "w"(b), "w"(a));      \
        ml_sum;                                                                                      \
    })
ML_INLINE vf vf_fma_in_order(vf a, vf b, vf c) {
    __asm__ volatile("fmla %0.4s, %1.4s, %2.4s" : "+w"(c) : "w"(a), "w"(b));
    return c;
}
#endif
#define vf_fma_in_place plain_vf_fma_in_place
ML_INLINE vf vf_fma_lane(vf a, int lane, vf b, vf c) { ML_BY_LANE(lane, ML_FMA_LANE, c, b, a) }

ML_INLINE vf vf_halves(vf a, vf b) {
    return (vf)vcombine_f32(vget_low_f32((float32x4_t)a), vget_high_f32((float32x4_t)b));
}

/* FMAX gives NaN and FMAXNM the other number, wherever NaN stands. */
ML_INLINE vf vf_max(vf a, vf b) {
    return (vf)vbslq_f32(vcgtq_f32((float32x4_t)a, (float32x4_t)b), (float32x4_t)a, (float32x4_t)b);
}
ML_INLINE vf vf_min(vf a, vf b) {
    return (vf)vbslq_f32(vcltq_f32((float32x4_t)a, (float32x4_t)b), (float32x4_t)a, (float32x4_t)b);
}
ML_INLINE vf vf_max_number(vf a, vf b) { return (vf)vmaxnmq_f32((float32x4_t)a, (float32x4_t)b); }
ML_INLINE vf vf_min_number(vf a, vf b) { return (vf)vminnmq_f32((float32x4_t)a, (float32x4_t)b); }
ML_INLINE vf vf_max_nan(vf a, vf b) { return (vf)vmaxq_f32((float32x4_t)a, (float32x4_t)b); }
ML_INLINE vf vf_min_nan(vf a, vf b) { return (vf)vminq_f32((float32x4_t)a, (float32x4_t)b); }
ML_INLINE vf vf_sqrt(vf a) { return (vf)vsqrtq_f32((float32x4_t)a); }
ML_INLINE vf vf_rint(vf a) { return (vf)vrndnq_f32((float32x4_t)a); }
ML_INLINE vf vf_floor(vf a) { return (vf)vrndmq_f32((float32x4_t)a); }
ML_INLINE vf vf_trunc(vf a) { return (vf)vrndq_f32((float32x4_t)a); }
ML_INLINE vi vf_to_vi(vf a) { return (vi)vcvtq_s32_f32((float32x4_t)a); }
/* FCVTZS gives the nearest int32, and 0 for NaN; -2^31 by itself it gives for the number alone and what is below. */
ML_INLINE vi vf_to_vi_any(vf a) {
    uint32x4_t below = vcltq_f32((float32x4_t)a, vdupq_n_f32(2147483648.0f)); /* false for NaN */
    return (vi)vbslq_s32(below, vcvtq_s32_f32((float32x4_t)a), vdupq_n_s32(INT32_MIN));
}
ML_INLINE vd vd_max(vd a, vd b) {
    return (vd)vbslq_f64(vcgtq_f64((float64x2_t)a, (float64x2_t)b), (float64x2_t)a, (float64x2_t)b);
}
ML_INLINE vd vd_min(vd a, vd b) {
    return (vd)vbslq_f64(vcltq_f64((float64x2_t)a, (float64x2_t)b), (float64x2_t)a, (float64x2_t)b);
}
ML_INLINE int vi_any(vi m) { return vmaxvq_u32((uint32x4_t)m) != 0; }

/* Bytes 4 k .. 4 k + 3 for each lane k of the order. */
ML_INLINE uint8x16_t ml_byte_order(vi order) {
    return (uint8x16_t)vmlaq_n_u32(vdupq_n_u32(0x03020100), (uint32x4_t)order, 0x04040404);
}
ML_INLINE vf vf_permute(vf x, vi order) { return (vf)vqtbl1q_u8((uint8x16_t)x, ml_byte_order(order)); }
ML_INLINE vf vf_permute2(vf a, vf b, vi order) {
    uint8x16x2_t both = {{(uint8x16_t)a, (uint8x16_t)b}};
    return (vf)vqtbl2q_u8(both, ml_byte_order(order));
}

ML_INLINE vi vi_dot_pairs(vi sum, vi a, vi b) {
    int32x4_t low = vmull_s16(vget_low_s16((int16x8_t)a), vget_low_s16((int16x8_t)b));
    int32x4_t high = vmull_high_s16((int16x8_t)a, (int16x8_t)b);
    return sum + (vi)vpaddq_s32(low, high);
}
#if defined(__ARM_FEATURE_DOTPROD)
#define ML_SDOT_LANE(...) (vi)vdotq_laneq_s32(__VA_ARGS__)
ML_INLINE vi vi_dot_signed(vi sum, vi x, vi w) {
    return (vi)vdotq_s32((int32x4_t)sum, (int8x16_t)x, (int8x16_t)w);
}
ML_INLINE vi vi_dot_signed_lane(vi sum, vi x, int lane, vi w) {
    ML_BY_LANE(lane, ML_SDOT_LANE, (int32x4_t)sum, (int8x16_t)w, (int8x16_t)x)
}
#else
/* Sums of two products of bytes fit 16 bits but for (-128)^2 + (-128)^2. */
ML_INLINE vi vi_dot_signed(vi sum, vi x, vi w) {
    int16x8_t low = vmull_s8(vget_low_s8((int8x16_t)x), vget_low_s8((int8x16_t)w));
    int16x8_t high = vmull_high_s8((int8x16_t)x, (int8x16_t)w);
    return sum + (vi)vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high));
}
ML_INLINE vi vi_dot_signed_lane(vi sum, vi x, int lane, vi w) { return vi_dot_signed(sum, vi_set1(x[lane]), w); }
#endif
/* SMULL and SADALP, which are exact for all signed bytes; volatile for the reason above. */
ML_INLINE vi vi_even_pairs(vi a, vi b) { return (vi)vuzp1q_s16((int16x8_t)a, (int16x8_t)b); }
ML_INLINE vi vi_odd_pairs(vi a, vi b) { return (vi)vuzp2q_s16((int16x8_t)a, (int16x8_t)b); }
#if defined(__clang__)
#define ML_SPREAD_PAIR(x, pair) (vi)vdupq_laneq_s16((int16x8_t)(x), pair)
ML_INLINE vi vi_byte_products(vi x, vi w, int upper) {
    if (upper) return (vi)vmull_high_s8((int8x16_t)w, (int8x16_t)x);
    return (vi)vmull_s8(vget_low_s8((int8x16_t)w), vget_low_s8((int8x16_t)x));
}
ML_INLINE vi vi_add_pairs(vi sum, vi products) { return (vi)vpadalq_s16((int32x4_t)sum, (int16x8_t)products); }
#else
#define ML_SPREAD_PAIR(x, pair)                                                       \
    ({                                                                                \
        vi ml_all;                                                                    \
        __asm__ volatile("dup %0.8h, %1.h[" #pair "]" : "=w"(ml_all) : "w"(x));       \
        ml_all;                                                                       \
    })
ML_INLINE vi vi_byte_products(vi x, vi w, int upper) {
    vi products;
    if (upper) {
        __asm__ volatile("smull2 %0.8h, %1.16b, %2.16b" : "=w"(products) : "w"(w), "w"(x));
    } else {
        __asm__ volatile("smull %0.8h, %1.8b, %2.8b" : "=w"(products) : "w"(w), "w"(x));
    }
    return products;
}
ML_INLINE vi vi_add_pairs(vi sum, vi products) {
    __asm__ volatile("sadalp %0.4s, %1.8h" : "+w"(sum) : "w"(products));
    return sum;
}
#endif
ML_INLINE vi vi_spread_pair(vi x, int pair) {
    switch (pair) {
    case 0: return ML_SPREAD_PAIR(x, 0);
    case 1: return ML_SPREAD_PAIR(x, 1);
    case 2: return ML_SPREAD_PAIR(x, 2);
    case 3: return ML_SPREAD_PAIR(x, 3);
    case 4: return ML_SPREAD_PAIR(x, 4);
    case 5: return ML_SPREAD_PAIR(x, 5);
    case 6: return ML_SPREAD_PAIR(x, 6);
    default: return ML_SPREAD_PAIR(x, 7);
    }
}
#if defined(__ARM_FEATURE_MATMUL_INT8)
ML_INLINE vi vi_dot(vi sum, vi x, vi w) {
    return (vi)vusdotq_s32((int32x4_t)sum, (uint8x16_t)x, (int8x16_t)w);
}
/* SUDOT: signed bytes by a lane of unsigned ones. */
#define ML_SUDOT_LANE(...) (vi)vsudotq_laneq_s32(__VA_ARGS__)
ML_INLINE vi vi_dot_lane(vi sum, vi x, int lane, vi w) {
    ML_BY_LANE(lane, ML_SUDOT_LANE, (int32x4_t)sum, (int8x16_t)w, (uint8x16_t)x)
}
/* USMMLA and SMMLA; volatile for the reason above. */
#if defined(__clang__)
ML_INLINE vi vi_matrix(vi sum, vi x, vi w) {
    return (vi)vusmmlaq_s32((int32x4_t)sum, (uint8x16_t)x, (int8x16_t)w);
}
ML_INLINE vi vi_matrix_signed(vi sum, vi x, vi w) {
    return (vi)vmmlaq_s32((int32x4_t)sum, (int8x16_t)x, (int8x16_t)w);
}
#else
ML_INLINE vi vi_matrix(vi sum, vi x, vi w) {
    __asm__ volatile("usmmla %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(x), "w"(w));
    return sum;
}
ML_INLINE vi vi_matrix_signed(vi sum, vi x, vi w) {
    __asm__ volatile("smmla %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(x), "w"(w));
    return sum;
}
#endif
#elif defined(__ARM_FEATURE_DOTPROD)
#define vi_dot vi_dot_signed
#define vi_dot_lane vi_dot_signed_lane
#else
/* x in 0..127: sums of two products fit 16 bits. */
ML_INLINE vi vi_dot(vi sum, vi x, vi w) {
    int16x8_t low = vmull_s8(vget_low_s8((int8x16_t)x), vget_low_s8((int8x16_t)w));
    int16x8_t high = vmull_high_s8((int8x16_t)x, (int8x16_t)w);
    return (vi)vpadalq_s16((int32x4_t)sum, vpaddq_s16(low, high));
}
ML_INLINE vi vi_dot_lane(vi sum, vi x, int lane, vi w) { return vi_dot(sum, vi_set1(x[lane]), w); }
#endif
#if !defined(__ARM_FEATURE_MATMUL_INT8)
#define vi_matrix plain_vi_matrix
#define vi_matrix_signed plain_vi_matrix_signed
#endif

ML_INLINE vi vi_max(vi a, vi b) { return (vi)vmaxq_s32((int32x4_t)a, (int32x4_t)b); }
ML_INLINE vi vi_load_s8(const int8_t *p) {
    int32x2_t bytes = vdup_n_s32(*(const dword_u *)p);
    return (vi)vmovl_s16(vget_low_s16(vmovl_s8((int8x8_t)bytes)));
}
ML_INLINE void vi_store_8(int8_t *p, vi x) {
    int16x4_t words = vmovn_s32((int32x4_t)x);
    *(dword_u *)p = vget_lane_s32((int32x2_t)vmovn_s16(vcombine_s16(words, words)), 0);
}
ML_INLINE void vi_store_s8(int8_t *p, vi x) {
    int16x4_t words = vqmovn_s32((int32x4_t)x);
    *(dword_u *)p = vget_lane_s32((int32x2_t)vqmovn_s16(vcombine_s16(words, words)), 0);
}
ML_INLINE void vi_store4_s8(int low, int8_t *p, vi a, vi b, vi c, vi d) {
    int16x8_t ab = vqmovn_high_s32(vqmovn_s32((int32x4_t)a), (int32x4_t)b);
    int16x8_t cd = vqmovn_high_s32(vqmovn_s32((int32x4_t)c), (int32x4_t)d);
    int8x16_t bytes = vqmovn_high_s16(vqmovn_s16(ab), cd);
    vst1q_s8(p, low > -128 ? vmaxq_s8(bytes, vdupq_n_s8((int8_t)low)) : bytes);
}
ML_INLINE void bytes_lookup(const uint8_t *table, const uint8_t *x, uint8_t *y, int64_t n) {
    const uint8x16x4_t t0 = vld1q_u8_x4(table), t1 = vld1q_u8_x4(table + 64);
    const uint8x16x4_t t2 = vld1q_u8_x4(table + 128), t3 = vld1q_u8_x4(table + 192);
    int64_t k = 0;
    for (; k + 16 <= n; k += 16) { /* an index that is too large leaves the byte as it is, by TBL as 0 */
        uint8x16_t index = vld1q_u8(x + k), found = vqtbl4q_u8(t0, index);
        found = vqtbx4q_u8(found, t1, vsubq_u8(index, vdupq_n_u8(64)));
        found = vqtbx4q_u8(found, t2, vsubq_u8(index, vdupq_n_u8(128)));
        vst1q_u8(y + k, vqtbx4q_u8(found, t3, vsubq_u8(index, vdupq_n_u8(192))));
    }
    for (; k < n; ++k) y[k] = table[x[k]];
}
ML_INLINE vi vi_load_quad(const void *p) {
    static const uint8_t turn[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
    return (vi)vqtbl1q_u8(vld1q_u8((const uint8_t *)p), vld1q_u8(turn));
}
ML_INLINE vi vi_load_quads(const void *p, int n) {
    const int8_t *at = (const int8_t *)p;
    if (n >= 4) return (vi)vld1q_s8(at);
    if (n == 1) return (vi)vsetq_lane_s32(*(const dword_u *)at, vdupq_n_s32(0), 0);
    int32x4_t two = (int32x4_t)vcombine_s8(vld1_s8(at), vdup_n_s8(0));
    return (vi)(n == 3 ? vsetq_lane_s32(*(const dword_u *)(at + 8), two, 2) : two);
}
/* FCVTL. As gcc's own function it reads the rounding mode, and gcc then keeps the sums of a loop in memory. */
ML_INLINE vf vf_load_f16(const uint16_t *p) {
    vus half = *(const vus_u *)p;
#if defined(__clang__)
    return (vf)vcvt_f32_f16((float16x4_t)half);
#else
    vf x;
    __asm__("fcvtl %0.4s, %1.4h" : "=w"(x) : "w"(half));
    return x;
#endif
}
ML_INLINE void vf_store_f16(uint16_t *p, vf x) { vst1_u16(p, (uint16x4_t)vcvt_f16_f32((float32x4_t)x)); }

#define vf_transpose plain_vf_transpose
#define vi_dot_short plain_vi_dot_short
#define vi_dot_short_signed plain_vi_dot_short_signed
#define vi_load_wide plain_vi_load_wide
#define vi_low_halves plain_vi_low_halves
#define vi_high_halves plain_vi_high_halves
#define vf_fma_memory plain_vf_fma_memory
#define vf_dot_bf16 plain_vf_dot_bf16
#define vf_dot_bf16_memory plain_vf_dot_bf16_memory
#define vf_narrow_bf16 plain_vf_narrow_bf16
#define vf_load_n plain_vf_load_n
#define vf_store_n plain_vf_store_n
#define vf_stream plain_vf_stream
#define stream_end plain_stream_end
#define vf_gather plain_vf_gather

#endif
