"""Sampling of images at any positions: Remap, WarpPerspective, WarpAffine; and positions by a matrix."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from megengine_lite._core.cpu.lower.copying import emit_fill
from megengine_lite._core.cpu.lower.requantize import storage_kind
from megengine_lite._core.cpu.lower.resize import lower_resizing_warp
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref, Tensor
from megengine_lite._core.ir.dtype import INT32, DType, DTypeCode
from megengine_lite._core.ir.graph import Constant, Node, Var
from megengine_lite._core.ir.image_layouts import (
    Format,
    block_size,
    dense_strides,
    nchw_shape,
    stored_axes,
)
from megengine_lite._core.ir.params import BorderMode, InterpolationMode
from megengine_lite._core.operators.base import fail
from megengine_lite._core.operators.image_helpers import image_format, outside_value
from megengine_lite._core.operators.onnx_sampling import AffineGrid
from megengine_lite._core.operators.warp import FINE_WEIGHTS, Warp, WarpAffine, WarpPerspective
from megengine_lite._records import field, record
from megengine_lite.kernels.common.shared_constants import SAMPLE_PIXELS, Positions

_LARGEST_EXTENT = 1 << 24  # numbers of pixels are exact in float32
_LARGEST_PLANE = 1 << 31  # places in a plane are int32


@record(frozen=True, slots=True)
class _Layout:
    """Where the channels of images lie: planes of lanes, and the strides of both in elements."""

    planes: int
    lanes: int
    strides: dict[str, int]

    def arguments(self, prefix: str) -> dict[str, int]:
        return {f"{prefix}_{name}": stride for name, stride in self.strides.items()}


def _stored(fmt: Format, shape: tuple[int, ...]) -> _Layout:
    """The layout of a dense tensor of a format."""
    axes, strides = stored_axes(fmt), dense_strides(shape)
    image, plane, *inner, row, pixel = (strides[axis] for axis in axes)
    c, common = nchw_shape(fmt, shape)[1], {"pixel": pixel, "row": row, "image": image}
    if inner:
        lanes = shape[axes[2]]
        return _Layout(c // lanes, lanes, common | {"lane": inner[0], "plane": plane})
    if fmt == Format.NHWC:
        return _Layout(1, c, common | {"lane": 1, "plane": 0})
    return _Layout(c, 1, common | {"lane": 0, "plane": plane})


def _one_by_one(layout: _Layout, channels: int) -> _Layout | None:
    """The same with all channels as lanes; None if they are not at one distance."""
    if layout.planes > 1 and layout.lanes > 1:
        return None
    lane = layout.strides["lane" if layout.planes == 1 else "plane"]
    return _Layout(1, channels, layout.strides | {"lane": lane, "plane": 0})


def _blocked(t: Tensor) -> _Layout:
    strides = {"lane": 1, "pixel": t.width, "row": t.row, "plane": t.plane, "image": t.image}
    return _Layout(t.blocks, t.width, strides)


@record(frozen=True, slots=True)
class _Job:
    """What is sampled: images of a format into those of another, by positions."""

    node: Node
    source: Format
    target: Format
    positions: Positions
    where: Ref
    interpolation: InterpolationMode
    border: BorderMode
    value: float
    is_finite: bool = False
    indexes: Var | None = None
    data: list[Var] = field(default_factory=list)

    @property
    def taps(self) -> int:
        if self.interpolation in FINE_WEIGHTS:
            return int(FINE_WEIGHTS[self.interpolation].shape[1])
        return 1 if self.interpolation == InterpolationMode.NEAREST else 2


def lower_remap(ctx: Lowering, node: Node) -> bool | None:
    x, where = node.inputs
    p, fmt = node.params, image_format(node)
    value = outside_value(p.scalar, x.dtype)
    return _lower(
        ctx, _Job(node, fmt, fmt, Positions.MAP, ctx.plain(where).ref, p.imode, p.border_type, value, data=[x])
    )


def lower_warp_perspective(ctx: Lowering, node: Node) -> bool | None:
    specs = [v.spec for v in node.inputs]
    matrix = WarpPerspective.matrix_input(specs)
    warp = WarpPerspective().transform(node, specs)
    if node.params.format == Format.NCHW and node.inputs[0].dtype.is_float and lower_resizing_warp(ctx, node) is None:
        return None
    positions = Positions.FINE_PERSPECTIVE if warp.fine else Positions.PERSPECTIVE
    indexes = node.inputs[-2] if matrix == len(specs) - 3 else None
    return _lower_warp(ctx, node, warp, positions, matrix, indexes)


def lower_warp_affine(ctx: Lowering, node: Node) -> bool | None:
    warp = WarpAffine.transform(node, node.inputs[0].spec)
    return _lower_warp(ctx, node, warp, Positions.FINE_AFFINE if warp.fine else Positions.AFFINE, 1, None)


def _lower_warp(
    ctx: Lowering, node: Node, warp: Warp, positions: Positions, matrix: int, indexes: Var | None
) -> bool | None:
    return _lower(
        ctx,
        _Job(
            node,
            warp.input_format,
            warp.output_format,
            positions,
            ctx.plain(node.inputs[matrix]).ref,
            warp.interpolation,
            warp.border,
            warp.value,
            is_finite=not warp.fine and warp.border == BorderMode.CONSTANT,
            indexes=indexes,
            data=node.inputs[:matrix],
        ),
    )


def _lower(ctx: Lowering, job: _Job) -> bool | None:
    x, y = job.data[0], job.node.outputs[0]
    n, c, h, w = nchw_shape(job.source, x.shape)
    layouts = (_stored(job.source, x.shape), _stored(job.target, y.shape))
    source, target = layouts if job.source == job.target else (_one_by_one(t, c) for t in layouts)
    if source is None or target is None or max(h, w) >= _LARGEST_EXTENT or min(x.spec.size, y.spec.size) == 0:
        return False
    if job.indexes is not None and job.indexes.dtype != INT32:
        return False
    same = job.source == job.target == Format.NCHW and len(job.data) == 1 and x.dtype.is_float
    if same and (ctx.is_blocked(x) or c >= ctx.width):
        images = ctx.blocked(x)
        source = _blocked(images)
        if source.strides["row"] * (h + 1) >= _LARGEST_PLANE:
            return False
        out = ctx.new_blocked(y)
        _emit(ctx, job, images.ref, n, source, out.ref, _blocked(out))
        return None
    if source.strides["row"] * (h - 1) + source.strides["pixel"] * w >= _LARGEST_PLANE:
        return False
    refs = [ctx.plain(v).ref for v in job.data]
    out = ctx.new_plain(y)
    if block_size(job.target) > 1 and c % block_size(job.target):
        emit_fill(ctx, job.node, out, np.zeros(1))
    if len(refs) == 1:
        joined = refs[0]
    else:
        nbytes = x.spec.nbytes
        joined = ctx.temp(nbytes * len(refs))
        for k, ref in enumerate(refs):
            ctx.copy_bytes(job.node, ref, joined + k * nbytes, nbytes)
    _emit(ctx, job, joined, n * len(refs), source, out.ref, target)
    return None


def _emit(ctx: Lowering, job: _Job, x: Ref, images: int, source: _Layout, y: Ref, target: _Layout) -> None:
    node, data, out = job.node, job.data[0], job.node.outputs[0]
    _, c, h, w = nchw_shape(job.source, data.shape)
    count, _, oh, ow = nchw_shape(job.target, out.shape)
    fault = indexes = None
    if job.indexes is not None:
        indexes = ctx.plain(job.indexes).ref
        fault = ctx.fault(str(fail(node, f"an image index is out of range, there are {images} images")))
    kernel, module, own = "sample_f32", "sampling", {}
    if not data.dtype.is_float:
        kernel, module = "sample_int8", "sampling_int8"
        own = _byte_arguments(data.dtype, out.dtype) | {"x_nbytes": data.spec.nbytes * len(job.data)}
    ctx.emit(
        kernel,
        node,
        x=x,
        y=y,
        where=job.where,
        images=indexes,
        weights=_fine_weights(ctx, job),
        fault=fault,
        positions=job.positions,
        border=job.border,
        taps=job.taps,
        is_finite=job.is_finite,
        image_count=images,
        h=h,
        w=w,
        oh=oh,
        ow=ow,
        planes=source.planes,
        lanes=source.lanes,
        channels=c,
        value=job.value,
        **source.arguments("x"),
        **target.arguments("y"),
        **own,
        work=count * oh * -(-ow // SAMPLE_PIXELS),
        scratch=ctx.kernels.module(module).scratch_bytes(),
    )


def _fine_weights(ctx: Lowering, job: _Job) -> Ref | None:
    weights = FINE_WEIGHTS.get(job.interpolation)
    if weights is None:
        return None
    return ctx.constant(Constant(np.ascontiguousarray(weights), ("weights of neighbours", job.interpolation)))


def _byte_arguments(x: DType, y: DType) -> dict[str, Any]:
    """What depends on the types: stored numbers are sampled; other types of the result are those of WarpPerspective."""
    shift, scale, low, high = 0.0, 1.0, 0, 0
    if y.is_quantized:
        low, high = y.quantized_range
    elif not y.is_float:
        low, high = np.iinfo(y.storage).min, np.iinfo(y.storage).max
    if x.is_quantized and y.is_float:
        shift, scale = -x.zero_point, x.scale
    elif x.storage == np.uint8 and y.code is DTypeCode.QUANTIZED_S8:
        shift = -(x.zero_point if x.is_quantized else 128)
    return {
        "x_kind": storage_kind(x), "y_kind": storage_kind(y), "shift": float(shift),
        "scale": float(scale), "low": float(low), "high": float(high),
    }  # fmt: skip


# ---- positions -------------------------------------------------------------------------------------------------------


def lower_affine_grid(ctx: Lowering, node: Node) -> bool | None:
    x, y = node.inputs[0], node.outputs[0]
    shape, most = y.shape[1:-1], ctx.kernels.module("affine_points").AXES
    if not (1 <= len(shape) <= most and y.spec.size):
        return False
    places = [np.ascontiguousarray(a, np.float32) for a in AffineGrid.axes(node, shape)]
    refs: list[Ref | None] = [ctx.constant(Constant(a, ("places of pixels", a.tobytes()))) for a in places]
    missing = most - len(shape)
    ctx.emit(
        "affine_points_f32",
        node,
        matrices=ctx.plain(x).ref,
        y=ctx.new_plain(y).ref,
        **{f"at{k}": r for k, r in enumerate(refs + [None] * missing)},
        **{f"extent{k}": n for k, n in enumerate((*shape, *[1] * missing))},
        axes=len(shape),
        work=y.shape[0] * math.prod(shape[:-1]),
    )
    return None
