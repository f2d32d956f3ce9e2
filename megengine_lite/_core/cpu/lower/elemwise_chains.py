"""Functions of float32 in several steps of one kernel: powers, selection by a mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.cpu.lower.elemwise import (
    Steps,
    emit_chain,
    lower_elemwise,
    plain_strides,
)
from megengine_lite._core.cpu.lower.typecvt import emit_convert
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref
from megengine_lite._core.ir.dtype import DTypeCode
from megengine_lite._core.ir.graph import Constant, Node, Var
from megengine_lite._core.ir.params import ElemwiseMode
from megengine_lite._core.operators.power import constant_exponent, power_steps

_C, _M = DTypeCode, ElemwiseMode


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
