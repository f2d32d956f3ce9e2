"""The operators of ONNX Runtime's own domain that exporters and optimizers write."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import Value, check_kind
from megengine_lite._core.formats.onnx.messages import AttributeProto, AttributeType, ElementType
from megengine_lite._core.formats.onnx.operators.activations import gelu_by_tanh
from megengine_lite._core.formats.onnx.operators.attention import attended, heads, positions, to_shape
from megengine_lite._core.formats.onnx.operators.indexing import taken
from megengine_lite._core.formats.onnx.operators.matrices import multiplied
from megengine_lite._core.formats.onnx.operators.reductions import reduced
from megengine_lite._core.formats.onnx.operators.table import (
    MICROSOFT,
    STANDARD,
    Call,
    NotConverted,
    converts,
    find_converter,
)
from megengine_lite._core.ir.dtype import INT32
from megengine_lite._core.ir.graph import AnyVar
from megengine_lite._core.ir.params import ElemwiseMode, ElemwiseMultiTypeMode, ReduceMode

_M = ElemwiseMode
_VERSION = 17
"""The version of the standard's operators that these are made of."""


def as_standard(
    call: Call, op: str, inputs: Sequence[Value | None], *names: str, version: int = _VERSION
) -> list[Value | None]:
    """The outputs of an operator of the standard; it gets those attributes of the call that are named."""
    given = {name: call.attributes[name] for name in names if name in call.attributes}
    call.know(*names)
    convert = find_converter(STANDARD, op, version)
    if convert is None:
        raise NotConverted(f"{op} of version {version} is not read")
    made = convert(Call(op, version, inputs, given, [True], call.builder, call.constant))
    return [made] if isinstance(made, Value) else list(made)


def first_of(found: Sequence[Value | None]) -> Value:
    first = found[0]
    assert first is not None
    return first


@converts("Range", domain=MICROSOFT)
def _range(call: Call) -> list[Value | None]:
    step = call.optional(2)
    if step is None:
        step = call.builder.retyped(call.builder.constant(np.int64(1)), call.input(0).kind)
    return as_standard(call, "Range", [call.input(0), call.input(1), step])


@converts("RotaryEmbedding", domain=MICROSOFT)
def _rotary(call: Call) -> list[Value | None]:
    b, x, begin, cos, sin = call.builder, *(call.input(k) for k in range(4))
    if call.integer("is_packed_batching", 0) or call.real("scale", 1.0) != 1:
        raise NotConverted("packed batches and other scales than 1 are not computed in it")
    rows = x
    flat, counted = x.rank == 3, call.integer("num_heads", 0) > 0
    if flat and not counted:  # the width of a head is that of the tables
        if call.integer("rotary_embedding_dim", 0):
            raise NotConverted("num_heads must be given with rotary_embedding_dim")
        width = b.elemwise(_M.MUL, b.dimension(cos, 1), b.constant(np.array([2])))
        rows = b.transposed(to_shape(b, x, 0, 0, -1, width), (0, 2, 1, 3))
    where = begin
    if begin.rank == 1:  # the position of the first row of all sequences
        # Rows of a table are numbers in 32 bits, whatever the type is, and so is their sum in a file of MegEngine's.
        places = b.retyped(positions(b, b.dimension(x, 1 if flat else 2)), ElementType.INT32)
        first = Value(b.size(begin.var), ElementType.INT32, 1, INT32, begin.extent)
        where = b.with_axes(b.elemwise(_M.ADD, places, first), [0])
    names = ("interleaved", "num_heads", "rotary_embedding_dim")
    made = as_standard(call, "RotaryEmbedding", [rows, cos, sin, where], *names, version=23)
    return made if rows is x else [to_shape(b, b.transposed(first_of(made), (0, 2, 1, 3)), 0, 0, b.dimension(x, 2))]


# ---- activations -----------------------------------------------------------------------------------------------------


@converts("Gelu", "BiasGelu", domain=MICROSOFT)
def _gelu(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    return b.elemwise(_M.GELU, b.elemwise(_M.ADD, x, call.input(1)) if call.op == "BiasGelu" else x)


@converts("FastGelu", domain=MICROSOFT)
def _fast_gelu(call: Call) -> Value:
    b, x, bias = call.builder, call.input(0), call.optional(1)
    return gelu_by_tanh(b, x if bias is None else b.elemwise(_M.ADD, x, bias))


@converts("QuickGelu", domain=MICROSOFT)
def _quick_gelu(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    inner = b.elemwise(_M.MUL, x, b.number(call.real("alpha", 1.702), x))
    return b.elemwise(_M.MUL, x, b.elemwise(_M.SIGMOID, inner))


_ACTIVATIONS = {
    "Elu": ["alpha"],
    "HardSigmoid": ["alpha", "beta"],
    "LeakyRelu": ["alpha"],
    "Relu": [],
    "Selu": ["alpha", "gamma"],
    "Sigmoid": [],
    "Softplus": [],
    "Softsign": [],
    "Tanh": [],
    "ThresholdedRelu": ["alpha"],
}
"""Operators of the standard that become the activation of a product, with their attributes in order."""


def _activated(call: Call, x: Value, name: str, numbers: dict[str, AttributeProto]) -> Value:
    """The activation of a fused operator: an operator of the standard with these attributes."""
    convert = find_converter(STANDARD, name, _VERSION) if name in _ACTIVATIONS else None
    if convert is None:
        raise NotConverted(f"its activation {name!r} is not known")
    made = convert(Call(name, _VERSION, [x], numbers, [True], call.builder, call.constant))
    assert isinstance(made, Value)
    return made


# ---- products --------------------------------------------------------------------------------------------------------


@converts("FusedConv", domain=MICROSOFT)
def _fused_conv(call: Call) -> Value:
    b = call.builder
    names = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    result = first_of(as_standard(call, "Conv", [call.input(0), call.input(1), call.optional(2)], *names))
    added = call.optional(3)
    if added is not None:
        result = b.elemwise(_M.ADD, result, added)
    name, numbers = call.text("activation", ""), call.reals("activation_params") or []
    if name == "Clip" and len(numbers) == 2:  # the bounds are inputs in the standard
        least, most = (b.number(number, result) for number in numbers)
        return b.elemwise(_M.MIN, b.elemwise(_M.MAX, result, least), most)
    wanted = _ACTIVATIONS.get(name, [])
    if len(numbers) not in (0, len(wanted)):
        raise NotConverted(f"its activation {name!r} with {len(numbers)} numbers is not known")
    given = {n: AttributeProto(name=n, type=AttributeType.FLOAT, f=x) for n, x in zip(wanted, numbers, strict=False)}
    return _activated(call, result, name, given) if name else result


@converts("FusedGemm", domain=MICROSOFT)
def _fused_gemm(call: Call) -> Value:
    inputs = [call.input(0), call.input(1), call.optional(2)]
    result = first_of(as_standard(call, "Gemm", inputs, "alpha", "beta", "transA", "transB"))
    name = call.text("activation", "")
    call.know("activation_alpha", "activation_beta", "activation_gamma")
    named = {n: call.attributes.get(f"activation_{n}") for n in _ACTIVATIONS.get(name, [])}
    given = {n: attribute for n, attribute in named.items() if attribute is not None}
    return _activated(call, result, name, given) if name else result


def with_turned_matrices(b: GraphBuilder, x: Value, turn: int) -> Value:
    """A value with its last two axes exchanged, if asked for."""
    if not turn or x.rank < 2:
        return x
    return b.transposed(x, [*range(x.rank - 2), x.rank - 1, x.rank - 2])


@converts("FusedMatMul", domain=MICROSOFT)
def _fused_matmul(call: Call) -> Value:
    b, alpha = call.builder, call.real("alpha", 1.0)
    operands = []
    for k, name in enumerate("AB"):
        x = call.input(k)
        if call.integer(f"transBatch{name}", 0) and x.rank > 2:  # the rows stand before the batch
            x = b.transposed(x, [*range(1, x.rank - 1), 0, x.rank - 1])
        operands.append(with_turned_matrices(b, x, call.integer(f"trans{name}", 0)))
    result = multiplied(b, *operands)
    return result if alpha == 1 else b.elemwise(_M.MUL, result, b.number(alpha, result))


# ---- normalization ---------------------------------------------------------------------------------------------------


@converts("SimplifiedLayerNormalization")
@converts("SimplifiedLayerNormalization", domain=MICROSOFT)
def _simplified_layer_norm(call: Call) -> list[Value | None]:
    axis, eps = call.axis("axis", -1, call.input(0).rank), call.real("epsilon", 1e-5)
    return _root_mean_square(call.builder, call.input(0), call.input(1), axis, eps)


def _root_mean_square(b: GraphBuilder, x: Value, scale: Value, axis: int, eps: float) -> list[Value | None]:
    mean = mean_of_axes_from(b, b.elemwise(_M.SQUARE, x), axis)
    root = b.elemwise(_M.SQRT, b.elemwise(_M.ADD, mean, b.number(eps, mean)))
    inverse = b.elemwise(_M.TRUE_DIV, b.number(1, root), root)
    result = b.elemwise(_M.MUL, b.elemwise(_M.MUL, x, inverse), scale)
    return [result, b.retyped(inverse, ElementType.FLOAT)]


def mean_of_axes_from(b: GraphBuilder, x: Value, axis: int) -> Value:
    return reduced(b, x, list(range(axis, x.rank)), ReduceMode.MEAN)


@converts("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def _skip_layer_norm(call: Call) -> list[Value | None]:
    b, simple = call.builder, call.op == "SkipSimplifiedLayerNormalization"
    gamma, beta = call.input(2), None if simple else call.optional(3)
    bias = call.optional(3 if simple else 4)
    total = b.elemwise(_M.ADD, call.input(0), call.input(1))
    if bias is not None:
        total = b.elemwise(_M.ADD, total, bias)
    eps = call.real("epsilon", 1e-12 if not simple else 1e-5)
    if any(call.wanted[1:3]):
        raise NotConverted("mean and deviation are outputs of training only; export the model for inference")
    if simple:
        return [_root_mean_square(b, total, gamma, total.rank - 1, eps)[0], None, None, total]
    return [first_of(as_standard(call, "LayerNormalization", [total, gamma, beta], "epsilon")), None, None, total]


@converts("EmbedLayerNormalization", domain=MICROSOFT)
def _embedding(call: Call) -> list[Value | None]:
    """Sums of rows of tables: of the words, of their places, and of the segments, if there are any."""
    b, words, segments = call.builder, call.input(0), call.optional(1)
    tables = [call.input(2), call.input(3), call.optional(4)]
    gamma, beta, mask, places = call.input(5), call.input(6), call.optional(7), call.optional(8)
    if places is None:
        places = positions(b, b.dimension(words, 1))
    pairs = zip(tables, (words, places, segments), strict=True)
    total, *others = [taken(b, table, rows, 0) for table, rows in pairs if table is not None and rows is not None]
    for other in others:
        total = b.elemwise(_M.ADD, total, other)
    result = first_of(as_standard(call, "LayerNormalization", [total, gamma, beta], "epsilon"))
    if call.integer("mask_index_type", 0) > 1:
        raise NotConverted("only the lengths of sentences are made of its mask")
    counts = b.elemwise(_M.MUL, words, b.number(0, words)) if mask is None else mask
    counts = b.without_axes(reduced(b, b.retyped(counts, ElementType.INT32), [1], ReduceMode.SUM), [1])
    return [result, counts, total]


# ---- attention -------------------------------------------------------------------------------------------------------


def _inside_limits(call: Call, mask: Value, keys: Value) -> Value:
    """Which keys count by a vector: where each sample ends, and what may follow these numbers.

    In Attention that is where each begins. In both it can be where samples begin among rows that lie packed, which says
    nothing of rows that do not. Which of them it is follows from the batch, when the model runs.
    """
    b, is_multi_head = call.builder, call.op == "MultiHeadAttention"
    batch, zero, one, two = b.dimension(keys, 0), *(b.constant(np.array([n])) for n in range(3))
    length, places = b.dimension(mask, 0), positions(b, b.dimension(keys, 2))

    def is_more_than(count: Value) -> Value:  # 1 or 0
        return b.elemwise(_M.MIN, b.elemwise(_M.MAX, b.elemwise(_M.SUB, length, count), zero), one)

    twice = b.elemwise(_M.MUL, batch, two)
    follows = is_more_than(batch)
    packed = follows if is_multi_head else is_more_than(twice)
    rest = b.elemwise(_M.ADD, batch, b.elemwise(_M.MUL, follows, batch))
    wanted = b.elemwise(_M.ADD, rest, b.elemwise(_M.MUL, packed, b.elemwise(_M.ADD, batch, two)))
    numbers = to_shape(b, b.retyped(mask, ElementType.INT64), wanted)  # fails if there is no mask of this length
    ends = to_shape(b, b.sliced(numbers, 0, None, batch.var, None), -1, 1, 1, 1)
    inside = b.compare(ElemwiseMultiTypeMode.LT, places, ends)
    if is_multi_head:
        return inside
    last = b.sliced(numbers, 0, b.elemwise(_M.SUB, length, batch).var, None, None)
    begins = to_shape(b, b.elemwise(_M.MUL, last, b.elemwise(_M.SUB, follows, packed)), -1, 1, 1, 1)
    return b.elemwise(_M.AND, inside, b.compare(ElemwiseMultiTypeMode.LEQ, begins, places))


def _padding_mask(call: Call, mask: Value, keys: Value) -> Value:
    """What is added to the scores for keys that do not count: by their limits, or by zeros among ones."""
    b, low = call.builder, call.real("mask_filter_value", -10000.0)
    check_kind(mask.kind, "ib")
    if mask.rank == 1:
        counts = b.retyped(_inside_limits(call, mask, keys), keys.kind)
    elif mask.rank in (2, 3):
        counts = b.retyped(b.with_axes(mask, [1, 2] if mask.rank == 2 else [1]), keys.kind)
    else:
        raise NotConverted(f"a mask of {mask.rank} dimensions is not read")
    one = b.number(1, counts)
    return b.elemwise(_M.MUL, b.elemwise(_M.SUB, one, counts), b.number(low, counts))


def _attention_of(
    call: Call, q: Value, k: Value, v: Value, mask: Value | None, bias: Value | None, past: Value | None
) -> Value:
    """Attention of heads ``(n, heads, length, width)``, as rows of all heads side by side."""
    b = call.builder
    scale = call.real("scale", 0.0) or None
    added = None if mask is None else _padding_mask(call, mask, k)
    if bias is not None:
        added = bias if added is None else b.elemwise(_M.ADD, added, bias)
    call.know("mask_filter_value")
    result = attended(b, q, k, v, scale, added, bool(call.integer("unidirectional", 0)), past)
    return to_shape(b, b.transposed(result, (0, 2, 1, 3)), 0, 0, -1)


def _limits_of_three(b: GraphBuilder, length: Value) -> list[tuple[AnyVar | None, AnyVar | None]]:
    """Where the parts for queries, keys and values begin and end, of which the first two have this length."""
    twice = b.elemwise(_M.MUL, length, b.constant(np.array([2])))
    return [(None, length.var), (length.var, twice.var), (twice.var, None)]


@converts("MultiHeadAttention", domain=MICROSOFT)
def _multi_head(call: Call) -> list[Value | None]:
    b, q, k, v = call.builder, call.input(0), call.optional(1), call.optional(2)
    bias, mask, added, past_key, past_value = (call.optional(n) for n in range(3, 8))
    count = call.positive("num_heads")
    if k is None or v is None or q.rank != 3 or k.rank != v.rank:
        raise NotConverted("queries, keys and values must be three inputs; packed ones are not read")
    if bias is not None:
        limits = _limits_of_three(b, b.dimension(q, 2))
        q, k, v = (
            b.elemwise(_M.ADD, x, b.sliced(bias, 0, *pair, None)) if x.rank == 3 else x
            for x, pair in zip((q, k, v), limits, strict=True)
        )
    q = heads(b, q, count)
    k, v = (heads(b, x, count) if x.rank == 3 else x for x in (k, v))
    past = None
    if past_key is not None and past_value is not None:
        past = b.dimension(past_key, 2)
        k, v = b.joined([past_key, k], 2), b.joined([past_value, v], 2)
    return [_attention_of(call, q, k, v, mask, added, past), k, v]


@converts("Attention", domain=MICROSOFT)
def _attention(call: Call) -> list[Value | None]:
    b, bias = call.builder, call.optional(2)
    rows = multiplied(b, call.input(0), call.input(1))
    if bias is not None:
        rows = b.elemwise(_M.ADD, rows, bias)
    return attention_of_rows(call, rows, *(call.optional(n) for n in range(3, 6)))


def attention_of_rows(
    call: Call, rows: Value, mask: Value | None, past: Value | None, added: Value | None
) -> list[Value | None]:
    """Attention of rows that hold queries, keys and values side by side; and all keys and values, if wanted."""
    b, count, sizes = call.builder, call.positive("num_heads"), call.integers("qkv_hidden_sizes")
    if call.integer("do_rotary", 0) or call.integer("past_present_share_buffer", 0):
        raise NotConverted("rotary embeddings and caches of a fixed size are not computed in it")
    call.know("rotary_embedding_dim")
    if sizes:
        ends = [sum(sizes[: n + 1]) for n in range(3)]
        parts = [b.part(rows, 2, begin, end) for begin, end in zip([0, *ends], ends, strict=False)]
    else:
        third = b.elemwise(_M.FLOOR_DIV, b.dimension(rows, 2), b.constant(np.array([3])))
        parts = [b.sliced(rows, 2, *pair, None) for pair in _limits_of_three(b, third)]
    q, k, v = (heads(b, part, count) for part in parts)
    length = None
    if past is not None:
        length = b.dimension(past, 3)
        old = [b.without_axes(b.part(past, 0, n, n + 1), [0]) for n in (0, 1)]
        k, v = (b.joined([o, new], 2) for o, new in zip(old, (k, v), strict=True))
    present = b.joined([b.with_axes(k, [0]), b.with_axes(v, [0])], 0) if any(call.wanted[1:]) else None
    return [_attention_of(call, q, k, v, mask, added, length), present]
