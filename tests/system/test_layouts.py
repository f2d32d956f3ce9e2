"""Layouts of images and filters: shapes, elements, and the way back."""

import doctest

import numpy as np
import pytest

from megengine_lite._core.ir import image_layouts as layouts
from megengine_lite._core.ir.image_layouts import (
    Format,
    block_size,
    filter_axes,
    filter_from_plain,
    filter_to_plain,
    from_nchw,
    input_format,
    layout_filter_shape,
    layout_shape,
    nchw_shape,
    plain_filter_shape,
    split_format,
    to_nchw,
)

F = Format
N, C, H, W = 2, 13, 3, 5
IMAGE = np.arange(N * C * H * W, dtype=np.int32).reshape(N, C, H, W) + 1
# Where element (n, c, h, w) stands.
PLACE = {
    F.NCHW: lambda n, c, h, w: (n, c, h, w),
    F.NHWC: lambda n, c, h, w: (n, h, w, c),
    F.NHWCD4: lambda n, c, h, w: (n, h, c // 4, w, c % 4),
    F.NCHW4: lambda n, c, h, w: (n, c // 4, h, w, c % 4),
    F.NCHW44: lambda n, c, h, w: (n, c // 4, h, w, c % 4),
    F.NCHW44_DOT: lambda n, c, h, w: (n, c // 4, h, w, c % 4),
    F.NCHW8: lambda n, c, h, w: (n, c // 8, h, w, c % 8),
    F.NCHW88: lambda n, c, h, w: (n, c // 8, h, w, c % 8),
    F.NCHW32: lambda n, c, h, w: (n, c // 32, h, w, c % 32),
    F.NCHW64: lambda n, c, h, w: (n, c // 64, h, w, c % 64),
    F.CHWN4: lambda n, c, h, w: (c // 4, h, w, n, c % 4),
}


@pytest.mark.parametrize("fmt", PLACE)
def test_image_elements_stand_where_the_layout_says(fmt):
    stored = from_nchw(fmt, IMAGE, fill=-1)
    assert stored.shape == layout_shape(fmt, N, C, H, W)
    assert stored.flags.c_contiguous
    for index in [(0, 0, 0, 0), (1, 12, 2, 4), (0, 5, 1, 3), (1, 7, 0, 2)]:
        assert stored[PLACE[fmt](*index)] == IMAGE[index]


@pytest.mark.parametrize("fmt", PLACE)
def test_image_comes_back_with_padding_behind(fmt):
    stored = from_nchw(fmt, IMAGE, fill=-1)
    back = to_nchw(fmt, stored)
    assert back.shape == nchw_shape(fmt, stored.shape)
    assert (back[:, :C] == IMAGE).all()
    assert (back[:, C:] == -1).all()
    assert back.shape[1] - C == -C % block_size(fmt)


@pytest.mark.parametrize(
    ("fmt", "shape", "message"),
    [
        (F.NCHW, (1, 2, 3), "4 dimensions"),
        (F.NCHW44, (1, 2, 3, 4), "5 dimensions"),
        (F.NCHW88, (1, 2, 3, 4, 4), "last dimension of 8"),
        (F.CHWN4, (1, 2, 3, 4, 5), "last dimension of 4"),
    ],
)
def test_wrong_image_shape_is_refused(fmt, shape, message):
    with pytest.raises(ValueError, match=message):
        nchw_shape(fmt, shape)


def test_mixed_formats_name_input_and_output():
    assert split_format(F.NCHW4_NCHW32) == (F.NCHW4, F.NCHW32)
    assert split_format(F.NHWC_NCHW4_IC_SMALL) == (F.NHWC, F.NCHW4)
    assert split_format(F.NHWCD4) == (F.NHWCD4, F.NHWCD4)
    with pytest.raises(ValueError, match="77"):
        split_format(77)


def test_first_layer_reads_plain_images():
    assert input_format(F.NCHW88, 4) == F.NCHW
    assert input_format(F.NCHW88, 5) == F.NCHW88
    assert input_format(F.NCHW4, 4) == F.NCHW4


# format, grouped, dimensions, plain input: where element (g, o, i, y, x) stands.
FILTERS = [
    (F.NCHW, False, 4, False, lambda g, o, i, y, x: (o, i, y, x)),
    (F.NCHW, True, 5, False, lambda g, o, i, y, x: (g, o, i, y, x)),
    (F.NHWC, False, 4, False, lambda g, o, i, y, x: (o, y, x, i)),
    (F.NHWC, True, 5, False, lambda g, o, i, y, x: (g, o, y, x, i)),
    (F.NCHW4, False, 5, False, lambda g, o, i, y, x: (o, i // 4, y, x, i % 4)),
    (F.NCHW32, True, 6, False, lambda g, o, i, y, x: (g, o, i // 32, y, x, i % 32)),
    (F.NCHW88, False, 6, False, lambda g, o, i, y, x: (o // 8, i // 8, y, x, i % 8, o % 8)),
    (F.NCHW88, True, 7, False, lambda g, o, i, y, x: (g, o // 8, i // 8, y, x, i % 8, o % 8)),
    (F.NCHW88, True, 6, False, lambda g, o, i, y, x: (g // 8, 0, 0, y, x, g % 8)),
    (F.NCHW44, False, 5, True, lambda g, o, i, y, x: (o // 4, y, x, i, o % 4)),
    (F.NCHW44_DOT, False, 6, False, lambda g, o, i, y, x: (o // 4, i // 4, y, x, o % 4, i % 4)),
    (F.NHWCD4, False, 5, False, lambda g, o, i, y, x: (o // 4, y, x, i, o % 4)),
    (F.NHWCD4, False, 6, False, lambda g, o, i, y, x: (o // 4, y, x, i // 4, o % 4, i % 4)),
    (F.NHWCD4, True, 5, False, lambda g, o, i, y, x: (g // 4, 0, y, x, g % 4)),
    (F.NHWCD4, True, 6, False, lambda g, o, i, y, x: (g, o // 4, y, x, i, o % 4)),
    (F.NHWCD4, True, 7, False, lambda g, o, i, y, x: (g, o // 4, y, x, i // 4, o % 4, i % 4)),
    (F.CHWN4, False, 5, False, lambda g, o, i, y, x: (i // 4, y, x, o, i % 4)),
]


@pytest.mark.parametrize(("fmt", "group", "ndim", "plain", "place"), FILTERS)
def test_filter_elements_stand_where_the_layout_says(fmt, group, ndim, plain, place):
    axes = filter_axes(fmt, group, ndim, plain)
    sizes = (9 if group else 1, 1 if "g" in axes else 6, 1 if "g" in axes else 5, 3, 2)
    plain_filter = np.arange(np.prod(sizes)).reshape(sizes) + 1
    stored = filter_from_plain(axes, plain_filter, block_size(fmt))
    assert stored.ndim == ndim
    for index in [(0, 0, 0, 0, 0), (8, 5, 4, 2, 1), (4, 3, 2, 1, 0)]:
        index = tuple(min(i, s - 1) for i, s in zip(index, sizes, strict=True))
        assert stored[place(*index)] == plain_filter[index]
    back = filter_to_plain(axes, stored)
    assert back.shape == plain_filter_shape(fmt, axes, stored.shape)
    assert (back[tuple(slice(s) for s in sizes)] == plain_filter).all()
    assert back.sum() == plain_filter.sum()
    assert layout_filter_shape(axes, block_size(fmt), back.shape) == stored.shape


def test_filters_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="dense convolution in NCHW88 has no filter of 4"):
        filter_axes(F.NCHW88, False, 4)
    with pytest.raises(ValueError, match="no filter of 5"):
        filter_axes(F.NCHW44, False, 5)  # that of a first layer, but the input is blocked
    with pytest.raises(ValueError, match="blocks of 8"):
        plain_filter_shape(F.NCHW88, "OIhwio", (1, 1, 3, 3, 8, 4))
    with pytest.raises(ValueError, match="no room for 2 groups"):
        filter_from_plain("OIhw", np.zeros((2, 1, 1, 1, 1)), 1)


def test_examples():
    assert doctest.testmod(layouts).failed == 0
