"""Regions of interest: pooling, and suppression of those that overlap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref, Tensor, blocked_strides
from megengine_lite._core.ir.graph import Node
from megengine_lite._core.operators.base import fail


def lower_nms(ctx: Lowering, node: Node) -> None:
    boxes = node.inputs[0]
    batch, n, _ = boxes.shape
    ctx.emit(
        "nms_keep_f32",
        node,
        boxes=ctx.plain(boxes).ref,
        kept=ctx.new_plain(node.outputs[0]).ref,
        counts=ctx.new_plain(node.outputs[1]).ref,
        n=n,
        limit=node.params.max_output,
        threshold=node.params.iou_thresh,
        work=batch,
        scratch=ctx.kernels.module("region").nms_scratch_bytes(n),
    )


def lower_suppression(ctx: Lowering, node: Node) -> bool | None:
    boxes, scores, _, overlap, *least = node.inputs
    kept, counts = node.outputs
    if not kept.spec.size:
        return False
    n = boxes.shape[1]
    ctx.emit(
        "suppress_boxes",
        node,
        boxes=ctx.plain(boxes).ref,
        scores=ctx.plain(scores).ref,
        overlap=ctx.plain(overlap).ref,
        least=ctx.plain(least[0]).ref if least else None,
        kept=ctx.new_plain(kept).ref,
        counts=ctx.new_plain(counts).ref,
        classes=scores.shape[1],
        n=n,
        limit=kept.shape[2],
        by_center=node.params.by_center,
        work=scores.shape[0] * scores.shape[1],
        scratch=ctx.kernels.module("suppression").scratch_bytes(n),
    )
    return None


def _fault(ctx: Lowering, node: Node, images: int) -> Ref:
    return ctx.fault(str(fail(node, f"a region belongs to an image that does not exist, there are {images}")))


def _lower_regions(ctx: Lowering, node: Node, kernel: str, own: Callable[[Tensor], dict[str, Any]]) -> bool | None:
    """A kernel over regions of blocked images, with its own arguments for an output.

    The index of the maximum is of use in training only.
    """
    x, rois = node.inputs[:2]
    if ctx.is_read(node.outputs[1]) or node.params.mode not in ctx.kernels.module("region").MODES:
        return False
    source, out = ctx.blocked(x), ctx.new_blocked(node.outputs[0])
    ctx.emit(
        kernel, node, x=source.ref, rois=ctx.plain(rois).ref, y=out.ref, fault=_fault(ctx, node, source.n),
        mode=node.params.mode, images=source.n, blocks=source.blocks, h=source.h, w=source.w,
        **blocked_strides("x", source), oh=out.h, ow=out.w, **blocked_strides("y", out), work=out.n * out.blocks,
        **own(out),
    )  # fmt: skip
    return None


def lower_roi_align(ctx: Lowering, node: Node) -> bool | None:
    p, scratch_bytes = node.params, ctx.kernels.module("region").scratch_bytes

    def own(out: Tensor) -> dict[str, Any]:
        return {
            "sample_h": p.sample_height,
            "sample_w": p.sample_width,
            "scale": p.spatial_scale,
            "offset": p.offset,
            "scratch": scratch_bytes(out.h, out.w, p.sample_height, p.sample_width),
        }

    return _lower_regions(ctx, node, "roi_align_blocked_f32", own)


def lower_roi_pooling(ctx: Lowering, node: Node) -> bool | None:
    scratch_bytes = ctx.kernels.module("region").pool_scratch_bytes

    def own(out: Tensor) -> dict[str, Any]:
        return {"scale": node.params.scale, "scratch": scratch_bytes(out.h, out.w)}

    return _lower_regions(ctx, node, "roi_pool_blocked_f32", own)
