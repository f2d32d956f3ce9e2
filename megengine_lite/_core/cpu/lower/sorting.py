"""Sorting of rows, and their first elements."""

from __future__ import annotations

from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.graph import Node, Var
from megengine_lite._core.ir.params import ArgsortOrder, TopKMode


def _output(ctx: Lowering, v: Var) -> Ref | None:
    return ctx.new_plain(v).ref if ctx.is_read(v) else None


def lower_sort(ctx: Lowering, node: Node) -> bool | None:
    x = node.inputs[0]
    rows, n = x.shape
    if node.op == "Argsort":
        count, first, descending = n, 0, node.params.order == ArgsortOrder.DESCENDING
    else:
        value = node.inputs[1].spec.value
        assert value is not None  # the shape depends on it
        k = int(value.reshape(-1)[0])
        count, first, descending = min(abs(k), n), 0, k < 0
        if node.params.mode == TopKMode.KTH_ONLY:
            count, first = 1, count - 1
    refs = [_output(ctx, v) for v in node.outputs]
    ctx.emit(
        "sort_rows_32",
        node,
        x=ctx.plain(x).ref,
        values=refs[0],
        places=refs[1] if len(refs) > 1 else None,
        n=n,
        first=first,
        count=count,
        descending=descending,
        is_float=x.dtype == FLOAT32,
        work=rows,
        scratch=ctx.kernels.module("sorting").scratch_bytes(n),
    )
    return None
