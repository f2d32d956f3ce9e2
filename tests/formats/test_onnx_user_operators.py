"""Operators of users, written in Python, in ONNX models."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.onnx_models import load, make, run

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
