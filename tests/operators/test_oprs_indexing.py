"""Taking, setting and increasing parts of tensors."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.definitions import float32, infer_opr, int32, make_node, run_opr

from megengine_lite._core.ir.dtype import FLOAT32, INT32
from megengine_lite._core.ir.graph import TensorSpec
from megengine_lite._core.ir.params import Axis, IndexDescMaskDump, IndexDescMaskItem, IndexingRemap
from megengine_lite._core.operators import REGISTRY
from megengine_lite.errors import LiteIndexError, ShapeError

X = np.arange(60, dtype=np.float32).reshape(3, 4, 5)


def encode(index, first_axis_last=True):
    """Items and inputs for {axis: slice, number or array}, in the order in which files have them."""
    items, arrays = [], []
    for axis in sorted(index, reverse=first_axis_last):
        what = index[axis]
        if isinstance(what, slice):
            numbers = [what.start, what.stop, what.step]
            items.append(IndexDescMaskItem(axis, *(n is not None for n in numbers), False))
            arrays += [int32(n) for n in numbers if n is not None]
        else:
            items.append(IndexDescMaskItem(axis, False, False, False, True))
            arrays.append(np.array(what, np.int32).reshape(-1) if np.isscalar(what) else np.array(what, np.int32))
    return IndexDescMaskDump(items=tuple(items)), arrays


def take(op, x, index, **options):
    params, arrays = encode(index, **options)
    return run_opr(op, params, x, *arrays)[0]


def change(op, x, value, index):
    params, arrays = encode(index)
    before = x.copy()
    (result,) = run_opr(op, params, x, value, *arrays)
    np.testing.assert_array_equal(x, before)
    return result


optional = st.none() | st.integers(-8, 8)
steps = st.none() | st.integers(-4, 4).filter(bool)


@given(st.builds(slice, optional, optional, steps), st.builds(slice, optional, optional, steps), st.booleans())
def test_slices_are_those_of_python(first, last, order):
    expected = [[row[last] for row in plane] for plane in X.tolist()[first]]
    result = take("Subtensor", X, {0: first, 2: last}, first_axis_last=order)
    assert result.shape == (len(X[first]), 4, len(range(5)[last]))
    assert result.tolist() == expected or result.size == 0


@pytest.mark.parametrize(
    ("index", "shape", "first"),
    [
        ({0: 1}, (4, 5), 20),
        ({-1: -1}, (3, 4), 4),
        ({0: 2, 1: 3}, (5,), 55),
        ({0: 2, 1: 3, 2: 4}, (1,), 59),
        ({1: 1, 2: slice(3, None, -2)}, (3, 2), 8),
        ({}, (3, 4, 5), 0),
    ],
)
def test_numbers_remove_their_axis(index, shape, first):
    result = take("Subtensor", X, index)
    assert result.shape == shape
    assert result.ravel()[0] == first


def test_float_numbers_are_truncated():
    params = IndexDescMaskDump(items=(IndexDescMaskItem(0, False, True, False, False),))
    assert run_opr("Subtensor", params, X, float32(1.9))[0].shape == (1, 4, 5)


def test_slices_of_unknown_index_inputs_are_inferred():
    params, _ = encode({0: slice(1, None), 1: 2})
    node = make_node("Subtensor", params, 3)
    assert REGISTRY["Subtensor"].needed_values(node) == (2,)
    specs = [TensorSpec((3, 4, 5), FLOAT32), TensorSpec((1,), INT32), TensorSpec((1,), INT32, int32(1))]
    assert infer_opr("Subtensor", params, *specs) == [TensorSpec((2, 5), FLOAT32)]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({3: 0}, "axis 3 is out of range"),
        ({0: slice(None, None, 0)}, "step of axis 0 is 0"),
        ({0: 0, -3: 1}, "indexes axis 0 twice"),
        ({0: [1, 2]}, "must be one number"),
    ],
)
def test_subtensor_refused(index, message):
    with pytest.raises(ShapeError, match=message):
        take("Subtensor", X, index)


def test_wrong_number_of_inputs():
    params, arrays = encode({0: 1, 1: 2})
    with pytest.raises(ShapeError, match="its items need 3 inputs, it has 2"):
        REGISTRY["Subtensor"].needed_values(make_node("Subtensor", params, 2))
    with pytest.raises(ShapeError, match="indexes more axes"):
        run_opr("Subtensor", params, X[0, 0], *arrays)


@pytest.mark.parametrize("op", ["Subtensor", "IndexingMultiAxisVec", "MeshIndexing"])
@pytest.mark.parametrize("number", [3, -4, 2**31 - 1])
def test_index_out_of_range(op, number):
    with pytest.raises(LiteIndexError, match=op):
        take(op, X, {0: [number]})


def test_set_and_increase_slices():
    index = {0: slice(1, None), 2: slice(None, None, -2)}
    value = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    expected = X.copy()
    for i, j, k in itertools.product(range(2), range(4), range(3)):
        expected[1 + i, j, 4 - 2 * k] = value[i, j, k]
    np.testing.assert_array_equal(change("SetSubtensor", X, value, index), expected)
    increased = change("IncrSubtensor", X, value, index)
    assert increased[2, 3, 0] == X[2, 3, 0] + value[1, 3, 2]
    assert increased.sum() == X.sum() + value.sum()


def test_set_broadcasts_its_value():
    result = change("SetSubtensor", X, float32(-1), {0: 0, 1: 1, 2: 2})
    assert (result[0, 1, 2], (result == -1).sum()) == (-1, 1)
    result = change("SetSubtensor", X, float32(1, 2, 3, 4).reshape(4, 1), {0: 1})
    assert result[1].tolist() == [[v] * 5 for v in (1, 2, 3, 4)]


def test_set_refuses_a_value_that_does_not_fit():
    with pytest.raises(ShapeError, match="does not broadcast to the selected part of shape \\(4, 5\\)"):
        change("SetSubtensor", X, float32(1, 2, 3), {0: 1})
    with pytest.raises(ShapeError, match="one type"):
        change("SetSubtensor", X, int32(1), {0: 1})


def test_set_with_unknown_slices_is_inferred():
    params, _ = encode({0: slice(1, None)})
    specs = [TensorSpec((3, 4), FLOAT32), TensorSpec((1,), FLOAT32), TensorSpec((1,), INT32)]
    assert infer_opr("SetSubtensor", params, *specs) == [TensorSpec((3, 4), FLOAT32)]


def test_index_vectors_side_by_side():
    result = take("IndexingMultiAxisVec", X, {1: [3, 0], 2: [[-1, 2]]})
    assert result.tolist() == [[[X[i, 3, 4], X[i, 0, 2]]] for i in range(3)]


def test_index_vectors_apart_come_first():
    result = take("IndexingMultiAxisVec", X, {0: [2, 0], 2: [[1], [4]]})
    assert result.shape == (2, 2, 4)
    for a, b, j in itertools.product(range(2), range(2), range(4)):
        assert result[a, b, j] == X[[2, 0][b], j, [1, 4][a]]


def test_index_vectors_with_slices():
    result = take("IndexingMultiAxisVec", X, {0: [0, 1], 1: slice(3, 0, -1)})
    assert result.shape == (2, 3, 5)
    assert result[1, 2, 4] == X[1, 1, 4]
    assert take("IndexingMultiAxisVec", X, {0: np.zeros((0, 2))}).shape == (0, 2, 4, 5)


def test_index_vectors_set_and_increase():
    value = float32(10, 20, 30)
    index = {0: [0, 0, 2], 1: [1, 1, 3], 2: [4, 4, 0]}
    increased = change("IndexingIncrMultiAxisVec", X, value, index)
    assert (increased[0, 1, 4], increased[2, 3, 0]) == (X[0, 1, 4] + 30, X[2, 3, 0] + 30)
    replaced = change("IndexingSetMultiAxisVec", X, value, index)
    assert replaced[0, 1, 4] in (10, 20)
    assert replaced[2, 3, 0] == 30
    assert (replaced != X).sum() == 2


def test_index_vectors_refused():
    with pytest.raises(ShapeError, match="do not broadcast together"):
        take("IndexingMultiAxisVec", X, {0: [0, 1], 1: [0, 1, 2]})
    params, _ = encode({0: [0]})
    with pytest.raises(ShapeError, match="an index must be integers, is float32"):
        run_opr("IndexingMultiAxisVec", params, X, float32(1))


def test_mesh():
    result = take("MeshIndexing", X, {0: [2, 0], 2: [1, 1, -1]})
    assert result.shape == (2, 4, 3)
    for i, j, k in itertools.product(range(2), range(4), range(3)):
        assert result[i, j, k] == X[[2, 0][i], j, [1, 1, 4][k]]
    assert take("MeshIndexing", X, {1: slice(1, 3), 0: [0]}).shape == (1, 2, 5)


def test_mesh_set_and_increase():
    value = float32(1, 2, 3).reshape(3, 1)
    replaced = change("SetMeshIndexing", X[0], value, {0: [0, 1, 3], 1: [4, 0]})
    assert replaced[3].tolist() == [3, 16, 17, 18, 3]
    assert replaced[2].tolist() == X[0, 2].tolist()
    increased = change("IncrMeshIndexing", X[0], float32(1), {0: [0, 0], 1: [1, 2]})
    assert increased[0].tolist() == [0, 3, 4, 3, 4]


def test_batched_mesh():
    result = take("BatchedMeshIndexing", X, {1: [[0, 1], [2, 3], [-1, 0]], 2: [[4], [3], [2]]})
    assert result.shape == (3, 2, 1)
    assert result.ravel().tolist() == [X[0, 0, 4], X[0, 1, 4], X[1, 2, 3], X[1, 3, 3], X[2, 3, 2], X[2, 0, 2]]
    index = {1: [[0], [1], [2]]}
    replaced = change("BatchedSetMeshIndexing", X, float32(-1), index)
    assert [np.flatnonzero((replaced[i] == -1).all(1)).tolist() for i in range(3)] == [[0], [1], [2]]
    increased = change("BatchedIncrMeshIndexing", X, float32(1), {1: [[0, 0], [1, 2], [2, 3]]})
    assert (increased - X)[:, :, 0].tolist() == [[2, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]


def test_mesh_refused():
    with pytest.raises(ShapeError, match="must be a vector"):
        take("MeshIndexing", X, {0: [[0]]})
    with pytest.raises(ShapeError, match="axis 0 is the batch"):
        take("BatchedMeshIndexing", X, {0: [[0]]})
    with pytest.raises(ShapeError, match="must have shape \\(3, n\\)"):
        take("BatchedMeshIndexing", X, {1: [[0]]})


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_one_hot(axis):
    rng = np.random.default_rng(0)
    shape = [d for i, d in enumerate(X.shape) if i != axis % 3]
    index = rng.integers(0, X.shape[axis], shape).astype(np.int32)
    (taken,) = run_opr("IndexingOneHot", Axis(axis=axis), X, index)
    for place in np.ndindex(*shape):
        full = list(place)
        full.insert(axis % 3, index[place])
        assert np.squeeze(taken, axis)[place] == X[tuple(full)]
    (replaced,) = run_opr("IndexingSetOneHot", Axis(axis=axis), X, index, -1 - taken)
    assert (replaced != X).sum() == index.size
    assert replaced[replaced < 0].sum() == -(taken + 1).sum()


def test_one_hot_of_a_vector_and_refused():
    assert run_opr("IndexingOneHot", Axis(axis=0), float32(5, 6, 7), int32(2))[0].tolist() == [7]
    with pytest.raises(LiteIndexError, match="out of range for axis 0 of length 3"):
        run_opr("IndexingOneHot", Axis(axis=0), float32(5, 6, 7), int32(-1))
    with pytest.raises(ShapeError, match="the index must have shape \\(3, 5\\)"):
        run_opr("IndexingOneHot", Axis(axis=1), X, int32(1))
    with pytest.raises(ShapeError, match="the value must have shape"):
        run_opr("IndexingSetOneHot", Axis(axis=0), X[0, 0], int32(1), float32(1, 2))


def test_remap():
    positions = int32([[0, 1], [2, 2]], [[2, 0], [0, 0]])
    (result,) = run_opr("IndexingRemap", IndexingRemap(), X[:, :, 0].copy(), positions)
    assert result.tolist() == [[X[0, 1, 0], X[2, 2, 0]], [X[2, 0, 0], X[0, 0, 0]]]
    with pytest.raises(LiteIndexError, match="points outside"):
        run_opr("IndexingRemap", IndexingRemap(), X[0], int32([[4, 0]]))
    with pytest.raises(ShapeError, match="does not fit data"):
        run_opr("IndexingRemap", IndexingRemap(), X, int32([[4, 0]]))
