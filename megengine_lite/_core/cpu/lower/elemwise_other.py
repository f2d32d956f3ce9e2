"""Elementwise operators besides float32 Elemwise: integers, comparisons, powers, selection by a mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.cpu.lower.elemwise import Steps, emit_chain, plain_strides
from megengine_lite._core.cpu.lower.typecvt import emit_convert
from megengine_lite._core.cpu.lowering import Lowering, Ref, lowers
from megengine_lite._core.ir.dtype import BOOL, FLOAT32, DTypeCode
from megengine_lite._core.ir.graph import Constant, Node, Var
from megengine_lite._core.ir.params import ElemwiseMode, ElemwiseMultiTypeMode
from megengine_lite._core.operators.power import constant_exponent, power_steps
from megengine_lite.kernels.common.tiling import plan_runs

_C, _M, _Multi = DTypeCode, ElemwiseMode, ElemwiseMultiTypeMode
_INTEGERS = (_C.INT32, _C.INT16, _C.UINT16, _C.BOOL)
_COMPARISONS = {
    _Multi.EQ: _M.EQ,
    _Multi.NEQ: _M.NEQ,
    _Multi.LT: _M.LT,
    _Multi.LEQ: _M.LEQ,
    _Multi.ISNAN: _M.ISNAN,
    _Multi.ISINF: _M.ISINF,
}
MAX_INPUTS = 4  # of elemwise_int


@lowers("Elemwise")
def lower_integers(ctx: Lowering, node: Node) -> bool | None:
    """Functions of integers. Those of 8-bit integers are in ``quantized``, which has tables for them."""
    if any(v.dtype.code not in _INTEGERS for v in (*node.inputs, *node.outputs)):
        return False
    _emit_integers(ctx, node, int(node.params.mode), False)
    return None


@lowers("ElemwiseMultiType")
def lower_comparison(ctx: Lowering, node: Node) -> bool | None:
    """Comparisons whose result is a truth value."""
    x, y = node.inputs[0], node.outputs[0]
    if node.params.mode not in _COMPARISONS or any(v.dtype != x.dtype for v in node.inputs):
        return False
    mode = _COMPARISONS[node.params.mode]
    if x.dtype.code in (*_INTEGERS, _C.INT8, _C.UINT8):
        _emit_integers(ctx, node, int(mode), True)
        return None
    if x.dtype != FLOAT32:
        return False
    refs = [ctx.plain(v).ref for v in node.inputs]
    numbers = ctx.temp(4 * y.spec.size)
    _chain(ctx, node, [(int(mode), range(len(refs)))], [v.shape for v in node.inputs], refs, numbers)
    emit_convert(ctx, node, numbers, _C.FLOAT32, ctx.new_plain(y).ref, _C.BOOL, y.spec.size)
    return None


def _emit_integers(ctx: Lowering, node: Node, mode: int, truth: bool) -> None:
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
        **{f"x{k}": refs[k] if k < len(refs) else None for k in range(MAX_INPUTS)},
        mode=mode,
        size=item,
        signed=node.inputs[0].dtype.storage.kind == "i",
        ndim=plan.ndim,
        inputs=len(refs),
        truth=truth,
        work=plan.work,
    )


@lowers("Elemwise", "PowC")
def lower_power(ctx: Lowering, node: Node) -> bool | None:
    """Powers with a constant exponent."""
    exponent = constant_exponent(node)
    x, y = node.inputs[0], node.outputs[0]
    if exponent is None or x.dtype != FLOAT32:
        return False
    constants, steps = power_steps(exponent)
    refs = [ctx.plain(x).ref, *(_number(ctx, c) for c in constants)]
    _chain(ctx, node, steps, [x.shape, *[(1,)] * len(constants)], refs, ctx.new_plain(y).ref)
    return None


@lowers("Where", "MaskedFill")
def lower_selection(ctx: Lowering, node: Node) -> bool | None:
    """The mask as numbers; then what is selected plus zeros elsewhere, and the other way round."""
    y = node.outputs[0]
    fill = node.op == "MaskedFill"
    mask = node.inputs[1 if fill else 0]
    if y.dtype != FLOAT32 or mask.dtype != BOOL:
        return False
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
    return None


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
