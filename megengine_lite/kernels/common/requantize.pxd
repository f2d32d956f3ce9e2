# From int32 sums of products to stored results: the epilogue of 8-bit convolutions and matrix products.
#
#   real = sum scale + real_bias
#   real = round(clamp(real (1 / mid_divisor))) mid_scale    if `staged`: the sum has a type of its own before z
#   real = activation(real + (z - z_zero) z_scale)
#   y    = round(real (1 / y_scale)) clamped, plus y_zero
#
# As in the original, each product is rounded to float32, and rounding to integers adds a half and truncates; so ties go
# to the same side. For ONNX, ties go to even numbers, and each channel may have a scale of its own. Blocks of sums go through memory: so this code is once in a kernel, and not in every unrolled block.
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t

from megengine_lite.kernels.common.arguments cimport Requantize
from megengine_lite.kernels.common.shared_constants cimport OUT_BYTES, OUT_REAL, OUT_SUM
from megengine_lite.kernels.common.simd cimport (
    VW, inlined, outlined, vf, vf_load, vf_max_number, vf_min_nan, vf_product, vf_rint, vf_set1, vf_store, vf_to_vi,
    vf_to_vi_any, vf_trunc, vi, vi_load, vi_load_s8, vi_max, vi_set1, vi_store, vi_store4_s8, vi_store_8, vi_store_s8, vi_to_vf,
)
from megengine_lite.kernels.common.vmath cimport ACT_NONE, activate, v_copysign

cdef enum OutputPath:
    PATH_ANY = 0
    PATH_POSITIVE = 1  # 0..127, a scaled sum
    PATH_SIGNED = 2    # -128..127, a scaled sum
    PATH_RESIDUAL = 3  # at most 127, a scaled sum and a z without zero points
    PATH_EVEN = 4      # all that PATH_ANY does, with ties to even, and a scale for each channel if there are such
    PATH_EVEN_BYTES = 5  # the same for bytes that are scaled sums


# Where results go, and how sums become results. Strides are in bytes. real_bias, z and scales may be NULL; scales, one
# for each channel, are there in place of scale.
cdef struct Int8Output:
    const float* real_bias
    const uint8_t* z
    int64_t z_pixel, z_plane
    uint8_t* y
    int64_t y_pixel, y_plane
    int kind, code, path
    bint staged
    int32_t z_mask, z_zero, y_zero
    float scale, mid_reciprocal, mid_low, mid_high, mid_scale, z_scale, a, b, reciprocal, low, high
    const float* scales
    bint ties_even


cdef inline vf with_half(vf x) noexcept nogil:
    """x plus a half of its sign: truncated, it is x rounded, halves away from zero."""
    return x + v_copysign(vf_set1(0.5), x)


cdef inline vf clamped(vf x, vf low, vf high) noexcept nogil:
    return vf_min_nan(high, vf_max_number(x, low))


cdef inline vf rounded(bint EVEN, vf x) noexcept nogil:
    """x such that it is rounded once it is truncated."""
    if EVEN:
        return vf_rint(x)
    return with_half(x)


cdef inline vf staged_value(bint EVEN, vf x, vf reciprocal, vf low, vf high, vf scale) noexcept nogil:
    """A real value as it is after it was stored."""
    return vf_product(vf_trunc(rounded(EVEN, clamped(vf_product(x, reciprocal), low, high))), scale)


cdef inline vf bias_of(const Int8Output* o, int v) noexcept nogil:
    if o.real_bias:
        return vf_load(o.real_bias + v * VW)
    return vf_set1(0.0)


cdef inline vf scale_of(const Int8Output* o, int v) noexcept nogil:
    if o.scales:
        return vf_load(o.scales + v * VW)
    return vf_set1(o.scale)


cdef inline vi scaled_byte(
    bint POSITIVE, bint BIASED, const int32_t* sums, vf scale, vf bias, vf reciprocal
) noexcept nogil:
    """A rounded result without z, but for the bounds of bytes; as POSITIVE it is right from 0 on."""
    cdef vf x = vf_product(vi_to_vf(vi_load(sums)), scale)
    if BIASED:
        x = x + bias
    x = vf_product(x, reciprocal)
    return vf_to_vi(x + vf_set1(0.5) if POSITIVE else with_half(x))


cdef inline inlined store_scaled(
    bint POSITIVE, bint BIASED, const int32_t* sums, int pixels, int vectors, const Int8Output* o
) noexcept nogil:
    cdef vf scale = vf_set1(o.scale), reciprocal = vf_set1(o.reciprocal), bias
    cdef int64_t step = vectors * VW
    cdef const int32_t* at
    cdef int8_t* y
    cdef vi x
    cdef int p, v
    for v in range(vectors):
        bias = bias_of(o, v)
        at = sums + v * VW
        y = <int8_t*>o.y + v * o.y_plane
        p = 0
        if o.y_pixel == VW:
            while p + 4 <= pixels:
                vi_store4_s8(
                    0 if POSITIVE else -128,
                    y,
                    scaled_byte(POSITIVE, BIASED, at, scale, bias, reciprocal),
                    scaled_byte(POSITIVE, BIASED, at + step, scale, bias, reciprocal),
                    scaled_byte(POSITIVE, BIASED, at + 2 * step, scale, bias, reciprocal),
                    scaled_byte(POSITIVE, BIASED, at + 3 * step, scale, bias, reciprocal),
                )
                at += 4 * step
                y += 4 * VW
                p += 4
        while p < pixels:
            x = scaled_byte(POSITIVE, BIASED, at, scale, bias, reciprocal)
            vi_store_s8(y, vi_max(x, vi_set1(0)) if POSITIVE else x)
            at += step
            y += o.y_pixel
            p += 1


cdef inline outlined store_positive(const int32_t* sums, int pixels, int vectors, const Int8Output* o) noexcept nogil:
    if o.real_bias:
        store_scaled(True, True, sums, pixels, vectors, o)
    else:
        store_scaled(True, False, sums, pixels, vectors, o)


cdef inline outlined store_signed(const int32_t* sums, int pixels, int vectors, const Int8Output* o) noexcept nogil:
    if o.real_bias:
        store_scaled(False, True, sums, pixels, vectors, o)
    else:
        store_scaled(False, False, sums, pixels, vectors, o)


cdef inline outlined store_residual(const int32_t* sums, int pixels, int vectors, const Int8Output* o) noexcept nogil:
    cdef vf scale = vf_set1(o.scale), z_scale = vf_set1(o.z_scale), low = vf_set1(o.low)
    cdef vf mid_low = vf_set1(o.mid_low), mid_high = vf_set1(o.mid_high), mid_scale = vf_set1(o.mid_scale)
    cdef vf mid_reciprocal = vf_set1(o.mid_reciprocal), reciprocal = vf_set1(o.reciprocal), bias, x
    cdef int8_t* y
    cdef const int8_t* z
    cdef int p, v
    for v in range(vectors):
        bias = bias_of(o, v)
        y = <int8_t*>o.y + v * o.y_plane
        z = <const int8_t*>o.z + v * o.z_plane
        for p in range(pixels):
            x = vf_product(vi_to_vf(vi_load(sums + (p * vectors + v) * VW)), scale) + bias
            if o.staged:
                x = staged_value(False, x, mid_reciprocal, mid_low, mid_high, mid_scale)
            x = x + vf_product(vi_to_vf(vi_load_s8(z)), z_scale)
            vi_store_s8(y, vf_to_vi(with_half(vf_max_number(vf_product(x, reciprocal), low))))
            y += o.y_pixel
            z += o.z_pixel


cdef inline inlined store_each(
    bint EVEN, const int32_t* sums, int pixels, int vectors, const Int8Output* o
) noexcept nogil:
    cdef vf scale = vf_set1(o.scale), low = vf_set1(o.low), high = vf_set1(o.high)
    cdef vf mid_low = vf_set1(o.mid_low), mid_high = vf_set1(o.mid_high), mid_scale = vf_set1(o.mid_scale)
    cdef vf mid_reciprocal = vf_set1(o.mid_reciprocal)
    cdef vf reciprocal = vf_set1(o.reciprocal)
    cdef vf a = vf_set1(o.a), b = vf_set1(o.b), x
    cdef vi total
    cdef uint8_t* y
    cdef int p, v
    for p in range(pixels):
        for v in range(vectors):
            total = vi_load(sums)
            sums += VW
            y = o.y + v * o.y_plane + p * o.y_pixel
            if o.kind == OUT_SUM:
                if o.code != ACT_NONE:  # RELU: see SUM_ACTIVATIONS in other/probe.pyx
                    total = vi_max(total, vi_set1(0))
                vi_store(<int32_t*>y, total)
                continue
            if EVEN:
                scale = scale_of(o, v)
            x = vf_product(vi_to_vf(total), scale) + bias_of(o, v)
            if o.staged:
                x = staged_value(EVEN, x, mid_reciprocal, mid_low, mid_high, mid_scale)
            if o.z:
                total = vi_load_s8(<const int8_t*>o.z + v * o.z_plane + p * o.z_pixel) & vi_set1(o.z_mask)
                x = x + vf_product(vi_to_vf(total - vi_set1(o.z_zero)), vf_set1(o.z_scale))
            if o.code != ACT_NONE:
                x = activate(x, o.code, a, b)
            if o.kind == OUT_REAL:
                vf_store(<float*>y, x)
                continue
            total = vf_to_vi_any(rounded(EVEN, clamped(vf_product(x, reciprocal), low, high))) + vi_set1(o.y_zero)
            if o.kind == OUT_BYTES:
                vi_store_8(<int8_t*>y, total)
            else:
                vi_store(<int32_t*>y, total)


cdef inline outlined store_any(const int32_t* sums, int pixels, int vectors, const Int8Output* o) noexcept nogil:
    store_each(False, sums, pixels, vectors, o)


cdef inline outlined store_even(const int32_t* sums, int pixels, int vectors, const Int8Output* o) noexcept nogil:
    store_each(True, sums, pixels, vectors, o)


cdef inline outlined store_even_bytes(
    const int32_t* sums, int pixels, int vectors, const Int8Output* o
) noexcept nogil:
    cdef vf low = vf_set1(o.low), high = vf_set1(o.high), reciprocal = vf_set1(o.reciprocal), scale, bias, x
    cdef vi zero = vi_set1(o.y_zero)
    cdef int8_t* y
    cdef int p, v
    for v in range(vectors):
        scale = scale_of(o, v)
        bias = bias_of(o, v)
        y = <int8_t*>o.y + v * o.y_plane
        for p in range(pixels):
            x = vf_product(vf_product(vi_to_vf(vi_load(sums + (p * vectors + v) * VW)), scale) + bias, reciprocal)
            vi_store_8(y, vf_to_vi(vf_rint(clamped(x, low, high))) + zero)
            y += o.y_pixel


cdef inline inlined store_sums(const int32_t* sums, int pixels, int vectors, const Int8Output* o) noexcept nogil:
    """Stores a block of sums [pixel][vector][VW]."""
    if o.path == PATH_POSITIVE:
        store_positive(sums, pixels, vectors, o)
    elif o.path == PATH_SIGNED:
        store_signed(sums, pixels, vectors, o)
    elif o.path == PATH_RESIDUAL:
        store_residual(sums, pixels, vectors, o)
    elif o.path == PATH_EVEN_BYTES:
        store_even_bytes(sums, pixels, vectors, o)
    elif o.path == PATH_EVEN:
        store_even(sums, pixels, vectors, o)
    else:
        store_any(sums, pixels, vectors, o)


cdef inline int output_path(const Int8Output* o) noexcept nogil:
    """The fastest way to store results. The fast ones leave the upper bound to a saturating store and need results that
    fit int32. real_bias does not count here: it must not be larger than int32 sums can be."""
    cdef bint is_plain
    cdef bint signed_bytes = o.kind == OUT_BYTES and o.y_zero == 0 and o.high == 127 and (o.low == -128 or o.low >= 0)
    cdef double largest = 2147483648.0 * o.scale
    if o.ties_even or o.scales:
        is_plain = o.kind == OUT_BYTES and not o.z and not o.staged and o.code == ACT_NONE
        return PATH_EVEN_BYTES if is_plain else PATH_EVEN
    if o.staged:
        largest = 128 * o.mid_scale
    if o.z:
        largest += 255 * o.z_scale
    if not signed_bytes or o.code != ACT_NONE or largest * o.reciprocal > 536870912.0:
        return PATH_ANY
    if o.z:
        return PATH_RESIDUAL if o.z_mask == -1 and o.z_zero == 0 else PATH_ANY
    if o.staged or o.low > 0:
        return PATH_ANY
    return PATH_POSITIVE if o.low == 0 else PATH_SIGNED


cdef inline int64_t result_size(const Int8Output* o) noexcept nogil:
    """Bytes of a result."""
    return 1 if o.kind == OUT_BYTES else 4


cdef inline void skip_pixels(Int8Output* o, int64_t count) noexcept nogil:
    """Goes on to the pixels behind those that were stored."""
    o.y += count * o.y_pixel
    if o.z:
        o.z += count * o.z_pixel


cdef inline void go_to_channel(
    Int8Output* o, const float* scales, const float* real_bias, int64_t channel
) noexcept nogil:
    """Takes the numbers of channels from this one on."""
    if scales:
        o.scales = scales + channel
    if real_bias:
        o.real_bias = real_bias + channel


cdef inline void read_output(
    Int8Output* o, const Requantize* r, const float* scales, const float* real_bias, const uint8_t* z, int64_t y_pixel,
    int64_t y_plane, int64_t z_pixel, int64_t z_plane
) noexcept nogil:
    """Everything but the address of y; strides are in elements."""
    o.kind = <int>r.kind
    o.scales = scales
    o.real_bias = real_bias
    o.z = z
    o.y_pixel = y_pixel * result_size(o)
    o.y_plane = y_plane * result_size(o)
    o.z_pixel = z_pixel
    o.z_plane = z_plane
    o.code = <int>r.epilogue.activation
    o.staged = <bint>r.staged
    o.ties_even = <bint>r.ties_even
    o.z_mask = <int32_t>r.z_mask
    o.z_zero = <int32_t>r.z_zero
    o.y_zero = <int32_t>r.y_zero
    o.scale = <float>r.scale
    o.mid_reciprocal = <float>1.0 / <float>r.mid_divisor
    o.mid_low = <float>r.mid_low
    o.mid_high = <float>r.mid_high
    o.mid_scale = <float>r.mid_scale
    o.z_scale = <float>r.z_scale
    o.a = <float>r.epilogue.act_a
    o.b = <float>r.epilogue.act_b
    o.reciprocal = <float>1.0 / <float>r.y_scale
    o.low = <float>r.low
    o.high = <float>r.high
    o.path = output_path(o)
