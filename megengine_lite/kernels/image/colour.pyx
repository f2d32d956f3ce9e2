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

cdef inline inlined row_of_colours(
    bint BT601, int64_t step, int64_t red, const uint8_t* light, const uint8_t* u, const uint8_t* v, int64_t pairs,
    uint8_t* y
) noexcept nogil:
    """Two pixels for each pair of chroma samples, which lie `step` bytes apart; red is the channel 0 or 2."""
    cdef int64_t k, p
    cdef int32_t blue_part, green_part, red_part, at, down
    for k in range(pairs):
        if BT601:
            blue_part = 128 * <int32_t>u[k * step] - 17544
            green_part = 8696 - 25 * <int32_t>u[k * step] - 52 * <int32_t>v[k * step]
            red_part = 102 * <int32_t>v[k * step] - 14216
            down = 6
        else:
            blue_part = (454 * (<int32_t>u[k * step] - 128)) >> 8
            green_part = -((88 * (<int32_t>u[k * step] - 128) + 183 * (<int32_t>v[k * step] - 128)) >> 8)
            red_part = (359 * (<int32_t>v[k * step] - 128)) >> 8
            down = 0
        for p in range(2):
            at = light[2 * k + p]
            if BT601:
                at = (at * 257 * 18997) >> 16
            y[red] = as_byte((at + red_part) >> down)
            y[1] = as_byte((at + green_part) >> down)
            y[2 - red] = as_byte((at + blue_part) >> down)
            y += 3


cdef struct PlanesToColoursArgs:
    const uint8_t* x
    uint8_t* y
    int64_t h, w, u, v, step, row, red, bt601, gray


cdef void planes_to_colours(const PlanesToColoursArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Images of h w bytes of brightness, with half as many of chroma behind them, as pixels of three bytes.

    A chroma sample is for two rows and two columns. The first ones of an image are `u` and `v` bytes behind its
    beginning, neighbours `step` bytes apart, rows `row` bytes. `red` is the channel of red, 0 or 2; the channels are
    those of BT.601's narrow range if `bt601`. With `gray` the result is the brightness. One work item = one row of y.
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
        if a.bt601:
            row_of_colours(True, a.step, a.red, image + r * w, u, v, w // 2, a.y + work * w * 3)
        else:
            row_of_colours(False, a.step, a.red, image + r * w, u, v, w // 2, a.y + work * w * 3)


include "colour_table.pxi"
