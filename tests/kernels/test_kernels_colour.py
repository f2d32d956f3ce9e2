"""Colour conversion on every instruction set, against the definition."""

import numpy as np
import pytest
from support.one_node import INSTRUCTION_SETS, definition, run_node

from megengine_lite._core.ir.dtype import DTypeCode
from megengine_lite._core.ir.params import CvtColor, CvtColorMode
from megengine_lite._core.operators.colour import _PIXELS, PLANAR

TYPES = {DTypeCode.UINT8: np.uint8, DTypeCode.FLOAT32: np.float32}


def image(dtype, *shape):
    rng = np.random.default_rng(len(shape))
    return rng.integers(0, 256, shape).astype(np.uint8) if dtype is np.uint8 else rng.random(shape, np.float32) * 3 - 1


def check(mode, x, isa, kernel):
    params = CvtColor(mode=mode)
    for threads in 1, 3:
        actual, kernels = run_node("CvtColor", params, [x], (), isa, threads)
        assert kernels == [kernel]
        np.testing.assert_array_equal(actual, definition("CvtColor", params, [x]))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("mode", sorted(_PIXELS), ids=lambda m: m.name)
def test_pixels(mode, isa):
    """Rows of a vector of pixels, fewer and more, and several pieces of work."""
    channels, _, _, types = _PIXELS[mode]
    for code in types:
        for n, h, w in ((1, 1, 1), (2, 3, 5), (1, 4, 16), (1, 1, 33), (1, 70, 61)):
            check(mode, image(TYPES[code], n, h, w, channels), isa, "convert_colours")


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("mode", sorted(PLANAR), ids=lambda m: m.name)
def test_planes(mode, isa):
    for n, h, w in ((1, 2, 2), (2, 4, 6), (1, 6, 34), (3, 2, 16)):
        check(mode, image(np.uint8, n, h * 3 // 2, w, 1), isa, "planes_to_colours")


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize(
    ("mode", "channels"), [(m, _PIXELS[m][0]) for m in (CvtColorMode.RGB2YUV, CvtColorMode.YUV2RGB)]
)
def test_all_combinations_of_bytes_at_their_ends(mode, channels, isa):
    """Where sums leave 0..255."""
    ends = np.array([0, 1, 127, 128, 254, 255], np.uint8)
    x = np.stack(np.meshgrid(*[ends] * channels), axis=-1).reshape(1, 6, -1, channels)
    check(mode, x, isa, "convert_colours")


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("mode", [CvtColorMode.YUV2RGB_NV12, CvtColorMode.BT601_YUV2BGR_YU12], ids=lambda m: m.name)
def test_planes_at_their_ends(mode, isa):
    ends = [0, 1, 16, 127, 128, 235, 254, 255]
    y, u, v = (c.reshape(-1) for c in np.meshgrid(ends, ends, ends))
    light = np.repeat(y, 2).astype(np.uint8)
    chroma = np.stack([u, v], axis=1).reshape(-1) if mode is CvtColorMode.YUV2RGB_NV12 else np.concatenate([u, v])
    x = np.concatenate([light, light, chroma.astype(np.uint8)]).reshape(1, 3, -1, 1)
    check(mode, x, isa, "planes_to_colours")
