"""Values that other runtimes have stored find the results of this one, whatever the names are those of."""

import numpy as np
import pytest

import megengine_lite
from megengine_lite._cli.other_run import results_of
from megengine_lite._core.reports.model_report.layers import compare_layers, stored_results

onnx = pytest.importorskip("onnx")
from onnx import helper  # noqa: E402
from support import onnx_models  # noqa: E402

FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
RNG = np.random.default_rng(5)
X = RNG.standard_normal((2, 6, 8, 8), np.float32)


def model(shape, named=True):
    """Convolutions in two branches, a function, several results of a node, names that another node has, and an If."""
    weights = {k: RNG.standard_normal((6, 6, 3, 3)).astype(np.float32) / 9 for k in ("w1", "w2")}
    count = [0]

    def node(op, inputs, outputs, **more):
        count[0] += 1
        return helper.make_node(op, inputs, outputs, name=f"/layer{count[0]}/{op}" if named else "", **more)

    branch = helper.make_graph(
        [helper.make_node("Neg", ["joined"], ["turned"], name="inside")],
        "then",
        [],
        [helper.make_tensor_value_info("turned", FLOAT, None)],
    )
    other = helper.make_graph(
        [helper.make_node("Abs", ["joined"], ["turned2"])],
        "else",
        [],
        [helper.make_tensor_value_info("turned2", FLOAT, None)],
    )
    twice = helper.make_function(
        "own",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["t"]), helper.make_node("Sigmoid", ["t"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    nodes = [
        node("Conv", ["x", "w1"], ["first"], pads=[1] * 4),
        node("Relu", ["first"], ["first_relu"]),
        node("Conv", ["x", "w2"], ["second"], pads=[1] * 4),
        node("HardSwish", ["second"], ["second_act"]),
        node("Split", ["first_relu"], ["half", "rest"], axis=1),
        node("Tanh", ["rest"], ["rest_tanh"]),
        node("Concat", ["half", "rest_tanh"], ["joined_first"], axis=1),
        node("Add", ["joined_first", "second_act"], ["joined"]),
        node("Identity", ["joined"], ["joined_again"]),
        node("If", ["flag"], ["chosen"], then_branch=branch, else_branch=other),
        node("Twice", ["chosen"], ["sum"], domain="own"),
        node("Elu", ["joined_again"], ["elu"]),
        node("Add", ["elu", "sum"], ["y"]),
    ]
    return onnx_models.make(
        nodes,
        [("x", FLOAT, shape), ("flag", onnx.TensorProto.BOOL, [])],
        [("y", FLOAT, None)],
        weights,
        functions=[twice],
        opsets=[helper.make_opsetid("own", 1)],
    )


def every_result(made, **given):
    """What the reference computes for each tensor of the model's graph."""
    names = [name for n in made.graph.node for name in n.output]
    wider = onnx.ModelProto()
    wider.CopyFrom(made)
    del wider.graph.output[:]
    wider.graph.output.extend(helper.make_tensor_value_info(name, FLOAT, None) for name in names)
    return dict(zip(names, onnx_models.expected(wider, **given), strict=True))


def compared(network, values, given, tolerance=1e-4):
    for name, value in given.items():
        network.get_io_tensor(name).set_data_by_copy(value)
    ours = results_of(network)
    return ours, compare_layers(ours, stored_results(values), same_file=False, tolerance=tolerance, names="ab")


@pytest.mark.parametrize("shape", [X.shape, ["n", 6, "h", "w"]], ids=["fixed", "open"])
@pytest.mark.parametrize("by", ["tensors", "operators", "tensors of nodes without names"])
def test_names_of_an_onnx_file(by, shape):
    made = model(shape, named="without" not in by)
    given = {"x": X, "flag": np.array([1], np.uint8)}
    values = every_result(made, x=X, flag=np.array(True))
    if by == "operators":  # of those with several results the first would be named so, which nobody can know
        values = {n.name: values[n.output[0]] for n in made.graph.node if len(n.output) == 1}
    ours, found = compared(onnx_models.load(made), values, given)
    assert all(layer["equal"] and layer["matched_by"] == "name" for layer in found["layers"]), found["layers"]
    left = {r.name for r in ours} - {layer["name"] for layer in found["layers"]}
    assert len(found["layers"]) >= (6 if by == "operators" else 8) and found["first"] is None
    assert left <= ({"/layer5/Split"} if by == "operators" else set()), left


def test_graphs_made_for_shapes_have_the_names_of_the_last():
    """How many dimensions are left decides the rest of the graph, so it is made when the model runs."""
    nodes = [
        helper.make_node("Squeeze", ["x"], ["s"], name="squeeze"),
        helper.make_node("Softmax", ["s"], ["p"], name="soft"),
        helper.make_node("Exp", ["p"], ["y"], name="exp"),
    ]
    made = onnx_models.make(nodes, [("x", FLOAT, ["a", "b", 4])], [("y", FLOAT, None)])
    network = onnx_models.load(made)
    for shape in ((1, 3, 4), (2, 3, 4), (1, 1, 4), (1, 3, 4)):
        x = RNG.standard_normal(shape, np.float32)
        ours, found = compared(network, every_result(made, x=x), {"x": x})
        assert {r.name for r in ours} >= {"soft", "exp"}
        assert [(layer["name"], layer["equal"]) for layer in found["layers"]] == [(r.name, True) for r in ours]
    names = network._engine.model.names_of_results()
    assert len(names.tensors) <= 4  # not those of all graphs


@pytest.mark.parametrize("kind", ["tensors", "operators"])
def test_names_of_a_file_of_megengine(kind, tmp_path):
    path = megengine_lite.__path__[0] + "/bundled/digits.mge"
    network = megengine_lite.LiteNetwork()
    network.load(path)
    given = {"data": RNG.random((3, 1, 8, 8), np.float32)}
    ours, _ = compared(network, {"prob": np.zeros(1)}, given)
    names = network._engine.model.names_of_results()
    of_kind = getattr(names, kind)
    values = {of_kind[r.id][0]: r.array for r in ours}
    assert len(values) == len(ours) == 11
    _, found = compared(network, values, given)
    assert len(found["layers"]) == 11
    assert {(layer["equal"], layer["matched_by"]) for layer in found["layers"]} == {(True, "name")}


def test_names_of_tensors_come_before_those_of_operators():
    """A node may be called as the tensor of another is."""
    nodes = [
        helper.make_node("Exp", ["x"], ["b"], name="a"),
        helper.make_node("Neg", ["b"], ["c"], name="b"),
        helper.make_node("Abs", ["c"], ["a"], name="c"),
    ]
    made = onnx_models.make(nodes, [("x", FLOAT, [3])], [("a", FLOAT, None)])
    x = np.array([0.5, 1, 2], np.float32)
    ours, found = compared(onnx_models.load(made), every_result(made, x=x), {"x": x})
    assert len(found["layers"]) == len(ours) and found["first"] is None


def test_scalars_are_vectors_of_one():
    nodes = [helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0), helper.make_node("Exp", ["s"], ["y"])]
    made = onnx_models.make(nodes, [("x", FLOAT, [3])], [("y", FLOAT, None)])
    x = np.array([0.5, 1, 2], np.float32)
    values = every_result(made, x=x)
    assert values["s"].shape == ()
    _, found = compared(onnx_models.load(made), values, {"x": x})
    assert [layer["equal"] for layer in found["layers"]] == [True, True]


def test_files_without_values_are_told_and_complex_ones_do_not_count_as_equal(error_of, run_json, tmp_path):
    nodes = [helper.make_node("Exp", ["x"], ["in_between"]), helper.make_node("Neg", ["in_between"], ["y"])]
    made = onnx_models.make(nodes, [("x", FLOAT, [3])], [("y", FLOAT, None)])
    model_file, path, x = tmp_path / "m.onnx", tmp_path / "v.npz", np.array([0.5, 1, 2], np.float32)
    model_file.write_bytes(made.SerializeToString())
    np.savez(path)
    assert "a .npz file of numpy's without arrays" in error_of("verify", model_file, "--layers", "--against", path)
    np.savez(path, in_x=x)
    for command, says in ((["report", model_file, "--iter", 1], "only inputs"), (["verify", model_file], "no outputs")):
        assert says in error_of(*command, "--layers", "--against", path)
    np.savez(path, in_x=x, in_between=np.exp(x), y=-np.exp(x))  # a tensor that is named as inputs are
    layers = run_json("verify", model_file, "--layers", "--against", path)["layers"]["layers"]
    assert layers and all(layer["equal"] for layer in layers)
    np.savez(path, in_x=x, y=-np.exp(x) + 0j)
    (layer,) = run_json("report", model_file, "--iter", 1, "--layers", "--against", path)["layers"]["layers"]
    assert (layer["equal"], layer["reason"]) == (False, "complex numbers are not compared")
