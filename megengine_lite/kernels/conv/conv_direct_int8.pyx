"""Direct convolution of int8 numbers: any filter, stride and dilation, dense and grouped.

The input is blocked like a float tensor, with elements of one byte; images of at most 4 channels may be given as
pixels of 4 bytes instead. Weights are packed as ``[group][tile of 2 channel blocks][part][ic block][kh][kw][quad of
ic][channels of the tile][4]``, where the last ic block of a group has only the quads that exist
(:func:`megengine_lite._core.cpu.packing.int8.pack_direct`). `wide` inputs and weights are numbers of 16 bits, and pairs
of channels stand where quads do.
"""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t

from megengine_lite.kernels.common.conv_tiles cimport Division, Part, division, part_of
from megengine_lite.kernels.common.dot cimport (
    FEW_PIXELS, MAX_SUMS, PLAIN, SHORT_PLAIN, SIGNED, WIDE, WIDE_PIXELS, DotSum, block_pixels, dot_block,
    dot_block_few, dot_block_of, widens,
)
from megengine_lite.kernels.common.arguments cimport FilterWindow, Requantize, Strides
from megengine_lite.kernels.common.requantize cimport (
    Int8Output, go_to_channel, read_output, result_size, skip_pixels, store_sums,
)
from megengine_lite.kernels.common.simd cimport DOT_MATRIX, DOT_SHORT, DOT_UNSIGNED, VW, inlined, outlined, vi


cdef enum:
    # Pixels of rows that are computed two at a time where a block has room: the last stages of many networks have them.
    PAIRED = 7


cdef inline bint takes_short_sums() noexcept nogil:
    """Whether blocks of channels have pairs of quads."""
    return DOT_SHORT and VW % 8 == 0


cdef inline inlined dot_row(
    int VECTORS, int64_t STEP1, int64_t STEP2, int KIND, int64_t step, int64_t pixels, const DotSum* s,
    const uint8_t* x, const int8_t* w, const int32_t* bias, Int8Output o
) noexcept nogil:
    """`pixels` outputs side by side, in blocks of nearly equal size; fast when `step` is STEP1 or STEP2."""
    cdef vi room[MAX_SUMS]  # aligned
    cdef int32_t* sums = <int32_t*>room
    cdef int64_t most = WIDE_PIXELS if KIND == WIDE else block_pixels()
    cdef int64_t largest = most if step == STEP1 or step == STEP2 else FEW_PIXELS
    cdef int64_t blocks = (pixels + largest - 1) // largest
    cdef int64_t k, first = 0, end
    cdef int count
    for k in range(blocks):
        end = pixels * (k + 1) // blocks
        count = <int>(end - first)
        if step == STEP1:
            dot_block_of(count, VECTORS, STEP1, KIND, s, x, w, bias, sums)
        elif step == STEP2:
            dot_block_of(count, VECTORS, STEP2, KIND, s, x, w, bias, sums)
        elif KIND != SHORT_PLAIN:
            dot_block_few(count, VECTORS, step, KIND, s, x, w, bias, sums)
        store_sums(sums, count, VECTORS, &o)
        x += count * step
        skip_pixels(&o, count)
        first = end


cdef inline inlined dot_two_rows(
    int VECTORS, int64_t STEP, int KIND, const DotSum* s, const uint8_t* x, const int8_t* w, const int32_t* bias,
    int64_t y_row, int64_t z_row, Int8Output o
) noexcept nogil:
    """Two rows of PAIRED pixels in one block."""
    cdef vi room[MAX_SUMS]
    cdef int32_t* sums = <int32_t*>room
    dot_block(2 * PAIRED, VECTORS, STEP, KIND, True, s, x, w, bias, sums)
    store_sums(sums, PAIRED, VECTORS, &o)
    o.y += y_row
    if o.z:
        o.z += z_row
    store_sums(sums + PAIRED * VECTORS * VW, PAIRED, VECTORS, &o)


# A work item's place: output pixels of one or two rows, for one or two channel blocks.
cdef struct ItemPlace:
    int vectors
    bint two_rows
    int64_t step, pixels, y_row, z_row


cdef inline inlined dot_place(
    int64_t STEP1, int64_t STEP2, int KIND, const ItemPlace* at, const DotSum* s, const uint8_t* x, const int8_t* w,
    const int32_t* bias, const Int8Output* o
) noexcept nogil:
    if block_pixels() >= 2 * PAIRED and at.two_rows:
        if at.vectors == 2 and at.step == STEP1:
            dot_two_rows(2, STEP1, KIND, s, x, w, bias, at.y_row, at.z_row, o[0])
        elif at.vectors == 2:
            dot_two_rows(2, STEP2, KIND, s, x, w, bias, at.y_row, at.z_row, o[0])
        elif at.step == STEP1:
            dot_two_rows(1, STEP1, KIND, s, x, w, bias, at.y_row, at.z_row, o[0])
        else:
            dot_two_rows(1, STEP2, KIND, s, x, w, bias, at.y_row, at.z_row, o[0])
    elif at.vectors == 2:
        dot_row(2, STEP1, STEP2, KIND, at.step, at.pixels, s, x, w, bias, o[0])
    else:
        dot_row(1, STEP1, STEP2, KIND, at.step, at.pixels, s, x, w, bias, o[0])


cdef inline outlined dot_plain_blocks(
    const ItemPlace* at, const DotSum* s, const uint8_t* x, const int8_t* w, const int32_t* bias, const Int8Output* o
) noexcept nogil:
    dot_place(VW, 2 * VW, PLAIN, at, s, x, w, bias, o)


cdef inline outlined dot_signed_blocks(
    const ItemPlace* at, const DotSum* s, const uint8_t* x, const int8_t* w, const int32_t* bias, const Int8Output* o
) noexcept nogil:
    dot_place(VW, 2 * VW, SIGNED, at, s, x, w, bias, o)


cdef inline outlined dot_short_plain_blocks(
    const ItemPlace* at, const DotSum* s, const uint8_t* x, const int8_t* w, const int32_t* bias, const Int8Output* o
) noexcept nogil:
    dot_place(VW, 2 * VW, SHORT_PLAIN, at, s, x, w, bias, o)


cdef inline outlined dot_wide_blocks(
    const ItemPlace* at, const DotSum* s, const uint8_t* x, const int8_t* w, const int32_t* bias, const Int8Output* o
) noexcept nogil:
    dot_place(2 * VW, 4 * VW, WIDE, at, s, x, w, bias, o)


cdef inline outlined dot_image(
    const ItemPlace* at, const DotSum* s, const uint8_t* x, const int8_t* w, const int32_t* bias, const Int8Output* o
) noexcept nogil:
    if widens():
        dot_place(8, 16, WIDE, at, s, x, w, bias, o)
    else:
        dot_place(4, 8, PLAIN if DOT_UNSIGNED else SIGNED, at, s, x, w, bias, o)


cdef struct ConvDirectInt8Args:
    const uint8_t* x
    const int8_t* w
    const int32_t* bias
    const float* scales
    const float* real_bias
    const uint8_t* z
    uint8_t* y
    Strides x_, y_, z_
    int64_t x_pixel, y_pixel, z_pixel, groups, ic, oc, oh, ow, lines, band, chunks, parts, plain, wide, short_sums
    FilterWindow window
    Requantize requantize


cdef void conv_direct_int8(const ConvDirectInt8Args* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """One work item = one chunk of an output row, for one image and one tile of output channels.

    x, y and z point at element (0, 0, 0, 0), strides are in elements, those of x in bytes; x needs a halo of at least
    the padding. Pixels of x lie `x_pixel` bytes apart: VW, or 4 for images of up to 4 channels, twice as much if it is
    `wide`. It must be where a set multiplies 16-bit numbers, if it is an image or not `plain`. Pixels of y and z lie `y_pixel` and
    `z_pixel` elements apart, so that the phases of a transposed convolution can interleave. `short_sums` says that sums
    of eight products of neighbouring channels fit 16 bits, that blocks have whole pairs of quads, and that stride_w is 1
    or 2. `band` and `chunks` divide the work (conv_tiles.pxd). With `lines` 2, rows have PAIRED_ROW pixels and items and
    bands are pairs of rows. y may be z.
    """
    cdef const uint8_t* x = a.x
    cdef const int8_t* w = a.w
    cdef const int32_t* bias = a.bias
    cdef const float* scales = a.scales
    cdef const float* real_bias = a.real_bias
    cdef const uint8_t* z = a.z
    cdef uint8_t* y = a.y
    cdef int64_t x_pixel = a.x_pixel, x_row = a.x_.row, x_plane = a.x_.plane, x_image = a.x_.image
    cdef int64_t y_pixel = a.y_pixel, y_row = a.y_.row, y_plane = a.y_.plane, y_image = a.y_.image
    cdef int64_t z_pixel = a.z_pixel, z_row = a.z_.row, z_plane = a.z_.plane, z_image = a.z_.image
    cdef int64_t groups = a.groups, ic = a.ic, oc = a.oc, oh = a.oh, ow = a.ow
    cdef int64_t kh = a.window.kh, kw = a.window.kw, stride_h = a.window.stride_h, stride_w = a.window.stride_w
    cdef int64_t dilate_h = a.window.dilate_h, dilate_w = a.window.dilate_w
    cdef int64_t pad_h = a.window.pad_h, pad_w = a.window.pad_w
    cdef int64_t lines = a.lines, parts = a.parts, plain = a.plain, wide = a.wide, short_sums = a.short_sums
    cdef int64_t channels = x_pixel // 2 if wide else x_pixel  # of an ic block
    cdef int64_t ic_blocks = (ic + channels - 1) // channels, oc_blocks = (oc + VW - 1) // VW
    cdef int64_t bytes = (ic - (ic_blocks - 1) * channels) * (2 if wide else 1)
    cdef int64_t quads = (bytes + 3) // 4  # of the last ic block; or pairs
    cdef int64_t depth = parts * ((ic_blocks - 1) * (x_pixel // 4) + quads) * 4 * kh * kw, item, r, size
    cdef Division whole = division(groups, oc_blocks, (oh + lines - 1) // lines, ow, a.band, a.chunks)
    cdef Part p
    cdef const uint8_t* from_x
    cdef const int8_t* from_w
    cdef const int32_t* from_bias
    cdef DotSum s
    cdef Int8Output o
    cdef ItemPlace at
    read_output(&o, &a.requantize, scales, real_bias, z, y_pixel, y_plane, z_pixel, z_plane)
    size = result_size(&o)
    at.step = stride_w * x_pixel
    at.y_row = y_row * size
    at.z_row = z_row
    s = DotSum(
        parts, ic_blocks, x_plane, kh, dilate_h * x_row, kw, dilate_w * x_pixel, x_pixel // 4, quads, 4,
        2 * VW if wide else 8, stride_h * x_row,
    )
    if dilate_w == 1 and quads * 4 == x_pixel:  # the taps of a row are one run of quads
        s.n2 = 1
        s.steps = s.steps_last = kw * quads
    if (short_sums or wide) and kh == kw == 1 and channels == VW:  # so are the planes, with gaps
        s.n0 = 1
        s.steps = s.steps_last = (ic_blocks - 1) * (x_pixel // 4) + quads
        s.next = x_plane
    if DOT_MATRIX and ic_blocks == 1:  # takes quads of neighbouring rows at once
        s.n0, s.s0, s.n1 = kh, s.s1, 1
    for item in range(begin, end):
        p = part_of(&whole, item)
        r = p.row * lines
        at.vectors = p.vectors
        at.two_rows = lines == 2 and r + 1 < oh
        at.pixels = p.last - p.first
        go_to_channel(&o, scales, real_bias, p.block * VW)
        o.y = y + (p.image * y_image + p.block * y_plane + r * y_row + p.first * y_pixel) * size
        if z:
            o.z = z + p.image * z_image + p.block * z_plane + r * z_row + p.first * z_pixel
        from_x = (
            x + p.image * x_image + p.group * ic_blocks * x_plane + (r * stride_h - pad_h) * x_row
            + (p.first * stride_w - pad_w) * x_pixel
        )
        from_w = w + p.block * VW * depth
        from_bias = bias + p.block * VW
        if channels != VW:
            dot_image(&at, &s, from_x, from_w, from_bias, &o)
        elif takes_short_sums() and short_sums and plain:
            dot_short_plain_blocks(&at, &s, from_x, from_w, from_bias, &o)
        elif widens() and wide:
            dot_wide_blocks(&at, &s, from_x, from_w, from_bias, &o)
        elif plain or widens() or DOT_UNSIGNED:
            dot_plain_blocks(&at, &s, from_x, from_w, from_bias, &o)
        else:
            dot_signed_blocks(&at, &s, from_x, from_w, from_bias, &o)


# Planners read it: how many pixels rows have that may be computed two at a time, 0 if none may.
PAIRED_ROW = PAIRED if block_pixels() >= 2 * PAIRED else 0

include "conv_direct_int8_table.pxi"
