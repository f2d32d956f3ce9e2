"""Float32 depthwise convolution (one filter for each channel) in blocked layout: any filter, stride and dilation.

Filters of 3 or 5 columns with stride 1 or 2 load each input vector once for all the outputs that it contributes to,
because a core loads slower than it multiplies; with stride 1 and many registers for two rows of outputs at once. Other
filters go from place to place, and leave out those that only meet padding. Weights: ``[channel block][kh][kw][VW]``.
"""

from libc.stdint cimport int64_t

from megengine_lite.kernels.common.block_output cimport BlockOutput, set_activation, store_block
from megengine_lite.kernels.common.arguments cimport Epilogue, FilterWindow, Strides
from megengine_lite.kernels.common.simd cimport BY_LANE, VW, inlined, outlined, vf, vf_fma, \
    vf_fma_in_order, vf_fma_in_place, vf_held, vf_load, vf_zero

cdef enum:
    MAX_PIXELS = 7
    MAX_COLUMNS = 5


# The filter and how it moves over one plane.
cdef struct Filter:
    int64_t ih, iw       # rows and columns of the input
    FilterWindow window
    int64_t row, column  # elements between the inputs of neighbouring places of the filter
    int64_t step         # elements between the inputs of neighbouring outputs


# A part of the rows or columns of a filter.
cdef struct Places:
    int64_t first, last


cdef inline Places places_within(
    int64_t at, int64_t last_at, int64_t places, int64_t dilate, int64_t extent
) noexcept nogil:
    """The places k of a filter that meet an input of `extent` rows or columns: 0 <= at' + k dilate < extent for an at'
    from `at` to `last_at`."""
    cdef int64_t first = 0 if last_at >= 0 else (dilate - 1 - last_at) // dilate
    cdef int64_t last = 0 if at >= extent else min(places, (extent - 1 - at) // dilate + 1)
    return Places(first, last)


cdef inline inlined sliding_block(
    int PIXELS, int COLUMNS, int STRIDE, const Filter* f, const float* x, const float* w, const BlockOutput* o
) noexcept nogil:
    """PIXELS outputs of a filter of COLUMNS columns: column q of the input is tap q - STRIDE p of output p."""
    cdef vf acc[MAX_PIXELS]
    cdef vf weights[MAX_COLUMNS]
    cdef vf value
    cdef int64_t j
    cdef int p, q
    for p in range(PIXELS):
        acc[p] = vf_zero()
    for j in range(f.window.kh):
        for q in range(COLUMNS):
            weights[q] = vf_load(w + q * VW)
        for q in range((PIXELS - 1) * STRIDE + COLUMNS):
            value = vf_held(vf_load(x + q * VW))
            for p in range(PIXELS):
                if 0 <= q - STRIDE * p < COLUMNS:
                    acc[p] = vf_fma_in_place(value, weights[q - STRIDE * p], acc[p])
        x += f.row
        w += COLUMNS * VW
    store_block(PIXELS, 1, acc, o)


cdef inline inlined row_of_two(
    int PIXELS, int COLUMNS, bint UPPER, bint LOWER, const float* x, const float* w, vf* acc
) noexcept nogil:
    """One input row, times the filter row at w for the upper output row, and times the one after it for the lower. A
    vector is loaded before the products of the last one; those of one sum stand far apart."""
    cdef vf upper[MAX_COLUMNS]
    cdef vf lower[MAX_COLUMNS]
    cdef vf values[MAX_PIXELS + MAX_COLUMNS]
    cdef int p, q
    for q in range(PIXELS + COLUMNS):
        if q < PIXELS + COLUMNS - 1:
            values[q] = vf_load(x + q * VW)
            if q < COLUMNS and UPPER:
                upper[q] = vf_load(w + q * VW)
            if q < COLUMNS and LOWER:
                lower[q] = vf_load(w + (q - COLUMNS) * VW)
        for p in range(PIXELS - 1, -1, -1):
            if 0 <= q - 1 - p < COLUMNS:
                if UPPER:
                    acc[p] = vf_fma_in_order(values[q - 1], upper[q - 1 - p], acc[p])
                if LOWER:
                    acc[PIXELS + p] = vf_fma_in_order(values[q - 1], lower[q - 1 - p], acc[PIXELS + p])


cdef inline inlined two_row_block(
    int PIXELS, int COLUMNS, const Filter* f, const float* x, const float* w, const BlockOutput* o,
    const BlockOutput* below
) noexcept nogil:
    """PIXELS outputs in each of two rows, which read all but one of their input rows in common."""
    cdef vf acc[2 * MAX_PIXELS]
    cdef int64_t j
    cdef int p
    for p in range(2 * PIXELS):
        acc[p] = vf_zero()
    row_of_two(PIXELS, COLUMNS, True, False, x, w, acc)
    for j in range(1, f.window.kh):
        x += f.row
        w += COLUMNS * VW
        row_of_two(PIXELS, COLUMNS, True, True, x, w, acc)
    row_of_two(PIXELS, COLUMNS, False, True, x + f.row, w + COLUMNS * VW, acc)
    store_block(PIXELS, 1, acc, o)
    store_block(PIXELS, 1, acc + PIXELS, below)


cdef inline inlined any_block(
    int PIXELS, int64_t STEP, int64_t column, const Places* rows, const Filter* f, const float* x, const float* w,
    const BlockOutput* o
) noexcept nogil:
    """PIXELS outputs of any filter, whose inputs lie STEP apart: those of its first place from `column` on."""
    cdef vf acc[MAX_PIXELS]
    cdef vf weight
    cdef const float* at
    cdef const float* tap
    cdef int64_t kw = f.window.kw, j, k
    cdef Places columns = places_within(
        column, column + (PIXELS - 1) * f.window.stride_w, kw, f.window.dilate_w, f.iw
    )
    cdef int p
    for p in range(PIXELS):
        acc[p] = vf_zero()
    for j in range(rows.first, rows.last):
        at = x + j * f.row + columns.first * f.column
        tap = w + (j * kw + columns.first) * VW
        for k in range(columns.last - columns.first):
            weight = vf_load(tap)
            for p in range(PIXELS):
                acc[p] = vf_fma(vf_load(at + p * STEP), weight, acc[p])
            at += f.column
            tap += VW
    store_block(PIXELS, 1, acc, o)


cdef inline inlined block(
    bint TWO, int PIXELS, int COLUMNS, int STRIDE, int64_t column, const Places* rows, const Filter* f, const float* x,
    const float* w, const BlockOutput* o, const BlockOutput* below
) noexcept nogil:
    if TWO:
        two_row_block(PIXELS, COLUMNS, f, x, w, o, below)
    elif COLUMNS:
        sliding_block(PIXELS, COLUMNS, STRIDE, f, x, w, o)
    elif STRIDE == 1:
        any_block(PIXELS, VW, column, rows, f, x, w, o)
    else:
        any_block(PIXELS, f.step, column, rows, f, x, w, o)


cdef inline inlined blocks_of(
    bint TWO, int COLUMNS, int STRIDE, int64_t left, int64_t line, int64_t y_row, int64_t z_row, const Filter* f,
    const float* x, const float* w, BlockOutput at
) noexcept nogil:
    """`left` pixels of an output row, with TWO also those of the row below. The first row of the filter meets row `line`
    of the input.

    Blocks are independent and short, so that the small ones at the end of a row run beside others.
    """
    cdef BlockOutput below = at
    cdef Places rows = places_within(line, line, f.window.kh, f.window.dilate_h, f.ih)
    cdef int64_t column = -f.window.pad_w
    cdef int count
    below.y += y_row
    if below.z:
        below.z += z_row
    while left:
        if left >= 7:
            count = 7
            block(TWO, 7, COLUMNS, STRIDE, column, &rows, f, x, w, &at, &below)
        elif left >= 4:
            count = 4
            block(TWO, 4, COLUMNS, STRIDE, column, &rows, f, x, w, &at, &below)
        elif left >= 2:
            count = 2
            block(TWO, 2, COLUMNS, STRIDE, column, &rows, f, x, w, &at, &below)
        else:
            count = 1
            block(TWO, 1, COLUMNS, STRIDE, column, &rows, f, x, w, &at, &below)
        left -= count
        column += count * f.window.stride_w
        x += count * f.step
        at.y += count * at.y_pixel
        if at.z:
            at.z += count * VW
        if TWO:
            below.y += count * at.y_pixel
            if below.z:
                below.z += count * VW


cdef inline inlined rows_of(
    int COLUMNS, int STRIDE, int64_t rows, int64_t pixels, int64_t line, int64_t x_row, int64_t y_row, int64_t z_row,
    const Filter* f, const float* x, const float* w, BlockOutput o
) noexcept nogil:
    """Neighbouring output rows of one plane; COLUMNS 0 means any filter, and then STRIDE 0 any stride."""
    cdef int64_t r = 0, done
    while r < rows:
        if BY_LANE and COLUMNS and STRIDE == 1 and x_row == f.row and r + 1 < rows:
            done = 2
            blocks_of(True, COLUMNS, STRIDE, pixels, line, y_row, z_row, f, x, w, o)
        else:
            done = 1
            blocks_of(False, COLUMNS, STRIDE, pixels, line, y_row, z_row, f, x, w, o)
        r += done
        line += done * f.window.stride_h
        x += done * x_row
        o.y += done * y_row
        if o.z:
            o.z += done * z_row


cdef inline outlined depthwise_rows(
    int64_t rows, int64_t pixels, int64_t line, int64_t x_row, int64_t y_row, int64_t z_row, const Filter* f,
    const float* x, const float* w, const BlockOutput* o
) noexcept nogil:
    cdef bint slides = f.column == VW and (f.step == VW or f.step == 2 * VW)
    if slides and f.window.kw == 3 and f.step == VW:
        rows_of(3, 1, rows, pixels, line, x_row, y_row, z_row, f, x, w, o[0])
    elif slides and f.window.kw == 3:
        rows_of(3, 2, rows, pixels, line, x_row, y_row, z_row, f, x, w, o[0])
    elif slides and f.window.kw == 5 and f.step == VW:
        rows_of(5, 1, rows, pixels, line, x_row, y_row, z_row, f, x, w, o[0])
    elif slides and f.window.kw == 5:
        rows_of(5, 2, rows, pixels, line, x_row, y_row, z_row, f, x, w, o[0])
    elif f.step == VW:
        rows_of(0, 1, rows, pixels, line, x_row, y_row, z_row, f, x, w, o[0])
    else:
        rows_of(0, 0, rows, pixels, line, x_row, y_row, z_row, f, x, w, o[0])


cdef struct ConvDepthwiseArgs:
    const float* x
    const float* w
    const float* bias
    const float* z
    float* y
    Strides x_, y_, z_
    int64_t y_pixel, blocks, ih, iw, oh, ow
    FilterWindow window
    Epilogue epilogue


cdef void conv_depthwise_f32(const ConvDepthwiseArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """One work item = one output row of one channel block of one image.

    x, y and z point at element (0, 0, 0, 0); x needs a halo of at least the padding, and pixels of y lie `y_pixel`
    elements apart. y may be z.
    """
    cdef const float* x = a.x
    cdef const float* w = a.w
    cdef const float* bias = a.bias
    cdef const float* z = a.z
    cdef float* y = a.y
    cdef int64_t x_row = a.x_.row, x_plane = a.x_.plane, x_image = a.x_.image
    cdef int64_t y_pixel = a.y_pixel, y_row = a.y_.row, y_plane = a.y_.plane, y_image = a.y_.image
    cdef int64_t z_row = a.z_.row, z_plane = a.z_.plane, z_image = a.z_.image
    cdef int64_t blocks = a.blocks, oh = a.oh, ow = a.ow, kh = a.window.kh, kw = a.window.kw
    cdef int64_t stride_h = a.window.stride_h, pad_h = a.window.pad_h, pad_w = a.window.pad_w
    cdef int64_t item, n, c, r, line, rows
    cdef Filter f = Filter(
        a.ih, a.iw, a.window, a.window.dilate_h * x_row, a.window.dilate_w * VW, a.window.stride_w * VW
    )
    cdef BlockOutput o
    o.z_pixel = VW
    o.y_pixel = y_pixel
    o.z_plane = o.y_plane = 0
    set_activation(&o, &a.epilogue)
    item = begin
    while item < end:
        n = item // (blocks * oh)
        c = item // oh % blocks
        r = item % oh
        rows = min(end - item, oh - r)
        o.bias = bias + c * VW if bias else NULL
        o.y = y + n * y_image + c * y_plane + r * y_row
        o.z = z + n * z_image + c * z_plane + r * z_row if z else NULL
        line = r * stride_h - pad_h
        depthwise_rows(
            rows, ow, line, stride_h * x_row, y_row, z_row, &f,
            x + n * x_image + c * x_plane + line * x_row - pad_w * VW, w + c * kh * kw * VW, &o,
        )
        item += rows


include "conv_depthwise_table.pxi"
