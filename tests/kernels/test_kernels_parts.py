"""Triangles, reversed sequences and sums of windows on every instruction set, against their definitions."""

import numpy as np
import pytest
from support.one_node import INSTRUCTION_SETS, definition, run_node

from megengine_lite._core.ir.onnx_image_params import Blocks
from megengine_lite._core.ir.onnx_params import SequenceAxes, Triangle
from megengine_lite.errors import LiteIndexError

TYPES = (np.float32, np.int8, np.int16, np.int64)


def numbers(shape, dtype):
    return np.random.default_rng(0).integers(-100, 100, shape).astype(dtype)


def check(op, params, inputs, constants, isa, kernel):
    actual, kernels = run_node(op, params, inputs, constants, isa, 2)
    assert kernels == [kernel]
    np.testing.assert_array_equal(actual, definition(op, params, inputs, constants))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("upper", [False, True], ids=["lower", "upper"])
@pytest.mark.parametrize("dtype", TYPES, ids=lambda t: t.__name__)
@pytest.mark.parametrize("shape", [(5, 5), (2, 3, 4, 9), (9, 4), (1, 1)], ids=str)
def test_triangles(shape, dtype, upper, isa):
    x = numbers(shape, dtype)
    check("Triangle", Triangle(upper), [x], (), isa, "keep_triangle")
    for diagonal in -100, -3, -1, 1, 2, 100:
        check("Triangle", Triangle(upper), [x, np.array(diagonal)], {1}, isa, "keep_triangle")


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("time", [0, 1])
@pytest.mark.parametrize("dtype", TYPES, ids=lambda t: t.__name__)
def test_reversed_sequences(dtype, time, isa):
    for shape in (7, 4, 3), (7, 4), (7, 4, 2, 9):
        x = numbers(shape if time == 0 else (shape[1], shape[0], *shape[2:]), dtype)
        for kind in np.int32, np.int64:
            lengths = np.array([0, 1, 5, 7], kind)
            check("ReverseSequence", SequenceAxes(1 - time, time), [x, lengths], (), isa, "reverse_sequences")
    for wrong in -1, 8:
        with pytest.raises(LiteIndexError, match="does not fit 7 elements"):
            run_node("ReverseSequence", SequenceAxes(1, 0), [numbers((7, 1), dtype), np.int32([wrong])], (), isa)


BLOCKS = {  # image, block, strides, dilations, padding in front and behind
    "line": ((20,), (3,), (1,), (2,), (1,), (0,)),
    "image": ((9, 30), (3, 3), (1, 1), (1, 1), (0, 0), (0, 0)),
    "padded": ((9, 30), (3, 2), (2, 1), (1, 1), (1, 1), (1, 0)),
    "dilated": ((12, 11), (2, 3), (3, 2), (2, 3), (2, 3), (0, 1)),
    "stride 2, long rows": ((11, 101), (3, 3), (2, 2), (1, 1), (1, 1), (1, 1)),
    "stride 3": ((10, 100), (4, 5), (3, 3), (1, 1), (1, 2), (2, 0)),
    "stride 4": ((9, 130), (2, 6), (1, 4), (1, 1), (0, 1), (0, 1)),
    "stride 5": ((9, 59), (5, 5), (5, 5), (1, 1), (0, 0), (0, 0)),
    "stride larger than the image": ((7, 5), (2, 2), (9, 9), (1, 1), (1, 1), (1, 1)),
    "several bands": ((90, 120), (3, 3), (2, 2), (1, 1), (1, 1), (1, 1)),
    "long rows": ((3, 5000), (2, 2), (1, 1), (1, 1), (0, 0), (0, 0)),
}


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("name", BLOCKS)
def test_sums_of_windows(name, isa):
    image, block, strides, dilations, begin, end = BLOCKS[name]
    spaces = zip(image, begin, end, dilations, block, strides, strict=True)
    counts = [(d + b + e - t * (k - 1) - 1) // s + 1 for d, b, e, t, k, s in spaces]
    x = np.random.default_rng(0).standard_normal((2, 3 * np.prod(block), np.prod(counts))).astype(np.float32)
    inputs = [x, np.array(image), np.array(block)]
    check("Col2Im", Blocks(strides, dilations, begin, end), inputs, {1, 2}, isa, "sum_windows_f32")
