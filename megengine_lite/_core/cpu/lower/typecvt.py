"""Conversion between plain element types; ``quantized`` has those from and to quantized types."""

from __future__ import annotations

from megengine_lite._core.cpu.lowering import Lowering, Ref
from megengine_lite._core.ir.dtype import DTypeCode
from megengine_lite._core.ir.graph import Node

BLOCK = 512  # elements of a work item of the kernel

_C = DTypeCode
KINDS = {
    _C.FLOAT32: 0,
    _C.FLOAT16: 1,
    _C.BFLOAT16: 2,
    _C.INT32: 3,
    _C.INT16: 4,
    _C.UINT16: 5,
    _C.INT8: 6,
    _C.UINT8: 7,
    _C.BYTE: 7,
    _C.BOOL: 8,
}


def lower_typecvt(ctx: Lowering, node: Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    emit_convert(ctx, node, ctx.plain(x).ref, x.dtype.code, ctx.new_plain(y).ref, y.dtype.code, x.spec.size)


def emit_convert(ctx: Lowering, node: Node, x: Ref, source: DTypeCode, y: Ref, target: DTypeCode, n: int) -> None:
    """Elements of dense memory in another type."""
    sizes = {0: 4, 3: 4, 6: 1, 7: 1, 8: 1}
    ctx.emit(
        "convert_elements",
        node,
        x=x,
        y=y,
        n=n,
        source=KINDS[source],
        target=KINDS[target],
        source_size=sizes.get(KINDS[source], 2),
        target_size=sizes.get(KINDS[target], 2),
        work=-(-n // BLOCK),
    )
