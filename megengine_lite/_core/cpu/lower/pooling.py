"""Pooling in float32, blocked and plain, and that of ONNX over any axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from megengine_lite._core.cpu.lower.reduce import emit_reduce
from megengine_lite._core.cpu.lower.requantize import storage_kind
from megengine_lite._core.cpu.lower.window import window_arguments
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref, blocked_strides
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.graph import Constant, Node
from megengine_lite._core.ir.params import PoolingMode, ReduceMode
from megengine_lite._core.operators.onnx_window import OnnxPooling
from megengine_lite._core.operators.pooling import pool_window
from megengine_lite._core.operators.window import Window, places_between

_MOST_PADDING = 256


def lower_pooling(ctx: Lowering, node: Node) -> bool | None:
    x, y = node.inputs[0], node.outputs[0]
    kernel, mode = ctx.kernels.module("pooling"), node.params.mode
    if mode not in kernel.MODES:
        return False
    window = window_of(node)
    if window.size == x.shape[2:] and window.pad == (0, 0):
        largest = ctx.kernels.module("reduce").POOLING_MAX
        return emit_reduce(ctx, node, x, y, largest if mode == PoolingMode.MAX else ReduceMode.MEAN, (2, 3))
    arguments = pool_arguments(node, window)
    # Rows are kept with their padding if data are plain. Blocked kernels leave padding out, however large it is.
    if not ctx.is_blocked(x) and window.pad[1] <= max(x.shape[3], _MOST_PADDING):
        source, out = ctx.plain(x), ctx.new_plain(y)
        scratch = kernel.scratch_bytes(x.shape[3], window.pad[1], y.shape[3])
        work = y.shape[0] * y.shape[1] * y.shape[2]
        ctx.emit("pool_plain_f32", node, x=source.ref, y=out.ref, work=work, scratch=scratch, **arguments)
        return None
    source, out = ctx.blocked(x), ctx.new_blocked(y)
    ctx.emit(
        "pool_blocked_f32",
        node,
        x=source.ref,
        y=out.ref,
        blocks=out.blocks,
        **blocked_strides("x", source),
        **blocked_strides("y", out),
        work=out.n * out.blocks * out.h,
        **arguments,
    )
    return None


def lower_onnx_pooling(ctx: Lowering, node: Node) -> bool | None:
    """Over one to three axes; one that is missing has one element, and a window of that."""
    x, y, *positions = node.inputs[0], *node.outputs
    module, mode = ctx.kernels.module("pooling_any"), node.params.mode
    missing = module.AXES + 2 - len(x.shape)
    if missing < 0 or not y.spec.size or (mode == "average" and x.dtype != FLOAT32) or _is_long(x.shape):
        return False
    arguments: dict[str, Any] = {}
    axes = [(1, 1, 1, 1, 1, 0, np.ones(1))] * missing + OnnxPooling.pooled_axes(node)
    for name, (length, out, size, stride, dilation, pad, counts) in zip("dhw", axes, strict=True):
        places = places_between(size, stride, dilation, pad, length, out)
        if len(places) > max(length * out, _MOST_PADDING):
            return False  # the definition takes only those of them that are used
        numbers = (length, out, len(places), stride, dilation, pad - places.start * dilation)
        fields = ("length", "out", "size", "stride", "dilation", "pad")
        arguments |= {f"{name}_{field}": n for field, n in zip(fields, numbers, strict=True)}
        arguments[f"{name}_counts"] = _counts(ctx, counts)
    ctx.emit(
        "pool_any",
        node,
        x=ctx.plain(x).ref,
        y=ctx.new_plain(y).ref,
        places=ctx.new_plain(positions[0]).ref if positions else None,
        kind=storage_kind(x.dtype),
        largest=mode == "max",
        column_major=node.params.column_major,
        **arguments,
        work=y.spec.size // y.shape[-1],
        scratch=module.scratch_bytes(x.shape[-1], y.shape[-1]),
    )
    return None


def _is_long(shape: tuple[int, ...]) -> bool:
    """Whether places in a plane are too large for int32."""
    return math.prod(shape[2:]) >= 1 << 31


def _counts(ctx: Lowering, counts: np.ndarray) -> Ref:
    table = np.ascontiguousarray(counts, np.float32)
    return ctx.constant(Constant(table, ("places that count", table.tobytes())))


def window_of(node: Node) -> Window:
    h, w = node.inputs[0].shape[2:]
    return pool_window(node, (h, w), node.inputs[1].spec.value if len(node.inputs) > 1 else None)


def pool_arguments(node: Node, window: Window) -> dict[str, int]:
    """The arguments ``PoolingWindow`` of kernels (kernels/common/arguments.pxd)."""
    h, w = node.inputs[0].shape[2:]
    oh, ow = node.outputs[0].shape[2:]
    arguments = {"mode": int(node.params.mode), "h": h, "w": w, "oh": oh, "ow": ow}
    return arguments | window_arguments(window, "size", "stride", "pad")
