"""Operators on images that are written as ONNX give what ours give."""

from __future__ import annotations

import numpy as np
import pytest
from support.onnx_exports import ARITHMETIC, FUNCTION, floats, one_node, operators_of, rng

from megengine_lite._core.ir import params
from megengine_lite._core.ir.params import (
    BorderMode,
    ConvolutionFormat,
    ConvolutionSparse,
    InterpolationMode,
    PoolingMode,
    ROIAlignMode,
)

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("sparse", ["DENSE", "GROUP"])
def test_convolution_keeps_strides_padding_dilation_and_groups(sparse):
    p = params.Convolution(sparse=ConvolutionSparse[sparse], pad_h=1, pad_w=2, stride_h=2, dilate_w=2)
    w = floats(2, 3, 2, 3, 3) if sparse == "GROUP" else floats(6, 4, 3, 3)
    model = one_node("Convolution", p, floats(1, 4, 9, 10), w, constants=[1], tolerance=ARITHMETIC)
    assert operators_of(model) == ["Conv"]


@pytest.mark.parametrize("mode", list(PoolingMode))
def test_pooling_counts_padding_as_we_do(mode):
    p = params.Pooling(mode=mode, pad_h=1, pad_w=1, window_h=3, window_w=3)
    one_node("Pooling", p, floats(2, 3, 8, 9), tolerance=ARITHMETIC)


@pytest.mark.parametrize("mode", [PoolingMode.MAX, PoolingMode.AVERAGE])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("size", [(3, 2), (1, 1)])
@pytest.mark.parametrize("static", [True, False])
def test_adaptive_pooling_has_one_window_for_all_outputs(mode, dtype, size, static):
    p = params.AdaptivePooling(mode=mode)
    x = (floats(1, 2, 7, 11) * 40 + 100).astype(dtype)
    one_node("AdaptivePooling", p, x, np.int32(size), constants=[1], tolerance=ARITHMETIC, static=static)


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("size", [(8, 8), (7, 8), (7, 7)])
def test_transposed_convolution_gives_the_size_that_is_asked_for(static, size):
    p = params.Convolution(stride_h=2, stride_w=2, pad_h=1, pad_w=1)
    like = floats(1, 3, *size)
    values = floats(4, 3, 3, 3), floats(1, 4, 4, 4), like
    one_node("ConvolutionBackwardData", p, *values, constants=[0], tolerance=ARITHMETIC, static=static)


@pytest.mark.parametrize("mode", ["NEAREST", "LINEAR", "CUBIC", "AREA", "LANCZOS4"])
@pytest.mark.parametrize("size", [(5, 4), (13, 21)])
def test_resize_has_our_rules_in_each_mode(mode, size):
    p = params.Resize(imode=InterpolationMode[mode], format=ConvolutionFormat.NHWC)
    x, target = floats(1, 9, 8, 3), np.array(size, np.int32)
    model = one_node("Resize", p, x, target, constants=[1], tolerance=FUNCTION)
    assert ("Resize" in operators_of(model)) == (mode not in ("AREA", "LANCZOS4"))


def test_resized_bytes_are_rounded_or_cut_as_in_the_original():
    x = rng().integers(0, 256, (1, 9, 8, 3)).astype(np.uint8)
    for mode in (InterpolationMode.NEAREST, InterpolationMode.CUBIC):
        p = params.Resize(imode=mode, format=ConvolutionFormat.NHWC)
        one_node("Resize", p, x, np.array([18, 16], np.int32), constants=[1])


@pytest.mark.parametrize("border", ["REPLICATE", "REFLECT", "REFLECT_101", "WRAP", "CONSTANT"])
@pytest.mark.parametrize("mode", ["LINEAR", "NEAREST"])
def test_remap_takes_pixels_outside_by_each_border_rule(border, mode):
    p = params.Remap(
        imode=InterpolationMode[mode], border_type=BorderMode[border], format=ConvolutionFormat.NCHW, scalar=1.5
    )
    positions = rng().uniform(-9, 14, (1, 6, 7, 2)).astype(np.float32)
    one_node("Remap", p, floats(1, 2, 5, 6), positions, tolerance=FUNCTION)


@pytest.mark.parametrize("border", ["REPLICATE", "REFLECT", "REFLECT_101", "WRAP", "CONSTANT"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_warps_take_pixels_outside_by_each_border_rule(border, layout):
    fmt = ConvolutionFormat[layout]
    x = floats(1, 2, 9, 8) if layout == "NCHW" else floats(1, 9, 8, 2)
    matrix = np.array([[[1.1, 0.2, -2], [-0.1, 0.9, 1], [0.01, 0.02, 1]]], np.float32)
    size = np.array([7, 10], np.int32)
    p = params.WarpPerspective(bmode=BorderMode[border], format=fmt, border_val=0.5)
    one_node("WarpPerspective", p, x, matrix, size, constants=[2], tolerance=FUNCTION)
    p = params.WarpAffine(border_mode=BorderMode[border], format=fmt, border_val=0.5)
    one_node("WarpAffine", p, x, matrix[:, :2].copy(), size, constants=[2], tolerance=FUNCTION)


@pytest.mark.parametrize("border", ["REPLICATE", "REFLECT", "REFLECT_101", "WRAP", "CONSTANT"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("step", [0.25, 0.5, 0.7, 1.1])
@pytest.mark.parametrize("op", ["Remap", "WarpAffine", "WarpPerspective"])
def test_bytes_between_pixels_are_rounded_as_ours(op, step, layout, border):
    """At regular steps many lie in the middle between two numbers, and must be seen to lie there."""
    fmt, border = ConvolutionFormat[layout], BorderMode[border]
    x = rng().integers(0, 256, (1, 3, 23, 40) if layout == "NCHW" else (1, 23, 40, 3)).astype(np.uint8)
    matrix = np.array([[[step, 0, -1.5], [0, step, 0.5], [0, 0, 1]]], np.float32)
    size = np.array([30, 29], np.int32)
    if op == "Remap":
        columns, rows = (np.arange(n, dtype=np.float32) * np.float32(step) - 1 for n in size[::-1])
        positions = np.stack(np.meshgrid(columns, rows), -1)[None]
        p = params.Remap(imode=InterpolationMode.LINEAR, border_type=border, format=fmt, scalar=7)
        one_node("Remap", p, x, positions)
    elif op == "WarpAffine":
        one_node("WarpAffine", params.WarpAffine(border_mode=border, format=fmt, border_val=7), x, matrix[:, :2].copy(),
                 size, constants=[2])  # fmt: skip
    else:
        one_node("WarpPerspective", params.WarpPerspective(bmode=border, format=fmt, border_val=7), x, matrix, size,
                 constants=[2])  # fmt: skip


@pytest.mark.parametrize("mode", list(ROIAlignMode))
def test_regions_that_reach_over_the_edge_see_zeros_there(mode):
    rois = np.array([[0.5, -3, -2, 5, 4], [1, 2, 3, 9.5, 8.25], [1, 4, 4, 3, 2], [0, 0.2, 0.1, 0.6, 0.7]], np.float32)
    p = params.ROIAlign(mode=mode, offset=0.5, pooled_height=2, pooled_width=3, sample_height=2, sample_width=1)
    one_node("ROIAlign", p, floats(2, 3, 8, 9), rois, outputs=2, taken=1, tolerance=FUNCTION)


def test_alpha_of_local_response_normalization_is_that_of_one_channel():
    p = params.LRN(n=3, k=1.5, alpha=0.3, beta=0.6)
    model = one_node("LRN", p, floats(2, 7, 4, 5), tolerance=FUNCTION)
    (node,) = model.graph.node
    assert next(a.f for a in node.attribute if a.name == "alpha") == pytest.approx(0.9)


def test_means_of_regions_leave_out_what_lies_outside():
    rois = np.array([[0, 0.4, 1.5, 6, 5], [1, -3, -2, 3, 2], [1, 20, 20, 30, 30]], np.float32)
    p = params.ROIPooling(mode=params.ROIPoolingMode.AVERAGE, scale=0.8)
    size = np.array([2, 3], np.int32)
    one_node("ROIPooling", p, floats(2, 3, 7, 8), rois, size, constants=[2], outputs=2, taken=1, tolerance=ARITHMETIC)
