"""Change between plain, packed and blocked images, and gathering of blocked channels."""

import numpy as np
import pytest
from support.guarded_memory import GuardedCall, guarded_bytes, guarded_copy
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
@pytest.mark.parametrize("stream", [0, 1])
def test_blocked_and_back(stream, image, halo, isa):
    """``stream`` stores past the caches, where rows are aligned; the numbers are the same."""
    kernels, x = kernel_set(isa), random(*image)
    n, c, h, w = x.shape
    expected = packed(x, kernels.width, halo)
    inside = expected[:, :, halo[0] : halo[0] + h, halo[1] : halo[1] + w]
    y, back = np.zeros_like(expected), np.full_like(x, np.nan)
    first = (inside.ctypes.data - expected.ctypes.data) // 4
    row, plane = expected.shape[3] * kernels.width, expected.shape[2] * expected.shape[3] * kernels.width
    sizes = {"n": n, "c": c, "h": h, "w": w, "row": row, "plane": plane, "image": plane * y.shape[1]}
    sizes |= {"work": n * y.shape[1] * h, "threads": 2, "stream": stream}
    GuardedCall(kernels, "relayout_to_blocked_32", x=x, y=(y, first), **sizes).run()
    np.testing.assert_array_equal(y, expected)
    GuardedCall(kernels, "relayout_to_plain_32", x=(y, first), y=back, **sizes).run()
    np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("pack", [4, 8, 16])
@pytest.mark.parametrize("image", IMAGES, ids=str)
def test_nchw44_and_nchw88_and_back_whatever_the_width(image, pack, isa):
    """Between forbidden pages, at the end and at the beginning of them."""
    relayout, x = kernel_set(isa).module("relayout"), random(*image)
    expected = packed(x, pack)
    for at_end in (True, False):
        y, back = (guarded_bytes(a.nbytes, at_end).view(np.float32).reshape(a.shape) for a in (expected, x))
        y.fill(np.nan)
        relayout.nchw_to_packed(guarded_copy(x, at_end), y)
        np.testing.assert_array_equal(y, expected)
        relayout.packed_to_nchw(guarded_copy(expected, at_end), back)
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
        kernels, f"relayout_to_blocked_{bits}", x=x, y=y, n=n, c=c, h=h, w=w, stream=0, work=work, threads=2, **strides
    )
    forward.run()
    np.testing.assert_array_equal(y, expected)
    GuardedCall(
        kernels, f"relayout_to_plain_{bits}", x=y, y=back, n=n, c=c, h=h, w=w, stream=0, work=work, **strides
    ).run()
    np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize(
    ("x", "y"), [((1, 8, 2, 2), (1, 3, 2, 2, 4)), ((1, 8, 2, 2), (1, 2, 2, 3, 4)), ((1, 8, 2, 2), (1, 4, 2, 2, 2))]
)
def test_shapes_that_do_not_belong_together_are_refused(x, y):
    relayout = kernel_set(INSTRUCTION_SETS[0]).module("relayout")
    plain, packed = np.zeros(x, np.float32), np.zeros(y, np.float32)
    with pytest.raises(ValueError, match=r"is packed in|packed by 4, 8 or 16"):
        relayout.nchw_to_packed(plain, packed)
    with pytest.raises(ValueError, match=r"is packed in|packed by 4, 8 or 16"):
        relayout.packed_to_nchw(packed, plain)


def test_arrays_that_cannot_be_packed_are_refused():
    relayout = kernel_set(INSTRUCTION_SETS[0]).module("relayout")
    x, y = np.zeros((1, 8, 2, 2), np.float32), np.zeros((1, 2, 2, 2, 4), np.float32)
    with pytest.raises(ValueError, match="contiguous"):
        relayout.nchw_to_packed(np.zeros((1, 8, 2, 4), np.float32)[..., ::2], y)
    with pytest.raises(ValueError, match="contiguous"):
        relayout.packed_to_nchw(y, np.zeros((1, 16, 2, 2), np.float32)[:, ::2])
    with pytest.raises(ValueError, match="dtype"):
        relayout.nchw_to_packed(x.astype(np.int32), y)
    y.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        relayout.nchw_to_packed(x, y)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("distance", [-127, -1, 0, 1, 127])
def test_arrays_that_overlap_are_refused(distance, isa):
    relayout = kernel_set(isa).module("relayout")
    memory = np.arange(384, dtype=np.float32)
    plain = memory[128:256].reshape(1, 8, 4, 4)
    packed = memory[128 + distance :][:128].reshape(1, 2, 4, 4, 4)
    for edge, x, y in ((relayout.nchw_to_packed, plain, packed), (relayout.packed_to_nchw, packed, plain)):
        with pytest.raises(ValueError, match="overlap: give a destination"):
            edge(x, y)
    np.testing.assert_array_equal(memory, np.arange(384))


@pytest.mark.parametrize("start", [0, 256])
def test_neighbouring_arrays_are_packed(start):
    relayout = kernel_set("base").module("relayout")
    memory = np.arange(384, dtype=np.float32)
    plain, packed = memory[128:256].reshape(1, 8, 4, 4), memory[start:][:128].reshape(1, 2, 4, 4, 4)
    expected = plain.reshape(1, 2, 4, 4, 4).transpose(0, 1, 3, 4, 2).copy()
    relayout.nchw_to_packed(plain, packed)
    np.testing.assert_array_equal(packed, expected)


def test_empty_images_are_packed_to_nothing():
    relayout = kernel_set(INSTRUCTION_SETS[0]).module("relayout")
    for shape in ((0, 8, 2, 2), (1, 0, 2, 2), (1, 8, 0, 2)):
        x, y = np.zeros(shape, np.float32), np.zeros((shape[0], shape[1] // 4, *shape[2:], 4), np.float32)
        relayout.nchw_to_packed(x, y)
        relayout.packed_to_nchw(y, x)
        assert x.size == y.size == 0


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
