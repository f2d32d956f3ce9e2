"""Quantized ONNX models run in int8: results against the definition, and the steps that they become."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.graphs import run, session_of
from support.instruction_sets import INSTRUCTION_SETS
from support.onnx_models import expected, make

from megengine_lite._core.cpu.steps import HostStep
from megengine_lite._core.formats.load import load_model

F, I32 = TensorProto.FLOAT, TensorProto.INT32
KINDS = {np.uint8: TensorProto.UINT8, np.int8: TensorProto.INT8}
OPSET = 19  # the first whose quantization the package onnx computes
LEAST_EQUAL = 0.999
"""Part of the results that must be the very numbers of the definition; the others may be one step away."""
ACTIVATIONS = {
    "symmetric": (np.int8, 0),
    "signed": (np.int8, -7),
    "unsigned": (np.uint8, 121),
    "positive": (np.uint8, 0),
}
"""Type and zero point of what lies between two operators."""


class QdqModel:
    """A quantized model under construction: real tensors, rounded by QuantizeLinear and DequantizeLinear.

    Scales are changed a little, unless they must be ``exact``: sums of multiples of 0.02 and 0.05 often lie in the
    middle between two numbers, and then the last bit decides.
    """

    def __init__(self, activations="unsigned", seed=0, exact=False):
        self.exact = exact
        self.rng = np.random.default_rng(seed)
        self.dtype, self.zero = ACTIVATIONS[activations]
        self.nodes, self.initializers, self.count = [], {}, 0

    def name(self):
        self.count += 1
        return f"v{self.count}"

    def constant(self, array):
        name = self.name()
        self.initializers[name] = np.asarray(array)
        return name

    def op(self, op, *inputs, **attributes):
        out = self.name()
        self.nodes.append(helper.make_node(op, list(inputs), [out], f"n{out}", **attributes))
        return out

    def scale_near(self, scale):
        return np.float32(scale if self.exact else scale * (1 + 0.01 * np.sin(1e4 * scale)))

    def numbers(self, scale):
        return self.constant(self.scale_near(scale)), self.constant(np.array(self.zero, self.dtype))

    def quantized(self, x, scale):
        return self.op("QuantizeLinear", x, *self.numbers(scale))

    def rounded(self, x, scale):
        numbers = self.numbers(scale)
        return self.op("DequantizeLinear", self.op("QuantizeLinear", x, *numbers), *numbers)

    def weight(self, *shape, axis=None, dtype=np.int8, zero=0):
        info = np.iinfo(dtype)
        q = self.rng.integers(info.min, info.max + 1, shape).astype(dtype)
        count = () if axis is None else (shape[axis],)
        self.scale = self.rng.uniform(0.001, 0.01, count).astype(np.float32)
        numbers = self.constant(self.scale), self.constant(np.full(count, zero, dtype))
        return self.op("DequantizeLinear", self.constant(q), *numbers, **({} if axis is None else {"axis": axis}))

    def whole(self, *shape):
        """A weight whose numbers are quarters of small integers."""
        q = self.rng.integers(-4, 5, shape).astype(np.int8)
        return self.op("DequantizeLinear", self.constant(q), self.constant(np.float32(0.25)))

    def bias(self, size, x_scale):
        q = self.rng.integers(-9000, 9000, size).astype(np.int32)
        scale = np.broadcast_to(self.scale_near(x_scale) * self.scale, (size,)).astype(np.float32)
        return self.op("DequantizeLinear", self.constant(q), self.constant(scale), axis=0)

    def finish(self, *inputs, outputs):
        kinds = [(name, F, shape) for name, shape in inputs]
        return make(self.nodes, kinds, [(name, KINDS[self.dtype], None) for name in outputs], self.initializers, OPSET)


def normal(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def run_on(isa, model, **given):
    """Results of a model, and operators and kernels of its steps."""
    session = session_of(load_model(model.SerializeToString()).graph, isa=isa)
    results = run(session, **given)
    (plan,) = session.plans()
    steps = [(s.node.op, "numpy") if isinstance(s, HostStep) else (s.origin.op, s.kernel.name) for s in plan.steps]
    return results, steps


def check(isa, model, tolerance=1, **given):
    """Compares with the definition; gives the steps."""
    results, steps = run_on(isa, model, **given)
    for ours, theirs in zip(results, expected(model, **given), strict=True):
        difference = np.abs(ours.astype(int) - theirs.astype(int))
        assert difference.max() <= tolerance
        assert (difference == 0).mean() >= LEAST_EQUAL
        assert len(np.unique(theirs)) > min(10, theirs.size // 2)  # it is not cut off everywhere
    assert "numpy" not in {kernel for _, kernel in steps}
    return steps


def operators(steps):
    """The operators of steps, without the change of sign bits where signed numbers with a zero point are an output."""
    return {op for op, _ in steps} - {"OnnxBytes"}


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("activations", ACTIVATIONS)
@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("groups", [1, 4, 24])
def test_convolutions(isa, activations, axis, groups):
    m = QdqModel(activations)
    x = m.rounded("x", 0.02)
    w = m.weight(24, 24 // groups, 3, 3, axis=axis)
    y = m.op("Conv", x, w, m.bias(24, 0.02), pads=[1] * 4, strides=[2, 2], group=groups)
    model = m.finish(("x", [2, 24, 11, 13]), outputs=[m.quantized(y, 0.03 * np.sqrt(24 / groups))])
    steps = check(isa, model, x=normal(2, 24, 11, 13))
    assert operators(steps) <= {"TypeCvt", "Relayout", "QuantizedConv"}


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("activations", ACTIVATIONS)
def test_a_network_of_convolutions_and_additions(isa, activations):
    m = QdqModel(activations)
    x = m.rounded("x", 0.02)
    x = m.rounded(m.op("Relu", m.op("Conv", x, m.weight(16, 3, 3, 3, axis=0), m.bias(16, 0.02), pads=[1] * 4)), 0.03)
    x = m.rounded(m.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), 0.03)
    y = m.rounded(m.op("Conv", x, m.weight(16, 16, 3, 3, axis=0), m.bias(16, 0.03), pads=[1] * 4), 0.05)
    y = m.rounded(m.op("Relu", m.op("Add", y, x)), 0.06)
    z = m.rounded(m.op("Conv", y, m.weight(8, 16, 1, 1), m.bias(8, 0.06)), 0.07)
    joined = m.rounded(m.op("Concat", z, m.rounded(m.op("Sigmoid", z), 1 / 255), axis=1), 0.05)
    y = m.op("Conv", joined, m.weight(8, 16, 1, 1, axis=0), m.bias(8, 0.05))
    model = m.finish(("x", [1, 3, 20, 24]), outputs=[m.quantized(y, 0.09)])
    steps = check(isa, model, x=normal(1, 3, 20, 24))
    assert "Elemwise" not in operators(steps) and "FusedElemwise" not in operators(steps)
    assert ("QuantizedFunction", "table_8") in steps


def test_an_addition_is_part_of_its_convolution():
    m = QdqModel()
    x = m.rounded("x", 0.02)
    y = m.rounded(m.op("Conv", x, m.weight(16, 16, 1, 1, axis=0), m.bias(16, 0.02)), 0.05)
    model = m.finish(("x", [1, 16, 9, 9]), outputs=[m.quantized(m.op("Relu", m.op("Add", y, x)), 0.06)])
    steps = check(INSTRUCTION_SETS[-1], model, x=normal(1, 16, 9, 9))
    assert operators(steps) <= {"TypeCvt", "Relayout", "QuantizedConv"}


def test_a_sum_that_is_not_rounded_before_the_addition():
    m = QdqModel()
    x = m.rounded("x", 0.02)
    y = m.op("Conv", x, m.weight(16, 16, 1, 1, axis=0), m.bias(16, 0.02))
    model = m.finish(("x", [1, 16, 9, 9]), outputs=[m.quantized(m.op("Relu", m.op("Add", y, x)), 0.06)])
    steps = check(INSTRUCTION_SETS[-1], model, x=normal(1, 16, 9, 9))
    assert operators(steps) <= {"TypeCvt", "Relayout", "QuantizedConv"}


@pytest.mark.parametrize("function", ["Relu", "Clip", "Sigmoid", "HardSwish", "Tanh", "LeakyRelu"])
@pytest.mark.parametrize("activations", ACTIVATIONS)
def test_activations_are_part_of_convolutions(function, activations):
    m = QdqModel(activations)
    x = m.rounded("x", 0.02)
    y = m.op("Conv", x, m.weight(16, 8, 1, 1, axis=0), m.bias(16, 0.02))
    more = [m.constant(np.float32(n)) for n in (-0.3, 0.71)] if function == "Clip" else []
    scale = 1 / 127 if function in ("Sigmoid", "Tanh", "Clip") else 0.04
    model = m.finish(("x", [1, 8, 9, 9]), outputs=[m.quantized(m.op(function, y, *more), scale)])
    steps = check(INSTRUCTION_SETS[-1], model, x=normal(1, 8, 9, 9))
    assert operators(steps) <= {"TypeCvt", "Relayout", "QuantizedConv"}


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("activations", ACTIVATIONS)
@pytest.mark.parametrize("axis", [None, 1])
def test_linear_layers(isa, activations, axis):
    m = QdqModel(activations)
    x = m.rounded("x", 0.02)
    y = m.op("Add", m.op("MatMul", x, m.weight(36, 40, axis=axis)), m.constant(normal(40)))
    y = m.rounded(y, 0.04)
    y = m.op("Reshape", y, m.constant(np.array([2, 7, 5, 8])))
    y = m.op("Transpose", y, perm=[0, 2, 1, 3])
    model = m.finish(("x", [2, 7, 36]), outputs=[m.quantized(y, 0.04)])
    steps = check(isa, model, x=normal(2, 7, 36))
    assert operators(steps) <= {"TypeCvt", "QuantizedMatMul", "Dimshuffle", "Reshape"}


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("transposed", [False, True])
def test_gemm(isa, transposed):
    m = QdqModel()
    x = m.rounded("x", 0.02)
    shape = (40, 36) if transposed else (36, 40)
    w = m.weight(*shape, axis=0 if transposed else 1)
    y = m.op("Relu", m.op("Gemm", x, w, m.bias(40, 0.02), transB=int(transposed)))
    model = m.finish(("x", [9, 36]), outputs=[m.quantized(y, 0.04)])
    assert operators(check(isa, model, x=normal(9, 36))) <= {"TypeCvt", "QuantizedMatMul"}


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("activations", ACTIVATIONS)
def test_products_of_two_tensors(isa, activations):
    m = QdqModel(activations)
    x = m.rounded("x", 0.02)
    y = m.rounded(m.op("MatMul", x, m.op("Transpose", x, perm=[0, 1, 3, 2])), 0.1)
    model = m.finish(("x", [2, 3, 9, 12]), outputs=[m.quantized(m.op("MatMul", y, x), 0.2)])
    steps = check(isa, model, x=normal(2, 3, 9, 12))
    assert operators(steps) <= {"TypeCvt", "QuantizedMatMul", "Dimshuffle", "Reshape"}


@pytest.mark.parametrize("mode", ["Add", "Sub", "Mul"])
@pytest.mark.parametrize("activations", ACTIVATIONS)
def test_functions_of_two_tensors(mode, activations):
    m = QdqModel(activations)
    x, y = m.rounded("x", 0.02), m.rounded("y", 0.015)
    model = m.finish(("x", [2, 33]), ("y", [2, 33]), outputs=[m.quantized(m.op(mode, x, y), 0.025)])
    steps = check(INSTRUCTION_SETS[-1], model, x=normal(2, 33), y=normal(2, 33, seed=2))
    assert operators(steps) == {"TypeCvt", "ElemwiseMultiType"}


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("activations", ACTIVATIONS)
@pytest.mark.parametrize("scales", [(0.5, 0.5, 1.0), (0.25, 0.5, 1.0)])
def test_halves_go_to_even_numbers(isa, activations, scales):
    """Sums of multiples of powers of two are in the middle of two numbers every other time."""
    m = QdqModel(activations, exact=True)
    a, b, c = scales
    model = m.finish(
        ("x", [64, 64]), ("y", [64, 64]), outputs=[m.quantized(m.op("Add", m.rounded("x", a), m.rounded("y", b)), c)]
    )
    x, y = 20 * normal(64, 64), 20 * normal(64, 64, seed=2)
    results, _ = run_on(isa, model, x=x, y=y)
    np.testing.assert_array_equal(results[0], expected(model, x=x, y=y)[0])


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("activations", ACTIVATIONS)
def test_averages_round_halves_to_even_numbers(isa, activations):
    m = QdqModel(activations, exact=True)
    y = m.op("AveragePool", m.rounded("x", 0.5), kernel_shape=[2, 2], strides=[2, 2])
    model = m.finish(("x", [1, 8, 24, 24]), outputs=[m.quantized(y, 0.5)])
    x = 20 * normal(1, 8, 24, 24)
    results, steps = run_on(isa, model, x=x)
    np.testing.assert_array_equal(results[0], expected(model, x=x)[0])
    assert ("Pooling", "pool_int8") in steps


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("channels", [3, 8])
def test_convolutions_round_halves_to_even_numbers(isa, channels):
    m = QdqModel("signed", exact=True)
    x = m.rounded("x", 0.5)
    q = m.rng.integers(-8, 8, (16, channels, 1, 1)).astype(np.int8)
    w = m.op("DequantizeLinear", m.constant(q), m.constant(np.float32(0.25)), m.constant(np.int8(0)))
    model = m.finish(("x", [1, channels, 24, 24]), outputs=[m.quantized(m.op("Conv", x, w), 0.5)])
    given = 4 * normal(1, channels, 24, 24)
    results, steps = run_on(isa, model, x=given)
    np.testing.assert_array_equal(results[0], expected(model, x=given)[0])
    assert "QuantizedConv" in operators(steps)


@pytest.mark.parametrize(("dtype", "zero"), [(np.uint8, 128), (np.uint8, 127), (np.int8, 1)])
def test_weights_with_zero_points(dtype, zero):
    m = QdqModel()
    y = m.op("Conv", m.rounded("x", 0.02), m.weight(8, 8, 3, 3, dtype=dtype, zero=zero))
    model = m.finish(("x", [1, 8, 9, 9]), outputs=[m.quantized(y, 0.04)])
    results, _ = run_on(INSTRUCTION_SETS[-1], model, x=normal(1, 8, 9, 9))
    assert np.abs(results[0].astype(int) - expected(model, x=normal(1, 8, 9, 9))[0]).max() <= 1


@pytest.mark.parametrize("activations", ACTIVATIONS)
def test_padding_of_one_side(activations):
    m = QdqModel(activations)
    y = m.op("Conv", m.rounded("x", 0.02), m.weight(8, 8, 3, 3), pads=[0, 0, 1, 1], strides=[2, 2])
    model = m.finish(("x", [1, 8, 10, 10]), outputs=[m.quantized(y, 0.2)])
    assert "QuantizedConv" in operators(check(INSTRUCTION_SETS[-1], model, x=normal(1, 8, 10, 10)))


def test_rows_are_convolved_like_images():
    m = QdqModel()
    y = m.op("Conv", m.rounded("x", 0.02), m.weight(16, 8, 3, axis=0), m.bias(16, 0.02), pads=[1, 1])
    model = m.finish(("x", [1, 8, 40]), outputs=[m.quantized(m.op("Relu", y), 0.05)])
    assert "QuantizedConv" in operators(check(INSTRUCTION_SETS[-1], model, x=normal(1, 8, 40)))


def test_integers_between_operators_may_be_anything_else():
    """Quantized numbers that are an output, moved as integers, and read by something that is not quantized."""
    m = QdqModel("signed")
    q = m.quantized("x", 0.02)
    moved = m.op("Reshape", q, m.constant(np.array([4, 8])))
    real = m.op("DequantizeLinear", moved, *m.numbers(0.02))
    model = m.finish(("x", [8, 4]), outputs=[q, m.quantized(m.op("Softmax", real), 0.002)])
    check(INSTRUCTION_SETS[-1], model, x=normal(8, 4))


def test_what_is_not_recognised_is_computed_in_real_numbers():
    """Scales for each channel of data, and scales that are computed."""
    numbers = {"c": np.array([0.02, 0.03, 0.04], np.float32), "z": np.array([3, 4, 5], np.uint8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["a"]),
        helper.make_node("DequantizeLinear", ["a", "s"], ["y"]),
        helper.make_node("QuantizeLinear", ["x", "c", "z"], ["b"], axis=1),
        helper.make_node("DequantizeLinear", ["b", "c", "z"], ["t"], axis=1),
    ]
    outputs = [("y", F, [2, 3, 5]), ("t", F, [2, 3, 5])]
    model = make(nodes, [("x", F, [2, 3, 5]), ("s", F, [1])], outputs, numbers, OPSET)
    given = {"x": normal(2, 3, 5), "s": np.array([0.03], np.float32)}
    results, _ = run_on(INSTRUCTION_SETS[-1], model, **given)
    for ours, theirs in zip(results, expected(model, **given), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("rows", [10, "n"])
def test_scales_for_blocks_of_an_axis(rows, axis):
    """Of constant weights and of data; the last block is smaller than the others."""
    rng = np.random.default_rng(0)
    weights, x = rng.integers(-127, 128, (7, 6)).astype(np.int8), normal(10, 7)
    blocks, data_blocks = ((3, 6), (4, 7)) if axis == 0 else ((7, 2), (10, 3))
    numbers = {
        "w": weights,
        "s": (rng.random(blocks) + 0.5).astype(np.float32) / 100,
        "z": rng.integers(-9, 9, blocks).astype(np.int8),
        "ds": (rng.random(data_blocks) + 0.5).astype(np.float32) / 50,
        "dz": rng.integers(90, 160, data_blocks).astype(np.uint8),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["real"], axis=axis, block_size=3),
        helper.make_node("QuantizeLinear", ["x", "ds", "dz"], ["q"], axis=axis, block_size=3),
        helper.make_node("DequantizeLinear", ["q", "ds", "dz"], ["rounded"], axis=axis, block_size=3),
        helper.make_node("MatMul", ["rounded", "real"], ["y"]),
    ]
    if axis == 1:
        nodes[0].attribute[1].i = 4
    model = make(nodes, [("x", F, [rows, 7])], [("y", F, None), ("q", TensorProto.UINT8, None)], numbers, 21)
    (y, q), _ = run_on(INSTRUCTION_SETS[-1], model, x=x)

    def spread(a, size, shape):
        return np.repeat(a, size, axis)[: shape[0], : shape[1]].astype(np.float32)

    scale, zero = spread(numbers["ds"], 3, x.shape), spread(numbers["dz"], 3, x.shape)
    wanted = np.clip(np.rint(x / scale) + zero, 0, 255)
    np.testing.assert_array_equal(q, wanted)
    size = 3 if axis == 0 else 4
    real = (weights - spread(numbers["z"], size, weights.shape)) * spread(numbers["s"], size, weights.shape)
    np.testing.assert_allclose(y, (wanted - zero) * scale @ real, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("rank", [2, 3])
def test_products_of_integers(isa, dtype, rank):
    """Zero points may be known, or be computed when the model runs."""
    rng = np.random.default_rng(3)
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max + 1, (2, 6, 700)[3 - rank :]).astype(dtype)
    w = rng.integers(-128, 128, (700, 20)).astype(np.int8)
    kind = KINDS[dtype]
    zero = np.array(info.min + 13, dtype)
    for known in (True, False):
        inputs = [("x", kind, list(x.shape))] + [("z", kind, [])] * (not known)
        numbers = {"w": w, "v": np.int8(-3)} | ({"z": zero} if known else {})
        node = helper.make_node("MatMulInteger", ["x", "w", "z", "v"], ["y"])
        model = make([node], inputs, [("y", I32, None)], numbers)
        results, steps = run_on(isa, model, x=x, **({} if known else {"z": zero.reshape(1)}))
        wanted = (x.astype(np.int64) - int(zero)) @ (w.astype(np.int64) + 3)
        np.testing.assert_array_equal(results[0], wanted)
        assert "numpy" not in {kernel for _, kernel in steps}


def test_a_quantized_convolution_is_one_of_integers():
    rng = np.random.default_rng(4)
    x = rng.integers(0, 256, (1, 8, 7, 7)).astype(np.uint8)
    numbers = {
        "xs": np.float32(0.02), "xz": np.uint8(120), "w": rng.integers(-127, 128, (6, 8, 3, 3)).astype(np.int8),
        "ws": rng.uniform(0.001, 0.01, 6).astype(np.float32), "wz": np.zeros(6, np.int8),
        "ys": np.float32(0.06), "yz": np.uint8(131), "b": rng.integers(-9000, 9000, 6).astype(np.int32),
    }  # fmt: skip
    node = helper.make_node("QLinearConv", ["x", *numbers], ["y"], pads=[1] * 4)
    model = make([node], [("x", TensorProto.UINT8, [1, 8, 7, 7])], [("y", TensorProto.UINT8, None)], numbers, OPSET)
    steps = check(INSTRUCTION_SETS[-1], model, x=x)
    assert ("QuantizedConv", "conv_direct_int8") in steps


@pytest.mark.parametrize("shape", [(1, 8), (3, 2, 16), ()])
def test_dynamic_ranges_are_found_by_kernels(shape):
    """Of all numbers, of numbers above or below zero only, of zeros, and of halves between two steps."""
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "scale", "zero"])
    outputs = [("y", TensorProto.UINT8, None), ("scale", F, None), ("zero", TensorProto.UINT8, None)]
    model = make([node], [("x", F, shape)], outputs)
    session = session_of(load_model(model.SerializeToString()).graph)
    numbers = normal(*shape)
    halves = np.round(np.clip(numbers * 40, -100, 155) * 2) / 2
    for x in (numbers, np.abs(numbers) + 1, -np.abs(numbers) - 1, numbers * 0, halves.astype(np.float32)):
        results = run(session, x=x.reshape(shape or (1,)))
        for ours, theirs in zip(results, expected(model, x=x.astype(np.float32)), strict=True):
            np.testing.assert_array_equal(ours.reshape(theirs.shape), theirs)
    assert [s.node.op for plan in session.plans() for s in plan.steps if isinstance(s, HostStep)] == []


PRODUCTS = {
    "Conv": ([2, 8, 5, 7], lambda m, x: m.op("Conv", x, m.whole(8, 8, 1, 1))),
    "Conv of each channel": ([2, 8, 5, 7], lambda m, x: m.op("Conv", x, m.whole(8, 1, 1, 1), group=8)),
    "Conv of rows": ([2, 8, 35], lambda m, x: m.op("Conv", x, m.whole(8, 8, 1))),
    "Gemm": ([70, 8], lambda m, x: m.op("Gemm", x, m.whole(8, 8))),
    "MatMul": ([2, 35, 8], lambda m, x: m.op("MatMul", x, m.whole(8, 8))),
}
FUNCTIONS = {"Relu": (), "LeakyRelu": (), "Clip": (-2.3, 3.2), "Sigmoid": (), "HardSwish": (), "Identity": ()}


def whole_numbers(*shape):
    return np.random.default_rng(3).integers(-6, 7, shape).astype(np.float32)


@pytest.mark.parametrize("product", sorted(PRODUCTS))
@pytest.mark.parametrize("function", sorted(FUNCTIONS))
@pytest.mark.parametrize("activations", sorted(ACTIVATIONS))
@pytest.mark.parametrize("end", ["real", "quantized"])
def test_what_follows_a_rounding_is_done_behind_it(product, function, activations, end):
    """All numbers before the rounding are exact, and it is a coarse one that cuts off what is out of range."""
    m = QdqModel(activations, exact=True)
    shape, make_product = PRODUCTS[product]
    y = m.rounded(make_product(m, m.rounded("x", 0.5)), 1.0 if activations == "positive" else 2.0)
    y = m.op(function, y, *(m.constant(np.float32(n)) for n in FUNCTIONS[function]))
    y = m.quantized(y, 1 / 16 if function == "Sigmoid" else 0.75) if end == "quantized" else y
    kind = KINDS[m.dtype] if end == "quantized" else F
    model = make(m.nodes, [("x", F, shape)], [(y, kind, None)], m.initializers, OPSET)
    given = {"x": whole_numbers(*shape) / 2}
    (ours,), steps = run_on(INSTRUCTION_SETS[-1], model, **given)
    (theirs,) = expected(model, **given)
    assert len(np.unique(theirs)) > 2
    np.testing.assert_allclose(ours.astype(float), theirs.astype(float), rtol=1e-5, atol=1e-6)
    # A product with the right rounding is still one of integers, and the function behind it a table.
    assert operators(steps) & {"QuantizedConv", "QuantizedMatMul"}
    if end == "quantized" and function != "Identity":
        assert {"FusedElemwise", "Elemwise"}.isdisjoint(operators(steps))


@pytest.mark.parametrize("op", ["Add", "Concat", "MatMul", "Max", "Mul", "Sub"])
@pytest.mark.parametrize("before", ["Identity", "Neg", "Reshape", "Transpose"])
@pytest.mark.parametrize("behind", ["Identity", "Relu", "Transpose"])
def test_a_tensor_that_an_operator_reads_twice(op, before, behind):
    m = QdqModel()
    x = m.op(before, m.rounded("x", 0.02), *([m.constant(np.array([6, 6]))] if before == "Reshape" else []))
    y = m.op(op, x, x, **({"axis": 1} if op == "Concat" else {}))
    y = m.quantized(m.op(behind, y), 0.037)
    model = make(m.nodes, [("x", F, [6, 6])], [(y, KINDS[m.dtype], None)], m.initializers, OPSET)
    given = {"x": normal(6, 6)}
    (ours,), _ = run_on(INSTRUCTION_SETS[-1], model, **given)
    (theirs,) = expected(model, **given)
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1
    assert np.array_equal(ours, theirs) or op in ("MatMul", "Mul")
