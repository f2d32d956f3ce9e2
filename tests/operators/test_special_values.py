"""Special values through float operators that are not elementwise: kernels and definitions say the same."""

import numpy as np
import pytest
from support.graphs import GraphBuilder, run, session_of
from support.instruction_sets import INSTRUCTION_SETS
from support.special_numbers import LARGEST, SPECIAL, assert_identical, assert_same
from test_special_values_elemwise import WITHOUT_MINUS_ZERO, identity

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import BOOL, DType, DTypeCode, from_numpy
from megengine_lite._core.ir.fused import FusedMatMul
from megengine_lite._core.ir.params import PoolingMode, ReduceMode
from megengine_lite._core.operators.reference import run_reference

LENGTHS = [*range(1, 12), 15, 16, 17, 31, 33, 40, 67]
EXTREMES = [np.inf, -np.inf, np.nan, LARGEST, -LARGEST, -0.0]


def graph_of(op, param, shape, outputs=1, constants=(), blocked=False):
    b = GraphBuilder()
    x = b.input("x", shape)
    y = identity(b, x) if blocked else x
    result = b.node(op, param, [y, *map(b.constant, constants)], outputs)
    return b.finish(*(result if isinstance(result, list) else [result]))


def check(op, param, x, isa, outputs=1, constants=(), blocked=False, **tolerance):
    """One and more threads give the same bits, and what the definition says."""
    graph = graph_of(op, param, x.shape, outputs, constants, blocked)
    want = run_reference(graph, {"x": x})
    one = run(session_of(graph, isa=isa), x=x)
    more = run(session_of(graph, isa=isa, threads=3), x=x)
    for k, (a, b, w) in enumerate(zip(one, more, want, strict=True)):
        label = f"{op} {param} of {x.shape}, output {k}"
        assert_identical(a, b, label)
        assert_same(a, w, label, **tolerance)
    return one


def rows_with(length, fill=None, extremes=EXTREMES):
    """Rows with a special number at each position, and rows of nothing else; the rest is ordinary or ``fill``."""
    rng = np.random.default_rng(length)
    rows = []
    for value in extremes:
        for position in {0, 1, length // 2, length - 1} & set(range(length)):
            row = rng.uniform(0.5, 2, length).astype(np.float32) if fill is None else np.full(length, fill, np.float32)
            row[position] = value
            rows.append(row)
        rows.append(np.full(length, value, np.float32))
    return np.stack(rows)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("along", ["rows", "columns", "middle"])
@pytest.mark.parametrize("mode", ReduceMode, ids=lambda m: m.name)
def test_reductions(mode, along, isa):
    for length in LENGTHS:
        for fill in (None, -np.inf, np.nan):
            # Where a product overflows depends on its order.
            extremes = EXTREMES if mode != ReduceMode.PRODUCT else [np.inf, -np.inf, np.nan, 0, 1e-40]
            check("Reduce", params.Reduce(mode=mode, axis=1), laid_out(rows_with(length, fill, extremes), along), isa)


def laid_out(rows, along):
    """The rows as [row, element], or beside each other as [1, element, row], with or without a larger outer extent."""
    if along == "rows":
        return rows
    columns = np.ascontiguousarray(rows.T)[None]
    return columns if along == "columns" else np.concatenate([columns, columns[:, :, ::-1]])


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_extremes_of_infinities_are_finite_as_in_the_original(isa):
    low, high = np.full((2, 40), -np.inf, np.float32), np.full((2, 40), np.inf, np.float32)
    for axis in (0, 1):
        (largest,) = check("Reduce", params.Reduce(mode=ReduceMode.MAX, axis=axis), low, isa)
        (least,) = check("Reduce", params.Reduce(mode=ReduceMode.MIN, axis=axis), high, isa)
        assert (largest == -LARGEST).all()
        assert (least == LARGEST).all()


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("along", ["rows", "columns", "middle"])
@pytest.mark.parametrize("op", ["Argmax", "Argmin", "Softmax", "Cumsum"])
def test_along_an_axis(op, along, isa):
    param = {"Softmax": params.Softmax(axis=1), "Cumsum": params.Cumsum(axis=1)}.get(op, params.Axis(axis=1))
    for length in LENGTHS:
        for fill in (None, -np.inf, np.nan):
            check(op, param, laid_out(rows_with(length, fill), along), isa)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_argmax_takes_the_last_nan(isa):
    row = np.float32([[1, np.nan, 3, np.nan, 2]])
    for x, axis in ((row, 1), (np.ascontiguousarray(row.T), 0)):
        for op in ("Argmax", "Argmin"):
            assert check(op, params.Axis(axis=axis), x, isa)[0].item() == 3


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_softmax_of_a_row_with_nan_or_infinity_is_nan(isa):
    for length in LENGTHS[1:]:
        x = np.zeros((5, length), np.float32)
        x[0, -1], x[1, 0], x[2, :], x[3, 0], x[4, :] = np.nan, np.inf, -np.inf, -np.inf, -1000
        (y,) = check("Softmax", params.Softmax(axis=1), x, isa)
        assert np.isnan(y[:3]).all()
        np.testing.assert_allclose(y[3], [0, *[1 / (length - 1)] * (length - 1)], rtol=1e-6)
        np.testing.assert_allclose(y[4], 1 / length, rtol=1e-6)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("blocked", [False, True], ids=["plain", "blocked"])
@pytest.mark.parametrize("mode", PoolingMode, ids=lambda m: m.name)
def test_pooling(mode, blocked, isa):
    rng = np.random.default_rng(0)
    atol = 0 if mode == PoolingMode.MAX else 1e-6
    for width in (1, 2, 3, 5, 8, 17, 40):
        x = rng.uniform(-1, 1, (2, 5, 6, width)).astype(np.float32)
        chosen = rng.random(x.shape) < 0.3
        finite = [LARGEST, -LARGEST] if mode == PoolingMode.MAX else [1e30]  # how sums cancel depends on their order
        x[chosen] = rng.choice(np.float32([np.inf, -np.inf, np.nan, *finite]), chosen.sum())
        x[0, 0], x[0, 1] = -np.inf, np.nan
        for size, stride, pad in ((1, 1, 0), (2, 2, 0), (2, 1, 1), (3, 2, 1), (3, 1, 1), (5, 3, 2)):
            window = {"window_h": size, "window_w": size, "stride_h": stride, "stride_w": stride}
            if width + 2 * pad >= size:
                pooling = params.Pooling(mode=mode, pad_h=pad, pad_w=pad, **window)
                check("Pooling", pooling, x, isa, blocked=blocked, atol=atol)
        whole = params.Pooling(mode=mode, window_h=6, window_w=width)
        (y,) = check("Pooling", whole, x, isa, blocked=blocked, atol=atol)
        if mode == PoolingMode.MAX:
            assert (y[0, :2] == -LARGEST).all()


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("blocked", [False, True], ids=["plain", "blocked"])
def test_norms(blocked, isa):
    """A special number makes NaN of what its statistics are taken over, and of nothing else."""
    shape = (2, 16, 3, 5)
    ones = [np.ones(16, np.float32)] * 2
    for value in (np.inf, -np.inf, np.nan):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        x[0, 5, 1, 2] = value
        for op, group in (("InstanceNorm", 1), ("GroupNorm", 4), ("GroupNorm", 1), ("GroupNorm", 16)):
            for affine in (True, False):
                param = params.GroupNorm(affine=affine, group=group)
                (y, *_) = check(op, param, x, isa, 3, ones[: 2 * affine], blocked, atol=2e-6)
                channels = 1 if op == "InstanceNorm" else 16 // group
                assert np.isnan(y).sum() == channels * 15
        check("LRN", params.LRN(), x, isa, 1, (), blocked, atol=1e-6)
        for begin, end in ((1, 2), (2, 4), (3, 4), (1, 4)):
            check("GeneralNorm", params.GeneralNorm(affine=False, axis_start=begin, axis_end=end), x, isa, 3, atol=2e-6)
        check("LayerNorm", params.LayerNorm(affine=False, normalized_dim=2), x, isa, 3, atol=2e-6)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("blocked", [False, True], ids=["plain", "blocked"])
@pytest.mark.parametrize("mode", ["NEAREST", "LINEAR"])
def test_resize(mode, blocked, isa):
    param = params.Resize(imode=params.InterpolationMode[mode], format=0)
    for value in (np.inf, -np.inf, np.nan, LARGEST / 4):
        for h, w in ((4, 4), (8, 9), (7, 40), (3, 2)):
            x = np.random.default_rng(0).uniform(1, 2, (1, 5, 4, 4)).astype(np.float32)
            x[0, 2, 1, 2] = value
            check("Resize", param, x, isa, 1, [np.int32([h, w])], blocked)


CONVERSIONS = [
    *map(from_numpy, map(np.dtype, ("int8", "uint8", "int16", "uint16", "int32", "float16"))),
    BOOL,
    DType(DTypeCode.BFLOAT16),
    DType(DTypeCode.QUANTIZED_S8, 0.5),
    DType(DTypeCode.QUANTIZED8_ASYMM, 0.5, 10),
    DType(DTypeCode.QUANTIZED_S32, 0.5),
]


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", CONVERSIONS, ids=str)
def test_conversions(dtype, isa):
    bounds = [127.5, 128.5, -128.5, -129, 255.5, 256, 32767.5, 32768, 65535, 65536, 2147483520, 2147483648, -2147483648]
    numbers = np.float32([*SPECIAL, *bounds, -2.2e9, 3e9, 0.49999997, -0.49999997, 65520, 6e-8, 1e-8])
    param = params.DTypeTable(dtype=dtype)
    for size in (*range(1, 41), 600):
        x = np.resize(numbers, size)
        graph = graph_of("TypeCvt", param, x.shape)
        (actual,) = run(session_of(graph, isa=isa), x=x)
        (want,) = run_reference(graph, {"x": x})
        assert_identical(actual, want, f"{size} numbers")


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_sorting(isa):
    for length in LENGTHS:
        for order in params.ArgsortOrder:
            check("Argsort", params.Argsort(order=order), rows_with(length), isa, 2)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_products_and_convolutions(isa):
    """NaN and infinities reach what they are summed into, and nothing else."""
    rng = np.random.default_rng(0)
    w = rng.uniform(0.5, 1, (33, 20)).astype(np.float32)
    for rows in (1, 2, 7):
        x = rng.uniform(0.5, 1, (rows, 33)).astype(np.float32)
        x[-1, 5], x[0, 32] = np.inf, np.nan
        check("FusedMatMul", FusedMatMul(False, False), x, isa, 1, [w])
    image = rng.uniform(0.5, 1, (1, 24, 9, 11)).astype(np.float32)
    image[0, 3, 4, 5], image[0, 23, 0, 0] = np.inf, np.nan
    kernel = rng.uniform(0.5, 1, (20, 24, 1, 1)).astype(np.float32)
    check("Convolution", params.Convolution(), image, isa, 1, [kernel])
    depthwise = rng.uniform(0.5, 1, (24, 1, 1, 3, 3)).astype(np.float32)
    check("Convolution", params.Convolution(pad_h=1, pad_w=1, sparse=1), image, isa, 1, [depthwise])


def test_numbers_without_minus_zero():
    assert not np.signbit(WITHOUT_MINUS_ZERO[WITHOUT_MINUS_ZERO == 0]).any()
