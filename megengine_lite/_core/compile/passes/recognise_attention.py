"""Finds attention in pieces: products of queries and keys, functions of the scores, softmax, products with values.

::

    q ─► transposed ─┐
    k ─► transposed ─┴► product ─► scale, mask ─► softmax ─┐
    v ─► transposed ───────────────────────────────────────┴► product ─► transposed

It becomes one node, which reads and writes heads where they lie, so that nothing is transposed. Factors in front of a
product move in front of the transposition, and masks of truth values become functions of the scores.
"""

from __future__ import annotations

import numpy as np

from megengine_lite._core.compile.passes.fuse_elemwise import MAX_CHAIN_INPUTS, MAX_CHAIN_STEPS, is_chainable
from megengine_lite._core.compile.rewriter import Rewriter
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.fused import ElemwiseProgram, ElemwiseStep, FusedAttention
from megengine_lite._core.ir.graph import Graph, Node, TensorSpec, Var
from megengine_lite._core.ir.params import DTypeTable, ElemwiseMode, ElemwiseMultiTypeMode
from megengine_lite._core.ir.shape_constant import value_constant
from megengine_lite._core.operators.registry import REGISTRY
from megengine_lite._records import field, record

_M = ElemwiseMode


def run(graph: Graph) -> None:
    rewriter = Rewriter(graph)
    for node in rewriter:
        if node.op == "Softmax":
            _fuse(node, rewriter)
    rewriter.finish()
    graph.remove_dead()


def _fuse(softmax: Node, rewriter: Rewriter) -> None:
    scores, shares = softmax.inputs[0], softmax.outputs[0]
    if scores.dtype != FLOAT32 or softmax.params.axis not in (-1, len(scores.shape) - 1):
        return
    guarded = _without_nan(shares, rewriter)
    shares = guarded or shares
    second = _reader(shares, rewriter)
    if second is None or second.op != "BatchedMatrixMul" or _behind_reshape(second.inputs[0], rewriter) is not shares:
        return
    found = _product_before(scores, scores.shape, rewriter)
    if found is None or any(_is_odd(product) for product in (found[0], second)) or second.params.transposeA:
        return
    first, product, pieces = found
    q, k, v = first.inputs[0], first.inputs[1], second.inputs[1]
    heads = [_StoredHeads.of(x, rewriter) for x in (q, k, v)]
    if not first.params.transposeB:
        heads[1].turn()
    if second.params.transposeB:
        heads[2].turn()
    counts = {h.var.shape[h.order[1]] for h in heads if len(h.order) == 4}
    if first.params.transposeA or len(counts) > 1:
        return
    count = counts.pop() if counts else 1
    before = [node for h in heads for node in h.scaled()]
    chain = _Scores(product)
    for piece in pieces:
        chain.add(piece)
    if len(chain.steps) > MAX_CHAIN_STEPS or len(chain.operands) >= MAX_CHAIN_INPUTS:
        return
    last, order = _end(second, count, rewriter)
    q_order, k_order, v_order = (h.order for h in heads)
    parameters = FusedAttention(
        count, q_order, k_order, v_order, order, chain.program(), tuple(scores.shape), guarded is not None
    )
    inputs = [*(h.var for h in heads), *chain.operands]
    fused = Node("FusedAttention", parameters, inputs, last.outputs, softmax.name)
    rewriter.replace([last], [*before, *chain.before, fused])


def _without_nan(shares: Var, rewriter: Rewriter) -> Var | None:
    """Shares with 0 in rows that are masked as a whole, which are NaN; None if they are read as they are."""
    readers = rewriter.readers(shares)
    chosen = next((n for n in readers if isinstance(n, Node) and n.op == "Where"), None)
    if chosen is None or not rewriter.only_read_by(shares, readers) or len(readers) != 2:
        return None
    condition, zero, otherwise = chosen.inputs
    test = rewriter.producer(condition)
    is_test = test in readers and test is not None and test.op == "ElemwiseMultiType"
    if not is_test or test is None or test.params.mode != ElemwiseMultiTypeMode.ISNAN or otherwise is not shares:
        return None
    is_zero = zero.const is not None and not zero.const.array.any() and chosen.outputs[0].shape == shares.shape
    return chosen.outputs[0] if is_zero and rewriter.only_reader(condition) is chosen else None


def _is_odd(product: Node) -> bool:
    """Whether a product is none of batches of float32 matrices."""
    x, y = product.inputs
    return x.dtype != FLOAT32 or y.dtype != FLOAT32 or len(y.shape) != 3 or 0 in (*x.shape, *y.shape)


def _keeps_order(node: Node | None) -> bool:
    return node is not None and REGISTRY[node.op].keeps_order


def _behind_reshape(v: Var, rewriter: Rewriter) -> Var:
    """What a variable is in another shape, if it is."""
    while (node := rewriter.producer(v)) is not None and _keeps_order(node):
        v = node.inputs[0]
    return v


def _reader(v: Var, rewriter: Rewriter) -> Node | None:
    """The only node that reads a variable, also in another shape."""
    reader = rewriter.only_reader(v)
    while reader is not None and _keeps_order(reader):
        reader = rewriter.only_reader(reader.outputs[0])
    return reader


def _product_before(v: Var, shape: tuple[int, ...], rewriter: Rewriter) -> tuple[Node, Var, list[Node]] | None:
    """The product that scores are made of, it in their shape, and the functions in between; None if there is none."""
    if v.shape != shape or rewriter.only_reader(v) is None:
        return None
    node = rewriter.producer(v)
    if node is None:
        return None
    source = _behind_reshape(v, rewriter)
    product = rewriter.producer(source)
    if product is not None and product.op == "BatchedMatrixMul" and _reader(source, rewriter) is not None:
        return product, v, []
    operands = node.inputs[1:] if node.op == "Where" else node.inputs if is_chainable(node) else ()
    if any(x.dtype != FLOAT32 or np.broadcast_shapes(x.shape, shape) != shape for x in operands):
        return None
    for x in operands:
        found = _product_before(x, shape, rewriter)
        if found is not None:
            return found[0], found[1], [*found[2], node]
    return None


@record(slots=True)
class _StoredHeads:
    """An operand of a product, ``[B, H, rows, columns]`` or ``[B H, rows, columns]``, where it lies in memory.

    Axis k of it is axis ``order[k]`` of the variable. ``factors`` are multiplications that are still to be done.
    """

    var: Var
    order: tuple[int, ...]
    factors: list[Node] = field(default_factory=list)

    @classmethod
    def of(cls, v: Var, rewriter: Rewriter) -> _StoredHeads:
        source = rewriter.producer(v)
        whole = source.inputs[0] if source is not None and _keeps_order(source) else v
        if len(whole.shape) != 4 or whole.shape[2:] != v.shape[1:]:
            return cls(v, (0, 1, 2))
        found = cls(whole, (0, 1, 2, 3))
        order = found.order
        factors: list[Node] = []
        while (node := rewriter.producer(whole)) is not None:
            if node.op == "Dimshuffle" and sorted(node.params.pattern) == [0, 1, 2, 3]:
                order = tuple(node.params.pattern[k] for k in order)
                whole = node.inputs[0]
                found = cls(whole, order, list(factors))
            elif _factor(node) is not None and rewriter.only_reader(whole) is not None:
                factors.append(node)
                whole = node.inputs[1 - (_factor(node) or 0)]
            else:
                break
        return found

    def turn(self) -> None:
        """Exchanges rows and columns."""
        self.order = (*self.order[:-2], self.order[-1], self.order[-2])

    def scaled(self) -> list[Node]:
        """Nodes that do the multiplications where the variable lies; it becomes their result."""
        nodes = []
        for factor in reversed(self.factors):
            result = Var(factor.outputs[0].id, "", TensorSpec(self.var.shape, FLOAT32))
            inputs = [self.var if v.spec.size > 1 else v for v in factor.inputs]
            nodes.append(Node("Elemwise", factor.params, inputs, [result], factor.name))
            self.var = result
        self.factors = []
        return nodes


def _factor(node: Node) -> int | None:
    """Which operand is the number in a multiplication by one, or division; None for anything else."""
    if not is_chainable(node) or node.params.mode not in (_M.MUL, _M.TRUE_DIV) or node.outputs[0].spec.size < 2:
        return None
    places = [k for k, v in enumerate(node.inputs) if v.const is not None and v.spec.size == 1]
    return places[0] if len(places) == 1 and (node.params.mode == _M.MUL or places[0] == 1) else None


class _Scores:
    """Functions of scores as a chain whose first operand is a product."""

    def __init__(self, product: Var):
        self._product = product
        self.operands: list[Var] = []
        self.before: list[Node] = []  # what makes operands
        self.steps: list[tuple[ElemwiseMode, list[Var], Var]] = []

    def add(self, node: Node) -> None:
        if node.op == "Where":
            condition, x, y = node.inputs
            self._choose(condition, x, y, node.outputs[0])
        else:
            self._step(ElemwiseMode(node.params.mode), list(node.inputs), node.outputs[0])

    def _choose(self, condition: Var, x: Var, y: Var, result: Var) -> None:
        """x where a condition is 1, y where it is 0: the sum of one of them and 0."""
        mask = Var(result.id, "", TensorSpec(condition.shape, FLOAT32))
        self.before.append(Node("TypeCvt", DTypeTable(dtype=FLOAT32), [condition], [mask]))
        constant = value_constant(np.zeros(1, np.float32))
        zero = Var(result.id, "", TensorSpec((1,), FLOAT32, constant.array), constant)
        kept, other = (Var(result.id, "", result.spec) for _ in range(2))
        self._step(_M.COND_LT_MOV, [zero, mask, x], kept)
        self._step(_M.COND_LEQ_MOV, [mask, zero, y], other)
        self._step(_M.ADD, [kept, other], result)

    def _step(self, mode: ElemwiseMode, inputs: list[Var], result: Var) -> None:
        known = {self._product, *self.operands, *(r for *_, r in self.steps)}
        self.operands += dict.fromkeys(v for v in inputs if v not in known)
        self.steps.append((mode, inputs, result))

    def program(self) -> ElemwiseProgram:
        variables = [self._product, *self.operands, *(result for *_, result in self.steps)]
        register = {v: k for k, v in enumerate(variables)}
        return ElemwiseProgram(
            tuple(ElemwiseStep(int(mode), tuple(register[v] for v in inputs)) for mode, inputs, _ in self.steps)
        )


def _end(second: Node, count: int, rewriter: Rewriter) -> tuple[Node, tuple[int, ...]]:
    """The node whose result is that of attention, and where the axes of it lie: behind a transposition of heads."""
    reshape = rewriter.only_reader(second.outputs[0])
    if reshape is None or not _keeps_order(reshape):
        return second, (0, 1, 2)
    y = reshape.outputs[0]
    if len(y.shape) != 4 or y.shape[2:] != second.outputs[0].shape[1:] or y.shape[1] != count:
        return second, (0, 1, 2)
    swap = rewriter.only_reader(y)
    if swap is not None and swap.op == "Dimshuffle" and tuple(swap.params.pattern) == (0, 2, 1, 3):
        return swap, (0, 2, 1, 3)
    return second, (0, 1, 2)
