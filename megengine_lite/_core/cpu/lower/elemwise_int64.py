"""Elementwise functions of int64."""

from __future__ import annotations

from megengine_lite._core.cpu.lower.elemwise import plain_strides
from megengine_lite._core.cpu.lower.modes import COMPARISONS, INT64
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.ir.graph import Constant, Node
from megengine_lite._core.ir.onnx_params import OnnxMode
from megengine_lite._core.operators.onnx_elemwise import too_large
from megengine_lite.kernels.common.tiling import plan_runs

_OF_ONNX = {
    OnnxMode.DIVIDE: "TRUNCATED_DIV",
    OnnxMode.MODULO: "MOD",
    OnnxMode.MAX: "MAX",
    OnnxMode.MIN: "MIN",
    OnnxMode.NARROW: "NARROW",
}


def lower_int64(ctx: Lowering, node: Node) -> None:
    _emit(ctx, node, INT64[node.params.mode])


def lower_int64_comparison(ctx: Lowering, node: Node) -> None:
    _emit(ctx, node, COMPARISONS[node.params.mode].name)


def lower_int64_of_onnx(ctx: Lowering, node: Node) -> bool | None:
    function = _OF_ONNX.get(node.params.mode)
    if function is None:
        return False
    _emit(ctx, node, function)
    return None


def _emit(ctx: Lowering, node: Node, function: str) -> None:
    kernel = ctx.kernels.module("elemwise_int64")
    y = node.outputs[0]
    ndim = len(y.shape)
    strides = [plain_strides(v.shape, ndim, v.dtype.itemsize) for v in node.inputs]
    plan = plan_runs(y.shape, plain_strides(y.shape, ndim, y.dtype.itemsize), strides)
    refs = [ctx.plain(v).ref for v in node.inputs]
    fault = too_large(node, node.inputs[0].dtype) if function == OnnxMode.NARROW.name else None
    ctx.emit(
        "elemwise_int64",
        node,
        table=ctx.constant(Constant(plan.table, ("integer table", plan.table.tobytes()))),
        y=ctx.new_plain(y).ref,
        **{f"x{k}": refs[k] if k < len(refs) else None for k in range(kernel.MAX_INPUTS)},
        fault=ctx.fault(str(fault), type(fault)) if fault is not None else None,
        function=kernel.FUNCTIONS[function],
        ndim=plan.ndim,
        inputs=len(refs),
        work=plan.work,
    )
