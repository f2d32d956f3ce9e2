"""Multi-head attention in float32: matrix products, one pass over the scores, softmax."""

from __future__ import annotations

import math

import numpy as np

from megengine_lite._core.cpu.lower.elemwise import emit_chain, plain_strides
from megengine_lite._core.cpu.lower.matmul import Batch, Operand, emit_matmul
from megengine_lite._core.cpu.lower.softmax import emit_softmax
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref
from megengine_lite._core.ir.graph import Constant, Node, Var
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
    """Lowering of one node."""

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

    def operand(self, h: _Heads) -> Operand:
        return Operand(h.ref, h.row, 1, h.length * h.row, h.step)

    def scores(self, q: _Heads, k: _Heads, out: Ref) -> None:
        """Products of queries and keys, scaled, with the mask."""
        ctx, node, heads = self.ctx, self.node, self.heads
        matrix = q.length * k.length
        to = Operand(out, k.length, 1, heads * matrix, matrix)
        emit_matmul(
            ctx, node, q.length, k.length, q.size, self.operand(q), self.operand(k).transposed, to,
            batch=Batch(self.batch * heads, heads), rows_are_samples=False,
        )  # fmt: skip
        shape = (self.batch * heads, q.length, k.length)
        scale = np.array([node.params.sm_scaler], np.float32)
        steps: list[tuple[int, tuple[int, ...]]] = [(ElemwiseMode.MUL, (0, 1))]
        shapes: list[tuple[int, ...]] = [shape, (1,)]
        refs = [out, ctx.constant(Constant(scale, ("number", scale.tobytes())))]
        if len(node.inputs) > 4 and node.params.attn_mask_type != AttnMaskType.NO_MASK:
            steps = [(ElemwiseMode.FUSE_MUL_ADD3, (0, 1, 2))]
            shapes.append(node.inputs[4].shape)
            refs.append(ctx.plain(node.inputs[4]).ref)
        strides = [plain_strides(s, 3) for s in shapes]
        emit_chain(ctx, node, steps, shape, strides, refs, plain_strides(shape, 3), out)

    def mix(self, shares: Ref, q: _Heads, v: _Heads, out: Ref) -> None:
        """Values weighted by shares, heads side by side."""
        heads = self.heads
        matrix = q.length * v.length
        row = heads * v.size
        emit_matmul(
            self.ctx, self.node, q.length, v.size, v.length, Operand(shares, v.length, 1, heads * matrix, matrix),
            self.operand(v), Operand(out, row, 1, q.length * row, v.size), batch=Batch(self.batch * heads, heads),
            rows_are_samples=False,
        )  # fmt: skip


def lower_attention(ctx: Lowering, node: Node) -> bool | None:
    if node.inputs[3].const is None:
        return False
    attention = _Attention(ctx, node)
    q, k, v = (attention.heads_of(x, name) for x, name in zip(node.inputs[:3], "qkv", strict=True))
    result, shares, *reserve = node.outputs
    scores = ctx.temp(shares.spec.nbytes)
    attention.scores(q, k, scores)
    weights = ctx.new_plain(shares).ref
    emit_softmax(ctx, node, scores, weights, shares.shape, 2)
    out = ctx.new_plain(result).ref
    merged = ctx.temp(attention.batch * q.length * attention.heads * v.size * ITEM) if "o" in attention.weights else out
    attention.mix(weights, q, v, merged)
    if "o" in attention.weights:
        attention.project(merged, attention.batch * q.length, "o", out)
    for nothing in reserve:
        ctx.new_plain(nothing)
    return None
