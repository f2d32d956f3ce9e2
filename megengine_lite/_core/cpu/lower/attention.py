"""Attention in float32: matrix products, one pass over the scores, softmax."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from megengine_lite._core.cpu.lower.elemwise import emit_chain, has_modes, plain_strides
from megengine_lite._core.cpu.lower.matmul import Batch, Operand, emit_matmul
from megengine_lite._core.cpu.lower.softmax import emit_softmax
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref
from megengine_lite._core.ir.graph import Constant, Node, Var
from megengine_lite._core.ir.image_layouts import dense_strides
from megengine_lite._core.ir.params import AttnMaskType, ElemwiseMode
from megengine_lite._core.operators.attention import weight_shapes
from megengine_lite._records import record
from megengine_lite.kernels.common.tiling import ITEM


@record(frozen=True, slots=True)
class _Heads:
    """Projected rows [B, L, row] of which head h has the ``size`` columns from ``h * step`` on."""

    ref: Ref
    length: int
    row: int
    size: int
    step: int


class _Attention:
    """The projections of a node."""

    def __init__(self, ctx: Lowering, node: Node):
        self.ctx = ctx
        self.node = node
        self.heads = node.params.num_heads
        self.batch = node.inputs[0].shape[0]
        flat = node.inputs[3].const
        assert flat is not None
        self.weights: dict[str, Constant] = {}
        position = 0
        for name, shape in weight_shapes(node).items():
            size = math.prod(shape)
            recipe = ("attention", position, shape)

            def part(array: np.ndarray, first: int = position, shape: tuple[int, ...] = shape) -> np.ndarray:
                return array.reshape(-1)[first : first + math.prod(shape)].reshape(shape)

            self.weights[name] = ctx.pool.derive(recipe, [flat], part)
            position += size

    def project(self, x: Ref, rows: int, name: str, out: Ref) -> None:
        """``out = x w + b`` for rows of the projection's input."""
        weight = self.weights[name]
        k, n = weight.array.shape
        b = Operand(self.ctx.constant(weight), n)
        emit_matmul(
            self.ctx, self.node, rows, n, k, Operand(x, k), b, Operand(out, n), weight=weight,
            bias=self.weights.get("b" + name),
        )  # fmt: skip

    def heads_of(self, v: Var, name: str) -> _Heads:
        """Without a projection every head sees the whole."""
        _, length, size = v.shape
        x = self.ctx.plain(v).ref
        if name not in self.weights:
            return _Heads(x, length, size, size, 0)
        projected = self.weights[name].array.shape[1]
        rows = self.batch * length
        out = self.ctx.temp(rows * projected * ITEM)
        self.project(x, rows, name, out)
        return _Heads(out, length, projected, projected // self.heads, projected // self.heads)

    def scaled(self, shape: tuple[int, ...]) -> _ScoreChain:
        """Scores times a number, and the mask."""
        ctx, node = self.ctx, self.node
        scale = np.array([node.params.sm_scaler], np.float32)
        steps: list[tuple[int, tuple[int, ...]]] = [(ElemwiseMode.MUL, (0, 1))]
        shapes: list[tuple[int, ...]] = [(1,)]
        refs = [ctx.constant(Constant(scale, ("number", scale.tobytes())))]
        if len(node.inputs) > 4 and node.params.attn_mask_type != AttnMaskType.NO_MASK:
            steps = [(ElemwiseMode.FUSE_MUL_ADD3, (0, 1, 2))]
            shapes.append(node.inputs[4].shape)
            refs.append(ctx.plain(node.inputs[4]).ref)
        return _ScoreChain(shape, steps, shapes, refs)

    def operand(self, h: _Heads) -> Operand:
        return Operand(h.ref, h.row, 1, h.length * h.row, h.step)


@record(frozen=True, slots=True)
class _Sizes:
    """Products in a batch, of which ``heads`` follow each other; rows of queries and keys, columns of both products."""

    count: int
    heads: int
    queries: int
    keys: int
    width: int
    size: int


@record(frozen=True, slots=True)
class _ScoreChain:
    """Functions of the scores, which have a shape of their own, with other operands."""

    shape: tuple[int, ...]
    steps: list[tuple[int, tuple[int, ...]]]
    shapes: list[tuple[int, ...]]
    refs: list[Ref]
    nan_is_zero: bool = False  # for the results of softmax


# 0 for NaN, which is not smaller than itself.
_WITHOUT_NAN = [(int(ElemwiseMode.COND_LEQ_MOV), (0, 0, 0))]


def _emit(
    ctx: Lowering, node: Node, sizes: _Sizes, q: Operand, k: Operand, v: Operand, out: Operand, chain: _ScoreChain,
    shares: Ref | None = None,
) -> None:  # fmt: skip
    """Products of queries and keys, functions of them, softmax, and the products of that with values.

    ``shares`` is where the results of softmax go, if somebody reads them.
    """
    n, m, heads = sizes.queries, sizes.keys, sizes.heads
    batch = Batch(sizes.count, heads)
    nbytes = sizes.count * n * m * ITEM
    scores = ctx.temp(nbytes)
    to = Operand(scores, m, 1, heads * n * m, n * m)
    emit_matmul(ctx, node, n, m, sizes.width, q, k.transposed, to, batch=batch, rows_are_samples=False, rounds=True)
    if chain.steps:
        shape = chain.shape
        strides = [plain_strides(s, len(shape)) for s in (shape, *chain.shapes)]
        emit_chain(ctx, node, chain.steps, shape, strides, [scores, *chain.refs], strides[0], scores)
    shares = shares or ctx.temp(nbytes)
    emit_softmax(ctx, node, scores, shares, (sizes.count, n, m), 2)
    if chain.nan_is_zero:
        whole = (sizes.count * n * m,)
        emit_chain(ctx, node, _WITHOUT_NAN, whole, [plain_strides(whole, 1)], [shares], plain_strides(whole, 1), shares)
    weights = Operand(shares, m, 1, heads * n * m, n * m)
    emit_matmul(ctx, node, n, sizes.size, m, weights, v, out, batch=batch, rows_are_samples=False, rounds=True)


def lower_fused_attention(ctx: Lowering, node: Node) -> bool | None:
    p, y = node.params, node.outputs[0]
    steps = [(step.mode, step.args) for step in p.scores.steps]
    if not has_modes(ctx, steps):
        return False
    q, k, v = (
        _operand(ctx.plain(x).ref, x.shape, order, p.heads)
        for x, order in zip(node.inputs, (p.q_order, p.k_order, p.v_order), strict=False)
    )
    (*_, queries, width), (*_, keys, _), (*_, size) = (
        [x.shape[a] for a in order] for x, order in zip(node.inputs, (p.q_order, p.k_order, p.v_order), strict=False)
    )
    count = node.inputs[0].spec.size // (queries * width)
    others = node.inputs[3:]
    chain = _ScoreChain(
        p.scores_shape, steps, [x.shape for x in others], [ctx.plain(x).ref for x in others], p.nan_is_zero
    )
    out = _operand(ctx.new_plain(y).ref, y.shape, p.out_order, p.heads)
    _emit(ctx, node, _Sizes(count, p.heads, queries, keys, width, size), q, k, v, out, chain)
    return None


def _operand(ref: Ref, shape: Sequence[int], order: Sequence[int], heads: int) -> Operand:
    """Matrices of heads in dense memory, whose axes lie there in an order."""
    strides = dense_strides(shape)
    *outer, row, column = (strides[k] for k in order)
    if len(outer) == 1:
        outer = [heads * outer[0], outer[0]]
    return Operand(ref, row, column, *outer)


def lower_attention(ctx: Lowering, node: Node) -> bool | None:
    if node.inputs[3].const is None:
        return False
    attention = _Attention(ctx, node)
    q, k, v = (attention.heads_of(x, name) for x, name in zip(node.inputs[:3], "qkv", strict=True))
    result, shares, *reserve = node.outputs
    heads, row = attention.heads, attention.heads * v.size
    out = ctx.new_plain(result).ref
    merged = ctx.temp(attention.batch * q.length * row * ITEM) if "o" in attention.weights else out
    sizes = _Sizes(attention.batch * heads, heads, q.length, k.length, q.size, v.size)
    to = Operand(merged, row, 1, q.length * row, v.size)
    q_heads, k_heads, v_heads = (attention.operand(h) for h in (q, k, v))
    chain = attention.scaled(shares.shape)
    _emit(ctx, node, sizes, q_heads, k_heads, v_heads, to, chain, ctx.new_plain(shares).ref)
    if "o" in attention.weights:
        attention.project(merged, attention.batch * q.length, "o", out)
    for nothing in reserve:
        ctx.new_plain(nothing)
    return None
