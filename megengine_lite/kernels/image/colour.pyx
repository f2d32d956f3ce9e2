"""Colours of NHWC images in other spaces, in uint8 and float32."""

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memcpy

from megengine_lite.kernels.common.simd cimport inlined, outlined

cpdef enum:  # planners read it: what becomes of the channels of a pixel
    PICK = 0  # they are copied in another order
    GRAY = 1
    TO_YUV = 2
    FROM_YUV = 3

ctypedef fused number:
    uint8_t
    float


cdef inline uint8_t as_byte(int32_t x) noexcept nogil:
    return <uint8_t>min(max(x, 0), 255)


cdef inline int32_t rounded(int32_t x) noexcept nogil:
    """A number with 14 fractional bits as an integer."""
    return (x + (1 << 13)) >> 14


# ---- three or four channels side by side -------------------------------------------------------------------------------

cdef inline inlined pick(int CHANNELS, int FIRST, const number* x, int64_t n, number* y) noexcept nogil:
    """Three channels from FIRST on, or from there back; of one channel that one three times."""
    cdef int64_t p
    for p in range(n):
        y[3 * p] = x[CHANNELS * p + FIRST]
        y[3 * p + 1] = x[CHANNELS * p + (0 if CHANNELS == 1 else 1)]
        y[3 * p + 2] = x[CHANNELS * p + (0 if CHANNELS == 1 else 2 - FIRST)]


cdef inline inlined brightness(int CHANNELS, int RED, const number* x, int64_t n, number* y) noexcept nogil:
    cdef int64_t p
    cdef number red, green, blue
    for p in range(n):
        red, green, blue = x[CHANNELS * p + RED], x[CHANNELS * p + 1], x[CHANNELS * p + 2 - RED]
        if number is float:
            y[p] = red * <float>0.299 + green * <float>0.587 + blue * <float>0.114
        else:
            y[p] = <uint8_t>rounded(<int32_t>red * 4899 + <int32_t>green * 9617 + <int32_t>blue * 1868)


cdef inline inlined to_yuv(const number* x, int64_t n, number* y) noexcept nogil:
    cdef int64_t p
    cdef float light
    cdef int32_t first, third, total
    for p in range(n):
        if number is float:
            light = x[0] * <float>0.114 + x[1] * <float>0.587 + x[2] * <float>0.299
            y[0] = light
            y[1] = (x[0] - light) * <float>0.492 + <float>0.5
            y[2] = (x[2] - light) * <float>0.877 + <float>0.5
        else:
            first, third = x[0], x[2]
            total = rounded(1868 * first + 9617 * <int32_t>x[1] + 4899 * third)
            y[0] = as_byte(total)
            y[1] = as_byte(rounded((first - total) * 8061 + (128 << 14)))
            y[2] = as_byte(rounded((third - total) * 14369 + (128 << 14)))
        x += 3
        y += 3


cdef inline inlined from_yuv(const number* x, int64_t n, number* y) noexcept nogil:
    cdef int64_t p
    cdef float blue, red
    cdef int32_t light, u, v
    for p in range(n):
        if number is float:
            blue, red = x[1] - <float>0.5, x[2] - <float>0.5
            y[0] = x[0] + <float>2.032 * blue
            y[1] = x[0] - <float>0.581 * red - <float>0.395 * blue
            y[2] = x[0] + <float>1.140 * red
        else:
            light, u, v = x[0], <int32_t>x[1] - 128, <int32_t>x[2] - 128
            y[0] = as_byte(light + rounded(u * 33292))
            y[1] = as_byte(light + rounded(v * -9519 + u * -6472))
            y[2] = as_byte(light + rounded(v * 18678))
        x += 3
        y += 3


cdef inline outlined convert(
    int64_t kind, int64_t channels, int64_t first, const number* x, int64_t n, number* y
) noexcept nogil:
    if kind == PICK:
        if channels == 1:
            pick(1, 0, x, n, y)
        elif channels == 3 and first == 2:
            pick(3, 2, x, n, y)
        elif channels == 4 and first == 0:
            pick(4, 0, x, n, y)
        elif channels == 4:
            pick(4, 2, x, n, y)
    elif kind == GRAY:
        if channels == 4:
            brightness(4, 0, x, n, y)
        elif first == 0:
            brightness(3, 0, x, n, y)
        else:
            brightness(3, 2, x, n, y)
    elif kind == TO_YUV:
        to_yuv(x, n, y)
    else:
        from_yuv(x, n, y)


cdef struct ColoursArgs:
    const void* x
    void* y
    int64_t pixels, chunk, kind, channels, first, is_float


cdef void convert_colours(const ColoursArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y = x in another colour space. x has `channels` numbers for a pixel, y three, or one if `kind` is GRAY.

    One work item = `chunk` pixels. `first` is the channel of red, or of what comes first in y: 0 or 2; it is 2 if PICK
    takes three channels, and 0 if GRAY takes four.
    """
    cdef int64_t work, p, n, made = 1 if a.kind == GRAY else 3
    for work in range(begin, end):
        p = work * a.chunk
        n = min(a.chunk, a.pixels - p)
        if a.is_float:
            convert(a.kind, a.channels, a.first, <const float*>a.x + p * a.channels, n, <float*>a.y + p * made)
        else:
            convert(a.kind, a.channels, a.first, <const uint8_t*>a.x + p * a.channels, n, <uint8_t*>a.y + p * made)


# ---- brightness and chroma in planes -------------------------------------------------------------------------------------

cdef enum:
    PIECE = 64  # pixels whose channels are computed one after another: loops that compilers turn into vectors


cdef inline inlined twice(int32_t* parts, int64_t k, int32_t x) noexcept nogil:
    parts[2 * k] = x
    parts[2 * k + 1] = x


cdef inline inlined chroma_parts(
    bint BT601, int64_t STEP, const uint8_t* u, const uint8_t* v, int64_t pairs, int32_t* red, int32_t* green,
    int32_t* blue
) noexcept nogil:
    """What the chroma samples, STEP bytes apart, add to the brightness of two pixels each."""
    cdef int64_t k
    cdef int32_t a, b
    for k in range(pairs):
        a, b = u[k * STEP], v[k * STEP]
        if BT601:
            twice(red, k, 102 * b - 14216)
            twice(green, k, 8696 - 25 * a - 52 * b)
            twice(blue, k, 128 * a - 17544)
        else:
            a, b = a - 128, b - 128
            twice(red, k, (359 * b) >> 8)
            twice(green, k, -((88 * a + 183 * b) >> 8))
            twice(blue, k, (454 * a) >> 8)


cdef inline inlined channel(
    bint BT601, const uint8_t* light, const int32_t* parts, int64_t n, uint8_t* y
) noexcept nogil:
    cdef int64_t p
    for p in range(n):
        if BT601:
            y[p] = as_byte((((<int32_t>light[p] * 257 * 18997) >> 16) + parts[p]) >> 6)
        else:
            y[p] = as_byte(<int32_t>light[p] + parts[p])


cdef inline inlined row_of_colours(
    bint BT601, int64_t STEP, bint swapped, const uint8_t* light, const uint8_t* u, const uint8_t* v, int64_t w,
    uint8_t* y
) noexcept nogil:
    """Red, green and blue, or the other way round if `swapped`."""
    cdef int32_t parts[3][PIECE]
    cdef uint8_t made[3][PIECE]
    cdef int64_t n, p
    cdef int c
    while w > 0:
        n = min(w, PIECE)
        if swapped:
            chroma_parts(BT601, STEP, u, v, n // 2, parts[2], parts[1], parts[0])
        else:
            chroma_parts(BT601, STEP, u, v, n // 2, parts[0], parts[1], parts[2])
        for c in range(3):
            channel(BT601, light, parts[c], n, made[c])
        for p in range(n):
            y[3 * p] = made[0][p]
            y[3 * p + 1] = made[1][p]
            y[3 * p + 2] = made[2][p]
        light += n
        u += n // 2 * STEP
        v += n // 2 * STEP
        y += 3 * n
        w -= n


cdef struct PlanesToColoursArgs:
    const uint8_t* x
    uint8_t* y
    int64_t h, w, u, v, step, row, swapped, bt601, gray


cdef void planes_to_colours(const PlanesToColoursArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Images of h w bytes of brightness, with half as many of chroma behind them, as pixels of three bytes.

    A chroma sample is for two rows and two columns. The first ones of an image are `u` and `v` bytes behind its
    beginning, neighbours `step` bytes apart, 1 or 2, rows `row` bytes. Blue comes first in y if `swapped`. Numbers of x
    are in BT.601's narrow range if `bt601`. With `gray` the result is the brightness. One work item = one row of y.
    """
    cdef int64_t w = a.w, work, r
    cdef const uint8_t* image
    cdef const uint8_t* u
    cdef const uint8_t* v
    for work in range(begin, end):
        image = a.x + work // a.h * (a.h * w + a.h // 2 * w)
        r = work % a.h
        if a.gray:
            memcpy(a.y + work * w, image + r * w, w)
            continue
        u = image + a.u + r // 2 * a.row
        v = image + a.v + r // 2 * a.row
        if a.bt601 and a.step == 1:
            row_of_colours(True, 1, a.swapped, image + r * w, u, v, w, a.y + work * w * 3)
        elif a.bt601:
            row_of_colours(True, 2, a.swapped, image + r * w, u, v, w, a.y + work * w * 3)
        elif a.step == 1:
            row_of_colours(False, 1, a.swapped, image + r * w, u, v, w, a.y + work * w * 3)
        else:
            row_of_colours(False, 2, a.swapped, image + r * w, u, v, w, a.y + work * w * 3)


include "colour_table.pxi"
