"""Weights in half precision: the kernels compute exactly with the rounded numbers, on every instruction set."""

from functools import partial

import numpy as np
import pytest
from support.graphs import GraphBuilder, run, session_of
from support.guarded_memory import GuardedCall
from support.half_precision import PRECISIONS, rounded
from support.instruction_sets import INSTRUCTION_SETS
from support.one_node import definition, relative_error, run_node
from support.special_numbers import SPECIAL

from megengine_lite._core.cpu.kernel_set import KernelSet, kernel_set
from megengine_lite._core.cpu.lower import matmul
from megengine_lite._core.cpu.lower.matmul import LEAST_ROWS_IN_PAIRS
from megengine_lite._core.cpu.packing.float32 import pack_direct, pack_panels, pack_winograd
from megengine_lite._core.ir.fused import (
    Activation,
    ActivationCode,
    ElemwiseProgram,
    FusedAttention,
    FusedConv,
    FusedMatMul,
)
from megengine_lite._core.ir.params import Convolution, MatrixMul
from megengine_lite.errors import LiteValueError
from megengine_lite.kernels.common.shared_constants import TILE_BLOCKS, Weights

pytestmark = [
    pytest.mark.parametrize("isa", INSTRUCTION_SETS),
    pytest.mark.parametrize("precision", PRECISIONS),
]

HAS_BFLOAT16 = any(kernel_set(isa).has_bfloat16 for isa in INSTRUCTION_SETS)


@pytest.fixture(params=[False, True] if HAS_BFLOAT16 else [False], ids=lambda pairs: "pairs" if pairs else "widened")
def pairs(request, monkeypatch):
    """Whether sets that multiply bfloat16 do so, and round the inputs of products, too."""
    monkeypatch.setattr(KernelSet, "multiplies_bfloat16", property(lambda self: request.param and self.has_bfloat16))
    return request.param


def as_multiplied(x, precision, isa, pairs):
    """The inputs of a product as the kernels take them."""
    return rounded(x, precision) if pairs and precision == "bfloat16" and kernel_set(isa).has_bfloat16 else x


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def unpacked(packed: np.ndarray, precision: str, lanes: int) -> np.ndarray:
    """Packed numbers as float32: of tiles of two blocks with ``lanes`` channels, or of one block (1)."""
    if precision == "float16":
        return packed.view(np.float16).astype(np.float32)
    if lanes == 1:
        return (packed.astype(np.uint32) << 16).view(np.float32)
    pairs = packed.reshape(-1, lanes)
    rows = np.concatenate([pairs[:, 0::2], pairs[:, 1::2]], axis=1)
    return (rows.astype(np.uint32) << 16).view(np.float32).reshape(-1)


def test_packed_numbers_are_the_nearest(isa, precision):
    kernels = kernel_set(isa)
    lanes = TILE_BLOCKS * kernels.width
    values = np.concatenate([normal(4096), SPECIAL])
    scale = np.float32(2.0) ** np.random.default_rng(1).integers(-20, 15, values.size)
    numbers = np.resize(values * scale, (3 * lanes, 97)).astype(np.float32)
    if precision == "float16":
        numbers = np.where(np.isfinite(numbers), np.clip(numbers, -65504, 65504), numbers)
    matrix = np.ascontiguousarray(numbers.T)
    for threads in (1, 3):
        panels = pack_panels(matrix, kernels, threads, Weights[precision.upper()])
        filters = pack_direct(numbers[None, :, :, None, None], kernels, threads, Weights[precision.upper()])
        for packed in (panels, filters):
            found = unpacked(packed, precision, lanes).reshape(3, 97, lanes)
            expected = rounded(numbers, precision).reshape(3, lanes, 97).swapaxes(1, 2)
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("groups", "rows", "depth", "taps", "chunk"), [(2, 9, 5, 3, 4), (1, 35, 130, 1, 64)])
def test_packing_touches_nothing_else(groups, rows, depth, taps, chunk, transposed, precision, isa):
    kernels, columns = kernel_set(isa), depth * taps
    module, blocks, weights = kernels.module("pack_tiles"), -(-rows // kernels.width), Weights[precision.upper()]
    x = normal(groups, rows, columns)
    source = np.ascontiguousarray(x.swapaxes(1, 2)) if transposed else x
    row, step = (1, rows) if transposed else (columns, 1)
    sizes = {"rows": rows, "depth": depth, "taps": taps, "chunk": chunk, "tile": TILE_BLOCKS, "blocks": blocks}
    sizes |= {"group": rows * columns, "row": row, "step": step, "threads": 2}
    sizes["work"] = module.work_items(groups, blocks, TILE_BLOCKS, depth, chunk)
    exact = np.full(groups * blocks * kernels.width * columns, np.nan, np.float32)
    GuardedCall(kernels, "pack_tiles_32", x=source, y=exact, weights=Weights.FLOAT32, **sizes).run()
    packed = np.full(exact.size, 0xFFFF, np.uint16)
    scratch = module.scratch_bytes(TILE_BLOCKS, taps, chunk)
    GuardedCall(kernels, "pack_tiles_half", x=source, y=packed, weights=weights, scratch=scratch, **sizes).run()
    tile, group = TILE_BLOCKS * kernels.width, blocks * kernels.width * columns
    for first in range(0, exact.size, group):  # the last tile of a group may have one block, which is not paired
        whole = blocks // TILE_BLOCKS * tile * columns
        pairs, one = packed[first : first + group][:whole], packed[first : first + group][whole:]
        found = np.concatenate([unpacked(pairs, precision, tile), unpacked(one, precision, 1)])
        np.testing.assert_array_equal(found, rounded(exact[first : first + group], precision))


@pytest.mark.parametrize("n", [1, 15, 16, 33, 4096, 9001])
def test_inputs_are_narrowed_to_the_nearest(n, precision, isa):
    kernels = kernel_set(isa)
    x, y = np.resize(np.concatenate([normal(64), SPECIAL]), n), np.full(n + kernels.width, 0xFFFF, np.uint16)
    x = np.where(np.abs(x) < np.finfo(np.float32).tiny, np.float32(0), x)  # an instruction takes denormal numbers as 0
    work = -(-n // kernels.module("narrow").NUMBERS)
    GuardedCall(kernels, "narrow_bf16", threads=2, work=work, x=x, y=y, n=n).run()
    found = (y[:n].astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(found, rounded(x, "bfloat16"))


@pytest.mark.parametrize(("m", "n"), [(1, 1), (3, 16), (5, 37), (4, 64)])
def test_rows_are_narrowed_and_filled_up_with_zeros(m, n, precision, isa):
    """Of matrices side by side, two in a row: as heads lie in the rows of a sequence."""
    kernels = kernel_set(isa)
    x = normal(2, m, 2, n)
    y_row = -(-n // kernels.width) * kernels.width
    y = np.full((4 * m, y_row), 0xFFFF, np.uint16)
    GuardedCall(
        kernels, "narrow_rows_bf16", threads=2, work=4 * m, x=x, y=y, m=m, n=n, inner=2, x_outer=2 * m * n, x_inner=n,
        x_row=2 * n, y_row=y_row,
    ).run()  # fmt: skip
    found = (y.astype(np.uint32) << 16).view(np.float32)
    expected = rounded(np.ascontiguousarray(x.transpose(0, 2, 1, 3)), "bfloat16").reshape(4 * m, n)
    np.testing.assert_array_equal(found[:, :n], expected)
    assert not found[:, n:].any()


def test_pairs_are_neighbours_of_depth(precision, isa):
    kernels = kernel_set(isa)
    width, weights = kernels.width, Weights.BFLOAT16_PAIRS
    matrix, filters = normal(6, 3 * width), normal(1, 3 * width, 2 * width + 2, 3, 1, seed=1)
    panels = pack_panels(matrix, kernels, 1, weights).reshape(2, 3, 2 * width, 2)
    expected = np.zeros((6, 4 * width), np.float32)
    expected[:, : 3 * width] = rounded(matrix, "bfloat16")
    found = (panels.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(found, expected.reshape(3, 2, 2, 2 * width).transpose(2, 0, 3, 1))
    packed = pack_direct(filters, kernels, 2, weights)
    half, first = kernels.width // 2, 0
    for tile in (slice(0, 2 * width), slice(2 * width, 3 * width)):
        for block in range(3):
            rows = rounded(filters[0, tile, block * width : (block + 1) * width, :, 0], "bfloat16")
            pairs = min(half, (rows.shape[1] + 1) // 2)
            expected = rows.reshape(len(rows), pairs, 2, 3).transpose(3, 1, 0, 2)
            found = (packed[first : first + expected.size].astype(np.uint32) << 16).view(np.float32)
            np.testing.assert_array_equal(found, expected.reshape(-1))
            first += expected.size
    assert first == packed.size


# m, n, k: one row, few rows, whole blocks, remainders of rows, columns and depth
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    ("m", "n", "k"), [(1, 70, 33), (1, 3, 5), (2, 100, 64), (3, 64, 16), (12, 32, 40), (13, 33, 1), (37, 5, 100)]
)
def test_product(m, n, k, transposed, pairs, precision, isa):
    a, b = normal(m, k), normal(k, n, seed=1)
    stored = np.ascontiguousarray(b.T) if transposed else b
    params = MatrixMul(transposeB=transposed)
    results = [
        run_node("MatrixMul", params, [a, stored], {1}, isa, threads, precision=precision)[0] for threads in (1, 3)
    ]
    np.testing.assert_array_equal(*results)
    if m >= LEAST_ROWS_IN_PAIRS and k % 2 == 0:
        a = as_multiplied(a, precision, isa, pairs)
    assert relative_error(results[0], a.astype(np.float64) @ rounded(b, precision)) < 2e-6


def test_product_with_a_transposed_left_side_bias_residual_and_activation(precision, isa):
    for m in (1, 9):
        a, b, bias, z = normal(48, m), normal(37, 48, seed=1), normal(37, seed=2), normal(m, 37, seed=3)
        params = FusedMatMul(True, True, True, True, Activation(ActivationCode.RELU))
        actual, _ = run_node("FusedMatMul", params, [a, b, bias, z], {1, 2}, isa, 2, precision=precision)
        expected = np.maximum(a.T.astype(np.float64) @ rounded(b, precision).T + bias + z, 0)
        assert relative_error(actual, expected) < 2e-6


def test_product_of_two_inputs_is_not_rounded(precision, isa):
    a, b = normal(5, 20), normal(20, 30, seed=1)
    plain, _ = run_node("MatrixMul", MatrixMul(), [a, b], set(), isa)
    actual, _ = run_node("MatrixMul", MatrixMul(), [a, b], set(), isa, precision=precision)
    np.testing.assert_array_equal(actual, plain)


# Odd depths, rows and columns; the left side transposed is not rounded.
@pytest.mark.parametrize("transposed", [(False, False), (False, True), (True, False)])
@pytest.mark.parametrize(("m", "n", "k"), [(3, 40, 8), (5, 33, 7), (29, 70, 34), (13, 64, 19)])
def test_batched_product_that_rounds_both_sides(m, n, k, transposed, pairs, precision, isa, monkeypatch):
    monkeypatch.setattr(matmul, "emit_matmul", partial(matmul.emit_matmul, rounds=True))
    a, b = normal(3, m, k), normal(3, k, n, seed=1)
    stored = [np.ascontiguousarray(x.swapaxes(1, 2)) if t else x for x, t in zip((a, b), transposed, strict=True)]
    results = [
        run_node(
            "BatchedMatrixMul",
            MatrixMul(transposeA=transposed[0], transposeB=transposed[1]),
            stored,
            set(),
            isa,
            threads,
            precision=precision,
        )[0]
        for threads in (1, 3)
    ]
    np.testing.assert_array_equal(*results)
    if m >= LEAST_ROWS_IN_PAIRS and not transposed[0]:
        a, b = (as_multiplied(x, precision, isa, pairs) for x in (a, b))
    assert relative_error(results[0], a.astype(np.float64) @ b) < 2e-6


def test_inputs_are_narrowed_once_for_all_products_that_read_them(pairs, precision, isa):
    b = GraphBuilder()
    x = b.input("x", (8, 12))
    y = [b.node("MatrixMul", MatrixMul(), [x, b.constant(normal(12, n, seed=n))]) for n in (5, 40)]
    session = session_of(b.finish(*y), isa=isa, precision=precision)
    found = run(session, x=normal(8, 12))
    (plan,) = session.plans()
    rounds = pairs and precision == "bfloat16" and kernel_set(isa).has_bfloat16
    assert sum(step.kernel.name == "narrow_bf16" for step in plan.steps) == rounds
    for product, n in zip(found, (5, 40), strict=True):
        expected = as_multiplied(normal(8, 12), precision, isa, pairs).astype(np.float64)
        assert relative_error(product, expected @ rounded(normal(12, n, seed=n), precision)) < 2e-6


def test_attention_rounds_where_bfloat16_is_multiplied(pairs, precision, isa):
    q, k, v = normal(2, 5, 3, 8), normal(2, 9, 3, 8, seed=1), normal(2, 9, 3, 11, seed=2)
    orders = [(0, 2, 1, 3)] * 4
    params = FusedAttention(3, *orders, ElemwiseProgram(()), (2, 3, 5, 9), False)
    actual, kernels = run_node("FusedAttention", params, [q, k, v], set(), isa, 2, precision=precision)
    rounds = pairs and precision == "bfloat16" and kernel_set(isa).has_bfloat16
    assert kernels.count("narrow_rows_bf16") == (2 if rounds else 0)
    assert relative_error(actual, definition("FusedAttention", params, [q, k, v])) < (1e-2 if rounds else 2e-6)


# oc, ic, filter, stride, dilation, groups, size: one and two blocks, odd channels, every step between pixels
@pytest.mark.parametrize(
    ("oc", "ic", "kernel", "stride", "dilate", "groups", "size"),
    [
        (24, 16, 1, 1, 1, 1, 14), (40, 19, 3, 1, 1, 1, 9), (16, 33, 3, 2, 1, 1, 15), (8, 20, 5, 3, 1, 1, 16),
        (64, 32, 3, 1, 2, 2, 11), (12, 12, 3, 1, 1, 4, 7), (56, 48, 1, 1, 1, 1, 20),
    ],
)  # fmt: skip
def test_direct_convolution(oc, ic, kernel, stride, dilate, groups, size, pairs, precision, isa):
    pad = dilate * (kernel // 2)
    x = normal(2, ic * groups, size, size)
    w = normal(oc * groups, ic, kernel, kernel, seed=1)
    if groups > 1:
        w = w.reshape(groups, oc, ic, kernel, kernel)
    forced = {"conv_f32": "conv_direct_f32"}
    params = FusedConv(pad, pad, stride, stride, dilate, dilate, groups)
    results = [
        run_node("FusedConv", params, [x, w], {1}, isa, threads, forced=forced, precision=precision)
        for threads in (1, 3)
    ]
    assert "conv_direct_f32" in results[0][1]
    np.testing.assert_array_equal(results[0][0], results[1][0])
    if ic % 2 == 0:
        x = as_multiplied(x, precision, isa, pairs)
    expected = definition("FusedConv", params, [x, rounded(w, precision)])
    assert relative_error(results[0][0], expected) < 5e-6


@pytest.mark.parametrize(("m", "error"), [(4, 3e-3), (2, 1e-3)])
def test_winograd_convolution_keeps_float16(m, error, precision, isa):
    x, w = normal(1, 40, 13, 18), normal(56, 40, 3, 3, seed=1)
    kernels, name = kernel_set(isa), f"conv_winograd{m}_f32"
    packed = pack_winograd(w[None], m, kernels, 2, Weights.FLOAT16)
    np.testing.assert_array_equal(packed.view(np.float16), pack_winograd(w[None], m, kernels, 2).astype(np.float16))
    params = FusedConv(1, 1, 1, 1, 1, 1, 1)
    results = [
        run_node("FusedConv", params, [x, w], {1}, isa, threads, forced={"conv_f32": name}, precision=precision)
        for threads in (1, 3)
    ]
    assert name in results[0][1]
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert 0 < relative_error(results[0][0], definition("FusedConv", params, [x, w])) < error


def test_transposed_convolution(precision, isa):
    x, w = normal(1, 20, 9, 9), normal(20, 24, 3, 3, seed=1)
    params = Convolution(pad_h=1, pad_w=1, stride_h=2, stride_w=2)
    actual, kernels = run_node("ConvolutionBackwardData", params, [w, x], {0}, isa, 2, precision=precision)
    assert "conv_direct_f32" in kernels
    expected = definition("ConvolutionBackwardData", params, [rounded(w, precision), x])
    assert relative_error(actual, expected) < 5e-6


def test_weights_beyond_float16_are_refused(precision, isa):
    b = normal(20, 30)
    b[3, 4] = 70000
    if precision == "bfloat16":
        actual, _ = run_node("MatrixMul", MatrixMul(), [normal(2, 20), b], {1}, isa, precision=precision)
        assert np.isfinite(actual).all()
        return
    with pytest.raises(LiteValueError, match="70000 does not fit float16, which ends at 65504"):
        run_node("MatrixMul", MatrixMul(), [normal(2, 20), b], {1}, isa, precision=precision)
    b[3, 4] = np.inf
    actual, _ = run_node("MatrixMul", MatrixMul(), [normal(2, 20), b], {1}, isa, precision=precision)
    assert np.isinf(actual[:, 4]).all()
