"""Winograd convolution F(m x m, 3 x 3) in float32 and blocked layout: 3 x 3 filters, stride 1, no dilation, dense.

Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308). An output tile of m x m pixels
needs an input tile of s x s, s = m + 2; in the transformed domain the convolution is s^2 matrix products over the
input channels. F(4 x 4) interpolates at 0, +-sqrt(1/2), +-sqrt(2) and infinity: these points lose less accuracy than
integers, and most constants are cheap.

Weights: ``[tile of 2 channel blocks][s s][ic][channels of the tile]``
(:func:`megengine_lite._core.cpu.packing.float32.pack_winograd`, which holds the filter transform). In half precision
they are float16 or stay float32: the output transform magnifies errors, those of bfloat16 too much.
"""

from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from megengine_lite.kernels.common.block cimport NEAR, BlockSum, conv_row, sum_of_channels, weight
from megengine_lite.kernels.common.block_output cimport (
    BlockOutput, activate_stored, runs_on_stored, set_activation, store_block,
)
from megengine_lite.kernels.common.arguments cimport Epilogue, Strides
from megengine_lite.kernels.common.fetch cimport WeightFetch
from megengine_lite.kernels.common.shared_constants cimport LINE, TILE_BLOCKS, WEIGHTS_FLOAT16
from megengine_lite.kernels.common.simd cimport BY_LANE, VW, f16, forget_loads, inlined, moved_by, \
    moved_by_const, outlined, prefetch_far, prefetch_write, vf, vf_fma, vf_load, vf_set1, vf_store
from megengine_lite.kernels.common.vmath cimport ACT_NONE
from megengine_lite.kernels.conv.winograd_grid cimport Grid, TileRun, run_of

# The squares of the points of F(4), and the points.
cdef extern from *:
    """
    #define WINOGRAD_P2 0.5
    #define WINOGRAD_Q2 2.0
    #define WINOGRAD_P 0.70710678118654752
    #define WINOGRAD_Q 1.4142135623730951
    """
    const double P2 "WINOGRAD_P2", Q2 "WINOGRAD_Q2", P "WINOGRAD_P", Q "WINOGRAD_Q"

# For packing: the squares of the points of F(m), beside 0 and infinity. Each stands for a point and its opposite.
POINT_SQUARES = {2: (1.0,), 4: (P2, Q2)}

cdef enum:
    MAX_SIDE = 6
    MAX_AREA = 36
    TILES_AHEAD = 6  # memory is fetched before its tile is transformed


# ---- transforms of one line ----------------------------------------------------------------------------------------

cdef inline inlined input_line(int M, const vf* d, vf* r) noexcept nogil:
    """B^T d. For F(4): the product of the squares is 1."""
    cdef vf even, odd, p = vf_set1(P), q = vf_set1(Q)
    cdef vf two = vf_set1(-Q2), half = vf_set1(-P2), sum2 = vf_set1(-P2 - Q2)
    if M == 2:
        r[0] = d[0] - d[2]
        r[1] = d[1] + d[2]
        r[2] = d[2] - d[1]
        r[3] = d[1] - d[3]
    else:
        r[0] = vf_fma(d[2], sum2, d[0]) + d[4]
        even = vf_fma(d[2], two, d[4])
        odd = vf_fma(d[1], two, d[3]) * p
        r[1] = even + odd
        r[2] = even - odd
        even = vf_fma(d[2], half, d[4])
        odd = vf_fma(d[1], half, d[3]) * q
        r[3] = even + odd
        r[4] = even - odd
        r[5] = vf_fma(d[3], sum2, d[1]) + d[5]


cdef inline inlined output_line(int M, const vf* d, vf* r) noexcept nogil:
    """A^T d."""
    cdef vf even1, odd1, even2, odd2
    if M == 2:
        r[0] = d[0] + d[1] + d[2]
        r[1] = d[1] - d[2] - d[3]
    else:
        even1 = d[1] + d[2]
        odd1 = (d[1] - d[2]) * vf_set1(P)
        even2 = d[3] + d[4]
        odd2 = (d[3] - d[4]) * vf_set1(Q)
        r[0] = d[0] + even1 + even2
        r[1] = odd1 + odd2
        r[2] = vf_fma(even1, vf_set1(P2), even2 + even2)
        r[3] = vf_fma(odd1, vf_set1(P2), odd2 + odd2) + d[5]


# ---- transforms of one tile ----------------------------------------------------------------------------------------

cdef inline int tile_parts(int M) noexcept nogil:
    """In how many parts a tile of F(4) is transformed: two of its six lines, with what they need, fit 32 registers.
    Each part loads the tile again."""
    return 3 if BY_LANE and M == 4 else 1


cdef inline int part_of_line(int M, int i) noexcept nogil:
    """The part that has line i: lines of opposite points are computed together."""
    return (i + 1) // 2 % tile_parts(M)


cdef inline inlined input_tile(int M, const float* x, int64_t row, float* v, int64_t step) noexcept nogil:
    """B^T x B of one channel block; element k of the result goes to v + k step."""
    cdef vf half[MAX_AREA]
    cdef vf d[MAX_SIDE]
    cdef vf r[MAX_SIDE]
    cdef const float* rows[MAX_SIDE]
    cdef float* to
    cdef int i, j, part
    rows[0] = x
    for i in range(1, M + 2):
        rows[i] = moved_by_const(rows[i - 1], row)
    for part in range(tile_parts(M)):
        if part:
            forget_loads()
        for j in range(M + 2):
            for i in range(M + 2):
                d[i] = vf_load(rows[i] + j * VW)
            input_line(M, d, r)
            for i in range(M + 2):
                if part_of_line(M, i) == part:
                    half[i * (M + 2) + j] = r[i]
        for i in range(M + 2):
            if part_of_line(M, i) == part:
                input_line(M, half + i * (M + 2), r)
                to = v + i * (M + 2) * step
                for j in range(M + 2):
                    vf_store(to, r[j])
                    to = moved_by(to, step)


cdef inline outlined store_edge(vf* pixels, int count, const BlockOutput* o) noexcept nogil:
    """A row of a tile of which only some pixels exist: one by one, so that the code for it is short."""
    cdef BlockOutput pixel = o[0]
    cdef int p
    for p in range(count):
        store_block(1, 1, pixels + p, &pixel)
        pixel.y += o.y_pixel
        if pixel.z:
            pixel.z += o.z_pixel


cdef inline inlined output_tile(
    int M, const float* m, int64_t step, int64_t rows, int64_t columns, int64_t y_row, int64_t z_row,
    const BlockOutput* o
) noexcept nogil:
    """A^T m A of one channel block, of which rows x columns pixels exist, with bias, z and activation."""
    cdef vf half[MAX_AREA]
    cdef vf d[MAX_SIDE]
    cdef vf r[MAX_SIDE]
    cdef vf edge[MAX_SIDE]
    cdef const float* at
    cdef BlockOutput row = o[0]
    cdef int i, j
    if runs_on_stored(o):
        row.code = ACT_NONE
    for j in range(M + 2):
        at = m
        for i in range(M + 2):
            d[i] = vf_load(at)
            at = moved_by_const(at, (M + 2) * step)
        m = moved_by_const(m, step)
        output_line(M, d, r)
        for i in range(M):
            half[i * (M + 2) + j] = r[i]
    for i in range(M):
        for j in range(M):
            prefetch_write(row.y + (j + TILES_AHEAD * M) * VW)
        if i < rows:
            output_line(M, half + i * (M + 2), r)
            if columns == M:
                store_block(M, 1, r, &row)
            else:
                for j in range(M):
                    edge[j] = r[j]
                store_edge(edge, <int>columns, &row)
            row.y += y_row
            if row.z:
                row.z += z_row
    if runs_on_stored(o):
        row = o[0]
        row.y_plane = y_row
        activate_stored(&row, <int>columns, <int>min(rows, <int64_t>M))


# ---- stages --------------------------------------------------------------------------------------------------------

cdef inline inlined transform_input(
    int M, const Grid* g, const float* x, int64_t blocks, int64_t first, int64_t count, float* v, int64_t v_step
) noexcept nogil:
    """Tiles first .. first + count - 1 of all channel blocks: v is [s s][block][tile][VW]."""
    cdef float patch[MAX_AREA * VW]
    cdef int64_t t, c, top, left, rows, columns, row, i
    cdef const float* at
    cdef int j
    for t in range(count):
        top = (first + t) // g.columns * M - g.pad_h
        left = (first + t) % g.columns * M - g.pad_w
        rows = min(g.x_bottom - top, <int64_t>(M + 2))
        columns = min(g.x_right - left, <int64_t>(M + 2))
        for c in range(blocks):
            at = x + c * g.x_plane + top * g.x_row + left * VW
            row = g.x_row
            if rows == M + 2 and columns == M + 2:
                for i in range(M + 2):
                    for j in range((M * VW + LINE - 1) // LINE):
                        prefetch_far(at + i * g.x_row + TILES_AHEAD * M * VW + j * LINE)
            else:
                memset(patch, 0, sizeof(patch))
                for i in range(rows):
                    memcpy(patch + i * (M + 2) * VW, at + i * g.x_row, columns * VW * sizeof(float))
                at = patch
                row = (M + 2) * VW
            input_tile(M, at, row, v + (c * count + t) * VW, v_step)


cdef inline inlined transform_output(
    int M, const Grid* g, const float* m, int64_t m_step, int64_t first, int64_t count, int64_t y_row, int64_t z_row,
    const BlockOutput* o
) noexcept nogil:
    """Tiles first .. first + count - 1 of one channel block."""
    cdef int64_t t, top, left
    cdef BlockOutput at
    for t in range(count):
        top = (first + t) // g.columns * M
        left = (first + t) % g.columns * M
        at = o[0]
        at.y += top * y_row + left * VW
        if at.z:
            at.z += top * z_row + left * VW
        output_tile(
            M, m + t * VW, m_step, min(g.oh - top, <int64_t>M), min(g.ow - left, <int64_t>M), y_row, z_row, &at
        )


cdef inline outlined product_two(
    int64_t count, const BlockSum* s, const float* v, const weight* w, const WeightFetch* following,
    bint begins, const BlockOutput* o
) noexcept nogil:
    conv_row(NEAR, 2, VW, count, s, v, w, following, begins, o[0], NULL)


cdef inline outlined product_one(
    int64_t count, const BlockSum* s, const float* v, const weight* w, const WeightFetch* following,
    bint begins, const BlockOutput* o
) noexcept nogil:
    conv_row(NEAR, 1, VW, count, s, v, w, following, begins, o[0], NULL)


cdef inline void product(
    int vectors, int64_t count, int64_t ic, const BlockSum* s, const float* v, const weight* w, bint begins,
    const BlockOutput* o
) noexcept nogil:
    cdef WeightFetch following
    following.at = <const char*>(w + ic * vectors * VW)
    following.step = VW * vectors * VW * sizeof(w[0])
    if vectors == 2:
        product_two(count, s, v, w, &following, begins, o)
    else:
        product_one(count, s, v, w, &following, begins, o)


cdef struct ConvWinogradArgs:
    const float* x
    const void* w
    const float* bias
    const float* z
    float* y
    Strides x_, y_, z_
    int64_t weights, x_bottom, x_right, ic, oc, oh, ow, pad_h, pad_w, tile_blocks, parts
    Epilogue epilogue


# The scratch of a run has one matrix for each of the s^2 elements of a transformed tile: first those of the input, then
# those of TILE_BLOCKS channel blocks of the output. The steps between them are one vector longer than needed: matrices whose
# distance is a multiple of 4096 bytes would share cache sets.

cdef inline int64_t input_step(int64_t ic_blocks, int64_t tiles) noexcept nogil:
    """Floats from one input matrix to the next."""
    return (ic_blocks * tiles + 1) * VW


cdef inline int64_t output_step(int64_t tiles) noexcept nogil:
    """Floats from one output matrix to the next."""
    return (TILE_BLOCKS * tiles + 1) * VW


def scratch_bytes(int64_t m, int64_t ic, int64_t tiles):
    """Bytes of scratch that F(m x m, 3 x 3) needs, with `tiles` in the longest run."""
    cdef int64_t ic_blocks = (ic + VW - 1) // VW
    return 4 * (m + 2) * (m + 2) * (input_step(ic_blocks, tiles) + output_step(tiles))


cdef inline inlined winograd(
    int M, const ConvWinogradArgs* a, int64_t begin, int64_t end, float* scratch
) noexcept nogil:
    cdef const float* x = a.x
    cdef const float* bias = a.bias
    cdef const float* z = a.z
    cdef float* y = a.y
    cdef int64_t x_image = a.x_.image, y_row = a.y_.row, y_plane = a.y_.plane, y_image = a.y_.image
    cdef int64_t z_row = a.z_.row, z_plane = a.z_.plane, z_image = a.z_.image
    cdef int64_t ic = a.ic, oc = a.oc, tile_blocks = a.tile_blocks, parts = a.parts
    cdef int64_t area = (M + 2) * (M + 2)
    cdef int64_t ic_blocks = (ic + VW - 1) // VW, oc_blocks = (oc + VW - 1) // VW
    cdef int64_t oc_tiles = (oc_blocks + TILE_BLOCKS - 1) // TILE_BLOCKS
    cdef int64_t from_w, tiles, item, v_step, m_step, first_tile, tile, k, block
    cdef int64_t transformed = -1
    cdef int vectors, b
    cdef bint begins
    cdef const float* from_v
    cdef float* m
    cdef Grid g
    cdef TileRun run
    cdef BlockSum s
    cdef BlockOutput p, o
    cdef Epilogue none = Epilogue(activation=ACT_NONE, act_a=0, act_b=0)
    g = Grid((a.ow + M - 1) // M, a.pad_h, a.pad_w, a.x_.row, a.x_.plane, a.x_bottom, a.x_right, a.oh, a.ow)
    tiles = (g.oh + M - 1) // M * g.columns
    p.bias = p.z = NULL
    p.z_pixel = p.z_plane = 0
    set_activation(&p, &none)
    o.y_pixel = o.z_pixel = VW
    o.y_plane = o.z_plane = 0
    set_activation(&o, &a.epilogue)
    for item in range(begin, end):
        run = run_of(item, tiles, tile_blocks, parts)
        v_step = input_step(ic_blocks, run.count)
        m_step = output_step(run.count)
        m = scratch + area * v_step
        if transformed != run.number:
            transform_input(M, &g, x + run.image * x_image, ic_blocks, run.first, run.count, scratch, v_step)
            transformed = run.number
        s = sum_of_channels(ic, run.count * VW, VW)
        p.y_pixel = VW
        p.y_plane = run.count * VW
        first_tile = oc_tiles * run.part // parts
        for tile in range(first_tile, oc_tiles * (run.part + 1) // parts):
            vectors = 2 if tile * TILE_BLOCKS + 1 < oc_blocks else 1
            for k in range(area):
                p.y = m + k * m_step
                from_v = scratch + k * v_step
                begins = tile == first_tile and k == 0
                from_w = (tile * TILE_BLOCKS * area + k * vectors) * ic * VW
                if a.weights == WEIGHTS_FLOAT16:
                    product(vectors, run.count, ic, &s, from_v, <const f16*>a.w + from_w, begins, &p)
                else:
                    product(vectors, run.count, ic, &s, from_v, <const float*>a.w + from_w, begins, &p)
            for b in range(vectors):
                block = tile * TILE_BLOCKS + b
                o.bias = bias + block * VW if bias else NULL
                o.y = y + run.image * y_image + block * y_plane
                o.z = z + run.image * z_image + block * z_plane if z else NULL
                transform_output(M, &g, m + b * run.count * VW, m_step, run.first, run.count, y_row, z_row, &o)


cdef void conv_winograd4_f32(const ConvWinogradArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """F(4 x 4, 3 x 3). One work item = one of `tile_blocks` runs of tiles of one image, for one of `parts` parts of the
    output channels.

    x, y and z point at element (0, 0, 0, 0); x needs a halo of at least the padding. x_bottom and x_right are its
    height and width plus the halo on that side. `weights` is FLOAT32 or FLOAT16. y may be z. Scratch:
    scratch_bytes(4, ic, tiles).
    """
    winograd(4, a, begin, end, <float*>scratch)


cdef void conv_winograd2_f32(const ConvWinogradArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """F(2 x 2, 3 x 3); otherwise like conv_winograd4_f32."""
    winograd(2, a, begin, end, <float*>scratch)


include "conv_winograd_table.pxi"
