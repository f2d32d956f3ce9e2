"""Sorting, suppression of boxes and pooling of regions: the last operators of detectors."""

from __future__ import annotations

from megengine_lite._core.cpu.lowering import Lowering, Ref, blocked_strides
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.graph import Node, Var
from megengine_lite._core.ir.params import ArgsortOrder, TopKMode
from megengine_lite._core.operators.base import fail


def _output(ctx: Lowering, v: Var) -> Ref | None:
    return ctx.new_plain(v).ref if ctx.is_read(v) else None


def lower_sort(ctx: Lowering, node: Node) -> bool | None:
    x = node.inputs[0]
    rows, n = x.shape
    if node.op == "Argsort":
        count, first, descending = n, 0, node.params.order == ArgsortOrder.DESCENDING
    else:
        value = node.inputs[1].spec.value
        assert value is not None  # the shape depends on it
        k = int(value.reshape(-1)[0])
        count, first, descending = min(abs(k), n), 0, k < 0
        if node.params.mode == TopKMode.KTH_ONLY:
            count, first = 1, count - 1
    refs = [_output(ctx, v) for v in node.outputs]
    ctx.emit(
        "sort_rows_32",
        node,
        x=ctx.plain(x).ref,
        values=refs[0],
        places=refs[1] if len(refs) > 1 else None,
        n=n,
        first=first,
        count=count,
        descending=descending,
        is_float=x.dtype == FLOAT32,
        work=rows,
        scratch=ctx.kernels.module("sorting").scratch_bytes(n),
    )
    return None


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
        scratch=ctx.kernels.module("sorting").nms_scratch_bytes(n),
    )


def _fault(ctx: Lowering, node: Node, images: int) -> Ref:
    return ctx.fault(str(fail(node, f"a region belongs to an image that does not exist, there are {images}")))


def lower_roi_align(ctx: Lowering, node: Node) -> bool | None:
    """On blocked images; the index of the maximum is of use in training only."""
    x, rois = node.inputs
    p = node.params
    kernel = ctx.kernels.module("region")
    if ctx.is_read(node.outputs[1]) or p.mode not in kernel.MODES:
        return False
    source, out = ctx.blocked(x), ctx.new_blocked(node.outputs[0])
    ctx.emit(
        "roi_align_blocked_f32",
        node,
        x=source.ref,
        rois=ctx.plain(rois).ref,
        y=out.ref,
        fault=_fault(ctx, node, source.n),
        mode=p.mode,
        images=source.n,
        blocks=source.blocks,
        h=source.h,
        w=source.w,
        **blocked_strides("x", source),
        oh=out.h,
        ow=out.w,
        sample_h=p.sample_height,
        sample_w=p.sample_width,
        **blocked_strides("y", out),
        scale=p.spatial_scale,
        offset=p.offset,
        work=out.n * out.blocks,
        scratch=kernel.scratch_bytes(out.h, out.w, p.sample_height, p.sample_width),
    )
    return None


def lower_roi_pooling(ctx: Lowering, node: Node) -> bool | None:
    """On blocked images; the index of the maximum is of use in training only."""
    x, rois = node.inputs[:2]
    p = node.params
    kernel = ctx.kernels.module("region")
    if ctx.is_read(node.outputs[1]) or p.mode not in kernel.MODES:
        return False
    source, out = ctx.blocked(x), ctx.new_blocked(node.outputs[0])
    ctx.emit(
        "roi_pool_blocked_f32",
        node,
        x=source.ref,
        rois=ctx.plain(rois).ref,
        y=out.ref,
        fault=_fault(ctx, node, source.n),
        mode=p.mode,
        images=source.n,
        blocks=source.blocks,
        h=source.h,
        w=source.w,
        **blocked_strides("x", source),
        oh=out.h,
        ow=out.w,
        **blocked_strides("y", out),
        scale=p.scale,
        work=out.n * out.blocks,
        scratch=kernel.pool_scratch_bytes(out.h, out.w),
    )
    return None
