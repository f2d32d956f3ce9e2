"""Convolutions against sums written out, in all layouts and types."""

from itertools import product

import numpy as np
import pytest
from support.definitions import int32, run_opr

from megengine_lite._core.ir.dtype import FLOAT16, INT16, DType, DTypeCode
from megengine_lite._core.ir.image_layouts import (
    Format,
    block_size,
    filter_axes,
    filter_from_plain,
    from_nchw,
    split_format,
)
from megengine_lite._core.ir.params import (
    BatchConvBias,
    ConvBias,
    ConvBiasNonlineMode,
    Convolution,
    Convolution3D,
    Convolution3DFormat,
    ConvolutionMode,
    ConvolutionSparse,
    LocalShare,
    MaskPropagate,
)
from megengine_lite.errors import ShapeError

F = Format
S8 = DType(DTypeCode.QUANTIZED_S8, 0.5)
W8 = DType(DTypeCode.QUANTIZED_S8, 0.25)
ASYMM = DType(DTypeCode.QUANTIZED8_ASYMM, 0.5, 100)
S32 = DType(DTypeCode.QUANTIZED_S32, 0.125)
GEOMETRIES = [
    {},
    {"pad_h": 1, "pad_w": 2, "stride_h": 2, "stride_w": 3},
    {"pad_h": 2, "pad_w": 1, "dilate_h": 2, "dilate_w": 1, "mode": ConvolutionMode.CONVOLUTION},
]
GROUPS = [(1, 3, 5), (2, 3, 2), (4, 1, 1), (4, 1, 2)]  # groups, icpg, ocpg


def numbers(*shape, seed=0, low=-8, high=9):
    return np.random.default_rng(seed).integers(low, high, shape)


def convolve(x, w, p):
    """Sums written out; x (n, c, h, w), w (g, ocpg, icpg, fh, fw)."""
    groups, ocpg, icpg, fh, fw = w.shape
    if p.mode == ConvolutionMode.CONVOLUTION:
        w = w[..., ::-1, ::-1]
    n, _, h, width = x.shape
    oh = (h + 2 * p.pad_h - (fh - 1) * p.dilate_h - 1) // p.stride_h + 1
    ow = (width + 2 * p.pad_w - (fw - 1) * p.dilate_w - 1) // p.stride_w + 1
    y = np.zeros((n, groups * ocpg, oh, ow), np.int64)
    for s, g, o, i, a, b, r, c in np.ndindex(n, groups, ocpg, icpg, oh, ow, fh, fw):
        row, column = a * p.stride_h - p.pad_h + r * p.dilate_h, b * p.stride_w - p.pad_w + c * p.dilate_w
        if 0 <= row < h and 0 <= column < width:
            y[s, g * ocpg + o, a, b] += x[s, g * icpg + i, row, column] * w[g, o, i, r, c]
    return y


def stored_filter(fmt, w, group, plain_input=False, channelwise=False):
    """A filter (g, ocpg, icpg, fh, fw) in the layout of a format; the largest form that there is."""
    for ndim in (6, 7, 5, 4) if channelwise else (7, 6, 5, 4):
        try:
            axes = filter_axes(fmt, group, ndim, plain_input)
        except ValueError:
            continue
        if ("g" in axes) == channelwise or fmt == F.NCHW:
            return filter_from_plain(axes, w, block_size(fmt))
    raise AssertionError(f"{fmt.name} has no such filter")


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize(("groups", "icpg", "ocpg"), GROUPS)
def test_convolution_is_a_sum_of_products(geometry, groups, icpg, ocpg):
    x, w = numbers(2, groups * icpg, 7, 8), numbers(groups, ocpg, icpg, 3, 2, seed=1)
    p = Convolution(sparse=ConvolutionSparse(int(groups > 1)), **geometry)
    expected = convolve(x, w, p)
    stored = w[0] if groups == 1 else w
    (y,) = run_opr("Convolution", p, x.astype(np.float32), stored.astype(np.float32))
    assert (y == expected).all()
    (y,) = run_opr("Convolution", p, x.astype(np.int8), stored.astype(np.int8))
    assert y.dtype == np.int32
    assert (y == expected).all()


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize(
    "fmt",
    [f for f in F if f not in (F.NHWC_NCHW, F.NHWC_NCHW4_IC_SMALL, F.NCHW_NCHW4_IC_SMALL)],
    ids=lambda f: f.name,
)
def test_layouts_hold_the_same_convolution(fmt, geometry):
    before, after = split_format(fmt)
    icpg, ocpg = (max(block_size(f), 4) for f in (before, after))
    x, w = numbers(2, icpg, 6, 7), numbers(1, ocpg, icpg, 3, 2, seed=1)
    bias, z = numbers(1, ocpg, 1, 1, seed=2), None
    plain = ConvBias(nonlineMode=ConvBiasNonlineMode.RELU, **geometry)
    expected = np.maximum(convolve(x, w, plain) + bias, 0)
    z = numbers(*expected.shape, seed=3)
    expected = np.maximum(convolve(x, w, plain) + bias + z, 0)
    p = ConvBias(nonlineMode=ConvBiasNonlineMode.RELU, format=fmt, **geometry)
    arrays = [from_nchw(before, x), stored_filter(before, w, False), from_nchw(after, bias), from_nchw(after, z)]
    (y,) = run_opr("ConvBiasForward", p, *(a.astype(np.float32) for a in arrays))
    assert (y == from_nchw(after, expected)).all()


@pytest.mark.parametrize(
    ("fmt", "kind"),
    [
        *product((F.NCHW44, F.NCHW88, F.NCHW44_DOT, F.NHWCD4), ("group", "channel-wise")),
        *product((F.NCHW44, F.NCHW88, F.NCHW44_DOT), ("first layer",)),  # NHWCD4 reads packed images there too
    ],
)
def test_packed_layouts_have_other_filters(fmt, kind):
    block = block_size(fmt)
    groups, icpg, ocpg = {"group": (2, block, block), "channel-wise": (2 * block, 1, 1), "first layer": (1, 3, block)}[
        kind
    ]
    x, w = numbers(1, groups * icpg, 6, 7), numbers(groups, ocpg, icpg, 3, 3, seed=1)
    p = Convolution(format=fmt, sparse=ConvolutionSparse(int(groups > 1)), pad_h=1, stride_w=2)
    first = kind == "first layer"
    stored = x if first else from_nchw(fmt, x)
    filters = stored_filter(fmt, w, groups > 1, plain_input=first, channelwise=kind == "channel-wise")
    (y,) = run_opr("Convolution", p, stored.astype(np.float32), filters.astype(np.float32))
    assert (y == from_nchw(fmt, convolve(x, w, p))).all()


def test_activations_follow_bias_and_addend():
    x = np.array([-4.0, -1.0, 0.5, 4.0], np.float32).reshape(1, 1, 1, 4)
    one, bias = np.ones((1, 1, 1, 1), np.float32), np.full((1, 1, 1, 1), 0.5, np.float32)
    total = x + 0.5 + x

    def run(mode):
        return run_opr("ConvBiasForward", ConvBias(nonlineMode=mode), x, one, bias, x)[0]

    mode = ConvBiasNonlineMode
    assert (run(mode.IDENTITY) == total).all()
    assert (run(mode.RELU) == np.maximum(total, 0)).all()
    assert run(mode.SIGMOID) == pytest.approx(1 / (1 + np.exp(-total)), rel=1e-6)
    assert run(mode.H_SWISH) == pytest.approx(total * np.clip(total + 3, 0, 6) / 6, rel=1e-6)


def test_float16_is_rounded_once():
    x = np.full((1, 600, 1, 1), 0.1, np.float16)
    (y,) = run_opr("Convolution", Convolution(), x, np.ones((1, 600, 1, 1), np.float16))
    assert y.dtype == FLOAT16.storage
    assert y[0, 0, 0, 0] == np.float16(600 * np.float32(np.float16(0.1)))


def test_int8_sums_of_any_length_are_exact():
    x = np.full((1, 5000, 1, 1), -128, np.int8)
    w = np.full((1, 5000, 1, 1), -128, np.int8)
    w[0, 0] = 127
    (y,) = run_opr("Convolution", Convolution(), x, w)
    assert y[0, 0, 0, 0] == 4999 * 128 * 128 - 127 * 128
    (y,) = run_opr("Convolution", Convolution(), x[:, :3], w[:, :3], output_dtype=INT16)
    assert y[0, 0, 0, 0] == 2 * 128 * 128 - 127 * 128


def test_quantized_sums_take_an_integer_bias_and_are_rounded_once():
    x = np.array([3, -5, 120, -128], np.int8).reshape(1, 1, 1, 4)
    w = np.array([[[[3]]]], np.int8)
    bias = int32(1).reshape(1, 1, 1, 1)
    sums = [10, -14, 361, -383]
    types = [S8, W8, S32]
    (y,) = run_opr("ConvBiasForward", ConvBias(), x, w, bias, dtypes=types, output_dtype=S32)
    assert y.ravel().tolist() == sums
    out = DType(DTypeCode.QUANTIZED_S8, 0.5)  # a quarter of the sums, halves away from zero
    (y,) = run_opr("ConvBiasForward", ConvBias(), x, w, bias, dtypes=types, output_dtype=out)
    assert y.ravel().tolist() == [3, -4, 90, -96]
    z = np.array([1, 1, 127, -128], np.int8).reshape(1, 1, 1, 4)
    types.append(DType(DTypeCode.QUANTIZED_S8, 0.25))
    p = ConvBias(nonlineMode=ConvBiasNonlineMode.RELU)
    (y,) = run_opr("ConvBiasForward", p, x, w, bias, z, dtypes=types, output_dtype=out)
    assert y.ravel().tolist() == [3, 0, 127, 0]  # (1.25 + 0.25) / 0.5, below 0, (45.125 + 31.75) / 0.5 is cut off
    (y,) = run_opr("ConvBiasForward", ConvBias(), x, w, dtypes=types[:2], output_dtype=DType(DTypeCode.FLOAT32))
    assert y.ravel().tolist() == [1.125, -1.875, 45.0, -48.0]


def test_padding_of_asymmetric_types_is_real_zero():
    x = np.full((1, 1, 1, 1), 110, np.uint8)
    w = np.full((1, 1, 3, 3), 101, np.uint8)
    (y,) = run_opr("Convolution", Convolution(pad_h=1, pad_w=1), x, w, dtypes=[ASYMM, ASYMM])
    assert y.tolist() == [[[[10]]]]


def test_four_bit_types_use_one_byte_each():
    x = np.array([7, -8], np.int8).reshape(1, 2, 1, 1)
    w = np.array([[-8, 7]], np.int8).reshape(1, 2, 1, 1)
    four = DType(DTypeCode.QUANTIZED_S4, 1.0)
    (y,) = run_opr("Convolution", Convolution(), x, w, dtypes=[four, four])
    assert y.tolist() == [[[[-112]]]]
    (y,) = run_opr("Convolution", Convolution(), x, w, dtypes=[four, four], output_dtype=DType(four.code, 20.0))
    assert y.tolist() == [[[[-6]]]]


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("fmt", [F.NCHW, F.NHWC, F.NCHW4, F.NCHW44, F.NHWCD4], ids=lambda f: f.name)
def test_transposed_convolution_is_the_gradient(fmt, geometry):
    """<conv(x), y> = <x, conv^T(y)> for all x and y."""
    x, w = numbers(1, 4, 6, 7), numbers(1, 8, 4, 3, 2, seed=1)
    forward = convolve(x, w, Convolution(**geometry))
    y = numbers(*forward.shape, seed=2)
    filters = stored_filter(fmt, w, False).astype(np.float32)
    like = from_nchw(fmt, x).astype(np.float32)
    p = Convolution(format=fmt, **geometry)
    (back,) = run_opr("ConvolutionBackwardData", p, filters, from_nchw(fmt, y).astype(np.float32), like)
    assert back.shape == like.shape
    assert (back * like).sum() == (forward * y).sum()


def test_transposed_convolution_gives_the_smallest_size_by_default():
    p = Convolution(stride_h=2, stride_w=3, pad_h=1)
    (y,) = run_opr("ConvolutionBackwardData", p, np.ones((1, 2, 3, 3), np.float32), np.ones((1, 1, 4, 4), np.float32))
    assert y.shape == (1, 2, 7, 12)
    with pytest.raises(ShapeError, match="do not give the output shape"):
        run_opr(
            "ConvolutionBackwardData",
            p,
            np.ones((1, 2, 3, 3), np.float32),
            np.ones((1, 1, 4, 4), np.float32),
            np.ones((1, 2, 9, 12), np.float32),
        )


def test_every_sample_can_have_its_own_filter():
    x, w = numbers(3, 4, 5, 5), numbers(3, 2, 3, 2, 3, 3, seed=1)
    bias = numbers(1, 6, 1, 1, seed=2).astype(np.int32)
    p = BatchConvBias(sparse=ConvolutionSparse.GROUP, pad_h=1)
    expected = [convolve(x[s : s + 1], w[s], Convolution(pad_h=1))[0] + bias[0] for s in range(3)]
    (y,) = run_opr(
        "BatchConvBiasForward", p, x.astype(np.int8), w.astype(np.int8), bias, dtypes=[S8, W8, S32], output_dtype=S32
    )
    assert (y == expected).all()


def test_volumes_are_convolved_in_three_directions():
    x, w = numbers(1, 2, 4, 5, 6), numbers(3, 2, 2, 1, 3, seed=1)
    p = Convolution3D(pad_d=1, pad_w=1, stride_d=2, stride_w=2)
    (y,) = run_opr("Convolution3D", p, x.astype(np.float32), w.astype(np.float32))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0), (1, 1)))
    assert y.shape == (1, 3, 3, 5, 3)
    window = padded[0, :, 2:4, 3:4, 4:7]
    assert (y[0, :, 1, 3, 2] == (w * window).sum(axis=(1, 2, 3, 4))).all()
    (back,) = run_opr(
        "Convolution3DBackwardData", p, w.astype(np.float32), y, x.astype(np.float32)
    )  # the gradient of half the squares
    assert (back * x).sum() == (y * y).sum()
    with pytest.raises(ShapeError, match="NCDHW"):
        run_opr(
            "Convolution3D",
            Convolution3D(format=Convolution3DFormat.NDHWC),
            x.astype(np.float32),
            w.astype(np.float32),
        )


def test_region_restricted_taps_stay_in_their_region():
    x = np.ones((1, 1, 3, 3), np.float32)
    regions = int32(0, 0, 1, 0, 0, 1, 2, 2, 2).reshape(1, 3, 3)
    p = Convolution(pad_h=1, pad_w=1, sparse=ConvolutionSparse.GROUP)
    (y,) = run_opr("RegionRestrictedConvolution", p, x, np.ones((1, 1, 1, 3, 3), np.float32), regions, regions)
    assert y[0, 0].tolist() == [[4, 4, 2], [4, 4, 2], [2, 3, 2]]


def test_masks_clear_and_grow():
    mask = np.zeros((5, 5), np.int32)
    mask[1, 1] = 3
    (grown,) = run_opr("MaskPropagate", MaskPropagate(kernel_h=3, kernel_w=3, pad_h=1, pad_w=1, stride_h=2), mask)
    assert grown.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]]
    x = np.full((1, 1, 5, 5), np.inf, np.float32)
    (y,) = run_opr("MaskConvolution", Convolution(), x, np.ones((1, 1, 1, 1), np.float32), mask)
    assert y[0, 0, 1, 1] == np.inf
    assert np.count_nonzero(y) == 1


def test_local_filters_differ_by_place():
    x = numbers(2, 3, 4, 4).astype(np.float32)
    w = numbers(2, 3, 3, 3, 2, 5, seed=1).astype(np.float32)
    (y,) = run_opr("Local", Convolution(stride_h=2, pad_h=1), x, np.concatenate([w, w[:1]]).astype(np.float32)[:2])
    assert y.shape == (2, 5, 2, 3)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    expected = np.einsum("nihw,ihwo->no", padded[:, :, 2:5, 1:3], w[1, 1])
    assert (y[:, :, 1, 1] == expected).all()
    (grouped,) = run_opr("GroupLocal", Convolution(stride_h=2, pad_h=1), x, w[None])
    assert (grouped == y).all()
    p = LocalShare(stride_h=2, pad_h=1, spatial_groups_h=2, spatial_groups_w=1)
    (shared,) = run_opr("LocalShareForward", p, x, w[:, :1])
    assert (shared[:, :, 1, 1] == np.einsum("nihw,ihwo->no", padded[:, :, 2:5, 1:3], w[1, 0])).all()


REFUSED = [
    ((1, 3, 5, 5), (4, 2, 3, 3), {}, "reads 2 channels"),
    ((1, 3, 5, 5), (4, 3, 3), {}, "no filter of 3 dimensions"),
    ((3, 5, 5), (4, 3, 3, 3), {}, "4 dimensions"),
    ((1, 3, 2, 2), (4, 3, 3, 3), {}, "does not fit"),
    ((1, 3, 5, 5), (4, 3, 3, 3), {"stride_h": 0}, "stride"),
    ((1, 3, 5, 5), (4, 3, 3, 3), {"dilate_w": 0}, "dilate"),
    ((1, 3, 5, 5), (4, 3, 0, 3), {}, "filter is empty"),
    ((1, 3, 5, 5), (4, 3, 3, 3), {"format": F.NHWC_NCHW}, "no convolution in format"),
    ((1, 3, 5, 5), (4, 3, 3, 3), {"format": 99}, "no convolution in format 99"),
    ((1, 1, 5, 5, 4), (6, 1, 3, 3, 4), {"format": F.NCHW4}, "do not fill the blocks"),
    ((1, 1, 5, 5, 8), (6, 1, 3, 3, 8), {"format": F.NCHW4}, "blocks of 4"),
]


@pytest.mark.parametrize(("data", "filters", "options", "message"), REFUSED)
def test_convolutions_that_do_not_fit_are_refused(data, filters, options, message):
    with pytest.raises(ShapeError, match=f"Convolution 'node': .*{message}"):
        run_opr("Convolution", Convolution(**options), np.zeros(data, np.float32), np.zeros(filters, np.float32))


@pytest.mark.parametrize(
    ("types", "bias", "output_dtype", "message"),
    [
        ([None, FLOAT16], None, None, "the filter is float16"),
        ([S8, None], None, None, "no convolution"),
        ([S8, W8], None, DType(DTypeCode.INT32), "cannot give int32"),
        ([S8, W8], ((1, 4, 1, 1), DType(DTypeCode.QUANTIZED_S32, 1.0)), None, "cannot be added"),
        ([S8, W8], ((1, 3, 1, 1), S32), None, "does not fit the output"),
        ([S8, W8], ((4,), S32), None, "4 dimensions"),
    ],
)
def test_types_that_do_not_go_together_are_refused(types, bias, output_dtype, message):
    arrays = [np.zeros((1, 3, 5, 5)), np.zeros((4, 3, 3, 3))]
    types = list(types)
    if bias is not None:
        arrays.append(np.zeros(bias[0]))
        types.append(bias[1])
    arrays = [a.astype(np.float32 if t is None else t.storage) for a, t in zip(arrays, types, strict=True)]
    with pytest.raises(ShapeError, match=message):
        run_opr("ConvBiasForward", ConvBias(), *arrays, dtypes=types, output_dtype=output_dtype)
