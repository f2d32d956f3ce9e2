/* The operations that instruction sets have instructions for, in plain C: what each of them means.
 *
 * The header of an instruction set defines all of these names without `plain_`: by its own instructions, or by
 * `#define vf_max plain_vf_max` where it has none. portable.h takes all from here.
 */
#ifndef MEGENGINE_LITE_SIMD_PLAIN_H
#define MEGENGINE_LITE_SIMD_PLAIN_H

/* The value, held in a register: a compiler may otherwise load it from memory again for each use. */
ML_INLINE vf plain_vf_held(vf x) { return x; }

/* A product that is rounded before it is added to something: keeps the compiler from making one instruction of both. */
ML_INLINE vf plain_vf_product(vf a, vf b) {
    vf x = a * b;
    __asm__("" : "+m"(x));
    return x;
}

/* a[lane] b + c. */
ML_INLINE vf plain_vf_fma_lane(vf a, int lane, vf b, vf c) { return vf_fma(vf_set1(a[lane]), b, c); }

/* p[0] b + c, by one instruction where it can read its factor from memory. */
ML_INLINE vf plain_vf_fma_memory(const float *p, vf b, vf c) { return vf_fma(vf_set1(*p), b, c); }

/* sum + x0 w0 + x1 w1 for pairs of bfloat16. Nobody calls it where it is no instruction. */
ML_INLINE vf plain_vf_dot_bf16(vf x, vf w, vf sum) { return vf_fma(x, w, sum); }
ML_INLINE vf plain_vf_dot_bf16_memory(const float *x, vf w, vf sum) { return vf_fma(vf_set1(*x), w, sum); }
ML_INLINE void plain_vf_narrow_bf16(bf16 *p, vf x) { vf_store_bf16(p, x); }

/* vf_fma, at its place in the source where a compiler would choose a worse one. */
ML_INLINE vf plain_vf_fma_in_order(vf a, vf b, vf c) { return vf_fma(a, b, c); }

/* vf_fma whose result takes the register of c: for blocks of sums that need nearly all registers. */
ML_INLINE vf plain_vf_fma_in_place(vf a, vf b, vf c) { return vf_fma(a, b, c); }

/* Lanes [0, n) of memory, zeros above; and the matching store. n in 0..VW. */
ML_INLINE vf plain_vf_load_n(const float *p, int64_t n) {
    vf x = {};
    memcpy(&x, p, (size_t)n * 4);
    return x;
}
ML_INLINE void plain_vf_store_n(float *p, vf x, int64_t n) {
    memcpy(p, &x, (size_t)n * 4);
}

/* The lower half of a and the upper half of b. */
ML_INLINE vf plain_vf_halves(vf a, vf b) {
    memcpy((char *)&a + sizeof a / 2, (const char *)&b + sizeof b / 2, sizeof a / 2);
    return a;
}

/* NaN in a gives b. */
ML_INLINE vf plain_vf_max(vf a, vf b) { return vf_select(a > b, a, b); }
ML_INLINE vf plain_vf_min(vf a, vf b) { return vf_select(a < b, a, b); }
/* The same where b is no NaN and a a result of arithmetic, which may be one. */
ML_INLINE vf plain_vf_max_number(vf a, vf b) { return plain_vf_max(a, b); }
ML_INLINE vf plain_vf_min_number(vf a, vf b) { return plain_vf_min(a, b); }
/* The same where a is no NaN: NaN in b stays. */
ML_INLINE vf plain_vf_max_nan(vf a, vf b) { return plain_vf_max(a, b); }
ML_INLINE vf plain_vf_min_nan(vf a, vf b) { return plain_vf_min(a, b); }
ML_INLINE vf plain_vf_sqrt(vf a) { for (int k = 0; k < VW; ++k) a[k] = sqrtf(a[k]); return a; }
ML_INLINE vf plain_vf_rint(vf a) { for (int k = 0; k < VW; ++k) a[k] = rintf(a[k]); return a; }
ML_INLINE vf plain_vf_floor(vf a) { for (int k = 0; k < VW; ++k) a[k] = floorf(a[k]); return a; }
ML_INLINE vf plain_vf_trunc(vf a) { for (int k = 0; k < VW; ++k) a[k] = truncf(a[k]); return a; }
ML_INLINE vi plain_vf_to_vi(vf a) { return __builtin_convertvector(a, vi); }

/* Like vf_to_vi, for any number: what no int32 holds, NaN too, becomes -2^31. */
ML_INLINE vi plain_vf_to_vi_any(vf a) {
    vi fits = vf_lt(a, vf_set1(2147483648.0f)) & vf_le(vf_set1(-2147483648.0f), a);
    return (plain_vf_to_vi(vf_select(fits, a, vf_zero())) & fits) | (vi_set1(INT32_MIN) & ~fits);
}

ML_INLINE vd plain_vd_max(vd a, vd b) { for (int k = 0; k < VW / 2; ++k) a[k] = a[k] > b[k] ? a[k] : b[k]; return a; }
ML_INLINE vd plain_vd_min(vd a, vd b) { for (int k = 0; k < VW / 2; ++k) a[k] = a[k] < b[k] ? a[k] : b[k]; return a; }

/* Whether any lane of a comparison's result is true. */
ML_INLINE int plain_vi_any(vi m) {
    int r = 0;
    for (int k = 0; k < VW; ++k) r |= m[k];
    return r != 0;
}

/* Lane k of the result is lane order[k] of x. */
ML_INLINE vf plain_vf_permute(vf x, vi order) {
    vf y;
    for (int k = 0; k < VW; ++k) y[k] = x[order[k]];
    return y;
}

/* VW vectors as the rows of a matrix, and then as its columns: rounds of interleaving, VW / 2 vectors apart. */
ML_INLINE void ml_zip_round(vf *r) {
    vf t[VW];
    for (int k = 0; k < VW / 2; ++k) {
        t[2 * k] = vf_zip_low(r[k], r[k + VW / 2]);
        t[2 * k + 1] = vf_zip_high(r[k], r[k + VW / 2]);
    }
    for (int k = 0; k < VW; ++k) r[k] = t[k];
}
ML_INLINE void plain_vf_transpose(vf *r) {
    ml_zip_round(r);
    ml_zip_round(r);
    if (VW > 4) ml_zip_round(r);
    if (VW > 8) ml_zip_round(r);
}

/* See "8-bit integers" in simd.h. */
ML_INLINE vi plain_vi_dot_pairs(vi sum, vi a, vi b) { return sum + (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16); }
ML_INLINE vi plain_vi_dot(vi sum, vi x, vi w) {
    return plain_vi_dot_pairs(plain_vi_dot_pairs(sum, vi_even(x), vi_even(w)), vi_odd(x), vi_odd(w));
}

ML_INLINE vi plain_vi_dot_short(vi sum, vi x, vi w, vi x2, vi w2) { return plain_vi_dot(plain_vi_dot(sum, x, w), x2, w2); }
ML_INLINE vi plain_vi_dot_signed(vi sum, vi x, vi w) {
    return plain_vi_dot_pairs(plain_vi_dot_pairs(sum, vi_even(x), vi_even(w)), vi_odd(x), vi_odd(w));
}
ML_INLINE vi plain_vi_dot_short_signed(vi sum, vi x, vi w, vi x2, vi w2) {
    return plain_vi_dot_signed(plain_vi_dot_signed(sum, x, w), x2, w2);
}
ML_INLINE vi plain_vi_dot_lane(vi sum, vi x, int lane, vi w) { return plain_vi_dot(sum, vi_set1(x[lane]), w); }
ML_INLINE vi plain_vi_dot_signed_lane(vi sum, vi x, int lane, vi w) {
    return plain_vi_dot_signed(sum, vi_set1(x[lane]), w);
}

/* A pair of bytes, by its number, in all pairs; products of the lower or upper halves of bytes in 16 bits; sums of such
 * products and their neighbours; the first and the second pairs of all quads of a, then those of b. */
ML_INLINE vi plain_vi_spread_pair(vi x, int pair) { return (vi)(((vh)x)[pair] - (vh){}); }
ML_INLINE vi plain_vi_byte_products(vi x, vi w, int upper) {
    vh y;
    for (int k = 0; k < 2 * VW; ++k)
        y[k] = (int16_t)(((const int8_t *)&x)[2 * VW * upper + k] * ((const int8_t *)&w)[2 * VW * upper + k]);
    return (vi)y;
}
ML_INLINE vi plain_vi_add_pairs(vi sum, vi products) { return sum + (products << 16 >> 16) + (products >> 16); }
ML_INLINE vi plain_vi_even_pairs(vi a, vi b) {
    vh y;
    for (int k = 0; k < VW; ++k) y[k] = ((vh)a)[2 * k], y[VW + k] = ((vh)b)[2 * k];
    return (vi)y;
}
ML_INLINE vi plain_vi_odd_pairs(vi a, vi b) {
    vh y;
    for (int k = 0; k < VW; ++k) y[k] = ((vh)a)[2 * k + 1], y[VW + k] = ((vh)b)[2 * k + 1];
    return (vi)y;
}

typedef int8_t vb_two __attribute__((vector_size(VW * 2), aligned(1), may_alias));
ML_INLINE vi plain_vi_load_wide(const int8_t *p) { return (vi)__builtin_convertvector(*(const vb_two *)p, vh); }
ML_INLINE vi plain_vi_low_halves(vi a, vi b) {
    memcpy((char *)&a + sizeof a / 2, &b, sizeof a / 2);
    return a;
}
ML_INLINE vi plain_vi_high_halves(vi a, vi b) {
    memcpy(&b, (char *)&a + sizeof a / 2, sizeof a / 2);
    return b;
}

/* In each 16 bytes, two rows of eight times two of eight; x is unsigned, or signed. */
ML_INLINE vi plain_vi_matrix(vi sum, vi x, vi w) {
    for (int k = 0; k < VW; ++k)
        for (int b = 0; b < 8; ++b)
            sum[k] += ((const uint8_t *)&x)[k / 2 * 8 + b] * ((const int8_t *)&w)[(k / 4 * 2 + k % 2) * 8 + b];
    return sum;
}
ML_INLINE vi plain_vi_matrix_signed(vi sum, vi x, vi w) {
    for (int k = 0; k < VW; ++k)
        for (int b = 0; b < 8; ++b)
            sum[k] += ((const int8_t *)&x)[k / 2 * 8 + b] * ((const int8_t *)&w)[(k / 4 * 2 + k % 2) * 8 + b];
    return sum;
}

/* The first n quads of bytes, n in 1..4, zeros above. */
ML_INLINE vi plain_vi_load_quads(const void *p, int n) {
    vi x = {};
    memcpy(&x, p, (size_t)n * 4);
    return x;
}

ML_INLINE vi plain_vi_max(vi a, vi b) {
    vi greater = a > b;
    return (a & greater) | (b & ~greater);
}

/* VW signed bytes as a vector of int32, and the low bytes of one. */
ML_INLINE vi plain_vi_load_s8(const int8_t *p) {
    return __builtin_convertvector(*(const vb_u *)p, vi);
}
ML_INLINE void plain_vi_store_8(int8_t *p, vi x) {
    *(vb_u *)p = __builtin_convertvector(x, vb);
}

/* VW signed bytes, saturated. */
ML_INLINE void plain_vi_store_s8(int8_t *p, vi x) {
    for (int k = 0; k < VW; ++k) p[k] = (int8_t)(x[k] < -128 ? -128 : x[k] > 127 ? 127 : x[k]);
}

/* Four of them, one after the other in memory, and at least `low`, a constant. */
ML_INLINE void plain_vi_store4_s8(int low, int8_t *p, vi a, vi b, vi c, vi d) {
    const vi least = (vi){} + low;
    plain_vi_store_s8(p, plain_vi_max(a, least));
    plain_vi_store_s8(p + VW, plain_vi_max(b, least));
    plain_vi_store_s8(p + 2 * VW, plain_vi_max(c, least));
    plain_vi_store_s8(p + 3 * VW, plain_vi_max(d, least));
}

/* y[k] = table[x[k]] for bytes; the table has 256 entries. */
ML_INLINE void plain_bytes_lookup(const uint8_t *table, const uint8_t *x, uint8_t *y, int64_t n) {
    for (int64_t k = 0; k < n; ++k) y[k] = table[x[k]];
}

/* Four neighbouring pixels of VW bytes, turned around: lane k has byte k of each. */
ML_INLINE vi plain_vi_load_quad(const void *p) {
    vi x;
    for (int k = 0; k < VW; ++k)
        for (int j = 0; j < 4; ++j) ((char *)&x)[4 * k + j] = ((const char *)p)[j * VW + k];
    return x;
}

/* Stores past the caches, for results larger than them; p is aligned to a vector. stream_end() goes after the last. */
ML_INLINE void plain_vf_stream(float *p, vf x) { vf_store(p, x); }
ML_INLINE void plain_stream_end(void) {}

/* Lane k is p[index[k]]. */
ML_INLINE vf plain_vf_gather(const float *p, vi index) {
    vf x;
    for (int k = 0; k < VW; ++k) x[k] = p[index[k]];
    return x;
}

/* VW half-precision numbers as float32 and back (to nearest, ties to even). Exponents differ by 112. Numbers below the
 * smallest normal half come out right by a subtraction of floats, whose operands are normal (denormals may be switched
 * off). */
ML_INLINE vf plain_vf_load_f16(const uint16_t *p) {
    vi h = __builtin_convertvector(*(const vus_u *)p, vi);
    vi bits = (h & 0x7FFF) << 13;
    vi exponent = bits & (0x7C00 << 13);
    vf normal = (vf)(bits + (112 << 23)), special = (vf)(bits + (224 << 23));
    vf small = (vf)(bits + (113 << 23)) - vf_set1(6.103515625e-05f);
    vf x = vf_select(exponent == (0x7C00 << 13), special, vf_select(exponent == 0, small, normal));
    return (vf)((vi)x | ((h & 0x8000) << 16));
}
ML_INLINE void plain_vf_store_f16(uint16_t *p, vf x) {
    vi sign = (vi)x & (int32_t)0x80000000, bits = (vi)x ^ sign;
    vi odd = (bits >> 13) & 1;
    vi normal = (bits - (112 << 23) + 0xFFF + odd) >> 13;
    vi small = (vi)((vf)bits + vf_set1(0.5f)) - 0x3F000000;
    vi large = 0x7C00 | ((bits > 0x7F800000) & 0x200);
    vi h = (vi)vf_select(bits < (113 << 23), (vf)small, vf_select(bits >= 0x47800000, (vf)large, (vf)normal));
    *(vus_u *)p = __builtin_convertvector((vu)(h | ((vi)((vu)sign >> 16))), vus);
}

/* Lane k of the result is element order[k] of the 2 VW elements of a and b. */
ML_INLINE vf plain_vf_permute2(vf a, vf b, vi order) {
    float both[2 * VW];
    vf_store(both, a);
    vf_store(both + VW, b);
    return plain_vf_gather(both, order);
}

#endif
