"""Resizing of float32 images: weighted sums of a few rows and columns ("taps").

The caller makes tables of the rows and columns that each output pixel is made of, and of their weights. So one kernel
serves all interpolations.
"""

from libc.stdint cimport int32_t, int64_t

from megengine_lite.kernels.common.arguments cimport Strides
from megengine_lite.kernels.common.simd cimport (
    VW, inlined, vf, vf_fma, vf_gather, vf_load, vf_load_n, vf_permute2, vf_set1, vf_store, vf_store_n, vf_zero,
    vi, vi_load,
)

cpdef enum:  # planners read it
    MAX_TAPS = 64  # along the height


cdef inline vf load_lanes(const float* p, int64_t n) noexcept nogil:
    return vf_load(p) if n >= VW else vf_load_n(p, n)


cdef inline void store_lanes(float* p, vf x, int64_t n) noexcept nogil:
    if n >= VW:
        vf_store(p, x)
    else:
        vf_store_n(p, x, n)


# ---- images whose pixels are several floats: blocked, NHWC ---------------------------------------------------------

cdef inline inlined resize_row(
    int TAPS, const float** rows, const float* row_weights, int64_t taps_y, const int32_t* columns,
    const float* column_weights, int64_t taps_x, int64_t ow, int64_t pixel, int64_t y_pixel, float* y, int64_t lanes
) noexcept nogil:
    """One output row, up to VW lanes of it. TAPS: number of taps in both directions if constant, else 0."""
    cdef int64_t i, r, c
    cdef int64_t ny = TAPS if TAPS else taps_y
    cdef int64_t nx = TAPS if TAPS else taps_x
    cdef vf total, part
    for i in range(ow):
        total = vf_zero()
        for r in range(ny):
            part = load_lanes(rows[r] + columns[i * nx] * pixel, lanes) * vf_set1(column_weights[i * nx])
            for c in range(1, nx):
                part = vf_fma(
                    load_lanes(rows[r] + columns[i * nx + c] * pixel, lanes), vf_set1(column_weights[i * nx + c]), part
                )
            total = vf_fma(part, vf_set1(row_weights[r]), total)
        store_lanes(y + i * y_pixel, total, lanes)


cdef struct ResizePixelsArgs:
    const float* x
    const int32_t* rows
    const float* row_weights
    const int32_t* columns
    const float* column_weights
    float* y
    Strides x_, y_
    int64_t planes, oh, ow, taps_y, taps_x, lanes, pixel, y_pixel


cdef void resize_pixels_f32(const ResizePixelsArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """One work item = one output row of one plane of one image.

    rows [oh][taps_y], columns [ow][taps_x] and their weights; strides in elements; a pixel has `lanes` floats.
    """
    cdef int64_t planes = a.planes, oh = a.oh, ow = a.ow, taps_y = a.taps_y, taps_x = a.taps_x
    cdef int64_t lanes = a.lanes, pixel = a.pixel, y_pixel = a.y_pixel
    cdef int64_t x_row = a.x_.row, x_plane = a.x_.plane, x_image = a.x_.image
    cdef int64_t y_row = a.y_.row, y_plane = a.y_.plane, y_image = a.y_.image
    cdef const int32_t* row_table = a.rows
    cdef const float* row_weights = a.row_weights
    cdef const int32_t* columns = a.columns
    cdef const float* column_weights = a.column_weights
    cdef int64_t item, r, k, first, n
    cdef const float* x
    cdef const float* rows[MAX_TAPS]
    cdef float* y
    for item in range(begin, end):
        r = item % oh
        x = a.x + item // (oh * planes) * x_image + item // oh % planes * x_plane
        y = a.y + item // (oh * planes) * y_image + item // oh % planes * y_plane + r * y_row
        first = 0
        while first < lanes:
            n = lanes - first
            for k in range(taps_y):
                rows[k] = x + row_table[r * taps_y + k] * x_row + first
            if taps_y == 2 and taps_x == 2 and n >= VW:
                resize_row(
                    2, rows, row_weights + r * 2, 2, columns, column_weights, 2, ow, pixel, y_pixel, y + first, VW
                )
            elif taps_y == 1 and taps_x == 1 and n >= VW:
                resize_row(
                    1, rows, row_weights + r, 1, columns, column_weights, 1, ow, pixel, y_pixel, y + first, VW
                )
            else:
                resize_row(
                    0, rows, row_weights + r * taps_y, taps_y, columns, column_weights, taps_x, ow, pixel, y_pixel,
                    y + first, n,
                )
            first += VW


# ---- plain images --------------------------------------------------------------------------------------------------

cdef struct ResizePlainArgs:
    const float* x
    const int32_t* rows
    const float* row_weights
    const int32_t* columns
    const float* column_weights
    float* y
    const int32_t* starts
    int64_t h, w, oh, ow, taps_y, taps_x


def scratch_bytes(int64_t w):
    """Bytes of scratch of resize_plain_f32: a row of the image, and two vectors that are read behind it."""
    return sizeof(float) * (w + 2 * VW)


cdef void resize_plain_f32(const ResizePlainArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """One work item = one output row of one channel of one image.

    The tables are those of resize_pixels_f32; those of columns have the taps outermost: [taps_x][ow]. First the weighted
    rows are added up in scratch, which has scratch_bytes(w); then columns are gathered from there. If the columns of
    every VW outputs lie within 2 VW neighbours, `starts` [taps_x][ow / VW] has the first of them, and columns are
    counted from there; otherwise it is NULL. If taps_x is 0, the columns stay as they are.
    """
    cdef int64_t h = a.h, w = a.w, oh = a.oh, ow = a.ow, taps_y = a.taps_y, taps_x = a.taps_x
    cdef const int32_t* row_table = a.rows
    cdef const float* row_weights = a.row_weights
    cdef const int32_t* columns = a.columns
    cdef const float* column_weights = a.column_weights
    cdef const int32_t* starts = a.starts
    cdef float* line
    cdef const float* near
    cdef vi order
    cdef vf picked
    cdef int64_t item, r, k, i
    cdef float total
    cdef vf v
    cdef const float* x
    cdef float* y
    for item in range(begin, end):
        r = item % oh
        x = a.x + item // oh * h * w
        y = a.y + item * ow
        line = <float*>scratch if taps_x else y
        i = 0
        while i < w:
            v = vf_zero()
            for k in range(taps_y):
                v = vf_fma(
                    load_lanes(x + row_table[r * taps_y + k] * w + i, w - i), vf_set1(row_weights[r * taps_y + k]), v
                )
            store_lanes(line + i, v, w - i)
            i += VW
        if not taps_x:
            continue
        i = 0
        while i + VW <= ow:
            v = vf_zero()
            for k in range(taps_x):
                order = vi_load(columns + k * ow + i)
                if starts:
                    near = line + starts[k * (ow // VW) + i // VW]
                    picked = vf_permute2(vf_load(near), vf_load(near + VW), order)
                else:
                    picked = vf_gather(line, order)
                v = vf_fma(picked, vf_load(column_weights + k * ow + i), v)
            vf_store(y + i, v)
            i += VW
        while i < ow:
            total = 0.0
            for k in range(taps_x):
                total += line[columns[k * ow + i]] * column_weights[k * ow + i]
            y[i] = total
            i += 1


include "resize_table.pxi"
