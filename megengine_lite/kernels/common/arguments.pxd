# Groups of arguments that several kernels have.
#
# The struct of a kernel holds a group as a field. Its arguments keep their names if the field has a name like `window`;
# behind a field like `x_` they are called x_row, x_plane, x_image (see tools/kernel_tables.py).
from libc.stdint cimport int32_t, int64_t


# Distances in a blocked tensor: between rows, between channel blocks, between images. In elements, unless a kernel says
# otherwise.
cdef struct Strides:
    int64_t row, plane, image


# How a filter moves over an image.
cdef struct FilterWindow:
    int64_t kh, kw, stride_h, stride_w, dilate_h, dilate_w, pad_h, pad_w


# Numbers of PoolingMode.
include "pooling_mode_numbers.pxi"


# How a pooling window moves over an image of h x w pixels; `mode` is that of the operator.
cdef struct PoolingWindow:
    int64_t mode, h, w, oh, ow, kh, kw, stride_h, stride_w, pad_h, pad_w


# What happens to float32 sums: a code of vmath.pxd and its parameters.
cdef struct Epilogue:
    int64_t activation
    double act_a, act_b


# What happens to int32 sums; see requantize.pxd.
cdef struct Requantize:
    Epilogue epilogue
    int64_t kind, staged, ties_even, z_mask, z_zero, y_zero
    double scale, mid_divisor, mid_low, mid_high, mid_scale, z_scale, y_scale, low, high


# Distances in an image whose channels are `planes` times `lanes`, in elements.
cdef struct PixelStrides:
    int64_t lane, pixel, row, plane, image


# What an image is sampled at, and how: see kernels/image/taps.pxd.
cdef struct Sampling:
    const float* where  # the map [n, oh, ow, 2] of (x, y), or a matrix for each output image
    const int32_t* images  # the image that each output image shows; NULL if they are the same
    const float* weights  # [32, taps]: of neighbours along an axis, by fraction; for more than two of them
    int32_t* fault  # set if an image does not exist
    int64_t positions, border, taps, is_finite, image_count, h, w, oh, ow, planes, lanes, channels
    PixelStrides x_, y_
    double value  # of pixels outside of a constant border; of results that are not finite if is_finite is set


# Where the matrices of a batch begin: product number q at q // inner outer strides and q % inner inner ones.
cdef struct BatchStrides:
    int64_t inner, a_outer, a_inner, b_outer, b_inner, c_outer, c_inner, z_outer, z_inner
