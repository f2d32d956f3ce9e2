"""Windows of images as tensors."""

from __future__ import annotations

from megengine_lite._core.cpu.lower.window import window_arguments
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.ir.graph import Node
from megengine_lite._core.operators.images2neibs import window_of


def lower_images2neibs(ctx: Lowering, node: Node) -> bool | None:
    x, y = node.inputs[0], node.outputs[0]
    n, c, h, w = x.shape
    oh, ow = y.shape[2:4]
    if y.spec.size == 0:
        return False
    ctx.emit(
        "copy_windows",
        node,
        x=ctx.plain(x).ref,
        y=ctx.new_plain(y).ref,
        **window_arguments(window_of(node.params)),
        planes=n * c,
        h=h,
        w=w,
        oh=oh,
        ow=ow,
        item=x.dtype.itemsize,
        outside=x.dtype.zero_point,
        work=n * c * oh,
    )
    return None
