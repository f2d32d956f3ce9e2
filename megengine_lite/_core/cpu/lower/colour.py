"""Colour conversion of images."""

from __future__ import annotations

from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.ir.graph import Node
from megengine_lite._core.ir.params import CvtColorMode
from megengine_lite._core.operators.colour import PLANAR

CHUNK = 4096  # pixels of a work item

_M = CvtColorMode
_KINDS = {
    # mode: name of the kind in kernels/image/colour.pyx, channel of red or of what comes first
    _M.RGB2GRAY: ("GRAY", 0),
    _M.BGR2GRAY: ("GRAY", 2),
    _M.RGBA2GRAY: ("GRAY", 0),
    _M.GRAY2RGB: ("PICK", 0),
    _M.RGB2BGR: ("PICK", 2),
    _M.BGR2RGB: ("PICK", 2),
    _M.RGBA2RGB: ("PICK", 0),
    _M.RGBA2BGR: ("PICK", 2),
    _M.RGB2YUV: ("TO_YUV", 0),
    _M.YUV2RGB: ("FROM_YUV", 0),
}


def lower_cvt_color(ctx: Lowering, node: Node) -> bool | None:
    if node.outputs[0].spec.size == 0:
        return False
    if node.params.mode in PLANAR:
        _lower_planes(ctx, node)
    else:
        _lower_pixels(ctx, node)
    return None


def _lower_pixels(ctx: Lowering, node: Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    n, h, w, _ = y.shape
    kind, first = _KINDS[node.params.mode]
    pixels = n * h * w
    ctx.emit(
        "convert_colours", node, x=ctx.plain(x).ref, y=ctx.new_plain(y).ref, pixels=pixels, chunk=CHUNK,
        kind=getattr(ctx.kernels.module("colour"), kind), channels=x.shape[3], first=first, is_float=x.dtype.is_float,
        work=-(-pixels // CHUNK),
    )  # fmt: skip


def _lower_planes(ctx: Lowering, node: Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    n, h, w, _ = y.shape
    layout, bt601, order = PLANAR[node.params.mode]
    together = layout in ("NV21", "NV12")  # the samples of U and V take turns
    places = [h * w, h * w + (1 if together else h // 2 * (w // 2))]
    u, v = places if layout in ("NV12", "YU12") else places[::-1]
    ctx.emit(
        "planes_to_colours", node, x=ctx.plain(x).ref, y=ctx.new_plain(y).ref, h=h, w=w, u=u, v=v,
        step=2 if together else 1, row=w if together else w // 2, swapped=order == "BGR",
        bt601=bt601, gray=not order, work=n * h,
    )  # fmt: skip
