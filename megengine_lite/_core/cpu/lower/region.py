"""Regions of interest: pooling, and suppression of those that overlap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref, Tensor, blocked_strides
from megengine_lite._core.ir.dtype import INT64
from megengine_lite._core.ir.graph import Node
from megengine_lite._core.operators.base import fail
from megengine_lite._core.operators.onnx_sampling import MOST_SAMPLES


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


def lower_onnx_roi_align(ctx: Lowering, node: Node) -> bool | None:
    x, rois, numbers = node.inputs
    p, y = node.params, node.outputs[0]
    if not y.spec.size:
        return False
    source, out = ctx.blocked(x), ctx.new_blocked(y)
    no_region = f"a region is not finite, or takes more than {MOST_SAMPLES} samples along one side of a bin"
    ctx.emit(
        "align_regions_f32", node, x=source.ref, rois=ctx.plain(rois).ref, numbers=ctx.plain(numbers).ref, y=out.ref,
        no_image=_fault(ctx, node, source.n), no_region=ctx.fault(str(fail(node, no_region))),
        **blocked_strides("x", source), **blocked_strides("y", out), wide=numbers.dtype == INT64, largest=p.takes_max,
        half_pixel=p.half_pixel, ratio=p.sampling_ratio, most=MOST_SAMPLES, images=source.n, blocks=source.blocks,
        h=source.h, w=source.w, oh=out.h, ow=out.w, scale=p.scale, work=out.n * out.blocks,
        scratch=ctx.kernels.module("align_regions").scratch_bytes(out.h, out.w, p.sampling_ratio or MOST_SAMPLES),
    )  # fmt: skip
    return None


def lower_roi_pooling(ctx: Lowering, node: Node) -> bool | None:
    scratch_bytes = ctx.kernels.module("region").pool_scratch_bytes

    def own(out: Tensor) -> dict[str, Any]:
        return {"scale": node.params.scale, "scratch": scratch_bytes(out.h, out.w)}

    return _lower_regions(ctx, node, "roi_pool_blocked_f32", own)


def lower_deformable_pooling(ctx: Lowering, node: Node) -> bool | None:
    x, rois, trans = node.inputs
    p, (y, counts) = node.params, node.outputs
    if not (x.spec.size and y.spec.size):
        return False
    source, out = ctx.blocked(x), ctx.new_blocked(y)
    counted = ctx.new_blocked(counts) if ctx.is_read(counts) else None
    ctx.emit(
        "deform_pool_f32", node, x=source.ref, rois=ctx.plain(rois).ref,
        trans=None if p.no_trans else ctx.plain(trans).ref, y=out.ref, counts=counted.ref if counted else None,
        fault=_fault(ctx, node, source.n), **blocked_strides("x", source), **blocked_strides("y", out),
        **blocked_strides("counts", counted), images=source.n, channels=source.c, h=source.h, w=source.w, oh=out.h,
        ow=out.w, parts=p.part_size, samples=p.sample_per_part, scale=p.spatial_scale, spread=p.trans_std,
        work=out.n * out.h, scratch=ctx.kernels.module("deform_pool").scratch_bytes(p.sample_per_part),
    )  # fmt: skip
    return None
