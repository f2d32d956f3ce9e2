"""Resizing, transforms, colours and filters of images against formulas."""

import doctest

import numpy as np
import pytest
from support.definitions import float32, infer_opr, int32, run_opr

from megengine_lite._core.ir.dtype import FLOAT32, INT32, UINT8, DType, DTypeCode
from megengine_lite._core.ir.graph import TensorSpec
from megengine_lite._core.ir.image_layouts import Format, from_nchw
from megengine_lite._core.ir.params import (
    BorderMode,
    Convolution3DFormat,
    CvtColor,
    CvtColorMode,
    DctChannelSelect,
    Flip,
    GaussianBlur,
    InterpolationMode,
    Remap,
    Resize,
    Resize3D,
    Rotate,
    WarpAffine,
    WarpPerspective,
)
from megengine_lite._core.operators import filters, sampling
from megengine_lite._core.operators.filters import dct_matrix
from megengine_lite._core.operators.sampling import border_index, cubic_weights, lanczos4_weights
from megengine_lite.errors import ShapeError

B, M, F = BorderMode, InterpolationMode, Format
ROW = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4)
IDENTITY = np.eye(3, dtype=np.float32)[None]


def image(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (B.REPLICATE, [0, 0, 0, 0, 1, 2, 2, 2, 2]),
        (B.REFLECT, [2, 1, 0, 0, 1, 2, 2, 1, 0]),
        (B.REFLECT_101, [1, 2, 1, 0, 1, 2, 1, 0, 1]),
        (B.WRAP, [0, 1, 2, 0, 1, 2, 0, 1, 2]),
        (B.CONSTANT, [-1, -1, -1, 0, 1, 2, -1, -1, -1]),
    ],
)
def test_border_modes(mode, expected):
    assert border_index(np.arange(-3, 6), 3, mode).tolist() == expected
    assert set(border_index(np.arange(-3, 6), 1, mode).tolist()) <= {0, -1}


def test_interpolation_weights_sum_up_to_one_and_hit_the_pixel():
    for weigh, at in ((cubic_weights, 1), (lanczos4_weights, 3)):
        weights = weigh(np.linspace(0, 0.99, 12, dtype=np.float32))
        assert weights.sum(axis=-1) == pytest.approx(1, abs=1e-6)
        assert weights[0] == pytest.approx(np.eye(weights.shape[1])[at], abs=1e-7)


@pytest.mark.parametrize(
    ("mode", "size", "expected"),
    [
        (M.NEAREST, 2, [0, 2]),
        (M.NEAREST, 6, [0, 0, 1, 2, 2, 3]),
        (M.LINEAR, 2, [0.5, 2.5]),
        (M.LINEAR, 8, [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]),
        (M.CUBIC, 4, [0, 1, 2, 3]),
        (M.CUBIC, 2, [0.40625, 2.59375]),  # (-3 x0 + 19 x1 + 19 x2 - 3 x3) / 32, edges repeated
    ],
)
def test_resize_of_a_row(mode, size, expected):
    (y,) = run_opr("Resize", Resize(imode=mode, format=F.NCHW), ROW, int32(1, size))
    assert y.ravel() == pytest.approx(expected, abs=1e-6)


def test_area_is_the_mean_of_what_is_covered():
    (y,) = run_opr("Resize", Resize(imode=M.AREA), float32(1, 2, 4, 8, 16).reshape(1, 1, 5, 1), int32(1, 2))
    assert y.ravel() == pytest.approx([(1 + 2 + 2) / 2.5, (2 + 8 + 16) / 2.5], rel=1e-6)
    (y,) = run_opr("Resize", Resize(imode=M.AREA), float32(0, 1).reshape(1, 1, 2, 1), int32(2, 3))
    assert y[0, 0, :, 0] == pytest.approx([0, 0.5, 1], abs=1e-6)


@pytest.mark.parametrize("fmt", [F.NHWC, F.NCHW4, F.NCHW44, F.NCHW88, F.NHWCD4, F.CHWN4], ids=lambda f: f.name)
@pytest.mark.parametrize("mode", [M.NEAREST, M.LINEAR])
def test_resize_is_the_same_in_all_layouts(fmt, mode):
    x = image(2, 8, 5, 7)
    (plain,) = run_opr("Resize", Resize(imode=mode, format=F.NCHW), x, int32(9, 4))
    (y,) = run_opr("Resize", Resize(imode=mode, format=fmt), from_nchw(fmt, x), int32(9, 4))
    assert (y == from_nchw(fmt, plain)).all()


def test_bytes_are_rounded_or_cut_off_as_in_the_original():
    x = np.array([0, 3], np.uint8).reshape(1, 1, 2, 1)
    assert run_opr("Resize", Resize(), x, int32(1, 1))[0].tolist() == [[[[1]]]]
    assert run_opr("Resize", Resize(), x.repeat(2, axis=3), int32(1, 1))[0].tolist() == [[[[2, 2]]]]
    assert run_opr("Resize", Resize(format=F.NCHW), x, int32(1, 1))[0].tolist() == [[[[2]]]]


def test_other_channel_counts_know_linear_only():
    x = image(1, 4, 5, 4)
    (linear,) = run_opr("Resize", Resize(), x, int32(7, 7))
    for mode in (M.AREA, M.CUBIC, M.LANCZOS4):
        assert (run_opr("Resize", Resize(imode=mode), x, int32(7, 7))[0] == linear).all()


@pytest.mark.parametrize(("align", "expected"), [(True, [0, 1.5, 3]), (False, [1 / 6, 1.5, 17 / 6])])
def test_resize3d_conventions(align, expected):
    volume = ROW.reshape(1, 1, 1, 1, 4)
    p = Resize3D(align_corners=align, format=Convolution3DFormat.NCDHW)
    (y,) = run_opr("Resize3D", p, volume, int32(2, 1, 3))
    assert y[0, 0, 1, 0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("op", "params", "shape", "size", "message"),
    [
        ("Resize", Resize(format=F.NCHW, imode=M.AREA), (1, 1, 2, 2), [2, 2], "not defined for format NCHW"),
        ("Resize", Resize(format=F.NCHW), (1, 1, 0, 2), [2, 2], "empty"),
        ("Resize", Resize(format=F.NCHW4_NCHW), (1, 1, 2, 2), [2, 2], "not defined for format"),
        ("Resize", Resize(), (1, 2, 2, 1), [0, 2], "positive"),
        ("Resize", Resize(), (1, 2, 2, 1), [1, 2, 3], "2 positive numbers"),
        ("Resize3D", Resize3D(), (1, 1, 2, 2, 2), [2, 2, 2], "NCDHW"),
    ],
)
def test_resizes_that_do_not_fit_are_refused(op, params, shape, size, message):
    with pytest.raises(ShapeError, match=message):
        infer_opr(op, params, TensorSpec(shape, FLOAT32), TensorSpec((len(size),), INT32, int32(*size)))


SHIFT = float32([[1, 0, 0.5], [0, 1, -1], [0, 0, 1]])[0][None]


@pytest.mark.parametrize(
    ("border", "first"),
    [(B.REPLICATE, [0.5, 1.5, 2]), (B.WRAP, [6.5, 7.5, 7]), (B.REFLECT_101, [3.5, 4.5, 4.5]), (B.CONSTANT, [9, 9, 9])],
)
def test_a_matrix_maps_output_to_input(border, first):
    x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    p = WarpPerspective(bmode=border, border_val=9)
    (y,) = run_opr("WarpPerspective", p, x, SHIFT, int32(3, 3))
    assert y[0, 0, 0] == pytest.approx(first)
    assert y[0, 0, 1, :2] == pytest.approx([0.5, 1.5])
    p = WarpAffine(border_mode=border, border_val=9, format=F.NCHW)
    (affine,) = run_opr("WarpAffine", p, x, SHIFT[:, :2], int32(3, 3))
    assert (affine == y).all()


def test_denominator_bends_lines():
    matrix = IDENTITY.copy()
    matrix[0, 2, 0] = 1
    (y,) = run_opr("WarpPerspective", WarpPerspective(), ROW, matrix, int32(1, 4))
    assert y.ravel() == pytest.approx([0, 1 / 2, 2 / 3, 3 / 4])


def test_matrices_choose_images():
    x = image(3, 2, 4, 4)
    matrices = IDENTITY.repeat(4, axis=0)
    (y,) = run_opr("WarpPerspective", WarpPerspective(), x, matrices, int32(2, 0, 0, 1), int32(4, 4))
    assert (y == x[[2, 0, 0, 1]]).all()
    (y,) = run_opr("WarpPerspective", WarpPerspective(), *x[:, None], matrices[:3], int32(4, 4))
    assert (y == x).all()
    with pytest.raises(ShapeError, match="image indexes"):
        run_opr("WarpPerspective", WarpPerspective(), x, matrices, int32(2, 0, 3, 1), int32(4, 4))


@pytest.mark.parametrize("mode", M)
def test_fine_transforms_keep_whole_pixels(mode):
    x = image(1, 9, 9, 3)
    shift = np.float32([[[1, 0, 2], [0, 1, -1], [0, 0, 1]]])
    for op, p, matrix in (
        ("WarpPerspective", WarpPerspective(imode=mode, bmode=B.REFLECT, format=F.NHWC), shift),
        ("WarpAffine", WarpAffine(imode=mode, border_mode=B.REFLECT), shift[:, :2]),
    ):
        (y,) = run_opr(op, p, x, matrix, int32(9, 9))
        assert y[0, 1:, :-2] == pytest.approx(x[0, :-1, 2:], abs=1e-6)


def test_positions_of_fine_transforms_have_steps():
    row = ROW.reshape(1, 1, 4, 1)
    matrix = np.float32([[[1, 0, 1 / 3], [0, 1, 0], [0, 0, 1]]])
    (y,) = run_opr("WarpPerspective", WarpPerspective(format=F.NHWC), row, matrix, int32(1, 3))
    assert y.ravel() == pytest.approx([11 / 32, 43 / 32, 75 / 32], abs=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("mode", [M.LINEAR, M.NEAREST])
def test_indexes_of_images_do_not_change_how_they_are_sampled(mode, dtype):
    x = (100 * image(3, 9, 8, 3)).astype(dtype)
    matrices = IDENTITY + image(3, 3, 3, seed=1) * float32([[0.2, 0.2, 2], [0.2, 0.2, 2], [0, 0, 0]])
    p = WarpPerspective(format=F.NHWC, imode=mode)
    (plain,) = run_opr("WarpPerspective", p, x, matrices, int32(7, 6))
    (indexed,) = run_opr("WarpPerspective", p, x, matrices, int32(0, 1, 2), int32(7, 6))
    np.testing.assert_array_equal(indexed, plain)


@pytest.mark.parametrize("indexes", [(), (int32(0, 1, 2),)])
def test_several_data_inputs_are_sampled_without_steps(indexes):
    x, matrices = image(3, 9, 8, 2), IDENTITY + image(3, 3, 3, seed=1) / 8
    p = WarpPerspective(format=F.NHWC)
    (y,) = run_opr("WarpPerspective", p, *x[:, None], matrices, *indexes, int32(7, 6))
    (planes,) = run_opr("WarpPerspective", WarpPerspective(), x.transpose(0, 3, 1, 2), matrices, int32(7, 6))
    np.testing.assert_allclose(y.transpose(0, 3, 1, 2), planes, rtol=1e-5, atol=1e-6)


def test_transforms_can_change_layout_and_type():
    x = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3) + 120
    p = WarpPerspective(format=F.NHWC_NCHW)
    (y,) = run_opr("WarpPerspective", p, x, IDENTITY, int32(2, 4), output_dtype=FLOAT32)
    assert (y == x.transpose(0, 3, 1, 2)).all()
    signed = DType(DTypeCode.QUANTIZED_S8, 1.0)
    p = WarpPerspective(format=F.NHWC_NCHW4_IC_SMALL)
    (y,) = run_opr("WarpPerspective", p, x, IDENTITY, int32(2, 4), output_dtype=signed)
    assert y.shape == (1, 1, 2, 4, 4)
    assert (y[0, 0, ..., :3] == x[0].astype(int) - 128).all()
    assert (y[..., 3] == 0).all()


@pytest.mark.parametrize(
    ("params", "shapes", "message"),
    [
        (WarpPerspective(), [(2, 1, 3, 3), (1, 3, 3)], "1 matrices for 2 images"),
        (WarpPerspective(), [(1, 1, 3, 3), (1, 2, 3)], "matrices must be float32"),
        (WarpPerspective(imode=M.CUBIC), [(1, 1, 3, 3), (1, 3, 3)], "only defined for NHWC"),
        (WarpPerspective(bmode=B.TRANSPARENT), [(1, 1, 3, 3), (1, 3, 3)], "border mode"),
        (WarpPerspective(), [(1, 1, 0, 3), (1, 3, 3)], "empty"),
        (WarpPerspective(format=F.NCHW4_NCHW), [(1, 1, 3, 3, 4), (1, 3, 3)], "not defined for format"),
    ],
)
def test_transforms_that_do_not_fit_are_refused(params, shapes, message):
    specs = [TensorSpec(s, FLOAT32) for s in shapes]
    with pytest.raises(ShapeError, match=message):
        infer_opr("WarpPerspective", params, *specs, TensorSpec((2,), INT32, int32(2, 2)))


def test_remap_reads_where_the_map_says():
    x = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)
    where = float32([[[0.5, 0.5], [2, 1], [-1, 0]]])
    linear = Remap(format=F.NCHW, border_type=B.CONSTANT, scalar=7)
    assert run_opr("Remap", linear, x, where)[0].ravel() == pytest.approx([2, 5, 7])
    nearest = Remap(format=F.NCHW, border_type=B.WRAP, imode=M.NEAREST)
    assert run_opr("Remap", nearest, x, where)[0].ravel().tolist() == [0, 5, 2]
    with pytest.raises(ShapeError, match="the map must be"):
        run_opr("Remap", linear, x, where[..., :1])


def test_positions_that_no_pixel_can_have():
    """Beyond 32 bits on either side; NaN lies before the first pixel. They are the same on every machine."""
    x = np.arange(1, 4, dtype=np.float32).reshape(1, 1, 1, 3)
    where = np.zeros((1, 1, 5, 2), np.float32)
    where[..., 0] = [1e30, -1e30, np.inf, -np.inf, np.nan]
    nearest = Remap(format=F.NCHW, border_type=B.REPLICATE, imode=M.NEAREST)
    assert run_opr("Remap", nearest, x, where)[0].ravel().tolist() == [3, 1, 3, 1, 1]
    outside = Remap(format=F.NCHW, border_type=B.CONSTANT, imode=M.NEAREST, scalar=9)
    assert run_opr("Remap", outside, x, where)[0].ravel().tolist() == [9] * 5
    linear = Remap(format=F.NCHW, border_type=B.REPLICATE)
    assert run_opr("Remap", linear, x, where)[0].ravel() == pytest.approx([3, 1, *[np.nan] * 3], nan_ok=True)
    for dtype in np.uint8, np.int8:
        assert run_opr("Remap", linear, x.astype(dtype), where)[0].ravel()[2:].tolist() == [np.iinfo(dtype).min] * 3


def test_flip_and_rotate():
    x = np.arange(6, dtype=np.uint8).reshape(1, 2, 3, 1)
    assert run_opr("Flip", Flip(vertical=True), x)[0][0, ..., 0].tolist() == [[3, 4, 5], [0, 1, 2]]
    assert run_opr("Flip", Flip(horizontal=True), x)[0][0, ..., 0].tolist() == [[2, 1, 0], [5, 4, 3]]
    assert run_opr("Rotate", Rotate(), x)[0][0, ..., 0].tolist() == [[3, 0], [4, 1], [5, 2]]
    assert run_opr("Rotate", Rotate(clockwise=False), x)[0][0, ..., 0].tolist() == [[2, 5], [1, 4], [0, 3]]


def test_gray_of_bytes_is_fixed_point():
    x = np.array([10, 200, 33], np.uint8).reshape(1, 1, 1, 3)
    gray = (4899 * 10 + 9617 * 200 + 1868 * 33 + 8192) >> 14
    assert run_opr("CvtColor", CvtColor(mode=CvtColorMode.RGB2GRAY), x)[0].ravel().tolist() == [gray]
    assert run_opr("CvtColor", CvtColor(mode=CvtColorMode.BGR2GRAY), x[..., ::-1])[0].ravel().tolist() == [gray]
    y = run_opr("CvtColor", CvtColor(mode=CvtColorMode.RGB2GRAY), x.astype(np.float32))[0]
    assert y.ravel() == pytest.approx([0.299 * 10 + 0.587 * 200 + 0.114 * 33])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_yuv_and_back(dtype):
    scale = 255 if dtype == np.uint8 else 1
    x = (np.random.default_rng(0).random((1, 4, 4, 3)) * scale).astype(dtype)
    (yuv,) = run_opr("CvtColor", CvtColor(mode=CvtColorMode.RGB2YUV), x)
    (back,) = run_opr("CvtColor", CvtColor(mode=CvtColorMode.YUV2RGB), yuv)
    assert np.abs(back.astype(float) - x).max() < 0.012 * scale


def test_planar_chroma_belongs_to_two_by_two_pixels():
    y = np.full((2, 4), 100, np.uint8)
    nv12 = np.concatenate([y, np.array([[128, 228, 128, 28]], np.uint8)]).reshape(1, 3, 4, 1)
    (rgb,) = run_opr("CvtColor", CvtColor(mode=CvtColorMode.YUV2RGB_NV12), nv12)
    assert rgb[0, 1, 1].tolist() == [100 + (359 * 100 >> 8), 100 - (183 * 100 >> 8), 100]
    assert rgb[0, 0, 2].tolist() == [0, 100 - (183 * -100 >> 8), 100]
    (bgr,) = run_opr("CvtColor", CvtColor(mode=CvtColorMode.YUV2BGR_NV12), nv12)
    assert (bgr == rgb[..., ::-1]).all()
    (gray,) = run_opr("CvtColor", CvtColor(mode=CvtColorMode.YUV2GRAY_NV12), nv12)
    assert (gray == 100).all()


@pytest.mark.parametrize(
    ("mode", "shape", "dtype"),
    [
        (CvtColorMode.RGB2GRAY, (1, 2, 2, 4), UINT8),
        (CvtColorMode.RGBA2GRAY, (1, 2, 2, 4), FLOAT32),
        (CvtColorMode.YUV2RGB_NV21, (1, 4, 2, 1), UINT8),
        (CvtColorMode.YUV2RGB_NV21, (1, 6, 3, 1), UINT8),
    ],
)
def test_colours_that_do_not_fit_are_refused(mode, shape, dtype):
    with pytest.raises(ShapeError, match="does not take"):
        infer_opr("CvtColor", CvtColor(mode=mode), TensorSpec(shape, dtype))


def test_blur_keeps_the_sum_and_is_symmetric():
    x = np.zeros((1, 9, 9, 1), np.float32)
    x[0, 4, 4] = 1
    (y,) = run_opr("GaussianBlur", GaussianBlur(kernel_height=5, kernel_width=3, sigma_x=1, sigma_y=2), x)
    assert y.sum() == pytest.approx(1, rel=1e-6)
    assert y[0, 2, 4, 0] / y[0, 4, 4, 0] == pytest.approx(np.exp(-4 / 8), rel=1e-5)
    assert y[0, 4, 3, 0] / y[0, 4, 4, 0] == pytest.approx(np.exp(-1 / 2), rel=1e-5)
    with pytest.raises(ShapeError, match="odd"):
        run_opr("GaussianBlur", GaussianBlur(kernel_height=4, kernel_width=3), x)


def test_cosine_transform_of_blocks():
    matrix = dct_matrix(8)
    assert matrix @ matrix.T == pytest.approx(np.eye(8), abs=1e-6)
    x = np.random.default_rng(0).integers(0, 256, (1, 2, 8, 16)).astype(np.uint8)
    (y,) = run_opr("DctChannelSelect", DctChannelSelect(), x)
    assert y.shape == (1, 128, 1, 2)
    assert y[0, 64, 0, 1] == pytest.approx(x[0, 1, :, 8:].sum() / 8, rel=1e-6)
    (some,) = run_opr("DctChannelSelect", DctChannelSelect(), x, int32(0, 2, 3), int32(5, 0, 9))
    assert (some == y[:, [5, 0, 64 + 9]]).all()
    with pytest.raises(ShapeError, match="do not fit"):
        run_opr("DctChannelSelect", DctChannelSelect(), x, int32(0, 2, 3), int32(5, 0, 64))


def test_examples():
    assert doctest.testmod(sampling).failed == 0
    assert doctest.testmod(filters).failed == 0
