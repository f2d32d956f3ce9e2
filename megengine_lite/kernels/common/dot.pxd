# The register block of 8-bit convolutions and matrix products: PIXELS outputs x VECTORS channel vectors of int32 sums.
#
# Four neighbouring bytes of the input are repeated over a vector and multiplied with four weights of each channel (see
# "8-bit integers" in simd.h). Weights are signed. With VNNI the input is unsigned bytes, whatever KIND says. Elsewhere it
# is what vi_dot takes if KIND is PLAIN (numbers in 0..127, or unsigned bytes with USDOT), and signed bytes if SIGNED. An
# input of the other kind has been changed by an xor of every byte with 0x80, which moves its numbers by 128. The bias of
# each channel contains a constant that takes this and the zero point back.
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t

from megengine_lite.kernels.common.fetch cimport AHEAD, fetch
from megengine_lite.kernels.common.simd cimport (
    BY_LANE, DOT_MATRIX, DOT_SIGNED, DOT_STEPS, DOT_UNSIGNED, VREGS, VW, inlined, is_constant, vf, vf_zip_even,
    vf_zip_high, vf_zip_low, vi, vi_add_pairs, vi_byte_products, vi_dot, vi_dot_lane, vi_dot_pairs, vi_dot_short,
    vi_dot_short_signed, vi_dot_signed, vi_dot_signed_lane, vi_even, vi_even_pairs, vi_high_halves, vi_load,
    vi_load_quads, vi_low_halves, vi_matrix, vi_matrix_signed, vi_odd, vi_odd_pairs, vi_set1, vi_set1_bytes,
    vi_spread_pair, vi_store,
)

cdef enum:
    SIGNED
    PLAIN
    WIDE  # where a set has no dot product of signed bytes: pairs of 16-bit numbers in place of quads
    SHORT_SIGNED  # with DOT_SHORT: like SIGNED and PLAIN, and sums of eight products fit 16 bits
    SHORT_PLAIN

cdef enum:
    MAX_SUMS = 28  # vectors of the largest block
    FEW_PIXELS = 4  # of a block whose pixels may be any distance apart
    WIDE_PIXELS = 6  # of the largest block of pairs of 16-bit numbers: with 16 registers, too
    WIDE_RUN = VW // 2  # pairs of a channel block
    MAX_IN_STEPS = 8  # pixels of the largest block where a dot product takes steps


# What is summed for one output: x[a s0 + b s1 + c s2 + l quad ..+3] for a < n0, b < n1, c < n2, l < steps (steps_last
# for the last a), each times its own weights. If weights are sums of several bytes, all of it is done `parts` times.
# Products of matrices take quads of two neighbouring a at once, and know one number of steps: `steps_last` is that, too.
# `second` is for blocks of two rows: the distance of the second one in bytes. Short sums take two quads at a time, wide
# ones up to WIDE_RUN pairs, which lie side by side; the next ones begin `next` bytes behind. `steps` and `steps_last`
# are even with short sums.
cdef struct DotSum:
    int64_t parts, n0, s0, n1, s1, n2, s2, steps, steps_last, quad, next, second


cdef inline bint widens() noexcept nogil:
    """Whether signed bytes are multiplied as numbers of 16 bits."""
    return not DOT_UNSIGNED and not DOT_SIGNED


cdef inline int block_pixels() noexcept nogil:
    """Pixels of the largest block: with weights and a value it just fits the registers."""
    return 4 if VREGS < 32 else MAX_IN_STEPS if DOT_STEPS else 12 if DOT_MATRIX else 14


cdef inline inlined dot_in_steps(
    int PIXELS, int VECTORS, int64_t STEP, const uint8_t* at, const vi* row, vi* acc
) noexcept nogil:
    """dot_by_lane where a dot product takes steps. All bytes are signed ones; those in 0..127 are both. Two bytes of a
    pixel are multiplied with two of each channel. Products are added up while those of the next pixel are made. Blocks of
    two rows do not exist there."""
    cdef vi values[4]
    cdef vi pairs[2]
    cdef vi spread[2 * MAX_IN_STEPS + 2]
    cdef vi products[4 * MAX_IN_STEPS]
    cdef int p, q, h, v, k, quads = <int>((PIXELS - 1) * STEP // 4 + 1)
    for q in range(min(4, (quads + 3) // 4)):  # more only in dead code, of which compilers would warn
        values[q] = vi_load_quads(at + q * 16, min(4, quads - q * 4))
    pairs[0] = vi_even_pairs(row[0], row[VECTORS - 1])
    pairs[1] = vi_odd_pairs(row[0], row[VECTORS - 1])
    for h in range(2):
        spread[h] = vi_spread_pair(values[0], h)
    for p in range(PIXELS + 1):
        if p + 1 < PIXELS:
            for h in range(2):
                spread[2 * p + 2 + h] = vi_spread_pair(
                    values[(p + 1) * STEP // 16], <int>((p + 1) * STEP // 4 % 4 * 2) + h
                )
        for h in range(2):
            for v in range(VECTORS):
                k = (2 * p + h) * VECTORS + v
                if p < PIXELS:
                    products[k] = vi_byte_products(spread[2 * p + h], pairs[h], v)
                if p:
                    acc[(p - 1) * VECTORS + v] = vi_add_pairs(acc[(p - 1) * VECTORS + v], products[k - 2 * VECTORS])


cdef inline inlined dot_by_lane(
    int PIXELS, int VECTORS, int64_t STEP, int KIND, bint TWO_ROWS, const uint8_t* at, const uint8_t* second,
    const vi* row, vi* acc
) noexcept nogil:
    """A quad of each pixel times the weights in `row`. A load has the quads of four pixels that are 4 bytes apart, or
    of two that are 8 bytes apart with what is between them; nothing behind the last pixel is read."""
    cdef int row_pixels = PIXELS // 2 if TWO_ROWS else PIXELS
    cdef vi value = vi_set1(0)
    cdef int p, v, q, lane
    if DOT_STEPS:
        dot_in_steps(PIXELS, VECTORS, STEP, at, row, acc)
        return
    for p in range(PIXELS):
        q = p - row_pixels if p >= row_pixels else p
        if q % (16 // STEP) == 0:
            value = vi_load_quads(
                (second if p >= row_pixels else at) + q * STEP, <int>min(4, (row_pixels - q - 1) * (STEP // 4) + 1)
            )
        lane = <int>(q * STEP // 4 % 4)
        for v in range(VECTORS):
            if KIND == PLAIN:
                acc[p * VECTORS + v] = vi_dot_lane(acc[p * VECTORS + v], value, lane, row[v])
            else:
                acc[p * VECTORS + v] = vi_dot_signed_lane(acc[p * VECTORS + v], value, lane, row[v])


cdef inline inlined matrix_block(
    int PIXELS, int VECTORS, int64_t STEP, int KIND, const DotSum* s, const uint8_t* x, const int8_t* w,
    const int32_t* bias, int32_t* sums
) noexcept nogil:
    """dot_block by products of matrices: two pixels times two channels, eight bytes deep, which are a quad each of two
    neighbouring a. `STEP` is 4 or 8."""
    cdef vi acc[MAX_SUMS]  # of two pixels: [two pixels][vector][half of its channels]
    cdef vi row[4]
    cdef vi first = vi_set1(0), second = first, pixels
    cdef int8_t zeros[2 * VW * 4]
    cdef const uint8_t* at
    cdef const uint8_t* tap
    cdef const int8_t* other
    cdef int64_t part, a, b, c, l, next_a, turn, weights = s.n1 * s.n2 * s.steps * VECTORS * VW * 4
    cdef int p, v, k, n
    for p in range(2 * VW * 4):
        zeros[p] = 0
    for v in range(VECTORS):
        first = vi_load(bias + v * VW)
        for p in range((PIXELS + 1) // 2):
            acc[(p * VECTORS + v) * 2] = vi_low_halves(first, first)
            acc[(p * VECTORS + v) * 2 + 1] = vi_high_halves(first, first)
    for part in range(s.parts):
        for a in range(0, s.n0, 2):
            if a + 1 < s.n0:
                next_a = s.s0
                other = w + weights
                turn = VECTORS * VW * 4
            else:  # the same pixels once more, with weights that are zero
                next_a = 0
                other = zeros
                turn = 0
            for b in range(s.n1):
                tap = x + a * s.s0 + b * s.s1
                for c in range(s.n2):
                    at = tap
                    tap += s.s2
                    for l in range(s.steps):
                        for v in range(VECTORS):
                            first = vi_load(<const int32_t*>w + v * VW)
                            second = vi_load(<const int32_t*>other + v * VW)
                            row[v * 2] = <vi>vf_zip_low(<vf>first, <vf>second)
                            row[v * 2 + 1] = <vi>vf_zip_high(<vf>first, <vf>second)
                        for p in range((PIXELS + 1) // 2):
                            if STEP == 8:
                                n = 4 if 2 * p + 2 < PIXELS else 3 if 2 * p + 1 < PIXELS else 1
                            else:
                                n = min(4, PIXELS - 2 * p)
                            if STEP == 8 or p % 2 == 0:  # nothing behind the last pixel is read
                                first = vi_load_quads(at + 2 * p * STEP, n)
                                second = vi_load_quads(at + next_a + 2 * p * STEP, n)
                            if STEP == 8:
                                pixels = <vi>vf_zip_even(<vf>first, <vf>second)
                            elif p % 2 == 0:
                                pixels = <vi>vf_zip_low(<vf>first, <vf>second)
                            else:
                                pixels = <vi>vf_zip_high(<vf>first, <vf>second)
                            for k in range(p * 2 * VECTORS, (p + 1) * 2 * VECTORS):
                                if KIND == PLAIN:
                                    acc[k] = vi_matrix(acc[k], pixels, row[k % (2 * VECTORS)])
                                else:
                                    acc[k] = vi_matrix_signed(acc[k], pixels, row[k % (2 * VECTORS)])
                        at += s.quad
                        w += VECTORS * VW * 4
                        other += turn
            if turn:
                w = other
    for p in range(PIXELS):
        for v in range(VECTORS):
            k = (p // 2 * VECTORS + v) * 2
            if p % 2 == 0:
                vi_store(sums + (p * VECTORS + v) * VW, vi_low_halves(acc[k], acc[k + 1]))
            else:
                vi_store(sums + (p * VECTORS + v) * VW, vi_high_halves(acc[k], acc[k + 1]))


cdef inline inlined dot_short(
    int PIXELS, int VECTORS, int64_t STEP, int KIND, const DotSum* s, int64_t steps, const uint8_t* at,
    const int8_t* w, vi* acc
) noexcept nogil:
    """Two quads at a time."""
    cdef vi first[2]
    cdef vi second[2]
    cdef vi x, x2
    cdef int64_t l
    cdef int p, v
    for l in range(steps // 2):
        for v in range(VECTORS):
            first[v] = vi_load(<const int32_t*>w + v * VW)
            second[v] = vi_load(<const int32_t*>w + (VECTORS + v) * VW)
        for p in range(PIXELS):
            x = vi_set1_bytes(at + p * STEP)
            x2 = vi_set1_bytes(at + p * STEP + s.quad)
            for v in range(VECTORS):
                if KIND == SHORT_PLAIN:
                    acc[p * VECTORS + v] = vi_dot_short(acc[p * VECTORS + v], x, first[v], x2, second[v])
                else:
                    acc[p * VECTORS + v] = vi_dot_short_signed(acc[p * VECTORS + v], x, first[v], x2, second[v])
        at += s.next
        w += 2 * VECTORS * VW * 4


cdef inline inlined dot_wide(
    int PIXELS, int VECTORS, int64_t STEP, const DotSum* s, int64_t steps, const uint8_t* at, const int8_t* w, vi* acc
) noexcept nogil:
    """Pairs of 16-bit numbers."""
    cdef vi row[2]
    cdef vi value
    cdef int64_t l
    cdef int p, v
    while steps > 0:
        for l in range(min(<int64_t>WIDE_RUN, steps)):
            for v in range(VECTORS):
                row[v] = vi_load(<const int32_t*>w + v * VW)
            for p in range(PIXELS):
                value = vi_set1_bytes(at + p * STEP + 4 * l)
                for v in range(VECTORS):
                    acc[p * VECTORS + v] = vi_dot_pairs(acc[p * VECTORS + v], value, row[v])
            w += VECTORS * VW * 4
        at += s.next
        steps -= WIDE_RUN


cdef inline inlined dot_block(
    int PIXELS, int VECTORS, int64_t STEP, int KIND, bint TWO_ROWS, const DotSum* s, const uint8_t* x,
    const int8_t* w, const int32_t* bias, int32_t* sums
) noexcept nogil:
    """One block. Pixel p reads from x + p STEP, the second half of two rows from x + second + (p - PIXELS / 2) STEP.
    Weights are [part][a][b][c][l][VECTORS VW][4]; sums [p][v][VW] begin with the bias."""
    cdef vi acc[MAX_SUMS]
    cdef vi row[4]
    cdef vi odd[4]
    cdef vi value
    cdef const uint8_t* at
    cdef const uint8_t* second
    cdef const uint8_t* tap
    cdef int64_t part, a, b, c, l, steps
    cdef int p, v
    if DOT_MATRIX:  # by itself: where it is false, compilers leave out at once what is in it
        if KIND != WIDE and not TWO_ROWS and is_constant(STEP) and (STEP == 4 or STEP == 8):
            matrix_block(PIXELS, VECTORS, STEP, KIND, s, x, w, bias, sums)
            return
    for p in range(PIXELS):
        for v in range(VECTORS):
            acc[p * VECTORS + v] = vi_load(bias + v * VW)
    for part in range(s.parts):
        for a in range(s.n0):
            steps = s.steps if a + 1 < s.n0 else s.steps_last
            for b in range(s.n1):
                tap = x + a * s.s0 + b * s.s1
                for c in range(s.n2):
                    at = tap
                    tap += s.s2
                    if KIND == WIDE:
                        dot_wide(PIXELS, VECTORS, STEP, s, steps, at, w, acc)
                        w += steps * VECTORS * VW * 4
                        continue
                    if KIND >= SHORT_SIGNED:
                        dot_short(PIXELS, VECTORS, STEP, KIND, s, steps, at, w, acc)
                        w += steps * VECTORS * VW * 4
                        continue
                    second = at + s.second
                    for l in range(steps):
                        if VREGS == 32 and not BY_LANE:
                            fetch(VECTORS * VW * 4, <const char*>w + AHEAD)
                        for v in range(VECTORS):
                            row[v] = vi_load(<const int32_t*>w + v * VW)
                            if KIND == SIGNED and not DOT_UNSIGNED and not DOT_SIGNED:
                                odd[v] = vi_odd(row[v])
                                row[v] = vi_even(row[v])
                        if BY_LANE and is_constant(STEP) and (STEP == 4 or STEP == 8):
                            dot_by_lane(PIXELS, VECTORS, STEP, KIND, TWO_ROWS, at, second, row, acc)
                        else:
                            for p in range(PIXELS):
                                if TWO_ROWS and p >= PIXELS // 2:
                                    value = vi_set1_bytes(second + (p - PIXELS // 2) * STEP)
                                else:
                                    value = vi_set1_bytes(at + p * STEP)
                                if KIND == PLAIN or DOT_UNSIGNED:
                                    for v in range(VECTORS):
                                        acc[p * VECTORS + v] = vi_dot(acc[p * VECTORS + v], value, row[v])
                                elif DOT_SIGNED:
                                    for v in range(VECTORS):
                                        acc[p * VECTORS + v] = vi_dot_signed(acc[p * VECTORS + v], value, row[v])
                                else:
                                    for v in range(VECTORS):
                                        acc[p * VECTORS + v] = vi_dot_pairs(acc[p * VECTORS + v], vi_even(value), row[v])
                                    for v in range(VECTORS):
                                        acc[p * VECTORS + v] = vi_dot_pairs(acc[p * VECTORS + v], vi_odd(value), odd[v])
                        at += s.quad
                        if TWO_ROWS:
                            second += s.quad
                        w += VECTORS * VW * 4
    for p in range(PIXELS):
        for v in range(VECTORS):
            vi_store(sums + (p * VECTORS + v) * VW, acc[p * VECTORS + v])


cdef inline inlined dot_block_of(
    int pixels, int VECTORS, int64_t STEP, int KIND, const DotSum* s, const uint8_t* x, const int8_t* w,
    const int32_t* bias, int32_t* sums
) noexcept nogil:
    """dot_block for a number of pixels that is only known now: at most block_pixels()."""
    if VREGS == 32 and not DOT_STEPS and not DOT_MATRIX and pixels == 14:
        dot_block(14, VECTORS, STEP, KIND, False, s, x, w, bias, sums)
    elif VREGS == 32 and not DOT_STEPS and not DOT_MATRIX and pixels == 13:
        dot_block(13, VECTORS, STEP, KIND, False, s, x, w, bias, sums)
    elif VREGS == 32 and not DOT_STEPS and pixels == 12:
        dot_block(12, VECTORS, STEP, KIND, False, s, x, w, bias, sums)
    elif VREGS == 32 and not DOT_STEPS and pixels == 11:
        dot_block(11, VECTORS, STEP, KIND, False, s, x, w, bias, sums)
    elif VREGS == 32 and not DOT_STEPS and pixels == 10:
        dot_block(10, VECTORS, STEP, KIND, False, s, x, w, bias, sums)
    elif VREGS == 32 and not DOT_STEPS and pixels == 9:
        dot_block(9, VECTORS, STEP, KIND, False, s, x, w, bias, sums)
    elif VREGS == 32 and pixels == 8:
        dot_block(8, VECTORS, STEP, KIND, False, s, x, w, bias, sums)
    elif VREGS == 32 and pixels == 7:
        dot_block(7, VECTORS, STEP, KIND, False, s, x, w, bias, sums)
    elif (VREGS == 32 or KIND == WIDE) and pixels == 6:
        dot_block(6, VECTORS, STEP, KIND, False, s, x, w, bias, sums)
    elif (VREGS == 32 or KIND == WIDE) and pixels == 5:
        dot_block(5, VECTORS, STEP, KIND, False, s, x, w, bias, sums)
    else:
        dot_block_few(pixels, VECTORS, STEP, KIND, s, x, w, bias, sums)


cdef inline inlined dot_block_few(
    int pixels, int VECTORS, int64_t step, int KIND, const DotSum* s, const uint8_t* x, const int8_t* w,
    const int32_t* bias, int32_t* sums
) noexcept nogil:
    """At most FEW_PIXELS: their addresses fit the integer registers, so that the step need not be a constant."""
    if pixels == 4:
        dot_block(4, VECTORS, step, KIND, False, s, x, w, bias, sums)
    elif pixels == 3:
        dot_block(3, VECTORS, step, KIND, False, s, x, w, bias, sums)
    elif pixels == 2:
        dot_block(2, VECTORS, step, KIND, False, s, x, w, bias, sums)
    else:
        dot_block(1, VECTORS, step, KIND, False, s, x, w, bias, sums)
