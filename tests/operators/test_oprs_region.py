"""Regions of interest, deformed windows, correlation, windows as tensors, and relayouts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.definitions import float32, infer_opr, int32, run_opr

from megengine_lite._core.ir.dtype import FLOAT32, UINT8, DType, DTypeCode
from megengine_lite._core.ir.graph import TensorSpec
from megengine_lite._core.ir.params import (
    Convolution,
    Correlation,
    DeformablePSROIPooling,
    Images2Neibs,
    NMSKeep,
    RelayoutFormat,
    RelayoutFormatMode,
    ROIAlign,
    ROIAlignMode,
    ROIPooling,
    ROIPoolingMode,
    SlidingWindowTranspose,
)
from megengine_lite.errors import ShapeError

M = RelayoutFormatMode
# Pixel (y, x) has the value 10 y + x.
RAMP = (10 * np.arange(8)[:, None] + np.arange(8)).astype(np.float32)[None, None]


def test_roi_align_averages_samples():
    p = ROIAlign(mode=ROIAlignMode.AVERAGE, spatial_scale=0.5, pooled_height=2, pooled_width=1)
    y, _ = run_opr("ROIAlign", p, RAMP, float32([0, 2, 4, 6, 12])[0][None], n_outputs=2)
    # Box x 1..3, y 2..6; bins of 2 rows: the mean of a linear image is its middle.
    assert y.ravel().tolist() == [10 * 3 + 2, 10 * 5 + 2]


def test_roi_align_tells_the_largest_sample():
    p = ROIAlign(pooled_height=1, pooled_width=1, sample_height=2, sample_width=3)
    y, index = run_opr("ROIAlign", p, RAMP, float32([0, 0, 0, 6, 4])[0][None], n_outputs=2)
    assert y.ravel().tolist() == [10 * 3 + 5]
    assert index.ravel().tolist() == [5]
    y, _ = run_opr("ROIAlign", p, RAMP, float32([0, -20, -20, -10, -10])[0][None], n_outputs=2)
    assert y.ravel().tolist() == [0]


def test_roi_pooling_takes_whole_pixels():
    boxes = float32([0, 1, 2, 4, 3], [0, 9, 9, 12, 12], [0, 2, 2, 1, 1])
    y, index = run_opr("ROIPooling", ROIPooling(), RAMP, boxes, int32(1, 2), n_outputs=2)
    assert y.reshape(3, 2).tolist() == [[32, 34], [0, 0], [22, 22]]
    assert index.reshape(3, 2).tolist() == [[3 * 8 + 2, 3 * 8 + 4], [-1, -1], [18, 18]]
    y, _ = run_opr("ROIPooling", ROIPooling(mode=ROIPoolingMode.AVERAGE), RAMP, boxes, int32(1), n_outputs=2)
    assert y.ravel().tolist() == [27.5, 0, 22]


def test_regions_of_images_that_are_not_there_are_refused():
    for op, p, size in (("ROIAlign", ROIAlign(), []), ("ROIPooling", ROIPooling(), [int32(1, 1)])):
        with pytest.raises(ShapeError, match="belongs to image 1, there are 1"):
            run_opr(op, p, RAMP, float32([1, 0, 0, 1, 1])[0][None], *size, n_outputs=2)
        with pytest.raises(ShapeError, match="regions of 5 numbers"):
            run_opr(op, p, RAMP, float32([0, 0, 0, 1])[0][None], *size, n_outputs=2)
    with pytest.raises(ShapeError, match="more than"):
        run_opr("ROIAlign", ROIAlign(sample_height=2**31), RAMP, np.zeros((1, 5), np.float32), n_outputs=2)


def test_deformable_pooling_moves_its_bins():
    p = DeformablePSROIPooling(pooled_h=2, pooled_w=2, part_size=2, sample_per_part=2)
    box = float32([0, 2, 2, 5, 5])[0][None]
    still, count = run_opr(
        "DeformablePSROIPoolingForward", p, RAMP, box, np.zeros((1, 2, 2, 2), np.float32), n_outputs=2
    )
    # Bins of 2 from 1.5 on; samples at the start and the middle of each bin.
    assert still[0, 0].tolist() == [[22, 24], [42, 44]]
    assert (count == 4).all()
    p = DeformablePSROIPooling(pooled_h=2, pooled_w=2, part_size=2, sample_per_part=2, no_trans=False, trans_std=0.25)
    trans = np.zeros((1, 2, 2, 2), np.float32)
    trans[0, 0, 0, 1], trans[0, 1, 1, 0] = 1, -1
    moved, _ = run_opr("DeformablePSROIPoolingForward", p, RAMP, box, trans, n_outputs=2)
    assert moved[0, 0].tolist() == [[22, 25], [32, 44]]  # by 0.25 of the box of 4
    # The original reads what it needs and leaves the rest.
    more = np.concatenate([trans, np.full((5, 2, 2, 2), np.nan, np.float32)])
    moved, _ = run_opr("DeformablePSROIPoolingForward", p, RAMP, box, more, n_outputs=2)
    assert moved[0, 0].tolist() == [[22, 25], [32, 44]]
    boxes = np.repeat(box, 2, axis=0)
    with pytest.raises(ShapeError, match="for each of 2 regions"):
        run_opr("DeformablePSROIPoolingForward", p, RAMP, boxes, trans, n_outputs=2)


def test_deformable_convolution_without_offset_is_a_convolution():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 4, 6, 7)).astype(np.float32), rng.standard_normal((6, 4, 3, 3)).astype(np.float32)
    p = Convolution(pad_h=1, pad_w=2, stride_h=2, dilate_w=2)
    (expected,) = run_opr("Convolution", p, x, w)
    offset, mask = np.zeros((2, 36, 3, 7), np.float32), np.full((2, 18, 3, 7), 0.5, np.float32)
    (y,) = run_opr("DeformableConvForward", p, x, w, offset, mask)
    assert y == pytest.approx(expected / 2, abs=1e-5)
    offset[:, 1::2] = 2  # two columns further
    (y,) = run_opr("DeformableConvForward", p, x, w, offset, mask)
    assert y[..., :5] == pytest.approx(expected[..., 2:] / 2, abs=1e-5)
    with pytest.raises(ShapeError, match="do not fit 9 taps"):
        run_opr("DeformableConvForward", p, x, w, offset[:, :18], mask)


@pytest.mark.parametrize("multiply", [True, False])
def test_correlation_has_one_channel_per_displacement(multiply):
    a, b = np.random.default_rng(0).standard_normal((2, 1, 3, 6, 7)).astype(np.float32)
    p = Correlation(max_displacement=2, stride1=2, stride2=2, pad_size=2, is_multiply=multiply)
    (y,) = run_opr("CorrelationForward", p, a, b)
    assert y.shape == (1, 9, 3, 4)
    pair = a[0, :, 2, 4], b[0, :, 0, 6]  # q = 2: dy = -2, dx = 2; row 1, column 2
    assert y[0, 2, 1, 2] == pytest.approx(
        (pair[0] * pair[1] if multiply else np.abs(pair[0] - pair[1])).mean(), rel=1e-5
    )
    with pytest.raises(ShapeError, match="odd kernel_size"):
        run_opr("CorrelationForward", Correlation(kernel_size=2), a, b)


def test_windows_become_a_tensor_and_add_up_again():
    x = np.arange(2 * 5 * 4, dtype=np.float32).reshape(1, 2, 5, 4) + 1
    (y,) = run_opr("Images2Neibs", Images2Neibs(pad_h=1, stride_h=2, dilate_w=2, window_w=2), x)
    assert y.shape == (1, 2, 3, 2, 3, 2)
    assert y[0, 0, 0, 1].tolist() == [[0, 0], [2, 4], [6, 8]]
    p = SlidingWindowTranspose(out_h=5, out_w=4, pad_h=1, stride_h=2, dilate_w=2, window_w=2)
    (back,) = run_opr("SlidingWindowTranspose", p, np.ones_like(y))
    counts = np.outer([1, 2, 1, 2, 1], [1, 1, 1, 1])
    assert (back == counts).all()
    with pytest.raises(ShapeError, match="are not those of an image"):
        run_opr("SlidingWindowTranspose", p, y[:, :, :2])


def test_relayout_pads_each_group_and_cuts_it_again():
    x = np.arange(6, dtype=np.float32).reshape(1, 6, 1, 1) + 1
    (y,) = run_opr("RelayoutFormat", RelayoutFormat(mode=M.NCHW_NCHW4, group=2), x)
    assert y[0, :, 0, 0].tolist() == [[1, 2, 3, 0], [4, 5, 6, 0]]
    (back,) = run_opr("RelayoutFormat", RelayoutFormat(mode=M.NCHW4_NCHW, group=2, oc=6), y)
    assert (back == x).all()
    (whole,) = run_opr("RelayoutFormat", RelayoutFormat(mode=M.NCHW4_NCHW), y)
    assert whole.ravel().tolist() == [1, 2, 3, 0, 4, 5, 6, 0]


def test_relayout_pads_asymmetric_types_with_real_zero():
    x = np.full((1, 3, 1, 1), 7, np.uint8)
    asymm = DType(DTypeCode.QUANTIZED8_ASYMM, 0.5, 128)
    (y,) = run_opr("RelayoutFormat", RelayoutFormat(mode=M.NCHW_NCHW4_IC_SMALL), x, dtypes=[asymm])
    assert y.ravel().tolist() == [7, 7, 7, 128]
    signed = DType(DTypeCode.QUANTIZED_S8, 0.5)
    p = RelayoutFormat(mode=M.NCHW_NCHW4_IC_SMALL)
    (y,) = run_opr("RelayoutFormat", p, x, dtypes=[UINT8], output_dtype=signed)
    assert y.ravel().tolist() == [-121, -121, -121, 0]


@pytest.mark.parametrize(
    ("mode", "shape", "expected"),
    [
        (M.NCHW_NHWCD4I, (2, 7, 3, 5), (2, 3, 2, 5, 4)),
        (M.NHWCD4I_NHWC, (2, 3, 2, 5, 4), (2, 3, 5, 8)),
        (M.NCHW4_CHWN4, (2, 3, 5, 6, 4), (3, 5, 6, 2, 4)),
        (M.NCHW64_NCHW, (2, 2, 5, 6, 64), (2, 128, 5, 6)),
        (M.INTER_WEIGHT_DENSEI, (8, 6, 3, 2), (2, 3, 2, 8, 4)),
        (M.INTER_WEIGHT_DENSEI_DOT, (8, 6, 3, 2), (2, 3, 2, 2, 4, 4)),
        (M.INTER_WEIGHT_GROUP, (3, 8, 5, 3, 2), (3, 2, 3, 2, 5, 4)),
        (M.INTER_WEIGHT_CHAN, (8, 1, 1, 3, 2), (2, 1, 3, 2, 4)),
        (M.NCHW_NCHW88_CONV_DENSE_WEIGHT, (16, 12, 3, 2), (2, 2, 3, 2, 8, 8)),
        (M.NCHW_NCHW88_CONV_CHAN_WEIGHT, (12, 1, 1, 3, 2), (2, 1, 1, 3, 2, 8)),
        (M.NCHW_NCHW4_WEIGHT, (6, 5, 3, 2), (8, 2, 3, 2, 4)),
        (M.NCHW_NCHW4_WEIGHT, (2, 6, 5, 3, 2), (2, 8, 2, 3, 2, 4)),
    ],
)
def test_relayout_shapes(mode, shape, expected):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 1
    (y,) = run_opr("RelayoutFormat", RelayoutFormat(mode=mode), x)
    assert y.shape == expected
    assert y.sum(dtype=np.float64) == x.sum(dtype=np.float64)


@pytest.mark.parametrize(
    ("mode", "shape", "options", "message"),
    [
        (M.NHWC_NHWCD4, (1, 2, 2, 6), {}, "do not fill blocks of 4"),
        (M.NCHW_NCHW88_CONV_DENSE_WEIGHT, (12, 8, 1, 1), {}, "do not fill blocks of 8"),
        (M.INTER_WEIGHT_CHAN, (8, 2, 1, 1, 1), {}, "one channel per group"),
        (M.INTER_WEIGHT_DENSE, (8, 2, 1, 1, 1), {}, "does not take a filter of 5"),
        (M.NCHW_NCHW4, (1, 6, 1, 1), {"group": 4}, "cannot be cut in 4 groups"),
        (M.NCHW4_NCHW, (1, 1, 1, 1, 4), {"oc": 5}, "5 channels cannot be taken from 4"),
        (M.NCHW4_NCHW, (1, 4, 1, 1), {}, "5 dimensions"),
        (99, (1, 4, 1, 1), {}, "mode 99"),
    ],
)
def test_relayouts_that_do_not_fit_are_refused(mode, shape, options, message):
    with pytest.raises(ShapeError, match=message):
        infer_opr("RelayoutFormat", RelayoutFormat(mode=mode, **options), TensorSpec(shape, FLOAT32))


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(width, 0) * max(height, 0)
    return overlap / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap)


coordinate = st.integers(0, 8)


@settings(max_examples=50)
@given(st.lists(st.tuples(coordinate, coordinate, st.integers(1, 8), st.integers(1, 8)), max_size=8))
def test_nms_keeps_what_overlaps_with_nothing_kept(raw):
    boxes = [(x, y, x + w, y + h) for x, y, w, h in raw]
    expected = []
    for i, box in enumerate(boxes):
        # 3/7 is no overlap of boxes of these sizes: nothing hangs on rounding
        if all(iou(boxes[j], box) <= 0.4301 for j in expected):
            expected.append(i)
    array = np.array(boxes, np.float32).reshape(1, -1, 4)
    kept, count = run_opr("NMSKeepMGB", NMSKeep(iou_thresh=0.4301, max_output=10), array, n_outputs=2)
    assert count.tolist() == [len(expected)]
    last = expected[-1] if expected else 0
    assert kept.tolist() == [expected + [last] * (10 - len(expected))]


def test_nms_stops_at_its_limit_and_works_on_batches():
    box = [0, 0, 1, 1]
    far = [[10 * i, 0, 10 * i + 1, 1] for i in range(4)]
    boxes = np.array([far, [box] * 4], np.float32)
    kept, count = run_opr("NMSKeepMGB", NMSKeep(iou_thresh=0.5, max_output=3), boxes, n_outputs=2)
    assert kept.tolist() == [[0, 1, 2], [0, 0, 0]]
    assert count.tolist() == [3, 1]
    with pytest.raises(ShapeError, match="must be float32"):
        run_opr("NMSKeepMGB", NMSKeep(max_output=1), boxes[..., :3], n_outputs=2)


@pytest.mark.parametrize("boxes", [0, 4])
def test_nms_that_keeps_nothing_counts_nothing(boxes):
    kept, count = run_opr("NMSKeepMGB", NMSKeep(max_output=0), np.ones((2, boxes, 4), np.float32), n_outputs=2)
    assert kept.shape == (2, 0)
    assert count.tolist() == [0, 0]
