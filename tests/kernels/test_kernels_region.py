"""Pooling and suppression of regions on every instruction set."""

import numpy as np
import pytest
from support.one_node import INSTRUCTION_SETS, definition, run_blocked

from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.ir.params import NMSKeep, ROIAlign, ROIAlignMode, ROIPooling, ROIPoolingMode
from megengine_lite.errors import LiteIndexError


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("limit", [3, 50, 300])
def test_boxes_that_overlap_are_dropped(limit, threshold, isa):
    corners = np.random.default_rng(0).uniform(0, 50, (2, 200, 2, 2))
    boxes = np.concatenate([corners.min(2), corners.max(2)], axis=2).astype(np.float32)
    params = NMSKeep(iou_thresh=threshold, max_output=limit)
    actual, kernels = run_blocked("NMSKeepMGB", params, [boxes], isa, threads=2, plain={0})
    assert kernels == ["nms_keep_f32"]
    np.testing.assert_array_equal(actual, definition("NMSKeepMGB", params, [boxes]))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_nothing_is_kept_where_nothing_may_be(isa):
    params = NMSKeep(iou_thresh=0.5, max_output=0)
    count, kernels = run_blocked("NMSKeepMGB", params, [np.ones((2, 4, 4), np.float32)], isa, plain={0}, output=1)
    assert kernels == ["nms_keep_f32"]
    assert count.tolist() == [0, 0]


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("mode", list(ROIAlignMode), ids=lambda m: m.name)
@pytest.mark.parametrize("channels", [3, 35])
def test_regions_are_pooled(channels, mode, isa):
    rng = np.random.default_rng(0)
    corners = rng.uniform(-20, 80, (9, 2, 2))
    boxes = np.concatenate([rng.integers(0, 2, (9, 1)), corners.min(1), corners.max(1)], axis=1).astype(np.float32)
    inputs = [rng.standard_normal((2, channels, 12, 15)).astype(np.float32), boxes]
    params = ROIAlign(
        mode=mode, spatial_scale=0.25, offset=0.5, pooled_height=3, pooled_width=4, sample_height=2, sample_width=3
    )
    actual, kernels = run_blocked("ROIAlign", params, inputs, isa, threads=2, plain={1})
    assert "roi_align_blocked_f32" in kernels
    np.testing.assert_allclose(actual, definition("ROIAlign", params, inputs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("mode", list(ROIPoolingMode), ids=lambda m: m.name)
@pytest.mark.parametrize("channels", [3, 35])
def test_pixels_of_regions_are_pooled(channels, mode, isa):
    """Regions in and around the image, of halves of pixels, and such that are none."""
    rng = np.random.default_rng(0)
    corners = np.rint(rng.uniform(-20, 80, (20, 2, 2)) / 2) * 2
    boxes = np.concatenate([rng.integers(0, 2, (20, 1)), corners.min(1), corners.max(1)], axis=1).astype(np.float32)
    special = np.float32([np.nan, np.inf, -np.inf, 1e30, -1e30])
    boxes[np.arange(10), rng.integers(1, 5, 10)] = np.resize(special, 10)
    finite = rng.standard_normal((2, channels, 12, 15)).astype(np.float32)
    x = finite.copy()
    x[0, 0, 3, 4], x[0, 1, 5], x[1, 2, :, 7] = np.nan, np.inf, -np.inf
    params, size = ROIPooling(mode=mode, scale=0.25), np.int32([3, 4])
    for image, plain in (finite, {1}), (x, {0, 1}):
        inputs = [image, boxes, size]
        actual, kernels = run_blocked("ROIPooling", params, inputs, isa, {2}, 2, plain)
        assert "roi_pool_blocked_f32" in kernels
        with np.errstate(invalid="ignore"):
            expected = definition("ROIPooling", params, inputs, {2})
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    index, kernels = run_blocked("ROIPooling", params, inputs, isa, {2}, 1, {1}, output=1)
    assert None in kernels  # the place of the maximum is not asked for but in training
    assert index.dtype == np.int32


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_mode_that_the_kernel_does_not_name_runs_in_numpy(monkeypatch, isa):
    module = kernel_set(isa).module("region")
    assert set(module.MODES) == set(ROIAlignMode)
    monkeypatch.setattr(module, "MODES", (ROIAlignMode.AVERAGE,))
    inputs = [np.ones((1, 3, 4, 4), np.float32), np.float32([[0, 0, 0, 3, 3]])]
    for mode in ROIAlignMode:
        params = ROIAlign(mode=mode, pooled_height=1, pooled_width=1)
        actual, kernels = run_blocked("ROIAlign", params, inputs, isa, plain={1})
        assert ("roi_align_blocked_f32" in kernels) == (mode == ROIAlignMode.AVERAGE)
        np.testing.assert_array_equal(actual, 1)


@pytest.mark.parametrize("image", [2, -1, np.nan])
def test_region_of_no_image_is_an_error(image):
    inputs = [np.zeros((2, 3, 4, 4), np.float32), np.float32([[image, 0, 0, 3, 3]])]
    with pytest.raises(LiteIndexError, match="does not exist, there are 2"):
        run_blocked("ROIAlign", ROIAlign(pooled_height=1, pooled_width=1), inputs, INSTRUCTION_SETS[0], plain={1})
    with pytest.raises(LiteIndexError, match="does not exist, there are 2"):
        run_blocked("ROIPooling", ROIPooling(), [*inputs, np.int32([2, 2])], INSTRUCTION_SETS[0], {2}, plain={1})
