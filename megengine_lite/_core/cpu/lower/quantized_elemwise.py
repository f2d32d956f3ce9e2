"""Elementwise functions and conversions of quantized tensors, and tables of functions of 8-bit numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from megengine_lite._core.cpu.lower.copying import view_of
from megengine_lite._core.cpu.lower.elemwise import plain_strides, repeated_strides
from megengine_lite._core.cpu.lower.modes import BINARY, S32
from megengine_lite._core.cpu.lower.quantized_iteration import IterationSpace, iteration_space
from megengine_lite._core.cpu.lower.requantize import (
    is_storable,
    source_arguments,
    storage_kind,
    target_arguments,
)
from megengine_lite._core.cpu.lower.shape import lower_pass_through
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref
from megengine_lite._core.ir.graph import Constant, Node, TensorSpec, Var
from megengine_lite._core.operators import REGISTRY


def lower_conversion(ctx: Lowering, node: Node) -> bool | None:
    """Conversion by way of real values."""
    x, y = node.inputs[0], node.outputs[0]
    if not is_storable(x.dtype) or not is_storable(y.dtype):
        return False
    function = ctx.kernels.module("quantized_elemwise").FUNCTIONS["FIRST"]
    arguments = {
        "function": function, "divide": 1, **source_arguments(x.dtype, "1"), **source_arguments(x.dtype, "2"),
        **target_arguments(y.dtype),
    }  # fmt: skip
    return _real_values(ctx, node, [x, x], arguments)


def lower_binary(ctx: Lowering, node: Node) -> bool | None:
    """A function of two quantized operands by arithmetic, which is faster than a table of pairs."""
    y = node.outputs[0]
    if not all(is_storable(v.dtype) for v in (*node.inputs, y)):
        return lower_by_table(ctx, node)
    name, relu = BINARY[node.params.mode]
    arguments = {
        "function": ctx.kernels.module("quantized_elemwise").FUNCTIONS[name],
        "divide": int(y.dtype.ties_to_even or not _is_simple_broadcast(node)),
        **source_arguments(node.inputs[0].dtype, "1"), **source_arguments(node.inputs[1].dtype, "2"),
        **target_arguments(y.dtype),
    }  # fmt: skip
    if relu:
        arguments["low"] = max(arguments["low"], 0)
    return _real_values(ctx, node, node.inputs, arguments)


def _is_simple_broadcast(node: Node) -> bool:
    """Whether all operands are of full size, of one element or of one for each channel.

    For these the original has kernels that multiply by the reciprocal of the output's scale. For all others it divides
    by the scale.
    """
    y = node.outputs[0].shape
    channels = (1, *y[1:2], *(1,) * (len(y) - 2))
    return all(v.shape in (y, channels) or v.spec.size == 1 for v in node.inputs)


# ---- places of operands ----------------------------------------------------------------------------------------------


def _wants_blocked(ctx: Lowering, node: Node) -> bool:
    """Whether to work on blocks: an operand of full size exists only in blocks."""
    y = node.outputs[0]
    if len(y.shape) != 4 or any(len(v.shape) != 4 and v.spec.size != 1 for v in node.inputs):
        return False
    whole = [v for v in node.inputs if v.shape == y.shape]
    return any(ctx.is_blocked(v) for v in whole) and not any(ctx.is_plain(v) for v in whole)


def _blocked_operand(ctx: Lowering, v: Var) -> tuple[Ref, list[int]]:
    """Address and strides over (image, channel block, row, pixel, lane)."""
    if v.spec.size == 1:
        return ctx.plain(v).ref, [0] * 5
    if v.shape[1] == 1:
        image, _, row, pixel = plain_strides(v.shape, 4, v.dtype.itemsize)
        return ctx.plain(v).ref, [image, 0, row, pixel, 0]
    t = ctx.blocked(v)
    return t.ref, repeated_strides(t)


def _place(ctx: Lowering, node: Node, inputs: Sequence[Var]) -> tuple[IterationSpace, list[Ref]] | None:
    """The iteration space of inputs and output, and their addresses; None if no kernel can walk it."""
    y = node.outputs[0]
    items = [v.dtype.itemsize for v in (*inputs, y)]
    if _wants_blocked(ctx, node):
        operands = [_blocked_operand(ctx, v) for v in inputs]
        out = ctx.new_blocked(y)
        view = view_of(out)
        space = iteration_space(view.shape, [*(s for _, s in operands), view.strides], items)
        assert space is not None, "blocked operands always fit"
        return space, [*(r for r, _ in operands), out.ref]
    strides = [plain_strides(v.shape, len(y.shape), v.dtype.itemsize) for v in (*inputs, y)]
    space = iteration_space(y.shape, strides, items)
    if space is None:
        return None
    return space, [*(ctx.plain(v).ref for v in inputs), ctx.new_plain(y).ref]


# ---- steps -----------------------------------------------------------------------------------------------------------


def _real_values(ctx: Lowering, node: Node, inputs: Sequence[Var], arguments: dict[str, Any]) -> bool | None:
    placed = _place(ctx, node, inputs)
    if placed is None:
        return False
    space, (x1, x2, y) = placed
    ctx.emit(
        "binary_int8", node, x1=x1, x2=x2, y=y, **space.arguments(("x1", "x2", "y")), step1=space.steps[0],
        step2=space.steps[1], **arguments, work=space.work,
    )  # fmt: skip
    return None


def lower_onnx_quantize(ctx: Lowering, node: Node) -> bool | None:
    x, scale, zero = node.inputs
    y = node.outputs[0]
    if not y.spec.size:
        return False
    ctx.emit(
        "quantize_f32", node, x=ctx.plain(x).ref, scale=ctx.plain(scale).ref, zero=ctx.plain(zero).ref,
        y=ctx.new_plain(y).ref, n=y.spec.size, kind=storage_kind(y.dtype),
        work=-(-y.spec.size // ctx.kernels.module("quantized_elemwise").BLOCK),
    )  # fmt: skip
    return None


def lower_s32(ctx: Lowering, node: Node) -> bool | None:
    """Arithmetic on stored numbers of 32 bits."""
    name, side = S32[node.params.mode]
    function = ctx.kernels.module("quantized_elemwise").INTEGER_FUNCTIONS[name]
    inputs = list(node.inputs)
    if side is not None:
        zero = Constant(np.zeros(1, np.int32), ("value", (1,), "<i4", b"\0\0\0\0"))
        var = Var(-1, "", TensorSpec((1,), inputs[0].dtype, zero.array), zero)
        inputs.insert(0 if side == "left" else 1, var)
    placed = _place(ctx, node, inputs)
    if placed is None:
        return False
    space, (x1, x2, y) = placed
    ctx.emit(
        "binary_s32", node, x1=x1, x2=x2, y=y, **space.arguments(("x1", "x2", "y")), step1=space.steps[0],
        step2=space.steps[1], function=function, work=space.work,
    )  # fmt: skip
    return None


def lower_by_table(ctx: Lowering, node: Node) -> bool | None:
    """A function of one or two bytes, from a table of all its results."""
    variables = (*node.inputs, *node.outputs)
    if len(node.inputs) > 2 or any(v.dtype.itemsize != 1 for v in variables):
        return False  # a mix of 8-bit and larger operands
    placed = _place(ctx, node, node.inputs)
    if placed is None:
        return False
    space, refs = placed
    key = ("byte table", node.op, node.params, *(v.dtype for v in variables))
    table = ctx.constant(ctx.pool.derive(key, [], _table_of(node)))
    if len(refs) == 2:
        x, y = refs
        ctx.emit("table_8", node, table=table, x=x, y=y, **space.arguments(("x", "y")), work=space.work)
    else:
        x1, x2, y = refs
        ctx.emit(
            "table_pair_8", node, table=table, x1=x1, x2=x2, y=y, **space.arguments(("x1", "x2", "y")),
            step1=space.steps[0], step2=space.steps[1], work=space.work,
        )  # fmt: skip
    return None


def lower_onnx_bytes(ctx: Lowering, node: Node) -> bool | None:
    """A function of bytes; a second operand that is one known number goes into the table."""
    if len(node.inputs) != 2 or node.inputs[1].const is None or node.inputs[1].spec.size != 1:
        return lower_by_table(ctx, node)
    x, number, y = *node.inputs, node.outputs[0]
    if x.dtype.itemsize != 1 or y.dtype.itemsize != 1 or x.shape != y.shape:
        return False
    space = iteration_space(y.shape, [plain_strides(v.shape, len(y.shape), 1) for v in (x, y)], [1, 1])
    if space is None:
        return False
    array = number.constant.array
    key = ("byte table", node.op, node.params, x.dtype, y.dtype, array.dtype.str, array.tobytes())
    table = ctx.constant(ctx.pool.derive(key, [], _table_of(node, array)))
    ctx.emit(
        "table_8", node, table=table, x=ctx.plain(x).ref, y=ctx.new_plain(y).ref, **space.arguments(("x", "y")),
        work=space.work,
    )  # fmt: skip
    return None


def lower_bytes(ctx: Lowering, node: Node) -> bool | None:
    """The same memory under another type, or a copy with other sign bits."""
    if node.inputs[0].dtype.storage == node.outputs[0].dtype.storage:
        lower_pass_through(ctx, node)
        return None
    return lower_by_table(ctx, node)


def _table_of(node: Node, second: np.ndarray | None = None) -> Callable[[], np.ndarray]:
    """Results of the operator's definition for all (pairs of) bytes; for all first ones if the second is known."""

    def make() -> np.ndarray:
        count = len(node.inputs) if second is None else 1
        operands = []
        for k, v in enumerate(node.inputs[:count]):
            values = np.arange(256, dtype=np.uint8)
            storage = v.dtype.storage
            values = (values % 2).astype(storage) if storage == np.bool_ else values.view(storage)
            operands.append(values.reshape((256, 1) if k + 1 < count else (256,)))
        if second is not None:
            operands.append(second.reshape(1))
        specs = [TensorSpec(a.shape, v.dtype) for a, v in zip(operands, node.inputs, strict=True)]
        shape = (256,) * count
        with np.errstate(all="ignore"):
            (result,) = REGISTRY[node.op].compute(node, operands, specs, [TensorSpec(shape, node.outputs[0].dtype)])
        return np.ascontiguousarray(np.broadcast_to(result, shape)).view(np.uint8)

    return make
