"""Triangles of matrices, sequences turned around, and images that are sums of windows."""

from __future__ import annotations

import math

from megengine_lite._core.cpu.lower.window import window_arguments
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref
from megengine_lite._core.ir.dtype import INT64
from megengine_lite._core.ir.graph import Node
from megengine_lite._core.ir.image_layouts import dense_strides
from megengine_lite._core.operators.base import fail
from megengine_lite._core.operators.onnx_creation import Triangle
from megengine_lite._core.operators.onnx_window import Col2Im
from megengine_lite._core.operators.window import Window


def lower_triangle(ctx: Lowering, node: Node) -> bool | None:
    x, y = node.inputs[0], node.outputs[0]
    values = [v.const.array for v in node.inputs[1:] if v.const is not None]
    if len(values) + 1 != len(node.inputs) or not y.spec.size:
        return False
    rows, columns = x.shape[-2:]
    ctx.emit(
        "keep_triangle",
        node,
        x=ctx.plain(x).ref,
        y=ctx.new_plain(y).ref,
        rows=rows,
        row_bytes=columns * x.dtype.itemsize,
        item=x.dtype.itemsize,
        diagonal=Triangle.diagonal(node, (rows, columns), *values),
        upper=node.params.upper,
        work=math.prod(x.shape[:-1]),
    )
    return None


def lower_reversal(ctx: Lowering, node: Node) -> bool | None:
    x, lengths = node.inputs
    y, p = node.outputs[0], node.params
    if not y.spec.size:
        return False
    strides = dense_strides(x.shape, x.dtype.itemsize)
    ctx.emit(
        "reverse_sequences",
        node,
        x=ctx.plain(x).ref,
        y=ctx.new_plain(y).ref,
        lengths=ctx.plain(lengths).ref,
        fault=ctx.fault(str(fail(node, f"a length does not fit {x.shape[p.time]} elements"))),
        wide=lengths.dtype == INT64,
        batch=x.shape[p.batch],
        time=x.shape[p.time],
        time_stride=strides[p.time],
        batch_stride=strides[p.batch],
        run=math.prod(x.shape[2:]) * x.dtype.itemsize,
        work=x.shape[p.batch],
    )
    return None


def lower_columns_to_image(ctx: Lowering, node: Node) -> bool | None:
    """Of one axis or two; one that is missing has one element, and a window of that."""
    x, y, p = node.inputs[0], node.outputs[0], node.params
    sizes, window, counts = Col2Im.sizes(node, *(v.spec.value for v in node.inputs[1:]))
    missing = 2 - len(sizes)
    if missing < 0 or not y.spec.size:
        return False
    ones, zeros = (1,) * missing, (0,) * missing
    placed = Window((*ones, *window), (*ones, *p.strides), (*zeros, *p.begin), (*ones, *p.dilations))
    h, w, oh, ow = *ones, *sizes, *ones, *counts
    emit_sums(ctx, node, ctx.plain(x).ref, ctx.new_plain(y).ref, y.shape[0] * y.shape[1], placed, (h, w), (oh, ow))
    return None


def emit_sums(
    ctx: Lowering,
    node: Node,
    x: Ref,
    y: Ref,
    planes: int,
    window: Window,
    size: tuple[int, int],
    counts: tuple[int, int],
) -> None:
    """Images of a size as the sums of windows, so many in each direction."""
    module = ctx.kernels.module("windows")
    band = min(module.rows_of_band(size[1]), size[0])
    ctx.emit(
        "sum_windows_f32",
        node,
        x=x,
        y=y,
        **window_arguments(window),
        h=size[0],
        w=size[1],
        oh=counts[0],
        ow=counts[1],
        band=band,
        work=planes * -(-size[0] // band),
        scratch=module.scratch_bytes(size[1], window.stride[1], band),
    )
