"""Winograd convolution of bytes on every instruction set: exact, at the ends of the range and at every edge."""

import numpy as np
import pytest
from support.byte_images import block, correlate, unblock
from support.guarded_memory import GuardedCall
from support.instruction_sets import INSTRUCTION_SETS
from support.quantized import NO_OUTPUT

from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.cpu.packing import int8 as packing
from megengine_lite._core.cpu.packing.float32 import pad_channels
from megengine_lite.kernels.common.shared_constants import TILE_BLOCKS, OutputKind

each_isa = pytest.mark.parametrize("isa", INSTRUCTION_SETS)


def run_winograd(isa, x, w, *, pad=(0, 0), tile_blocks=1, parts=1, bias=None, z=None, **output):
    """conv_winograd2_int8; x as NCHW signed bytes, which gets a halo of just the padding."""
    kernels = kernel_set(isa)
    width, module = kernels.width, kernels.module("conv_winograd_int8")
    n, ic, h, iw = x.shape
    oc = len(w)
    output = {**NO_OUTPUT, **output}
    rows, columns = h + 2 * pad[0], iw + 2 * pad[1]
    oh, ow = rows - 2, columns - 2
    source = block(np.pad(x, ((0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2)), width)
    first = (pad[0] * columns + pad[1]) * width
    blocks, ic_blocks = -(-oc // width), source.shape[1]
    y = np.zeros((n, blocks, oh, ow, width), np.int8 if output["kind"] == OutputKind.BYTES else np.int32)
    total = np.zeros(oc, np.int64) if bias is None else bias
    tiles = -(-oh // 2) * -(-ow // 2)
    area = oh * ow * width
    GuardedCall(
        kernels, "conv_winograd2_int8", work=n * tile_blocks * parts, threads=2, x=(source, first),
        w=packing.pack_winograd(w, kernels).view(np.int16), bias=pad_channels(total.astype(np.int32), 1, width),
        scales=None, real_bias=None, z=z, y=y, x_row=columns * width, x_plane=rows * columns * width,
        x_image=ic_blocks * rows * columns * width, y_row=ow * width, y_plane=area, y_image=blocks * area,
        z_row=ow * width, z_plane=area, z_image=blocks * area, x_bottom=h + pad[0], x_right=iw + pad[1], ic=ic, oc=oc,
        oh=oh, ow=ow, pad_h=pad[0], pad_w=pad[1], tile_blocks=tile_blocks, parts=parts,
        scratch=module.scratch_bytes(ic, -(-tiles // tile_blocks)), **output,
    ).run()  # fmt: skip
    return unblock(y, oc)


def padded(x, pad):
    return np.pad(x, ((0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2))


@each_isa
@pytest.mark.parametrize(("oh", "ow"), [(1, 1), (1, 2), (2, 1), (3, 5), (4, 4), (7, 7), (5, 12), (2, 33), (9, 18)])
@pytest.mark.parametrize(("ic", "oc"), [(1, 1), (8, 16), (13, 40), (24, 7)])
def test_images_of_every_size(isa, oh, ow, ic, oc):
    rng = np.random.default_rng(oh * ow)
    x = rng.integers(-128, 128, (2, ic, oh + 2, ow + 2)).astype(np.int8)
    w = rng.integers(-128, 128, (oc, ic, 3, 3)).astype(np.int8)
    bias = rng.integers(-(2**20), 2**20, oc)
    y = run_winograd(isa, x, w, bias=bias)
    np.testing.assert_array_equal(y, correlate(x, w, 1) + bias.reshape(1, -1, 1, 1))


@each_isa
@pytest.mark.parametrize(("tile_blocks", "parts"), [(1, 2), (3, 1), (4, 2), (15, 1)])
@pytest.mark.parametrize("pad", [(0, 1), (1, 0), (2, 1)])
def test_runs_of_tiles_and_parts_of_the_output(isa, tile_blocks, parts, pad):
    rng = np.random.default_rng(tile_blocks)
    x = rng.integers(-128, 128, (2, 20, 7, 9)).astype(np.int8)
    w = rng.integers(-255, 256, (70, 20, 3, 3)).astype(np.int16)
    y = run_winograd(isa, x, w, pad=pad, tile_blocks=tile_blocks, parts=parts)
    np.testing.assert_array_equal(y, correlate(padded(x, pad), w, 1))


@each_isa
@pytest.mark.parametrize("x_value", [-128, 127])
@pytest.mark.parametrize("w_value", [-255, 255, -128])
def test_sums_wrap_around_to_what_is_right(isa, x_value, w_value):
    """As many channels as planners allow, of numbers as large as can be; signs that add up in the transforms, too."""
    ic = (kernel_set(isa).module("conv_winograd_int8").LARGEST_SUM - 1) // (9 * 128 * 255)
    x = np.full((1, ic, 3, 4), x_value, np.int8)
    x[:, :, :, 1::2] = -x_value if x_value > 0 else 127
    for signs in (np.ones((3, 3), np.int16), np.array([[1, -1, 1]] * 3, np.int16)):
        w = np.broadcast_to(signs * np.int16(w_value), (9, ic, 3, 3))
        np.testing.assert_array_equal(run_winograd(isa, x, w), correlate(x, w, 1))


@each_isa
@pytest.mark.parametrize("low", [-128, 0])
def test_results_become_bytes(isa, low):
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (1, 9, 8, 37)).astype(np.int8)
    w = rng.integers(-128, 128, (20, 9, 3, 3)).astype(np.int8)
    z = rng.integers(-128, 128, (1, 20, 6, 35)).astype(np.int8)
    y = run_winograd(
        isa, x, w, kind=OutputKind.BYTES, scale=2.0**-10, y_scale=1.0, low=low, high=127, z_scale=0.5, z_mask=-1,
        z=block(z, kernel_set(isa).width),
    )  # fmt: skip
    real = correlate(x, w, 1) * 2.0**-10 + z * 0.5
    expected = np.clip(np.trunc(real + np.copysign(0.5, real)), low, 127)
    np.testing.assert_array_equal(y, expected)


@each_isa
@pytest.mark.parametrize(("oc", "ic"), [(1, 1), (13, 37), (40, 16), (64, 33)])
def test_filters_are_transformed(isa, oc, ic):
    kernels = kernel_set(isa)
    width, pairs = kernels.width, -(-ic // 2)
    matrix = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]])
    w = np.random.default_rng(oc).integers(-256, 256, (oc, ic, 3, 3)).astype(np.int16)
    expected = np.zeros((-(-oc // width) * width, 2 * pairs, 4, 4), np.int16)
    expected[:oc, :ic] = matrix @ w @ matrix.T
    packed = np.full(expected.size, 99, np.int16)
    GuardedCall(
        kernels, "pack_winograd_int8", work=kernels.module("pack_winograd").work_items(oc, ic), weight=w, y=packed,
        oc=oc, ic=ic,
    ).run()  # fmt: skip
    tile = TILE_BLOCKS * width
    for first in range(0, len(expected), tile):
        channels = expected[first : first + tile]
        rows = packed[first * 16 * 2 * pairs :][: channels.size].reshape(4, 4, pairs, len(channels), 2)
        wanted = channels.reshape(len(channels), pairs, 2, 4, 4).transpose(3, 4, 1, 0, 2)
        np.testing.assert_array_equal(rows, wanted)
    for threads in (1, 3):
        np.testing.assert_array_equal(packing.pack_winograd(w, kernels, threads).view(np.int16), packed)
