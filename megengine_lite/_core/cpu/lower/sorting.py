"""Sorting along an axis, and the first elements in order."""

from __future__ import annotations

import math

from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref
from megengine_lite._core.ir.dtype import DTypeCode
from megengine_lite._core.ir.graph import Node, Var
from megengine_lite._core.ir.params import ArgsortOrder, TopKMode

_C = DTypeCode
_KINDS = {
    _C.FLOAT32: "OF_F32", _C.INT32: "OF_S32", _C.INT16: "OF_S16", _C.UINT16: "OF_U16", _C.INT8: "OF_S8",
    _C.UINT8: "OF_U8", _C.INT64: "OF_S64",
}  # fmt: skip


def lower_sort(ctx: Lowering, node: Node) -> bool | None:
    """Rows; with the largest first everything is reversed, equal elements too."""
    n = node.inputs[0].shape[1]
    if node.op == "Argsort":
        descending = node.params.order == ArgsortOrder.DESCENDING
        return _emit(ctx, node, 1, 0, n, descending, backward=descending)
    k = _number(node)
    count, first = min(abs(k), n), 0
    if node.params.mode == TopKMode.KTH_ONLY:
        count, first = 1, count - 1
    return _emit(ctx, node, 1, first, count, k < 0, backward=k < 0)


def lower_sorted_top(ctx: Lowering, node: Node) -> bool | None:
    """Any axis; equal elements keep their order."""
    return _emit(ctx, node, node.params.axis, 0, _number(node), node.params.largest, backward=False)


def _number(node: Node) -> int:
    value = node.inputs[1].spec.value
    assert value is not None  # the shape depends on it
    return int(value.reshape(-1)[0])


def _output(ctx: Lowering, v: Var) -> Ref | None:
    return ctx.new_plain(v).ref if ctx.is_read(v) else None


def _emit(
    ctx: Lowering, node: Node, axis: int, first: int, count: int, descending: bool, *, backward: bool
) -> bool | None:
    x, module = node.inputs[0], ctx.kernels.module("sorting")
    if not node.outputs[0].spec.size:
        return False
    n, inner = x.shape[axis], math.prod(x.shape[axis:][1:])
    refs = [_output(ctx, v) for v in node.outputs]
    ctx.emit(
        "sort_elements",
        node,
        x=ctx.plain(x).ref,
        values=refs[0],
        places=refs[1] if len(refs) > 1 else None,
        kind=getattr(module, _KINDS[x.dtype.code]),
        n=n,
        inner=inner,
        first=first,
        count=count,
        descending=descending,
        backward=backward,
        work=math.prod(x.shape[:axis]) * module.work_items(n, inner),
        scratch=module.scratch_bytes(n, inner),
    )
    return None
