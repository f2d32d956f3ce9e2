"""Operators that users define in Python."""

import doctest
import struct

import numpy as np
import pytest
from support.definitions import make_node, make_specs
from support.places import TESTS

import megengine_lite
from megengine_lite import custom_operator
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.formats.mge.records import ModelRecord, OperatorRecord
from megengine_lite._core.formats.mge.writer_v2 import write_v2
from megengine_lite._core.formats.stored_values import TensorRecord
from megengine_lite._core.ir.dtype import FLOAT32, DType, DTypeCode
from megengine_lite._core.ir.params import Axis, Host2DeviceCopy
from megengine_lite._core.operators.names import TypeTable, count_outputs, type_ids
from megengine_lite._core.operators.reference import run_reference
from megengine_lite._core.runtime.session import Session
from megengine_lite.custom_operator import TensorInfo, register_operator, unregister_operator
from megengine_lite.errors import (
    InternalError,
    LiteError,
    LiteTypeError,
    LiteValueError,
    LiteWarning,
    ModelFormatError,
    ShapeError,
    UnsupportedOperatorError,
)

EXTERN = TESTS / "models" / "extern"
X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def registered():
    """Registers operators under names and forgets them after the test."""
    names = []

    def add(name, kernel, infer=lambda op, inputs: inputs[0], **options):
        register_operator(name, infer=infer, **options)(kernel)
        names.append(name)

    yield add
    for name in names:
        unregister_operator(name)


def model_with(op_type, payload=(), params=None, n_outputs=1, n_inputs=1, output_dtype=None):
    """The bytes of a model: inputs x0, x1 ... of shape (2, 3) into one operator."""
    operators = [
        OperatorRecord(
            "Host2DeviceCopy", "", f"x{i}", Host2DeviceCopy(), 0, (), (i,), [], None,
            [TensorRecord(f"x{i}", (2, 3), FLOAT32, None)], (),
        )
        for i in range(n_inputs)
    ]  # fmt: skip
    inputs = tuple(range(n_inputs))
    outputs = tuple(range(n_inputs, n_inputs + n_outputs))
    operators.append(
        OperatorRecord(op_type, "", "mine", params, 0, inputs, outputs, [], output_dtype, [], tuple(payload))
    )
    names = {v: f"v{v}" for v in range(n_inputs + n_outputs)}
    record = ModelRecord("v2", 101300, operators, [(v, "") for v in outputs], names)
    return b"".join(bytes(chunk) for chunk in write_v2(record))


def outputs_of(data, **inputs):
    return run_reference(load_model(data).graph, inputs or {"x0": X})


def custom_node():
    return model_with("CustomOpNode", [b"Scale", struct.pack("<I", 1), struct.pack("<f", 2.5)])


def scale(op, inputs):
    (factor,) = struct.unpack("<f", op.data)
    return inputs[0] * np.float32(factor)


def test_custom_node_is_found_by_its_stored_name(registered):
    registered("Scale", scale)
    (y,) = outputs_of(custom_node())
    assert (y == X * 2.5).all()


def test_custom_node_runs_in_a_session(registered):
    registered("Scale", scale)
    session = Session(load_model(custom_node()))
    session.set_array("x0", X)
    session.run()
    result = session.output(session.output_names[0])
    assert result.dtype == FLOAT32
    assert result.array().tolist() == (X * 2.5).tolist()


def test_loaded_model_keeps_its_operator():
    register_operator("Scale", infer=lambda op, inputs: inputs[0])(scale)
    model = load_model(custom_node())
    unregister_operator("Scale")
    assert (run_reference(model.graph, {"x0": X})[0] == X * 2.5).all()
    with pytest.raises(UnsupportedOperatorError, match=r"'Scale'.*register_operator"):
        load_model(custom_node())


def test_custom_node_without_its_data_is_damaged(registered):
    registered("Scale", scale)
    with pytest.raises(ModelFormatError, match="1 pieces of data"):
        load_model(model_with("CustomOpNode", [b"Scale"]))


def test_unknown_type_is_found_by_name_and_by_number(registered):
    registered("MyGather", lambda op, inputs: inputs[0].sum(axis=op.params["axis"], keepdims=True),
               infer=lambda op, inputs: TensorInfo((2, 1), np.dtype(np.float32)))  # fmt: skip
    (y,) = outputs_of(model_with("MyGather", params=Axis(axis=1)))
    assert y.tolist() == [[3], [12]]
    for number in type_ids("MyGather"):
        assert TypeTable().find(number) == "MyGather"
    assert TypeTable().find(0, "MyGather") == "MyGather"


def test_operators_can_have_several_inputs_and_outputs(registered):
    def infer(op, inputs):
        assert [i.shape for i in inputs] == [(2, 3), (2, 3)]
        return [inputs[0], TensorInfo((1,), np.dtype(np.int32))]

    registered("SumAndCount", lambda op, inputs: (inputs[0] + inputs[1], np.int32([op.n_inputs])), infer, outputs=2)
    total, count = outputs_of(model_with("SumAndCount", n_inputs=2, n_outputs=2), x0=X, x1=X)
    assert (total == 2 * X).all()
    assert count.tolist() == [2]
    assert count_outputs("SumAndCount", None, 2) == 2


def test_number_of_outputs_can_depend_on_the_data(registered):
    registered("Copies", lambda op, inputs: [inputs[0]] * len(op.data), lambda op, inputs: inputs * len(op.data),
               outputs=lambda op: len(op.data))  # fmt: skip
    payload = (b"Copies", b"\0\0\0\0", b"abc")
    assert count_outputs("CustomOpNode", None, 1, payload=payload) == 3
    assert len(outputs_of(model_with("CustomOpNode", payload, n_outputs=3))) == 3


def test_operator_of_a_c_library_can_be_written_in_python(registered):
    def affine(op, inputs):
        factor, offset = np.frombuffer(op.data, "<f4", 2, offset=4)
        return inputs[0] * factor + offset

    registered("affine", affine)
    with np.load(EXTERN / "affine.npz") as data:
        inputs = {k.removeprefix("in_"): data[k] for k in data if k.startswith("in_")}
        expected = data["out_0"]
    for name in ("affine.mge", "affine.v1.mge"):
        (y,) = run_reference(load_model(str(EXTERN / name)).graph, inputs)
        assert y == pytest.approx(expected, rel=1e-6)


def test_quantized_tensors_carry_their_scale():
    info = custom_operator.TensorInfo
    operator = custom_operator.UserOperator("Q", lambda op, inputs: inputs[0], lambda op, inputs: inputs[0], 1)
    node = make_node("Q", None, 1)
    seen = []
    for code, zero_point in (
        (DTypeCode.QUANTIZED_S8, 0),
        (DTypeCode.QUANTIZED8_ASYMM, 128),
        (DTypeCode.QUANTIZED_S32, 0),
    ):
        dtype = DType(code, 0.5, zero_point)
        array = np.zeros((2,), dtype.storage)
        (spec,) = operator.infer(node, make_specs([array], [dtype]))
        assert spec.dtype == dtype
        seen.append(info((2,), dtype.storage, 0.5, zero_point or None))
    assert [i.zero_point for i in seen] == [None, 128, None]


def test_kernels_get_read_only_arrays(registered):
    def spoil(op, inputs):
        inputs[0][:] = 0
        return inputs[0]

    registered("Spoil", spoil)
    with pytest.raises(LiteError, match=r"kernel of the custom operator 'Spoil' raised ValueError.*read-only"):
        outputs_of(model_with("Spoil"))


@pytest.mark.parametrize(
    ("kernel", "infer", "error", "message"),
    [
        (lambda op, i: i[0][:1], lambda op, i: i[0], ShapeError, r"promised float32 \(2, 3\)"),
        (lambda op, i: i[0].astype(np.int32), lambda op, i: i[0], ShapeError, "gave int32"),
        (lambda op, i: [i[0], i[0]], lambda op, i: i[0], ShapeError, "gave 2 outputs, expected 1"),
        (lambda op, i: 1 / 0, lambda op, i: i[0], LiteError, "raised ZeroDivisionError"),
        (lambda op, i: i[0], lambda op, i: [i[0], i[0]], ShapeError, "infer of 'Bad' gave 2 outputs, the file has 1"),
        (lambda op, i: i[0], lambda op, i: [(2, 3)], LiteTypeError, "must give TensorInfo"),
        (lambda op, i: i[0], lambda op, i: i[7], LiteError, "infer of the custom operator 'Bad' raised IndexError"),
        (lambda op, i: i[0], lambda op, i: TensorInfo((2, -1), np.dtype("f4")), ShapeError, "no tensor can have"),
        (lambda op, i: i[0], lambda op, i: TensorInfo((2,), np.dtype("f8")), LiteTypeError, "no tensors like"),
    ],
)
def test_functions_that_break_their_promise_are_told(registered, kernel, infer, error, message):
    registered("Bad", kernel, infer)
    with pytest.raises(error, match=message):
        outputs_of(model_with("Bad"))


def _raises():
    yield X
    raise KeyError("x")


F4 = np.dtype(np.float32)
ODD = {
    "None": lambda: None,
    "a number": lambda: 3,
    "a real number": lambda: 1.5,
    "a flag": lambda: True,
    "a text": lambda: "text",
    "bytes": lambda: b"12",
    "an object": object,
    "a class": lambda: int,
    "a dict": lambda: {"y": X},
    "a set": lambda: {1},
    "nothing": list,
    "a list of None": lambda: [None],
    "two": lambda: (X, X),
    "nested": lambda: [[[X]]],
    "a scalar": lambda: np.float32(1),
    "a ragged list": lambda: [[1, [2]]],
    "a generator": _raises,
    "an array of texts": lambda: np.array("x"),
    "an array of objects": lambda: np.array([None]),
    "complex numbers": lambda: X * 1j,
    "many dimensions": lambda: np.zeros([1] * 20),
    "a shape": lambda: (2, 3),
    "a shape of text": lambda: TensorInfo("23", F4),
    "a shape of real numbers": lambda: TensorInfo((2.5, 3), F4),
    "a number as shape": lambda: TensorInfo(3, F4),
    "a giant shape": lambda: TensorInfo((10**30,), F4),
    "no type": lambda: TensorInfo((2, 3), None),
    "an unknown type": lambda: TensorInfo((2, 3), "float99"),
    "a text as scale": lambda: TensorInfo((2, 3), np.dtype(np.int8), "x"),
    "NaN as scale": lambda: TensorInfo((2, 3), np.dtype(np.int8), np.nan),
    "a text as zero point": lambda: TensorInfo((2, 3), np.dtype(np.uint8), 1.0, "x"),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("place", ["kernel", "infer", "outputs"])
def test_whatever_a_function_returns_is_told(registered, place, odd):
    """Each function of a user, with results of each wrong kind: an error of this package that names the operator."""
    functions = {"kernel": lambda op, i: i[0], "infer": lambda op, i: i[0], "outputs": lambda op: 1}
    functions[place] = lambda *arguments: ODD[odd]()
    registered("Odd", **functions)
    if (place, odd) == ("outputs", "a number"):
        return
    with pytest.raises(LiteError, match="Odd") as raised:
        outputs_of(model_with("Odd", n_outputs=2 if place == "outputs" else 1))
        count_outputs("Odd", None, 1)
    assert not isinstance(raised.value, InternalError)


def test_a_kernel_without_return_is_told(registered):
    registered("Silent", lambda op, inputs: None)
    with pytest.raises(
        LiteTypeError,
        match=r"Silent 'mine': the kernel of 'Silent' returned None, expected an array .* is there no return\?",
    ):
        outputs_of(model_with("Silent"))


@pytest.mark.parametrize("name", ["Relu", "com.microsoft.Gelu"])
def test_operators_of_onnx_stay_and_that_is_told(registered, name):
    parser = pytest.importorskip("onnx.parser")
    registered(name, lambda op, inputs: inputs[0] + 100)
    domain, _, kind = name.rpartition(".")
    call = f"{domain}.{kind}" if domain else kind
    graph = f"g (float[3] x) => (float[3] y) {{ y = {call}(x) }}"
    text = f'<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> {graph}'
    with pytest.warns(LiteWarning, match=f"{name!r} is an operator that is read here; the one registered is not used"):
        model = megengine_lite.load(parser.parse_model(text).SerializeToString())
    assert model(np.zeros(3))["y"].tolist() == [0, 0, 0]


def test_names_are_taken_once():
    register_operator("Once", infer=lambda op, inputs: inputs[0])(scale)
    with pytest.raises(LiteValueError, match="registered already"):
        register_operator("Once", infer=lambda op, inputs: inputs[0])(scale)
    unregister_operator("Once")
    with pytest.raises(LiteValueError, match="no operator 'Once'"):
        unregister_operator("Once")


@pytest.mark.parametrize("name", ["Elemwise", "ConvolutionV2", "Convolution", "", "ai.onnx.Relu", "ai.onnx.Mine"])
def test_operators_of_the_package_stay(name):
    with pytest.raises(LiteValueError):
        register_operator(name, infer=lambda op, inputs: inputs[0])(scale)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"type_name": 3, "infer": scale}, LiteTypeError),
        ({"type_name": "A", "infer": 3}, LiteTypeError),
        ({"type_name": "A", "infer": scale, "outputs": "two"}, LiteTypeError),
        ({"type_name": "A", "infer": scale, "outputs": 0}, LiteValueError),
        ({"type_name": "A", "infer": scale, "outputs": True}, LiteTypeError),
        ({"type_name": "A", "infer": scale, "outputs": 10**9}, LiteValueError),
    ],
)
def test_arguments_are_checked(options, error):
    with pytest.raises(error):
        register_operator(**options)(scale)
    with pytest.raises(LiteTypeError, match="kernel must be a function"):
        register_operator("A", infer=scale)(None)


def test_examples():
    assert doctest.testmod(custom_operator).failed == 0


@pytest.mark.parametrize("name", ["ImmutableTensor", "Host2DeviceCopy"])
def test_operators_that_hold_weights_and_inputs_cannot_be_registered(name):
    with pytest.raises(LiteValueError, match=name):
        register_operator(name, infer=lambda op, inputs: inputs[0])
