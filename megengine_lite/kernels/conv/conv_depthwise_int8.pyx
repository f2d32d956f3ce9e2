"""Depthwise convolution (one filter for each channel) of int8 numbers in blocked layout.

Four neighbouring taps of a filter row make one dot product. Weights are packed as ``[channel block][part][kh][quad of
kw][channel][4]`` with zeros behind the last tap (:func:`megengine_lite._core.cpu.packing.int8.pack_depthwise`).
"""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t

from megengine_lite.kernels.common.arguments cimport Requantize, Strides
from megengine_lite.kernels.common.requantize cimport (
    Int8Output, go_to_channel, read_output, result_size, skip_pixels, store_sums,
)
from megengine_lite.kernels.common.simd cimport (
    BY_LANE, DOT_SIGNED, DOT_STEPS, DOT_UNSIGNED, VREGS, VW, inlined, outlined, vi, vi_dot, vi_dot_pairs, vi_dot_signed,
    vi_even, vi_load, vi_load_quad, vi_odd, vi_set1, vi_store,
)

cdef enum:
    MAX_PIXELS = 14  # of a block
    STORED_PIXELS = 56  # whose sums are stored at once


# What one output pixel reads: rows x quads of taps; their distances are in bytes. If weights are sums of several bytes,
# all of it is done `parts` times. Unless the input is PLAIN (see dot.pxd), its bytes are xored with those of `flip`,
# which makes them what dot products take.
cdef struct DepthwiseTaps:
    int64_t parts, rows, row, quads, quad, stride
    int32_t flip


cdef inline bint takes_two_rows() noexcept nogil:
    """Two rows at once need many registers."""
    return VREGS == 32 and not BY_LANE


cdef inline vi multiplied(bint PLAIN, vi total, vi value, vi taps) noexcept nogil:
    if PLAIN or DOT_UNSIGNED:
        return vi_dot(total, value, taps)
    if DOT_SIGNED:
        return vi_dot_signed(total, value, taps)
    return vi_dot_pairs(vi_dot_pairs(total, vi_even(value), vi_even(taps)), vi_odd(value), vi_odd(taps))


cdef inline vi quad_of(bint PLAIN, const uint8_t* at, vi flip) noexcept nogil:
    """Four taps of each channel."""
    if PLAIN:
        return vi_load_quad(at)
    return vi_load_quad(at) ^ flip


cdef inline inlined depthwise_block(
    int PIXELS, int64_t STEP, bint PLAIN, const DepthwiseTaps* t, const uint8_t* x, const int8_t* w, const int32_t* bias,
    int32_t* sums
) noexcept nogil:
    """PIXELS outputs side by side; their windows begin STEP bytes apart."""
    cdef vi acc[MAX_PIXELS]
    cdef vi taps, flip = vi_set1(t.flip)
    cdef const uint8_t* at
    cdef int64_t part, r, q
    cdef int p
    for p in range(PIXELS):
        acc[p] = vi_load(bias)
    for part in range(t.parts):
        for r in range(t.rows):
            for q in range(t.quads):
                at = x + r * t.row + q * t.quad
                taps = vi_load(<const int32_t*>w)
                w += 4 * VW
                for p in range(PIXELS):
                    acc[p] = multiplied(PLAIN, acc[p], quad_of(PLAIN, at + p * STEP, flip), taps)
    for p in range(PIXELS):
        vi_store(sums + p * VW, acc[p])


cdef inline inlined row_of_two(
    int PIXELS, int64_t STEP, bint PLAIN, bint UPPER, bint LOWER, const DepthwiseTaps* t, const uint8_t* x,
    const int8_t* w, vi flip, vi* acc
) noexcept nogil:
    """One input row, times the filter row at w for the upper outputs, and times the one before it for the lower."""
    cdef vi value, upper = flip, lower = flip
    cdef int64_t q, row = t.quads * 4 * VW
    cdef int p
    for q in range(t.quads):
        if UPPER:
            upper = vi_load(<const int32_t*>w)
        if LOWER:
            lower = vi_load(<const int32_t*>(w - row))
        for p in range(PIXELS):
            value = quad_of(PLAIN, x + p * STEP, flip)
            if UPPER:
                acc[p] = multiplied(PLAIN, acc[p], value, upper)
            if LOWER:
                acc[PIXELS + p] = multiplied(PLAIN, acc[PIXELS + p], value, lower)
        x += t.quad
        w += 4 * VW


cdef inline inlined two_row_block(
    int PIXELS, int64_t STEP, bint PLAIN, const DepthwiseTaps* t, const uint8_t* x, const int8_t* w,
    const int32_t* bias, int32_t* sums, int32_t* below
) noexcept nogil:
    """PIXELS outputs in each of two rows, which read all but one of their input rows in common."""
    cdef vi acc[2 * MAX_PIXELS]
    cdef vi flip = vi_set1(t.flip)
    cdef int64_t part, r, row = t.quads * 4 * VW
    cdef int p
    for p in range(2 * PIXELS):
        acc[p] = vi_load(bias)
    for part in range(t.parts):
        row_of_two(PIXELS, STEP, PLAIN, True, False, t, x, w, flip, acc)
        for r in range(1, t.rows):
            row_of_two(PIXELS, STEP, PLAIN, True, True, t, x + r * t.row, w + r * row, flip, acc)
        row_of_two(PIXELS, STEP, PLAIN, False, True, t, x + t.rows * t.row, w + t.rows * row, flip, acc)
        w += t.rows * row
    for p in range(PIXELS):
        vi_store(sums + p * VW, acc[p])
        vi_store(below + p * VW, acc[PIXELS + p])


cdef inline inlined rows_block(
    int ROWS, int PIXELS, int64_t STEP, bint PLAIN, const DepthwiseTaps* t, const uint8_t* x, const int8_t* w,
    const int32_t* bias, int32_t* sums
) noexcept nogil:
    """The sums of a second row lie STORED_PIXELS behind those of the first."""
    if ROWS == 2:
        two_row_block(PIXELS, STEP, PLAIN, t, x, w, bias, sums, sums + STORED_PIXELS * VW)
    else:
        depthwise_block(PIXELS, STEP, PLAIN, t, x, w, bias, sums)


cdef inline inlined depthwise_pixels(
    int ROWS, int64_t STEP, bint PLAIN, int64_t pixels, const DepthwiseTaps* t, const uint8_t* x, const int8_t* w,
    const int32_t* bias, Int8Output o, Int8Output below
) noexcept nogil:
    """A row of outputs, or two; `below` is the second one's."""
    cdef vi room[2 * STORED_PIXELS]  # aligned
    cdef int32_t* sums = <int32_t*>room
    cdef int32_t* at
    cdef int count, left, stored
    while pixels > 0:
        stored = left = <int>min(pixels, STORED_PIXELS)
        at = sums
        while left > 0:
            if ROWS == 1 and VREGS == 32 and not DOT_STEPS and left >= 14:
                count = 14
                rows_block(ROWS, 14, STEP, PLAIN, t, x, w, bias, at)
            elif left >= 7:
                count = 7
                rows_block(ROWS, 7, STEP, PLAIN, t, x, w, bias, at)
            elif left >= 4:
                count = 4
                rows_block(ROWS, 4, STEP, PLAIN, t, x, w, bias, at)
            elif left >= 2:
                count = 2
                rows_block(ROWS, 2, STEP, PLAIN, t, x, w, bias, at)
            else:
                count = 1
                rows_block(ROWS, 1, STEP, PLAIN, t, x, w, bias, at)
            at += count * VW
            x += count * STEP
            left -= count
        store_sums(sums, stored, 1, &o)
        skip_pixels(&o, stored)
        if ROWS == 2:
            store_sums(sums + STORED_PIXELS * VW, stored, 1, &below)
            skip_pixels(&below, stored)
        pixels -= stored


cdef inline inlined depthwise_rows(
    bint PLAIN, int rows, int64_t pixels, const DepthwiseTaps* t, const uint8_t* x, const int8_t* w,
    const int32_t* bias, const Int8Output* o, const Int8Output* below
) noexcept nogil:
    if takes_two_rows() and rows == 2:
        depthwise_pixels(2, VW, PLAIN, pixels, t, x, w, bias, o[0], below[0])
    elif t.stride == VW:
        depthwise_pixels(1, VW, PLAIN, pixels, t, x, w, bias, o[0], below[0])
    elif t.stride == 2 * VW:
        depthwise_pixels(1, 2 * VW, PLAIN, pixels, t, x, w, bias, o[0], below[0])
    else:
        depthwise_pixels(1, t.stride, PLAIN, pixels, t, x, w, bias, o[0], below[0])


cdef inline outlined depthwise_plain(
    int rows, int64_t pixels, const DepthwiseTaps* t, const uint8_t* x, const int8_t* w, const int32_t* bias,
    const Int8Output* o, const Int8Output* below
) noexcept nogil:
    depthwise_rows(True, rows, pixels, t, x, w, bias, o, below)


cdef inline outlined depthwise_flipped(
    int rows, int64_t pixels, const DepthwiseTaps* t, const uint8_t* x, const int8_t* w, const int32_t* bias,
    const Int8Output* o, const Int8Output* below
) noexcept nogil:
    depthwise_rows(False, rows, pixels, t, x, w, bias, o, below)


cdef struct ConvDepthwiseInt8Args:
    const uint8_t* x
    const int8_t* w
    const int32_t* bias
    const float* scales
    const float* real_bias
    const uint8_t* z
    uint8_t* y
    Strides x_, y_, z_
    int64_t blocks, oh, ow, kh, quads, quad, stride_h, stride_w, dilate_h, pad_h, pad_w, band, parts, flip, plain
    Requantize requantize


cdef void conv_depthwise_int8(const ConvDepthwiseInt8Args* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """One work item = one band of output rows of one channel block of one image.

    x, y and z point at element (0, 0, 0, 0), strides are in elements; x needs a halo of at least the padding. `quads`
    dot products make a row of taps, `quad` pixels apart: 4 for neighbouring taps. Up to 3 pixels behind a window are
    read and multiplied with zero.
    """
    cdef const uint8_t* x = a.x
    cdef const int8_t* w = a.w
    cdef const int32_t* bias = a.bias
    cdef const float* scales = a.scales
    cdef const float* real_bias = a.real_bias
    cdef const uint8_t* z = a.z
    cdef uint8_t* y = a.y
    cdef int64_t x_row = a.x_.row, x_plane = a.x_.plane, x_image = a.x_.image
    cdef int64_t y_row = a.y_.row, y_plane = a.y_.plane, y_image = a.y_.image
    cdef int64_t z_row = a.z_.row, z_plane = a.z_.plane, z_image = a.z_.image
    cdef int64_t blocks = a.blocks, oh = a.oh, ow = a.ow, kh = a.kh, quads = a.quads, quad = a.quad
    cdef int64_t stride_h = a.stride_h, stride_w = a.stride_w, dilate_h = a.dilate_h, pad_h = a.pad_h, pad_w = a.pad_w
    cdef int64_t band = a.band, parts = a.parts, flip = a.flip, plain = a.plain
    cdef int64_t bands = (oh + band - 1) // band, item, n, block, r, last, size
    cdef bint in_pairs = takes_two_rows() and stride_h == 1 and stride_w == 1 and dilate_h == 1
    cdef int rows
    cdef const uint8_t* from_x
    cdef const int8_t* from_w
    cdef DepthwiseTaps t
    cdef Int8Output o, below
    read_output(&o, &a.requantize, scales, real_bias, z, VW, y_plane, VW, z_plane)
    size = result_size(&o)
    t = DepthwiseTaps(parts, kh, dilate_h * x_row, quads, quad * VW, stride_w * VW, <int32_t>flip)
    for item in range(begin, end):
        n = item // (blocks * bands)
        block = item // bands % blocks
        go_to_channel(&o, scales, real_bias, block * VW)
        from_w = w + block * parts * kh * quads * 4 * VW
        r = item % bands * band
        last = min(r + band, oh)
        while r < last:
            o.y = y + (n * y_image + block * y_plane + r * y_row) * size
            if z:
                o.z = z + n * z_image + block * z_plane + r * z_row
            from_x = x + n * x_image + block * x_plane + (r * stride_h - pad_h) * x_row - pad_w * VW
            rows = 2 if in_pairs and r + 1 < last else 1
            below = o
            below.y += y_row * size
            if z:
                below.z += z_row
            if plain:
                depthwise_plain(rows, ow, &t, from_x, from_w, bias + block * VW, &o, &below)
            else:
                depthwise_flipped(rows, ow, &t, from_x, from_w, bias + block * VW, &o, &below)
            r += rows


include "conv_depthwise_int8_table.pxi"
