/* What the instruction sets of x86-64 have in common: each of their headers begins with it. */
#ifndef MEGENGINE_LITE_SIMD_X86_H
#define MEGENGINE_LITE_SIMD_X86_H
#include <xmmintrin.h>

ML_INLINE vf vf_held(vf x) {
    __asm__("" : "+v"(x));
    return x;
}
ML_INLINE vf vf_product(vf a, vf b) {
    vf x = a * b;
    __asm__("" : "+v"(x));
    return x;
}
ML_INLINE void stream_end(void) { _mm_sfence(); }

#define vf_to_vi_any vf_to_vi /* the instruction gives -2^31 for what no int32 holds */
#define vf_fma_lane plain_vf_fma_lane
#define vf_fma_in_order plain_vf_fma_in_order
#define vi_dot_signed plain_vi_dot_signed
#define vi_load_quads plain_vi_load_quads
#define vi_dot_lane plain_vi_dot_lane
#define vi_dot_signed_lane plain_vi_dot_signed_lane
#define vi_spread_pair plain_vi_spread_pair
#define vi_byte_products plain_vi_byte_products
#define vi_add_pairs plain_vi_add_pairs
#define vi_even_pairs plain_vi_even_pairs
#define vi_odd_pairs plain_vi_odd_pairs
#define vi_matrix plain_vi_matrix
#define vi_matrix_signed plain_vi_matrix_signed

#endif
