"""Pixels moved by matrices on every instruction set, against the definition."""

import numpy as np
import pytest
from support.one_node import INSTRUCTION_SETS, definition, run_node

from megengine_lite._core.ir.onnx_image_params import Corners


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(3, 1, 9), (2, 5, 1, 1), (2, 3, 7, 40), (1, 1, 4, 5, 33), (2, 1, 3, 1, 2)], ids=str)
def test_moved_pixels(size, align_corners, isa):
    axes = len(size) - 2
    matrices = np.random.default_rng(0).standard_normal((size[0], axes, axes + 1)).astype(np.float32)
    inputs = [matrices, np.array(size)]
    expected = definition("AffineGrid", Corners(align_corners), inputs, {1})
    for threads in 1, 3:
        actual, kernels = run_node("AffineGrid", Corners(align_corners), inputs, {1}, isa, threads)
        assert kernels == ["affine_points_f32"]
        np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)
