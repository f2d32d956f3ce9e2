"""Float32 convolution of groups of one and a half channel blocks, two groups at once: any filter and stride.

A group has as many outputs as inputs, so that two groups have three blocks of each: the block in the middle has the last
channels of the first group and the first ones of the second. For channel l of both groups, the first block of outputs
takes that of the first group, the last block that of the second, and the block in the middle one half of each. Weights
are packed as ``[pair of groups][kh][kw][channel of the group][3 blocks][VW]``
(:func:`megengine_lite._core.cpu.packing.float32.pack_halves`).
"""

from libc.stdint cimport int64_t

from megengine_lite.kernels.common.arguments cimport Epilogue, FilterWindow, Strides
from megengine_lite.kernels.common.block_output cimport BlockOutput, set_activation, skip_pixels, store_block
from megengine_lite.kernels.common.simd cimport (
    VREGS, VW, inlined, outlined, vf, vf_fma, vf_halves, vf_held, vf_load, vf_set1, vf_zero,
)

cdef enum:
    BLOCKS = 3  # of two groups
    HALF = VW // 2
    MOST_PIXELS = 8


# The filter and how it moves over one plane.
cdef struct PairFilter:
    int64_t kh, kw
    int64_t row, column, plane  # elements between the inputs of neighbouring places of the filter, and between blocks
    int64_t half                # HALF; a constant would make compilers unroll loops that are long enough


cdef inline inlined add_half(
    int PIXELS, int64_t STEP, int64_t half, const float* first, const float* second, const float* w, vf* acc
) noexcept nogil:
    """The products of half a block of channels of both groups, each from where its own lie."""
    cdef vf a, b, left, middle, right
    cdef int64_t l
    cdef int p
    for l in range(half):
        left = vf_load(w)
        middle = vf_load(w + VW)
        right = vf_load(w + 2 * VW)
        for p in range(PIXELS):
            a = vf_set1(first[p * STEP])
            b = vf_held(vf_set1(second[p * STEP]))
            acc[p * BLOCKS] = vf_fma(a, left, acc[p * BLOCKS])
            acc[p * BLOCKS + 1] = vf_fma(vf_halves(a, b), middle, acc[p * BLOCKS + 1])
            acc[p * BLOCKS + 2] = vf_fma(b, right, acc[p * BLOCKS + 2])
        first += 1
        second += 1
        w += BLOCKS * VW


cdef inline inlined pair_block(
    int PIXELS, int64_t STEP, const PairFilter* f, const float* x, const float* w, const BlockOutput* o
) noexcept nogil:
    """PIXELS outputs side by side, of both groups."""
    cdef vf acc[BLOCKS * MOST_PIXELS]
    cdef const float* at
    cdef const float* middle
    cdef int64_t j, k
    cdef int p
    for p in range(BLOCKS * PIXELS):
        acc[p] = vf_zero()
    for j in range(f.kh):
        for k in range(f.kw):
            at = x + j * f.row + k * f.column
            middle = at + f.plane
            add_half(PIXELS, STEP, f.half, at, middle + HALF, w, acc)
            add_half(PIXELS, STEP, f.half, at + HALF, middle + f.plane, w + HALF * BLOCKS * VW, acc)
            add_half(PIXELS, STEP, f.half, middle, middle + f.plane + HALF, w + 2 * HALF * BLOCKS * VW, acc)
            w += 3 * HALF * BLOCKS * VW
    store_block(PIXELS, BLOCKS, acc, o)


cdef inline inlined pair_row(
    int64_t STEP, int64_t pixels, const PairFilter* f, const float* x, const float* w, const BlockOutput* output
) noexcept nogil:
    """`pixels` outputs side by side, in blocks of nearly equal sizes."""
    cdef BlockOutput o = output[0]
    cdef int64_t most = MOST_PIXELS if VREGS == 32 else 3
    cdef int64_t blocks = (pixels + most - 1) // most, k, first = 0, count
    for k in range(blocks):
        count = pixels * (k + 1) // blocks - first
        if VREGS == 32 and count == 8:
            pair_block(8, STEP, f, x, w, &o)
        elif VREGS == 32 and count == 7:
            pair_block(7, STEP, f, x, w, &o)
        elif VREGS == 32 and count == 6:
            pair_block(6, STEP, f, x, w, &o)
        elif VREGS == 32 and count == 5:
            pair_block(5, STEP, f, x, w, &o)
        elif VREGS == 32 and count == 4:
            pair_block(4, STEP, f, x, w, &o)
        elif count == 3:
            pair_block(3, STEP, f, x, w, &o)
        elif count == 2:
            pair_block(2, STEP, f, x, w, &o)
        else:
            pair_block(1, STEP, f, x, w, &o)
        first += count
        x += count * STEP
        skip_pixels(&o, count)


cdef inline outlined pair_row_near(
    int64_t pixels, const PairFilter* f, const float* x, const float* w, const BlockOutput* o
) noexcept nogil:
    pair_row(VW, pixels, f, x, w, o)


cdef inline outlined pair_row_apart(
    int64_t pixels, const PairFilter* f, const float* x, const float* w, const BlockOutput* o
) noexcept nogil:
    pair_row(2 * VW, pixels, f, x, w, o)


cdef inline outlined pair_row_any(
    int64_t step, int64_t pixels, const PairFilter* f, const float* x, const float* w, const BlockOutput* o
) noexcept nogil:
    pair_row(step, pixels, f, x, w, o)


cdef struct ConvHalvesArgs:
    const float* x
    const float* w
    const float* bias
    const float* z
    float* y
    Strides x_, y_, z_
    int64_t pairs, oh, ow
    FilterWindow window
    Epilogue epilogue


cdef void conv_halves_f32(const ConvHalvesArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """One work item = one output row of two groups of one image.

    x, y and z point at element (0, 0, 0, 0) of `pairs` groups times two; x needs a halo of at least the padding. y may
    be z.
    """
    cdef const float* x
    cdef const float* w
    cdef int64_t pairs = a.pairs, oh = a.oh, ow = a.ow, stride_w = a.window.stride_w
    cdef int64_t item, n, block, r
    cdef PairFilter f = PairFilter(
        a.window.kh, a.window.kw, a.window.dilate_h * a.x_.row, a.window.dilate_w * VW, a.x_.plane, HALF
    )
    cdef BlockOutput o
    o.z_pixel = o.y_pixel = VW
    o.z_plane = a.z_.plane
    o.y_plane = a.y_.plane
    set_activation(&o, &a.epilogue)
    for item in range(begin, end):
        n = item // (pairs * oh)
        block = item // oh % pairs * BLOCKS
        r = item % oh
        o.bias = a.bias + block * VW if a.bias else NULL
        o.y = a.y + n * a.y_.image + block * a.y_.plane + r * a.y_.row
        o.z = a.z + n * a.z_.image + block * a.z_.plane + r * a.z_.row if a.z else NULL
        x = a.x + n * a.x_.image + block * a.x_.plane + (r * a.window.stride_h - a.window.pad_h) * a.x_.row \
            - a.window.pad_w * VW
        w = a.w + block * f.kh * f.kw * 3 * HALF * VW
        if stride_w == 1:
            pair_row_near(ow, &f, x, w, &o)
        elif stride_w == 2:
            pair_row_apart(ow, &f, x, w, &o)
        else:
            pair_row_any(stride_w * VW, ow, &f, x, w, &o)


include "conv_halves_table.pxi"
