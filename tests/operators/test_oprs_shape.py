"""Shapes and movement of data."""

import numpy as np
import pytest
from support.definitions import float32, infer_opr, int32, make_node, make_specs, run_opr

from megengine_lite._core.ir.dtype import FLOAT32, INT8, INT32, DType, DTypeCode
from megengine_lite._core.ir.graph import TensorSpec
from megengine_lite._core.ir.params import (
    Axis,
    AxisAddRemove,
    AxisDesc,
    AxisMethod,
    Dimshuffle,
    Empty,
    OptionalAxisV1,
    Padding,
    PaddingMode,
)
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.operators.shape import PassThrough
from megengine_lite.errors import ShapeError

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def spec(*shape, dtype=FLOAT32, value=None):
    return TensorSpec(shape, dtype, value)


def test_shape_of_one_and_of_several():
    assert run_opr("GetVarShape", OptionalAxisV1(), X)[0].tolist() == [2, 3, 4]
    assert run_opr("GetVarShape", OptionalAxisV1(axis=1), X)[0].tolist() == [3]
    assert run_opr("GetVarShape", OptionalAxisV1(axis=-1), X)[0].tolist() == [4]
    assert run_opr("GetVarShape", OptionalAxisV1(), X[:1], X[:, :1], X[0])[0].tolist() == [2, 3, 4]


def test_shape_is_known_without_running():
    (out,) = infer_opr("GetVarShape", OptionalAxisV1(), spec(7, 0))
    assert out == spec(2, dtype=INT32)
    assert out.value.tolist() == [7, 0]
    with pytest.raises(ShapeError, match="axis 2 is out of range"):
        infer_opr("GetVarShape", OptionalAxisV1(axis=2), spec(7, 1))


@pytest.mark.parametrize(
    ("target", "axis", "shape"),
    [
        ((6, 4), 7, (6, 4)),
        ((24,), 7, (24,)),
        ((4, -5), 1, (4, 6)),
        ((1, 1, 2, 2, 1, 6), 0, (1, 1, 2, 2, 1, 6)),
        ((999, 8), -2, (3, 8)),
    ],
)
def test_reshape(target, axis, shape):
    (result,) = run_opr("Reshape", OptionalAxisV1(axis=axis), X, int32(*target))
    assert result.shape == shape
    assert result.ravel().tolist() == list(range(24))


def test_reshape_to_float_sizes_and_of_nothing():
    assert run_opr("Reshape", OptionalAxisV1(), X, float32(6.9, 4))[0].shape == (6, 4)
    empty = np.zeros((0, 3), np.float32)
    assert run_opr("Reshape", OptionalAxisV1(axis=0), empty, int32(-1, 3))[0].shape == (0, 3)
    assert run_opr("Reshape", OptionalAxisV1(axis=1), empty, int32(0, 5))[0].shape == (0, 0)


@pytest.mark.parametrize(
    ("target", "axis", "message"),
    [
        (int32(5, 5), 7, "24 elements of shape .* do not fit"),
        (int32(5, 0), 1, r"do not fit shape \(5, -1\)"),
        (int32(-2, -12), 7, "negative dimension"),
        (int32(*[1] * 7, 24), 7, "1 to 7 dimensions"),
        (int32(2**31 - 1, 2**31 - 1, 2**31 - 1), 7, "too large"),
        (float32(np.nan, 4), 7, "whole numbers"),
        (int32(24).reshape(1, 1), 7, "must be a vector"),
    ],
)
def test_reshape_refused(target, axis, message):
    with pytest.raises(ShapeError, match=message):
        run_opr("Reshape", OptionalAxisV1(axis=axis), X, target)


def test_target_that_is_not_known():
    assert REGISTRY["Reshape"].needed_values(make_node("Reshape", OptionalAxisV1(), 2)) == (1,)
    with pytest.raises(ShapeError, match="target shape is not known"):
        infer_opr("Reshape", OptionalAxisV1(), spec(2, 3), spec(2, dtype=INT32))


def test_broadcast():
    (result,) = run_opr("Broadcast", Empty(), float32([1], [2]), int32(3, 2, 4))
    assert result.tolist() == [[[1] * 4, [2] * 4]] * 3
    assert run_opr("Broadcast", Empty(), float32(1), int32(0, 3))[0].shape == (0, 3)
    with pytest.raises(ShapeError, match="does not broadcast"):
        run_opr("Broadcast", Empty(), X, int32(3, 1))


def test_dimshuffle():
    (result,) = run_opr("Dimshuffle", Dimshuffle(pattern=(2, -1, 0, 1), ndim=3), X)
    assert result.shape == (4, 1, 2, 3)
    assert result[3, 0, 1, 2] == X[1, 2, 3]
    (result,) = run_opr("Dimshuffle", Dimshuffle(pattern=(2, 0)), X[:, :1])
    assert result.tolist() == X[:, 0].T.tolist()


@pytest.mark.parametrize(
    ("pattern", "ndim", "message"),
    [
        ((0, 2), 0, "drops dimension 1"),
        ((0, 1, 3), 0, "does not fit"),
        ((0, 1, 1), 0, "does not fit"),
        ((0, 1, 2), 4, "needs 4 dimensions"),
        ((0, 1, 2, -1, -1, -1, -1, -1), 0, "1 to 7 dimensions"),
        ((0, 1, -2), 0, "does not fit"),
    ],
)
def test_dimshuffle_refused(pattern, ndim, message):
    with pytest.raises(ShapeError, match=message):
        run_opr("Dimshuffle", Dimshuffle(pattern=pattern, ndim=ndim), X)


def axis_steps(*steps):
    return AxisAddRemove(desc=tuple(AxisDesc(method, axis) for method, axis in steps))


@pytest.mark.parametrize(
    ("shape", "steps", "expected"),
    [
        ((2, 3), [(AxisMethod.ADD_1, 1)], (2, 1, 3)),
        ((2, 3), [(AxisMethod.ADD_1, -1)], (2, 3, 1)),
        ((2, 3), [(AxisMethod.ADD_1, -3), (AxisMethod.ADD_1, 3)], (1, 2, 3, 1)),
        ((2, 1, 3), [(AxisMethod.REMOVE, 1)], (2, 3)),
        ((1, 2, 1), [(AxisMethod.REMOVE, 0), (AxisMethod.REMOVE, 1)], (2,)),
        ((1,), [(AxisMethod.REMOVE, 0)], (1,)),
        ((1, 1), [(AxisMethod.REMOVE, 0), (AxisMethod.REMOVE, 0)], (1,)),
    ],
)
def test_axis_add_remove(shape, steps, expected):
    x = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    (result,) = run_opr("AxisAddRemove", axis_steps(*steps), x)
    assert result.shape == expected
    assert result.ravel().tolist() == x.ravel().tolist()


def test_axis_add_remove_refused():
    with pytest.raises(ShapeError, match="is not 1"):
        run_opr("AxisAddRemove", axis_steps((AxisMethod.REMOVE, 0)), X)
    with pytest.raises(ShapeError, match="out of range"):
        run_opr("AxisAddRemove", axis_steps((AxisMethod.ADD_1, 4)), X)
    with pytest.raises(ShapeError, match="method 2"):
        run_opr("AxisAddRemove", axis_steps((2, 0)), X)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_concat_and_split_are_inverse(axis):
    lengths = [1, 0, X.shape[axis] - 1]
    parts = run_opr("Split", Axis(axis=axis), X, *(int32(n) for n in lengths), n_outputs=3)
    assert [p.shape[axis] for p in parts] == lengths
    np.testing.assert_array_equal(parts[0], X.take([0], axis))
    np.testing.assert_array_equal(run_opr("Concat", Axis(axis=axis), *parts)[0], X)


def test_concat_of_quantized():
    a, b = DType(DTypeCode.QUANTIZED_S8, 0.1), DType(DTypeCode.QUANTIZED_S8, 0.2)
    x = np.int8([[1, 2]])
    assert run_opr("Concat", Axis(axis=0), x, x, dtypes=(a, a))[0].tolist() == [[1, 2], [1, 2]]
    with pytest.raises(ShapeError, match="one type"):
        run_opr("Concat", Axis(axis=0), x, x, dtypes=(a, b))


def test_concat_and_split_refused():
    with pytest.raises(ShapeError, match="cannot be joined along axis 0"):
        run_opr("Concat", Axis(axis=0), X, X[:, :2])
    with pytest.raises(ShapeError, match="cannot be joined"):
        run_opr("Concat", Axis(axis=0), X, X[0])
    with pytest.raises(ShapeError, match="do not make up axis 1"):
        run_opr("Split", Axis(axis=1), X, int32(1), int32(1), n_outputs=2)
    with pytest.raises(ShapeError, match="do not make up"):
        run_opr("Split", Axis(axis=1), X, int32(4), int32(-1), n_outputs=2)


def test_padding():
    x = float32([1, 2, 3], [4, 5, 6])
    offsets = {"front_offset_dim1": 2, "back_offset_dim1": 1, "back_offset_dim0": 1}
    assert run_opr("Padding", Padding(padding_val=9, **offsets), x)[0].tolist() == [
        [9, 9, 1, 2, 3, 9],
        [9, 9, 4, 5, 6, 9],
        [9] * 6,
    ]
    assert run_opr("Padding", Padding(padding_mode=PaddingMode.REPLICATE, **offsets), x)[0].tolist() == [
        [1, 1, 1, 2, 3, 3],
        [4, 4, 4, 5, 6, 6],
        [4, 4, 4, 5, 6, 6],
    ]
    assert run_opr("Padding", Padding(padding_mode=PaddingMode.REFLECT, **offsets), x)[0].tolist() == [
        [3, 2, 1, 2, 3, 2],
        [6, 5, 4, 5, 6, 5],
        [3, 2, 1, 2, 3, 2],
    ]


def test_padding_of_other_types():
    result = run_opr("Padding", Padding(front_offset_dim0=1, padding_val=-3.7), np.int8([1]))[0]
    assert (result.tolist(), result.dtype) == ([-3, 1], np.int8)
    u8 = DType(DTypeCode.QUANTIZED8_ASYMM, 0.5, 100)
    assert run_opr("Padding", Padding(front_offset_dim0=1), np.uint8([7]), dtypes=(u8,))[0].tolist() == [0, 7]


@pytest.mark.parametrize(
    ("params", "shape", "message"),
    [
        (Padding(front_offset_dim2=1), (2, 3), "does not have"),
        (Padding(front_offset_dim0=2, padding_mode=PaddingMode.REFLECT), (2, 3), "too short"),
        (Padding(front_offset_dim0=2, padding_mode=PaddingMode.REPLICATE), (0, 3), "too short"),
        (Padding(front_offset_dim0=2**32 - 1, front_offset_dim1=2**32 - 1), (1, 1), "too large"),
        (Padding(padding_mode=5), (2, 3), "mode 5 is not known"),
    ],
)
def test_padding_refused(params, shape, message):
    with pytest.raises(ShapeError, match=message):
        infer_opr("Padding", params, spec(*shape))


@pytest.mark.parametrize("op", [name for name, opr in REGISTRY.items() if isinstance(opr, PassThrough)])
def test_pass_through(op):
    assert run_opr(op, None, X)[0] is X


def test_virtual_dep_reads_only_its_first_input():
    assert run_opr("VirtualDep", None, X, np.int8([1, 2]))[0] is X


def test_infer_of_layout_only_operators_needs_no_values():
    assert infer_opr("Concat", Axis(axis=-1), spec(2, 3, dtype=INT8), spec(2, 4, dtype=INT8)) == [
        spec(2, 7, dtype=INT8)
    ]
    ones = make_specs([int32(1), int32(2)])
    assert infer_opr("Split", Axis(axis=1), spec(2, 3), *ones, n_outputs=2) == [spec(2, 1), spec(2, 2)]
