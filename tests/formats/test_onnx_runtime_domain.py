"""Each operator of ONNX Runtime's own domain gives what ONNX Runtime gives."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import load, make, run

from megengine_lite import LiteConfig
from megengine_lite._api.conversion import converted
from megengine_lite._core.formats.onnx.operators import CONVERTERS

DOMAIN = "com.microsoft"
RNG = np.random.default_rng(12)
KINDS = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int8): TensorProto.INT8, np.dtype(bool): TensorProto.BOOL,
         np.dtype(np.uint8): TensorProto.UINT8, np.dtype(np.int32): TensorProto.INT32,
         np.dtype(np.int64): TensorProto.INT64, np.dtype(np.int16): TensorProto.INT16,
         np.dtype(np.uint16): TensorProto.UINT16}  # fmt: skip
CASES: list[tuple[str, str, list, dict]] = []
"""Operator, what is special, its inputs (None: left out; a number: a constant), attributes and number of outputs."""


def case(op, *inputs, why="", **attributes):
    CASES.append((op, why, list(inputs), attributes))


def real(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def positive(*shape):
    return np.abs(real(*shape)) + np.float32(0.1)


def steps(*shape, dtype=np.uint8):
    """Bytes; signed ones of 7 bits, as ONNX Runtime saturates sums of larger products on x86-64 without VNNI."""
    low, high = (0, 256) if dtype == np.uint8 else (-64, 64)
    return RNG.integers(low, high, shape).astype(dtype)


def number(value, dtype=np.float32):
    return np.array(value, dtype)


image, weights = real(1, 4, 7, 7), real(6, 4, 3, 3)
for op in ("Gelu", "FastGelu", "QuickGelu"):
    case(op, real(3, 8))
case("FastGelu", real(3, 8), real(8), why="bias")
case("Range", number(1.5), number(7), number(2))
case("Range", number(1), number(4), why="no step")
case("QuickGelu", real(3, 8), why="alpha", alpha=0.5)
cos, sin, places = np.cos(real(9, 4)), np.sin(real(9, 4)), np.array([[0, 1, 2, 5, 8], [3, 4, 4, 6, 7]])
for interleaved in (0, 1):
    more = {"interleaved": interleaved}
    case("RotaryEmbedding", real(2, 3, 5, 8), places, cos, sin, why=f"heads {interleaved}", **more)
    case("RotaryEmbedding", real(2, 3, 5, 8), number([2], np.int64), cos, sin, why=f"from 2 {interleaved}", **more)
    case("RotaryEmbedding", real(2, 5, 24), places, cos, sin, why=f"rows {interleaved}", **more)
    case("RotaryEmbedding", real(2, 5, 24), number([3], np.int64), cos, sin, why=f"rows from 3 {interleaved}", **more)
    case("RotaryEmbedding", real(2, 5, 36), places, cos, sin, why=f"a part {interleaved}", num_heads=3,
         rotary_embedding_dim=8, **more)  # fmt: skip
case("BiasGelu", real(3, 8), real(8))
case("FusedConv", image, weights, real(6), activation="Relu", pads=[1, 1, 1, 1])
case("FusedConv", image, weights, None, real(1, 6, 5, 5), why="sum", activation="Relu")
for name, numbers in (("LeakyRelu", [0.2]), ("Clip", [-0.5, 1.0]), ("HardSigmoid", [0.3, 0.4])):
    case("FusedConv", image, weights, why=name, activation=name, activation_params=numbers, strides=[2, 2])
for name in ("Tanh", "Sigmoid"):
    case("FusedConv", image, weights, why=name, activation=name, dilations=[2, 2])
case("FusedGemm", real(3, 4), real(5, 4), real(5), transB=1, alpha=0.5, activation="Relu")
case("FusedGemm", real(3, 4), real(4, 5), why="LeakyRelu", activation="LeakyRelu", activation_alpha=0.3)
for name, numbers in (("Elu", {"alpha": 0.3}), ("Selu", {"alpha": 1.1, "gamma": 0.9}), ("Softplus", {}),
                      ("Softsign", {}), ("Tanh", {}), ("ThresholdedRelu", {"alpha": 0.4})):  # fmt: skip
    how = {f"activation_{n}": x for n, x in numbers.items()}
    case("FusedGemm", real(3, 4), real(4, 5), why=name, activation=name, **how)
for a in (0, 1):
    for b in (0, 1):
        left, right = real(2, 5, 3) if a else real(2, 3, 5), real(2, 4, 5) if b else real(2, 5, 4)
        case("FusedMatMul", left, right, why=f"transA={a} transB={b}", transA=a, transB=b, alpha=0.25)
        left = real(3, 2, 5) if not a else real(5, 2, 3)
        case("FusedMatMul", left, right, why=f"transBatchA transA={a} transB={b}", transA=a, transB=b, transBatchA=1)
case("FusedMatMul", real(2, 3, 5), real(5, 2, 4), why="transBatchB", transBatchB=1)
case("FusedMatMul", real(4, 2, 3, 5), real(5, 2, 3, 6), why="four dimensions", transBatchA=1, transBatchB=1)
rows, vector = real(2, 3, 8), [real(8) for _ in range(3)]
case("SkipLayerNormalization", rows, real(2, 3, 8), *vector, outputs="y   sum", epsilon=1e-3)
case("SkipLayerNormalization", rows, real(3, 8), vector[0], why="skip of all samples")
case("SkipSimplifiedLayerNormalization", rows, real(2, 3, 8), *vector[:2], outputs="y   sum", epsilon=1e-3)
case("SimplifiedLayerNormalization", rows, vector[0], axis=-1, epsilon=1e-3, domain="", version=15)
case("LayerNormalization", rows, *vector[:2], axis=-1, epsilon=1e-3, domain="", version=11)
words, segments = RNG.integers(0, 9, (2, 3)).astype(np.int32), RNG.integers(0, 2, (2, 3)).astype(np.int32)
case("EmbedLayerNormalization", words, segments, real(9, 8), real(5, 8), real(2, 8), *vector[:2],
     np.array([[1, 1, 0], [1, 1, 1]], np.int32), outputs="y mask sum", epsilon=1e-3)  # fmt: skip
case("EmbedLayerNormalization", words, None, real(9, 8), real(5, 8), None, *vector[:2], None,
     np.array([[2, 1, 0], [4, 4, 4]], np.int32), why="places", outputs="y mask", epsilon=1e-3)  # fmt: skip
q, k, v = real(2, 3, 8), real(2, 5, 8), real(2, 5, 8)
case("MultiHeadAttention", q, k, v, num_heads=2)
case("MultiHeadAttention", q, k, v, real(24), None, real(2, 2, 3, 5), why="biases", num_heads=2, scale=0.3)
case(
    "MultiHeadAttention", q, k, v, None, np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]], np.int32), why="mask", num_heads=2
)
case("MultiHeadAttention", q, real(2, 3, 8), real(2, 3, 8), None, None, None, real(2, 2, 4, 4), real(2, 2, 4, 4),
     why="past", outputs="y keys values", num_heads=2)  # fmt: skip
wide, bias = real(6, 24), real(24)
case("Attention", real(2, 3, 6), wide, bias, num_heads=2)
case("Attention", real(2, 3, 6), wide, bias, np.array([[1, 1, 0], [1, 1, 1]], np.int32), why="mask", num_heads=2)
case("Attention", real(2, 3, 6), wide, bias, np.array([2, 3], np.int32), why="lengths", num_heads=2)
case("Attention", real(2, 3, 6), wide, bias, np.array([2, 3, 1, 0], np.int32), why="ends and begins", num_heads=2)
packed = np.array([3, 5, 0, 3, 6, 0, 3, 8], np.int32)
case("Attention", real(2, 5, 6), wide, bias, packed, why="limits of packed rows", num_heads=2)
case("MultiHeadAttention", q, k, v, None, packed, why="limits of packed rows", num_heads=2)
case("MultiHeadAttention", q, k, v, None, packed[:2], why="lengths", num_heads=2)
case("Attention", real(2, 3, 6), wide, bias, np.array([6, 8, 1, 6], np.int32), real(2, 2, 2, 5, 4), num_heads=2,
     why="ends and begins with past", outputs="y present", unidirectional=1)  # fmt: skip
case("Attention", real(2, 3, 6), wide, bias, None, real(2, 2, 2, 5, 4), why="past", outputs="y present", num_heads=2,
     unidirectional=1)  # fmt: skip
case("Attention", real(2, 3, 6), real(6, 20), real(20), why="sizes", num_heads=2, qkv_hidden_sizes=[8, 8, 4])
case("QAttention", steps(2, 3, 6), steps(6, 24, dtype=np.int8), bias, number(0.02), number(0.01),
     np.array([2, 3], np.int32), number(120, np.uint8), number(0, np.int8), num_heads=2)  # fmt: skip
case("QAttention", steps(2, 3, 6), steps(6, 24, dtype=np.int8), bias, number(0.02), number(0.01),
     np.array([2, 3, 1, 2], np.int32), number(120, np.uint8), number(0, np.int8), why="begins",
     num_heads=2)  # fmt: skip
scales = number(0.02), number(120, np.uint8)
others, out = (number(0.03), number(7, np.uint8)), (number(0.06), number(100, np.uint8))
x, y = steps(1, 3, 4, 4), steps(1, 3, 4, 4)
for op in ("QLinearAdd", "QLinearMul"):
    case(op, x, *scales, y, *others, *out)
    case(op, x, *scales, steps(3, 1, 1), *others, *out, why="broadcast")
case("QLinearWhere", RNG.random((1, 3, 4, 4)) < 0.5, x, *scales, y, *others, *out)
case("QLinearSigmoid", x, *scales, number(1 / 256), number(0, np.uint8))
case("QLinearLeakyRelu", x, *scales, *out, alpha=0.1)
case("QLinearSoftmax", x, *scales, number(1 / 256), number(0, np.uint8), axis=-1, opset=13)
case("QLinearSoftmax", x, *scales, number(1 / 256), number(0, np.uint8), why="old rules", axis=2, opset=11)
case("QLinearConcat", *out, x, *scales, y, *others, axis=1)
case("QLinearConcat", *out, x, *scales, y, *others, x, *others, why="three", axis=-1)
case("QLinearGlobalAveragePool", x, *scales, *out)
case("QLinearGlobalAveragePool", x, *scales, *out, why="channels last", channels_last=1)
case("QLinearAveragePool", x, *scales, *out, kernel_shape=[2, 2], strides=[2, 2])
case("QLinearAveragePool", x, *scales, *out, why="padding", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
case("QLinearAveragePool", x, *scales, *out, why="padding that counts", kernel_shape=[3, 3], pads=[1, 1, 1, 1],
     count_include_pad=1)  # fmt: skip
case("QLinearAveragePool", x, *scales, *out, why="channels last", kernel_shape=[2, 2], channels_last=1)
case("NhwcMaxPool", x, kernel_shape=[2, 2], strides=[1, 1])
filters = number(0.01), number(0, np.int8), *out
case("QLinearConv", x, *scales, steps(5, x.shape[1], 2, 2, dtype=np.int8), *filters, pads=[1, 0, 0, 1])
case("QLinearConv", x, *scales, steps(4, x.shape[-1], 2, 2, dtype=np.int8), *filters,
     RNG.integers(-999, 999, 4).astype(np.int32), why="channels last", channels_last=1)  # fmt: skip
case("QLinearConv", x, *scales, steps(2 * x.shape[-1], 1, 2, 2, dtype=np.int8), *filters, why="groups, channels last",
     channels_last=1, group=x.shape[-1])  # fmt: skip
a, b = steps(3, 6), steps(6, 4, dtype=np.int8)
case("MatMulIntegerToFloat", a, b, number(0.02), number(0.01), number(130, np.uint8), number(3, np.int8), real(4))
case("MatMulIntegerToFloat", a, b, number(0.02), positive(4), number(130, np.uint8), steps(4, dtype=np.int8),
     why="per column")  # fmt: skip
for bits, size in ((2, 16), (4, 32), (8, 16)):
    columns, blocks = 5, -(-40 // size)
    stored = steps(columns, blocks, size * bits // 8), positive(columns * blocks)
    more = {"K": 40, "N": columns, "bits": bits, "block_size": size}
    case("MatMulNBits", real(2, 3, 40), *stored, why=f"{bits} bits", **more)
    case("MatMulNBits", real(2, 3, 40), *stored, steps(columns * -(-blocks * bits // 8)), why=f"{bits} bits and zeros",
         **more)  # fmt: skip
    case("MatMulNBits", real(40), *stored, None, None, real(columns), why=f"{bits} bits and bias", **more)
case("MatMulNBits", real(2, 40), steps(5, 2, 16), positive(10), positive(10), why="real zeros", K=40, N=5,
     bits=4, block_size=32)  # fmt: skip
case("DynamicQuantizeMatMul", real(3, 6), b, number(0.01), number(3, np.int8), real(4))
case("QGemm", a, number(0.02), number(130, np.uint8), b, number(0.01), number(3, np.int8),
     RNG.integers(-999, 999, 4).astype(np.int32), alpha=0.5)  # fmt: skip
case("QGemm", a, number(0.02), number(130, np.uint8), np.ascontiguousarray(b.T), number(0.01), number(3, np.int8), None,
     number(0.3), number(99, np.uint8), why="quantized", transB=1)  # fmt: skip
case("DynamicQuantizeLSTM", real(5, 2, 6), steps(1, 6, 32, dtype=np.int8), steps(1, 8, 32, dtype=np.int8), real(1, 64),
     None, None, None, None, *(number([n], t) for n, t in ((0.003, np.float32), (0, np.int8)) * 2),
     hidden_size=8, outputs="y h c")  # fmt: skip
case("DynamicQuantizeLSTM", real(5, 2, 6), steps(2, 6, 32, dtype=np.int8), steps(2, 8, 32, dtype=np.int8), None,
     None, None, None, None, positive(2, 32) / 300, np.zeros((2, 32), np.int8), positive(2, 32) / 300,
     np.zeros((2, 32), np.int8), why="per gate", direction="bidirectional", hidden_size=8, outputs="y")  # fmt: skip

for kind, zero in ((np.uint8, 120), (np.int8, -3), (np.uint16, 32700), (np.int16, 5)):
    step = number(0.004 if np.iinfo(kind).bits == 16 else 0.03)
    case("QuantizeLinear", real(2, 3, 4), step, number(zero, kind), why=kind.__name__)
    numbers = RNG.integers(np.iinfo(kind).min, np.iinfo(kind).max + 1, (2, 3, 4)).astype(kind)
    case("DequantizeLinear", numbers, step, number(zero, kind), why=kind.__name__)
case("QuantizeLinear", real(2, 3, 4), positive(3) / 50, np.array([3, 128, 250], np.uint8), why="channels", axis=1)
case("DequantizeLinear", steps(2, 3, 4), positive(3), np.array([3, 128, 250], np.uint8), why="channels", axis=-2)
case("DequantizeLinear", RNG.integers(-900, 900, (2, 3)).astype(np.int32), number(0.01), why="int32")

# These read constants only.
STORED = ("MatMulNBits",)
# What these are given in float is rounded to 8 bits in each round of ONNX Runtime, and not here.
TOLERANCES = {"DynamicQuantizeLSTM": 0.03}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("op", "why", "given", "attributes"), CASES, ids=[f"{c[0]} {c[1]}".strip() for c in CASES])
def test_results_are_those_of_onnx_runtime(op, why, given, attributes):
    """Here, and as a file of MegEngine's."""
    runtime = pytest.importorskip("onnxruntime")
    names = [None if g is None else f"i{k}" for k, g in enumerate(given)]
    attributes = dict(attributes)
    outputs = attributes.pop("outputs", "y").split(" ")
    domain, version = attributes.pop("domain", DOMAIN), attributes.pop("version", 17)
    node = helper.make_node(op, [n or "" for n in names], outputs, "the_node", domain=domain, **attributes)
    arrays = {n: g for n, g in zip(names, given, strict=True) if n is not None}
    inputs = {
        n: g
        for n, g in arrays.items()
        if n == next(iter(arrays)) or not (op[0] == "Q" or "Quant" in op or op in STORED)
    }
    constants = {n: g for n, g in arrays.items() if n not in inputs}
    declared = [(n, KINDS[g.dtype], list(g.shape)) for n, g in inputs.items()]
    model = make([node], declared, [(n, TensorProto.FLOAT, None) for n in outputs if n], constants, version,
                 opsets=[helper.make_opsetid(DOMAIN, 1)])  # fmt: skip
    for output in model.graph.output:
        output.ClearField("type")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    theirs = runtime.InferenceSession(model.SerializeToString(), options).run(None, inputs)
    at_the_api = {np.dtype(bool): np.uint8, np.dtype(np.int64): np.int32}
    given_here = {n: g.astype(at_the_api.get(g.dtype, g.dtype)) for n, g in inputs.items()}
    _compare(op, run(load(model), **given_here), theirs)
    if op != "Range":  # its length depends on data, which no file can say
        file = b"".join(map(bytes, converted(model.SerializeToString(), LiteConfig()).chunks))
        _compare(op, run(load(file), **given_here), theirs)


def _compare(op, found, expected):
    for ours, wanted in zip(found, expected, strict=True):
        assert ours.shape == wanted.shape
        assert ours.dtype == wanted.dtype
        if wanted.dtype.kind == "f":
            tolerance = TOLERANCES.get(op, 1e-5)
            np.testing.assert_allclose(ours, wanted, rtol=tolerance, atol=tolerance * max(1, np.abs(wanted).max()))
        else:
            apart = np.abs(ours.astype(int) - wanted.astype(int))
            assert apart.max() <= (wanted.dtype != np.int32)
            assert (apart == 0).mean() >= 0.9


def test_every_operator_of_the_domain_has_a_case():
    assert {op for op, *_ in CASES} >= {name for domain, name in CONVERTERS if domain == DOMAIN}
