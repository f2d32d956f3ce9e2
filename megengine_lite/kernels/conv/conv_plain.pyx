"""Float32 convolution of plain tensors, NCHW or NCDHW: any groups, filters that are not constant, three dimensions.

Vectors run along the output row. The input rows of one output row are copied to scratch with their padding, each
split into `stride_w` interleaved parts, so that all loads are contiguous.
"""

from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from megengine_lite.kernels.common.arguments cimport Epilogue, FilterWindow
from megengine_lite.kernels.common.simd cimport (
    VW, inlined, outlined, vf, vf_fma_in_place, vf_load, vf_load_n, vf_set1, vf_store, vf_store_n, vf_zero,
)
from megengine_lite.kernels.common.vmath cimport activate

cpdef enum:  # planners read it
    SPAN = 3  # vectors of a block along the row


# How a row of results is finished and stored.
cdef struct Finish:
    const float* bias
    const float* z
    float* y
    int64_t channel  # elements between output channels
    int code
    vf a, b


cdef inline inlined plain_block(
    int CHANNELS, int64_t taps, const int64_t* offsets, const float* x, const float* w, int64_t first, int64_t lanes,
    const Finish* f
) noexcept nogil:
    """CHANNELS x SPAN vectors of results, from column `first` on; `lanes` columns exist."""
    cdef vf acc[4 * SPAN]
    cdef vf columns[SPAN]
    cdef vf value
    cdef const float* at
    cdef int64_t t, left
    cdef int c, v
    for c in range(CHANNELS * SPAN):
        acc[c] = vf_zero()
    for t in range(taps):
        at = x + offsets[t] + first
        for v in range(SPAN):
            columns[v] = vf_load(at + v * VW)
        for c in range(CHANNELS):
            value = vf_set1(w[c * taps + t])
            for v in range(SPAN):
                acc[c * SPAN + v] = vf_fma_in_place(value, columns[v], acc[c * SPAN + v])
    for c in range(CHANNELS):
        for v in range(SPAN):
            left = lanes - v * VW
            if left > 0:
                value = acc[c * SPAN + v]
                if f.bias:
                    value = value + vf_set1(f.bias[c])
                if left >= VW:
                    if f.z:
                        value = value + vf_load(f.z + c * f.channel + first + v * VW)
                    vf_store(f.y + c * f.channel + first + v * VW, activate(value, f.code, f.a, f.b))
                else:
                    if f.z:
                        value = value + vf_load_n(f.z + c * f.channel + first + v * VW, left)
                    vf_store_n(f.y + c * f.channel + first + v * VW, activate(value, f.code, f.a, f.b), left)


cdef inline outlined plain_row(
    int64_t channels, int64_t width, int64_t taps, const int64_t* offsets, const float* x, const float* w, Finish f
) noexcept nogil:
    """All output channels of a group for one output row."""
    cdef int64_t c = 0, first, count
    while c < channels:
        count = 4 if channels - c >= 4 else 1
        first = 0
        while first < width:
            if count == 4:
                plain_block(4, taps, offsets, x, w, first, width - first, &f)
            else:
                plain_block(1, taps, offsets, x, w, first, width - first, &f)
            first += SPAN * VW
        w += count * taps
        f.y += count * f.channel
        if f.z:
            f.z += count * f.channel
        if f.bias:
            f.bias += count
        c += count


cdef inline outlined split_row(
    const float* x, int64_t width, int64_t pad, int64_t stride, int64_t part, float* out
) noexcept nogil:
    """Copies a row into its parts: element i goes to place i // stride of part i % stride. Padding stays zero."""
    cdef int64_t k, at = pad % stride * part + pad // stride, phase = pad % stride
    if stride == 1:
        memcpy(out + pad, x, width * sizeof(float))
        return
    for k in range(width):
        out[at] = x[k]
        phase += 1
        at += part
        if phase == stride:
            phase = 0
            at += 1 - stride * part


cdef struct ConvPlainArgs:
    const float* x
    const float* w
    const float* bias
    const float* z
    float* y
    int64_t groups, ic, oc, id, ih, iw, od, oh, ow, part
    int64_t kd, stride_d, dilate_d, pad_d
    FilterWindow window
    Epilogue epilogue


def row_part(int64_t iw, int64_t ow, int64_t kw, int64_t stride_w, int64_t dilate_w, int64_t pad_w):
    """Numbers in one of the `stride_w` parts of a padded row, and those that the last block reads behind it."""
    cdef int64_t block = SPAN * VW
    cdef int64_t padded = (iw + 2 * pad_w + stride_w - 1) // stride_w
    return max(padded, (kw - 1) * dilate_w // stride_w + (ow + block - 1) // block * block)


def scratch_bytes(int64_t rows, int64_t kw, int64_t stride_w, int64_t part):
    """Bytes of scratch: `rows` = ic kd kh input rows of parts as long as row_part says, and the table of taps."""
    return rows * (sizeof(int64_t) * kw + sizeof(float) * stride_w * part)


cdef void conv_plain_f32(const ConvPlainArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """One work item = one output row (of one depth) of one group of one image. Flat images have depth 1.

    Tensors are dense; w is [groups][oc][ic][kd][kh][kw] with channels per group. `part` is the length of one part of
    a row of scratch, given by row_part. Scratch: scratch_bytes(ic kd kh, kw, stride_w, part).
    """
    cdef const float* x = a.x
    cdef const float* w = a.w
    cdef const float* bias = a.bias
    cdef const float* z = a.z
    cdef float* y = a.y
    cdef int64_t groups = a.groups, ic = a.ic, oc = a.oc
    cdef int64_t depth_in = a.id, ih = a.ih, iw = a.iw, depth_out = a.od, oh = a.oh, ow = a.ow
    cdef int64_t kd = a.kd, kh = a.window.kh, kw = a.window.kw
    cdef int64_t stride_d = a.stride_d, stride_h = a.window.stride_h, stride_w = a.window.stride_w
    cdef int64_t dilate_d = a.dilate_d, dilate_h = a.window.dilate_h, dilate_w = a.window.dilate_w
    cdef int64_t pad_d = a.pad_d, pad_h = a.window.pad_h, pad_w = a.window.pad_w, part = a.part
    cdef int64_t taps = ic * kd * kh * kw, rows = ic * kd * kh
    cdef int64_t* offsets = <int64_t*>scratch
    cdef float* copy = <float*>(offsets + taps)
    cdef int64_t item, n, g, d, r, row, k, depth, line, at
    cdef Finish f
    for row in range(rows):
        for k in range(kw):
            at = k * dilate_w
            offsets[row * kw + k] = (row * stride_w + at % stride_w) * part + at // stride_w
    f.channel = depth_out * oh * ow
    f.code = <int>a.epilogue.activation
    f.a = vf_set1(<float>a.epilogue.act_a)
    f.b = vf_set1(<float>a.epilogue.act_b)
    memset(copy, 0, rows * stride_w * part * sizeof(float))
    for item in range(begin, end):
        r = item % oh
        d = item // oh % depth_out
        g = item // (oh * depth_out) % groups
        n = item // (oh * depth_out * groups)
        for row in range(rows):
            depth = d * stride_d - pad_d + row // kh % kd * dilate_d
            line = r * stride_h - pad_h + row % kh * dilate_h
            if 0 <= depth < depth_in and 0 <= line < ih:
                split_row(
                    x + (((n * groups + g) * ic + row // (kh * kd)) * depth_in + depth) * ih * iw + line * iw,
                    iw, pad_w, stride_w, part, copy + row * stride_w * part,
                )
            else:
                memset(copy + row * stride_w * part, 0, stride_w * part * sizeof(float))
        at = ((n * groups + g) * oc * depth_out + d) * oh * ow + r * ow
        f.y = y + at
        f.z = z + at if z else NULL
        f.bias = bias + g * oc if bias else NULL
        plain_row(oc, ow, taps, offsets, copy, w + g * oc * taps, f)


include "conv_plain_table.pxi"
