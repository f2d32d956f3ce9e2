"""Suppression of boxes with the rules of ONNX on every instruction set, against its definition."""

import numpy as np
import pytest
from support.one_node import INSTRUCTION_SETS, definition, run_blocked

from megengine_lite._core.ir.onnx_image_params import Suppression


def boxes(images, n, extent):
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, extent, (images, n, 2)).astype(np.float32)
    return np.concatenate([corner, corner + rng.uniform(-5, 40, (images, n, 2)).astype(np.float32)], 2)


def check(some, scores, limits, isa, by_center=False, constants=(2,)):
    params = Suppression(by_center, len(limits) == 3)
    inputs = [some, scores, np.array([limits[0]]), *(np.float32([v]) for v in limits[1:])]
    plain = set(range(len(inputs))) - set(constants)
    for output in 0, 1:
        actual, kernels = run_blocked("SuppressedBoxes", params, inputs, isa, set(constants), 2, plain, output)
        assert "suppress_boxes" in kernels
        np.testing.assert_array_equal(actual, definition("SuppressedBoxes", params, inputs, constants, output))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("by_center", [False, True], ids=["corners", "center"])
@pytest.mark.parametrize("extent", [30, 300, 3000])
@pytest.mark.parametrize("n", [1, 7, 33, 400])
def test_boxes_that_overlap_too_much_are_left_out(n, extent, by_center, isa):
    scores = np.random.default_rng(1).uniform(0, 1, (2, 3, n)).astype(np.float32)
    for limits in (3, 0.5), (n, 0.3), (1 << 62, 0.0), (100, 0.6, 0.4):
        check(boxes(2, n, extent), scores, limits, isa, by_center)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("by_center", [False, True], ids=["corners", "center"])
def test_special_numbers(by_center, isa):
    rng = np.random.default_rng(2)
    some = rng.choice(np.float32([np.nan, np.inf, -np.inf, 0, -0.0, 1, 2, 1e30]), (2, 200, 4))
    scores = rng.choice(np.float32([np.nan, np.inf, -np.inf, 0, -0.0, 1, 1]), (2, 2, 200))
    check(some, scores, (200, 0.5), isa, by_center)
    check(some, scores, (200, 0.5, 0.0), isa, by_center)
    check(some, scores, (200, np.nan, -1.0), isa, by_center)
