"""Finds activations that programs write in pieces, such as ``x * sigmoid(x)``, so that they can be fused.

A chain of functions is recognised by what it computes of some hundred numbers, so it does not matter how it is written:
with a division or a multiplication, in which order, by which function.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from megengine_lite._core.compile.passes.fuse_elemwise import function_of_one, is_chainable, merge_chain
from megengine_lite._core.compile.rewriter import Rewriter
from megengine_lite._core.ir.fused import ElemwiseProgram, ElemwiseStep, FunctionOfOne
from megengine_lite._core.ir.graph import Graph, Node, Var
from megengine_lite._core.ir.params import Elemwise, ElemwiseMode
from megengine_lite._core.operators.fused import value_of

MAX_PIECES = 10
_ACTIVATIONS = (ElemwiseMode.SILU, ElemwiseMode.GELU, ElemwiseMode.GELU_TANH, ElemwiseMode.H_SWISH)
_LAST = (ElemwiseMode.MUL, ElemwiseMode.TRUE_DIV)  # what all of them end with
_FAR = np.array([1e-30, 1e-6, 15, 30, 60, 100, 1e4, 1e20, np.inf], np.float32)
_POINTS = np.concatenate((np.linspace(-12, 12, 481, dtype=np.float32), _FAR, -_FAR, np.full(1, np.nan, np.float32)))
# Of the larger one of 1 and the number: some roundings, where halves of the result may cancel.
_TOLERANCE = 6e-7


def run(graph: Graph) -> None:
    rewriter = Rewriter(graph)
    for node in rewriter:
        if node.op == "Elemwise" and node.params.mode in _LAST and is_chainable(node):
            found = _activation(node, rewriter)
            if found is not None:
                x, mode = found
                rewriter.replace([node], [Node("Elemwise", Elemwise(mode=mode), [x], node.outputs, node.name)])
    rewriter.finish()
    graph.remove_dead()


def _activation(last: Node, rewriter: Rewriter) -> tuple[Var, ElemwiseMode] | None:
    """The activation that ends in a node, and its operand; None if there is none."""
    pieces = [last]
    while len(pieces) < MAX_PIECES:
        inside = {v for node in pieces for v in node.outputs}
        before = []
        for v in {v for node in pieces for v in node.inputs} - inside:
            node = None if v.shape != last.outputs[0].shape else rewriter.producer(v)
            if node is not None and is_chainable(node) and all(r in pieces for r in rewriter.readers(v)):
                before.append(node)
        if not before:
            return None
        pieces.insert(0, max(before, key=rewriter.position))
        function = function_of_one(merge_chain(pieces))
        if function is not None and (mode := named(function[1])) is not None:
            return function[0], mode
    return None


@lru_cache(maxsize=256)
def named(function: FunctionOfOne) -> ElemwiseMode | None:
    """The activation that a function is; None if it is another function."""
    with np.errstate(all="ignore"):
        results = value_of(function, _POINTS)
        for mode in _ACTIVATIONS:
            single = FunctionOfOne(ElemwiseProgram((ElemwiseStep(int(mode), (0,)),)), ())
            if _are_alike(results, value_of(single, _POINTS)):
                return mode
    return None


def _are_alike(a: np.ndarray, b: np.ndarray) -> bool:
    near = np.abs(a - b) <= _TOLERANCE * np.maximum(np.abs(_POINTS), 1)
    return bool(np.all(near | (a == b) | (np.isnan(a) & np.isnan(b))))
