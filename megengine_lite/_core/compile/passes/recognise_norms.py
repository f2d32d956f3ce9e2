"""Finds layer normalization in pieces, as models of ONNX before version 17 have it.

::

    x ─► mean ─► x - mean ─► square ─► mean ─► + eps ─► square root
                     └───────────────────────────────────► / ─► * weight ─► + bias

The numbers are those of one or more last axes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.compile.rewriter import Rewriter
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.graph import ConstantPool, Graph, Node, TensorSpec, Var
from megengine_lite._core.ir.params import ElemwiseMode, GeneralNorm, ReduceMode
from megengine_lite._core.ir.shape_constant import reshaped_constant

_M = ElemwiseMode


def run(graph: Graph, pool: ConstantPool) -> None:
    rewriter = Rewriter(graph)
    for node in rewriter:
        if _is(node, _M.TRUE_DIV):
            _fuse(node, rewriter, pool)
    rewriter.finish()
    graph.remove_dead()


def _is(node: Node | None, *modes: ElemwiseMode) -> bool:
    return node is not None and node.op == "Elemwise" and node.params.mode in modes


def _fuse(division: Node, rewriter: Rewriter, pool: ConstantPool) -> None:
    """Replaces a division and the two functions behind it, if it is the last step of a normalization."""
    found = _normalized(division, rewriter)
    if found is None:
        return
    x, first, eps = found
    shape = x.shape[first:]
    scale = _reader(division, _M.MUL, shape, rewriter)
    if scale is None:
        return
    shift = _reader(scale[0], _M.ADD, shape, rewriter)
    if shift is None:
        return
    weights = [_as_weight(v, shape, pool) for v in (scale[1], shift[1])]
    y = shift[0].outputs[0]
    statistics = [Var(y.id, "", TensorSpec(x.shape[:first], FLOAT32)) for _ in range(2)]
    parameters = GeneralNorm(affine=True, eps=eps, axis_start=first, axis_end=len(x.shape))
    fused = Node("GeneralNorm", parameters, [x, *weights], [y, *statistics], division.name)
    rewriter.replace([division, scale[0], shift[0]], [fused])


def _reader(node: Node, mode: ElemwiseMode, shape: Sequence[int], rewriter: Rewriter) -> tuple[Node, Var] | None:
    """The only reader of a node, a function of its result and a constant for the normalized axes; and the constant."""
    y = node.outputs[0]
    reader = rewriter.only_reader(y)
    if reader is None or not _is(reader, mode) or reader.outputs[0].shape != y.shape:
        return None
    other = reader.inputs[1] if reader.inputs[0] is y else reader.inputs[0]
    size = len(shape)
    fits = other.const is not None and other.dtype == FLOAT32 and tuple(other.shape[-size:]) == tuple(shape)
    return (reader, other) if fits and other.spec.size == int(np.prod(shape)) else None


def _as_weight(v: Var, shape: tuple[int, ...], pool: ConstantPool) -> Var:
    """A constant without axes of length 1 in front."""
    return v if v.shape == shape else reshaped_constant(v, shape, pool)


def _normalized(division: Node, rewriter: Rewriter) -> tuple[Var, int, float] | None:
    """What is normalized, the first of its normalized axes, and the number added to the variance."""
    centred, root = (rewriter.producer(v) for v in division.inputs)
    if centred is None or root is None or not _is(centred, _M.SUB) or not _is(root, _M.SQRT):
        return None
    x = centred.inputs[0]
    mean, total = rewriter.producer(centred.inputs[1]), rewriter.producer(root.inputs[0])
    if total is None or not _is(total, _M.ADD):
        return None
    eps, variances = None, []
    for v in total.inputs:
        if v.const is not None and v.spec.size == 1:
            eps = float(v.const.array.reshape(-1)[0])
        else:
            variances.append(rewriter.producer(v))
    first = _first_axis(mean, x)
    if eps is None or first is None or len(variances) != 1 or variances[0] is None:
        return None
    squares = rewriter.producer(variances[0].inputs[0])
    y = centred.outputs[0]
    is_square = _is(squares, _M.SQUARE) or (_is(squares, _M.MUL) and squares is not None and len(squares.inputs) == 2)
    if squares is None or not is_square or any(v is not y for v in squares.inputs):
        return None
    if _first_axis(variances[0], squares.outputs[0]) != first or x.dtype != FLOAT32:
        return None
    return x, first, eps


def _first_axis(mean: Node | None, x: Var) -> int | None:
    """The first of the last axes of which a node computes the mean; None if it computes something else."""
    if mean is None or mean.op != "ReduceAxes" or mean.inputs[0] is not x or mean.params.mode != ReduceMode.MEAN:
        return None
    axes, ndim = mean.params.axes, len(x.shape)
    first = ndim - len(axes)
    return first if tuple(axes) == tuple(range(first, ndim)) else None
