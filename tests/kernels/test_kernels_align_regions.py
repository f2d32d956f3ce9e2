"""Regions pooled with the rules of ONNX on every instruction set, against the definition."""

import numpy as np
import pytest
from support.one_node import INSTRUCTION_SETS, definition, run_blocked

from megengine_lite._core.ir.onnx_image_params import Regions
from megengine_lite._core.operators.onnx_sampling import MOST_SAMPLES
from megengine_lite.errors import LiteIndexError


def regions(count, wide):
    rng = np.random.default_rng(0)
    corners = rng.uniform(-20, 80, (count, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1).astype(np.float32)
    boxes[0, 2:] = boxes[0, :2]  # empty
    boxes[1] = boxes[1, [2, 3, 0, 1]]  # turned around
    return boxes, rng.integers(0, 2, count).astype(np.int64 if wide else np.int32)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("largest", [False, True], ids=["mean", "maximum"])
@pytest.mark.parametrize("half_pixel", [False, True], ids=["whole pixels", "half pixels"])
@pytest.mark.parametrize("ratio", [0, 1, 3])
@pytest.mark.parametrize("channels", [3, 35])
def test_regions_are_pooled(channels, ratio, half_pixel, largest, isa):
    x = np.random.default_rng(1).standard_normal((2, channels, 12, 15)).astype(np.float32)
    params = Regions((3, 4), largest, half_pixel, ratio, 0.4)
    for wide in False, True:
        inputs = [x, *regions(9, wide)]
        actual, kernels = run_blocked("OnnxRoiAlign", params, inputs, isa, threads=2, plain={1, 2})
        assert "align_regions_f32" in kernels
        np.testing.assert_allclose(actual, definition("OnnxRoiAlign", params, inputs), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_regions_that_are_refused(isa):
    x, image = np.ones((1, 2, 5, 6), np.float32), np.int32([0])
    fits = np.float32([[0, 0, 2 * MOST_SAMPLES, 2]])
    params = Regions((2, 2), False, True, 0, 1.0)
    actual, _ = run_blocked("OnnxRoiAlign", params, [x, fits, image], isa, plain={1, 2})
    np.testing.assert_allclose(actual, definition("OnnxRoiAlign", params, [x, fits, image]), rtol=1e-4)
    for region in ([0, 0, 2 * MOST_SAMPLES + 1, 2], [0, 0, np.inf, 2], [np.nan, 0, 2, 2]):
        inputs = [x, np.float32([region]), image]
        with pytest.raises(LiteIndexError, match="not finite, or takes more than 1024 samples"):
            run_blocked("OnnxRoiAlign", params, inputs, isa, plain={1, 2})
    for number in -1, 1:
        with pytest.raises(LiteIndexError, match="an image that does not exist, there are 1"):
            run_blocked("OnnxRoiAlign", params, [x, fits, np.int32([number])], isa, plain={1, 2})
