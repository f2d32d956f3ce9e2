"""Gathering by index on every instruction set."""

import numpy as np
import pytest
from support.guarded_memory import GuardedCall
from support.one_node import INSTRUCTION_SETS, definition, run_blocked, run_node

from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.ir.params import Axis, IndexDescMaskDump, IndexDescMaskItem
from megengine_lite.errors import LiteIndexError


def take_rows(x, index, isa):
    """Rows of a matrix by number, and whether a number was out of range."""
    y, fault, row = np.full((index.size, x.shape[1]), np.nan, np.float32), np.zeros(1, np.int32), 4 * x.shape[1]
    places = {"index0": index, "extent0": x.shape[0], "stride0": row, "wide": 0, "step": 1, "from_end": 1}
    for k in (1, 2, 3):
        places |= {f"index{k}": None, f"extent{k}": 0, f"stride{k}": 0}
    GuardedCall(
        kernel_set(isa), "gather_runs", x=x, y=y, fault=fault, points=index.size, run=row, outer_stride=0, indexes=1,
        work=index.size, **places,
    ).run()  # fmt: skip
    return y, bool(fault[0])


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("columns", [1, 2, 7, 64])
def test_rows_are_taken(columns, isa):
    x = np.random.default_rng(0).standard_normal((11, columns)).astype(np.float32)
    index = np.int32([0, 10, -1, -11, 3, 3])
    y, fault = take_rows(x, index, isa)
    np.testing.assert_array_equal(y, x[index])
    assert not fault


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("wrong", [11, -12, 2**31 - 1, -(2**31)])
def test_index_out_of_range_is_reported(wrong, isa):
    y, fault = take_rows(np.ones((11, 3), np.float32), np.int32([0, wrong]), isa)
    assert fault
    np.testing.assert_array_equal(y, [[1] * 3, [0] * 3])


def items(*axes):
    """The parameter for pairs of an axis and letters that stand for begin, end, step and index."""
    return IndexDescMaskDump(items=tuple(IndexDescMaskItem(a, *(f in given for f in "besi")) for a, given in axes))


# indexed axes, and the shapes of their indexes
TAKES = {
    "rows": ([(0, "i")], [(4,)]),
    "columns": ([(2, "i")], [(2, 3)]),
    "pairs": ([(1, "i"), (2, "i")], [(3, 1), (1, 4)]),
    "apart": ([(2, "i"), (0, "i")], [(5,), (5,)]),
    "sliced": ([(2, "bes"), (0, "i")], [(3,)]),
}


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("name", TAKES)
@pytest.mark.parametrize("kind", [np.int32, np.int64], ids=lambda t: t.__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.int8], ids=lambda t: t.__name__)
@pytest.mark.parametrize("inner", [1, 2])
def test_node_takes_by_index(inner, dtype, kind, name, isa):
    axes, shapes = TAKES[name]
    rng = np.random.default_rng(0)
    x = rng.integers(-100, 100, (6, 7, 9, inner)).astype(dtype)
    numbers = [np.int32([n]) for n in (1, 8, 3)] if "sliced" in name else []
    indexes = [rng.integers(-6, 6, s).astype(kind) for s in shapes]
    inputs = [x, *numbers, *indexes]
    constants = set(range(1, 1 + len(numbers)))
    plain = {0, *range(1 + len(numbers), len(inputs))}
    actual, kernels = run_blocked("IndexingMultiAxisVec", items(*axes), inputs, isa, constants, 2, plain)
    assert kernels[-1] == "gather_runs"
    np.testing.assert_array_equal(actual, definition("IndexingMultiAxisVec", items(*axes), inputs, constants))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.int8])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_node_takes_one_of_each(axis, dtype, isa):
    rng = np.random.default_rng(axis)
    x = rng.integers(-100, 100, (5, 7, 9)).astype(dtype)
    inputs = [x, rng.integers(0, x.shape[axis], np.delete(x.shape, axis)).astype(np.int32)]
    actual, kernels = run_blocked("IndexingOneHot", Axis(axis=axis), inputs, isa, plain={0, 1}, threads=2)
    assert kernels == ["gather_one_hot"]
    np.testing.assert_array_equal(actual, definition("IndexingOneHot", Axis(axis=axis), inputs))


def test_node_reports_an_index_out_of_range():
    inputs = [np.zeros((6, 7), np.float32), np.int32([0, 6])]
    with pytest.raises(LiteIndexError, match=r"out of range for data of shape \(6, 7\)"):
        run_blocked("IndexingMultiAxisVec", items((0, "i")), inputs, INSTRUCTION_SETS[0], plain={0, 1})


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("value", [(1,), (3, 1, 2), (2, 3, 4, 2)], ids=str)
def test_node_sets_a_slice(value, isa):
    rng = np.random.default_rng(0)
    x, value = (rng.standard_normal(s).astype(np.float32) for s in ((2, 6, 9, 2), value))
    inputs = [x, value, *(np.int32([n]) for n in (5, -10, -2, 1, 9, 2))]
    params = items((1, "bes"), (2, "bes"))
    actual, kernels = run_blocked("SetSubtensor", params, inputs, isa, set(range(2, 8)), 2, {0, 1})
    assert None not in kernels
    np.testing.assert_array_equal(actual, definition("SetSubtensor", params, inputs, set(range(2, 8))))


# indexed axes, the shapes of their indexes, and those of values
SETS = {
    "rows": ([(0, "i")], [(4,)], [(1,), (4, 7, 9, 2), (7, 1, 2)]),
    "columns": ([(2, "i")], [(2, 3)], [(1,), (6, 7, 2, 3, 2), (3, 1)]),
    "pairs": ([(1, "i"), (2, "i")], [(3, 1), (1, 4)], [(6, 3, 4, 2), (4, 1)]),
    "all": ([(0, "i"), (1, "i"), (2, "i"), (3, "i")], [(5,), (5,), (5,), (5,)], [(5,), (1,)]),
}


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint8])
@pytest.mark.parametrize("name", SETS)
def test_node_sets_by_index(name, dtype, isa):
    """Some places are set several times: the last value stays."""
    axes, shapes, values = SETS[name]
    rng = np.random.default_rng(0)
    x = rng.integers(0, 200, (6, 7, 9, 2)).astype(dtype)
    indexes = [
        rng.integers(-x.shape[a], x.shape[a], s).astype(np.int32) for (a, _), s in zip(axes, shapes, strict=True)
    ]
    indexes[0].flat[-1] = indexes[0].flat[0]
    for shape in values:
        inputs = [x, rng.integers(0, 200, shape).astype(dtype), *indexes]
        for threads in 1, 3:
            actual, kernels = run_node("IndexingSetMultiAxisVec", items(*axes), inputs, (), isa, threads)
            assert kernels[-1] == "scatter_runs"
            np.testing.assert_array_equal(actual, definition("IndexingSetMultiAxisVec", items(*axes), inputs))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("wrong", [6, -7, 2**31 - 1, -(2**31)])
def test_setting_out_of_range_is_an_error(wrong, isa):
    inputs = [np.zeros((6, 7), np.float32), np.ones((2, 7), np.float32), np.int32([0, wrong])]
    with pytest.raises(LiteIndexError, match=r"out of range for data of shape \(6, 7\)"):
        run_node("IndexingSetMultiAxisVec", items((0, "i")), inputs, (), isa)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_setting_in_slices_runs_in_numpy(isa):
    for given, numbers in ("bi", [2]), ("si", [-1]):
        inputs = [np.zeros((6, 7), np.float32), np.ones(1, np.float32), *np.int32([numbers]), np.int32([0, 1])]
        params = items((0, given))
        actual, kernels = run_node("IndexingSetMultiAxisVec", params, inputs, {2}, isa)
        assert kernels == [None]
        np.testing.assert_array_equal(actual, definition("IndexingSetMultiAxisVec", params, inputs, {2}))
