"""Finds out whether a model treats the samples of a batch each by itself, so that it may run on a few at a time.

Two stages of one graph are compared, which were inferred for batches of two sizes. Node by node it must follow from the
operator that the rows of a sample, which lie side by side along the first axis, are made of that sample's rows alone,
and in the same way in both stages; its class has the rule. What an operator without one does is not known, and the
answer is no.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from megengine_lite._core.compile.infer import NeedsExpansion, NeedsRounds, NeedsValue, Stage
from megengine_lite._core.ir.graph import AnyVar, ModelGraph, Node, TensorSpec, Var
from megengine_lite._core.operators.base import operator_of
from megengine_lite._core.operators.power import constant_exponent
from megengine_lite._core.operators.samples import COMMON
from megengine_lite.errors import LiteError


def are_independent(graph: ModelGraph, whole: Stage, part: Stage, count: int, size: int) -> bool:
    """Whether the rows of each output are those that ``size`` samples at a time give.

    Parameters
    ----------
    graph
        A model's.
    whole, part
        Its first stages, for inputs whose first axis has ``count`` and ``size`` samples. They must be all of it.
    """
    a, b = whole.graph, part.graph
    if not (_has_all(whole, graph) and _has_all(part, graph)) or len(a.nodes) != len(b.nodes):
        return False
    rows: dict[Var, int] = {}
    for x, y in zip(a.inputs, b.inputs, strict=True):
        if (found := _rows_of(x, y, count, size)) != 1:
            return False
        rows[x] = found
    for node, same in zip(a.nodes, b.nodes, strict=True):
        if not isinstance(node, Node) or not isinstance(same, Node) or not _is_same(node, same):
            return False
        operands = [
            rows[x] if x in rows else _rows_of_constant(x, y, count, size)
            for x, y in zip(node.inputs, same.inputs, strict=True)
        ]
        if not _is_by_samples(node, operands):
            return False
        with_samples = operator_of(node.op).sample_outputs
        for x, y in zip(node.outputs[with_samples], same.outputs[with_samples], strict=True):
            made = _rows_of(x, y, count, size)
            if made is None:
                return False
            rows[x] = made
    return all(isinstance(v, Var) and rows.get(v) == 1 for v in a.outputs)


def _has_all(stage: Stage, graph: ModelGraph) -> bool:
    """Whether no nodes come behind a stage, and all outputs are computed."""
    return stage.next_node == len(graph.nodes) and not stage.shapes


def _is_same(node: Node, other: Node) -> bool:
    """Whether two stages have the same node, which computes by the same formula in both."""
    ids = [[v.id for v in (*n.inputs, *n.outputs)] for n in (node, other)]
    is_same = ids[0] == ids[1] and (node.op, node.params) == (other.op, other.params)
    return is_same and constant_exponent(node) == constant_exponent(other)


def _rows_of(x: object, y: object, count: int, size: int) -> int | None:
    """The rows of a sample in a variable that both stages compute; None if its shapes are not those of samples."""
    if not isinstance(x, Var) or not isinstance(y, Var) or not x.shape or x.dtype is not y.dtype:
        return None
    rows, rest = divmod(x.shape[0], count)
    if rest or not rows or y.shape != (rows * size, *x.shape[1:]):
        return None
    return rows


def _rows_of_constant(x: Var, y: Var, count: int, size: int) -> int | None:
    """COMMON, or the rows of a sample if the constant has the same ones for each; None if it is another constant."""
    if x.const is None or y.const is None:
        return None
    if x.const is y.const:
        return COMMON
    a, b = x.const.array, y.const.array
    if a.shape == b.shape:
        return COMMON if a.tobytes() == b.tobytes() else None
    rows = _rows_of(x, y, count, size)
    if rows is None:
        return None
    one = b[:rows]
    same = all(part.tobytes() == one.tobytes() for whole in (a, b) for part in np.split(whole, len(whole) // rows))
    return rows if same else None


def _is_by_samples(node: Node, operands: Sequence[int | None]) -> bool:
    operator = operator_of(node.op)
    # Operands that say a shape may differ: what matters are the shapes, which are compared.
    rows = [COMMON if m is None and k in operator.shape_inputs else m for k, m in enumerate(operands)]
    known = [m for m in rows if m is not None]
    return len(known) == len(rows) and operator.keeps_samples(node, known)


# ---- how many at a time ----------------------------------------------------------------------------------------------

# A batch runs as a whole if the largest of its results take less than this many times what is near.
_MANY = 8
# Of the bytes that a part writes and reads, what reading the weights for it may take at most.
_SHARE_OF_WEIGHTS = 0.3


def samples_at_once(
    graph: ModelGraph,
    shapes: Mapping[AnyVar, tuple[int, ...]],
    near: int,
    infer: Callable[[Mapping[AnyVar, TensorSpec]], Stage],
) -> int:
    """Into how large parts a batch is best cut: so that the results of a part stay near until they are read.

    Parameters
    ----------
    graph
        A model's.
    shapes
        Those of its inputs.
    near
        Bytes; see :meth:`Device.near_bytes`.
    infer
        Gives the first stage for specs of the inputs. It is called once for small batches, and twice at most.

    Returns
    -------
    int
        The samples of a part, which divide those of the batch; 0 if it runs as a whole.
    """
    counts = {shape[0] if shape else 0 for shape in shapes.values()}
    count = counts.pop() if len(counts) == 1 else 0
    if count < 2 or sum(math.prod(s) for s in shapes.values()) == 0:
        return 0

    def stage(size: int) -> Stage:
        return infer({v: TensorSpec((size, *shapes[v][1:]), v.dtype) for v in graph.inputs})

    try:
        whole = stage(count)
        weights, made, largest = _traffic(whole)
        if largest < _MANY * near:
            return 0
        for size in (k for k in range(1, count // 2 + 1) if count % k == 0):
            if largest * size >= near * count and weights <= _SHARE_OF_WEIGHTS * 2 * made * size / count:
                # Samples that depend on each other do so in larger parts, too.
                return size if are_independent(graph, whole, stage(size), count, size) else 0
    except (NeedsValue, NeedsExpansion, NeedsRounds, LiteError):
        return 0
    return 0


def _traffic(stage: Stage) -> tuple[int, int, int]:
    """Bytes of constants, of all results, and of the operands and results of the node that has most of them."""
    nodes = stage.graph.nodes
    weights = {v: v.spec.nbytes for node in nodes for v in node.inputs if v.const is not None}
    made = largest = 0
    for node in nodes:
        results = sum(v.spec.nbytes for v in node.outputs if isinstance(v, Var))
        made += results
        largest = max(largest, results + sum(v.spec.nbytes for v in node.inputs if v.const is None))
    return sum(weights.values()), made, largest
