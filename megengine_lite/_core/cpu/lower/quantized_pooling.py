"""Pooling of int8 tensors, blocked."""

from __future__ import annotations

from megengine_lite._core.cpu.lower.pooling import pool_arguments, window_of
from megengine_lite._core.cpu.lower.requantize import is_int8_operand
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import blocked_strides
from megengine_lite._core.ir.dtype import UNSIGNED_INT8, DTypeCode
from megengine_lite._core.ir.graph import Node
from megengine_lite._core.ir.params import PoolingMode

_C = DTypeCode
_UNSIGNED_STORAGE = (*UNSIGNED_INT8, _C.UINT8)


def lower_quantized_pooling(ctx: Lowering, node: Node) -> bool | None:
    """Maximum and average of int8 numbers, blocked."""
    x, y = node.inputs[0], node.outputs[0]
    mode = node.params.mode
    if not (is_int8_operand(x.dtype) or x.dtype.code is _C.UINT8):
        return False  # a scale that is too small
    if mode not in ctx.kernels.module("pooling_int8").MODES:
        return False
    source = ctx.blocked(x)
    out = ctx.new_blocked(y)
    ctx.emit(
        "pool_int8", node, x=source.ref, y=out.ref, **blocked_strides("x", source), **blocked_strides("y", out),
        blocks=out.blocks, **pool_arguments(node, window_of(node)),
        mask=255 if x.dtype.code in _UNSIGNED_STORAGE else -1, zero=x.dtype.zero_point,
        truncate=not x.dtype.is_quantized and mode == PoolingMode.AVERAGE, ties_even=x.dtype.ties_to_even,
        work=out.n * out.blocks * out.h,
    )  # fmt: skip
    return None
