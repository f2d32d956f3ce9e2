"""Images of float32 sampled at any positions: maps of positions, and transforms by matrices."""

from libc.stdint cimport int32_t, int64_t

from megengine_lite.kernels.common.arguments cimport Sampling
from megengine_lite.kernels.common.shared_constants cimport KIND_F32, SAMPLE_PIXELS
from megengine_lite.kernels.common.simd cimport (
    VW, inlined, outlined, vf, vf_eq, vf_fma, vf_load, vf_select, vf_set1, vf_store, vf_zero, vi, vi_first,
)
from megengine_lite.kernels.image.taps cimport (
    Piece, Square, Taps, find_square, find_taps, piece_of, place_pixels, shown_image, sum_window,
)

def scratch_bytes():
    """Bytes of scratch: the pixels that a work item reads."""
    return sizeof(Taps)


# ---- one number after the other: planes, and pixels of few numbers ---------------------------------------------------

cdef inline float tap(const float* x, int32_t place, float value, int CAREFUL) noexcept nogil:
    return value if CAREFUL and place < 0 else x[place]


cdef inline inlined sum_numbers(
    int TAPS, int CAREFUL, int COUNT, const float* x, int64_t x_step, float* y, int64_t y_step, int64_t y_pixel,
    const Taps* t, int64_t n, float value, bint is_finite
) noexcept nogil:
    """n pixels of COUNT channels, which share taps."""
    cdef int64_t i, k
    cdef int32_t p0, p1 = 0, p2 = 0, p3 = 0
    cdef float w0 = 0, w1 = 0, w2 = 0, w3 = 0
    cdef float total
    for i in range(n):
        p0 = t.place[0][i]
        if TAPS > 1:
            p1, p2, p3 = t.place[1][i], t.place[2][i], t.place[3][i]
            w0, w1, w2, w3 = t.weight[0][i], t.weight[1][i], t.weight[2][i], t.weight[3][i]
        for k in range(COUNT):
            total = tap(x + k * x_step, p0, value, CAREFUL)
            if TAPS > 1:
                total = total * w0 + tap(x + k * x_step, p1, value, CAREFUL) * w1
                total = total + tap(x + k * x_step, p2, value, CAREFUL) * w2
                total = total + tap(x + k * x_step, p3, value, CAREFUL) * w3
            if CAREFUL and is_finite and not total - total == 0:
                total = value
            y[k * y_step + i * y_pixel] = total


cdef inline inlined sum_channels(
    int TAPS, int CAREFUL, int64_t count, const float* x, int64_t x_step, float* y, int64_t y_step, int64_t y_pixel,
    const Taps* t, int64_t n, float value, bint is_finite
) noexcept nogil:
    cdef int64_t k = 0
    while count - k >= 4:
        sum_numbers(
            TAPS, CAREFUL, 4, x + k * x_step, x_step, y + k * y_step, y_step, y_pixel, t, n, value, is_finite
        )
        k += 4
    x, y = x + k * x_step, y + k * y_step
    if count - k == 3:
        sum_numbers(TAPS, CAREFUL, 3, x, x_step, y, y_step, y_pixel, t, n, value, is_finite)
    elif count - k == 2:
        sum_numbers(TAPS, CAREFUL, 2, x, x_step, y, y_step, y_pixel, t, n, value, is_finite)
    elif count - k == 1:
        sum_numbers(TAPS, CAREFUL, 1, x, x_step, y, y_step, y_pixel, t, n, value, is_finite)


# ---- vectors of channels -------------------------------------------------------------------------------------------

cdef inline vf vector_tap(const float* x, int32_t place, vf value, int CAREFUL) noexcept nogil:
    if CAREFUL and place < 0:
        return value
    return vf_load(x + place)


cdef inline inlined sum_vectors(
    int TAPS, int CAREFUL, int64_t lanes, const float* x, float* y, int64_t y_pixel, const Taps* t, int64_t n,
    float number, bint is_finite, vi keep
) noexcept nogil:
    """n pixels of at least VW channels; `keep` says which lanes of the last vector are not set to zero."""
    cdef int64_t i, first
    cdef vf total, value = vf_set1(number)
    for i in range(n):
        first = 0
        while first < lanes:
            first = min(first, lanes - VW)  # the last vectors may have channels in common
            total = vector_tap(x + first, t.place[0][i], value, CAREFUL)
            if TAPS > 1:
                total = total * vf_set1(t.weight[0][i])
                total = vf_fma(vector_tap(x + first, t.place[1][i], value, CAREFUL), vf_set1(t.weight[1][i]), total)
                total = vf_fma(vector_tap(x + first, t.place[2][i], value, CAREFUL), vf_set1(t.weight[2][i]), total)
                total = vf_fma(vector_tap(x + first, t.place[3][i], value, CAREFUL), vf_set1(t.weight[3][i]), total)
            if CAREFUL and is_finite:
                total = vf_select(vf_eq(total - total, vf_zero()), total, value)
            vf_store(y + i * y_pixel + first, vf_select(keep, total, vf_zero()))
            first += VW


# ---- squares of more pixels ----------------------------------------------------------------------------------------

cdef void sum_squares(
    const Sampling* s, const float* x, float* y, const Taps* t, int64_t n, float value
) noexcept nogil:
    cdef Square q
    cdef int64_t i, p, k
    for i in range(n):
        find_square(&q, t, s, i)
        for p in range(s.planes):
            for k in range(s.lanes):
                y[p * s.y_.plane + k * s.y_.lane + i * s.y_.pixel] = <float>sum_window(
                    x + p * s.x_.plane + k * s.x_.lane, KIND_F32, &q, s.taps, value
                )


# ---- kernels -------------------------------------------------------------------------------------------------------

cdef inline inlined sum_taps(
    int TAPS, int CAREFUL, const Sampling* s, const float* x, float* y, const Taps* t, int64_t n, float value
) noexcept nogil:
    cdef int64_t planes = s.planes, count = s.lanes, x_step = s.x_.lane, y_step = s.y_.lane, p
    cdef bint is_finite = s.is_finite
    if count == 1:  # planes are channels, too
        planes, count, x_step, y_step = 1, s.planes, s.x_.plane, s.y_.plane
    for p in range(planes):
        if s.lanes >= VW and s.x_.lane == 1 and s.y_.lane == 1:
            sum_vectors(
                TAPS, CAREFUL, s.lanes, x + p * s.x_.plane, y + p * s.y_.plane, s.y_.pixel, t, n, value, is_finite,
                vi_first(min(s.channels - p * s.lanes, VW)),
            )
        else:
            sum_channels(
                TAPS, CAREFUL, count, x + p * s.x_.plane, x_step, y + p * s.y_.plane, y_step, s.y_.pixel, t, n, value,
                is_finite,
            )


# Functions by themselves: one of all takes a compiler three times as long.

cdef outlined sum_nearest(
    bint careful, const Sampling* s, const float* x, float* y, const Taps* t, int64_t n, float value
) noexcept nogil:
    if careful:
        sum_taps(1, 1, s, x, y, t, n, value)
    else:
        sum_taps(1, 0, s, x, y, t, n, value)


cdef outlined sum_linear(
    bint careful, const Sampling* s, const float* x, float* y, const Taps* t, int64_t n, float value
) noexcept nogil:
    if careful:
        sum_taps(2, 1, s, x, y, t, n, value)
    else:
        sum_taps(2, 0, s, x, y, t, n, value)


cdef struct SampleArgs:
    const float* x
    float* y
    Sampling sampling


cdef void sample_f32(const SampleArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """One work item = up to SAMPLE_PIXELS pixels of an output row of one image, all channels.

    An image has `planes` times `lanes` channels, at any strides. Where `lanes` are VW in blocked tensors, those beyond
    `channels` are set to zero. Scratch: scratch_bytes().
    """
    cdef const Sampling* s = &a.sampling
    cdef Taps* t = <Taps*>scratch
    cdef Piece piece
    cdef int64_t item, n
    cdef const float* x
    cdef float* y
    cdef float value = <float>s.value
    cdef bint careful
    for item in range(begin, end):
        piece = piece_of(s, item)
        n = piece.n
        x = a.x + shown_image(s, piece.image) * s.x_.image
        y = a.y + piece.image * s.y_.image + piece.row * s.y_.row + piece.first * s.y_.pixel
        place_pixels(t, s, piece)
        if s.taps > 2:
            sum_squares(s, x, y, t, n, value)
            continue
        careful = find_taps(t, s, n) or s.is_finite
        if s.taps == 1:
            sum_nearest(careful, s, x, y, t, n, value)
        else:
            sum_linear(careful, s, x, y, t, n, value)


include "sampling_table.pxi"
