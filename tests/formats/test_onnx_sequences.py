"""Sequences between the nodes of ONNX models, against lists of numpy arrays."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import load, make, run

from megengine_lite._core.formats.onnx.operators.sequences import MOST_PARTS
from megengine_lite.errors import LiteError, ModelFormatError, UnsupportedOperatorError

F, I64 = TensorProto.FLOAT, TensorProto.INT64
X = np.arange(30, dtype=np.float32).reshape(5, 6)


def node(op, inputs, outputs, name="", **attributes):
    return helper.make_node(op, inputs.split(" "), outputs.split(" "), name, **attributes)


def model(nodes, outputs=("y",), more=(), shape=("n", 6), **constants):
    arrays = {k: np.asarray(v) for k, v in constants.items()}
    return make(nodes, [("x", F, shape), *more], [(o, F, None) for o in outputs], arrays, 18)


THREE = [node("Neg", "x", "a"), node("Mul", "x x", "b"), node("SequenceConstruct", "x a b", "s")]


def listed():
    return [X, -X, X * X]


@pytest.mark.parametrize("place", [0, 1, 2, -1, -3])
def test_tensors_are_taken_put_in_and_taken_out(place):
    nodes = [
        *THREE,
        node("SequenceInsert", "s a p", "inserted"),
        node("SequenceErase", "s p", "erased"),
        node("SequenceAt", "s p", "at"),
        node("ConcatFromSequence", "inserted", "y0", axis=1),
        node("ConcatFromSequence", "erased", "y1", axis=-1, new_axis=1),
    ]
    inserted, erased = listed(), listed()
    inserted.insert(place, -X)
    del erased[place]
    y0, y1, at = run(load(model(nodes, ("y0", "y1", "at"), p=place)), x=X)
    np.testing.assert_array_equal(y0, np.concatenate(inserted, 1))
    np.testing.assert_array_equal(y1, np.stack(erased, -1))
    np.testing.assert_array_equal(at, listed()[place])


def test_without_a_position_the_last_one_is_meant():
    nodes = [
        node("SequenceEmpty", "", "none", dtype=F),
        node("SequenceInsert", "none x", "one"),
        node("Neg", "x", "a"),
        node("SequenceInsert", "one a", "two"),
        node("SequenceErase", "two", "again"),
        node("ConcatFromSequence", "two", "y"),
        node("ConcatFromSequence", "again", "z"),
    ]
    nodes[0].ClearField("input")
    y, z = run(load(model(nodes, ("y", "z"))), x=X)
    np.testing.assert_array_equal(y, np.concatenate([X, -X]))
    np.testing.assert_array_equal(z, X)


@pytest.mark.parametrize("axis", [0, 1, -2])
def test_an_axis_is_split_in_parts_of_one(axis):
    """The number of parts follows from the shape of the input, so the graph is made anew for another one."""
    for keeps in 0, 1:
        nodes = [node("SplitToSequence", "x", "s", axis=axis, keepdims=keeps), node("SequenceAt", "s p", "y")]
        network = load(model(nodes, p=-1))
        for x in (X, X[:3]):
            last = np.moveaxis(x, axis, 0)[-1]
            np.testing.assert_array_equal(run(network, x=x)[0], np.expand_dims(last, axis) if keeps else last)


@pytest.mark.parametrize("size", [1, 2, 4, 5, 9])
def test_an_axis_is_split_in_parts_of_a_size(size):
    nodes = [
        node("SplitToSequence", "x size", "s"),
        node("SequenceAt", "s last", "y"),
        node("SequenceLength", "s", "n"),
    ]
    made = model(nodes, size=size, last=-1)
    made.graph.output.append(helper.make_tensor_value_info("n", I64, []))
    y, n = run(load(made), x=X)
    expected = [X[k : k + size] for k in range(0, 5, size)]
    np.testing.assert_array_equal(y, expected[-1])
    assert n == [len(expected)]


def test_an_axis_is_split_by_lengths_that_may_be_computed():
    nodes = [node("SplitToSequence", "x lengths", "s", axis=1, keepdims=0), node("SequenceAt", "s p", "y")]
    for lengths in [1, 3, 2], [4, 0, 2]:
        begin = lengths[0]
        fixed = run(load(model(nodes, p=1, lengths=lengths)), x=X)[0]
        network = load(model(nodes, more=[("lengths", I64, [3])], p=1))
        for y in (fixed, run(network, x=X, lengths=np.int32(lengths))[0]):
            np.testing.assert_array_equal(y, X[:, begin : begin + lengths[1]])


def test_a_position_may_be_computed_among_tensors_of_one_shape():
    nodes = [*THREE, node("SequenceAt", "s p", "y")]
    network = load(model(nodes, more=[("p", I64, [])], shape=(5, 6)))
    for place in (0, 1, 2, -1, -2):
        np.testing.assert_array_equal(run(network, x=X, p=np.int32([place]))[0], listed()[place])


def test_branches_and_loops_read_sequences_from_outside():
    def graph(place, name):
        number = helper.make_tensor("p", I64, [], [place])
        made = [node("SequenceAt", "s p", name)]
        return helper.make_graph(made, "g", [], [helper.make_tensor_value_info(name, F, None)], [number])

    chosen = node("If", "c", "y", then_branch=graph(1, "t"), else_branch=graph(2, "e"))
    network = load(model([*THREE, chosen], more=[("c", TensorProto.BOOL, [])], shape=(5, 6)))
    for condition, expected in (True, -X), (False, X * X):
        np.testing.assert_array_equal(run(network, x=X, c=np.uint8([condition]))[0], expected)
    inner = helper.make_graph(
        [node("Identity", "more", "again"), node("SequenceAt", "s k", "t"), node("Add", "state t", "next")],
        "body",
        [helper.make_tensor_value_info(*v) for v in [("k", I64, []), ("more", 9, []), ("state", F, [5, 6])]],
        [helper.make_tensor_value_info(*v) for v in [("again", 9, []), ("next", F, [5, 6])]],
    )
    loop = node("Loop", "n  x", "y", body=inner)
    network = load(model([*THREE, loop], more=[("n", I64, [])], shape=(5, 6)))
    np.testing.assert_allclose(run(network, x=X, n=np.int32([3]))[0], X + sum(listed()), rtol=1e-6)


def test_branches_that_wait_for_shapes_read_sequences_from_outside():
    def graph(place, name):
        made = [node("SplitToSequence", "x", "rows"), node("SequenceLength", "rows", "count")]
        made += [node("SequenceAt", "s p", "t"), node("Cast", "count", "c", to=F), node("Mul", "t c", name)]
        number = helper.make_tensor("p", I64, [], [place])
        return helper.make_graph(made, "g", [], [helper.make_tensor_value_info(name, F, None)], [number])

    chosen = node("If", "c", "y", then_branch=graph(1, "a0"), else_branch=graph(2, "a1"))
    network = load(model([*THREE, chosen], more=[("c", TensorProto.BOOL, [])], shape=("n", 6)))
    for x in X, X[:2]:
        for condition, expected in (True, -x), (False, x * x):
            actual = run(network, x=x, c=np.uint8([condition]))[0]
            np.testing.assert_allclose(actual, expected * len(x), rtol=1e-6)


REFUSED = {
    "position": (node("SequenceAt", "s p", "y"), {"p": 3}, ModelFormatError, "no position 3 in a sequence of 3"),
    "insert": (node("SequenceInsert", "s x p", "t"), {"p": -4}, ModelFormatError, "no position -4"),
    "no sequence": (node("SequenceLength", "x", "y"), {}, ModelFormatError, "input 0 is no sequence"),
    "no tensor": (node("Relu", "s", "y"), {}, UnsupportedOperatorError, "Relu '.*input 0 is a sequence"),
    "identity": (node("Identity", "s", "y"), {}, UnsupportedOperatorError, "input 0 is a sequence"),
    "parts": (node("SplitToSequence", "x p", "t"), {"p": 0}, ModelFormatError, "parts of 0 elements"),
    "type": (node("SequenceInsert", "s p", "t"), {"p": 1}, UnsupportedOperatorError, "they must be the same"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name):
    one, constants, kind, message = REFUSED[name]
    one.name = "it"
    nodes = [*THREE, one]
    if one.output[0] == "t":
        nodes.append(node("ConcatFromSequence", "t", "y"))
    with pytest.raises(kind, match=message):
        load(model(nodes, shape=(5, 6), **constants))


def test_sequences_are_no_outputs_and_have_few_parts():
    made = model(THREE)
    made.graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("s", F, None))
    with pytest.raises(UnsupportedOperatorError, match=r"output 's' \(it is a sequence\)"):
        load(made)
    nodes = [node("SplitToSequence", "x", "s"), node("ConcatFromSequence", "s", "y")]
    with pytest.raises(LiteError, match=f"must not have more than {MOST_PARTS}"):
        load(model(nodes, shape=(MOST_PARTS + 1, 1)))
