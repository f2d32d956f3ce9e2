"""Types of 64 bits, and uint32: computed in numpy, in no file of MegEngine's."""

import numpy as np
import pytest
from support.graphs import GraphBuilder, run, session_of

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import BOOL, FLOAT32, FLOAT64, INT32, INT64, UINT8, UINT32, UINT64, WIDE, DType
from megengine_lite._core.ir.params import ElemwiseMode, IndexDescMaskItem

BIG = 2**40


def converted(builder, var, dtype):
    return builder.node("TypeCvt", params.DTypeTable(dtype=dtype), [var])


@pytest.mark.parametrize("dtype", [INT64, UINT32, UINT64, FLOAT64])
def test_values_go_through_a_network_as_numpy_has_them(dtype):
    builder = GraphBuilder()
    x = builder.input("x", (2, 3), INT32)
    wide = converted(builder, x, dtype)
    squares = builder.node("Elemwise", params.Elemwise(mode=ElemwiseMode.MUL), [wide, wide])
    turned = builder.node("Dimshuffle", params.Dimshuffle(pattern=(1, 0), ndim=2), [squares])
    joined = builder.node("Concat", params.Axis(axis=1), [turned, turned])
    flat = builder.node("Reshape", params.OptionalAxisV1(), [joined, builder.constant(np.int32([12]))])
    part = builder.node(
        "Subtensor",
        params.IndexDescMaskDump(items=(IndexDescMaskItem(0, True, False, True, False),)),
        [flat, builder.constant(np.int32([1])), builder.constant(np.int32([2]))],
    )
    value = np.array([[1, 2, 3], [60000, 5, 6]], np.int32)
    session = session_of(builder.finish(part, converted(builder, part, FLOAT32)))
    part, real = run(session, x=value)
    squares = value.astype(dtype.storage) ** 2
    expected = np.concatenate([squares.T, squares.T], 1).reshape(-1)[1::2]
    assert part.dtype == dtype.storage
    np.testing.assert_array_equal(part, expected)
    np.testing.assert_array_equal(real, expected.astype(np.float32))


@pytest.mark.parametrize(
    "source, target, value, expected",
    [
        (FLOAT32, INT64, [2.0**40, -3.7], [BIG, -3]),
        (INT64, INT32, [BIG + 5, -1], [5, -1]),
        (INT64, BOOL, [BIG, 0], [True, False]),
        (INT64, UINT8, [257, -1], [1, 255]),
        (FLOAT64, FLOAT32, [1.5, 1e300], [1.5, np.inf]),
        (FLOAT64, INT64, [2.0**40 + 0.5, -0.5], [BIG, 0]),
        (UINT32, INT64, [2**32 - 1, 7], [2**32 - 1, 7]),
        (BOOL, FLOAT64, [True, False], [1, 0]),
    ],
)
def test_conversions_are_those_of_numpy(source, target, value, expected):
    builder = GraphBuilder()
    x = builder.input("x", (2,), source)
    (result,) = run(session_of(builder.finish(converted(builder, x, target))), x=np.array(value, source.storage))
    assert result.dtype == target.storage
    np.testing.assert_array_equal(result, expected)


def test_int64_is_an_index():
    builder = GraphBuilder()
    x = builder.input("x", (4, 2))
    index = converted(builder, builder.input("i", (3,), INT32), INT64)
    item = IndexDescMaskItem(0, False, False, False, True)
    taken = builder.node("IndexingMultiAxisVec", params.IndexDescMaskDump(items=(item,)), [x, index])
    value = np.arange(8, dtype=np.float32).reshape(4, 2)
    (result,) = run(session_of(builder.finish(taken)), x=value, i=np.int32([3, 0, -1]))
    np.testing.assert_array_equal(result, value[[3, 0, -1]])


def test_no_file_has_numbers_of_wide_types():
    assert all(int(code) > 255 and DType(code).is_wide for code in WIDE)
    assert not INT32.is_wide
