"""Sampling of images: grids, regions, deformed convolutions, center crops."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import Value, check_kind, check_same_kind
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.formats.onnx.operators.attention import to_shape
from megengine_lite._core.formats.onnx.operators.convolution import (
    filter_size,
    grouped,
    window_of,
    window_parameters,
    with_bias,
    with_symmetric_padding,
)
from megengine_lite._core.formats.onnx.operators.images import one_of
from megengine_lite._core.formats.onnx.operators.table import Call, NotConverted, converts
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.onnx_image_params import Corners, GridSampling, NamedAxes, Regions
from megengine_lite._core.ir.params import ConvolutionFormat, ConvolutionSparse, ElemwiseMode, InterpolationMode
from megengine_lite.errors import ModelFormatError

_M = ElemwiseMode
_MODES = {"bilinear": "linear", "bicubic": "cubic", "nearest": "nearest", "linear": "linear", "cubic": "cubic"}
_PADDINGS = ("zeros", "border", "reflection")


@converts("GridSample", since=16)
def _grid_sample(call: Call) -> Value:
    b, x, grid = call.builder, call.input(0), call.input(1)
    check_kind(grid.kind, "f")
    if x.rank < 3 or grid.rank != x.rank:
        raise NotConverted(f"images of {x.rank} and a grid of {grid.rank} dimensions do not fit together")
    default = "bilinear" if call.version < 20 else "linear"
    mode = _MODES[one_of(call, "mode", default, tuple(_MODES))]
    p = GridSampling(mode, one_of(call, "padding_mode", "zeros", _PADDINGS), bool(call.integer("align_corners", 0)))
    if x.rank == 4 and x.is_float32 and grid.is_float32 and mode != "cubic":
        return _by_remap(b, x, grid, p)
    check_kind(x.kind, "iufb" if mode == "nearest" else "f")
    return b.node("GridSample", p, [b.exact(x), b.exact(grid)], x.kind, x.rank)


def _by_remap(b: GraphBuilder, x: Value, grid: Value, p: GridSampling) -> Value:
    """Sampling by the kernels, which take positions in pixels."""
    width_height = b.joined([b.dimension(x, 3), b.dimension(x, 2)], 0)
    size = b.retyped(width_height, ElementType.FLOAT)
    one, two = b.constant(np.float32(1)), b.constant(np.float32(2))
    points = to_shape(b, grid, 0, 0, 0, 2)  # an error if it has another number of coordinates
    moved = b.elemwise(_M.ADD, points, one)
    if p.align_corners:
        places = b.elemwise(_M.MUL, b.elemwise(_M.TRUE_DIV, moved, two), b.elemwise(_M.SUB, size, one))
    else:
        places = b.elemwise(_M.TRUE_DIV, b.elemwise(_M.SUB, b.elemwise(_M.MUL, moved, size), one), two)
    kind = InterpolationMode.NEAREST if p.mode == "nearest" else InterpolationMode.LINEAR
    parameters = params.Remap(imode=kind, border_type=p.border, format=ConvolutionFormat.NCHW, scalar=0.0)
    return b.node("Remap", parameters, [x.var, b.exact(places)], x.kind, 4)


@converts("AffineGrid", since=20)
def _affine_grid(call: Call) -> Value:
    b, theta, size = call.builder, call.input(0), call.input(1)
    check_kind(theta.kind, "f")
    rank = b.length_of(size)
    if rank not in (4, 5):
        raise NotConverted("it needs a size of 4 or 5 numbers")
    parameters = Corners(bool(call.integer("align_corners", 0)))
    return b.node("AffineGrid", parameters, [b.exact(theta), size.var], theta.kind, rank)


@converts("RoiAlign", since=10)
def _roi_align(call: Call) -> Value:
    b, x, regions, images = call.builder, call.input(0), call.input(1), call.input(2)
    check_same_kind([x, regions])
    check_kind(x.kind, "f")
    half_pixel = False
    if call.version >= 16:
        known = ("half_pixel", "output_half_pixel")
        half_pixel = one_of(call, "coordinate_transformation_mode", "half_pixel", known) == "half_pixel"
    ratio = call.integer("sampling_ratio", 0)
    if ratio < 0:
        raise NotConverted(f"sampling_ratio is {ratio}, and must be 0 or more")
    parameters = Regions(
        (call.positive("output_height", 1), call.positive("output_width", 1)),
        one_of(call, "mode", "avg", ("avg", "max")) == "max",
        half_pixel,
        ratio,
        call.real("spatial_scale", 1.0),
    )
    return b.node("OnnxRoiAlign", parameters, [b.exact(x), b.exact(regions), images.var], x.kind, 4)


@converts("MaxRoiPool")
def _max_roi_pool(call: Call) -> Value:
    b, x, regions = call.builder, call.input(0), call.input(1)
    check_same_kind([x, regions])
    bins = call.integers("pooled_shape") or []
    if x.rank != 4 or regions.rank != 2 or len(bins) != 2 or min(bins) < 1:
        raise ModelFormatError(f"bins {bins[:20]} of data with {x.rank} and regions with {regions.rank} dimensions")
    check_kind(x.kind, "f")
    parameters = params.ROIPooling(mode=params.ROIPoolingMode.MAX, scale=call.real("spatial_scale", 1.0))
    inputs = [b.retyped(v, ElementType.FLOAT).var for v in (x, regions)]
    made, _ = b.nodes_of("ROIPooling", parameters, [*inputs, b.integers(bins)], 2)
    return b.retyped(Value(made, ElementType.FLOAT, 4, FLOAT32), x.kind)


@converts("DeformConv", since=19)
def _deformed_convolution(call: Call) -> Value:
    b, x, weights, offset = call.builder, call.input(0), call.input(1), call.input(2)
    bias, mask = call.optional(3), call.optional(4)
    check_same_kind([v for v in (x, weights, offset, bias, mask) if v is not None])
    if x.kind in (ElementType.FLOAT16, ElementType.BFLOAT16):
        call.inputs = [None if v is None else b.retyped(v, ElementType.FLOAT) for v in call.inputs]
        return b.retyped(_deformed_convolution(call), x.kind)
    if x.rank != 4 or not x.is_float32:
        hint = "; narrow_double computes them in FLOAT" if x.kind == ElementType.DOUBLE else ""
        raise NotConverted(
            f"data of {x.rank} dimensions in {x.kind.name} are not computed here, images in FLOAT are{hint}"
        )
    x, window = with_symmetric_padding(b, x, window_of(call, filter_size(call, weights), 2))
    groups, taps = call.positive("group", 1), window.size[0] * window.size[1]
    count = b.constant(np.array([call.positive("offset_group", 1) * taps]))
    if mask is None:
        shape = b.joined([b.dimension(offset, 0), count, b.dimension(offset, 2), b.dimension(offset, 3)], 0)
        mask = b.broadcast(b.constant(np.float32(1)), shape.var, 4)
    sparse = ConvolutionSparse.GROUP if groups > 1 else ConvolutionSparse.DENSE
    if groups > 1:
        weights = grouped(b, weights, groups)
    parameters = params.Convolution(sparse=sparse, **window_parameters(window))
    inputs = [b.exact(v) for v in (x, weights, offset, mask)]
    return with_bias(b, b.node("DeformableConvForward", parameters, inputs, x.kind, 4), bias)


@converts("CenterCropPad", since=18)
def _center_crop_pad(call: Call) -> Value:
    b, x, sizes = call.builder, call.input(0), call.input(1)
    named = call.integers("axes")
    axes = list(range(x.rank)) if named is None else call.axes_in_order(named, x.rank)
    return b.moved("CenterCropPad", NamedAxes(tuple(axes)), x, sizes.var)
