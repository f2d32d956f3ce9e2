"""Quantized graphs on every instruction set, against the definitions of their operators."""

from itertools import permutations

import numpy as np
import pytest
from support.quantized import INSTRUCTION_SETS, QuantizedBuilder, agree, q8, q32, run_kernels, u8

from megengine_lite._core.ir.dtype import FLOAT32, INT8, INT32, UINT8, DType, DTypeCode
from megengine_lite._core.ir.params import (
    AdaptivePooling,
    ConvBias,
    ConvBiasNonlineMode,
    Convolution,
    ConvolutionMode,
    ConvolutionSparse,
    DTypeTable,
    Elemwise,
    ElemwiseMode,
    ElemwiseMultiType,
    ElemwiseMultiTypeMode,
    MatrixMul,
    Pooling,
    PoolingMode,
)
from megengine_lite._core.operators.reference import run_reference

N = ConvBiasNonlineMode
Q = ElemwiseMultiTypeMode
GROUP = ConvolutionSparse.GROUP
# Scales without simple ratios: ties are rare.
X, W, Z, Y = 0.01937, 0.00713, 0.0271, 0.3119

pytestmark = pytest.mark.parametrize("isa", INSTRUCTION_SETS)


def case(**fields):
    return fields


def scale_for(terms):
    """An output scale that uses the range of a byte for sums of so many products."""
    return float(X * W * 5000 * np.sqrt(terms) / 127)


def conv(b, x, oc, k, *, dtype=None, bias=True, groups=1, w_dtype=None, limits=None, **params):
    """A ConvBias node on a variable, with random weights of the whole range."""
    k = (k, k) if isinstance(k, int) else k
    c = (x.spec.shape if x.spec else params.pop("shape"))[1]
    w_dtype = w_dtype or q8(W)
    shape = (oc, c, *k) if groups == 1 else (groups, oc // groups, c // groups, *k)
    inputs = [x, b.weight(shape, w_dtype, **(limits or {}))]
    x_dtype = params.pop("x_dtype", None) or x.spec.dtype
    if bias:
        inputs.append(b.weight((1, oc, 1, 1), q32(x_dtype.scale * w_dtype.scale), low=-9000, high=9000))
    if groups > 1:
        params["sparse"] = GROUP
    dtype = dtype or q8(scale_for(c // groups * k[0] * k[1]))
    return b.typed_node("ConvBiasForward", ConvBias(**params), inputs, dtype)


CONVOLUTIONS = {
    "3x3": case(x=(1, 32, 9, 11), oc=48, k=3, pad_h=1, pad_w=1),
    "3x3 odd channels": case(x=(2, 21, 8, 7), oc=37, k=3, pad_h=1, pad_w=1, nonlineMode=N.RELU),
    "3x3 rows of 7": case(x=(1, 40, 7, 7), oc=33, k=3, pad_h=1, pad_w=1),
    "3x3 stride 2 to rows of 7": case(x=(1, 16, 14, 14), oc=16, k=3, pad_h=1, pad_w=1, stride_h=2, stride_w=2),
    "1x1": case(x=(2, 24, 7, 9), oc=40, k=1),
    "1x1 stride 2": case(x=(1, 24, 9, 9), oc=20, k=1, stride_h=2, stride_w=2, nonlineMode=N.RELU),
    "1x1 padded": case(x=(1, 5, 6, 9), oc=13, k=1, pad_h=1, pad_w=1),
    "5x3 stride 2x1": case(x=(1, 16, 11, 30), oc=16, k=(5, 3), pad_h=2, stride_h=2),
    "stride 3": case(x=(1, 9, 17, 22), oc=8, k=4, pad_h=1, pad_w=1, stride_h=3, stride_w=3),
    "dilated": case(x=(1, 16, 12, 13), oc=24, k=3, pad_h=2, pad_w=3, dilate_h=2, dilate_w=3),
    "mirrored": case(x=(1, 6, 8, 8), oc=10, k=3, pad_h=1, pad_w=1, mode=ConvolutionMode.CONVOLUTION),
    "no bias": case(x=(1, 20, 5, 29), oc=70, k=3, bias=False),
    "h_swish": case(x=(1, 16, 6, 6), oc=16, k=3, nonlineMode=N.H_SWISH),
    "sigmoid": case(x=(1, 16, 6, 6), oc=16, k=3, nonlineMode=N.SIGMOID, dtype=q8(1 / 127)),
    "4 groups": case(x=(1, 64, 8, 9), oc=32, k=3, groups=4, pad_h=1, pad_w=1),
    "odd groups": case(x=(2, 15, 8, 9), oc=20, k=3, groups=5),
    "groups that leave one": case(x=(2, 7 * 24, 8, 9), oc=7 * 24, k=3, groups=7, pad_h=1, pad_w=1, nonlineMode=N.RELU),
    "groups that leave three": case(x=(1, 11 * 4, 9, 7), oc=11 * 12, k=3, groups=11, stride_h=2, stride_w=2),
    "groups that leave one, 1x1": case(x=(1, 5 * 8, 12, 12), oc=5 * 24, k=1, groups=5),
    "multiplier": case(x=(1, 16, 8, 9), oc=32, k=3, groups=16),
    "image 7x7 stride 2": case(x=(1, 3, 30, 31), oc=20, k=7, pad_h=3, pad_w=3, stride_h=2, stride_w=2),
    "image 3x3": case(x=(2, 4, 9, 50), oc=33, k=3, pad_h=1, pad_w=1, nonlineMode=N.RELU),
    "image grey stride 3": case(x=(1, 1, 12, 40), oc=8, k=3, stride_h=3, stride_w=3),
    "image dilated": case(x=(1, 3, 12, 12), oc=16, k=3, pad_h=2, pad_w=2, dilate_h=2, dilate_w=2),
    "depthwise 3x3": case(x=(1, 40, 9, 30), oc=40, k=3, groups=40, pad_h=1, pad_w=1, nonlineMode=N.RELU),
    "depthwise stride 2": case(x=(2, 16, 9, 15), oc=16, k=3, groups=16, pad_h=1, pad_w=1, stride_h=2, stride_w=2),
    "depthwise 5x5": case(x=(1, 10, 12, 17), oc=10, k=5, groups=10, pad_h=2, pad_w=2),
    "depthwise 7x7 stride 3": case(x=(1, 18, 20, 20), oc=18, k=7, groups=18, stride_h=3, stride_w=3),
    "depthwise dilated": case(x=(1, 20, 12, 13), oc=20, k=3, groups=20, pad_h=2, pad_w=2, dilate_h=2, dilate_w=2),
    "long row": case(x=(1, 16, 1, 1100), oc=8, k=(1, 9), pad_w=4),
}


@pytest.mark.parametrize("label", CONVOLUTIONS)
def test_conv_of_signed_bytes(isa, label):
    fields = dict(CONVOLUTIONS[label])
    b = QuantizedBuilder()
    x = b.data(fields.pop("x"), q8(X))
    steps = agree(b, conv(b, x, **fields), isa=isa)
    assert {"conv_direct_int8", "conv_depthwise_int8", "conv_winograd2_int8"} & set(steps)


@pytest.mark.parametrize("label", ["3x3 odd channels", "depthwise 5x5", "1x1", "4 groups", "image 7x7 stride 2"])
def test_sums_of_conv_are_exact(isa, label):
    fields = dict(CONVOLUTIONS[label], nonlineMode=N.IDENTITY)
    b = QuantizedBuilder()
    x = b.data(fields.pop("x"), q8(X))
    agree(b, conv(b, x, dtype=q32(np.float32(X) * np.float32(W)), **fields), isa=isa)


@pytest.mark.parametrize("label", ["3x3 odd channels", "depthwise 5x5", "1x1 padded", "odd groups", "image 3x3", "3x3"])
@pytest.mark.parametrize(("zero", "w_zero"), [(128, 128), (3, 7), (255, 0)])
def test_conv_of_asymmetric_bytes(isa, label, zero, w_zero):
    fields = dict(CONVOLUTIONS[label])
    b = QuantizedBuilder()
    x = b.data(fields.pop("x"), u8(X, zero))
    agree(b, conv(b, x, dtype=u8(scale_for(5000), 120), w_dtype=u8(W, w_zero), **fields), isa=isa)


def test_conv_of_plain_integers(isa):
    b = QuantizedBuilder()
    x, w = b.data((1, 18, 7, 8), INT8), b.weight((9, 18, 3, 3), INT8)
    agree(b, b.typed_node("Convolution", Convolution(pad_h=1, pad_w=1), [x, w]), isa=isa)


@pytest.mark.parametrize("dtype", [q32(0.003), FLOAT32, q8(0.05)], ids=str)
@pytest.mark.parametrize("nonlinear", [N.IDENTITY, N.RELU])
def test_conv_gives_other_types(isa, dtype, nonlinear):
    b = QuantizedBuilder()
    x = b.data((1, 16, 6, 7), q8(X))
    y = conv(b, x, 24, 3, dtype=dtype, nonlineMode=nonlinear)
    if dtype.code is DTypeCode.QUANTIZED_S32:  # rounded, so that ties may fall to the other side
        graph = b.finish(y)
        (got,), (want,) = run_kernels(graph, b.values, isa)[0], run_reference(graph, b.values)
        assert np.abs(got - want).max() <= 1
        assert (got == want).mean() >= 0.99
    else:
        agree(b, y, isa=isa)


def test_conv_with_four_bits(isa):
    b = QuantizedBuilder()
    s4, u4 = DType(DTypeCode.QUANTIZED_S4, X), DType(DTypeCode.QUANTIZED4_ASYMM, X, 7)
    w4 = DType(DTypeCode.QUANTIZED_S4, W)
    for dtype in (s4, u4):
        x = b.data((1, 17, 6, 6), dtype)
        y = conv(b, x, 12, 3, w_dtype=w4, dtype=DType(dtype.code, 0.04, dtype.zero_point), bias=False)
        agree(b, y, isa=isa)


def test_real_bias(isa):
    b = QuantizedBuilder()
    x, w = b.data((1, 16, 6, 7), q8(X)), b.weight((20, 16, 3, 3), q8(W))
    bias = b.typed(b.random((1, 20, 1, 1), FLOAT32), FLOAT32)
    agree(b, b.typed_node("ConvBiasForward", ConvBias(), [x, w, bias], q8(scale_for(144))), isa=isa)


@pytest.mark.parametrize("label", ["3x3", "1x1", "depthwise 3x3", "3x3 rows of 7"])
@pytest.mark.parametrize("dtype", [q8(Z), u8(Z, 31)], ids=str)
def test_conv_adds_z_before_its_activation(isa, label, dtype):
    fields = dict(CONVOLUTIONS[label], nonlineMode=N.RELU)
    b = QuantizedBuilder()
    n, c, h, w = fields.pop("x")
    y = conv(b, b.data((n, c, h, w), q8(X)), **fields)
    b.nodes[-1].inputs.append(b.data((n, fields["oc"], h, w), dtype))
    agree(b, y, isa=isa)


@pytest.mark.parametrize("mode", [Q.QADD, Q.QFUSE_ADD_RELU])
@pytest.mark.parametrize("nonlinear", [N.IDENTITY, N.RELU])
def test_addition_is_done_by_the_convolution(isa, mode, nonlinear):
    b = QuantizedBuilder()
    x, z = b.data((1, 24, 7, 9), q8(X)), b.data((1, 40, 7, 9), q8(Z))
    y = conv(b, x, 40, 3, pad_h=1, pad_w=1, nonlineMode=nonlinear)
    total = b.typed_node("ElemwiseMultiType", ElemwiseMultiType(mode=mode), [z, y], q8(Y))
    steps = agree(b, total, isa=isa)
    assert "binary_int8" not in steps


def test_conv_with_two_readers_is_not_absorbed(isa):
    b = QuantizedBuilder()
    x, z = b.data((1, 8, 5, 5), q8(X)), b.data((1, 8, 5, 5), q8(Z))
    y = conv(b, x, 8, 3, pad_h=1, pad_w=1)
    total = b.typed_node("ElemwiseMultiType", ElemwiseMultiType(mode=Q.QADD), [y, z], q8(Y))
    steps = agree(b, y, total, isa=isa)
    assert "binary_int8" in steps


@pytest.mark.parametrize("to", [q8(0.5), u8(0.4, 128), FLOAT32], ids=str)
def test_conversion_of_sums_is_done_by_the_convolution(isa, to):
    b = QuantizedBuilder()
    x = b.data((1, 24, 7, 9), q8(X))
    y = conv(b, x, 40, 3, dtype=q32(np.float32(X) * np.float32(W)))
    y = b.typed_node("TypeCvt", DTypeTable(dtype=to), [y])
    steps = agree(b, y, isa=isa)
    assert "binary_int8" not in steps


def test_image_is_quantized_while_it_is_packed(isa):
    b = QuantizedBuilder()
    image = b.data((2, 3, 20, 21))
    x = b.typed_node("TypeCvt", DTypeTable(dtype=q8(0.021)), [image])
    y = conv(b, x, 16, 3, pad_h=1, pad_w=1, shape=(2, 3, 20, 21), x_dtype=q8(0.021))
    steps = agree(b, y, isa=isa)
    assert "binary_int8" not in steps
    assert steps.count("pack_image_int8") == 1


@pytest.mark.parametrize("fuse", [True, False])
def test_chain_of_layers(isa, fuse):
    """Rectified inputs take another way than signed ones; layouts meet at a concatenation."""
    b = QuantizedBuilder()
    image = b.data((1, 3, 32, 32))
    first, one = q8(0.021), q8(0.4)
    x = b.typed_node("TypeCvt", DTypeTable(dtype=first), [image])
    y = conv(b, x, 24, 3, dtype=one, nonlineMode=N.RELU, shape=(1, 3, 32, 32), x_dtype=first, stride_h=2, stride_w=2)
    left = conv(b, y, 32, 3, dtype=one, nonlineMode=N.RELU, shape=(1, 24, 15, 15), x_dtype=one, pad_h=1, pad_w=1)
    right = conv(b, y, 24, 3, dtype=one, groups=24, shape=(1, 24, 15, 15), x_dtype=one, pad_h=1, pad_w=1)
    pooled = b.typed_node("Pooling", Pooling(mode=PoolingMode.MAX, window_h=3, window_w=3, pad_h=1, pad_w=1), [left])
    last = conv(b, right, 16, 1, dtype=one, shape=(1, 24, 15, 15), x_dtype=one, stride_h=2, stride_w=2)
    agree(b, pooled, last, isa=isa, exact=0.97, fuse=fuse)


# ---- transposed convolution, matrix products -------------------------------------------------------------------------

DECONVOLUTIONS = {
    "2x2 stride 2": (20, 24, 2, case(stride_h=2, stride_w=2), 1),
    "3x3 stride 2": (16, 16, 3, case(stride_h=2, stride_w=2, pad_h=1, pad_w=1), 1),
    "4x4 groups": (12, 8, 4, case(stride_h=2, stride_w=2, pad_h=1, pad_w=1), 4),
    "1x1 stride 3": (16, 16, 1, case(stride_h=3, stride_w=3), 1),
}


@pytest.mark.parametrize("layer", DECONVOLUTIONS.values(), ids=DECONVOLUTIONS)
@pytest.mark.parametrize("dtype", [q8(0.3), None], ids=["bytes", "sums"])
@pytest.mark.parametrize("x_dtype", [q8(X), u8(X, 77)], ids=str)
def test_transposed_conv(isa, layer, dtype, x_dtype):
    ic, oc, k, params, groups = layer
    b = QuantizedBuilder()
    shape = (ic, oc, k, k) if groups == 1 else (groups, ic // groups, oc // groups, k, k)
    w_dtype = q8(W) if x_dtype.code is DTypeCode.QUANTIZED_S8 else u8(W, 131)
    x, w = b.data((2, ic, 6, 5), x_dtype), b.weight(shape, w_dtype)
    params = Convolution(sparse=GROUP if groups > 1 else ConvolutionSparse.DENSE, **params)
    agree(b, b.typed_node("ConvolutionBackwardData", params, [w, x], dtype), isa=isa)


@pytest.mark.parametrize("dtypes", [(q8(X), q8(W)), (u8(X, 100), u8(W, 3)), (u8(X, 1), u8(W, 0)), (INT8, INT8)])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 10, 48), (4, 33, 7), (37, 70, 130)])
@pytest.mark.parametrize("transposed", [(False, True), (True, False)])
@pytest.mark.parametrize("constant", [False, True])
def test_matrix_product_is_exact(isa, dtypes, m, n, k, transposed, constant):
    b = QuantizedBuilder()
    left = b.data((k, m) if transposed[0] else (m, k), dtypes[0])
    shape = (n, k) if transposed[1] else (k, n)
    right = b.weight(shape, dtypes[1]) if constant else b.data(shape, dtypes[1])
    params = MatrixMul(transposeA=transposed[0], transposeB=transposed[1])
    agree(b, b.typed_node("MatrixMul", params, [left, right]), isa=isa)


@pytest.mark.parametrize("transposed", [(False, False), (True, True)])
def test_batched_product_is_exact(isa, transposed):
    b = QuantizedBuilder()
    left = b.data((3, 20, 9) if transposed[0] else (3, 9, 20), q8(X))
    right = b.data((3, 35, 20) if transposed[1] else (3, 20, 35), q8(W))
    params = MatrixMul(transposeA=transposed[0], transposeB=transposed[1])
    agree(b, b.typed_node("BatchedMatrixMul", params, [left, right]), isa=isa)


def test_linear_layer_is_one_product(isa):
    b = QuantizedBuilder()
    x, w = b.data((3, 50), q8(X)), b.weight((21, 50), q8(W))
    sums = q32(np.float32(X) * np.float32(W))
    y = b.typed_node("MatrixMul", MatrixMul(transposeB=True), [x, w])
    bias = b.weight((21,), sums, low=-3000, high=3000)
    y = b.typed_node("Elemwise", Elemwise(mode=ElemwiseMode.ADD), [bias, y])
    y = b.typed_node("TypeCvt", DTypeTable(dtype=q8(0.3)), [y])
    assert agree(b, y, isa=isa) == ["pack_rows_int8", "gemm_int8"]


# ---- elementwise, conversion, pooling --------------------------------------------------------------------------------

BINARY = [Q.QADD, Q.QSUB, Q.QMUL, Q.QMAX, Q.QMIN, Q.QFUSE_ADD_RELU, Q.QTRUE_DIV, Q.QLT]
SHAPES = {
    "same": ((2, 19, 5, 7), (2, 19, 5, 7)),
    "channel": ((2, 19, 5, 7), (1, 19, 1, 1)),
    "scalar": ((2, 19, 5, 7), (1,)),
    "row": ((2, 19, 5, 7), (1, 1, 1, 7)),
    "both": ((2, 1, 5, 1), (1, 19, 1, 7)),
    "matrix": ((33, 70), (33, 70)),
    "long": ((3, 40000), (3, 40000)),
}


@pytest.mark.parametrize("mode", BINARY)
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_function_of_two_operands(isa, mode, shapes):
    b = QuantizedBuilder()
    operands = [b.data(shapes[0], q8(X)), b.data(shapes[1], u8(W * 3, 100))]
    agree(b, b.typed_node("ElemwiseMultiType", ElemwiseMultiType(mode=mode), operands, q8(0.0217)), isa=isa, exact=0.98)


@pytest.mark.parametrize("shape", [(1, 24, 6, 5), (1, 24, 1, 1), (1, 1, 6, 5), (1,)])
@pytest.mark.parametrize("mode", [Q.QADD, Q.QTRUE_DIV])
def test_function_of_blocked_operands(isa, mode, shape):
    b = QuantizedBuilder()
    y = conv(b, b.data((1, 16, 6, 5), q8(X)), 24, 1, dtype=q8(0.3))
    other = b.data(shape, q8(Z), low=1)
    total = b.typed_node("ElemwiseMultiType", ElemwiseMultiType(mode=mode), [y, other], q8(0.33))
    tail = conv(b, total, 8, 3, shape=(1, 24, 6, 5), x_dtype=q8(0.33), pad_h=1, pad_w=1, dtype=q8(9.7))
    agree(b, y, tail, isa=isa, exact=0.95)


@pytest.mark.parametrize("mode", [Q.QRELU, Q.QSIGMOID, Q.QTANH, Q.QH_SWISH, Q.QEXP, Q.QROUND, Q.QABS])
@pytest.mark.parametrize("dtype", [q8(X), u8(X, 7)], ids=str)
def test_function_of_one_operand_is_exact(isa, mode, dtype):
    b = QuantizedBuilder()
    x = b.data((1, 3, 211), dtype)
    y = b.typed_node("ElemwiseMultiType", ElemwiseMultiType(mode=mode), [x], u8(0.011, 60))
    assert agree(b, y, isa=isa, exact=1) == ["table_8"]


TYPES = [FLOAT32, q8(0.013), q8(0.11), u8(0.021, 130), q32(0.0004)]


@pytest.mark.parametrize(("source", "target"), list(permutations(TYPES, 2)), ids=str)
def test_conversion_is_exact(isa, source, target):
    b = QuantizedBuilder()
    limits = case(low=-100000, high=100000) if source.code is DTypeCode.QUANTIZED_S32 else {}
    x = b.data((3, 5, 77), source, **limits)
    agree(b, b.typed_node("TypeCvt", DTypeTable(dtype=target), [x]), isa=isa, exact=1)


def test_conversion_of_extremes(isa):
    b = QuantizedBuilder()
    x = b.data((9,))
    b.values[x.name] = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 0.5, -0.5, 2.5, -0.49999997], np.float32)
    y = b.typed_node("TypeCvt", DTypeTable(dtype=q8(1.0)), [x])
    agree(b, y, isa=isa, exact=1)


def test_halves_go_away_from_zero(isa):
    b = QuantizedBuilder()
    x = b.data((255,), q8(1.0))
    b.values[x.name] = np.arange(-127, 128).astype(np.int8)
    zero = b.typed(np.zeros(255, np.int8), q8(1.0))
    y = b.typed_node("ElemwiseMultiType", ElemwiseMultiType(mode=Q.QADD), [x, zero], q8(2.0))
    agree(b, y, isa=isa, exact=1)


@pytest.mark.parametrize("mode", [ElemwiseMode.ADD, ElemwiseMode.SUB, ElemwiseMode.MAX, ElemwiseMode.MIN])
@pytest.mark.parametrize("dtype", [q32(0.5), q8(0.5), INT32], ids=str)
@pytest.mark.parametrize("shapes", [SHAPES["same"], SHAPES["channel"], SHAPES["both"]])
def test_arithmetic_on_stored_numbers(isa, mode, dtype, shapes):
    b = QuantizedBuilder()
    limits = case(low=-(2**30), high=2**30) if dtype.itemsize == 4 else {}
    operands = [b.data(shape, dtype, **limits) for shape in shapes]
    agree(b, b.typed_node("Elemwise", Elemwise(mode=mode), operands), isa=isa, exact=1)


@pytest.mark.parametrize("mode", [ElemwiseMode.RELU, ElemwiseMode.NEGATE])
def test_arithmetic_on_one_operand(isa, mode):
    b = QuantizedBuilder()
    x = b.data((3, 50), q32(0.5), low=-(2**30), high=2**30)
    agree(b, b.typed_node("Elemwise", Elemwise(mode=mode), [x]), isa=isa, exact=1)


@pytest.mark.parametrize("mode", list(PoolingMode))
@pytest.mark.parametrize("dtype", [q8(X), u8(X, 93), INT8, UINT8], ids=str)
@pytest.mark.parametrize("window", [(2, 2, 0), (3, 2, 1), (3, 1, 1), (7, 7, 0), (4, 3, 2)])
def test_pooling_is_exact(isa, mode, dtype, window):
    size, stride, pad = window
    b = QuantizedBuilder()
    x = b.input("x", (2, 19, 14, 15), dtype)
    b.values["x"] = b.rng.integers(0, 256, (2, 19, 14, 15)).astype(np.uint8).view(dtype.storage)
    params = Pooling(mode=mode, window_h=size, window_w=size, stride_h=stride, stride_w=stride, pad_h=pad, pad_w=pad)
    assert "pool_int8" in agree(b, b.typed_node("Pooling", params, [x]), isa=isa, exact=1)


@pytest.mark.parametrize("mode", list(PoolingMode))
def test_adaptive_pooling_is_exact(isa, mode):
    b = QuantizedBuilder()
    x = b.data((1, 20, 13, 9), q8(X))
    y = b.typed_node("AdaptivePooling", AdaptivePooling(mode=mode), [x, b.constant(np.array([3, 2], np.int32))])
    assert "pool_int8" in agree(b, y, isa=isa, exact=1)


# ---- plain integers between convolutions -----------------------------------------------------------------------------


def test_int32_stays_in_blocks(isa):
    """Arithmetic and the conversion to float32 of what a convolution of int8 leaves."""
    b = QuantizedBuilder()
    x, w, bias = b.data((2, 18, 7, 8), INT8), b.weight((9, 18, 3, 3), INT8), b.weight((1, 9, 1, 1), INT32)
    y = b.typed_node("Convolution", Convolution(), [x, w])
    y = b.typed_node("Elemwise", Elemwise(mode=ElemwiseMode.ADD), [y, bias])
    y = b.typed_node("Elemwise", Elemwise(mode=ElemwiseMode.NEGATE), [y])
    y = b.typed_node("Elemwise", Elemwise(mode=ElemwiseMode.RELU), [y])
    y = b.typed_node("TypeCvt", DTypeTable(dtype=FLOAT32), [y])
    steps = agree(b, y, isa=isa, fuse=False)
    assert steps[-5:] == ["binary_s32"] * 3 + ["binary_int8", "relayout_to_plain_32"]


@pytest.mark.parametrize(("source", "target"), [(INT8, UINT8), (UINT8, INT8), (INT8, INT8)], ids=str)
def test_bytes_that_change_their_name_stay_where_they_are(isa, source, target):
    b = QuantizedBuilder()
    x = b.data((1, 5, 8, 6), source, low=0, high=127)
    b.values[x.name][0, 0, 0, :4] = np.array([128, 255, 0, 127], np.uint8).view(source.storage)
    y = b.typed_node("Pooling", Pooling(), [x])
    y = b.typed_node("TypeCvt", DTypeTable(dtype=target), [y])
    steps = agree(b, y, isa=isa, exact=1)
    assert [s for s in steps if not s.startswith("relayout")] == ["pool_int8"]


@pytest.mark.parametrize("source", [INT8, UINT8], ids=str)
def test_blocked_bytes_become_floats(isa, source):
    b = QuantizedBuilder()
    y = b.typed_node("Pooling", Pooling(), [b.data((1, 5, 8, 6), source, low=0, high=127)])
    y = b.typed_node("TypeCvt", DTypeTable(dtype=FLOAT32), [y])
    assert "binary_int8" in agree(b, y, isa=isa)
