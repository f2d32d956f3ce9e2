"""Normalization of float32: over rows (layer and group norm), over a middle axis, over channels of blocked images.

Mean and variance are computed in two passes over memory that the cache holds; the variance is the mean of squared
distances from the mean, so large offsets do not cancel. Partial sums are added up in double precision. Of numbers that
are not all finite, both are NaN.
"""

from libc.math cimport sqrt
from libc.stdint cimport int64_t

from megengine_lite.kernels.common.arguments cimport Strides
from megengine_lite.kernels.common.lanes cimport sum_lanes
from megengine_lite.kernels.common.rows cimport is_aligned, stream_row
from megengine_lite.kernels.common.simd cimport (
    VW, stream_end, vf, vf_fma, vf_load, vf_load_n, vf_select, vf_set1, vf_sqrt, vf_store, vf_store_n, vf_stream,
    vf_zero, vi_first,
)

cdef enum:
    BLOCK = 4096  # floats added up in single precision
    PIECE = 256  # pixels of a blocked plane that stay in the first-level cache


# ---- rows ----------------------------------------------------------------------------------------------------------

cdef inline double row_sum(const float* x, int64_t n) noexcept nogil:
    cdef vf a, b, c, d
    cdef double total = 0.0
    cdef int64_t i = 0, end
    while i < n:
        a = b = c = d = vf_zero()
        end = min(n, i + BLOCK)
        while i + 4 * VW <= end:
            a = a + vf_load(x + i)
            b = b + vf_load(x + i + VW)
            c = c + vf_load(x + i + 2 * VW)
            d = d + vf_load(x + i + 3 * VW)
            i += 4 * VW
        while i < end:
            b = b + vf_load_n(x + i, min(end - i, <int64_t>VW))
            i += VW
        i = end
        total += sum_lanes((a + b) + (c + d))
    return total


cdef inline void row_moments(const float* x, int64_t n, float center, double* first, double* second) noexcept nogil:
    """Sums of the distances from `center`, and of their squares."""
    cdef vf m = vf_set1(center)
    cdef vf a, b, squares, squares2, v, w
    cdef int64_t i = 0, end
    first[0] = 0.0
    second[0] = 0.0
    while i < n:
        a = b = squares = squares2 = vf_zero()
        end = min(n, i + BLOCK)
        while i + 2 * VW <= end:
            v = vf_load(x + i) - m
            w = vf_load(x + i + VW) - m
            a = a + v
            b = b + w
            squares = vf_fma(v, v, squares)
            squares2 = vf_fma(w, w, squares2)
            i += 2 * VW
        while i < end:
            v = vf_load_n(x + i, min(end - i, <int64_t>VW)) - m
            v = vf_select(vi_first(end - i), v, vf_zero())
            a = a + v
            squares = vf_fma(v, v, squares)
            i += VW
        i = end
        first[0] += sum_lanes(a + b)
        second[0] += sum_lanes(squares + squares2)


cdef struct NormRowsArgs:
    const float* x
    const float* weight
    const float* bias
    float* y
    float* mean
    float* deviation
    int64_t segments, inner, weight_rows, give_variance, stream, centred
    double eps


def rows_scratch_bytes(int64_t n, bint stream):
    """Bytes of scratch of norm_rows_f32 for rows of n elements: a row whose result goes past the caches."""
    return sizeof(float) * n if stream else 0


cdef void norm_rows_f32(const NormRowsArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y = (x - mean) / sqrt(variance + eps) * weight + bias for rows of `segments` x `inner` elements.

    Without `centred`, 0 stands for the mean, so that the variance is the mean of squares. There is one weight for each segment of `inner` elements. The rows use `weight_rows` rows of weights in turn: one in
    layer norm, one for each group in group norm. weight, bias, mean and deviation may be NULL. `deviation` becomes the
    variance if `give_variance`, otherwise 1 / sqrt(variance + eps). With `stream`, y is larger than the caches and
    inner is 1. One work item = one row. Scratch: rows_scratch_bytes(segments inner, stream).
    """
    cdef const float* weight = a.weight
    cdef const float* bias = a.bias
    cdef float* means = a.mean
    cdef float* deviations = a.deviation
    cdef int64_t segments = a.segments, inner = a.inner, weight_rows = a.weight_rows, give_variance = a.give_variance
    cdef int64_t stream = a.stream
    cdef int64_t n = segments * inner
    cdef int64_t row, s, offset
    cdef double variance, inverse, rest, factor
    cdef float center
    cdef const float* x
    cdef float* y
    cdef float* target
    for row in range(begin, end):
        x = a.x + row * n
        y = a.y + row * n
        # Single precision loses something of the mean, which matters where the deviation is small: `rest`.
        center = <float>(row_sum(x, n) / <double>n) if a.centred else 0.0
        row_moments(x, n, center, &rest, &variance)
        rest = rest / <double>n if a.centred else 0.0
        variance = variance / <double>n - rest * rest
        inverse = 1.0 / sqrt(variance + a.eps)
        if means:
            means[row] = <float>(center + rest)
        if deviations:
            deviations[row] = <float>(variance if give_variance else inverse)
        offset = row % weight_rows * segments
        if inner == 1:
            target = <float*>scratch if stream else y
            scale_row(
                x, target, n, center, <float>inverse, <float>(-rest * inverse),
                weight + offset if weight else NULL, bias + offset if bias else NULL,
            )
            if stream:
                stream_row(y, target, n)
            continue
        for s in range(segments):
            factor = inverse * weight[offset + s] if weight else inverse
            shift_row(
                x + s * inner, y + s * inner, inner, center, <float>factor,
                <float>((bias[offset + s] if bias else 0.0) - rest * factor),
            )
    if stream:
        stream_end()


cdef inline void scale_row(
    const float* x, float* y, int64_t n, float mean, float inverse, float shift, const float* weight, const float* bias
) noexcept nogil:
    """y = ((x - mean) inverse + shift) weight + bias with a weight per element."""
    cdef vf m = vf_set1(mean), k = vf_set1(inverse), c = vf_set1(shift), v
    cdef int64_t i = 0
    if weight == NULL:
        shift_row(x, y, n, mean, inverse, shift)
        return
    while i + VW <= n:
        v = vf_fma(vf_load(x + i) - m, k, c)
        vf_store(y + i, vf_fma(v, vf_load(weight + i), vf_load(bias + i)))
        i += VW
    if i < n:
        v = vf_fma(vf_load_n(x + i, n - i) - m, k, c)
        vf_store_n(y + i, vf_fma(v, vf_load_n(weight + i, n - i), vf_load_n(bias + i, n - i)), n - i)


cdef inline void shift_row(const float* x, float* y, int64_t n, float mean, float factor, float bias) noexcept nogil:
    """y = (x - mean) factor + bias."""
    cdef vf m = vf_set1(mean), k = vf_set1(factor), b = vf_set1(bias)
    cdef int64_t i = 0
    while i + VW <= n:
        vf_store(y + i, vf_fma(vf_load(x + i) - m, k, b))
        i += VW
    if i < n:
        vf_store_n(y + i, vf_fma(vf_load_n(x + i, n - i) - m, k, b), n - i)


# ---- a middle axis -------------------------------------------------------------------------------------------------

cdef struct NormColumnsArgs:
    const float* x
    const float* weight
    const float* bias
    float* y
    float* mean
    float* deviation
    int64_t length, inner, chunk
    double eps


cdef void norm_columns_f32(const NormColumnsArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Normalization along r of x[o][r][i] with weight[r] and bias[r]; NULLs as in norm_rows_f32; `deviation` gets the
    inverse. One work item = `chunk` <= VW neighbours i of one o."""
    cdef const float* weight = a.weight
    cdef const float* bias = a.bias
    cdef float* means = a.mean
    cdef float* deviations = a.deviation
    cdef int64_t length = a.length, inner = a.inner, chunk = a.chunk
    cdef int64_t chunks = (inner + chunk - 1) // chunk
    cdef int64_t item, start, n, r, outer
    cdef vf mean, inverse, v
    cdef vf count = vf_set1(<float>length)
    cdef const float* x
    cdef float* y
    for item in range(begin, end):
        outer = item // chunks
        start = (item - outer * chunks) * chunk
        n = min(chunk, inner - start)
        x = a.x + outer * length * inner + start
        y = a.y + outer * length * inner + start
        mean = vf_zero()
        for r in range(length):
            mean = mean + vf_load_n(x + r * inner, n)
        mean = mean / count
        inverse = vf_zero()
        for r in range(length):
            v = vf_load_n(x + r * inner, n) - mean
            inverse = vf_fma(v, v, inverse)
        inverse = vf_set1(1.0) / vf_sqrt(inverse / count + vf_set1(<float>a.eps))
        for r in range(length):
            v = (vf_load_n(x + r * inner, n) - mean) * inverse
            if weight:
                v = vf_fma(v, vf_set1(weight[r]), vf_set1(bias[r]))
            vf_store_n(y + r * inner, v, n)
        if means:
            vf_store_n(means + outer * inner + start, mean + (mean - mean), n)
        if deviations:
            vf_store_n(deviations + outer * inner + start, inverse, n)


# ---- channels of blocked images ------------------------------------------------------------------------------------

cdef inline vf channel_sums(const float* x, int64_t x_row, int64_t h, int64_t w) noexcept nogil:
    cdef vf a = vf_zero(), b = a, c = a, d = a
    cdef int64_t r, i
    for r in range(h):
        i = 0
        while i + 4 <= w:
            a = a + vf_load(x + i * VW)
            b = b + vf_load(x + i * VW + VW)
            c = c + vf_load(x + i * VW + 2 * VW)
            d = d + vf_load(x + i * VW + 3 * VW)
            i += 4
        while i < w:
            a = a + vf_load(x + i * VW)
            i += 1
        x += x_row
    return (a + b) + (c + d)


cdef inline vf channel_squares(const float* x, int64_t x_row, int64_t h, int64_t w, vf center) noexcept nogil:
    """Sums of the squares of distances from `center`."""
    cdef vf a = vf_zero(), b = a, c = a, d = a, u, v
    cdef int64_t r, i
    for r in range(h):
        i = 0
        while i + 4 <= w:
            u = vf_load(x + i * VW) - center
            v = vf_load(x + i * VW + VW) - center
            a = vf_fma(u, u, a)
            b = vf_fma(v, v, b)
            u = vf_load(x + i * VW + 2 * VW) - center
            v = vf_load(x + i * VW + 3 * VW) - center
            c = vf_fma(u, u, c)
            d = vf_fma(v, v, d)
            i += 4
        while i < w:
            u = vf_load(x + i * VW) - center
            a = vf_fma(u, u, a)
            i += 1
        x += x_row
    return (a + b) + (c + d)


cdef inline void channel_moments(
    const float* x, int64_t x_row, int64_t h, int64_t w, int64_t rows, vf* mean, vf* square
) noexcept nogil:
    """Mean of each channel of a plane, and mean squared distance from it.

    Both passes go over `rows` rows at a time, which the cache holds; then the moments of these are merged with those
    before. What the rounding of the mean loses is added in the next merge.
    """
    cdef vf average = vf_zero(), squares = vf_zero(), lost = vf_zero(), center, distance, change, moved
    cdef int64_t r = 0, n
    cdef double seen = 0.0, more
    while r < h:
        n = min(rows, h - r)
        more = <double>(n * w)
        center = channel_sums(x + r * x_row, x_row, n, w) / vf_set1(<float>more)
        squares = squares + channel_squares(x + r * x_row, x_row, n, w, center)
        distance = center - average
        change = vf_fma(distance, vf_set1(<float>(more / (seen + more))), lost)
        moved = average + change
        lost = change - (moved - average)
        average = moved
        squares = vf_fma(distance * vf_set1(<float>(seen * more / (seen + more))), distance, squares)
        seen += more
        r += n
    mean[0] = average
    square[0] = squares / vf_set1(<float>seen)


cdef inline void scale_channels(
    bint STREAM, const float* x, int64_t x_row, float* y, int64_t y_row, int64_t h, int64_t w,
    vf mean, vf factor, vf bias
) noexcept nogil:
    """y = (x - mean) factor + bias."""
    cdef int64_t r, i
    cdef vf v
    for r in range(h):
        for i in range(w):
            v = vf_fma(vf_load(x + r * x_row + i * VW) - mean, factor, bias)
            if STREAM:
                vf_stream(y + r * y_row + i * VW, v)
            else:
                vf_store(y + r * y_row + i * VW, v)


cdef struct NormChannelsArgs:
    const float* x
    const float* weight
    const float* bias
    float* y
    float* mean
    float* variance
    Strides x_, y_
    int64_t blocks, span, c, group, h, w, stream
    double eps


def channels_scratch_bytes(int64_t span):
    """Bytes of scratch of norm_channels_blocked_f32: mean and variance of each channel."""
    return 2 * sizeof(float) * span * VW


cdef void norm_channels_blocked_f32(
    const NormChannelsArgs* a, int64_t begin, int64_t end, void* scratch
) noexcept nogil:
    """Group norm of a blocked image: statistics of `group` neighbouring channels; instance norm for group = 1.

    weight and bias ([blocks VW], or NULL) are per channel. `span` blocks hold whole groups: one work item = `span`
    blocks of one image. mean and variance, [n][c / group], may be NULL. With `stream`, y is larger than the caches.
    Scratch: channels_scratch_bytes(span).
    """
    cdef const float* weight = a.weight
    cdef const float* bias = a.bias
    cdef float* means = a.mean
    cdef float* variances = a.variance
    cdef int64_t blocks = a.blocks, span = a.span, c = a.c, group = a.group, h = a.h, w = a.w
    cdef int64_t x_row = a.x_.row, x_plane = a.x_.plane, x_image = a.x_.image
    cdef int64_t y_row = a.y_.row, y_plane = a.y_.plane, y_image = a.y_.image
    cdef bint stream = a.stream != 0 and is_aligned(<const float*>a.y)
    cdef int64_t spans = (blocks + span - 1) // span
    cdef int64_t rows = PIECE // min(max(w, <int64_t>1), <int64_t>PIECE)
    cdef float* mean = <float*>scratch
    cdef float* factor = mean + span * VW
    cdef int64_t item, n, first, count, k, r, piece, channel
    cdef vf m, f, b
    cdef const float* x
    cdef float* y
    for item in range(begin, end):
        n = item // spans
        first = (item - n * spans) * span
        count = min(span, blocks - first)
        for k in range(count):
            x = a.x + n * x_image + (first + k) * x_plane
            channel_moments(x, x_row, h, w, rows, &m, &f)
            vf_store(mean + k * VW, m)
            vf_store(factor + k * VW, f)
        k = 0
        while k < count * VW:  # padded channels form groups of their own
            channel = first * VW + k
            if channel < c:
                merge_group(mean + k, factor + k, group, a.eps, channel // group + n * (c // group), means, variances)
                k += group
            else:
                factor[k] = 0.0
                mean[k] = 0.0
                k += 1
        for k in range(count - 1, -1, -1):  # from the end, which the cache holds
            x = a.x + n * x_image + (first + k) * x_plane
            y = a.y + n * y_image + (first + k) * y_plane
            m = vf_load(mean + k * VW)
            f = vf_load(factor + k * VW)
            b = vf_zero()
            if weight:
                f = f * vf_load(weight + (first + k) * VW)
                b = vf_load(bias + (first + k) * VW)
            r = (h - 1) // rows * rows
            while r >= 0:
                piece = min(rows, h - r)
                if stream:
                    scale_channels(True, x + r * x_row, x_row, y + r * y_row, y_row, piece, w, m, f, b)
                else:
                    scale_channels(False, x + r * x_row, x_row, y + r * y_row, y_row, piece, w, m, f, b)
                r -= rows
    if stream:
        stream_end()


cdef inline void merge_group(
    float* mean, float* square, int64_t n, double eps, int64_t place, float* means, float* variances
) noexcept nogil:
    """From moments of n channels to the mean and the factor of their group, stored for each of them."""
    cdef double center = 0.0, variance = 0.0
    cdef float factor
    cdef int64_t k
    for k in range(n):
        center += mean[k]
    center /= <double>n
    for k in range(n):
        variance += square[k] + (mean[k] - center) * (mean[k] - center)
    variance /= <double>n
    factor = <float>(1.0 / sqrt(variance + eps))
    for k in range(n):
        mean[k] = <float>center
        square[k] = factor
    if means:
        means[place] = <float>(center + (center - center))
    if variances:
        variances[place] = <float>variance


include "norm_table.pxi"
