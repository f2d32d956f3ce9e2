"""What counts as the same outputs where a file that is written is compared with its model."""

import numpy as np
import pytest

from megengine_lite._api.comparison import compare_output, tolerance
from megengine_lite._core.ir.dtype import FLOAT32, DType, DTypeCode
from megengine_lite.errors import LiteError

FLOATS = tolerance([FLOAT32])
NAN, INF = np.nan, np.inf


def real(*numbers):
    return np.array(numbers, np.float32)


@pytest.mark.parametrize(
    ("got", "want"),
    [
        (real(NAN, 1), real(1, 1)),
        (real(1, 1), real(NAN, 1)),
        (real(INF, 1), real(1, 1)),
        (real(1, 1), real(1, -INF)),
        (real(INF), real(-INF)),
        (real(NAN), real(INF)),
        (np.array([5000, 4997]), np.array([5001, 4993])),
        (np.array([2**62 + 1]), np.array([2**62])),
        (np.array([0, 5], np.int32), np.array([1, 5], np.int32)),
        (np.array([True]), np.array([False])),
        (real(1, 0), real(1, 0.01)),
        (real(1), real(1, 1)),
    ],
)
def test_other_outputs_are_reported(got, want):
    with pytest.raises(LiteError, match=r"^y (differs|has the shape)"):
        compare_output("y", got, want, FLOATS)


@pytest.mark.parametrize(
    "values", [real(NAN, INF, -INF, 1), np.array([2**62, -5]), np.array([True, False]), real(), real(0)]
)
def test_the_same_outputs_are_not(values):
    compare_output("y", values, values.copy(), FLOATS)


def test_last_digits_may_differ():
    compare_output("y", real(1.0001, 1e-9), real(1, 0), FLOATS)


def test_elements_may_be_left_out():
    compare_output("y", real(7, INF, 1), real(NAN, INF, 1), FLOATS, np.array([True, False, False]))
    with pytest.raises(LiteError, match="has 7 where there is inf here"):
        compare_output("y", real(7, 7), real(NAN, INF), FLOATS, np.array([True, False]))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32])
def test_integers_of_quantized_networks_may_be_a_step_apart(dtype):
    limit = tolerance([FLOAT32, DType(DTypeCode.QUANTIZED_S8, 0.5)])
    want = np.arange(100).astype(dtype)
    compare_output("y", want + dtype(1), want, limit)
    with pytest.raises(LiteError, match="differs by 2"):
        compare_output("y", want + dtype(2), want, limit)
