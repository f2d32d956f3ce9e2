"""Finds softmax, and its logarithm, that programs write in pieces.

::

    x ─► largest ─► x - largest ─► exponentials ─► sum ─► exponentials / sum, or x - largest - log(sum)

The logarithm may also be written as x - (largest + log(sum)).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from megengine_lite._core.compile.rewriter import Rewriter
from megengine_lite._core.ir.fused import LogSoftmax
from megengine_lite._core.ir.graph import Graph, Node, Var
from megengine_lite._core.ir.onnx_reduction import OnnxReduction
from megengine_lite._core.ir.params import ElemwiseMode, ReduceMode, Softmax

_M = ElemwiseMode


def run(graph: Graph) -> None:
    rewriter = Rewriter(graph)
    for node in rewriter:
        found = _share(node, rewriter) or _logarithm(node, rewriter)
        if found is None:
            continue
        s, between = found
        group = [s.maximum, s.shift, s.exponential, s.total, *between, node]
        if all(rewriter.only_read_by(v, group) for n in group[:-1] for v in n.outputs):
            params = LogSoftmax(s.axis) if between else Softmax(axis=s.axis)
            rewriter.replace(group, [Node(type(params).__name__, params, [s.x], node.outputs, node.name)])
    rewriter.finish()


class _Sum(NamedTuple):
    """The sum of exponentials of x less its largest number, along an axis."""

    x: Var
    axis: int
    maximum: Node
    shift: Node
    exponential: Node
    total: Node


def _share(node: Node, rewriter: Rewriter) -> tuple[_Sum, list[Node]] | None:
    if not _is(node, _M.TRUE_DIV):
        return None
    s = _sum(rewriter.producer(node.inputs[1]), rewriter)
    return None if s is None or node.inputs[0] is not s.exponential.outputs[0] else (s, [])


def _logarithm(node: Node, rewriter: Rewriter) -> tuple[_Sum, list[Node]] | None:
    """The sum, and the nodes between it and the last one; None if the node is no logarithm of a softmax."""
    if not _is(node, _M.SUB):
        return None
    left, right = node.inputs
    last = rewriter.producer(right)
    both = last.inputs if last is not None and _is(last, _M.ADD) else [right]
    for v in both:
        log = rewriter.producer(v)
        s = None if log is None or not _is(log, _M.LOG) else _sum(rewriter.producer(log.inputs[0]), rewriter)
        if s is None or log is None or last is None or math.prod(s.x.shape[s.axis + 1 :]) != 1:
            continue
        if last is log and left is s.shift.outputs[0]:
            return s, [log]
        if last is not log and left is s.x and s.maximum.outputs[0] in last.inputs:
            return s, [log, last]
    return None


def _sum(total: Node | None, rewriter: Rewriter) -> _Sum | None:
    axis = _axis(total, ReduceMode.SUM)
    exponential = None if total is None or axis is None else rewriter.producer(total.inputs[0])
    shift = None if exponential is None or not _is(exponential, _M.EXP) else rewriter.producer(exponential.inputs[0])
    if total is None or axis is None or exponential is None or shift is None or not _is(shift, _M.SUB):
        return None
    x, largest = shift.inputs
    maximum = rewriter.producer(largest)
    if maximum is None or _axis(maximum, ReduceMode.MAX) != axis or maximum.inputs[0] is not x:
        return None
    return _Sum(x, axis, maximum, shift, exponential, total)


def _axis(node: Node | None, mode: ReduceMode) -> int | None:
    """The one axis that a node reduces in this way."""
    if node is None:
        return None
    is_so = node.op == "ReduceAxes" and node.params.mode == mode
    if node.op == "OnnxReduce" and mode == ReduceMode.MAX:
        is_so = node.params.mode == OnnxReduction.MAX and node.params.axes is not None
    return int(node.params.axes[0]) if is_so and len(node.params.axes) == 1 else None


def _is(node: Node, mode: ElemwiseMode) -> bool:
    return node.op == "Elemwise" and node.params.mode == mode
