"""Sorting and selection."""

import numpy as np
import pytest
from support.definitions import float32, infer_opr, int32, run_opr

from megengine_lite._core.ir.dtype import BOOL, FLOAT32, INT32
from megengine_lite._core.ir.graph import DynamicSpec, TensorSpec
from megengine_lite._core.ir.params import Argsort, ArgsortOrder, CondTake, CondTakeMode, Empty, TopK, TopKMode
from megengine_lite._core.operators import REGISTRY
from megengine_lite.errors import ShapeError

TIES = float32([3, 1, 3, 1, 2, 3, 1])


def topk(x, k, mode=TopKMode.VALUE_IDX_SORTED):
    n = 1 if mode == TopKMode.KTH_ONLY else 2
    return [r.tolist() for r in run_opr("TopK", TopK(mode=mode), x, int32(k), n_outputs=n)]


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32, np.int8])
def test_argsort(dtype):
    x = TIES.astype(dtype)
    values, index = run_opr("Argsort", Argsort(), x, n_outputs=2)
    assert (values.dtype, index.dtype) == (dtype, np.int32)
    assert values.tolist() == [[1, 1, 1, 2, 3, 3, 3]]
    assert index.tolist() == [[1, 3, 6, 4, 0, 2, 5]]
    values, index = run_opr("Argsort", Argsort(order=ArgsortOrder.DESCENDING), x, n_outputs=2)
    assert values.tolist() == [[3, 3, 3, 2, 1, 1, 1]]
    assert index.tolist() == [[5, 2, 0, 4, 6, 3, 1]]


def test_argsort_of_rows_and_of_nothing():
    x = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    values, index = run_opr("Argsort", Argsort(), x, n_outputs=2)
    assert values.tolist() == [sorted(row) for row in x.tolist()]
    assert [[x[i, j] for j in row] for i, row in enumerate(index)] == values.tolist()
    assert run_opr("Argsort", Argsort(), x[:, :0], n_outputs=2)[1].shape == (5, 0)
    with pytest.raises(ShapeError, match="must have 2 dimensions"):
        run_opr("Argsort", Argsort(), x[0], n_outputs=2)


def test_topk_with_ties_as_the_original_gives_them():
    assert topk(TIES, 3) == [[[1, 1, 1]], [[1, 3, 6]]]
    assert topk(TIES, -3) == [[[3, 3, 3]], [[5, 2, 0]]]
    assert topk(TIES, 20) == [[[1, 1, 1, 2, 3, 3, 3]], [[1, 3, 6, 4, 0, 2, 5]]]
    assert topk(TIES, -4, TopKMode.KTH_ONLY) == [[2]]
    assert topk(TIES, 5, TopKMode.KTH_ONLY) == [[3]]
    assert topk(TIES, 1, TopKMode.VALUE_IDX_NOSORT) == [[[1]], [[1]]]


def test_topk_refused():
    for k, x in ((0, TIES), (1, TIES[:, :0])):
        with pytest.raises(ShapeError, match="cannot take"):
            topk(x, k)
    with pytest.raises(ShapeError, match="k must be one number"):
        run_opr("TopK", TopK(), TIES, int32(1, 2))
    with pytest.raises(ShapeError, match="mode 3 is not known"):
        topk(TIES, 1, 3)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (CondTakeMode.EQ, [2, 3]),
        (CondTakeMode.NEQ, [0, 1, 4, 5]),
        (CondTakeMode.LT, [0, 1]),
        (CondTakeMode.LEQ, [0, 1, 2]),
        (CondTakeMode.GT, [3, 4, 5]),
        (CondTakeMode.GEQ, [2, 3, 4, 5]),
    ],
)
def test_cond_take_by_floats(mode, expected):
    data = np.arange(6, dtype=np.int32).reshape(2, 3) * 10
    mask = float32([0, 0.9, 1], [1.0000005, 2, 1.001])
    taken, index = run_opr("CondTake", CondTake(mode=mode, val=1), data, mask, n_outputs=2)
    assert index.tolist() == expected
    assert taken.tolist() == [10 * i for i in expected]
    assert (taken.dtype, index.dtype) == (np.int32, np.int32)


def test_cond_take_by_bool_and_integers():
    x = float32(1, 2, 3)
    mask = np.array([True, False, True])
    assert run_opr("CondTake", CondTake(val=1), x, mask, n_outputs=2)[0].tolist() == [1, 3]
    assert run_opr("CondTake", CondTake(val=0), x, mask, n_outputs=2)[0].tolist() == [2]
    numbers = np.int8([0, -1, 1])
    above = CondTake(mode=CondTakeMode.GT, val=-1)
    assert run_opr("CondTake", above, x, numbers, n_outputs=2)[0].tolist() == [1, 3]
    assert run_opr("CondTake", CondTake(val=7), x, numbers, n_outputs=2)[0].shape == (0,)
    assert run_opr("CondTake", CondTake(val=np.nan), x, numbers, n_outputs=2)[1].tolist() == [0]
    assert run_opr("CondTake", CondTake(), x[:0], mask[:0], n_outputs=2)[1].shape == (0,)


def test_cond_take_is_dynamic():
    assert REGISTRY["CondTake"].dynamic
    specs = TensorSpec((2, 3), FLOAT32), TensorSpec((2, 3), BOOL)
    out = infer_opr("CondTake", CondTake(), *specs, n_outputs=2)
    assert out == [DynamicSpec(FLOAT32), DynamicSpec(INT32)]
    with pytest.raises(ShapeError, match="must have one shape"):
        infer_opr("CondTake", CondTake(), specs[0], TensorSpec((3,), BOOL), n_outputs=2)


def test_non_zero():
    x = float32([0, 1, 0], [2, 0, -3])
    assert run_opr("NonZero", Empty(), x)[0].tolist() == [[0, 1, 1], [1, 0, 2]]
    assert run_opr("NonZero", Empty(), np.zeros((2, 2), np.int8))[0].shape == (2, 0)
