"""Reductions of integers and of stored numbers on every instruction set, against their definition."""

import numpy as np
import pytest
from support.one_node import INSTRUCTION_SETS, attach_outputs, definition, run_graph, run_node

from megengine_lite._core.ir.dtype import DType, DTypeCode
from megengine_lite._core.ir.graph import Graph, Node, TensorSpec, Var
from megengine_lite._core.ir.params import INT_MAX, Axis, Cumsum, Reduce, ReduceDataType, ReduceMode
from megengine_lite._core.operators import REGISTRY

TYPES = (np.int32, np.int16, np.uint16, np.int8, np.uint8)
SHAPES = (((3, 5, 7), 1), ((2, 300, 3), 1), ((4, 33), 1), ((9, 520), 0), ((1, 1), 0), ((40,), 0), ((2, 3, 1, 257), 2))


def numbers(dtype, shape):
    """All numbers of a type: most sums do not fit it."""
    info = np.iinfo(dtype)
    return np.random.default_rng(0).integers(info.min, int(info.max) + 1, shape).astype(dtype)


def check(op, params, inputs, isa, kernel, constants=()):
    for threads in 1, 3:
        actual, kernels = run_node(op, params, inputs, constants, isa, threads)
        assert kernels == [kernel]
        expected = definition(op, params, inputs, constants)
        assert actual.dtype == expected.dtype
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", TYPES, ids=lambda t: t.__name__)
@pytest.mark.parametrize("mode", list(ReduceMode), ids=lambda m: m.name)
def test_reductions(mode, dtype, isa):
    for shape, axis in SHAPES:
        check("Reduce", Reduce(mode=mode, axis=axis), [numbers(dtype, shape)], isa, "reduce_int")


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("target", [(1,), (2, 1, 1, 5), (2, 1, 4, 1), (4, 5)], ids=str)
def test_reductions_to_a_shape(target, isa):
    inputs = [numbers(np.int32, (2, 3, 4, 5)), np.int32(target)]
    params = Reduce(mode=ReduceMode.SUM, axis=INT_MAX)
    neighbours = target != (2, 1, 4, 1)
    check("Reduce", params, inputs, isa, "reduce_int" if neighbours else None, {1})


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_extremes_of_booleans(isa):
    x = np.random.default_rng(0).integers(0, 2, (4, 3, 9)).astype(bool)
    for mode in ReduceMode.MIN, ReduceMode.MAX:
        check("Reduce", Reduce(mode=mode, axis=1), [x], isa, "reduce_int")


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", [*TYPES, bool], ids=lambda t: t.__name__)
def test_places_of_extremes(dtype, isa):
    for shape, axis in SHAPES:
        x = np.random.default_rng(1).integers(0, 2 if dtype is bool else 9, shape).astype(dtype)  # with many equal ones
        for op in "Argmax", "Argmin":
            check(op, Axis(axis=axis), [x], isa, "arg_reduce_int")
    for op in "Argmax", "Argmin":
        if dtype is not bool:
            check(op, Axis(axis=-1), [numbers(dtype, (5, 600))], isa, "arg_reduce_int")


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", TYPES, ids=lambda t: t.__name__)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
def test_running_sums(exclusive, reverse, dtype, isa):
    for shape, axis in (*SHAPES, ((3, 4), INT_MAX)):
        params = Cumsum(axis=axis, exclusive=exclusive, reverse=reverse)
        check("Cumsum", params, [numbers(dtype, shape)], isa, "cumsum_int")


def run_quantized(params, dtype, x, isa):
    """Result, that of the definition, and kernels of a reduction of stored numbers."""
    data = Var(0, "x", TensorSpec(x.shape, dtype))
    node = Node("Reduce", params, [data], [], "node")
    attach_outputs(node, 1)
    (y,), kernels = run_graph(Graph([node], [data], node.outputs, ["y"]), lambda var: x, isa)
    expected = REGISTRY["Reduce"].compute(node, [x], [data.spec], [v.spec for v in node.outputs])[0]
    return y, expected, kernels


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_quantized_numbers(isa):
    asymm, s8 = DType(DTypeCode.QUANTIZED8_ASYMM, 0.5, 130), DType(DTypeCode.QUANTIZED_S8, 0.5)
    for dtype, storage, sums in (
        (asymm, np.uint8, ReduceDataType.QUINT_I8xO32), (s8, np.int8, ReduceDataType.QINT_I8xO32)
    ):  # fmt: skip
        x = numbers(storage, (3, 20, 5))
        for mode in ReduceMode.MIN, ReduceMode.MAX:
            y, expected, kernels = run_quantized(Reduce(mode=mode, axis=1), dtype, x, isa)
            assert kernels == ["reduce_int"]
            np.testing.assert_array_equal(y, expected)
        for mode in ReduceMode:
            y, expected, kernels = run_quantized(Reduce(mode=mode, axis=1, data_type=sums), dtype, x, isa)
            assert kernels == ["reduce_int"]
            assert y.dtype == np.int32
            np.testing.assert_array_equal(y, expected)
