# Sampling of images between their pixels: from positions to the pixels that are read there ("taps"), and their weights.
#
#     piece_of       the pixels of a work item
#     place_pixels   where the pixels of an output row lie in the image: whole pixels and fractions
#     find_taps      the one or four pixels to be read for each, by the rule for the border
#     sum_window     the sum over a larger square of pixels, for cubic and Lanczos interpolation
#
# Positions are data of the user: whatever they are, NaN too, each tap is a pixel of the image.
from libc.math cimport isnan, rint
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t
from libc.string cimport memcpy, memset

from megengine_lite.kernels.common.arguments cimport Sampling
from megengine_lite.kernels.common.shared_constants cimport (
    AT_AFFINE, AT_FINE_AFFINE, AT_FINE_PERSPECTIVE, AT_MAP, AT_PERSPECTIVE, KIND_F32, KIND_U8,
    SAMPLE_PIXELS,
)
from megengine_lite.kernels.common.simd cimport (
    VW, vd, vd_finite, vd_high, vd_low, vd_max, vd_min, vd_set1, vf, vf_floor, vf_load, vf_max_number, vf_min_nan,
    vf_product, vf_rint, vf_set1, vf_store, vf_to_vi, vf_unzip_even, vf_unzip_odd, vi, vi_any, vi_from_vd, vi_lanes, vi_load,
    vi_lt, vi_max, vi_select, vi_set1, vi_store, vi_to_vf,
)

include "border_mode_numbers.pxi"

cdef enum:
    STEPS = 32  # of fine positions, per pixel
    STEP_BITS = 5
    MAX_WINDOW = 8  # pixels along an axis that make one


# What SAMPLE_PIXELS neighbours in an output row read.
cdef struct Taps:
    int32_t x[SAMPLE_PIXELS]  # the pixel at the position, or the first one to the left of it and above
    int32_t y[SAMPLE_PIXELS]
    float left[SAMPLE_PIXELS]  # the weights of columns and rows; right and below are the fractions
    float right[SAMPLE_PIXELS]
    float above[SAMPLE_PIXELS]
    float below[SAMPLE_PIXELS]
    int32_t place[4][SAMPLE_PIXELS]  # element of a plane: above left, above right, below left, below right; -1 outside
    float weight[4][SAMPLE_PIXELS]


# ---- positions -----------------------------------------------------------------------------------------------------

cdef inline vi to_pixel(vf whole) noexcept nogil:
    """Whole numbers as int32; what is too large becomes the largest float below 2^31, NaN -2^31."""
    return vf_to_vi(vf_min_nan(vf_set1(2147483520.0), vf_max_number(whole, vf_set1(-2147483648.0))))


cdef inline void set_position(Taps* t, int64_t i, vf x, vf y, bint nearest) noexcept nogil:
    cdef vf column, row
    if nearest:
        vi_store(t.x + i, to_pixel(vf_rint(x)))
        vi_store(t.y + i, to_pixel(vf_rint(y)))
        return
    column, row = vf_floor(x), vf_floor(y)
    vi_store(t.x + i, to_pixel(column))
    vi_store(t.y + i, to_pixel(row))
    vf_store(t.right + i, x - column)
    vf_store(t.left + i, vf_set1(1) - (x - column))
    vf_store(t.below + i, y - row)
    vf_store(t.above + i, vf_set1(1) - (y - row))


cdef inline void set_fine_position(Taps* t, int64_t i, vi x, vi y, bint nearest) noexcept nogil:
    """The same for positions in steps; in pixels if `nearest` is set."""
    cdef vf step = vf_set1(1.0 / STEPS)
    cdef vf right, below
    if not nearest:
        right = vi_to_vf(x & vi_set1(STEPS - 1)) * step
        below = vi_to_vf(y & vi_set1(STEPS - 1)) * step
        vf_store(t.right + i, right)
        vf_store(t.left + i, vf_set1(1) - right)
        vf_store(t.below + i, below)
        vf_store(t.above + i, vf_set1(1) - below)
        x = x >> STEP_BITS
        y = y >> STEP_BITS
    vi_store(t.x + i, x)
    vi_store(t.y + i, y)


cdef inline void place_by_map(Taps* t, const float* where, int64_t n, bint nearest) noexcept nogil:
    cdef float rest[2 * VW]
    cdef const float* p
    cdef int64_t i = 0
    while i < n:
        p = where + 2 * i
        if n - i < VW:
            memset(rest, 0, sizeof(rest))
            memcpy(rest, p, 2 * sizeof(float) * (n - i))
            p = rest
        set_position(
            t, i, vf_unzip_even(vf_load(p), vf_load(p + VW)), vf_unzip_odd(vf_load(p), vf_load(p + VW)), nearest
        )
        i += VW


cdef inline vf of_row(const float* m, float y, vf x) noexcept nogil:
    """m[0] x + m[1] y + m[2], each step rounded."""
    return (vf_product(vf_set1(m[0]), x) + vf_product(vf_set1(m[1]), vf_set1(y))) + vf_set1(m[2])


cdef inline void place_by_matrix(
    Taps* t, const float* m, bint perspective, int64_t row, int64_t first, int64_t n, bint nearest
) noexcept nogil:
    cdef float y = <float>row
    cdef vf x, px, py, divisor
    cdef int64_t i = 0
    while i < n:
        x = vi_to_vf(vi_lanes() + vi_set1(<int32_t>(first + i)))
        px, py = of_row(m, y, x), of_row(m + 3, y, x)
        if perspective:
            divisor = of_row(m + 6, y, x)
            px, py = px / divisor, py / divisor
        set_position(t, i, px, py, nearest)
        i += VW


cdef inline vd fine_position(const float* m, double y, vd x, vd divisor, double steps) noexcept nogil:
    """Products of a float and a pixel's number are exact in double precision, so that it does not matter if they are
    rounded before they are added."""
    cdef double last = 2147483647.0
    cdef vd v = (vd_set1(m[0]) * x + vd_set1(m[1] * y) + vd_set1(m[2])) / divisor
    return vd_max(vd_min(vd_finite(v) * vd_set1(steps), vd_set1(last)), vd_set1(-last))


cdef inline void place_fine_perspective(
    Taps* t, const float* m, int64_t row, int64_t first, int64_t n, bint nearest
) noexcept nogil:
    cdef double y = <double>row
    cdef double steps = 1 if nearest else STEPS
    cdef vf x
    cdef vd low, high, low_divisor, high_divisor
    cdef int64_t i = 0
    while i < n:
        x = vi_to_vf(vi_lanes() + vi_set1(<int32_t>(first + i)))
        low, high = vd_low(x), vd_high(x)
        low_divisor = vd_set1(m[6]) * low + vd_set1(m[7] * y) + vd_set1(m[8])
        high_divisor = vd_set1(m[6]) * high + vd_set1(m[7] * y) + vd_set1(m[8])
        set_fine_position(
            t, i,
            vi_from_vd(fine_position(m, y, low, low_divisor, steps), fine_position(m, y, high, high_divisor, steps)),
            vi_from_vd(
                fine_position(m + 3, y, low, low_divisor, steps), fine_position(m + 3, y, high, high_divisor, steps)
            ),
            nearest,
        )
        i += VW


cdef inline int64_t to_fixed(double v) noexcept nogil:
    """The nearest whole number that int32 holds, and is not its smallest; 0 for NaN."""
    cdef double last = 2147483647.0
    if isnan(v):
        return 0
    return <int64_t>rint(-last if v < -last else last if v > last else v)


cdef inline void place_fine_affine(
    Taps* t, const float* m, int64_t row, int64_t first, int64_t n, bint nearest
) noexcept nogil:
    """In fixed point with 10 bits for the fraction; 5 of them are kept."""
    cdef int shift = 10 if nearest else 10 - STEP_BITS
    cdef int64_t half = (<int64_t>1 << shift) >> 1
    cdef double y = <double>row, scale = 1024
    cdef int64_t x_begin = to_fixed((m[1] * y + m[2]) * scale) + half
    cdef int64_t y_begin = to_fixed((m[4] * y + m[5]) * scale) + half
    cdef int64_t i
    for i in range(n):
        t.x[i] = <int32_t>((x_begin + to_fixed(<double>m[0] * <double>(first + i) * scale)) >> shift)
        t.y[i] = <int32_t>((y_begin + to_fixed(<double>m[3] * <double>(first + i) * scale)) >> shift)
    for i in range(n, (n + VW - 1) // VW * VW):
        t.x[i] = t.y[i] = 0
    i = 0
    while i < n:
        set_fine_position(t, i, vi_load(t.x + i), vi_load(t.y + i), nearest)
        i += VW


# What a work item computes: n <= SAMPLE_PIXELS neighbours in a row of an output image.
cdef struct Piece:
    int64_t image, row, first, n


cdef inline Piece piece_of(const Sampling* s, int64_t item) noexcept nogil:
    cdef int64_t chunks = (s.ow + SAMPLE_PIXELS - 1) // SAMPLE_PIXELS
    cdef int64_t first = item % chunks * SAMPLE_PIXELS
    return Piece(item // (chunks * s.oh), item // chunks % s.oh, first, min(s.ow - first, SAMPLE_PIXELS))


cdef inline void place_pixels(Taps* t, const Sampling* s, Piece piece) noexcept nogil:
    """Positions of the pixels of a piece. Up to a whole vector, more are placed, somewhere."""
    cdef int64_t image = piece.image, row = piece.row, first = piece.first, n = piece.n
    cdef bint nearest = s.taps == 1
    if s.positions == AT_MAP:
        place_by_map(t, s.where + 2 * ((image * s.oh + row) * s.ow + first), n, nearest)
    elif s.positions == AT_FINE_PERSPECTIVE:
        place_fine_perspective(t, s.where + 9 * image, row, first, n, nearest)
    elif s.positions == AT_FINE_AFFINE:
        place_fine_affine(t, s.where + 6 * image, row, first, n, nearest)
    elif s.positions == AT_PERSPECTIVE:
        place_by_matrix(t, s.where + 9 * image, True, row, first, n, nearest)
    else:
        place_by_matrix(t, s.where + 6 * image, False, row, first, n, nearest)


cdef inline int64_t shown_image(const Sampling* s, int64_t image) noexcept nogil:
    """The image that an output image shows; the first one, and `fault` is set, if it does not exist."""
    cdef int64_t source = s.images[image] if s.images else image
    if 0 <= source < s.image_count:
        return source
    s.fault[0] = 1
    return 0


# ---- the border ----------------------------------------------------------------------------------------------------

cdef inline int64_t border_index(int64_t k, int64_t length, int64_t border) noexcept nogil:
    """Where a pixel outside of [0, length) is taken from; -1 for a constant."""
    cdef int64_t period
    if 0 <= k < length:
        return k
    if border == BORDER_REPLICATE:
        return 0 if k < 0 else length - 1
    if border == BORDER_CONSTANT:
        return -1
    if border == BORDER_WRAP:
        k = k % length
        return k if k >= 0 else k + length
    if length == 1:
        return 0
    period = 2 * length - (2 if border == BORDER_REFLECT_101 else 0)
    k = k % period
    if k < 0:
        k += period
    return k if k < length else period - k - (0 if border == BORDER_REFLECT_101 else 1)


cdef inline vi is_outside(vi k, int64_t length) noexcept nogil:
    return vi_lt(k, vi_set1(0)) | vi_lt(vi_set1(<int32_t>length - 1), k)


cdef inline vi inside(vi k, int64_t length, int64_t border) noexcept nogil:
    """border_index of VW pixels, but some pixel instead of -1."""
    cdef int32_t lanes[VW]
    cdef vi last = vi_set1(<int32_t>length - 1)
    cdef int j
    if border == BORDER_REPLICATE or border == BORDER_CONSTANT:
        k = vi_max(k, vi_set1(0))
        return vi_select(vi_lt(k, last), k, last)
    if not vi_any(is_outside(k, length)):
        return k
    vi_store(lanes, k)
    for j in range(VW):
        lanes[j] = <int32_t>border_index(lanes[j], length, border)
    return vi_load(lanes)


cdef inline bint find_taps(Taps* t, const Sampling* s, int64_t n) noexcept nogil:
    """Sets `place`, and of four taps `weight`. Whether any tap is outside of a constant border."""
    cdef vi row = vi_set1(<int32_t>s.x_.row), pixel = vi_set1(<int32_t>s.x_.pixel)
    cdef vi x, y, columns, next_columns, rows, next_rows
    cdef vi next_x = vi_set1(0), next_y = vi_set1(0)
    cdef vi outside = vi_set1(0), off_x, off_y, off_next_x, off_next_y
    cdef vf left, right, above, below
    cdef int64_t i = 0
    while i < n:
        x, y = vi_load(t.x + i), vi_load(t.y + i)
        columns, rows = inside(x, s.w, s.border) * pixel, inside(y, s.h, s.border) * row
        vi_store(t.place[0] + i, rows + columns)
        if s.taps > 1:
            next_x, next_y = x + vi_set1(1), y + vi_set1(1)
            next_columns, next_rows = inside(next_x, s.w, s.border) * pixel, inside(next_y, s.h, s.border) * row
            vi_store(t.place[1] + i, rows + next_columns)
            vi_store(t.place[2] + i, next_rows + columns)
            vi_store(t.place[3] + i, next_rows + next_columns)
            left, right = vf_load(t.left + i), vf_load(t.right + i)
            above, below = vf_load(t.above + i), vf_load(t.below + i)
            vf_store(t.weight[0] + i, left * above)
            vf_store(t.weight[1] + i, right * above)
            vf_store(t.weight[2] + i, left * below)
            vf_store(t.weight[3] + i, right * below)
        if s.border == BORDER_CONSTANT:
            off_x, off_y = is_outside(x, s.w), is_outside(y, s.h)
            vi_store(t.place[0] + i, vi_load(t.place[0] + i) | off_x | off_y)
            outside = outside | off_x | off_y
            if s.taps > 1:
                off_next_x, off_next_y = is_outside(next_x, s.w), is_outside(next_y, s.h)
                vi_store(t.place[1] + i, vi_load(t.place[1] + i) | off_next_x | off_y)
                vi_store(t.place[2] + i, vi_load(t.place[2] + i) | off_x | off_next_y)
                vi_store(t.place[3] + i, vi_load(t.place[3] + i) | off_next_x | off_next_y)
                outside = outside | off_next_x | off_next_y
        i += VW
    return vi_any(outside)


# ---- squares of more pixels ----------------------------------------------------------------------------------------

# The rows and columns of a window, as places in memory (-1 outside of a constant border), and their weights.
cdef struct Square:
    int64_t rows[MAX_WINDOW]
    int64_t columns[MAX_WINDOW]
    const float* row_weights
    const float* column_weights


cdef inline void find_square(Square* q, const Taps* t, const Sampling* s, int64_t i) noexcept nogil:
    """The window of output pixel i."""
    cdef int64_t before = s.taps // 2 - 1, k, place
    for k in range(s.taps):
        place = border_index(t.y[i] - before + k, s.h, s.border)
        q.rows[k] = place * s.x_.row if place >= 0 else -1
        place = border_index(t.x[i] - before + k, s.w, s.border)
        q.columns[k] = place * s.x_.pixel if place >= 0 else -1
    q.row_weights = s.weights + s.taps * <int64_t>(t.below[i] * STEPS)
    q.column_weights = s.weights + s.taps * <int64_t>(t.right[i] * STEPS)


cdef inline float load_element(const void* x, int kind, int64_t place) noexcept nogil:
    if kind == KIND_F32:
        return (<const float*>x)[place]
    if kind == KIND_U8:
        return <float>(<const uint8_t*>x)[place]
    return <float>(<const int8_t*>x)[place]


cdef inline double sum_window(const void* x, int kind, const Square* q, int64_t taps, float value) noexcept nogil:
    cdef double total = 0, part
    cdef float v
    cdef int64_t r, c
    for r in range(taps):
        part = 0
        for c in range(taps):
            v = value if q.rows[r] < 0 or q.columns[c] < 0 else load_element(x, kind, q.rows[r] + q.columns[c])
            part += <double>(v * q.column_weights[c])
        total += part * <double>q.row_weights[r]
    return total
