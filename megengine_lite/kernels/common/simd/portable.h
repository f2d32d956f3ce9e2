/* Vectors of any width in plain C, which compilers turn into what the processor has. */
#ifndef MEGENGINE_LITE_SIMD_PORTABLE_H
#define MEGENGINE_LITE_SIMD_PORTABLE_H

#define vf_held plain_vf_held
#define vf_product plain_vf_product
#define vf_fma_lane plain_vf_fma_lane
#define vf_fma_in_order plain_vf_fma_in_order
#define vf_fma_memory plain_vf_fma_memory
#define vf_dot_bf16 plain_vf_dot_bf16
#define vf_dot_bf16_memory plain_vf_dot_bf16_memory
#define vf_narrow_bf16 plain_vf_narrow_bf16
#define vf_fma_in_place plain_vf_fma_in_place
#define vf_load_n plain_vf_load_n
#define vf_store_n plain_vf_store_n
#define vf_max plain_vf_max
#define vf_min plain_vf_min
#define vf_halves plain_vf_halves
#define vf_max_number plain_vf_max_number
#define vf_min_number plain_vf_min_number
#define vf_max_nan plain_vf_max_nan
#define vf_min_nan plain_vf_min_nan
#define vf_sqrt plain_vf_sqrt
#define vf_rint plain_vf_rint
#define vf_floor plain_vf_floor
#define vf_trunc plain_vf_trunc
#define vf_to_vi plain_vf_to_vi
#define vf_to_vi_any plain_vf_to_vi_any
#define vd_max plain_vd_max
#define vd_min plain_vd_min
#define vi_any plain_vi_any
#define vf_permute plain_vf_permute
#define vf_transpose plain_vf_transpose
#define vi_dot_pairs plain_vi_dot_pairs
#define vi_dot plain_vi_dot
#define vi_dot_signed plain_vi_dot_signed
#define vi_dot_short plain_vi_dot_short
#define vi_dot_short_signed plain_vi_dot_short_signed
#define vi_load_quads plain_vi_load_quads
#define vi_dot_lane plain_vi_dot_lane
#define vi_dot_signed_lane plain_vi_dot_signed_lane
#define vi_spread_pair plain_vi_spread_pair
#define vi_byte_products plain_vi_byte_products
#define vi_add_pairs plain_vi_add_pairs
#define vi_even_pairs plain_vi_even_pairs
#define vi_odd_pairs plain_vi_odd_pairs
#define vi_load_wide plain_vi_load_wide
#define vi_low_halves plain_vi_low_halves
#define vi_high_halves plain_vi_high_halves
#define vi_matrix plain_vi_matrix
#define vi_matrix_signed plain_vi_matrix_signed
#define vi_max plain_vi_max
#define vi_load_s8 plain_vi_load_s8
#define vi_store_8 plain_vi_store_8
#define vi_store_s8 plain_vi_store_s8
#define vi_store4_s8 plain_vi_store4_s8
#define bytes_lookup plain_bytes_lookup
#define vi_load_quad plain_vi_load_quad
#define vf_stream plain_vf_stream
#define stream_end plain_stream_end
#define vf_gather plain_vf_gather
#define vf_load_f16 plain_vf_load_f16
#define vf_store_f16 plain_vf_store_f16
#define vf_permute2 plain_vf_permute2

#endif
