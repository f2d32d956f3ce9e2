"""Conversion between plain element types; ``quantized_elemwise`` has those of quantized types."""

from __future__ import annotations

from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref
from megengine_lite._core.ir.dtype import DType, DTypeCode
from megengine_lite._core.ir.graph import Node


def lower_typecvt(ctx: Lowering, node: Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    emit_convert(ctx, node, ctx.plain(x).ref, x.dtype.code, ctx.new_plain(y).ref, y.dtype.code, x.spec.size)


def emit_convert(ctx: Lowering, node: Node, x: Ref, source: DTypeCode, y: Ref, target: DTypeCode, n: int) -> None:
    """Elements of dense memory in another type."""
    kernel = ctx.kernels.module("typecvt")
    ctx.emit(
        "convert_elements",
        node,
        x=x,
        y=y,
        n=n,
        source=kernel.KINDS[source.name],
        target=kernel.KINDS[target.name],
        source_size=DType(source).itemsize,
        target_size=DType(target).itemsize,
        work=-(-n // kernel.BLOCK),
    )
