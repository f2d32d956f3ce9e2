"""Change between plain, packed and blocked images, and gathering of blocked channels."""

import numpy as np
import pytest
from support.guarded_memory import GuardedCall
from support.one_node import INSTRUCTION_SETS, definition, run_blocked

from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.ir.fused import ChannelGather

IMAGES = [(1, 16, 4, 4), (2, 35, 7, 7), (1, 3, 5, 33), (2, 48, 20, 16), (1, 1, 1, 1)]


def random(*shape, dtype=np.float32):
    numbers = np.random.default_rng(0).standard_normal(shape) * 20
    return numbers.astype(dtype)


def packed(x, width, halo=(0, 0)):
    """The blocked or packed form by numpy."""
    n, c, h, w = x.shape
    blocks = -(-c // width)
    full = np.zeros((n, blocks * width, h, w), x.dtype)
    full[:, :c] = x
    image = full.reshape(n, blocks, width, h, w).transpose(0, 1, 3, 4, 2)
    return np.pad(image, ((0, 0), (0, 0), (halo[0],) * 2, (halo[1],) * 2, (0, 0)))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("halo", [(0, 0), (1, 1), (0, 2)], ids=str)
@pytest.mark.parametrize("image", IMAGES, ids=str)
def test_blocked_and_back(image, halo, isa):
    kernels, x = kernel_set(isa), random(*image)
    relayout = kernels.module("relayout")
    blocked = relayout.nchw_to_blocked(x, *halo)
    np.testing.assert_array_equal(blocked, packed(x, kernels.width, halo))
    back = np.full_like(x, np.nan)
    relayout.blocked_to_nchw(blocked, back, *halo)
    np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("pack", [4, 8, 16])
@pytest.mark.parametrize("image", IMAGES, ids=str)
def test_nchw44_and_nchw88_and_back_whatever_the_width(image, pack, isa):
    relayout, x = kernel_set(isa).module("relayout"), random(*image)
    y, again = (np.full((image[0], -(-image[1] // pack), *image[2:], pack), np.nan, np.float32) for _ in range(2))
    relayout.nchw_to_packed(x, y)
    np.testing.assert_array_equal(y, packed(x, pack))
    back = np.full_like(x, np.nan)
    relayout.packed_to_nchw(y, back)
    np.testing.assert_array_equal(back, x)
    sizes = {"c": image[1], "size": image[2] * image[3], "pack": pack, "work": y.shape[0] * y.shape[1]}
    GuardedCall(kernel_set(isa), "pack_channels_f32", x=x, y=again, **sizes).run()
    np.testing.assert_array_equal(again, y)
    back[...] = np.nan
    GuardedCall(kernel_set(isa), "unpack_channels_f32", x=y, y=back, **sizes).run()
    np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", [np.int8, np.int16], ids=lambda d: d.__name__)
def test_blocked_and_back_of_small_elements(dtype, isa):
    kernels, x = kernel_set(isa), random(2, 35, 7, 5, dtype=dtype)
    n, c, h, w = x.shape
    expected = packed(x, kernels.width)
    y, back = np.zeros_like(expected), np.zeros_like(x)
    strides = {"row": w * kernels.width, "plane": h * w * kernels.width, "image": y.size // n}
    bits, work = 8 * x.itemsize, n * y.shape[1] * h
    forward = GuardedCall(
        kernels, f"relayout_to_blocked_{bits}", x=x, y=y, n=n, c=c, h=h, w=w, work=work, threads=2, **strides
    )
    forward.run()
    np.testing.assert_array_equal(y, expected)
    GuardedCall(kernels, f"relayout_to_plain_{bits}", x=y, y=back, n=n, c=c, h=h, w=w, work=work, **strides).run()
    np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize(
    ("x", "y"), [((1, 8, 2, 2), (1, 3, 2, 2, 4)), ((1, 8, 2, 2), (1, 2, 2, 3, 4)), ((1, 8, 2, 2), (1, 4, 2, 2, 2))]
)
def test_shapes_that_do_not_belong_together_are_refused(x, y):
    relayout = kernel_set("base").module("relayout")
    with pytest.raises(ValueError, match=r"belong together|packed by 4, 8 or 16"):
        relayout.nchw_to_packed(np.zeros(x, np.float32), np.zeros(y, np.float32))


# number of channels of each input, and which channel of which input each channel of the result is
GATHERS = {
    "shuffle": ([32], [(0, c) for k in range(16) for c in (k, 16 + k)]),
    "reverse": ([35], [(0, c) for c in range(34, -1, -1)]),
    "unaligned slice": ([48], [(0, c) for c in range(5, 29)]),
    "aligned slice": ([48], [(0, c) for c in range(16, 48)]),
    "unaligned concat": ([5, 20, 9], [(k, c) for k, n in enumerate([5, 20, 9]) for c in range(n)]),
    "shuffle of two": ([24, 24], [(k, c) for c in range(24) for k in (0, 1)]),
    "far apart": ([160], [(0, c * 10) for c in range(16)]),
}


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", GATHERS)
def test_channels_are_gathered(name, threads, isa):
    channels, sources = GATHERS[name]
    inputs = [random(2, c, 3, 5) + k for k, c in enumerate(channels)]
    params = ChannelGather.of(sources)
    actual, _ = run_blocked("ChannelGather", params, inputs, isa, threads=threads)
    np.testing.assert_array_equal(actual, definition("ChannelGather", params, inputs))
