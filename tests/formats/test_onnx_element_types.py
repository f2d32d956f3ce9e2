"""Operators in double, int64 and half precision, and powers: what the standard says, in the precision of the type."""

import numpy as np
import onnx.reference
import pytest
from onnx import TensorProto, helper
from support.graphs import run, session_of
from support.onnx_models import load, make
from support.onnx_models import run as run_network

import megengine_lite
from megengine_lite._core.cpu.steps import HostStep
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.ir.dtype import FLOAT64
from megengine_lite.errors import LiteValueError, UnsupportedOperatorError

D, F = TensorProto.DOUBLE, TensorProto.FLOAT
RNG = np.random.default_rng(0)


def node(op, inputs, **attributes):
    return helper.make_node(op, inputs.split(), ["y"], **attributes)


def random(*shape):
    return RNG.uniform(0.5, 1.5, shape)


def in_double(one, x, constants, opset=17):
    """The result of a node in double, taken as double: the difference from a constant of another node is a float32."""
    reference = onnx.reference.ReferenceEvaluator(make([one], [("x", D, x.shape)], [("y", D, None)], constants, opset))
    (expected,) = reference.run(None, {"x": x})
    check = helper.make_node("Sub", ["y", "expected"], ["difference"])
    model = make(
        [one, check], [("x", D, x.shape)], [("difference", D, None)], {**constants, "expected": expected}, opset
    )
    loaded = load_model(model.SerializeToString())
    (difference,) = run(session_of(loaded.graph), x=x.astype(np.float32))
    return np.abs(difference).max() / np.abs(expected).max()


# Numbers that float32 holds, whose products it does not.
X4 = np.float32(random(2, 4, 5, 6)).astype(np.float64)
CASES = [
    (node("Conv", "x w b"), X4, {"w": random(3, 4, 3, 3), "b": random(3)}),
    (node("Conv", "x w", group=2, strides=[2, 1], pads=[1, 0, 0, 1]), X4, {"w": random(4, 2, 2, 3)}),
    (node("Conv", "x w"), X4[:, :, 0], {"w": random(3, 4, 3)}),
    (node("Conv", "x w"), X4[:, :, None], {"w": random(3, 4, 1, 2, 2)}),
    (node("ConvTranspose", "x w b", strides=[2, 2]), X4, {"w": random(4, 3, 3, 3), "b": random(3)}),
    (node("ConvTranspose", "x w"), X4[:, :, 0], {"w": random(4, 3, 3)}),
    (node("BatchNormalization", "x s b m v", epsilon=2**-10), X4, {k: random(4) for k in "sbmv"}),
    (node("InstanceNormalization", "x s b", epsilon=2**-10), X4, {k: random(4) for k in "sb"}),
    (node("Gemm", "x w b", transA=1, alpha=0.5, beta=0.25), X4[0, :, 0], {"w": random(4, 7), "b": random(7)}),
    (node("Gemm", "x w", transB=1), X4[0, :, 0], {"w": random(7, 6)}),
    (node("MatMul", "x w"), X4, {"w": random(6, 7)}),
    (node("Softmax", "x"), X4, {}),
]


@pytest.mark.parametrize(("one", "x", "constants"), CASES, ids=lambda v: getattr(v, "op_type", ""))
def test_double_is_computed_in_double(one, x, constants):
    assert in_double(one, np.ascontiguousarray(x), constants) < 1e-14


@pytest.mark.parametrize(("one", "x", "constants"), CASES, ids=lambda v: getattr(v, "op_type", ""))
def test_the_same_in_float32_when_asked(one, x, constants):
    x = np.ascontiguousarray(x)
    model = make([one], [("x", D, x.shape)], [("y", D, None)], constants)
    (expected,) = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})
    session = session_of(load_model(model.SerializeToString(), narrow_double=True).graph)
    (y,) = run(session, x=x.astype(np.float32))
    np.testing.assert_allclose(y, expected, rtol=2e-6, atol=2e-6)
    in_numpy = [s.node for plan in session.plans() for s in plan.steps if isinstance(s, HostStep)]
    assert all(v.dtype != FLOAT64 for n in in_numpy for v in (*n.inputs, *n.outputs))


@pytest.mark.parametrize("opset", [18, 21])
@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 4), (3, 6, 2, 5)])
@pytest.mark.parametrize("kind", [D, F, TensorProto.FLOAT16])
def test_group_norm_has_a_number_for_each_group_and_later_for_each_channel(kind, shape, opset):
    count, dtype = 3 if opset == 18 else 6, helper.tensor_dtype_to_np_dtype(kind)
    x = RNG.standard_normal(shape)
    scale, bias = (RNG.standard_normal(count) for _ in "sb")
    one = node("GroupNormalization", "x s b", num_groups=3, epsilon=1e-4)
    constants = {"s": scale.astype(dtype), "b": bias.astype(dtype)}
    model = make([one], [("x", kind, shape)], [("y", kind, None)], constants, opset)
    at_the_api = np.float32 if kind == D else dtype
    (y,) = run_network(load(model), x=x.astype(at_the_api))
    groups = x.reshape(shape[0], 3, -1)
    normal = (groups - groups.mean(2, keepdims=True)) / np.sqrt(groups.var(2, keepdims=True) + 1e-4)
    spread = [v.repeat(6 // count).reshape(6, *[1] * (len(shape) - 2)) for v in (scale, bias)]
    expected = normal.reshape(shape) * spread[0] + spread[1]
    np.testing.assert_allclose(y.astype(np.float64), expected, atol=2e-2 if kind == TensorProto.FLOAT16 else 2e-5)


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.INT32])
def test_matrices_of_integers(kind):
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    a, b, c = (RNG.integers(-1000, 1000, shape).astype(dtype) for shape in ((3, 4), (5, 4), (5,)))
    one = node("Gemm", "x b c", transB=1)
    model = make([one], [("x", kind, [3, 4])], [("y", kind, None)], {"b": b, "c": c})
    (y,) = run_network(load(model), x=a.astype(np.int32))
    np.testing.assert_array_equal(y, a @ b.T + c)


INTEGERS = ("INT32", "INT64", "UINT32")
OF_FRACTIONS = [
    node("Gemm", "x b", alpha=0.5),
    node("Gemm", "x b c", alpha=0.5, beta=0.5),
    node("Gemm", "x b c", alpha=2.0, beta=0.3),
    node("Gemm", "x b c", alpha=2.0, beta=3.0),
    node("Shrink", "x", bias=0.3, lambd=1.5),
    node("Shrink", "x", bias=-1.7, lambd=2.0),
]
# These have numbers for results of other types, or for what lies between elements.
OTHERS_WITH_NUMBERS = {"RandomNormalLike", "RandomUniformLike", "Resize"}


@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize("one", OF_FRACTIONS, ids=lambda one: one.op_type)
def test_fractions_times_integers_are_cut_off_at_the_end(one, kind):
    number = TensorProto.DataType.Value(kind)
    dtype = helper.tensor_dtype_to_np_dtype(number)
    x, b, c = (np.arange(n).reshape(shape).astype(dtype) for n, shape in ((9, (3, 3)), (6, (3, 2)), (2, (2,))))
    constants = {"b": b, "c": c} if one.op_type == "Gemm" else {}
    model = make([one], [("x", number, [3, 3])], [("y", number, None)], constants, 13)
    (wanted,) = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})
    (y,) = run_network(load(model), x=x.astype(np.int32))
    np.testing.assert_array_equal(y, wanted.astype(dtype))


def test_operators_of_integers_with_numbers_are_known():
    found = set()
    for schema in onnx.defs.get_all_schemas():
        has_number = any(a.type == onnx.defs.OpSchema.AttrType.FLOAT for a in schema.attributes.values())
        first = schema.inputs[0].type_str if schema.inputs else ""
        kinds = [t for c in schema.type_constraints if c.type_param_str == first for t in c.allowed_type_strs]
        if has_number and "tensor(int32)" in kinds and not schema.domain:
            found.add(schema.name)
    assert found == {one.op_type for one in OF_FRACTIONS} | OTHERS_WITH_NUMBERS


@pytest.mark.parametrize("op", ["LeakyRelu", "ThresholdedRelu"])
def test_fractions_of_operators_without_integers_are_not_cut_off(op):
    model = make([node(op, "x", alpha=0.5)], [("x", TensorProto.INT32, [3])], [("y", TensorProto.INT32, None)])
    with pytest.raises(UnsupportedOperatorError, match=r"0\.5 is no INT32"):
        load(model)


def test_gemm_in_half_precision():
    a, b, c = (RNG.standard_normal(shape).astype(np.float16) for shape in ((3, 40), (40, 5), (5,)))
    model = make([node("Gemm", "x b c")], [("x", TensorProto.FLOAT16, [3, 40])], [("y", TensorProto.FLOAT16, None)],
                 {"b": b, "c": c})  # fmt: skip
    (y,) = run_network(load(model), x=a)
    exact = a.astype(np.float64) @ b.astype(np.float64) + c
    assert y.dtype == np.float16
    np.testing.assert_allclose(y.astype(np.float64), exact, rtol=2e-3, atol=1e-2)


EXPONENTS = [0.3, -0.28, 1.7, 1 / 3, -1 / 3, 2.5, 2.0, 3.0, 0.5, -2.0, 7.0]


@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (5, 6), (2, 3, 4, 5)])
def test_negative_numbers_have_powers_of_whole_exponents_only(shape, exponent):
    """MegEngine's powers by a constant take the absolute value, or the cube root."""
    x = np.linspace(-2, 2, int(np.prod(shape))).astype(np.float32).reshape(shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = np.power(x.astype(np.float64), np.float32(exponent))
    infos = [("x", F, list(shape))], [("y", F, None)]
    for stored in (np.float32(exponent), np.float32([exponent])):
        model = make([node("Pow", "x e")], *infos, {"e": stored})
        (y,) = run_network(load(model), x=x)
        np.testing.assert_allclose(y.reshape(-1), expected.reshape(-1), rtol=1e-5)
    infos[0].append(("e", F, []))  # computed, or given
    network = load(make([node("Pow", "x e")], *infos))
    (y,) = run_network(network, x=x, e=np.float32([exponent]))
    np.testing.assert_allclose(y.reshape(-1), expected.reshape(-1), rtol=1e-5)


def test_an_exponent_that_follows_from_shapes():
    """It is a constant only once the shapes are known."""
    nodes = [
        helper.make_node("Shape", ["x"], ["n"]),
        helper.make_node("Cast", ["n"], ["f"], to=F),
        helper.make_node("Mul", ["f", "tenth"], ["e"]),
        helper.make_node("Pow", ["x", "e"], ["y"]),
    ]
    network = load(make(nodes, [("x", F, ["n"])], [("y", F, None)], {"tenth": np.float32([0.1])}))
    for count in (3, 20):
        x = np.linspace(-2, 2, count).astype(np.float32)
        (y,) = run_network(network, x=x)
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(y, np.power(x, np.float32(count * np.float32(0.1))), rtol=1e-5)


@pytest.mark.parametrize("opset", [7, 9, 10, 22])
def test_thresholded_relu_of_any_version(opset):
    model = make([node("ThresholdedRelu", "x", alpha=0.5)], [("x", F, [5])], [("y", F, None)], opset=opset)
    (y,) = run_network(load(model), x=np.float32([-1, 0.2, 0.5, 0.6, 3]))
    np.testing.assert_array_equal(y, np.float32([0, 0, 0, 0.6, 3]))


@pytest.mark.parametrize("is_constant", [False, True])
def test_a_scalar_is_repeated_no_times(is_constant):
    repeats = {"r": np.zeros(0, np.int64)}
    model = make([node("Tile", "x r")], [("x", F, [])], [("y", F, [])], repeats if is_constant else {})
    if not is_constant:
        model.graph.input.append(helper.make_tensor_value_info("r", TensorProto.INT64, [0]))
    given = {} if is_constant else {"r": np.zeros(0, np.int32)}
    (y,) = run_network(load(model), x=np.float32([4]), **given)
    np.testing.assert_array_equal(y, [4])


def test_what_is_not_computed_in_double_says_what_helps():
    model = make([node("LRN", "x", size=3)], [("x", D, [1, 4, 2, 2])], [("y", D, None)])
    with pytest.raises(UnsupportedOperatorError, match="narrow_double computes it in FLOAT"):
        load(model)


# ---- outputs that the API cannot hold -------------------------------------------------------------------------------

LIMITS = {"int64": (2**31 - 1, 2**31), "uint64": (2**31 - 1, 2**31), "float64": (3.4028234e38, 3.5e38)}


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("stored", [False, True], ids=["computed", "stored"])
def test_outputs_that_do_not_fit_are_an_error(dtype, stored):
    """Types that the API does not have are narrowed without a change that nobody sees."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    fits, too_large = LIMITS[dtype]
    for number, error in ((fits, False), (too_large, True), (fits, False)):
        numbers = {"w": np.array([0, number], dtype)}
        model = make([helper.make_node("Identity" if stored else "Mul", ["w", "x"][: 2 - stored], ["y"])],
                     [("x", kind, ["N"])], [("y", kind, None)], numbers)  # fmt: skip
        if error:
            with pytest.raises(LiteValueError, match="which the API has in place of"):
                megengine_lite.load(model.SerializeToString())([1])
        else:
            (y,) = megengine_lite.load(model.SerializeToString())([1])
            assert y.tolist() == np.array([0, number], y.dtype).tolist()


def test_infinities_and_nan_of_double_are_outputs():
    model = make([node("Div", "x w")], [("x", D, [3])], [("y", D, [3])], {"w": np.zeros(3)})
    np.testing.assert_array_equal(
        megengine_lite.load(model.SerializeToString())([1, -1, 0])[0], [np.inf, -np.inf, np.nan]
    )
