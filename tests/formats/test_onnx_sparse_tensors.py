"""Sparse tensors of ONNX models, which are read as dense ones: initializers, and values of ``Constant``."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.onnx_models import load, make, run

import megengine_lite
from megengine_lite import LiteNetwork
from megengine_lite.errors import ModelFormatError, UnsupportedOperatorError

F, BOOL = TensorProto.FLOAT, TensorProto.BOOL
RNG = np.random.default_rng(11)
SHAPES = [(7,), (3, 4), (2, 3, 4), (1, 1), (2, 1, 3, 1, 2), (3, 0), ()]
TYPES = ["float32", "float64", "float16", "int32", "int64", "int8", "uint8", "bool"]


def sparse(values, indices, shape, name="w"):
    values, indices = np.asarray(values), np.asarray(indices)
    return helper.make_sparse_tensor(
        numpy_helper.from_array(values, name), numpy_helper.from_array(indices, "places"), list(shape)
    )


def sparse_of(dense, form, order="sorted"):
    """A dense array as a sparse tensor."""
    places = np.flatnonzero(dense)
    if order == "turned":
        places = places[::-1].copy()
    indices = places if form == "numbers" else np.stack(np.unravel_index(places, dense.shape or (1,)), 1)
    return sparse(dense.reshape(-1)[places], indices.astype(np.int64), dense.shape)


def model_of(stored, where, kind=F, shape=()):
    """A model that gives a stored tensor as float32 beside its input."""
    nodes = [helper.make_node("Cast", ["w"], ["f"], to=F), helper.make_node("Neg", ["x"], ["n"])]
    if where == "constant":
        nodes.insert(0, helper.make_node("Constant", [], ["w"], sparse_value=stored))
    if where == "branch":
        inner = helper.make_graph(nodes[:1], "b", [], [helper.make_tensor_value_info("f", F, None)])
        inner.sparse_initializer.append(stored)
        nodes[0] = helper.make_node("If", ["c"], ["f"], then_branch=inner, else_branch=inner)
    inputs = [("x", F, [1]), *([("c", BOOL, [])] if where == "branch" else [])]
    model = make(nodes, inputs, [("f", F, None), ("n", F, [1])])
    if where in ("graph", "input"):
        model.graph.sparse_initializer.append(stored)
    if where == "input":  # an initializer that is listed among the inputs, too
        model.graph.input.append(helper.make_tensor_value_info("w", kind, shape))
    return model


def values_in(model, narrow=False):
    network = LiteNetwork()
    network.narrow_double = narrow
    network.load(model.SerializeToString())
    assert network.get_all_input_name() == [i.name for i in model.graph.input if i.name != "w"]
    given = {"c": np.ones(1, np.uint8)} if "c" in network.get_all_input_name() else {}
    return run(network, x=np.ones(1, np.float32), **given)[0]


@pytest.mark.parametrize("order", ["sorted", "turned"])
@pytest.mark.parametrize("form", ["numbers", "axes"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_stand_where_the_indices_say(shape, form, order):
    dense = (RNG.standard_normal(shape) * (RNG.random(shape) < 0.5)).astype(np.float32)
    found = values_in(model_of(sparse_of(dense, form, order), "graph"))
    np.testing.assert_array_equal(found, dense.reshape(dense.shape or (1,)))


@pytest.mark.parametrize("where", ["branch", "constant", "graph", "input"])
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("kind", sorted(TYPES))
def test_wherever_they_are_stored_and_in_all_types(kind, narrow, where):
    dense = np.zeros((60, 70), kind)  # more than what is folded
    dense[[3, 7, 59], [0, 69, 5]] = [1, 1, 2]
    stored = sparse_of(dense, "axes")
    found = values_in(model_of(stored, where, stored.values.data_type, dense.shape), narrow)
    np.testing.assert_array_equal(found, dense.astype(np.float32))


def test_nothing_but_zeros():
    for indices in (np.zeros(0, np.int64), np.zeros((0, 2), np.int64)):
        found = values_in(model_of(sparse(np.zeros(0, np.float32), indices, (2, 3)), "graph"))
        np.testing.assert_array_equal(found, np.zeros((2, 3)))


def test_filters_may_be_sparse():
    filters = np.zeros((8, 4, 3, 3), np.float32)
    filters[RNG.integers(0, 8, 9), RNG.integers(0, 4, 9), 1, 2] = 1.5
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)]
    x = RNG.standard_normal((1, 4, 9, 9)).astype(np.float32)
    dense = make(nodes, [("x", F, ["n", 4, 9, 9])], [("y", F, None)], {"w": filters})
    stored = make(nodes, [("x", F, ["n", 4, 9, 9])], [("y", F, None)])
    stored.graph.sparse_initializer.append(sparse_of(filters, "axes"))
    np.testing.assert_array_equal(run(load(stored), x=x)[0], run(load(dense), x=x)[0])


def test_values_in_another_file(tmp_path):
    stored = sparse(np.float32([1, 2]), np.array([1, 4]), (2, 3))
    for part, name in ((stored.values, "values"), (stored.indices, "places")):
        (tmp_path / name).write_bytes(part.raw_data)
        part.ClearField("raw_data")
        part.data_location = TensorProto.EXTERNAL
        part.external_data.add(key="location", value=name)
    (tmp_path / "model.onnx").write_bytes(model_of(stored, "graph").SerializeToString())
    outputs = megengine_lite.load(tmp_path / "model.onnx")(np.ones(1, np.float32))
    np.testing.assert_array_equal(outputs["f"], [[0, 1, 0], [0, 2, 0]])


TWO = np.float32([1, 2])
FAULTS = {
    "too large": (TWO, [1, 6], "out of range"),
    "negative": (TWO, [-1, 5], "out of range"),
    "too large on an axis": (TWO, [[0, 1], [1, 3]], "out of range"),
    "negative on an axis": (TWO, [[0, 1], [1, -1]], "out of range"),
    "the largest": (TWO, np.array([0, 2**64 - 1], np.uint64), "out of range"),
    "twice": (TWO, [5, 5], "two of which are the same"),
    "twice by axes": (TWO, [[1, 2], [1, 2]], "two of which are the same"),
    "too many": (TWO, [1, 2, 3], r"2 values and indices of shape \(3,\); they must be integers of shape \(2,\)"),
    "too few axes": (TWO, [[1], [2]], r"indices of shape \(2, 1\)"),
    "too many axes": (TWO, [[1, 0, 0], [1, 0, 1]], r"indices of shape \(2, 3\)"),
    "no integers": (TWO, np.float32([1, 2]), "they must be integers"),
    "no vector": (np.float32([[1, 2]]), [1, 2], "values of 2 dimensions"),
    "one number": (np.float32(1), [1], "values of 0 dimensions"),
}


@pytest.mark.parametrize("where", ["constant", "graph"])
@pytest.mark.parametrize("name", sorted(FAULTS))
def test_indices_that_do_not_fit_are_refused(name, where):
    values, indices, message = FAULTS[name]
    with pytest.raises(ModelFormatError, match=f"sparse tensor 'w' .*{message}"):
        load(model_of(sparse(values, indices, (2, 3)), where))


def test_places_of_a_scalar():
    with pytest.raises(ModelFormatError, match=r"indices of shape \(1, 0\)"):
        load(model_of(sparse(np.float32([1]), np.zeros((1, 0), np.int64), ()), "graph"))


@pytest.mark.parametrize("where", ["constant", "graph"])
@pytest.mark.parametrize("lacks", ["values", "indices"])
def test_parts_that_are_missing(lacks, where):
    stored = sparse(TWO, [1, 2], (2, 3))
    stored.ClearField(lacks)
    model = model_of(stored, where)
    if where == "graph" and lacks == "values":  # the name, too, is that of the values
        message = "the value 'w' is read, and no node before it makes it"
    else:
        message = f"has no {lacks}"
    with pytest.raises(ModelFormatError, match=message):
        load(model)


@pytest.mark.parametrize("shape", [(2**26 + 1,), (2**14, 2**14), (2**31, 2**28)], ids=str)
def test_what_is_too_large_as_a_dense_tensor_is_refused_by_its_size(shape):
    """A few bytes in a file must not ask for all memory."""
    with pytest.raises(UnsupportedOperatorError, match=r"Cast 'f' \(sparse tensor 'w' of shape .* more than 268435456"):
        load(model_of(sparse(TWO, [1, 2], shape), "graph"))


def test_two_initializers_of_one_name():
    model = model_of(sparse(TWO, [1, 2], (2, 3)), "graph")
    model.graph.initializer.append(numpy_helper.from_array(TWO, "w"))
    with pytest.raises(ModelFormatError, match="two initializers have the name 'w'"):
        load(model)
