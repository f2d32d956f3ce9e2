"""Convolution with moved taps in float32: a kernel looks up what each filter sees, a product does the rest.

Its columns, all that the filter sees at the places of some pixels, are as large as the image times the taps. So they
are made for a part of an image, or for a few images, at a time.
"""

from __future__ import annotations

from megengine_lite._core.cpu.lower.conv_direct import mirrored_filter
from megengine_lite._core.cpu.lower.matmul import LEAST_PARTS, Batch, Operand, emit_matmul
from megengine_lite._core.cpu.lower.window import window_arguments
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref, blocked_strides
from megengine_lite._core.ir.graph import Node
from megengine_lite._core.ir.params import ConvolutionMode
from megengine_lite._core.operators.conv_shape import conv_shape

# Of columns that are made at a time, if these are enough for several threads.
COLUMN_BYTES = 1 << 21


def lower_deformable_conv(ctx: Lowering, node: Node) -> bool | None:
    x, weight, offset, mask = node.inputs
    y = node.outputs[0]
    turned = node.params.mode == ConvolutionMode.CONVOLUTION
    if (turned and weight.const is None) or not (x.spec.size and y.spec.size):
        return False
    shape = conv_shape(node, x.shape, weight.shape)
    taps, (oh, ow) = shape.window.size[0] * shape.window.size[1], shape.out
    rows, pixels, terms, outputs = shape.input_channels * taps, oh * ow, shape.icpg * taps, shape.output_channels
    source, out = ctx.blocked(x), ctx.new_plain(y)
    offsets, factors, filters = ctx.plain(offset).ref, ctx.plain(mask).ref, _filter_memory(ctx, node, turned)
    most = _most_columns(ctx, rows)
    together = max(1, min(shape.n, most // pixels))
    columns = ctx.temp(4 * together * rows * min(most, pixels))
    kernel = ctx.kernels.module("deform_columns")
    groups = mask.shape[1] // taps
    for image in range(0, shape.n, together):
        images = min(together, shape.n - image)
        for first in range(0, pixels, most):
            count = min(most, pixels - first)
            moved = 4 * image * groups * taps * pixels
            ctx.emit(
                "deform_columns_f32", node, x=source.ref + 4 * image * source.image, offset=offsets + 2 * moved,
                mask=factors + moved, y=columns, **window_arguments(shape.window), **blocked_strides("x", source),
                channels=source.c, groups=groups, h=source.h, w=source.w, oh=oh, ow=ow, first=first, count=count,
                work=images * groups * taps * -(-count // kernel.COLUMNS), scratch=kernel.scratch_bytes(),
                flops=9 * images * rows * count,
            )  # fmt: skip
            emit_matmul(
                ctx, node, shape.ocpg, count, terms, Operand(filters, terms, 1, 0, shape.ocpg * terms),
                Operand(columns, count, 1, rows * count, terms * count),
                Operand(out.ref + 4 * (image * outputs * pixels + first), pixels, 1, outputs * pixels,
                        shape.ocpg * pixels),
                batch=Batch(images * shape.groups, shape.groups), rows_are_samples=False,
            )  # fmt: skip
    return None


def _filter_memory(ctx: Lowering, node: Node, turned: bool) -> Ref:
    weight = node.inputs[1]
    if turned and weight.const is not None:
        return ctx.constant(mirrored_filter(ctx, weight.const))
    return ctx.plain(weight).ref


def _most_columns(ctx: Lowering, rows: int) -> int:
    """Columns at a time: whole panels of the product."""
    panel = int(ctx.kernels.module("gemm").PANEL)
    return panel * max(LEAST_PARTS, COLUMN_BYTES // (4 * rows * panel))
