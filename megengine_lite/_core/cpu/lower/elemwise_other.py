"""Elementwise operators besides float32 Elemwise: integers, comparisons, powers, selection by a mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.cpu.lower.elemwise import Steps, emit_chain, has_modes, lower_elemwise, plain_strides
from megengine_lite._core.cpu.lower.quantized import lower_s32
from megengine_lite._core.cpu.lower.typecvt import emit_convert
from megengine_lite._core.cpu.lowering import Lowering, Ref
from megengine_lite._core.ir.dtype import DTypeCode
from megengine_lite._core.ir.graph import Constant, Node, Var
from megengine_lite._core.ir.params import ElemwiseMode, ElemwiseMultiTypeMode
from megengine_lite._core.operators.power import constant_exponent, power_steps
from megengine_lite.kernels.common.tiling import plan_runs

_C, _M, _Multi = DTypeCode, ElemwiseMode, ElemwiseMultiTypeMode
COMPARISONS = {
    _Multi.EQ: _M.EQ,
    _Multi.NEQ: _M.NEQ,
    _Multi.LT: _M.LT,
    _Multi.LEQ: _M.LEQ,
    _Multi.ISNAN: _M.ISNAN,
    _Multi.ISINF: _M.ISINF,
}


def lower_integers(ctx: Lowering, node: Node) -> bool | None:
    """Integers of 16 and 32 bits, and truth values."""
    return _emit_integers(ctx, node, int(node.params.mode), False)


def lower_int32(ctx: Lowering, node: Node) -> bool | None:
    """Arithmetic that is the same for all 32-bit types, if its kernel can walk the operands."""
    return lower_integers(ctx, node) if lower_s32(ctx, node) is False else None


def lower_integer_comparison(ctx: Lowering, node: Node) -> bool | None:
    """Comparisons of integers whose result is a truth value."""
    return _emit_integers(ctx, node, int(COMPARISONS[node.params.mode]), True)


def lower_comparison(ctx: Lowering, node: Node) -> bool | None:
    """Comparisons of float32 whose result is a truth value."""
    y = node.outputs[0]
    steps: Steps = [(int(COMPARISONS[node.params.mode]), range(len(node.inputs)))]
    if not has_modes(ctx, steps):
        return False
    refs = [ctx.plain(v).ref for v in node.inputs]
    numbers = ctx.temp(4 * y.spec.size)
    _chain(ctx, node, steps, [v.shape for v in node.inputs], refs, numbers)
    emit_convert(ctx, node, numbers, _C.FLOAT32, ctx.new_plain(y).ref, _C.BOOL, y.spec.size)
    return None


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


def lower_power(ctx: Lowering, node: Node) -> bool | None:
    """Powers: as a product or a root where the exponent is a constant that allows it."""
    exponent = constant_exponent(node)
    if exponent is None:
        return lower_elemwise(ctx, node)
    x, y = node.inputs[0], node.outputs[0]
    constants, steps = power_steps(exponent)
    refs = [ctx.plain(x).ref, *(_number(ctx, c) for c in constants)]
    _chain(ctx, node, steps, [x.shape, *[(1,)] * len(constants)], refs, ctx.new_plain(y).ref)
    return None


def lower_selection(ctx: Lowering, node: Node) -> None:
    """The mask as numbers; then what is selected plus zeros elsewhere, and the other way round."""
    y = node.outputs[0]
    fill = node.op == "MaskedFill"
    mask = node.inputs[1 if fill else 0]
    numbers = ctx.temp(4 * mask.spec.size)
    emit_convert(ctx, node, ctx.plain(mask).ref, _C.BOOL, numbers, _C.FLOAT32, mask.spec.size)
    if fill:
        x = node.inputs[0]
        shapes = [mask.shape + (1,) * (len(x.shape) - len(mask.shape)), (1,), x.shape]
        refs = [numbers, _number(ctx, node.params.value), ctx.plain(x).ref]
    else:
        shapes = [v.shape for v in node.inputs]
        refs = [numbers, *(ctx.plain(v).ref for v in node.inputs[1:])]
    refs.append(_number(ctx, 0.0))
    steps = [(_M.SWITCH_GT0, (0, 1)), (_M.COND_LEQ_MOV, (0, 3, 2)), (_M.ADD, (4, 5))]
    _chain(ctx, node, steps, [*shapes, (1,)], refs, ctx.new_plain(y).ref)


def _number(ctx: Lowering, value: float) -> Ref:
    array = np.array([value], np.float32)
    return ctx.constant(Constant(array, ("number", array.tobytes())))


def _chain(
    ctx: Lowering, node: Node, steps: Steps, shapes: Sequence[tuple[int, ...]], refs: Sequence[Ref], y: Ref
) -> None:
    """A float32 chain over dense operands of these shapes."""
    out: Var = node.outputs[0]
    ndim = len(out.shape)
    strides = [plain_strides(s, ndim) for s in shapes]
    emit_chain(ctx, node, steps, out.shape, strides, refs, plain_strides(out.shape, ndim), y)
