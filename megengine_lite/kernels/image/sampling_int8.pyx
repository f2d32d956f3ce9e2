"""Images of bytes sampled at any positions: maps of positions, and transforms by matrices.

Bytes are weighed as floats, in the steps of the operators' definitions, so that they are rounded like there.
"""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t
from libc.string cimport memcpy

from megengine_lite.kernels.common.arguments cimport Sampling
from megengine_lite.kernels.common.real_values cimport to_stored
from megengine_lite.kernels.common.shared_constants cimport (
    AT_FINE_AFFINE, AT_FINE_PERSPECTIVE, KIND_F32, KIND_S8, KIND_U8, SAMPLE_PIXELS,
)
from megengine_lite.kernels.common.simd cimport (
    VW, inlined, outlined, vf, vf_eq, vf_fma, vf_load, vf_product, vf_select, vf_set1, vf_store, vf_to_vi, vf_zero, vi,
    vi_load, vi_lt, vi_max, vi_set1, vi_store, vi_store_8, vi_to_vf,
)
from megengine_lite.kernels.image.taps cimport (
    Piece, Square, Taps, find_square, find_taps, piece_of, place_pixels, shown_image, sum_window,
)


# Pixels of up to four channels, a byte of a word each: what four taps read, and the results.
cdef struct Words:
    Taps taps
    uint32_t read[4][SAMPLE_PIXELS]
    uint32_t result[SAMPLE_PIXELS]


def scratch_bytes():
    """Bytes of scratch: the pixels that a work item reads."""
    return sizeof(Words)


cdef struct SampleInt8Args:
    const uint8_t* x
    void* y
    Sampling sampling
    int64_t x_nbytes, x_kind, y_kind
    double shift, scale, low, high


# ---- pixels into words ---------------------------------------------------------------------------------------------

cdef inline int64_t farthest_place(const Taps* t, int64_t taps, int64_t n) noexcept nogil:
    """The largest place that n pixels read."""
    cdef int32_t lanes[VW]
    cdef vi farthest = vi_set1(0)
    cdef int64_t i, k, found = 0
    for k in range(taps * taps):
        i = 0
        while i < n:
            farthest = vi_max(farthest, vi_load(t.place[k] + i))
            i += VW
    vi_store(lanes, farthest)
    for k in range(VW):
        found = max(found, lanes[k])
    return found


cdef inline uint32_t load_word(const uint8_t* x) noexcept nogil:
    cdef uint32_t word
    memcpy(&word, x, 4)
    return word


cdef inline uint32_t load_careful(int COUNT, const uint8_t* x, int64_t readable, int64_t place) noexcept nogil:
    """The same for a place that may be -1, and for the last pixels of an image: `readable` bytes, from x on."""
    cdef int64_t k
    cdef uint32_t word = 0
    if place < 0:
        return 0
    if place + 4 <= readable:
        return load_word(x + place)
    for k in range(COUNT):
        word |= <uint32_t>x[place + k] << (8 * k)
    return word


cdef inline inlined fetch(
    int TAPS, int COUNT, int CAREFUL, const uint8_t* x, int64_t readable, Words* w, int64_t n
) noexcept nogil:
    """Words of n pixels of COUNT bytes (of up to four: what is behind the pixel comes with it)."""
    cdef int64_t i
    cdef int k
    for i in range(n):
        for k in range(TAPS * TAPS):
            if CAREFUL:
                w.read[k][i] = load_careful(COUNT, x, readable, w.taps.place[k][i])
            elif COUNT == 1:
                w.read[k][i] = x[w.taps.place[k][i]]
            else:
                w.read[k][i] = load_word(x + w.taps.place[k][i])


cdef inline vf channel(const uint32_t* words, int k, bint signed_bytes) noexcept nogil:
    """Byte k of VW words."""
    cdef vi word = vi_load(<const int32_t*>words)
    if signed_bytes:
        return vi_to_vf(word << (24 - 8 * k) >> 24)
    return vi_to_vf(word >> (8 * k) & vi_set1(255))


# ---- sums ----------------------------------------------------------------------------------------------------------

cdef inline vf tap_of(
    int CAREFUL, const Words* w, int tap, int64_t i, int k, bint signed_bytes, vf value
) noexcept nogil:
    """Byte k of what VW pixels read, or the value outside of the image."""
    cdef vf v = channel(w.read[tap] + i, k, signed_bytes)
    return vf_select(vi_lt(vi_load(w.taps.place[tap] + i), vi_set1(0)), value, v) if CAREFUL else v


cdef inline vf weighed(
    int CAREFUL, const Words* w, int tap, int64_t i, int k, bint signed_bytes, vf across, vf along, vf value
) noexcept nogil:
    return vf_product(vf_product(tap_of(CAREFUL, w, tap, i, k, signed_bytes, value), across), along)


cdef inline vf exactly_weighed(
    int CAREFUL, const Words* w, int tap, int64_t i, int k, bint signed_bytes, vf value, vf total
) noexcept nogil:
    """The same plus total, where products and sums are exact."""
    cdef vf v = tap_of(CAREFUL, w, tap, i, k, signed_bytes, value)
    return vf_fma(v, vf_load(w.taps.weight[tap] + i), total)


cdef inline vf sum_taps(
    int TAPS, int CAREFUL, int EXACT, const Words* w, int64_t i, int k, bint signed_bytes, vf value
) noexcept nogil:
    """Byte k of VW pixels; where sums are exact, 0.5 more."""
    cdef const Taps* t = &w.taps
    cdef vf left, right, above, below, total
    if TAPS == 1:
        return tap_of(CAREFUL, w, 0, i, k, signed_bytes, value)
    if EXACT:
        total = exactly_weighed(CAREFUL, w, 0, i, k, signed_bytes, value, vf_set1(0.5))
        total = exactly_weighed(CAREFUL, w, 1, i, k, signed_bytes, value, total)
        total = exactly_weighed(CAREFUL, w, 2, i, k, signed_bytes, value, total)
        return exactly_weighed(CAREFUL, w, 3, i, k, signed_bytes, value, total)
    left, right, above, below = vf_load(t.left + i), vf_load(t.right + i), vf_load(t.above + i), vf_load(t.below + i)
    total = weighed(CAREFUL, w, 0, i, k, signed_bytes, left, above, value)
    total = total + weighed(CAREFUL, w, 1, i, k, signed_bytes, right, above, value)
    total = total + weighed(CAREFUL, w, 2, i, k, signed_bytes, left, below, value)
    return total + weighed(CAREFUL, w, 3, i, k, signed_bytes, right, below, value)


cdef inline inlined sum_words(
    int TAPS, int CAREFUL, int EXACT, int COUNT, const SampleInt8Args* a, Words* w, int64_t n, float* reals,
    int64_t lane, int64_t pixel
) noexcept nogil:
    """COUNT channels of n pixels: bytes into w.result, or floats into `reals` if that is not NULL.

    EXACT: unsigned bytes as they are, whose products and sums are exact.
    """
    cdef vf value = vf_set1(<float>a.sampling.value), total
    cdef vf shift = vf_set1(<float>a.shift), scale = vf_set1(<float>a.scale)
    cdef vf low = vf_set1(<float>a.low), high = vf_set1(<float>a.high)
    cdef bint signed_bytes = not EXACT and a.x_kind == KIND_S8
    cdef float lanes[VW]
    cdef vi word
    cdef int64_t i = 0, j
    cdef int k
    while i < n:
        word = vi_set1(0)
        for k in range(COUNT):
            total = sum_taps(TAPS, CAREFUL, EXACT, w, i, k, signed_bytes, value)
            if EXACT:
                word = word | vf_to_vi(total) << (8 * k)
                continue
            if CAREFUL and a.sampling.is_finite:
                total = vf_select(vf_eq(total - total, vf_zero()), total, value)
            total = (total + shift) * scale
            if reals:
                vf_store(lanes, total)
                for j in range(min(n - i, VW)):
                    reals[k * lane + (i + j) * pixel] = lanes[j]
            else:
                word = word | (to_stored(total, low, high, vi_set1(0)) & vi_set1(255)) << (8 * k)
        vi_store(<int32_t*>w.result + i, word)
        i += VW


# ---- words into pixels ---------------------------------------------------------------------------------------------

cdef inline inlined put(int COUNT, uint8_t* y, int64_t lane, int64_t pixel, const uint32_t* words, int64_t n) noexcept nogil:
    cdef int64_t i = 0, k
    if COUNT == 1 and pixel == 1:
        while i + VW <= n:
            vi_store_8(<int8_t*>y + i, vi_load(<const int32_t*>words + i))
            i += VW
    elif COUNT > 1 and lane == 1 and pixel == COUNT:
        while i + 4 <= n:  # a word reaches into the pixels that are written next
            memcpy(y + i * COUNT, words + i, 4)
            i += 1
    while i < n:
        for k in range(COUNT):
            y[k * lane + i * pixel] = <uint8_t>(words[i] >> (8 * k))
        i += 1


cdef inline inlined sample_group(
    int COUNT, const SampleInt8Args* a, const uint8_t* x, int64_t y_place, Words* w, int64_t n, bint outside,
    int64_t farthest
) noexcept nogil:
    """COUNT channels that lie side by side. farthest: the largest place that is read."""
    cdef const Sampling* s = &a.sampling
    cdef int64_t readable = a.x_nbytes - (x - a.x)
    cdef bint exact = s.positions == AT_FINE_PERSPECTIVE or s.positions == AT_FINE_AFFINE
    cdef float* reals = <float*>a.y + y_place if a.y_kind == KIND_F32 else NULL
    cdef bint careful_reads = outside or (COUNT > 1 and farthest + 4 > readable)
    if s.taps == 1:
        fetch(1, COUNT, 1, x, readable, w, n)
        sum_words(1, 1, 0, COUNT, a, w, n, reals, s.y_.lane, s.y_.pixel)
    else:
        if careful_reads:
            fetch(2, COUNT, 1, x, readable, w, n)
        else:
            fetch(2, COUNT, 0, x, readable, w, n)
        if not exact:
            sum_words(2, 1, 0, COUNT, a, w, n, reals, s.y_.lane, s.y_.pixel)
        elif outside:
            sum_words(2, 1, 1, COUNT, a, w, n, reals, s.y_.lane, s.y_.pixel)
        else:
            sum_words(2, 0, 1, COUNT, a, w, n, reals, s.y_.lane, s.y_.pixel)
    if reals == NULL:
        put(COUNT, <uint8_t*>a.y + y_place, s.y_.lane, s.y_.pixel, w.result, n)


# Functions by themselves: one of all takes a compiler three times as long.

cdef outlined sample_four(
    const SampleInt8Args* a, const uint8_t* x, int64_t y_place, Words* w, int64_t n, bint outside, int64_t farthest
) noexcept nogil:
    sample_group(4, a, x, y_place, w, n, outside, farthest)


cdef outlined sample_three(
    const SampleInt8Args* a, const uint8_t* x, int64_t y_place, Words* w, int64_t n, bint outside, int64_t farthest
) noexcept nogil:
    sample_group(3, a, x, y_place, w, n, outside, farthest)


cdef outlined sample_one(
    const SampleInt8Args* a, const uint8_t* x, int64_t y_place, Words* w, int64_t n, bint outside, int64_t farthest
) noexcept nogil:
    sample_group(1, a, x, y_place, w, n, outside, farthest)


# ---- kernel --------------------------------------------------------------------------------------------------------

cdef void sum_squares(
    const SampleInt8Args* a, const uint8_t* x, int64_t y_place, Words* w, int64_t n
) noexcept nogil:
    cdef const Sampling* s = &a.sampling
    cdef Square q
    cdef float sums[VW]
    cdef int32_t bytes[VW]
    cdef int64_t i, k, place
    cdef vf total
    for i in range(n):
        find_square(&q, &w.taps, s, i)
        for k in range(s.lanes):
            sums[0] = <float>sum_window(x + k * s.x_.lane, <int>a.x_kind, &q, s.taps, <float>s.value)
            total = (vf_set1(sums[0]) + vf_set1(<float>a.shift)) * vf_set1(<float>a.scale)
            place = y_place + k * s.y_.lane + i * s.y_.pixel
            if a.y_kind == KIND_F32:
                vf_store(sums, total)
                (<float*>a.y)[place] = sums[0]
            else:
                vi_store(bytes, to_stored(total, vf_set1(<float>a.low), vf_set1(<float>a.high), vi_set1(0)))
                (<uint8_t*>a.y)[place] = <uint8_t>bytes[0]


cdef void sample_int8(const SampleInt8Args* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """One work item = up to SAMPLE_PIXELS pixels of an output row of one image, all channels.

    y = (sum + shift) scale, rounded and between low and high if it is bytes. Layouts are those of sample_f32. All x
    are x_nbytes. Scratch: scratch_bytes().
    """
    cdef const Sampling* s = &a.sampling
    cdef Words* w = <Words*>scratch
    cdef Piece piece
    cdef int64_t item, n, p, k, place, farthest
    cdef const uint8_t* x
    cdef bint outside
    for item in range(begin, end):
        piece = piece_of(s, item)
        n = piece.n
        x = a.x + shown_image(s, piece.image) * s.x_.image
        place = piece.image * s.y_.image + piece.row * s.y_.row + piece.first * s.y_.pixel
        place_pixels(&w.taps, s, piece)
        if s.taps > 2:
            for p in range(s.planes):
                sum_squares(a, x + p * s.x_.plane, place + p * s.y_.plane, w, n)
            continue
        outside = find_taps(&w.taps, s, n)
        farthest = farthest_place(&w.taps, s.taps, n)
        for p in range(s.planes):
            k = 0
            while s.x_.lane == 1 and s.lanes - k >= 4:
                sample_four(a, x + p * s.x_.plane + k, place + p * s.y_.plane + k * s.y_.lane, w, n, outside, farthest)
                k += 4
            if s.x_.lane == 1 and s.lanes - k == 3:
                sample_three(a, x + p * s.x_.plane + k, place + p * s.y_.plane + k * s.y_.lane, w, n, outside, farthest)
                k += 3
            while k < s.lanes:
                sample_one(
                    a, x + p * s.x_.plane + k * s.x_.lane, place + p * s.y_.plane + k * s.y_.lane, w, n, outside, farthest
                )
                k += 1


include "sampling_int8_table.pxi"
