"""Pooling against windows written out."""

import numpy as np
import pytest
from support.definitions import infer_opr, int32, run_opr

from megengine_lite._core.ir.dtype import FLOAT16, FLOAT32, INT32, DType, DTypeCode
from megengine_lite._core.ir.graph import TensorSpec
from megengine_lite._core.ir.image_layouts import Format, block_size, from_nchw
from megengine_lite._core.ir.params import AdaptivePooling, Pooling, PoolingMode
from megengine_lite.errors import ShapeError

M = PoolingMode
S8 = DType(DTypeCode.QUANTIZED_S8, 0.5)
ASYMM = DType(DTypeCode.QUANTIZED8_ASYMM, 0.5, 100)
PLAIN = [f for f in Format if "_" not in f.name or f == Format.NCHW44_DOT]


def pooled(x, p):
    """Each window by itself."""
    n, c, h, w = x.shape
    oh = (h + 2 * p.pad_h - p.window_h) // p.stride_h + 1
    ow = (w + 2 * p.pad_w - p.window_w) // p.stride_w + 1
    result = np.empty((n, c, oh, ow))
    for index in np.ndindex(result.shape):
        top, left = index[2] * p.stride_h - p.pad_h, index[3] * p.stride_w - p.pad_w
        rows, columns = slice(max(top, 0), top + p.window_h), slice(max(left, 0), left + p.window_w)
        inside = x[index[0], index[1], rows, columns]
        if p.mode == M.MAX:
            result[index] = inside.max()
        else:
            result[index] = inside.sum() / (p.window_h * p.window_w if p.mode == M.AVERAGE else inside.size)
    return result


GEOMETRIES = [
    {},
    {"window_h": 3, "window_w": 2, "stride_h": 1, "stride_w": 3, "pad_h": 2, "pad_w": 1},
    {"window_h": 7, "window_w": 9, "stride_h": 4, "stride_w": 4, "pad_h": 3, "pad_w": 4},
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("mode", M)
@pytest.mark.parametrize("fmt", PLAIN, ids=lambda f: f.name)
def test_float_pooling_in_all_layouts(fmt, mode, geometry):
    x = np.random.default_rng(0).standard_normal((2, max(block_size(fmt), 3), 9, 8)).astype(np.float32)
    p = Pooling(mode=mode, format=fmt, **geometry)
    (y,) = run_opr("Pooling", p, from_nchw(fmt, x))
    assert y == pytest.approx(from_nchw(fmt, pooled(x.astype(np.float64), p)), abs=1e-6)


@pytest.mark.parametrize("mode", M)
def test_quantized_averages_are_rounded_and_padding_is_real_zero(mode):
    x = np.array([[1, 2], [4, 200]], np.uint8).reshape(1, 1, 2, 2)
    p = Pooling(mode=mode, pad_h=1, pad_w=1, stride_h=1, stride_w=1)
    (y,) = run_opr("Pooling", p, x, dtypes=[ASYMM])
    expected = {
        M.MAX: [[1, 2, 2], [4, 200, 200], [4, 200, 200]],
        M.AVERAGE: [[75, 51, 76], [51, 52, 101], [76, 101, 125]],  # 100 outside; 75.25, 50.75, 75.5, 51.25, 51.75 ...
        M.AVERAGE_COUNT_EXCLUDE_PADDING: [[1, 2, 2], [3, 52, 101], [4, 102, 200]],
    }
    assert y[0, 0].tolist() == expected[mode]


@pytest.mark.parametrize(("mode", "expected"), [(M.AVERAGE, [-3, 3]), (M.AVERAGE_COUNT_EXCLUDE_PADDING, [-4, 4])])
def test_averages_of_int8_are_cut_off_or_rounded(mode, expected):
    x = np.array([[-3, -4, 3, 4]], np.int8).reshape(1, 1, 1, 4)
    (y,) = run_opr("Pooling", Pooling(mode=mode, window_h=1, stride_h=1), x)
    assert y.ravel().tolist() == expected
    (y,) = run_opr("Pooling", Pooling(mode=mode, window_h=1, stride_h=1), x, dtypes=[S8])
    assert y.ravel().tolist() == [-4, 4]


def test_float16_is_averaged_in_float32():
    x = np.full((1, 1, 50, 50), 60000, np.float16)
    (y,) = run_opr("Pooling", Pooling(mode=M.AVERAGE, window_h=50, window_w=50), x)
    assert y.dtype == FLOAT16.storage
    assert y.ravel().tolist() == [60000]


def test_maximum_passes_over_nan():
    x = np.array([1, np.nan, 3, -np.inf], np.float32).reshape(1, 1, 2, 2)
    assert run_opr("Pooling", Pooling(), x)[0].item() == 3
    lowest = np.finfo(np.float32).min
    assert run_opr("Pooling", Pooling(), np.full_like(x, -np.inf))[0].item() == lowest
    assert run_opr("Pooling", Pooling(), np.full_like(x, np.nan))[0].item() == lowest


def test_adaptive_pooling_has_windows_of_one_size():
    x = np.arange(8, dtype=np.float32).reshape(1, 1, 1, 8)
    (y,) = run_opr("AdaptivePooling", AdaptivePooling(), x, int32(1, 3))
    assert y.ravel().tolist() == [3, 5, 7]  # stride 2, window 4
    (y,) = run_opr("AdaptivePooling", AdaptivePooling(mode=M.AVERAGE), x.reshape(1, 1, 4, 2), int32(2))
    assert y[0, 0].tolist() == [[1, 2], [5, 6]]


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((1, 2, 3), {}, "4 dimensions"),
        ((1, 2, 3, 3), {"window_h": 4}, "does not fit"),
        ((1, 2, 3, 3), {"window_h": 2, "pad_h": 2}, "must be smaller than the window"),
        ((1, 2, 3, 3), {"stride_w": 0}, "stride"),
        ((1, 2, 3, 3), {"window_w": 0}, "window"),
        ((1, 2, 0, 3), {"pad_h": 1}, "empty"),
        ((1, 2, 3, 3), {"format": Format.NHWC_NCHW}, "not defined for format"),
        ((1, 2, 3, 3), {"format": 55}, "unknown format 55"),
        ((1, 2, 3, 3), {"mode": 9}, "unknown mode"),
    ],
)
def test_pooling_that_does_not_fit_is_refused(shape, options, message):
    with pytest.raises(ShapeError, match=message):
        infer_opr("Pooling", Pooling(**options), TensorSpec(shape, FLOAT32))


@pytest.mark.parametrize("size", [[4, 1], [0, 1], [1, 1, 1], [-1]])
def test_adaptive_sizes_that_cannot_be_are_refused(size):
    spec = TensorSpec((len(size),), INT32, int32(*size))
    with pytest.raises(ShapeError, match="output"):
        infer_opr("AdaptivePooling", AdaptivePooling(), TensorSpec((1, 1, 3, 3), FLOAT32), spec)
