"""Reductions, positions of extremes and running sums, in float32 and of integers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from megengine_lite._core.cpu.lower.copying import View, view_of
from megengine_lite._core.cpu.lower.modes import EXTREMES
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.ir.graph import Node, Var
from megengine_lite._core.ir.params import INT_MAX, ReduceMode
from megengine_lite._core.operators.reduce import Reduce
from megengine_lite.kernels.common.tiling import plan_reduce

_LARGEST = float(np.finfo(np.float32).max)


def lower_reduce_axes(ctx: Lowering, node: Node) -> bool | None:
    return emit_reduce(ctx, node, node.inputs[0], node.outputs[0], node.params.mode, node.params.axes)


def lower_reduce(ctx: Lowering, node: Node) -> bool | None:
    x, y = node.inputs[0], node.outputs[0]
    axes = Reduce().axes(node, [v.spec for v in node.inputs])
    return emit_reduce(ctx, node, x, y, node.params.mode, axes)


def lower_extremes_of_onnx(ctx: Lowering, node: Node) -> bool | None:
    """Minima and maxima that may be infinite."""
    x, y = node.inputs[0], node.outputs[0]
    if node.params.axes is None or not x.spec.size:
        return False
    return emit_reduce(ctx, node, x, y, EXTREMES[node.params.mode], node.params.axes, bound=math.inf)


def emit_reduce(
    ctx: Lowering, node: Node, x: Var, y: Var, mode: int, axes: Sequence[int], bound: float = _LARGEST
) -> bool | None:
    """``y`` = ``x`` reduced; False if the kernel does not have the mode, or the axes are too scattered for it.

    Over the pixels of a blocked image the result is blocked too, and each channel stays in its lane. Minima are at most
    ``bound``, maxima at least its negative; the original has finite ones.
    """
    module = ctx.kernels.module("reduce")
    if mode not in module.MODES:
        return False
    divisor = math.prod(x.shape[k] for k in axes) if mode == ReduceMode.MEAN else 1
    if tuple(axes) == (2, 3) and len(y.shape) == 4 and ctx.is_blocked(x):
        source, target = view_of(ctx.blocked(x)), view_of(ctx.new_blocked(y))
    else:
        source = view_of(ctx.plain(x))
        kept = tuple(1 if k in axes else n for k, n in enumerate(x.shape))
        out = ctx.new_plain(y)
        strides = tuple(4 * math.prod(kept[k + 1 :]) for k in range(len(kept)))
        target = View(out.ref, kept, strides, 4)
    plan = plan_reduce(source.shape, source.strides, target.strides, axes, module.LOOPS)
    if plan is None:
        return False
    ctx.emit(
        plan.kernel,
        node,
        x=source.ref,
        y=target.ref,
        mode=mode,
        divisor=divisor,
        bound=bound,
        work=plan.work,
        scratch=module.scratch_bytes(plan.arguments.get("chunk", 0)),
        **plan.arguments,
    )
    return None


def lower_integer_reduce(ctx: Lowering, node: Node) -> bool | None:
    """Of plain integers and of stored numbers; axes must be neighbours."""
    x, y = node.inputs[0], node.outputs[0]
    axes = [k for k in Reduce().axes(node, [v.spec for v in node.inputs]) if x.shape[k] != 1]
    module = ctx.kernels.module("reduce_int")
    first, behind = (axes[0], axes[-1] + 1) if axes else (0, 0)
    if node.params.mode not in module.MODES or behind - first != len(axes) or not y.spec.size:
        return False
    length, inner = math.prod(x.shape[first:behind]), math.prod(x.shape[behind:])
    ctx.emit(
        "reduce_int",
        node,
        x=ctx.plain(x).ref,
        y=ctx.new_plain(y).ref,
        mode=node.params.mode,
        **_integers(x),
        length=length,
        inner=inner,
        zero=x.dtype.zero_point if y.dtype != x.dtype else 0,  # sums of quantized numbers
        y_size=y.dtype.itemsize,
        divisor=length if node.params.mode == ReduceMode.MEAN else 1,
        work=math.prod(x.shape[:first]) * -(-inner // module.COLUMNS),
        scratch=module.scratch_bytes(),
    )
    return None


def _integers(x: Var) -> dict[str, int]:
    return {"size": x.dtype.itemsize, "is_signed": int(x.dtype.storage.kind == "i")}


def lower_integer_arg_reduce(ctx: Lowering, node: Node) -> bool | None:
    if not node.outputs[0].spec.size:
        return False
    module = ctx.kernels.module("reduce_int")
    own = _integers(node.inputs[0]) | {"scratch": module.scratch_bytes()}
    _emit_arg_reduce(ctx, node, "arg_reduce_int", module.COLUMNS, own)
    return None


def lower_arg_reduce(ctx: Lowering, node: Node) -> None:
    x = node.inputs[0]
    chunk = min(math.prod(x.shape[node.params.axis % len(x.shape) + 1 :]), ctx.width)
    _emit_arg_reduce(ctx, node, "arg_reduce_f32", chunk, {"chunk": chunk})


def _emit_arg_reduce(ctx: Lowering, node: Node, kernel: str, columns: int, own: Mapping[str, int]) -> None:
    """Emits a kernel whose work items have so many results side by side; ``own`` has the arguments that others lack."""
    x, y = node.inputs[0], node.outputs[0]
    axis = node.params.axis % len(x.shape)
    inner = math.prod(x.shape[axis + 1 :])
    ctx.emit(
        kernel,
        node,
        x=ctx.plain(x).ref,
        y=ctx.new_plain(y).ref,
        largest=node.op == "Argmax",
        length=x.shape[axis],
        inner=inner,
        work=math.prod(x.shape[:axis]) * -(-inner // columns),
        **own,
    )


def lower_cumsum(ctx: Lowering, node: Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    shape = x.shape if node.params.axis != INT_MAX else (x.spec.size,)
    axis = node.params.axis % len(shape) if node.params.axis != INT_MAX else 0
    inner = math.prod(shape[axis + 1 :])
    kernel, own, columns = "cumsum_int", {"size": x.dtype.itemsize}, inner
    if x.dtype.is_float:
        kernel, own, columns = "cumsum_f32", {}, -(-inner // ctx.kernels.module("reduce").SUMS)
    ctx.emit(
        kernel,
        node,
        x=ctx.plain(x).ref,
        y=ctx.new_plain(y).ref,
        **own,
        length=shape[axis],
        inner=inner,
        exclusive=node.params.exclusive,
        reverse=node.params.reverse,
        work=math.prod(shape[:axis]) * columns,
    )
