"""Operators of users, written in Python, in ONNX models."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.onnx_models import load, make, run

import megengine_lite
from megengine_lite import LiteError
from megengine_lite.custom_operator import TensorInfo, register_operator, unregister_operator
from megengine_lite.errors import UnsupportedOperatorError

F, I64 = TensorProto.FLOAT, TensorProto.INT64
X = np.arange(12, dtype=np.float32).reshape(3, 4)
SHIFT = np.float32([1, 2, 3, 4])


@pytest.fixture
def seen():
    """What the kernel of ``my.domain.Foo`` gets; it gives a matrix and the maxima of its rows."""
    calls = []

    def infer(op, inputs):
        return [inputs[0], TensorInfo(inputs[0].shape[:1], np.dtype(np.int32))]

    @register_operator("my.domain.Foo", infer=infer, outputs=2)
    def foo(op, inputs):
        calls.append((op, [i.dtype for i in inputs]))
        p = op.params
        y = inputs[0] * np.float32(p["factor"]) + p["shift"] + inputs[1].astype(np.float32)
        return y, y.argmax(axis=1).astype(np.int32)

    yield calls
    unregister_operator("my.domain.Foo")


def model(rows, **more):
    shift = numpy_helper.from_array(SHIFT)
    attributes = {
        "factor": 2.0,
        "count": 3,
        "mode": "fast",
        "sizes": [1, 2],
        "reals": [0.5],
        "names": ["a", "b"],
        **more,
    }
    nodes = [
        helper.make_node("Neg", ["x"], ["a"]),
        helper.make_node("Foo", ["a", "k"], ["b", "best"], "it", domain="my.domain", shift=shift, **attributes),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    opsets = [helper.make_opsetid("my.domain", 3)]
    outputs = [("y", F, None), ("best", TensorProto.INT32, None)]
    return make(nodes, [("x", F, [rows, 4])], outputs, {"k": np.int64(5)}, opsets=opsets)


@pytest.mark.parametrize("rows", ["n", 3])
def test_an_operator_of_a_domain(rows, seen):
    network = load(model(rows))
    for x in (X, X[:2], X):
        y, best = run(network, x=x)
        np.testing.assert_array_equal(y, np.maximum(SHIFT + 5 - 2 * x, 0))
        np.testing.assert_array_equal(best, (SHIFT - 2 * x).argmax(1))
    op, dtypes = seen[0]
    assert dtypes == [np.float32, np.int64]
    assert (op.type_name, op.name, op.n_inputs, op.data) == ("my.domain.Foo", "it", 2, b"")
    shift = op.params.pop("shift")
    np.testing.assert_array_equal(shift, SHIFT)
    assert op.params == {"factor": 2, "count": 3, "mode": "fast", "sizes": [1, 2], "reals": [0.5], "names": ["a", "b"]}


def test_without_it_the_error_says_how_to_define_it():
    with pytest.raises(UnsupportedOperatorError, match=r"register_operator\(.my.domain.Foo.\) defines one in Python"):
        load(model(3))


def test_a_file_for_one_processor_is_told_as_such():
    """ONNX Runtime saves such if it is not told to optimize less; nobody can write these operators."""
    domain = "com.microsoft.nchwc"
    made = make(
        [helper.make_node("ReorderInput", ["x"], ["y"], domain=domain)],
        [("x", F, [1, 8, 2, 2])], [("y", F, None)], {}, opsets=[helper.make_opsetid(domain, 1)],
    )  # fmt: skip
    with pytest.raises(UnsupportedOperatorError, match=r"for one kind of processor: .* ORT_ENABLE_EXTENDED") as raised:
        load(made)
    assert "register_operator" not in str(raised.value)


def test_what_cannot_be_given_to_it_is_refused(seen):
    graph = helper.make_graph([], "g", [], [])
    with pytest.raises(UnsupportedOperatorError, match="its attribute 'body' is no number, text or tensor"):
        load(model(3, body=graph))


def test_an_error_in_it_names_it():
    def infer(op, inputs):
        raise ValueError("too wide")

    register_operator("my.domain.Foo", infer=infer, outputs=2)(lambda op, inputs: inputs)
    try:
        with pytest.raises(LiteError, match=r"my.domain.Foo.*ValueError: too wide"):
            load(model(3))
    finally:
        unregister_operator("my.domain.Foo")


# ---- element types, and inputs that are left out ---------------------------------------------------------------------

TYPES = [
    "float32",
    "float16",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "bool",
    "int64",
    "uint32",
    "uint64",
    "float64",
]


@pytest.fixture
def passes_on():
    """``d.O``, whose output has the shape and the type of its first input that is there: the sum of those."""
    calls = []

    def infer(op, inputs):
        calls.append(inputs)
        assert len(inputs) == op.n_inputs
        return next(i for i in inputs if i is not None)

    @register_operator("d.O", infer=infer)
    def compute(op, inputs):
        calls.append(inputs)
        assert len(inputs) == op.n_inputs
        first, *others = (i for i in inputs if i is not None)
        return sum(others, first)

    yield calls
    unregister_operator("d.O")


def of_call(inputs, dtype="float32", size=2):
    """``y = Identity(d.O(inputs))`` of a vector ``x``."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [helper.make_node("O", inputs, ["z"], domain="d"), helper.make_node("Identity", ["z"], ["y"])]
    opsets = [helper.make_opsetid("d", 1)]
    return make(nodes, [("x", kind, [size])], [("y", kind, [size])], opsets=opsets).SerializeToString()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [2, "n"])
def test_infer_may_give_every_type_that_it_is_handed(dtype, size, passes_on):
    model = megengine_lite.load(of_call(["x"], dtype, size))
    at_the_api = {"int64": "int32", "uint64": "int32", "uint32": "int32", "float64": "float32"}
    x = np.array([1, 0], at_the_api.get(dtype, dtype))
    for _ in range(2):
        np.testing.assert_array_equal(model(x)[0], x)
    assert passes_on[0][0].dtype == passes_on[-1][0].dtype == np.dtype(dtype)


def test_numbers_beyond_the_types_of_the_api_pass_between_operators(passes_on):
    nodes = [
        helper.make_node("Mul", ["x", "big"], ["a"]),
        helper.make_node("O", ["a"], ["b"], domain="d"),
        helper.make_node("Div", ["b", "big"], ["y"]),
    ]
    for kind, number in (("int64", 2**40), ("uint64", 2**40), ("float64", 1e200)):
        onnx_kind = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        opsets = [helper.make_opsetid("d", 1)]
        given = make(
            nodes, [("x", onnx_kind, [2])], [("y", onnx_kind, [2])], {"big": np.array(number, kind)}, opsets=opsets
        )
        np.testing.assert_array_equal(megengine_lite.load(given.SerializeToString())([3, 4])[0], [3, 4])


@pytest.mark.parametrize("inputs", [["x", "", "x"], ["x", "", ""], ["", "x"], ["", "", "x", ""], ["x", ""]], ids=str)
@pytest.mark.parametrize("size", [2, "n"])
def test_inputs_that_are_left_out_are_none(inputs, size, passes_on, run_json, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(of_call(inputs, size=size))
    (y,) = megengine_lite.load(path)([1, 2])
    times = inputs.count("x")
    np.testing.assert_array_equal(y, [times, 2 * times])
    assert {tuple(i is not None for i in call) for call in passes_on} == {tuple(map(bool, inputs))}
    assert run_json("info", path)["operators"]["d.O"] == 1
    run_json("pack", path, tmp_path / "model.lite")
    np.testing.assert_array_equal(megengine_lite.load(tmp_path / "model.lite")([1, 2])[0], y)


def test_convert_lists_them(passes_on, error_of, tmp_path):
    path = tmp_path / "model.onnx"
    for inputs in (["x"], ["x", "", "x"]):
        path.write_bytes(of_call(inputs))
        message = error_of("convert", path, tmp_path / "model.mge")
        assert "d.O 'z' (it is an operator in Python, whose attributes files cannot hold)" in message
        assert message.count("\n") == 1 and not (tmp_path / "model.mge").exists()


PROMISES = {
    "as the input": lambda i: i,
    "by a flag": lambda i: TensorInfo(i.shape, np.dtype(np.float32), bfloat16=True),
    "by the type of ml_dtypes": lambda i: TensorInfo(i.shape, np.dtype(pytest.importorskip("ml_dtypes").bfloat16)),
}


@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize("result", ["float32", "bfloat16"])
def test_numbers_of_bfloat16_are_float32(promise, result):
    """Numpy has no such type. Of results the nearest bfloat16 counts, halves to even ones."""
    if result == "bfloat16":
        pytest.importorskip("ml_dtypes")
    seen = []

    @register_operator("d.O", infer=lambda op, inputs: PROMISES[promise](inputs[0]))
    def compute(op, inputs):
        seen.append((inputs[0].dtype, inputs[0].flags.writeable, inputs[0].tolist()))
        return (inputs[0] * np.float32(1.01)).astype(result)

    kind = TensorProto.BFLOAT16
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=kind),
        helper.make_node("O", ["a"], ["b"], domain="d"),
        helper.make_node("Neg", ["b"], ["c"]),
        helper.make_node("Cast", ["c"], ["y"], to=F),
    ]
    opsets = [helper.make_opsetid("d", 1)]
    try:
        network = load(make(nodes, [("x", F, ["n"])], [("y", F, ["n"])], opsets=opsets))
        x = np.float32([1, -2.5, 0.1, 1e30, np.inf])
        rounded = bfloat16(x)
        (found,) = run(network, x=x)
    finally:
        unregister_operator("d.O")
    assert seen == [(np.float32, False, rounded.tolist())]
    np.testing.assert_array_equal(found, -bfloat16(rounded * np.float32(1.01)))


def bfloat16(x):
    """The nearest numbers with the upper half of the bits of float32."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("info", [{"dtype": np.dtype(np.uint16)}, {"dtype": np.dtype(np.float32), "scale": 0.5}])
def test_bfloat16_is_promised_with_float32(info):
    promised = TensorInfo((2,), bfloat16=True, **info)
    register_operator("d.O", infer=lambda op, inputs: promised)(lambda op, inputs: inputs)
    try:
        with pytest.raises(LiteError, match="there are no tensors like that"):
            load(of_call(["x"]))
    finally:
        unregister_operator("d.O")


# ---- scalars ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def registered():
    """Registers ``d.O`` by its two functions."""

    def register(infer, kernel, outputs=1):
        register_operator("d.O", infer=infer, outputs=outputs)(kernel)

    yield register
    unregister_operator("d.O")


def ranked(shape, kind=F):
    """The result of ``d.O`` and its shape as the standard has it, by a dimension that is put in front."""
    nodes = [
        helper.make_node("O", ["x"], ["z"], domain="d"),
        helper.make_node("Unsqueeze", ["z", "front"], ["u"]),
        helper.make_node("Shape", ["u"], ["y"]),
    ]
    outputs = [("z", kind, None), ("y", I64, None)]
    return make(nodes, [("x", kind, shape)], outputs, {"front": np.array([0])}, opsets=[helper.make_opsetid("d", 1)])


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "float64"])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (2,)], ids=str)
def test_scalars_keep_their_rank(shape, dtype, registered):
    seen = []

    def infer(op, inputs):
        seen.append(inputs[0].shape)
        return TensorInfo(inputs[0].shape, inputs[0].dtype)

    def compute(op, inputs):
        seen.append(inputs[0].shape)
        assert not inputs[0].flags.writeable
        return inputs[0]

    registered(infer, compute)
    model = megengine_lite.load(ranked(shape, helper.np_dtype_to_tensor_dtype(np.dtype(dtype))).SerializeToString())
    for _ in range(2):
        z, y = model(np.ones(shape, dtype)).values()
        assert z.shape == shape
        np.testing.assert_array_equal(y, [1, *shape])
    assert set(seen) == {shape}


def test_a_scalar_is_made_and_read(registered):
    """Of a vector its sum, as numpy gives it: a number; and of that a vector again."""

    def infer(op, inputs):
        whole = inputs[0].shape == ()
        return [TensorInfo((2,) if whole else (), inputs[0].dtype), TensorInfo((), np.dtype(np.int32))]

    def compute(op, inputs):
        (x,) = inputs
        return (np.full(2, x) if x.ndim == 0 else x.sum()), np.int32(x.ndim)

    registered(infer, compute, outputs=2)
    nodes = [
        helper.make_node("O", ["x"], ["sum", "rank"], domain="d"),
        helper.make_node("Neg", ["sum"], ["less"]),
        helper.make_node("O", ["less"], ["y", "none"], domain="d"),
        helper.make_node("Shape", ["sum"], ["shape"]),
    ]
    outputs = [("y", F, [2]), ("sum", F, []), ("rank", TensorProto.INT32, []), ("shape", I64, [0])]
    opsets = [helper.make_opsetid("d", 1)]
    for x in (np.float32([1, 2, 4]), np.float32([5])):
        model = megengine_lite.load(make(nodes, [("x", F, ["n"])], outputs, opsets=opsets).SerializeToString())
        y, total, rank, shape = model(x).values()
        np.testing.assert_array_equal(y, [-x.sum()] * 2)
        assert (total.shape, rank.shape, shape.shape) == ((), (), (0,))
        assert (float(total), int(rank)) == (x.sum(), 1)
    # What is known is computed when the model is loaded.
    constant = make(nodes, [], outputs, {"x": np.float32([3, 4])}, opsets=opsets)
    np.testing.assert_array_equal(megengine_lite.load(constant.SerializeToString())({})[0], [-7, -7])


@pytest.mark.parametrize("promised, given", [((), (1,)), ((1,), ()), ((), (2,))], ids=str)
def test_a_kernel_gives_the_rank_that_was_promised(promised, given, registered):
    registered(lambda op, inputs: TensorInfo(promised, np.dtype(np.float32)), lambda op, inputs: np.ones(given, "f4"))
    with pytest.raises(LiteError, match=r"gave float32 \(.*\), its infer promised float32 \("):
        megengine_lite.load(ranked(()).SerializeToString())(1.0)


@pytest.mark.parametrize("first", [True, False])
def test_a_rank_that_depends_on_sizes(first, registered):
    """The graph is made anew for sizes that the model leaves open; those that it says may change, but no rank."""

    def shape_of(size):
        return (1,) if (size == 1) == first else ()

    registered(
        lambda op, inputs: TensorInfo(shape_of(*inputs[0].shape), inputs[0].dtype),
        lambda op, inputs: np.ones(shape_of(inputs[0].size), np.float32),
    )
    model = megengine_lite.load(ranked(["n"]).SerializeToString())
    for size in (1, 2, 1):
        np.testing.assert_array_equal(model(np.ones(size))["y"], [1, *shape_of(size)])
    model = megengine_lite.load(ranked([1]).SerializeToString())
    assert model([1])[0].shape == shape_of(1)
    with pytest.raises(LiteError, match=r"infer of 'd.O' gave .* scalar, and .* when the model was loaded"):
        model([1, 2])


def test_numbers_of_bfloat16_may_be_scalars(registered):
    registered(lambda op, inputs: inputs[0], lambda op, inputs: inputs[0] * np.float32(2))
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=TensorProto.BFLOAT16),
        helper.make_node("O", ["a"], ["b"], domain="d"),
        helper.make_node("Cast", ["b"], ["y"], to=F),
    ]
    model = make(nodes, [("x", F, [])], [("y", F, [])], opsets=[helper.make_opsetid("d", 1)])
    y = megengine_lite.load(model.SerializeToString())(1.5)[0]
    assert y.shape == () and float(y) == 3


def test_models_of_megengine_have_no_scalars():
    """An operator of the same name in a file of MegEngine's sees shapes of one dimension at least."""
    from megengine_lite._core.ir.dtype import FLOAT32
    from megengine_lite._core.ir.graph import AnyNode, AnyVar, TensorSpec
    from megengine_lite._core.operators.custom import UserOperator

    operator = UserOperator("d.O", lambda op, inputs: TensorInfo((), inputs[0].dtype), lambda op, inputs: inputs[0], 1)
    node = AnyNode("d.O", None, [AnyVar(0)], [AnyVar(1)], "it")
    with pytest.raises(LiteError, match=r"the shape \(\), which no tensor can have"):
        operator.infer(node, [TensorSpec((1,), FLOAT32)])
