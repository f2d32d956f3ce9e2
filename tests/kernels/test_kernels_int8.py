"""Kernels on bytes, one at a time on every instruction set: exact sums at the ends of the range, exact rounding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.byte_images import block, correlate, unblock
from support.guarded_memory import GuardedCall
from support.instruction_sets import INSTRUCTION_SETS, takes_unsigned_bytes
from support.quantized import NO_OUTPUT

from megengine_lite._core.cpu.isa import DotKind, instruction_sets
from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.cpu.packing import int8 as packing
from megengine_lite._core.cpu.packing.float32 import pad_channels
from megengine_lite._core.ir.quantize import round_half_away
from megengine_lite.kernels.common.shared_constants import QUAD, TILE_BLOCKS, OutputKind

FLIP = 0x80
BYTES, SUM, S32, REAL = OutputKind
# Pairs that saturate or wrap in 16 bits where a kernel does not take care.
EXTREMES = [(127, 127), (127, -128), (-128, 127), (-128, -128), (0, -128)]

each_isa = pytest.mark.parametrize("isa", INSTRUCTION_SETS)
WITH_SHORT_SUMS = [isa for isa in INSTRUCTION_SETS if instruction_sets()[isa].dot is DotKind.SHORT_PAIRS]
WITH_ROOM_FOR_TWO_ROWS = [isa for isa in INSTRUCTION_SETS if kernel_set(isa).module("conv_direct_int8").PAIRED_ROW]


def as_multiplied(x, isa):
    """Signed bytes in the form of dot products, and by how much they are larger then."""
    return (x.view(np.uint8) ^ FLIP, 128) if takes_unsigned_bytes(isa) else (x.view(np.uint8), 0)


def run_direct(
    isa, x, w, *, stride=1, plain=False, lines=1, short_sums=False, bias=None, scales=None, z=None, **output
):
    """conv_direct_int8 without padding; x as NCHW signed bytes (PLAIN ones in 0..127)."""
    kernels = kernel_set(isa)
    width = kernels.width
    oc, ic, kh, kw = w.shape
    source, offset = (x.view(np.uint8), 0) if plain else as_multiplied(x, isa)
    wide = instruction_sets()[isa].dot.widens and not plain
    source = block(source.view(np.int8).astype(np.int16) if wide else source, width)
    size = source.itemsize
    oh, ow = (x.shape[2] - kh) // stride + 1, (x.shape[3] - kw) // stride + 1
    blocks = -(-oc // width)
    total = packing.compensation(w, offset) + (0 if bias is None else bias)
    output = {**NO_OUTPUT, **output}
    storage = {BYTES: np.int8, REAL: np.float32}.get(output["kind"], np.int32)
    y = np.zeros((len(x), blocks, oh, ow, width), storage)
    _, cb, h, iw, _ = source.shape
    GuardedCall(
        kernels, "conv_direct_int8", work=len(x) * -(-blocks // TILE_BLOCKS) * -(-oh // lines), x=source,
        w=packing.pack_direct(w[None], width, width, wide=wide), bias=pad_channels(total.astype(np.int32), 1, width),
        scales=scales, real_bias=None, z=z, y=y, x_pixel=width * size, x_row=iw * width * size,
        x_plane=h * iw * width * size, x_image=cb * h * iw * width * size, y_pixel=width, y_row=ow * width,
        y_plane=oh * ow * width, y_image=blocks * oh * ow * width, z_pixel=width,
        z_row=ow * width, z_plane=oh * ow * width, z_image=blocks * oh * ow * width, groups=1, ic=ic, oc=oc, oh=oh,
        ow=ow, kh=kh, kw=kw, stride_h=stride, stride_w=stride, dilate_h=1, dilate_w=1, pad_h=0, pad_w=0, lines=lines,
        band=-(-oh // lines), chunks=1, parts=1 if wide else len(packing.split_int8(w)),
        plain=plain, wide=wide, short_sums=short_sums, **output,
    ).run()  # fmt: skip
    return unblock(y, oc)


@each_isa
@pytest.mark.parametrize("w_value", [127, -128])
@pytest.mark.parametrize(
    ("x_value", "plain"), [(127, False), (-128, False), (0, False), (127, True), (0, True)]
)  # plain inputs are not negative
def test_direct_sums_do_not_saturate(isa, x_value, w_value, plain):
    x = np.full((1, 36, 5, 6), x_value, np.int8)
    w = np.full((20, 36, 3, 3), w_value, np.int16)
    y = run_direct(isa, x, w, plain=plain)
    np.testing.assert_array_equal(y, np.full((1, 20, 3, 4), x_value * w_value * 36 * 9))


@each_isa
@pytest.mark.parametrize("pixels", range(1, 17))
@pytest.mark.parametrize("oc", [8, 40])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("plain", [False, True])
def test_direct_blocks_of_every_size(isa, pixels, oc, stride, plain):
    rng = np.random.default_rng(pixels)
    x = rng.integers(0 if plain else -128, 128, (1, 18, 2, (pixels - 1) * stride + 2)).astype(np.int8)
    w = rng.integers(-128, 128, (oc, 18, 2, 2)).astype(np.int16)
    bias = rng.integers(-(2**20), 2**20, oc)
    y = run_direct(isa, x, w, stride=stride, plain=plain, bias=bias)
    np.testing.assert_array_equal(y, correlate(x, w, stride) + bias.reshape(1, -1, 1, 1))


def short_weights(rng, channels, outputs, plain):
    """Weights (outputs, channels) whose sums of four out of eight are the largest that fit 16 bits, of either sign."""
    four = [64, 65, 1, 128] if plain else [64, 63, 1, 127]
    w = np.zeros((outputs, -(-channels // 8), 2, 2, 2), np.int16)
    for index in np.ndindex(*w.shape[:2], 2):
        signs = rng.choice([-1, 1]) if plain else rng.choice([-1, 1], 4)
        values = rng.permutation(four) * signs
        w[index[0], index[1], :, index[2], :] = np.clip(values, -128, 127).reshape(2, 2)
    return w.reshape(outputs, -1)[:, :channels]


def extreme_bytes(rng, shape, plain):
    return rng.choice([0, 127] if plain else [-128, 127, 0], shape).astype(np.int8)


@pytest.mark.parametrize("isa", [isa for isa in WITH_SHORT_SUMS if kernel_set(isa).width == 2 * QUAD])
@pytest.mark.parametrize("pixels", range(1, 10))
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_direct_short_sums(isa, pixels, k, stride):
    """Inputs and weights as large as the kernel allows: no sum of 16 bits overflows."""
    rng = np.random.default_rng(pixels)
    x = extreme_bytes(rng, (1, 22, k, (pixels - 1) * stride + k), True)
    taps = [short_weights(rng, 22, 24, True) for _ in range(k * k)]
    w = np.stack(taps, axis=-1).reshape(24, 22, k, k)
    assert packing.has_short_sums(w[None], True, kernel_set(isa))
    y = run_direct(isa, x, w, stride=stride, plain=True, short_sums=True)
    np.testing.assert_array_equal(y, correlate(x, w, stride))


@pytest.mark.parametrize("isa", WITH_SHORT_SUMS)
@pytest.mark.parametrize(
    ("weights", "signed", "plain"),
    [
        ([64, 65, 0, 0, 2, 127, 0, 0], False, True),  # 258
        ([64, 65, 0, 0, 3, 127, 0, 0], False, False),
        ([-64, -65, 0, 0, -1, -128, 0, 0], False, True),
        ([-64, -65, 0, 0, -2, -128, 0, 0], False, False),
        ([0, 0, 64, -65, 0, 0, -9, 117], True, True),  # 255
        ([0, 0, 64, -65, 0, 0, -10, 117], False, True),
        ([127, 127, 127, 127], True, True),
        ([127, 127, 127, 127, 1], True, True),
        ([127, 127, 127, 127, 2], False, True),
        ([-128, 0, 0, 0], False, True),
    ],
)
def test_which_sums_are_short(isa, weights, signed, plain):
    w = np.zeros((1, 3, len(weights), 1, 2), np.int8)
    w[0, 1, :, 0, 1] = weights
    found = [packing.has_short_sums(w, non_negative, kernel_set(isa)) for non_negative in (False, True)]
    assert found == [signed, plain]


@pytest.mark.parametrize("isa", WITH_SHORT_SUMS)
def test_all_parts_of_a_weight_have_short_sums(isa):
    for value, expected in [(64, True), (65, False), (127 + 64, False)]:
        assert packing.has_short_sums(np.full((1, 2, 16, 3, 3), value), True, kernel_set(isa)) == expected


@pytest.mark.parametrize("isa", WITH_ROOM_FOR_TWO_ROWS)
@pytest.mark.parametrize("height", [2, 5, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_direct_pairs_of_rows(isa, height, stride):
    rng = np.random.default_rng(height)
    x = rng.integers(-128, 128, (2, 20, (height - 1) * stride + 3, 6 * stride + 3)).astype(np.int8)
    w = rng.integers(-128, 128, (50, 20, 3, 3)).astype(np.int16)
    y = run_direct(isa, x, w, stride=stride, lines=2)
    np.testing.assert_array_equal(y, correlate(x, w, stride))


@each_isa
def test_direct_weights_of_several_bytes(isa):
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (1, 7, 5, 9)).astype(np.int8)
    w = rng.integers(-255, 256, (9, 7, 3, 3)).astype(np.int16)
    np.testing.assert_array_equal(run_direct(isa, x, w), correlate(x, w, 1))


# ---- from sums to stored numbers -------------------------------------------------------------------------------------


def sums_input(isa, count=192):
    """Inputs of a 1x1 convolution that has just these sums: all small numbers, of both signs."""
    x = np.tile(np.arange(-96, 96, dtype=np.int8), (count // 192))
    w = np.arange(-20, 20, dtype=np.int16).reshape(40, 1, 1, 1)
    return x.reshape(1, 1, 1, -1), w


def rounded(x):
    """To nearest, as the kernels do it: add a half and truncate."""
    return np.trunc(x + np.copysign(np.float32(0.5), x))


def product(a, b):
    return np.float32(a) * np.float32(b)


@each_isa
@pytest.mark.parametrize(("low", "high", "zero"), [(-128, 127, 0), (0, 127, 0), (-100, 155, 100), (5, 90, -3)])
@pytest.mark.parametrize("scale", [0.5, 0.0625, 0.0137])
@pytest.mark.parametrize("y_scale", [1.0, 0.5, 0.3])
def test_requantization_rounds_halves_away(isa, low, high, zero, scale, y_scale):
    x, w = sums_input(isa)
    y = run_direct(isa, x, w, kind=BYTES, scale=scale, y_scale=y_scale, low=low, high=high, y_zero=zero)
    real = product(correlate(x, w, 1), scale)
    expected = np.clip(rounded(product(real, np.float32(1) / np.float32(y_scale))), low, high) + zero
    np.testing.assert_array_equal(y.view(np.uint8), expected.astype(np.int64) & 255)


@each_isa
@pytest.mark.parametrize("staged", [0, 1])
@pytest.mark.parametrize(("mask", "zero"), [(-1, 0), (255, 77)])
@pytest.mark.parametrize("low", [-128, 0])
def test_residual_is_added_to_the_rounded_result(isa, staged, mask, zero, low):
    x, w = sums_input(isa)
    sums = correlate(x, w, 1)
    rng = np.random.default_rng(1)
    z = rng.integers(-128, 128, sums.shape).astype(np.int8)
    mid = {"mid_divisor": 0.11, "mid_low": -90, "mid_high": 127, "mid_scale": 0.11}
    y = run_direct(
        isa, x, w, kind=BYTES, scale=0.0137, y_scale=0.21, low=low, high=127, staged=staged, z_scale=0.07, z_mask=mask,
        z_zero=zero, z=block(z, kernel_set(isa).width), **mid,
    )  # fmt: skip
    real = product(sums, 0.0137)
    if staged:
        stored = rounded(np.clip(product(real, np.float32(1) / np.float32(0.11)), -90, 127))
        real = product(stored, 0.11)
    real = real + product((z.astype(np.int32) & mask) - zero, 0.07)
    expected = np.clip(rounded(product(real, np.float32(1) / np.float32(0.21))), low, 127)
    np.testing.assert_array_equal(y, expected)


@each_isa
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(("staged", "added"), [(0, False), (0, True), (1, True)])
@pytest.mark.parametrize(("zero", "low", "high"), [(0, -128, 127), (121, -121, 134)])
def test_ties_go_to_even_numbers(isa, per_channel, staged, added, zero, low, high):
    """With scales that are powers of two all numbers are exact, and every other one is a tie."""
    x, w = sums_input(isa)
    sums = correlate(x, w, 1)
    channels, width = sums.shape[1], kernel_set(isa).width
    rng = np.random.default_rng(1)
    z = rng.integers(-128, 128, sums.shape).astype(np.int8)
    factors = 2.0 ** -rng.integers(5, 8, channels).astype(np.float32)
    scales = pad_channels(factors, 1, width) if per_channel else None
    y = run_direct(
        isa, x, w, kind=BYTES, scale=2.0**-6, scales=scales, y_scale=0.5, y_zero=zero, low=low, high=high, ties_even=1,
        staged=staged, mid_divisor=0.5, mid_low=-90, mid_high=90, mid_scale=0.5, z_scale=0.25,
        z=block(z, width) if added else None,
    )  # fmt: skip
    real = sums * (factors[:, None, None] if per_channel else 2.0**-6)
    if staged:
        real = np.rint(np.clip(real * 2, -90, 90)) / 2
    if added:
        real = real + z * 0.25
    expected = np.rint(np.clip(real * 2, low, high)).astype(np.int64) + zero
    np.testing.assert_array_equal(y.view(np.uint8), expected & 255)


@each_isa
def test_other_outputs(isa):
    x, w = sums_input(isa)
    sums = correlate(x, w, 1)
    np.testing.assert_array_equal(run_direct(isa, x, w, kind=SUM, activation=1), np.maximum(sums, 0))
    np.testing.assert_array_equal(run_direct(isa, x, w, kind=REAL, scale=0.0137), product(sums, 0.0137))
    wide = run_direct(isa, x, w, kind=S32, scale=0.0137, y_scale=0.001, low=-(2**31), high=2**31 - 128)
    np.testing.assert_array_equal(wide, rounded(product(product(sums, 0.0137), np.float32(1) / np.float32(0.001))))


# ---- channel-wise ----------------------------------------------------------------------------------------------------


@each_isa
@pytest.mark.parametrize("values", EXTREMES)
@pytest.mark.parametrize(("kw", "pixels"), [(1, 3), (3, 33), (5, 9), (7, 2)])
def test_depthwise_sums_do_not_saturate(isa, values, kw, pixels):
    kernels = kernel_set(isa)
    width, channels, kh = kernels.width, 11, 3
    x = np.full((1, channels, kh, pixels + kw - 1), values[0], np.int8)
    w = np.full((channels, kh, kw), values[1], np.int16)
    offset = 128 if takes_unsigned_bytes(isa) else 0
    source = np.append(block(x, width).reshape(-1), np.full(4 * width, 99, np.int8))  # read, and multiplied with zero
    blocks = -(-channels // width)
    y = np.zeros((1, blocks, 1, pixels, width), np.int32)
    row = x.shape[3] * width
    GuardedCall(
        kernels, "conv_depthwise_int8", work=blocks, x=source, w=packing.pack_depthwise(w, width, QUAD),
        bias=pad_channels(packing.compensation(w, offset), 1, width), scales=None, real_bias=None, z=None, y=y,
        x_row=row,
        x_plane=kh * row, x_image=0, y_row=pixels * width, y_plane=pixels * width, y_image=0, z_row=0, z_plane=0,
        z_image=0, blocks=blocks, oh=1, ow=pixels, kh=kh, quads=-(-kw // 4), quad=4, stride_h=1, stride_w=1, dilate_h=1,
        pad_h=0, pad_w=0, band=1, parts=1, flip=-0x7F7F7F80 if offset else 0, plain=0,
        **NO_OUTPUT,
    ).run()  # fmt: skip
    expected = np.full((1, channels, 1, pixels), values[0] * values[1] * kh * kw)
    np.testing.assert_array_equal(unblock(y, channels), expected)


# ---- matrices --------------------------------------------------------------------------------------------------------


@each_isa
@pytest.mark.parametrize("values", EXTREMES)
@pytest.mark.parametrize(("m", "n", "k"), [(1, 5, 3), (4, 70, 128), (31, 17, 65)])
def test_gemm_sums_do_not_saturate(isa, values, m, n, k):
    kernels = kernel_set(isa)
    offset = 128 if takes_unsigned_bytes(isa) else 0
    a, b = np.full((m, k), values[0], np.int8), np.full((k, n), values[1], np.int8)
    rows = kernels.module("gemm_int8").BLOCK_ROWS
    packed = m > 4
    rows = rows if packed else 1
    quads = -(-k // 4)
    left = np.zeros(-(-m // rows) * rows * quads * 4, np.int8)
    GuardedCall(
        kernels, "pack_rows_int8", work=-(-m // rows), x=a, y=left, m=m, k=k, row=k, column=1, matrix=m * k, block=rows,
        flip=FLIP if offset else 0,
    ).run()  # fmt: skip
    blocks = -(-n // kernels.width)
    right = np.zeros(blocks * kernels.width * quads * 4, np.int8)
    bias = np.zeros(blocks * kernels.width, np.int32)
    GuardedCall(
        kernels, "pack_columns_int8", work=-(-blocks // 2), x=b, y=right, bias=bias, k=k, n=n, row=n, column=1,
        matrix=k * n, mask=-1, zero=0, parts=1, offset=offset,
    ).run()  # fmt: skip
    np.testing.assert_array_equal(right, packing.pack_columns(b, kernels.width))
    c = np.zeros((m, n), np.int32)
    GuardedCall(
        kernels, "gemm_int8", work=-(-blocks // 2) * -(-m // (rows if packed else 4)), a=left, b=right, bias=bias,
        scales=None, real_bias=None, c=c, m=m, n=n, k=k, packed=packed, a_row=quads * 4, a_matrix=0, parts=1,
        short_sums=False, **NO_OUTPUT,
    ).run()  # fmt: skip
    np.testing.assert_array_equal(c, np.full((m, n), values[0] * values[1] * k))


@pytest.mark.parametrize("isa", WITH_SHORT_SUMS)
@pytest.mark.parametrize(("m", "n", "k"), [(1, 5, 8), (3, 17, 16), (4, 70, 128), (31, 17, 72), (6, 8, 40)])
def test_gemm_short_sums(isa, m, n, k):
    kernels = kernel_set(isa)
    rng = np.random.default_rng(m)
    a, b = extreme_bytes(rng, (m, k), False), short_weights(rng, k, n, False).T.astype(np.int8)
    assert packing.has_short_sums(b.T[None, :, :, None, None], False, kernels)
    blocks, rows = -(-n // kernels.width), kernels.module("gemm_int8").FEW_ROWS
    c = np.zeros((m, n), np.int32)
    for first in range(0, m, rows):
        GuardedCall(
            kernels, "gemm_int8", work=-(-blocks // 2), a=a[first : first + rows], c=c[first : first + rows],
            b=packing.pack_columns(b, kernels.width), bias=np.zeros(blocks * kernels.width, np.int32), scales=None,
            real_bias=None, m=min(rows, m - first), n=n, k=k, packed=False, a_row=k, a_matrix=0, parts=1,
            short_sums=True, **NO_OUTPUT,
        ).run()  # fmt: skip
    np.testing.assert_array_equal(c, a.astype(np.int64) @ b.astype(np.int64))


# ---- bytes -----------------------------------------------------------------------------------------------------------


@each_isa
@pytest.mark.parametrize("size", [1, 63, 64, 65, 1000])
def test_table_lookup(isa, size):
    rng = np.random.default_rng(size)
    table, x = rng.permutation(256).astype(np.uint8), rng.integers(0, 256, size).astype(np.uint8)
    y = np.zeros(size + 8, np.uint8)
    strides = {f"{v}_{d}": 0 for v in "xy" for d in ("s0", "s1", "s2", "row")}
    GuardedCall(
        kernel_set(isa), "table_8", work=1, table=table, x=x, y=y, s1=1, s2=1, rows=1, run=size, last_run=size, last=0,
        **strides,
    ).run()  # fmt: skip
    np.testing.assert_array_equal(y[:size], table[x])
    assert not y[size:].any()


@each_isa
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("width", [1, 15, 16, 37])
@pytest.mark.parametrize("ties_even", [0, 1])
def test_image_is_padded_with_its_zero_point(isa, channels, width, ties_even):
    rng = np.random.default_rng(width)
    x = 3 * rng.standard_normal((2, channels, 3, width), dtype=np.float32)
    x[:, :, 1] = np.round(4 * x[:, :, 1]) / 4  # halves of steps are among them
    y = np.full((2, 5, width + 4, 4), 99, np.uint8)
    GuardedCall(
        kernel_set(isa), "pack_image_int8", work=10, x=x, y=y, channels=channels, h=3, w=width, halo_h=1, halo_w=2,
        kind=3, zero=0, y_kind=1, y_zero=17, flip=-0x7F7F7F80, scale=1, y_scale=0.5, low=-17, high=238,
        ties_even=ties_even,
    ).run()  # fmt: skip
    stored = np.clip((np.round if ties_even else round_half_away)(x / np.float32(0.5)), -17, 238) + 17
    expected = np.full(y.shape, 17, np.uint8)
    expected[:, 1:4, 2 : 2 + width, :channels] = stored.transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(y, expected ^ 0x80)


@each_isa
def test_channels_are_gathered(isa):
    kernels = kernel_set(isa)
    width = kernels.width
    rng = np.random.default_rng(3)
    x = rng.integers(-128, 128, (1, 2 * width, 3, 5)).astype(np.int8)
    picked = rng.permutation(2 * width)[:width]
    source = block(x, width)
    row = 5 * width
    table = np.full((1, 4, 5), -1, np.int64)
    lanes = np.full((1, 4, width), -1, np.int32)
    for s in range(2):
        table[0, s] = 0, s, row, 3 * row, 6 * row
        mine = picked // width == s
        lanes[0, s, mine] = picked[mine] % width
    y = np.zeros((1, 1, 3, 5, width), np.int8)
    GuardedCall(
        kernels, "gather_channels_blocked_8", work=3, x0=source, x1=None, x2=None, x3=None, table=table, lanes=lanes,
        y=y, blocks=1, h=3, w=5, row=row, plane=3 * row, image=3 * row,
    ).run()  # fmt: skip
    np.testing.assert_array_equal(unblock(y, width), x[:, picked])


@each_isa
@pytest.mark.parametrize("size", [4, 60, 64, 68, 1000])
@pytest.mark.parametrize(
    ("kernel", "stored", "flip"),
    [("flip_bytes", np.int8, FLIP), ("widen_bytes", np.int16, FLIP), ("widen_bytes", np.int16, 0)],
)
def test_copied_images_end_where_they_end(isa, size, kernel, stored, flip):
    """In a batch the bytes behind an image are the next one's, which another thread may have written already."""
    x = np.random.default_rng(size).integers(-128, 128, (3, size + 36)).astype(np.int8)
    y = np.full((3, size + 4), 99, stored)
    GuardedCall(
        kernel_set(isa), kernel, work=3 * -(-size // 256), threads=2, x=x, y=y, size=size, chunk=256,
        flip=-0x7F7F7F80 if flip else 0, x_image=x.shape[1], y_image=y.shape[1],
    ).run()  # fmt: skip
    np.testing.assert_array_equal(y[:, :size], x[:, :size] ^ (-128 if flip else 0))
    assert (y[:, size:] == 99).all()


# ---- packing ---------------------------------------------------------------------------------------------------------


@given(arrays(np.int16, st.integers(1, 50), elements=st.integers(-255, 255)), st.integers(1, 3))
def test_parts_add_up(w, least):
    parts = packing.split_int8(w, least)
    assert parts.dtype == np.int8
    np.testing.assert_array_equal(parts.astype(np.int32).sum(axis=0), w)
    assert len(parts) == max(least, packing.count_parts(w, 0))


@pytest.mark.parametrize("width", [4, 8, 16])
def test_packed_filter_keeps_four_channels_together(width):
    w = np.arange(5 * 6 * 2).reshape(1, 5, 6, 1, 2).astype(np.int16)
    packed = packing.pack_direct(w, width, width).reshape(-1, 4)
    assert packed[0].tolist() == w[0, 0, 0:4, 0, 0].tolist()
    assert packed[1].tolist() == w[0, 1, 0:4, 0, 0].tolist()
    tile = min(TILE_BLOCKS * width, packing.round_up(5, width))
    taps = {4: 1, 8: 2, 16: 2}[width]  # quads of one tap that follow each other
    assert packed[tile * taps].tolist() == w[0, 0, 0:4, 0, 1].tolist()
    assert np.count_nonzero(packed) == np.count_nonzero(w)


@pytest.mark.parametrize("width", [4, 8])
def test_wide_filter_keeps_two_channels_together(width):
    w = np.arange(-250, 251 - 81).reshape(1, 5, 14, 1, 6)[..., :5]
    packed = packing.pack_direct(w, width, width, wide=True)
    assert packed.dtype == np.int16
    first = packed.reshape(-1, 2)
    assert first[0].tolist() == w[0, 0, 0:2, 0, 0].tolist()
    assert first[1].tolist() == w[0, 1, 0:2, 0, 0].tolist()
    tile = min(TILE_BLOCKS * width, packing.round_up(5, width))
    assert first[tile].tolist() == w[0, 0, 2:4, 0, 0].tolist()
    assert first[tile * width // 2].tolist() == w[0, 0, 0:2, 0, 1].tolist()


def test_compensation_is_minus_the_offset_of_all_weights():
    w = np.array([[1, -2, 3], [0, 0, 5]])
    assert packing.compensation(w, 128).tolist() == [-256, -640]
