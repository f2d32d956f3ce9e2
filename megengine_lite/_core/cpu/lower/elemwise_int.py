"""Elementwise functions of integers and truth values."""

from __future__ import annotations

from megengine_lite._core.cpu.lower.elemwise import plain_strides
from megengine_lite._core.cpu.lower.modes import COMPARISONS
from megengine_lite._core.cpu.lower.quantized_elemwise import lower_s32
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.ir.graph import Constant, Node
from megengine_lite.kernels.common.tiling import plan_runs


def lower_integers(ctx: Lowering, node: Node) -> bool | None:
    """Integers of 16 and 32 bits, and truth values."""
    return _emit_integers(ctx, node, int(node.params.mode), False)


def lower_int32(ctx: Lowering, node: Node) -> bool | None:
    """Arithmetic that is the same for all 32-bit types, if its kernel can walk the operands."""
    return lower_integers(ctx, node) if lower_s32(ctx, node) is False else None


def lower_integer_comparison(ctx: Lowering, node: Node) -> bool | None:
    """Comparisons of integers whose result is a truth value."""
    return _emit_integers(ctx, node, int(COMPARISONS[node.params.mode]), True)


def _emit_integers(ctx: Lowering, node: Node, mode: int, truth: bool) -> bool | None:
    kernel = ctx.kernels.module("elemwise_int")
    if (kernel.TRUTH_MODES if truth else kernel.MODES).get(mode) != len(node.inputs):
        return False
    y = node.outputs[0]
    item = node.inputs[0].dtype.itemsize
    shape = y.shape
    strides = [plain_strides(v.shape, len(shape), item) for v in node.inputs]
    plan = plan_runs(shape, plain_strides(shape, len(shape), y.dtype.itemsize), strides)
    refs = [ctx.plain(v).ref for v in node.inputs]
    ctx.emit(
        "elemwise_int",
        node,
        table=ctx.constant(Constant(plan.table, ("integer table", plan.table.tobytes()))),
        y=ctx.new_plain(y).ref,
        **{f"x{k}": refs[k] if k < len(refs) else None for k in range(kernel.MAX_INPUTS)},
        mode=mode,
        size=item,
        is_signed=node.inputs[0].dtype.storage.kind == "i",
        ndim=plan.ndim,
        inputs=len(refs),
        truth=truth,
        work=plan.work,
    )
    return None
