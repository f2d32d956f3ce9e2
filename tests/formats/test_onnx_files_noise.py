"""Outputs that are nothing but rounding errors are no differences between a model and the file that is made of it."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import make

from megengine_lite import LiteConfig
from megengine_lite._api import conversion
from megengine_lite._core.compile.transform.counterparts import table
from megengine_lite.errors import LiteError

F = TensorProto.FLOAT
AXES = np.array([-1])


def node(op, inputs, out="y", **attributes):
    return helper.make_node(op, inputs.split(), [out], **attributes)


CENTRED = [node("ReduceMean", "x", "m", axes=[-1]), node("Sub", "x m", "d")]
SHARES = [node("Softmax", "x", "p"), node("ReduceSum", "p axes", "s")]
# Each is 0 but for what is rounded off.
NOISE = {
    "sum of what is centred": [*CENTRED, node("ReduceSum", "d axes")],
    "square of that": [*CENTRED, node("ReduceMean", "d", "e", axes=[-1]), node("Mul", "e e")],
    "largest of equal numbers": [*SHARES, node("ArgMax", "s", axis=0)],
    "shares": [*SHARES, node("Sub", "s one")],
    "variances": [*CENTRED, node("LayerNormalization", "x w", "n"), node("ReduceMean", "n", axes=[-1])],
}
CONSTANTS = {"axes": AXES, "one": np.float32(1), "many": np.float32(1000), "w": np.ones(6, np.float32)}


def model_of(nodes):
    used = {name for one in nodes for name in one.input}
    kind = {"ArgMax": TensorProto.INT64, "Cast": TensorProto.INT32}.get(nodes[-1].op_type, F)
    return make(nodes, [("x", F, ["n", 6])], [("y", kind, None)], {k: v for k, v in CONSTANTS.items() if k in used})


def converted(nodes, rows):
    return conversion.converted(model_of(nodes).SerializeToString(), LiteConfig(), shapes={"x": (rows, 6)})


@pytest.fixture
def times(monkeypatch):
    """Reductions of files are of data times a number, and divided by another one."""

    def change(factor, divisor):
        def written(w, node):
            (x,) = node.inputs
            found = w.make(node.op, node.params, [w.multiply(x, w.number(factor, x))], node.output_dtype)
            return w.divide(found, w.number(divisor, found))

        monkeypatch.setitem(table._COUNTERPARTS, "Reduce", written)

    return change


@pytest.mark.parametrize("rows", [1, 2, 50])
@pytest.mark.parametrize("name", NOISE)
def test_rounding_errors_are_no_differences(name, rows, times):
    times(1 / 3, 1 / 3)
    result = converted(NOISE[name], rows)
    assert result.compared == [{"x": (rows, 6)}]
    assert [note.split(" only")[0].rsplit(" ", 1)[0] for note in result.notes] in (
        [],
        ["the output 'y' was compared up to"],
    )


def test_what_is_not_compared_as_usual_is_told(times):
    times(1 / 3, 1 / 3)
    assert sum(bool(converted(nodes, 50).notes) for nodes in NOISE.values()) >= 3


@pytest.mark.parametrize("name", ["sum of what is centred", "square of that", "shares"])
@pytest.mark.parametrize("wrong", [1e-5, 1e-3])
def test_more_than_rounding_errors_is_a_difference(name, wrong, times):
    times(1 + wrong, 1)
    with pytest.raises(LiteError, match=r"the output 'y' .* differs by"):
        converted(NOISE[name], 50)


ORDINARY = {
    "mean": [node("ReduceMean", "x", axes=[-1])],
    "function of it": [node("ReduceMean", "x", "m", axes=[-1]), node("Exp", "m")],
    "integers": [node("ReduceSum", "x axes", "s"), node("Mul", "s many", "m"), node("Cast", "m", to=TensorProto.INT32)],
    "rounded down": [node("ReduceSum", "x axes", "m"), node("Floor", "m", "f"), node("Mul", "m f")],
}


@pytest.mark.parametrize("name", ORDINARY)
def test_differences_of_ordinary_outputs_are_found(name, times):
    times(1.01, 1)
    with pytest.raises(LiteError, match=r"the output 'y' .* differs by"):
        converted(ORDINARY[name], 50)
    times(1 / 3, 1 / 3)
    assert converted(ORDINARY[name], 50).notes == []
