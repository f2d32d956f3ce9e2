"""Packing of weights into tiles, on every instruction set, against the definition of each order."""

import numpy as np
import pytest
from support.guarded_memory import GuardedCall
from support.instruction_sets import INSTRUCTION_SETS

from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.cpu.packing.float32 import pack_depthwise, pack_direct, pack_panels, pack_plain_input
from megengine_lite.kernels.common.shared_constants import TILE_BLOCKS

SHAPES = [
    (1, 5, 3, 3, 3), (1, 24, 20, 3, 3), (2, 9, 17, 1, 1), (3, 16, 8, 5, 2), (1, 33, 70, 1, 1), (1, 128, 64, 1, 1),
    (4, 8, 8, 3, 3), (1, 40, 129, 1, 3), (1, 1, 1, 1, 1), (1, 300, 257, 1, 1),
]  # fmt: skip


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def tiles(matrix: np.ndarray, lanes: int, width: int) -> np.ndarray:
    """Rows of (rows, columns) in tiles of ``lanes``, columns outermost in each; zeros up to a whole block."""
    rows, columns = matrix.shape
    padded = np.zeros((-(-rows // width) * width, columns), matrix.dtype)
    padded[:rows] = matrix
    return np.concatenate([padded[first : first + lanes].T.reshape(-1) for first in range(0, len(padded), lanes)])


def by_blocks(filters: np.ndarray, width: int) -> np.ndarray:
    """(oc, ic, kh, kw) as (oc, columns): blocks of input channels, in each the taps, then the channels."""
    oc, ic = filters.shape[:2]
    parts = [filters[:, first : first + width] for first in range(0, ic, width)]
    return np.concatenate([p.transpose(0, 2, 3, 1).reshape(oc, -1) for p in parts], axis=1)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("shape", SHAPES)
def test_filters_are_packed_for_convolutions(isa, shape):
    kernels, w = kernel_set(isa), numbers(*shape)
    width, lanes = kernels.width, TILE_BLOCKS * kernels.width
    expected = np.concatenate([tiles(by_blocks(group, width), lanes, width) for group in w])
    image = np.concatenate([tiles(group.reshape(len(group), -1), lanes, width) for group in w])
    for threads in (1, 3):
        np.testing.assert_array_equal(pack_direct(w, kernels, threads), expected)
        np.testing.assert_array_equal(pack_plain_input(w, kernels, threads), image)
    turned = np.asfortranarray(w)  # as a transposed convolution gives it
    np.testing.assert_array_equal(pack_direct(turned, kernels), expected)
    assert pack_direct(w, kernels).ctypes.data % 64 == 0


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("channels", [1, 7, 8, 19, 64])
def test_filters_are_packed_channel_by_channel(isa, channels):
    kernels, w = kernel_set(isa), numbers(channels, 1, 1, 3, 5)
    expected = tiles(w.reshape(channels, 15), kernels.width, kernels.width)
    np.testing.assert_array_equal(pack_depthwise(w, kernels), expected)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize(("k", "n"), [(5, 11), (64, 16), (100, 1000), (3, 1), (7, 17)])
def test_panels_are_packed_from_any_strides(isa, k, n):
    kernels, b = kernel_set(isa), numbers(k, n)
    lanes = TILE_BLOCKS * kernels.width
    expected = tiles(b.T, lanes, lanes)
    for matrix in (b, np.asfortranarray(b), np.repeat(b, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(pack_panels(matrix, kernels, 2), expected)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize(("groups", "rows", "depth", "taps", "chunk"), [(2, 9, 5, 3, 4), (1, 35, 130, 1, 64)])
@pytest.mark.parametrize("transposed", [False, True])
def test_nothing_else_is_touched(isa, groups, rows, depth, taps, chunk, transposed):
    kernels, columns = kernel_set(isa), depth * taps
    blocks = -(-rows // kernels.width)
    x = numbers(groups, rows, columns)
    source = np.ascontiguousarray(x.swapaxes(1, 2)) if transposed else x
    row, step = (1, rows) if transposed else (columns, 1)
    y = np.full(groups * blocks * kernels.width * columns, np.nan, np.float32)
    GuardedCall(
        kernels, "pack_tiles_32", threads=2, x=source, y=y, rows=rows, depth=depth, taps=taps, chunk=chunk,
        tile=TILE_BLOCKS, blocks=blocks, group=rows * columns, row=row, step=step, weights=0,
        work=kernels.module("pack_tiles").work_items(groups, blocks, TILE_BLOCKS, depth, chunk),
    ).run()  # fmt: skip
    lanes = TILE_BLOCKS * kernels.width
    filters = x.reshape(groups, rows, depth, 1, taps)
    expected = [tiles(by_blocks(group, chunk), lanes, kernels.width) for group in filters]
    np.testing.assert_array_equal(y, np.concatenate(expected))


def test_no_filters_are_packed_as_nothing():
    for shape in ((1, 4, 0, 3, 3), (1, 4, 2, 0, 1)):
        assert pack_direct(np.zeros(shape, np.float32), kernel_set()).size == 0
