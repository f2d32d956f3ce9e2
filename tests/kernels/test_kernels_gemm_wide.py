"""Products of int8 numbers that are widened first, on every instruction set, in guarded memory."""

import numpy as np
import pytest
from support.guarded_memory import GuardedCall
from support.quantized import INSTRUCTION_SETS, NO_OUTPUT

from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.cpu.packing import int8 as packing
from megengine_lite._core.cpu.packing.float32 import pad_channels

SIZES = [(1, 1, 1), (2, 5, 3), (3, 17, 8), (4, 33, 4), (6, 16, 65), (7, 70, 12), (13, 9, 30), (19, 40, 7)]
ROWS = 6


def packed_rows(kernels, a, flip, transposed):
    batch, m, k = a.shape
    assert kernels.module("gemm_wide_int8").WIDE_ROWS == ROWS
    blocks = -(-m // ROWS)
    y = np.zeros(batch * blocks * ROWS * -(-k // 4) * 4, np.int16)
    stored = np.ascontiguousarray(a.transpose(0, 2, 1) if transposed else a)
    row, column = (1, m) if transposed else (k, 1)
    GuardedCall(
        kernels, "pack_rows_wide_int8", work=batch * blocks, x=stored, y=y, m=m, k=k, row=row, column=column,
        matrix=m * k, flip=flip,
    ).run()  # fmt: skip
    return y


def packed_columns(kernels, b, zero, offset, transposed):
    batch, k, n = b.shape
    blocks = -(-n // kernels.width)
    y = np.zeros(batch * blocks * kernels.width * -(-k // 4) * 4, np.int16)
    bias = np.zeros(batch * blocks * kernels.width, np.int32)
    stored = np.ascontiguousarray(b.transpose(0, 2, 1) if transposed else b)
    row, column = (1, k) if transposed else (n, 1)
    GuardedCall(
        kernels, "pack_columns_wide_int8", work=batch * -(-blocks // 2), x=stored, y=y, bias=bias, k=k, n=n, row=row,
        column=column, matrix=k * n, mask=255 if b.dtype == np.uint8 else -1, zero=zero, offset=offset,
    ).run()  # fmt: skip
    return y, bias


def product(kernels, a, b, bias, shape, k, parts, wide_b):
    batch, m, n = shape
    c = np.zeros(shape, np.int32)
    tiles = -(-n // (2 * kernels.width))
    GuardedCall(
        kernels, "gemm_wide_int8", work=batch * tiles * -(-m // ROWS), a=a, b=b, bias=bias, scales=None,
        real_bias=None, c=c, m=m, n=n, k=k, parts=parts, wide_b=wide_b, **NO_OUTPUT,
    ).run()  # fmt: skip
    return c


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("kind", "zero"), [(np.int8, 0), (np.int8, -128), (np.uint8, 0), (np.uint8, 121)], ids=str)
@pytest.mark.parametrize(("m", "n", "k"), SIZES)
def test_products_of_two_computed_matrices(m, n, k, kind, zero, transposed, isa):
    """Numbers of any zero point; unsigned ones of A are flipped, and the bias of each column takes that back."""
    kernels, rng = kernel_set(isa), np.random.default_rng(m)
    info = np.iinfo(kind)
    a = rng.integers(0, 256, (2, m, k)).astype(np.uint8)
    b = rng.integers(info.min, info.max + 1, (2, k, n)).astype(kind)
    a[0], b[0, :, 0] = 255, info.max
    # What is stored is less by 128, and the zero point of A is 7: so a - 7 = stored + 121.
    left = packed_rows(kernels, a, 0x80, transposed)
    right, bias = packed_columns(kernels, b, zero, -121, transposed)
    expected = (a.astype(np.int64) - 7) @ (b.astype(np.int64) - zero)
    np.testing.assert_array_equal(product(kernels, left, right, bias, (2, m, n), k, 1, True), expected)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(("m", "n", "k"), SIZES)
def test_products_with_packed_weights(m, n, k, wide, isa):
    """Weights are those of gemm_int8; wide ones are sums of two bytes."""
    kernels, rng = kernel_set(isa), np.random.default_rng(m)
    a = rng.integers(-128, 128, (1, m, k)).astype(np.int8)
    weights = rng.integers(-128, 128, (k, n)).astype(np.int16) * (1 + wide)
    weights[:, 0] = 254 if wide else 127
    bias = rng.integers(-1000, 1000, n).astype(np.int32)
    right = packing.pack_columns(weights if wide else weights.astype(np.int8), kernels.width)
    left, parts = packed_rows(kernels, a, 0, False), 2 if wide else 1
    actual = product(kernels, left, right, pad_channels(bias, 1, kernels.width), (1, m, n), k, parts, False)
    np.testing.assert_array_equal(actual, a.astype(np.int64) @ weights.astype(np.int64) + bias)
