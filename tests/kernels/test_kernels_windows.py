"""Windows of images on every instruction set, against their definition."""

import numpy as np
import pytest
from support.one_node import INSTRUCTION_SETS, attach_outputs, definition, run_blocked, run_graph, run_node

from megengine_lite._core.ir.dtype import DType, DTypeCode
from megengine_lite._core.ir.graph import Graph, Node, TensorSpec, Var
from megengine_lite._core.ir.params import Images2Neibs

TYPES = (np.float32, np.float16, np.uint8)


def numbers(dtype, *shape):
    return np.random.default_rng(0).integers(1, 200, shape).astype(dtype)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", TYPES, ids=lambda t: t.__name__)
@pytest.mark.parametrize("dilate", [1, 2])
@pytest.mark.parametrize(("pad", "stride"), [(0, 1), (1, 1), (2, 3), (5, 2)])
@pytest.mark.parametrize("window", [(1, 1), (3, 3), (2, 5), (4, 17), (1, 40)], ids=str)
def test_windows(window, pad, stride, dilate, dtype, isa):
    """Windows as long as a vector, shorter and longer; some lie outside of the image."""
    kh, kw = window
    params = Images2Neibs(
        pad_h=pad, pad_w=pad, stride_h=stride, stride_w=stride, dilate_h=dilate, dilate_w=dilate, window_h=kh,
        window_w=kw,
    )  # fmt: skip
    for h, w in ((7, 80), (9, 79)):
        x = numbers(dtype, 2, 3, h, w)
        for threads in 1, 3:
            actual, kernels = run_node("Images2Neibs", params, [x], (), isa, threads)
            assert kernels == ["copy_windows"]
            np.testing.assert_array_equal(actual, definition("Images2Neibs", params, [x]))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_windows_larger_than_the_image(isa):
    x = numbers(np.float32, 1, 2, 4, 5)
    params = Images2Neibs(window_h=4, window_w=5, pad_h=2, pad_w=3)
    actual, _ = run_node("Images2Neibs", params, [x], (), isa)
    np.testing.assert_array_equal(actual, definition("Images2Neibs", params, [x]))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_windows_of_blocked_images(isa):
    x = numbers(np.float32, 2, 20, 6, 7)
    params = Images2Neibs(pad_h=1, pad_w=1)
    actual, kernels = run_blocked("Images2Neibs", params, [x], isa)
    assert kernels[-1] == "copy_windows"
    np.testing.assert_array_equal(actual, definition("Images2Neibs", params, [x]))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_zero_point_lies_around_the_image(isa):
    data = Var(0, "x", TensorSpec((1, 1, 2, 2), DType(DTypeCode.QUANTIZED8_ASYMM, 0.5, 130)))
    node = Node("Images2Neibs", Images2Neibs(pad_h=1, pad_w=1), [data], [], "node")
    attach_outputs(node, 1)
    (y,), _ = run_graph(Graph([node], [data], node.outputs, ["y"]), lambda var: np.uint8([[[[1, 2], [3, 4]]]]), isa)
    assert y[0, 0, 0, 0].tolist() == [[130, 130, 130], [130, 1, 2], [130, 3, 4]]
    assert y[0, 0, 1, 1].tolist() == [[1, 2, 130], [3, 4, 130], [130, 130, 130]]
