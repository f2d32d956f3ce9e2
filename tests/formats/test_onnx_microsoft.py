"""The operators of ONNX Runtime's own domain, by the formulas of its documentation."""

import math

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import load, make, run

from megengine_lite.errors import UnsupportedOperatorError

F, I8, U8, I32 = TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32
RNG = np.random.default_rng(13)
KINDS = {"float32": F, "int8": I8, "uint8": U8, "int32": I32, "int64": TensorProto.INT64}


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def model_of(op, given, outputs="y", **attributes):
    """A model of one node; inputs are (name, array), or None for one that is left out. Single numbers are constants."""
    names = ["" if g is None else g[0] for g in given]
    node = helper.make_node(op, names, outputs.split(" "), "the_node", domain="com.microsoft", **attributes)
    arrays = [g for g in given if g is not None]
    inputs = [(n, KINDS[v.dtype.name], [None] * v.ndim) for n, v in arrays if v.ndim]
    constants = {n: v for n, v in arrays if not v.ndim}
    outs = [(n, F, None) for n in outputs.split(" ") if n]
    model = make([node], inputs, outs, constants, 17, opsets=[helper.make_opsetid("com.microsoft", 1)])
    for output in model.graph.output:
        output.ClearField("type")
    return model


def results(op, *given, outputs="y", **attributes):
    arrays = {g[0]: g[1] for g in given if g is not None and g[1].ndim}
    return run(load(model_of(op, given, outputs, **attributes)), **arrays)


def close(ours, theirs, tolerance=1e-5):
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours.astype(float), theirs, rtol=tolerance, atol=tolerance)


def erf(x):
    return np.vectorize(math.erf)(x.astype(float))


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(float)))


def by_tanh(x):
    return x * (0.5 + 0.5 * np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def test_ranges_without_a_step_and_without_the_domain_s_version():
    """As TensorFlow's exporter writes them: the file does not say which version of the domain it means."""
    for begin, end, step in ((np.int64(0), np.int64(5), None), (np.float32(1), np.float32(3), np.float32(0.5))):
        given = [("a", begin), ("b", end), *([] if step is None else [("s", step)])]
        model = model_of("Range", given)
        del model.opset_import[1:]
        assert len(model.opset_import) == 1
        model.graph.input.append(helper.make_tensor_value_info("x", F, [1]))
        wanted = np.arange(begin, end, 1 if step is None else step)
        assert run(load(model), x=np.zeros(1, np.float32))[0].tolist() == wanted.tolist()


def test_activations():
    x, bias = floats(3, 5) * 2, floats(5)
    close(results("Gelu", ("x", x))[0], x * (1 + erf(x / math.sqrt(2))) / 2)
    s = x + bias
    close(results("BiasGelu", ("x", x), ("b", bias))[0], s * (1 + erf(s / math.sqrt(2))) / 2)
    close(results("FastGelu", ("x", x))[0], by_tanh(x))
    close(results("FastGelu", ("x", x), ("b", bias))[0], by_tanh(s))
    close(results("QuickGelu", ("x", x))[0], x * sigmoid(1.702 * x))
    close(results("QuickGelu", ("x", x), alpha=0.5)[0], x * sigmoid(0.5 * x))


ACTIVATIONS = {
    "Relu": ([], lambda x: np.maximum(x, 0)),
    "Tanh": ([], np.tanh),
    "Sigmoid": ([], sigmoid),
    "LeakyRelu": ([0.2], lambda x: np.where(x < 0, 0.2 * x, x)),
    "Clip": ([-0.5, 1.0], lambda x: np.clip(x, -0.5, 1)),
    "HardSigmoid": ([0.3, 0.4], lambda x: np.clip(0.3 * x + 0.4, 0, 1)),
    "Elu": ([0.3], lambda x: np.where(x < 0, 0.3 * np.expm1(x), x)),
    "Selu": ([1.1, 0.9], lambda x: 0.9 * np.where(x < 0, 1.1 * np.expm1(x), x)),
    "ThresholdedRelu": ([0.4], lambda x: np.where(x > 0.4, x, 0)),
    "Softplus": ([], lambda x: np.log1p(np.exp(x))),
    "Softsign": ([], lambda x: x / (1 + abs(x))),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_products_with_an_activation(name):
    numbers, function = ACTIVATIONS[name]
    x, w, bias, z = floats(2, 3, 1, 1), floats(4, 3, 1, 1), floats(4), floats(2, 4, 1, 1)
    how = {"activation": name} | ({"activation_params": numbers} if numbers else {})
    plain = np.einsum("nc,oc->no", x[..., 0, 0], w[..., 0, 0])[..., None, None] + bias[:, None, None]
    given = ("x", x), ("w", w), ("b", bias), ("z", z)
    close(results("FusedConv", *given, kernel_shape=[1, 1], **how)[0], function(plain + z))
    close(results("FusedConv", *given[:3], kernel_shape=[1, 1], **how)[0], function(plain))
    if name == "Clip":
        return
    a, b, c = floats(3, 4), floats(5, 3), floats(5)
    names = ("activation_alpha", "activation_gamma" if name == "Selu" else "activation_beta")
    how = {"activation": name} | dict(zip(names, numbers, strict=False))
    (ours,) = results("FusedGemm", ("a", a), ("b", b), ("c", c), transA=1, transB=1, alpha=0.5, **how)
    close(ours, function(0.5 * a.T @ b.T + c))


@pytest.mark.parametrize("turn_a, turn_b", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_products_of_turned_matrices(turn_a, turn_b):
    a, b = floats(2, 3, 4), floats(2, 4, 5)
    given = ("a", a.swapaxes(1, 2).copy() if turn_a else a), ("b", b.swapaxes(1, 2).copy() if turn_b else b)
    close(results("FusedMatMul", *given, transA=turn_a, transB=turn_b, alpha=0.25)[0], 0.25 * a @ b)


def normalized(x, gamma, beta, eps):
    x = x.astype(float)
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * gamma + beta


def test_normalization_of_sums():
    x, skip, gamma, beta, bias = floats(2, 3, 8), floats(2, 3, 8), floats(8), floats(8), floats(8)
    given = ("x", x), ("s", skip), ("g", gamma), ("b", beta), ("c", bias)
    y, total = results("SkipLayerNormalization", *given, outputs="y   total", epsilon=1e-3)
    close(total, x + skip + bias)
    close(y, normalized(x + skip + bias, gamma, beta, 1e-3))
    close(results("SkipLayerNormalization", *given[:3], epsilon=1e-3)[0], normalized(x + skip, gamma, 0, 1e-3))
    s = (x + skip + bias).astype(float)
    root = np.sqrt((s**2).mean(-1, keepdims=True) + 1e-3)
    y, total = results("SkipSimplifiedLayerNormalization", *given[:3], given[4], outputs="y   total", epsilon=1e-3)
    close(y, s / root * gamma)
    close(total, s)
    with pytest.raises(UnsupportedOperatorError, match="outputs of training only"):
        results("SkipLayerNormalization", *given, outputs="y mean")
    node = helper.make_node("SimplifiedLayerNormalization", ["x", "g"], ["y"], axis=-1, epsilon=1e-3)
    made = load(make([node], [("x", F, [None] * 3), ("g", F, [8])], [("y", F, None)], (), 15))
    close(run(made, x=x, g=gamma)[0], x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-3) * gamma)


def attention(q, k, v, heads, scale=None, added=0.0, past=None):
    """Of rows of heads side by side; ``past`` has the keys and values of earlier calls and makes it causal."""

    def cut(x):
        return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2).astype(float)

    q, k, v = cut(q), cut(k), cut(v)
    n_past = 0
    if past is not None:
        n_past = past[0].shape[2]
        k, v = (np.concatenate([old, new], 2) for old, new in zip(past, (k, v), strict=True))
    scores = q @ k.swapaxes(2, 3) * (scale or q.shape[3] ** -0.5) + added
    if past is not None:
        scores = np.where(np.tri(q.shape[2], k.shape[2], n_past) > 0, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    rows = weights / weights.sum(-1, keepdims=True) @ v
    return rows.swapaxes(1, 2).reshape(rows.shape[0], rows.shape[2], -1), k, v


def test_multi_head_attention():
    q, k, v, bias = floats(2, 3, 8), floats(2, 5, 8), floats(2, 5, 4), floats(20)
    added = floats(2, 2, 3, 5)
    given = [("q", q), ("k", k), ("v", v)]
    y, _, _ = attention(q, k, v, 2)
    close(results("MultiHeadAttention", *given, num_heads=2)[0], y)
    moved = q + bias[:8], k + bias[8:16], v + bias[16:]
    y, _, _ = attention(*moved, 2, 0.3, added)
    more = [("bias", bias), None, ("added", added)]
    close(results("MultiHeadAttention", *given, *more, num_heads=2, scale=0.3)[0], y)
    # Lengths and masks of keys.
    counts = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]], np.int32)
    y, _, _ = attention(q, k, v, 2, None, np.where(counts, 0, -10000.0)[:, None, None])
    for mask in (counts, counts.sum(1).astype(np.int32)):
        close(results("MultiHeadAttention", *given, None, ("m", mask), num_heads=2)[0], y)
    # Keys and values of earlier calls, and heads that are cut already.
    past = floats(2, 2, 4, 4), floats(2, 2, 4, 2)
    y, keys, values = attention(q, k, v, 2, past=past)
    old = [None, None, None, ("pk", past[0]), ("pv", past[1])]
    ours = results("MultiHeadAttention", *given, *old, outputs="y pk2 pv2", num_heads=2, unidirectional=1)
    for a, b in zip(ours, (y, keys, values), strict=True):
        close(a, b)
    cut = [("k", k.reshape(2, 5, 2, 4).swapaxes(1, 2).copy()), ("v", v.reshape(2, 5, 2, 2).swapaxes(1, 2).copy())]
    close(results("MultiHeadAttention", given[0], *cut, num_heads=2)[0], attention(q, k, v, 2)[0])
    with pytest.raises(UnsupportedOperatorError, match="packed ones are not read"):
        results("MultiHeadAttention", ("q", floats(2, 3, 2, 3, 4)), num_heads=2)


@pytest.mark.parametrize("sizes", [None, [8, 8, 4]])
def test_attention_of_one_input(sizes):
    dv = 4 if sizes else 8
    x, w, bias = floats(2, 3, 6), floats(6, 16 + dv), floats(16 + dv)
    rows = x @ w + bias
    how = {"num_heads": 2} | ({"qkv_hidden_sizes": sizes} if sizes else {})
    parts = rows[..., :8], rows[..., 8:16], rows[..., 16:]
    given = ("x", x), ("w", w), ("b", bias)
    close(results("Attention", *given, **how)[0], attention(*parts, 2)[0], 1e-4)
    counts = np.array([[1, 1, 0], [1, 1, 1]], np.int32)
    added = np.where(counts, 0, -10000.0)[:, None, None]
    close(results("Attention", *given, ("m", counts), **how)[0], attention(*parts, 2, None, added)[0], 1e-4)
    if sizes is None:
        past = floats(2, 2, 2, 5, 4)
        y, keys, values = attention(*parts, 2, past=(past[0], past[1]))
        ours, present = results("Attention", *given, None, ("p", past), outputs="y present", unidirectional=1, **how)
        close(ours, y, 1e-4)
        close(present, np.stack([keys, values]), 1e-4)


# ---- quantized numbers -----------------------------------------------------------------------------------------------


def steps(x, scale, zero, dtype):
    limits = np.iinfo(dtype)
    return np.clip(np.rint(x / np.float32(scale)) + int(zero), limits.min, limits.max)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_quantized_elements(dtype):
    low = np.iinfo(dtype).min
    a, b = (RNG.integers(low, low + 256, (2, 3, 4, 4)).astype(dtype) for _ in range(2))
    za, zb, zc = (dtype(low + n) for n in (120, 7, 100))
    sa, sb, sc = np.float32(0.02), np.float32(0.03), np.float32(0.06)
    ra, rb = (a.astype(np.float32) - za) * sa, (b.astype(np.float32) - zb) * sb
    first, second, out = (
        (("a", a), ("sa", sa), ("za", za)),
        (("b", b), ("sb", sb), ("zb", zb)),
        (("sc", sc), ("zc", zc)),
    )
    first, second, out = (tuple((n, np.asarray(v)) for n, v in some) for some in (first, second, out))
    for op, wanted in (("QLinearAdd", ra + rb), ("QLinearMul", ra * rb)):
        (ours,) = results(op, *first, *second, *out)
        assert ours.dtype == dtype
        assert np.abs(ours.astype(int) - steps(wanted, sc, zc, dtype)).max() <= 1
        assert (ours == steps(wanted, sc, zc, dtype)).mean() > 0.95
    for op, wanted, how in (
        ("QLinearSigmoid", sigmoid(ra), {}),
        ("QLinearLeakyRelu", np.where(ra < 0, 0.1 * ra, ra), {"alpha": 0.1}),
    ):
        assert np.abs(results(op, *first, *out, **how)[0].astype(int) - steps(wanted, sc, zc, dtype)).max() <= 1
    pooled = ra.mean((2, 3), keepdims=True)
    (ours,) = results("QLinearGlobalAveragePool", *first, *out)
    assert np.abs(ours.astype(int) - steps(pooled, sc, zc, dtype)).max() <= 1
    last = ("a", np.ascontiguousarray(a.transpose(0, 2, 3, 1)))
    (ours,) = results("QLinearGlobalAveragePool", last, *first[1:], *out, channels_last=1)
    assert np.abs(ours.astype(int) - steps(pooled, sc, zc, dtype).transpose(0, 2, 3, 1)).max() <= 1
    pooled = a.reshape(2, 3, 2, 2, 2, 2).max((3, 5))
    (ours,) = results("NhwcMaxPool", last, kernel_shape=[2, 2], strides=[2, 2])
    np.testing.assert_array_equal(ours, pooled.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("per_column", [False, True])
def test_quantized_products(per_column):
    a, b = RNG.integers(0, 256, (3, 6)).astype(np.uint8), RNG.integers(-128, 128, (6, 4)).astype(np.int8)
    count = (4,) if per_column else ()
    sb, zb = np.asarray(RNG.random(count) / 50, np.float32), np.asarray(RNG.integers(-9, 9, count), np.int8)
    sa, za, bias = np.asarray(np.float32(0.02)), np.asarray(np.uint8(130)), floats(4)
    product = (a.astype(float) - int(za)) @ (b.astype(float) - zb)
    inputs = ("a", a), ("b", b), ("sa", sa), ("sb", sb), ("za", za), ("zb", zb), ("c", bias)
    close(results("MatMulIntegerToFloat", *inputs)[0], product * sa * sb + bias, 1e-4)
    close(results("MatMulIntegerToFloat", *inputs[:5])[0], (a.astype(float) - int(za)) @ b * sa * sb, 1e-4)
    x = floats(3, 6)
    span = max(x.max(), 0) - min(x.min(), 0)
    scale = np.float32(span / 255)
    zero = np.rint(-min(x.min(), 0) / scale)
    whole = np.clip(np.rint(x / scale) + zero, 0, 255) - zero
    inputs = ("x", x), ("b", b), ("sb", sb), ("zb", zb), ("c", bias)
    close(results("DynamicQuantizeMatMul", *inputs)[0], whole @ (b.astype(float) - zb) * scale * sb + bias, 1e-4)
    c = RNG.integers(-999, 999, 4).astype(np.int32)
    inputs = [("a", a), ("sa", sa), ("za", za), ("b", np.ascontiguousarray(b.T)), ("sb", sb), ("zb", zb), ("c", c)]
    wanted = 0.5 * (product + c) * sa * sb
    close(results("QGemm", *inputs, transB=1, alpha=0.5)[0], wanted, 1e-4)
    inputs += [("sy", np.asarray(np.float32(0.3))), ("zy", np.asarray(np.uint8(99)))]
    (ours,) = results("QGemm", *inputs, transB=1, alpha=0.5)
    assert ours.dtype == np.uint8
    assert np.abs(ours.astype(int) - steps(wanted, 0.3, 99, np.uint8)).max() <= 1
    assert (ours == steps(wanted, 0.3, 99, np.uint8)).mean() > 0.9
