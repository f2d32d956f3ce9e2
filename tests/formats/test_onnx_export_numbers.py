"""Arithmetic, comparisons and random numbers that are written as ONNX give what ours give."""

from __future__ import annotations

import numpy as np
import pytest
from support.graphs import GraphBuilder
from support.onnx_exports import ARITHMETIC, FUNCTION, elemwise, exported, floats, one_node, operators_of, rng, run_onnx

from megengine_lite import export_onnx
from megengine_lite._api import onnx_export
from megengine_lite._api.comparison import compare_output
from megengine_lite._core.formats.mge.to_record import new_record
from megengine_lite._core.formats.mge.writer_v2 import write_v2
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT32, INT8, INT32, UINT8
from megengine_lite._core.ir.params import ElemwiseMode, ReduceMode
from megengine_lite.errors import LiteError

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def test_halves_are_rounded_away_from_zero():
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997, 8388607.5, 8388609.0, -0.2], np.float32)
    elemwise(ElemwiseMode.ROUND, x)


def test_remainders_of_floats_have_the_sign_of_the_dividend_and_of_integers_that_of_the_divisor():
    x, y = np.array([7, 7, -7, -7, 6], np.float32), np.array([3, -3, 3, -3, 3], np.float32)
    elemwise(ElemwiseMode.MOD, x, y)
    elemwise(ElemwiseMode.MOD, x.astype(np.int32), y.astype(np.int32))
    elemwise(ElemwiseMode.FLOOR_DIV, x, y)
    elemwise(ElemwiseMode.FLOOR_DIV, x.astype(np.int32), y.astype(np.int32))


def test_narrow_integers_wrap_as_their_type_does():
    x = np.array([32767, -32768, 200, 1], np.int16)
    elemwise(ElemwiseMode.ADD, x, x)
    elemwise(ElemwiseMode.MUL, x, x)
    elemwise(ElemwiseMode.FUSE_ADD_RELU, x, x)
    elemwise(ElemwiseMode.FUSE_ADD_RELU, np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8)[::-1].copy())


@pytest.mark.parametrize("mode", ["SUM", "SUM_SQR", "PRODUCT", "MEAN", "MIN", "MAX"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32])
@pytest.mark.parametrize("static", [False, True])
def test_reductions_of_integers_wrap_as_their_type_does(mode, dtype, static):
    info = np.iinfo(dtype)
    x = rng().integers(info.min, info.max, (3, 11, 4), dtype, endpoint=True) | dtype(1)
    for axis in range(3):
        one_node("Reduce", params.Reduce(mode=ReduceMode[mode], axis=axis), x, static=static)
    one_node("Cumsum", params.Cumsum(axis=1), x, static=static)


def test_shifts_of_negative_numbers_round_down():
    x, y = np.array([-7, 7, -1, 1 << 30], np.int32), np.array([1, 2, 3, 4], np.int32)
    elemwise(ElemwiseMode.SHR, x, y)
    elemwise(ElemwiseMode.SHL, x, y)


def test_bytes_are_shifted_by_any_number_of_bits():
    x, y = np.array([1, 77, 128, 255], np.uint8), np.array([0, 3, 8, 70, 200, 255], np.uint8)
    for mode in (ElemwiseMode.SHR, ElemwiseMode.SHL):
        elemwise(mode, np.repeat(x, len(y)), np.tile(y, len(x)))


@pytest.mark.parametrize("mode", ["LOG1P", "EXPM1", "SOFTPLUS", "LOGSIGMOID", "GELU", "H_SWISH", "ERFINV", "TANH"])
def test_functions_are_exact_for_small_numbers(mode):
    x = np.concatenate([np.linspace(-0.9, 0.9, 19), [1e-7, -1e-7, 1e-4, 0.0]]).astype(np.float32)
    model = elemwise(ElemwiseMode[mode], x, tolerance=FUNCTION)
    small = elemwise(ElemwiseMode[mode], np.full(3, 1e-6, np.float32), tolerance=FUNCTION)
    assert operators_of(model) == operators_of(small)


@pytest.mark.parametrize("mode", [ElemwiseMode.ERFINV, ElemwiseMode.ERFCINV])
def test_inverses_have_no_number_where_the_function_has_none(mode):
    ends = np.float32([-1, 1]) if mode == ElemwiseMode.ERFINV else np.float32([0, 2])
    elemwise(mode, np.float32([*ends, ends[0] - 0.25, ends[1] + 0.25, np.nan, 0.5]), tolerance=FUNCTION)


@pytest.mark.parametrize("exponent", [0.5, 2.0, 3.0, -1.0, 1 / 3, 0.25, 5.0])
def test_powers_take_the_absolute_value_of_the_base_unless_they_are_whole(exponent):
    base = np.abs(floats(12)) if exponent == 0.5 else floats(12)
    one_node("PowC", params.PowC(exp=exponent), base, tolerance=FUNCTION)


def test_quotients_of_the_plane_have_the_right_quadrant():
    y, x = (v.reshape(-1).astype(np.float32) for v in np.meshgrid([-1, 0, 2], [-2, 0, 1]))
    elemwise(ElemwiseMode.ATAN2, y, x, tolerance=FUNCTION)


def drawn(op, parameters, value, dtype=FLOAT32, constants=(0,), outputs=1):
    builder = GraphBuilder()
    x = builder.constant(value) if 0 in constants else builder.input("x", value.shape, dtype)
    made = builder.node(op, parameters, [x], outputs)
    content, _ = exported(builder.finish(*(made if outputs > 1 else [made])), static=True)
    return run_onnx(content, {} if 0 in constants else {"x": value})


def test_random_numbers_have_the_same_distributions():
    shape = np.array([100, 100], np.int32)
    (uniform,) = drawn("UniformRNG", params.UniformRNG(seed=3), shape)
    assert uniform.shape == (100, 100) and uniform.min() > 0 and uniform.max() <= 1
    assert uniform.mean() == pytest.approx(0.5, abs=0.02)
    (normal,) = drawn("GaussianRNG", params.GaussianRNG(seed=3, mean=2, std=3), shape)
    assert (normal.mean(), normal.std()) == (pytest.approx(2, abs=0.2), pytest.approx(3, abs=0.2))
    (times,) = drawn("ExponentialRNG", params.ExponentialRNG(), np.full((100, 100), 4, np.float32), constants=())
    assert times.mean() == pytest.approx(0.25, abs=0.02)


def test_random_orders_have_every_number_once():
    (order,) = drawn("PermutationRNG", params.PermutationRNG(), np.array([50], np.int32))
    assert sorted(order) == list(range(50)) != order.tolist()
    x = floats(40, 3)
    rows, places = drawn("ShuffleRNG", params.ShuffleRNG(), x, constants=(), outputs=2)
    np.testing.assert_array_equal(rows, x[places])
    assert sorted(places) == list(range(40))


@pytest.mark.parametrize("replacement", [True, False])
def test_columns_are_chosen_by_weight(replacement):
    weights = np.tile(np.array([0.0, 1.0, 3.0], np.float32), (2000, 1))
    p = params.MultinomialRNG(num_samples=1, replacement=replacement)
    (columns,) = drawn("MultinomialRNG", p, weights, constants=())
    assert columns.shape == (2000, 1) and columns.min() >= 1
    assert (columns == 2).mean() == pytest.approx(0.75, abs=0.05)


def test_dropout_keeps_the_mean_and_tells_what_it_kept():
    y, mask = drawn("Dropout", params.Dropout(drop_prob=0.25), np.ones((100, 100), np.float32), constants=(), outputs=2)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    np.testing.assert_array_equal(mask != 0, y.reshape(-1) > 0)
    assert y.mean() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("axes", [(0, 2, 1), (-1, 0, -1)])
def test_vector_products_are_taken_along_any_axes(axes):
    a, b = (np.moveaxis(floats(4, 5, 3, seed=s), 2, axis) for s, axis in enumerate(axes[:2]))
    p = params.Cross(axisa=axes[0], axisb=axes[1], axisc=axes[2])
    one_node("Cross", p, np.ascontiguousarray(a), np.ascontiguousarray(b), tolerance=ARITHMETIC)


@pytest.mark.parametrize("last", [1.0, np.inf, np.nan])
def test_infinity_and_nan_are_reported(last):
    x, y = floats(3, 4), np.array([1, last], np.float32)
    one_node("CheckNonFinite", params.CheckNonFinite(scale=2), x, y, outputs=3, again=False)


def stored(op, parameters, dtype, *shapes):
    """The bytes of a file of MegEngine's with one node."""
    builder = GraphBuilder()
    inputs = [builder.input(f"x{k}", shape, dtype) for k, shape in enumerate(shapes)]
    graph = builder.finish(builder.node(op, parameters, inputs))
    return b"".join(map(bytes, write_v2(new_record(graph))))


@pytest.mark.parametrize("mode", ["MOD", "FLOOR_DIV", "SHR", "FUSE_ADD_RELU"])
@pytest.mark.parametrize("dtype", [INT32, INT8, UINT8])
def test_what_is_verified_leaves_out_divisors_that_are_zero(mode, dtype, tmp_path):
    """Random integers have zeros among them, by which ONNX Runtime does not divide."""
    content = stored("Elemwise", params.Elemwise(mode=ElemwiseMode[mode]), dtype, (40,), (40,))
    assert export_onnx(content, tmp_path / "model.onnx").compared


def test_bytes_may_be_one_apart_where_few_are():
    want = np.full(1000, 7, np.uint8)
    got = want.copy()
    got[:10] = 8
    compare_output("y", got, want, 1e-3)
    for wrong in (np.full(1000, 8, np.uint8), np.where(want == got, 7, 9).astype(np.uint8)):
        with pytest.raises(LiteError, match="differs by"):
            compare_output("y", wrong, want, 1e-3)
    with pytest.raises(LiteError, match="differs by"):
        compare_output("y", got.astype(np.int32), want.astype(np.int32), 1e-3)


@pytest.mark.parametrize("shift", [-2.0, 2.0])
def test_a_number_for_nan_is_no_difference_if_there_is_nan_here(shift, tmp_path, monkeypatch):
    builder = GraphBuilder()
    added = builder.node(
        "Elemwise",
        params.Elemwise(mode=ElemwiseMode.ADD),
        [builder.input("x", (5,)), builder.constant(np.float32([shift]))],
    )
    made = builder.node("Elemwise", params.Elemwise(mode=ElemwiseMode.LOG), [added])
    graph = builder.finish(builder.node("Elemwise", params.Elemwise(mode=ElemwiseMode.RELU), [made]))
    content = b"".join(map(bytes, write_v2(new_record(graph))))
    assert export_onnx(content, tmp_path / "right.onnx").compared
    correct = onnx_export._runtime

    def wrong(content, notes):
        runner = correct(content, notes)
        return lambda inputs: [np.full_like(o, np.nan) for o in runner(inputs)]

    monkeypatch.setattr(onnx_export, "_runtime", wrong)
    if shift < 0:  # the logarithm here is NaN, of which RELU makes 0
        assert export_onnx(content, tmp_path / "wrong.onnx").compared
        return
    with pytest.raises(LiteError, match="nan where there is"):
        export_onnx(content, tmp_path / "wrong.onnx")
