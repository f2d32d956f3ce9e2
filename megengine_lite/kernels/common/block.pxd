# The register block of float32 convolutions: PIXELS output pixels x VECTORS channel vectors, held in registers over
# the whole sum. Included (cimported) by the convolution kernels, which differ in how they walk over their output.
#
# With constant PIXELS, VECTORS and STEP the loops over the block unroll completely; `lanes` must stay a variable, or
# the compiler unrolls that loop as well and runs out of registers.
from libc.stdint cimport int32_t, int64_t, uint16_t

from megengine_lite.kernels.common.block_output cimport BlockOutput, store_block, store_vectors
from megengine_lite.kernels.common.fetch cimport AHEAD, WeightFetch, fetch, fetch_more
from megengine_lite.kernels.common.shared_constants cimport LINE
from megengine_lite.kernels.common.simd cimport (
    BY_LANE, VREGS, VW, bf16, bf16_pair, f16, forget_loads, inlined, is_constant, outlined, prefetch, prefetch_far,
    vf, vf_dot_bf16, vf_dot_bf16_memory, vf_first_of_pairs, vf_fma, vf_fma_lane, vf_fma_memory, vf_load,
    vf_load_bf16, vf_load_f16, vf_second_of_pairs, vf_set1, vf_store, vf_store_bf16, vf_store_f16, vf_zero, vi_load,
    vi_pairs_bf16, vi_store,
)

cdef enum:
    MAX_ACC = 28  # vectors of the largest block
    MAX_BY_LANE = 8  # pixels whose channels are all in registers
    SPARE_TAPS = 2


# How packed weights are stored. Single ones are widened to float32 in registers. Pairs of bfloat16 are multiplied with
# inputs that are such pairs, too: what is called a float of the input is a pair of channels then.
ctypedef fused weight:
    float
    bf16
    f16
    bf16_pair


# Where a block finds its input: in a near cache, and then its sums are stored as they are; perhaps in far memory, so
# that it fetches the pixels of the next block while it computes; or at the offsets of a table of taps.
cdef enum:
    NEAR
    FAR
    TABLE


# What is summed for one output pixel: x[a s0 + b s1 + c s2 + l] for a < n0, b < n1, c < n2 and l < lanes
# (l < lanes_last for the last a), each times its own row of weights. Short sums give a table instead: x[taps[l]]
# for l < lanes, in one loop. The table has SPARE_TAPS more, which are read but not used; behind the inputs of the last
# pixel up to VW - 1 floats are read.
cdef struct BlockSum:
    int64_t n0, s0, n1, s1, n2, s2, lanes, lanes_last
    const int64_t* taps


cdef inline BlockSum sum_of_channels(int64_t channels, int64_t plane, int64_t block) noexcept nogil:
    """One input of each channel, in blocks of `block` that lie `plane` apart. Whole blocks are the innermost loop: so it is left once for a
    block of outputs, not once for each block of channels."""
    cdef int64_t blocks = (channels + block - 1) // block
    if channels == blocks * block:
        return BlockSum(1, 0, 1, 0, blocks, plane, block, block, NULL)
    return BlockSum(blocks, plane, 1, 0, 1, 0, block, channels - (blocks - 1) * block, NULL)


# Where a row of outputs is broken: `left` pixels from its begin on, and then every `run` pixels, y goes `gap` floats
# further.
cdef struct RowBreaks:
    int64_t left, run, gap


cdef inline inlined store_sums(int INPUT, int PIXELS, int VECTORS, vf* acc, const BlockOutput* o) noexcept nogil:
    """The end of a block."""
    if INPUT == NEAR:
        store_vectors(PIXELS, VECTORS, acc, o)
    else:
        store_block(PIXELS, VECTORS, acc, o)


cdef inline inlined load_weights(int VECTORS, const weight* w, vf* row) noexcept nogil:
    """The weights of VECTORS (1 or 2) channel blocks: one vector after the other, or two of bfloat16 as pairs."""
    cdef int v
    if weight is bf16:
        if VECTORS == 2:
            row[0] = vf_first_of_pairs(vi_load(<const int32_t*>w))
            row[1] = vf_second_of_pairs(vi_load(<const int32_t*>w))
        else:
            row[0] = vf_load_bf16(w)
    elif weight is f16:
        for v in range(VECTORS):
            row[v] = vf_load_f16(<const uint16_t*>(w + v * VW))
    elif weight is bf16_pair:
        for v in range(VECTORS):
            row[v] = vf_load(<const float*>(w + v * VW))
    else:
        for v in range(VECTORS):
            row[v] = vf_load(w + v * VW)


cdef inline vf multiplied(const weight* kind, vf x, vf w, vf total) noexcept nogil:
    """The sum with a product, of what `kind` points at."""
    if weight is bf16_pair:
        return vf_dot_bf16(x, w, total)
    return vf_fma(x, w, total)


ctypedef fused half_weight:
    bf16
    f16
    bf16_pair


cdef inline inlined store_weights(int64_t lanes, int64_t rows, const float* x, half_weight* w) noexcept nogil:
    """Rounds rows of `lanes` numbers, one or two vectors, to what load_weights reads. Two rows make a row of pairs."""
    cdef int64_t k, v
    if half_weight is bf16:
        if lanes == 2 * VW:
            for k in range(rows):
                vi_store(<int32_t*>(w + k * lanes), vi_pairs_bf16(vf_load(x + k * lanes), vf_load(x + k * lanes + VW)))
        else:
            for k in range(rows):
                vf_store_bf16(w + k * VW, vf_load(x + k * VW))
    elif half_weight is bf16_pair:
        for k in range(rows // 2):
            for v in range(lanes // VW):
                vi_store(
                    <int32_t*>(w + k * lanes + v * VW),
                    vi_pairs_bf16(vf_load(x + 2 * k * lanes + v * VW), vf_load(x + (2 * k + 1) * lanes + v * VW)),
                )
    else:
        for k in range(rows * lanes // VW):
            vf_store_f16(<uint16_t*>(w + k * VW), vf_load(x + k * VW))


cdef inline inlined load_next_lane(
    int VECTORS, int l, int v, const weight* w, int64_t w_step, vf* row
) noexcept nogil:
    """After vector v of the weights of lane l has been used: the one that takes its register."""
    if l + 1 < VW:
        if weight is float:
            row[v] = vf_load(w + (l + 1) * w_step + v * VW)
        elif v + 1 == VECTORS:
            load_weights(VECTORS, w + (l + 1) * w_step, row)


cdef inline inlined fma_lanes(
    int PIXELS, int VECTORS, int64_t step, const float* x, const weight* w, int64_t w_step, vf* acc
) noexcept nogil:
    """VW neighbouring inputs of each pixel, `step` apart, times rows of weights. Loads stand some products before their
    use, for processors that do not look ahead."""
    cdef vf values[MAX_ACC]
    cdef vf row[2]
    cdef int k, p
    load_weights(VECTORS, w, row)
    for p in range(PIXELS if PIXELS < 3 else 3):
        values[p] = vf_load(x + p * step)
    for p in range(PIXELS):
        if p + 3 < PIXELS:
            values[p + 3] = vf_load(x + (p + 3) * step)
        acc[p * VECTORS] = vf_fma_lane(values[p], 0, row[0], acc[p * VECTORS])
    load_next_lane(VECTORS, 0, 0, w, w_step, row)
    for k in range(1, VW * VECTORS):  # vector k % VECTORS of lane k // VECTORS
        for p in range(PIXELS):
            acc[p * VECTORS + k % VECTORS] = vf_fma_lane(
                values[p], k // VECTORS, row[k % VECTORS], acc[p * VECTORS + k % VECTORS]
            )
        load_next_lane(VECTORS, k // VECTORS, k % VECTORS, w, w_step, row)


cdef inline inlined fma_channel(
    int PIXELS, int VECTORS, int64_t STEP, const float* x, const weight* w, vf* acc
) noexcept nogil:
    """One input channel of each pixel times its row of weights."""
    cdef vf row[2]
    cdef vf value
    cdef int p, v
    load_weights(VECTORS, w, row)
    for p in range(PIXELS):
        value = vf_set1(x[p * STEP])
        for v in range(VECTORS):
            acc[p * VECTORS + v] = vf_fma(value, row[v], acc[p * VECTORS + v])
    forget_loads()  # else gcc loads too much ahead, and runs out of registers


cdef inline inlined fma_four_channels(
    int PIXELS, int VECTORS, int64_t STEP, const float* x, const weight* w, vf* acc
) noexcept nogil:
    fma_channel(PIXELS, VECTORS, STEP, x, w, acc)
    fma_channel(PIXELS, VECTORS, STEP, x + 1, w + VECTORS * VW, acc)
    fma_channel(PIXELS, VECTORS, STEP, x + 2, w + 2 * VECTORS * VW, acc)
    fma_channel(PIXELS, VECTORS, STEP, x + 3, w + 3 * VECTORS * VW, acc)


cdef inline inlined fma_block(
    int INPUT, int PIXELS, int VECTORS, int64_t STEP, const float* x, const weight* w, vf* acc
) noexcept nogil:
    """A whole block of VW input channels of each pixel. Sets with 16 registers, whose VW is 4 or 8, unroll it, for few
    instructions beside the products: two threads that share a core share its decoder, too."""
    cdef int p
    if BY_LANE:
        fetch(VW * VECTORS * VW * sizeof(w[0]), <const char*>w + AHEAD)
        if INPUT == FAR:
            prefetch_far(x + PIXELS * STEP)
            prefetch_far(x + PIXELS * STEP + LINE)
        fma_lanes(PIXELS, VECTORS, STEP, x, w, VECTORS * VW, acc)
    else:
        if INPUT == FAR:
            for p in range(PIXELS * VW // LINE + 1):
                prefetch(x + PIXELS * STEP + p * LINE)
        fma_four_channels(PIXELS, VECTORS, STEP, x, w, acc)
        if VW == 8:
            fma_four_channels(PIXELS, VECTORS, STEP, x + 4, w + 4 * VECTORS * VW, acc)


cdef inline inlined fma_whole_blocks(
    int INPUT, int PIXELS, int VECTORS, int64_t STEP, int64_t count, const BlockSum* s, const float* x,
    const weight* w, WeightFetch* ahead, vf* acc
) noexcept nogil:
    """The part of a sum for a < count, where `lanes` is VW. No number of rounds is 0."""
    cdef int64_t n1 = s.n1, n2 = s.n2, s2 = s.s2, s1 = s.s1 - n2 * s2, s0 = s.s0 - n1 * s.s1, b, c
    while True:
        b = n1
        while True:
            c = n2
            while True:
                if not BY_LANE:
                    fetch_more(ahead)
                fma_block(INPUT, PIXELS, VECTORS, STEP, x, w, acc)
                w += VW * VECTORS * VW
                x += s2
                c -= 1
                if c == 0:
                    break
            x += s1
            b -= 1
            if b == 0:
                break
        x += s0
        count -= 1
        if count == 0:
            break


cdef inline inlined fma_taps(
    int PIXELS, int VECTORS, int64_t STEP, const BlockSum* s, const float* x, const weight* w, vf* acc
) noexcept nogil:
    """The sum of a table, for pixels 1 or 2 floats apart: one load gives several. Each iteration loads for the next."""
    cdef vf values[MAX_BY_LANE]
    cdef vf row[2]
    cdef const float* at = x + s.taps[0]
    cdef const weight* last = w + (s.lanes - 1) * VECTORS * VW
    cdef int64_t tap = s.taps[1], l
    cdef int p, v
    for p in range(((PIXELS - 1) * STEP) // VW + 1):
        values[p] = vf_load(at + p * VW)
    load_weights(VECTORS, w, row)
    for l in range(s.lanes):
        at = x + tap
        tap = s.taps[l + 2]
        w += VECTORS * VW
        if w > last:
            w = last
        for v in range(VECTORS):
            for p in range(PIXELS):
                acc[p * VECTORS + v] = vf_fma_lane(
                    values[p * STEP // VW], <int>(p * STEP % VW), row[v], acc[p * VECTORS + v]
                )
                if v + 1 == VECTORS and (p + 1 == PIXELS or (p + 1) * STEP % VW == 0):
                    values[p * STEP // VW] = vf_load(at + p * STEP // VW * VW)
            if weight is float:
                row[v] = vf_load(w + v * VW)
            elif v + 1 == VECTORS:
                load_weights(VECTORS, w, row)


cdef inline inlined conv_block_by_lane(
    int INPUT, int PIXELS, int VECTORS, int64_t STEP, const BlockSum* s, const float* x, const weight* w,
    const BlockOutput* o
) noexcept nogil:
    """conv_block, with several inputs from one load."""
    cdef vf acc[MAX_ACC]
    cdef vf row[2]
    cdef vf value
    cdef const float* at
    cdef int64_t b, c, l, whole = s.n0 if s.lanes_last == VW else s.n0 - 1
    cdef int p, v
    for p in range(PIXELS * VECTORS):
        acc[p] = vf_zero()
    if INPUT == TABLE:
        fma_taps(PIXELS, VECTORS, STEP, s, x, w, acc)
    else:
        if whole * s.n1 * s.n2:  # a phase of a transposed convolution may have no taps
            fma_whole_blocks(INPUT, PIXELS, VECTORS, STEP, whole, s, x, w, NULL, acc)
    if INPUT != TABLE and whole < s.n0:
        w += whole * s.n1 * s.n2 * VW * VECTORS * VW
        for b in range(s.n1):
            for c in range(s.n2):
                at = x + whole * s.s0 + b * s.s1 + c * s.s2
                for l in range(s.lanes_last):
                    load_weights(VECTORS, w, row)
                    for p in range(PIXELS):
                        value = vf_set1(at[p * STEP + l])
                        for v in range(VECTORS):
                            acc[p * VECTORS + v] = vf_fma(value, row[v], acc[p * VECTORS + v])
                    w += VECTORS * VW
    store_sums(INPUT, PIXELS, VECTORS, acc, o)


cdef inline inlined multiply_row(
    int VECTORS, int number, const float* x, const weight* kind, const vf* row, vf* acc
) noexcept nogil:
    """Adds one input times a row of weights; `number` counts the inputs of a step.

    With 32 registers, every second input is read once for each product: an instruction less, and a load more. Loads and
    products then take about as long as each other, in fewer instructions.
    """
    cdef vf value
    cdef int v
    if VREGS == 32 and number % 2:
        for v in range(VECTORS):
            if weight is bf16_pair:
                acc[v] = vf_dot_bf16_memory(x, row[v], acc[v])
            else:
                acc[v] = vf_fma_memory(x, row[v], acc[v])
    else:
        value = vf_set1(x[0])
        for v in range(VECTORS):
            acc[v] = multiplied(kind, value, row[v], acc[v])


cdef inline inlined conv_block(
    int INPUT, int PIXELS, int VECTORS, int64_t STEP, const BlockSum* s, const float* x, const weight* w,
    WeightFetch* ahead, const BlockOutput* o
) noexcept nogil:
    """One block. Pixel p reads from x + p STEP; weights are [a][b][c][l][VECTORS VW]."""
    cdef vf acc[MAX_ACC]
    cdef vf row[4]
    cdef const float* at
    cdef const float* x_l
    cdef int64_t a, b, c, l, lanes, first = 0
    cdef int p, v
    if BY_LANE:
        if INPUT != TABLE or is_constant(STEP) and STEP <= 2:
            conv_block_by_lane(INPUT, PIXELS, VECTORS, STEP, s, x, w, o)
            return
    for p in range(PIXELS):
        for v in range(VECTORS):
            acc[p * VECTORS + v] = vf_zero()
    if VREGS == 16 and INPUT != TABLE:
        first = s.n0 if s.lanes_last == VW else s.n0 - 1
        if first * s.n1 * s.n2:  # as in conv_block_by_lane
            fma_whole_blocks(INPUT, PIXELS, VECTORS, STEP, first, s, x, w, ahead, acc)
        w += first * s.n1 * s.n2 * VW * VECTORS * VW
    for a in range(first, 1 if INPUT == TABLE else s.n0):
        lanes = s.lanes if INPUT == TABLE or a + 1 < s.n0 else s.lanes_last
        for b in range(1 if INPUT == TABLE else s.n1):
            for c in range(1 if INPUT == TABLE else s.n2):
                at = x if INPUT == TABLE else x + a * s.s0 + b * s.s1 + c * s.s2
                if INPUT == FAR and VW < LINE:
                    for p in range(PIXELS * VW // LINE + 1):
                        prefetch(at + PIXELS * STEP + p * LINE)
                if INPUT != TABLE:
                    fetch_more(ahead)
                for l in range(lanes):
                    load_weights(VECTORS, w, row)
                    if INPUT == FAR and VW == LINE:
                        prefetch(at + (PIXELS + l) * STEP)
                    x_l = at + (s.taps[l] if INPUT == TABLE else l)
                    for p in range(PIXELS):
                        multiply_row(VECTORS, p, x_l + p * STEP, w, row, acc + p * VECTORS)
                    w += VECTORS * VW
    store_sums(INPUT, PIXELS, VECTORS, acc, o)


cdef inline int block_pixels(int INPUT, int vectors) noexcept nogil:
    """The largest block: with its weights and inputs it just fits the registers."""
    if BY_LANE:
        return 12 if INPUT == TABLE else MAX_BY_LANE
    if VREGS == 32:
        return 14
    return 6 if vectors == 2 else 12


# The same branches stand in conv_block_of. Calling one function from the other leaves the code for x86-64 as it is, but
# on ARM64 gcc then loads in another order: the largest loop of conv_direct takes 65 cycles instead of 58 in the model of
# a Cortex-A55.
cdef inline inlined conv_block_up_to_8(
    int INPUT, int pixels, int VECTORS, int64_t STEP, const BlockSum* s, const float* x, const weight* w,
    WeightFetch* ahead, const BlockOutput* o
) noexcept nogil:
    if pixels == 8:
        conv_block(INPUT, 8, VECTORS, STEP, s, x, w, ahead, o)
    elif pixels == 7:
        conv_block(INPUT, 7, VECTORS, STEP, s, x, w, ahead, o)
    elif pixels == 6:
        conv_block(INPUT, 6, VECTORS, STEP, s, x, w, ahead, o)
    elif pixels == 5:
        conv_block(INPUT, 5, VECTORS, STEP, s, x, w, ahead, o)
    elif pixels == 4:
        conv_block(INPUT, 4, VECTORS, STEP, s, x, w, ahead, o)
    elif pixels == 3:
        conv_block(INPUT, 3, VECTORS, STEP, s, x, w, ahead, o)
    elif pixels == 2:
        conv_block(INPUT, 2, VECTORS, STEP, s, x, w, ahead, o)
    else:
        conv_block(INPUT, 1, VECTORS, STEP, s, x, w, ahead, o)


cdef inline inlined conv_block_of(
    int INPUT, int pixels, int VECTORS, int64_t STEP, const BlockSum* s, const float* x, const weight* w,
    WeightFetch* ahead, const BlockOutput* o
) noexcept nogil:
    """conv_block for a number of pixels that is no constant: at most block_pixels(INPUT, VECTORS)."""
    if BY_LANE:
        if INPUT != TABLE:
            conv_block_up_to_8(INPUT, pixels, VECTORS, STEP, s, x, w, ahead, o)
            return
    if VREGS == 32 and not BY_LANE and pixels == 14:
        conv_block(INPUT, 14, VECTORS, STEP, s, x, w, ahead, o)
    elif VREGS == 32 and not BY_LANE and pixels == 13:
        conv_block(INPUT, 13, VECTORS, STEP, s, x, w, ahead, o)
    elif (VREGS == 32 or VECTORS == 1) and pixels == 12:
        conv_block(INPUT, 12, VECTORS, STEP, s, x, w, ahead, o)
    elif (VREGS == 32 or VECTORS == 1) and pixels == 11:
        conv_block(INPUT, 11, VECTORS, STEP, s, x, w, ahead, o)
    elif (VREGS == 32 or VECTORS == 1) and pixels == 10:
        conv_block(INPUT, 10, VECTORS, STEP, s, x, w, ahead, o)
    elif (VREGS == 32 or VECTORS == 1) and pixels == 9:
        conv_block(INPUT, 9, VECTORS, STEP, s, x, w, ahead, o)
    elif (VREGS == 32 or VECTORS == 1) and pixels == 8:
        conv_block(INPUT, 8, VECTORS, STEP, s, x, w, ahead, o)
    elif (VREGS == 32 or VECTORS == 1) and pixels == 7:
        conv_block(INPUT, 7, VECTORS, STEP, s, x, w, ahead, o)
    elif pixels == 6:
        conv_block(INPUT, 6, VECTORS, STEP, s, x, w, ahead, o)
    elif pixels == 5:
        conv_block(INPUT, 5, VECTORS, STEP, s, x, w, ahead, o)
    elif pixels == 4:
        conv_block(INPUT, 4, VECTORS, STEP, s, x, w, ahead, o)
    elif pixels == 3:
        conv_block(INPUT, 3, VECTORS, STEP, s, x, w, ahead, o)
    elif pixels == 2:
        conv_block(INPUT, 2, VECTORS, STEP, s, x, w, ahead, o)
    else:
        conv_block(INPUT, 1, VECTORS, STEP, s, x, w, ahead, o)


cdef inline inlined conv_block_any_step(
    int INPUT, int pixels, int VECTORS, int64_t step, const BlockSum* s, const float* x, const weight* w,
    WeightFetch* ahead, const BlockOutput* o
) noexcept nogil:
    """For steps that are rare in networks: few pixels at a time, so that their addresses fit the integer registers."""
    if VREGS == 32 and pixels == 7:
        conv_block(INPUT, 7, VECTORS, step, s, x, w, ahead, o)
    elif VREGS == 32 and pixels == 6:
        conv_block(INPUT, 6, VECTORS, step, s, x, w, ahead, o)
    elif pixels == 5:
        conv_block(INPUT, 5, VECTORS, step, s, x, w, ahead, o)
    elif pixels == 4:
        conv_block(INPUT, 4, VECTORS, step, s, x, w, ahead, o)
    elif pixels == 3:
        conv_block(INPUT, 3, VECTORS, step, s, x, w, ahead, o)
    elif pixels == 2:
        conv_block(INPUT, 2, VECTORS, step, s, x, w, ahead, o)
    else:
        conv_block(INPUT, 1, VECTORS, step, s, x, w, ahead, o)


cdef inline outlined copy_broken(
    const float* block, int pixels, int vectors, int64_t y_pixel, int64_t y_plane, float** y, RowBreaks* breaks
) noexcept nogil:
    """Copies a block, [vectors][pixels][VW], to where its pixels belong from `y` on, and goes on to the next pixel."""
    cdef const float* source
    cdef float* goal
    cdef int p = 0, v, k, run
    while p < pixels:
        if breaks.left == 0:
            y[0] += breaks.gap
            breaks.left = breaks.run
        run = <int>min(<int64_t>(pixels - p), breaks.left)
        for v in range(vectors):
            source = block + (v * pixels + p) * VW
            goal = y[0] + v * y_plane
            for k in range(run):
                vf_store(goal, vf_load(source))
                source += VW
                goal += y_pixel
        y[0] += run * y_pixel
        breaks.left -= run
        p += run


# A row of outputs on its way: where the next block belongs, and whether it is broken there. The block is computed to a
# place of its own then, and copied.
cdef struct RowPlace:
    float* y
    int64_t y_pixel, y_plane
    bint breaks, is_broken
    RowBreaks where


cdef inline inlined begin_row(RowPlace* at, const BlockOutput* o, const RowBreaks* where) noexcept nogil:
    at.y = o.y
    at.y_pixel = o.y_pixel
    at.y_plane = o.y_plane
    at.breaks = where != NULL
    if where:
        at.where = where[0]


cdef inline inlined begin_block(RowPlace* at, int pixels, float* block, BlockOutput* o) noexcept nogil:
    at.is_broken = at.breaks and at.where.left < pixels
    o.y = at.y
    if at.is_broken:
        o.y = block
        o.y_pixel = VW
        o.y_plane = pixels * VW


cdef inline inlined end_block(RowPlace* at, int pixels, int VECTORS, const float* block, BlockOutput* o) noexcept nogil:
    if at.is_broken:
        o.y_pixel = at.y_pixel
        o.y_plane = at.y_plane
        copy_broken(block, pixels, VECTORS, at.y_pixel, at.y_plane, &at.y, &at.where)
    else:
        at.y += pixels * at.y_pixel
        if at.breaks:
            at.where.left -= pixels
    if o.z:
        o.z += pixels * o.z_pixel


cdef inline inlined begin_fetch(
    int VECTORS, int64_t block, int64_t blocks, const weight* w, const WeightFetch* following, bint begins,
    WeightFetch* ahead
) noexcept nogil:
    """What a block of a row fetches: a part of the weights that follow; in the first block, if it `begins`, its own."""
    if not BY_LANE:
        if begins and block == 0:
            ahead.at = ahead.until = <const char*>w + AHEAD
            ahead.step = VW * VECTORS * VW * sizeof(w[0])
        elif block == begins:
            ahead.at = ahead.until = following.at
            ahead.step = following.step // (blocks - begins)


cdef inline inlined conv_row(
    int INPUT, int VECTORS, int64_t STEP, int64_t pixels, const BlockSum* s, const float* x, const weight* w,
    const WeightFetch* following, bint begins, BlockOutput o, const RowBreaks* where
) noexcept nogil:
    """`pixels` outputs side by side, of VECTORS (1 or 2) channel blocks, whose inputs lie STEP apart. `where` may be
    NULL. `following` is what is fetched meanwhile, for what is computed later; `begins` says that nobody has fetched what
    the row needs.

    The blocks have nearly equal sizes: a small last block would wait for the latency of its sums.
    """
    cdef int64_t blocks = (pixels + block_pixels(INPUT, VECTORS) - 1) // block_pixels(INPUT, VECTORS), k, first = 0, end
    cdef int count
    cdef float block[MAX_ACC * VW]
    cdef RowPlace at
    cdef WeightFetch ahead
    begin_row(&at, &o, where)
    for k in range(blocks):
        end = pixels * (k + 1) // blocks
        count = <int>(end - first)
        begin_fetch(VECTORS, k, blocks, w, following, begins, &ahead)
        begin_block(&at, count, block, &o)
        conv_block_of(INPUT, count, VECTORS, STEP, s, x, w, &ahead, &o)
        end_block(&at, count, VECTORS, block, &o)
        x += count * STEP
        first = end


cdef inline inlined conv_row_any_step(
    int INPUT, int VECTORS, int64_t step, int64_t pixels, const BlockSum* s, const float* x, const weight* w,
    const WeightFetch* following, bint begins, BlockOutput o, const RowBreaks* where
) noexcept nogil:
    """conv_row for a step that is no constant, which is slower. Compilers take longer for both in one function."""
    cdef int64_t largest = 7 if VREGS == 32 else 5
    cdef int64_t blocks = (pixels + largest - 1) // largest, k, first = 0, end
    cdef int count
    cdef float block[MAX_ACC * VW]
    cdef RowPlace at
    cdef WeightFetch ahead
    begin_row(&at, &o, where)
    for k in range(blocks):
        end = pixels * (k + 1) // blocks
        count = <int>(end - first)
        begin_fetch(VECTORS, k, blocks, w, following, begins, &ahead)
        begin_block(&at, count, block, &o)
        conv_block_any_step(INPUT, count, VECTORS, step, s, x, w, &ahead, &o)
        end_block(&at, count, VECTORS, block, &o)
        x += count * step
        first = end
