"""Attention and rotary embeddings, by the products and the softmax that they are made of."""

from __future__ import annotations

import math

import numpy as np

from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import Value
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.formats.onnx.operators.activations import choose
from megengine_lite._core.formats.onnx.operators.matrices import multiplied
from megengine_lite._core.formats.onnx.operators.table import Call, NotConverted, converts
from megengine_lite._core.ir import params
from megengine_lite._core.ir.onnx_params import OnnxReduce, TargetShape, Triangle
from megengine_lite._core.ir.onnx_reduction import OnnxReduction
from megengine_lite._core.ir.params import ElemwiseMode, ElemwiseMultiTypeMode

_M = ElemwiseMode


def to_shape(b: GraphBuilder, x: Value, *parts: Value | int) -> Value:
    """The value in a shape given by numbers and vectors of one number; one may be -1, and 0 stands for the same."""
    numbers = [b.constant(np.array([p])) if isinstance(p, int) else p for p in parts]
    (target,) = b.nodes_of("TargetShape", TargetShape(), [x.var, b.joined(numbers, 0).var])
    return b.reshaped(x, target, len(parts))


def heads(b: GraphBuilder, x: Value, count: int) -> Value:
    """Rows of all heads side by side, as a head for each."""
    return b.transposed(to_shape(b, x, 0, 0, count, -1), (0, 2, 1, 3))


def _repeated(b: GraphBuilder, x: Value, like: Value) -> Value:
    """Repeats each head of x until there are as many as in another value."""
    own, wanted = b.dimension(x, 1), b.dimension(like, 1)
    times = b.elemwise(_M.FLOOR_DIV, wanted, own)
    wide = b.with_axes(x, [2])
    shape = b.joined([b.dimension(x, 0), own, times, b.dimension(x, 2), b.dimension(x, 3)], 0)
    return to_shape(b, b.broadcast(wide, shape.var, 5), 0, wanted, b.dimension(x, 2), b.dimension(x, 3))


@converts("Attention", since=23)
def _attention(call: Call) -> list[Value | None]:
    b = call.builder
    q, k, v = (call.input(n) for n in range(3))
    mask, past_key, past_value, lengths = (call.optional(n) for n in range(3, 7))
    flat = q.rank == 3
    call.know("q_num_heads", "kv_num_heads")
    if flat:
        q_heads, kv_heads = call.positive("q_num_heads"), call.positive("kv_num_heads")
        q, k, v = heads(b, q, q_heads), heads(b, k, kv_heads), heads(b, v, kv_heads)
    past: Value | None = None
    if past_key is not None and past_value is not None:
        past = b.dimension(past_key, 2)
        k, v = b.joined([past_key, k], 2), b.joined([past_value, v], 2)
    present = k, v
    sign = 1.0
    if "scale" in call.attributes:
        scale = call.real("scale")
        sign = math.copysign(1.0, scale)
        root = b.number(abs(scale) ** 0.5, q)
    else:
        width = b.retyped(b.dimension(q, 3), ElementType.FLOAT)
        root = b.retyped(b.elemwise(_M.POW, width, b.constant(np.float32(-0.25))).with_rank(1), q.kind)
    k_all, v_all = _repeated(b, k, q), _repeated(b, v, q)
    q_root = root if sign > 0 else b.elemwise(_M.NEGATE, root)
    scores = multiplied(b, b.elemwise(_M.MUL, q, q_root), b.elemwise(_M.MUL, b.transposed(k_all, (0, 1, 3, 2)), root))
    products = scores
    bias, allowed = _bias(call, q, k, mask, past, lengths)
    cap = call.real("softcap", 0.0)
    order = call.integer("qk_matmul_output_mode", 0)
    if cap > 0:
        limit = b.number(cap, scores)
        scores = b.elemwise(_M.MUL, b.elemwise(_M.TANH, b.elemwise(_M.TRUE_DIV, scores, limit)), limit)
    capped = scores
    if bias is not None:
        scores = b.elemwise(_M.ADD, scores, bias)
    masked = scores
    kind = ElementType(call.integer("softmax_precision", int(ElementType.FLOAT)))
    kind = ElementType.FLOAT if kind == ElementType.DOUBLE else kind
    weights = b.retyped(scores, kind)
    weights = b.node("Softmax", params.Softmax(axis=3), [b.exact(weights)], kind, 4)
    weights = b.retyped(weights, q.kind)
    if allowed is not None:
        largest = OnnxReduce(OnnxReduction.MAX, (allowed.rank - 1,))
        best = b.node("OnnxReduce", largest, [b.exact(allowed)], allowed.kind, allowed.rank)
        none = b.compare(ElemwiseMultiTypeMode.EQ, best, _infinity(b, allowed))
        weights = choose(b, none, b.number(0, weights), weights)
    shown = {0: products, 1: capped, 2: masked, 3: weights}
    if order not in shown:
        raise NotConverted(f"qk_matmul_output_mode {order} is not known")
    result = multiplied(b, weights, v_all)
    if flat:
        result = to_shape(b, b.transposed(result, (0, 2, 1, 3)), 0, 0, -1)
    return [result, *present, shown[order]]


def _bias(
    call: Call, q: Value, k: Value, mask: Value | None, past: Value | None, lengths: Value | None
) -> tuple[Value | None, Value | None]:
    """What is added to the scores, twice: None if nothing is."""
    b, low = call.builder, _infinity(call.builder, q)
    zero = b.number(0, q)
    bias: Value | None = None
    if mask is not None:
        bias = choose(b, mask, zero, low) if mask.kind == ElementType.BOOL else mask
        missing = b.elemwise(_M.SUB, b.dimension(k, 2), b.dimension(bias, bias.rank - 1))
        fill = b.joined([b.dimension(bias, n) for n in range(bias.rank - 1)] + [missing], 0)
        bias = b.joined([bias, b.broadcast(low, fill.var, bias.rank)], bias.rank - 1)
    if call.integer("is_causal", 0):
        triangle = _triangle(b, q, k, past)
        if lengths is not None:
            triangle = _ragged_triangle(b, q, k, lengths)
        causal = choose(b, triangle, zero, low)
        bias = causal if bias is None else b.elemwise(_M.ADD, bias, causal)
    for near in _window(call, q, k, past, lengths):
        near = choose(b, near, zero, low)
        bias = near if bias is None else b.elemwise(_M.ADD, bias, near)
    if lengths is not None:
        places = positions(b, b.dimension(k, 2))
        inside = b.compare(
            ElemwiseMultiTypeMode.LT, places, to_shape(b, b.retyped(lengths, ElementType.INT64), -1, 1, 1, 1)
        )
        padding = choose(b, inside, zero, low)
        bias = padding if bias is None else b.elemwise(_M.ADD, bias, padding)
    return bias, bias


def _window(call: Call, q: Value, k: Value, past: Value | None, lengths: Value | None) -> list[Value]:
    """Which keys each query may see for their distance, before and behind it."""
    b = call.builder
    sizes = [call.integer(f"{side}_window_size", -1) for side in ("left", "right")]
    if min(sizes) < -1:
        raise NotConverted(f"windows of {min(sizes)} keys are not defined")
    if max(sizes) < 0:
        return []
    distance = _distances(b, q, k, past if lengths is None or past is not None else _begins(b, q, lengths))
    distances = distance, b.elemwise(_M.NEGATE, distance)
    return [
        b.compare(ElemwiseMultiTypeMode.LEQ, d, b.constant(np.array([size])))
        for d, size in zip(distances, sizes, strict=True)
        if size >= 0
    ]


def _triangle(b: GraphBuilder, q: Value, k: Value, past: Value | None) -> Value:
    """Which keys each query may see: those before it, of which so many are from earlier calls."""
    shape = b.joined([b.dimension(q, 2), b.dimension(k, 2)], 0)
    ones = b.broadcast(b.constant(np.array(True)), shape.var, 2)
    begin = past if past is not None else b.constant(np.array([0]))
    return b.moved("Triangle", Triangle(False), ones, begin.var)


def attended(
    b: GraphBuilder,
    q: Value,
    k: Value,
    v: Value,
    scale: float | None,
    bias: Value | None,
    causal: bool,
    past: Value | None,
) -> Value:
    """Attention of queries to keys, each ``(n, heads, length, width)``.

    Parameters
    ----------
    scale
        Of the products; None for one over the root of the width.
    bias
        What is added to the scores.
    causal, past
        Each query sees only the keys before it; how many are from earlier calls.
    """
    if scale is None:
        width = b.retyped(b.dimension(q, 3), ElementType.FLOAT)
        factor = b.retyped(b.elemwise(_M.POW, width, b.constant(np.float32(-0.5))), q.kind)
    else:
        factor = b.number(scale, q)
    scores = multiplied(b, b.elemwise(_M.MUL, q, factor), b.transposed(k, (0, 1, 3, 2)))
    if bias is not None:
        scores = b.elemwise(_M.ADD, scores, bias)
    if causal:
        seen = choose(b, _triangle(b, q, k, past), b.number(0, scores), _infinity(b, scores))
        scores = b.elemwise(_M.ADD, scores, seen)
    weights = b.node("Softmax", params.Softmax(axis=3), [b.exact(scores)], scores.kind, 4)
    return multiplied(b, weights, v)


def positions(b: GraphBuilder, count: Value) -> Value:
    """0, 1, 2 ... as int64."""
    zero, one = (b.exact(b.constant(np.int64(n))) for n in (0, 1))
    return b.node("Range", None, [zero, b.exact(count), one], ElementType.INT64, 1)


def _ragged_triangle(b: GraphBuilder, q: Value, k: Value, lengths: Value) -> Value:
    """Which keys each query may see, where the sequences of a batch end at different lengths."""
    return b.compare(ElemwiseMultiTypeMode.LEQ, b.constant(np.array([0])), _distances(b, q, k, _begins(b, q, lengths)))


def _begins(b: GraphBuilder, q: Value, lengths: Value) -> Value:
    """The place of the first query behind the keys of each sequence before it."""
    return b.elemwise(_M.SUB, to_shape(b, b.retyped(lengths, ElementType.INT64), -1, 1, 1, 1), b.dimension(q, 2))


def _distances(b: GraphBuilder, q: Value, k: Value, begin: Value | None) -> Value:
    """How far each key lies before each query; so many keys are before the first query."""
    rows, columns = b.with_axes(positions(b, b.dimension(q, 2)), [1]), positions(b, b.dimension(k, 2))
    return b.elemwise(_M.SUB, rows if begin is None else b.elemwise(_M.ADD, rows, begin), columns)


def _infinity(b: GraphBuilder, like: Value) -> Value:
    return b.number(float("-inf"), like)


@converts("RotaryEmbedding", since=23)
def _rotary(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    cos, sin, positions = call.input(1), call.input(2), call.optional(3)
    flat, heads = x.rank == 3, call.integer("num_heads", 0)
    if flat:
        x = to_shape(b, x, 0, 0, heads, -1)
    else:
        x = b.transposed(x, (0, 2, 1, 3))
    width = call.integer("rotary_embedding_dim", 0)
    rest = b.part(x, 3, width, None) if width else None
    turned = b.part(x, 3, 0, width) if width else x
    if positions is not None:
        item = params.IndexDescMaskItem(0, False, False, False, True)
        cos, sin = (
            b.moved("IndexingMultiAxisVec", params.IndexDescMaskDump(items=(item,)), v, positions.var, rank=3)
            for v in (cos, sin)
        )
    cos, sin = (b.with_axes(v, [2]) for v in (cos, sin))
    interleaved = bool(call.integer("interleaved", 0))
    if interleaved:
        first, second = (b.part(turned, 3, n, None, 2) for n in (0, 1))
    else:
        half = b.elemwise(_M.FLOOR_DIV, b.dimension(turned, 3), b.constant(np.array([2]))).var
        first, second = b.sliced(turned, 3, None, half, None), b.sliced(turned, 3, half, None, None)
    real = b.elemwise(_M.SUB, b.elemwise(_M.MUL, cos, first), b.elemwise(_M.MUL, sin, second))
    imaginary = b.elemwise(_M.ADD, b.elemwise(_M.MUL, sin, first), b.elemwise(_M.MUL, cos, second))
    if interleaved:
        pairs = b.joined([b.with_axes(v, [4]) for v in (real, imaginary)], 4)
        result = to_shape(b, pairs, 0, 0, 0, -1)
    else:
        result = b.joined([real, imaginary], 3)
    if rest is not None:
        result = b.joined([result, rest], 3)
    return to_shape(b, result, 0, 0, -1) if flat else b.transposed(result, (0, 2, 1, 3))
