# Groups of arguments that several kernels have.
#
# The struct of a kernel holds a group as a field. Its arguments keep their names if the field has a name like `window`;
# behind a field like `x_` they are called x_row, x_plane, x_image (see tools/kernel_tables.py).
from libc.stdint cimport int64_t


# Distances in a blocked tensor: between rows, between channel blocks, between images. In elements, unless a kernel says
# otherwise.
cdef struct Strides:
    int64_t row, plane, image


# How a filter moves over an image.
cdef struct Window:
    int64_t kh, kw, stride_h, stride_w, dilate_h, dilate_w, pad_h, pad_w


# Numbers of PoolingMode.
include "pooling_mode_numbers.pxi"


# How a pooling window moves over an image of h x w pixels; `mode` is that of the operator.
cdef struct Pool:
    int64_t mode, h, w, oh, ow, kh, kw, stride_h, stride_w, pad_h, pad_w


# What happens to float32 sums: a code of vmath.pxd and its parameters.
cdef struct Epilogue:
    int64_t activation
    double act_a, act_b


# What happens to int32 sums; see requantize.pxd.
cdef struct Requantize:
    Epilogue epilogue
    int64_t kind, staged, z_mask, z_zero, y_zero
    double scale, mid_divisor, mid_low, mid_high, mid_scale, z_scale, y_scale, low, high
