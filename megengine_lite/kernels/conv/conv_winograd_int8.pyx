"""Winograd convolution F(2 x 2, 3 x 3) of int8 numbers, in integers and exact: 3 x 3 filters, stride 1, dense.

The twin of ``conv_winograd`` for sets that multiply 16-bit numbers in pairs. An output tile of 2 x 2 pixels takes 16
products for each input channel, instead of 36. The filter transform has halves; it is taken four times, so that
transformed weights are integers, and so are the sums, which are divided by four. Transformed inputs and weights fit 16
bits, sums wrap around in 32 bits, and four times a result must fit there (``LARGEST_SUM``).

Weights: ``[tile of 2 channel blocks][4 4][pair of ic][channels of the tile][2]``, by ``pack_winograd_int8``.
"""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t
from libc.string cimport memcpy, memset

from megengine_lite.kernels.common.arguments cimport Requantize, Strides
from megengine_lite.kernels.common.dot cimport WIDE, WIDE_PIXELS, DotSum, dot_block
from megengine_lite.kernels.common.requantize cimport (
    Int8Output, go_to_channel, read_output, result_size, store_sums,
)
from megengine_lite.kernels.common.shared_constants cimport TILE_BLOCKS
from megengine_lite.kernels.common.simd cimport (
    VW, inlined, outlined, vi, vi_add_16, vi_high_halves, vi_load, vi_load_wide, vi_low_halves, vi_shift_right,
    vi_store, vi_subtract_16,
)
from megengine_lite.kernels.conv.winograd_grid cimport Grid, TileRun, run_of

cdef enum:
    M = 2
    SIDE = 4
    AREA = 16
    STORED = 8  # tiles whose results are stored at once

# For the planner: a result, and so each sum of products by definition, must be smaller.
LARGEST_SUM = 1 << 29


# ---- transforms ----------------------------------------------------------------------------------------------------

cdef inline inlined input_tiles(const int8_t* x, int64_t row, int16_t* v, int64_t step) noexcept nogil:
    """B^T x B of two tiles side by side, of one channel block: [element][tile][VW]; element k goes to v + k step."""
    cdef vi half[3 * SIDE]
    cdef vi d0, d1, d2, d3
    cdef int i, j
    for j in range(3):  # two pixels of four rows
        d0 = vi_load_wide(x + 2 * j * VW)
        d1 = vi_load_wide(x + row + 2 * j * VW)
        d2 = vi_load_wide(x + 2 * row + 2 * j * VW)
        d3 = vi_load_wide(x + 3 * row + 2 * j * VW)
        half[j] = vi_subtract_16(d0, d2)
        half[3 + j] = vi_add_16(d1, d2)
        half[6 + j] = vi_subtract_16(d2, d1)
        half[9 + j] = vi_subtract_16(d1, d3)
    for i in range(SIDE):  # a pixel of both tiles
        d0 = vi_low_halves(half[3 * i], half[3 * i + 1])
        d1 = vi_high_halves(half[3 * i], half[3 * i + 1])
        d2 = vi_low_halves(half[3 * i + 1], half[3 * i + 2])
        d3 = vi_high_halves(half[3 * i + 1], half[3 * i + 2])
        vi_store(<int32_t*>(v + (SIDE * i) * step), vi_subtract_16(d0, d2))
        vi_store(<int32_t*>(v + (SIDE * i + 1) * step), vi_add_16(d1, d2))
        vi_store(<int32_t*>(v + (SIDE * i + 2) * step), vi_subtract_16(d2, d1))
        vi_store(<int32_t*>(v + (SIDE * i + 3) * step), vi_subtract_16(d1, d3))


cdef inline inlined output_tile(const int32_t* m, int64_t step, vi bias, int32_t* sums) noexcept nogil:
    """A^T m A / 4 of one channel block, and the bias: two rows of sums, STORED tiles apart."""
    cdef vi top[SIDE]
    cdef vi bottom[SIDE]
    cdef vi d0, d1, d2, d3
    cdef int j
    for j in range(SIDE):
        d0 = vi_load(m + j * step)
        d1 = vi_load(m + (SIDE + j) * step)
        d2 = vi_load(m + (2 * SIDE + j) * step)
        d3 = vi_load(m + (3 * SIDE + j) * step)
        top[j] = d0 + d1 + d2
        bottom[j] = d1 - d2 - d3
    vi_store(sums, vi_shift_right(top[0] + top[1] + top[2], 2) + bias)
    vi_store(sums + VW, vi_shift_right(top[1] - top[2] - top[3], 2) + bias)
    sums += STORED * M * VW
    vi_store(sums, vi_shift_right(bottom[0] + bottom[1] + bottom[2], 2) + bias)
    vi_store(sums + VW, vi_shift_right(bottom[1] - bottom[2] - bottom[3], 2) + bias)


cdef inline outlined transform_input(
    const Grid* g, const int8_t* x, int64_t blocks, int64_t first, int64_t count, int64_t room, int16_t* v, int64_t step
) noexcept nogil:
    """Tiles first .. first + count - 1 of all channel blocks: v is [element][block][`room` tiles][VW]."""
    cdef int8_t patch[SIDE * 3 * M * VW]
    cdef int64_t t = 0, c, top, left, rows, columns, row, i
    cdef const int8_t* at
    while t < count:
        top = (first + t) // g.columns * M - g.pad_h
        left = (first + t) % g.columns * M - g.pad_w
        rows = min(g.x_bottom - top, <int64_t>SIDE)
        columns = min(g.x_right - left, <int64_t>(3 * M))
        for c in range(blocks):
            at = x + c * g.x_plane + top * g.x_row + left * VW
            row = g.x_row
            if rows < SIDE or columns < 3 * M:
                memset(patch, 0, sizeof(patch))
                for i in range(rows):
                    memcpy(patch + i * 3 * M * VW, at + i * g.x_row, columns * VW)
                at = patch
                row = 3 * M * VW
            input_tiles(at, row, v + (c * room + t) * VW, step)
        # What was made of a second tile that is not there, or not beside this one, is overwritten or not read.
        t += 2 if (first + t + 1) % g.columns else 1


cdef inline outlined transform_output(
    const Grid* g, const int32_t* m, int64_t step, int64_t tile_step, int64_t first, int64_t count, vi* bias,
    int64_t y_row, int64_t z_row, const Int8Output* at
) noexcept nogil:
    """Tiles first .. first + count - 1 of one channel block, `tile_step` apart; y_row is in bytes."""
    cdef vi room[M * STORED * M]  # aligned
    cdef int32_t* sums = <int32_t*>room
    cdef int64_t t = 0, left, top, pixels
    cdef int k, tiles
    cdef Int8Output o
    while t < count:
        top = (first + t) // g.columns * M
        left = (first + t) % g.columns
        tiles = <int>min(min(count - t, g.columns - left), <int64_t>STORED)
        left *= M
        for k in range(tiles):
            output_tile(m + (t + k) * tile_step, step, bias[0], sums + k * M * VW)
        pixels = min(<int64_t>(tiles * M), g.ow - left)
        o = at[0]
        o.y += top * y_row + left * o.y_pixel
        if o.z:
            o.z += top * z_row + left * o.z_pixel
        store_sums(sums, <int>pixels, 1, &o)
        if top + 1 < g.oh:
            o.y += y_row
            if o.z:
                o.z += z_row
            store_sums(sums + STORED * M * VW, <int>pixels, 1, &o)
        t += tiles


# ---- products ------------------------------------------------------------------------------------------------------

cdef inline inlined product_of(
    int VECTORS, int64_t count, const DotSum* s, const int16_t* v, const int16_t* w, const int32_t* zeros, int32_t* m
) noexcept nogil:
    """m is [tile][vector][VW]. The last block may compute one tile more than there are."""
    cdef const uint8_t* x = <const uint8_t*>v
    cdef const int8_t* weights = <const int8_t*>w
    while count > 4:
        dot_block(WIDE_PIXELS, VECTORS, 2 * VW, WIDE, False, s, x, weights, zeros, m)
        x += WIDE_PIXELS * 2 * VW
        m += WIDE_PIXELS * VECTORS * VW
        count -= WIDE_PIXELS
    if count > 2:
        dot_block(4, VECTORS, 2 * VW, WIDE, False, s, x, weights, zeros, m)
    elif count > 0:
        dot_block(2, VECTORS, 2 * VW, WIDE, False, s, x, weights, zeros, m)


cdef inline outlined product(
    int vectors, int64_t count, const DotSum* s, const int16_t* v, const int16_t* w, int32_t* m
) noexcept nogil:
    cdef int32_t zeros[TILE_BLOCKS * VW]
    memset(zeros, 0, sizeof(zeros))
    if vectors == 2:
        product_of(2, count, s, v, w, zeros, m)
    else:
        product_of(1, count, s, v, w, zeros, m)


# The scratch of a run has one matrix for each element of a transformed tile: first those of the input, then those of
# TILE_BLOCKS channel blocks of the output. They have room for a tile more than there are. The steps between them are one
# vector longer than needed: matrices whose distance is a multiple of 4096 bytes would share cache sets.

cdef inline int64_t room_of(int64_t tiles) noexcept nogil:
    return (tiles + 2) // 2 * 2


cdef inline int64_t input_step(int64_t ic_blocks, int64_t tiles) noexcept nogil:
    """16-bit numbers from one input matrix to the next."""
    return (ic_blocks * room_of(tiles) + 2) * VW


cdef inline int64_t output_step(int64_t tiles) noexcept nogil:
    """Sums from one output matrix to the next."""
    return (TILE_BLOCKS * room_of(tiles) + 1) * VW


def scratch_bytes(int64_t ic, int64_t tiles):
    """Bytes of scratch with `tiles` in the longest run."""
    return AREA * (2 * input_step((ic + VW - 1) // VW, tiles) + 4 * output_step(tiles))


cdef struct ConvWinogradInt8Args:
    const int8_t* x
    const int16_t* w
    const int32_t* bias
    const float* scales
    const float* real_bias
    const uint8_t* z
    uint8_t* y
    Strides x_, y_, z_
    int64_t x_bottom, x_right, ic, oc, oh, ow, pad_h, pad_w, tile_blocks, parts
    Requantize requantize


cdef void conv_winograd2_int8(const ConvWinogradInt8Args* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """One work item = one of `tile_blocks` runs of tiles of one image, for one of `parts` parts of the output channels.

    x, y and z point at element (0, 0, 0, 0), strides are in elements; x are signed bytes with a halo of at least the
    padding. x_bottom and x_right are its height and width plus the halo on that side. y may be z. Scratch:
    scratch_bytes(ic, tiles).
    """
    cdef int64_t x_image = a.x_.image, y_plane = a.y_.plane, y_image = a.y_.image, z_plane = a.z_.plane
    cdef int64_t z_row = a.z_.row, z_image = a.z_.image, ic = a.ic, oc = a.oc, tile_blocks = a.tile_blocks
    cdef int64_t parts = a.parts, pairs = (ic + 1) // 2
    cdef int64_t ic_blocks = (ic + VW - 1) // VW, oc_blocks = (oc + VW - 1) // VW
    cdef int64_t oc_tiles = (oc_blocks + TILE_BLOCKS - 1) // TILE_BLOCKS
    cdef int64_t tiles, item, room, v_step, m_step, tile, k, block, size
    cdef int64_t transformed = -1
    cdef int vectors, b
    cdef int16_t* v = <int16_t*>scratch
    cdef int32_t* m
    cdef const int16_t* from_w
    cdef vi bias
    cdef Grid g
    cdef TileRun run
    cdef DotSum s
    cdef Int8Output o
    g = Grid((a.ow + M - 1) // M, a.pad_h, a.pad_w, a.x_.row, a.x_.plane, a.x_bottom, a.x_right, a.oh, a.ow)
    tiles = (g.oh + M - 1) // M * g.columns
    read_output(&o, &a.requantize, a.scales, a.real_bias, a.z, VW, y_plane, VW, z_plane)
    size = result_size(&o)
    for item in range(begin, end):
        run = run_of(item, tiles, tile_blocks, parts)
        room = room_of(run.count)
        v_step = input_step(ic_blocks, run.count)
        m_step = output_step(run.count)
        m = <int32_t*>(v + AREA * v_step)
        s = DotSum(1, 1, 0, 1, 0, 1, 0, pairs, pairs, 4, room * 2 * VW, 0)
        if transformed != run.number:
            transform_input(&g, a.x + run.image * x_image, ic_blocks, run.first, run.count, room, v, v_step)
            transformed = run.number
        for tile in range(oc_tiles * run.part // parts, oc_tiles * (run.part + 1) // parts):
            vectors = 2 if tile * TILE_BLOCKS + 1 < oc_blocks else 1
            for k in range(AREA):
                from_w = a.w + (tile * TILE_BLOCKS * AREA + k * vectors) * pairs * 2 * VW
                product(vectors, run.count, &s, v + k * v_step, from_w, m + k * m_step)
            for b in range(vectors):
                block = tile * TILE_BLOCKS + b
                go_to_channel(&o, a.scales, a.real_bias, block * VW)
                o.y = a.y + (run.image * y_image + block * y_plane) * size
                o.z = a.z + run.image * z_image + block * z_plane if a.z else NULL
                bias = vi_load(a.bias + block * VW)
                transform_output(
                    &g, m + b * VW, m_step, vectors * VW, run.first, run.count, &bias, a.y_.row * size, z_row, &o,
                )


include "conv_winograd_int8_table.pxi"
