"""Correlation of two images over displacements."""

from __future__ import annotations

from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref
from megengine_lite._core.ir.graph import Node

# Of packed images at a time; and of one, above which numpy, which packs nothing, takes over.
PACKED_BYTES = 1 << 22
MOST_BYTES = 1 << 28


def lower_correlation(ctx: Lowering, node: Node) -> bool | None:
    p, y = node.params, node.outputs[0]
    n, channels, h, w = node.inputs[0].shape
    kernel = ctx.kernels.module("correlation")
    rows, floats = h + 2 * p.pad_size, kernel.row_floats(w, p.pad_size, p.stride1)
    size = 4 * rows * channels * floats
    if not y.spec.size or not 0 < size <= MOST_BYTES:
        return False
    images, out = [ctx.plain(x).ref for x in node.inputs], ctx.new_plain(y).ref
    together = max(1, min(n, PACKED_BYTES // size))
    packed = [ctx.temp(together * size + kernel.slack_bytes()) for _ in images]
    _, displacements, oh, ow = y.shape
    across = 2 * (p.max_displacement // p.stride2) + 1

    def pack(x: Ref, into: Ref, first: int, count: int) -> None:
        ctx.emit(
            "pack_correlation_f32", node, x=x + 4 * first * channels * h * w, y=into, channels=channels, h=h, w=w,
            pad=p.pad_size, stride=p.stride1, work=count * rows,
        )  # fmt: skip

    for first in range(0, n, together):
        count = min(together, n - first)
        for x, into in zip(images, packed, strict=True):
            pack(x, into, first, count)
        ctx.emit(
            "correlation_f32", node, a=packed[0], b=packed[1], y=out + 4 * first * displacements * oh * ow,
            channels=channels, rows=rows, length=floats // p.stride1, oh=oh, ow=ow, size=p.kernel_size,
            most=p.max_displacement, stride=p.stride1, step=p.stride2, across=across, multiply=p.is_multiply,
            work=count * oh * across, flops=2 * count * displacements * oh * ow * channels * p.kernel_size**2,
        )  # fmt: skip
    return None
