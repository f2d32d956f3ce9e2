"""Elementwise functions of integers and truth values, and comparisons, whose results are truth values."""

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
    dtype = node.inputs[0].dtype
    size, is_signed = dtype.itemsize, dtype.storage.kind == "i"
    _emit_runs(ctx, node, "elemwise_int", kernel.MAX_INPUTS, mode=mode, size=size, is_signed=is_signed, truth=truth)
    return None


def lower_real_comparison(ctx: Lowering, node: Node) -> bool | None:
    """Comparisons of float32."""
    kernel = ctx.kernels.module("compare")
    mode = int(COMPARISONS[node.params.mode])
    if kernel.MODES.get(mode) != len(node.inputs):
        return False
    _emit_runs(ctx, node, "compare_f32", kernel.MAX_INPUTS, mode=mode)
    return None


def _emit_runs(ctx: Lowering, node: Node, kernel: str, most: int, **own: int) -> None:
    """A kernel that takes up to ``most`` inputs by runs; ``own`` has the arguments that others lack."""
    y = node.outputs[0]
    shape = y.shape
    strides = [plain_strides(v.shape, len(shape), v.dtype.itemsize) for v in node.inputs]
    plan = plan_runs(shape, plain_strides(shape, len(shape), y.dtype.itemsize), strides)
    refs = [ctx.plain(v).ref for v in node.inputs]
    ctx.emit(
        kernel,
        node,
        table=ctx.constant(Constant(plan.table, ("integer table", plan.table.tobytes()))),
        y=ctx.new_plain(y).ref,
        **{f"x{k}": refs[k] if k < len(refs) else None for k in range(most)},
        ndim=plan.ndim,
        inputs=len(refs),
        work=plan.work,
        **own,
    )
