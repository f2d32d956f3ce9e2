"""Graphs that depend on shapes: what is inferred while a model is loaded, and what is made once inputs are known."""

import json

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import expected, load, make, run

import megengine_lite
from megengine_lite.cli import main
from megengine_lite.errors import LiteError, ShapeError, UnsupportedOperatorError

F, I64 = TensorProto.FLOAT, TensorProto.INT64
X = np.arange(24, dtype=np.float32).reshape(2, 1, 12) / 7 - 1


def node(op, inputs, outputs, name="", **attributes):
    return helper.make_node(op, inputs.split(" "), outputs.split(" "), name, **attributes)


def check(network, model, **given):
    for ours, theirs in zip(run(network, **given), expected(model, **given), strict=True):
        assert ours.shape == (theirs.shape or (1,))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def squeezed(*shape):
    """All dimensions of 1 are dropped, so the rank of the rest depends on the input."""
    nodes = [node("Squeeze", "x", "s"), node("Softmax", "s", "t", axis=-1), node("Shape", "t", "z")]
    return make(nodes, [("x", F, list(shape))], [("t", F, None), ("z", I64, None)])


def test_the_rank_may_follow_from_the_shape_of_an_input():
    model = squeezed("a", "b", "c")
    network = load(model)
    for shape in ((2, 1, 12), (1, 3, 5), (2, 3, 4), (1, 1, 6), (2, 1, 12), (3, 1, 1), (1, 3, 5)):
        x = np.random.default_rng(0).random(shape, np.float32)
        check(network, model, x=x)


def test_what_the_model_declares_is_known_when_it_is_loaded():
    model = squeezed(2, 1, 12)
    network = load(model)
    assert network.get_io_tensor("t").layout.shapes == [2, 12]
    check(network, model, x=X)
    with pytest.raises(ShapeError, match="input 'x' is declared as"):
        run(network, x=X.reshape(1, 2, 12))
    check(network, model, x=X)


def test_branches_on_shapes_may_give_other_ranks():
    """What exporters make of a squeeze of one axis: the axis goes if it is 1."""
    one = helper.make_tensor_value_info("r", F, None)
    drop = helper.make_graph([node("Squeeze", "x one", "r")], "drop", [], [one])
    keep = helper.make_graph([node("Identity", "x", "r")], "keep", [], [one])
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape one", "size"),
        node("Equal", "size one", "c"),
        helper.make_node("If", ["c"], ["y"], "choice", then_branch=drop, else_branch=keep),
        node("ReduceMean", "y", "z", axes=[-1], keepdims=0),
    ]
    model = make(nodes, [("x", F, ["a", "b", "c"])], [("z", F, None)], {"one": np.array([1])})
    network = load(model)
    for shape in ((2, 1, 4), (2, 3, 4), (1, 1, 1), (5, 1, 2), (2, 3, 4)):
        check(network, model, x=np.random.default_rng(1).random(shape, np.float32))


def test_a_branch_that_fits_other_shapes_is_made_when_it_is_chosen():
    """As in models for several rates: each branch is for inputs of another size, and computes no rank for others."""
    result = helper.make_tensor_value_info("r", F, None)

    def path(size):
        nodes = [node("Reshape", f"x {size}", "m"), node("Squeeze", "m", "s"), node("Add", "s s", "r")]
        return helper.make_graph(nodes, "path", [], [result])

    decide = helper.make_node("If", ["fast"], ["y"], "rate", then_branch=path("eight"), else_branch=path("six"))
    constants = {"eight": np.array([1, -1, 8]), "six": np.array([-1, 1, 6]), "zero": np.float32(0)}
    nodes = [node("ReduceMax", "x", "m0", keepdims=0), node("Greater", "m0 zero", "fast"), decide]
    model = make(nodes, [("x", F, ["n"])], [("y", F, None)], constants)
    network = load(model)
    for x in (np.ones(16), -np.ones(12), np.ones(24), -np.ones(18), np.ones(16)):
        check(network, model, x=x.astype(np.float32))
    with pytest.raises(LiteError):  # 9 numbers are no rows of 8
        run(network, x=np.ones(9, np.float32))
    check(network, model, x=-np.ones(12, np.float32))


def test_filters_that_are_inputs_have_the_size_that_they_are_given():
    io = [("x", F, ["n", "c", "h", "w"]), ("f", F, ["o", "c", "p", "q"])], [("y", F, ["n", "o", "h", "w"])]
    model = make([node("Conv", "x f", "y", auto_pad="SAME_UPPER")], *io)
    network = load(model)
    x = np.random.default_rng(2).random((1, 2, 6, 6), np.float32)
    for size in ((3, 3), (1, 1), (5, 3), (3, 3)):
        check(network, model, x=x, f=np.random.default_rng(3).random((3, 2, *size), np.float32))


def test_shapes_of_computed_weights_are_inferred():
    """A filter of bytes with its scale, as quantized models store it: its size is known without computing it."""
    weights = np.random.default_rng(4).integers(-99, 99, (70, 8, 3, 3)).astype(np.int8)
    constants = {"q": weights, "scale": np.full(70, 0.01, np.float32), "zero": np.zeros(70, np.int8)}
    nodes = [node("DequantizeLinear", "q scale zero", "w", axis=0), node("Conv", "x w", "y", pads=[1, 1, 1, 1])]
    model = make(nodes, [("x", F, ["n", 8, "h", "w"])], [("y", F, None)], constants, opset=21)
    network = load(model)
    assert network._loaded("test").model.graph.nodes[0].op != "OnnxGraph"
    for n in (1, 2):
        check(network, model, x=np.random.default_rng(n).random((n, 8, 7, 9), np.float32))


def test_weights_are_in_memory_once_for_all_shapes():
    weight = np.random.default_rng(5).random((256, 256), np.float32)
    nodes = [node("Squeeze", "x", "s"), node("MatMul", "s w", "y")]
    model = make(nodes, [("x", F, ["a", "b", 256])], [("y", F, None)], {"w": weight})
    network = load(model)
    sizes = []
    for rows in (3, 4, 5, 6):
        check(network, model, x=np.random.default_rng(rows).random((1, rows, 256), np.float32))
        sizes.append(network.memory_usage["cache"])
    assert max(sizes) < 2 * weight.nbytes


def test_folded_weights_of_different_shapes_do_not_mix():
    """The constants that follow from a weight depend on the shape of the input."""
    nodes = [
        node("Squeeze", "x", "s"),
        node("Shape", "s", "shape"),
        node("Expand", "w shape", "wide"),
        node("Mul", "wide two", "twice"),
        node("Add", "s twice", "y"),
    ]
    model = make(
        nodes, [("x", F, ["a", "b", "c"])], [("y", F, None)], {"w": np.float32([[1], [2]]), "two": np.float32(2)}
    )
    network = load(model)
    for shape in ((1, 2, 3), (1, 2, 5), (2, 1, 3), (1, 2, 3), (2, 1, 7)):
        check(network, model, x=np.random.default_rng(6).random(shape, np.float32))


def test_missing_operators_are_listed_at_load_and_behind_unknown_ranks_at_the_run():
    nodes = [node("Squeeze", "x", "s"), node("Nothing", "x", "t", "first"), node("Add", "s t", "y")]
    with pytest.raises(UnsupportedOperatorError, match="Nothing 'first'"):
        load(make(nodes, [("x", F, ["a", "b", "c"])], [("y", F, None)]))
    nodes = [node("Nothing", "x", "t", "first"), node("Neg", "t", "s"), node("Nothing", "s", "y", "second")]
    with pytest.raises(UnsupportedOperatorError, match=r"Nothing 'first'.*; Nothing 'second'"):
        load(make(nodes, [("x", F, ["a", "b", "c"])], [("y", F, None)]))
    nodes = [node("Squeeze", "x", "s"), node("Nothing", "s", "y", "behind")]
    network = load(make(nodes, [("x", F, ["a", "b", "c"])], [("y", F, None)]))
    with pytest.raises(UnsupportedOperatorError, match="Nothing 'behind'"):
        run(network, x=X)


def test_sizes_without_meaning_are_unknown():
    """Some programs write -1, and some give all unknown sizes the name "?"."""
    for sizes in ([-1, 3, -1], ["?", 3, "?"]):
        model = make([node("Neg", "x", "y")], [("x", F, sizes)], [("y", F, None)])
        network = load(model)
        for shape in ((2, 3, 5), (1, 3, 1), (4, 3, 9)):
            check(network, model, x=np.random.default_rng(7).random(shape, np.float32))


def test_models_and_commands_take_graphs_that_depend_on_shapes(tmp_path, capsys):
    model = squeezed("a", "b", "c")
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    function = megengine_lite.load(path, workers=2)
    for _ in range(2):
        for shape in ((2, 1, 12), (2, 3, 4)):
            x = np.random.default_rng(8).random(shape, np.float32)
            np.testing.assert_allclose(function(x)["t"], expected(model, x=x)[0], rtol=1e-6)
    np.save(tmp_path / "x.npy", X)
    for command in ("run", "bench", "profile"):
        assert main([command, str(path), "--input", f"x={tmp_path / 'x.npy'}"]) == 0
    capsys.readouterr()
    assert main(["info", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["inputs"][0]["name"] == "x"


def test_a_run_of_the_same_shape_takes_the_short_way():
    network = load(squeezed("a", "b", "c"))
    run(network, x=X)
    session = network._loaded("test").session
    assert session._fast is not None
    run(network, x=X.reshape(1, 2, 12))
    assert session._fast is not None and len(list(session.plans())) == 2


# ---- what is known although shapes depend on data --------------------------------------------------------------------


def chosen(*nodes, output, kind=F):
    """Nodes behind ``c``, the rows of ``x`` whose sum is positive, and ``places``, their numbers."""
    first = [
        node("ReduceSum", "x last", "sums", keepdims=0),
        node("Greater", "sums zero", "mask"),
        node("Compress", "x mask", "c", axis=0),
        node("NonZero", "mask", "found"),
        node("Squeeze", "found first", "places"),
        node("Transpose", "c", "turned"),
    ]
    constants = {
        "last": np.array([-1]), "zero": np.float32(0), "first": np.array([0]), "all": np.array([-1]),
        "minus": np.array(-1), "second": np.array([1]), "zero_rows": np.array(0), "one_row": np.array(1),
        "two": np.array([2]),
    }  # fmt: skip
    return make([*first, *nodes], [("x", F, ["n", 3])], [(output, kind, None)], constants)


def ones_like_shape(vector, result):
    """``result``: as many ones as the vector has elements, as exporters make them for what may be -1."""
    one = helper.make_tensor("one", I64, [1], [1])
    return [node("Shape", vector, "length"), node("ConstantOfShape", "length", result, value=one)]


DATA = {
    "length of a shape": chosen(
        node("Shape", "c", "s"),
        *ones_like_shape("s", "ones"),
        node("Mul", "ones minus", "open"),
        node("Equal", "s open", "is_open"),
        node("Where", "is_open ones s", "target"),
        node("Expand", "c target", "y"),
        output="y",
    ),
    "length of a reshaped vector": chosen(
        node("Shape", "c", "s"),
        node("Reshape", "s all", "t"),
        *ones_like_shape("t", "ones"),
        node("Mul", "ones t", "target"),
        node("Expand", "c target", "y"),
        output="y",
    ),
    "inserted axis of an index": chosen(
        node("Unsqueeze", "places last", "index"), node("GatherND", "x index", "y"), output="y"
    ),
    "joined parts of an index": chosen(
        node("MatMul", "c turned", "square"),
        node("Shape", "c", "s"),
        node("Slice", "s first second", "count"),
        node("Squeeze", "count first", "number"),
        node("Range", "zero_rows number one_row", "all_rows"),
        node("Unsqueeze", "all_rows last", "rows"),
        node("Transpose", "rows", "turned_rows", perm=[1, 0]),
        node("Transpose", "turned_rows", "columns", perm=[1, 0]),
        node("Concat", "rows columns", "index", axis=-1),
        node("GatherND", "square index", "y"),
        output="y",
    ),
    "a maximum that is a shape": chosen(
        node("ReduceMax", "places", "most", keepdims=1),
        node("Concat", "two most", "target", axis=0),
        node("ConstantOfShape", "target", "y"),
        output="y",
    ),
    "parts of an index": chosen(
        node("NonZero", "c", "found_places"),
        node("Transpose", "found_places", "rows", perm=[1, 0]),
        node("Slice", "rows first second second", "head"),
        node("Unsqueeze", "head first", "inserted"),
        node("Squeeze", "inserted first", "index"),
        node("GatherND", "x index", "y"),
        output="y",
    ),
}


@pytest.mark.parametrize("what", DATA)
def test_what_is_known_whatever_the_data_are(what):
    network = load(DATA[what])
    for seed, rows in ((1, 5), (2, 2), (3, 9)):
        check(network, DATA[what], x=np.random.default_rng(seed).standard_normal((rows, 3)).astype("float32"))


def test_what_is_known_of_outputs_is_inferred_once(monkeypatch):
    """A model of fourteen outputs and a thousand nodes took ten seconds to load."""
    from megengine_lite._core.runtime import plans_by_shape

    calls, infer = [], plans_by_shape.infer_stage

    def count(*args):
        calls.append(args)
        return infer(*args)

    monkeypatch.setattr(plans_by_shape, "infer_stage", count)
    outputs = [(f"y{k}", F, None) for k in range(20)]
    for shape in (["n", 2], [1, 2], ["n", "m"]):  # the last cannot be inferred: 1 is not divided into 2
        nodes = [node("Split", "x", "a b", axis=1, num_outputs=2), *(node("Neg", "b", name) for name, _, _ in outputs)]
        model = megengine_lite.load(make(nodes, [("x", F, shape)], outputs, opset=18).SerializeToString())
        assert len(model.outputs) == 20 and len(calls) == 1, shape
        calls.clear()


@pytest.mark.parametrize(
    ("op", "numbers", "shape"),
    [
        ("Expand", [2, 3], (2, 3)),
        ("Expand", [1], (1,)),
        ("Reshape", [1, -1], (1, 1)),
        ("Squeeze", [], ()),
        ("Unsqueeze", [0], (1,)),
        ("Unsqueeze", [1, 0], (1, 1)),
        ("Unsqueeze", [-1, -2, 0], (1, 1, 1)),
        ("Unsqueeze", [], ()),
    ],
)
def test_scalars_get_the_dimensions_that_an_input_says(op, numbers, shape):
    """Our tensors have a dimension where the model's scalars have none: it must not be counted."""
    inputs = [("x", F, []), ("n", I64, [len(numbers)])]
    model = make([node(op, "x n", "y")], inputs, [("y", F, [None] * len(shape))])
    with megengine_lite.load(model.SerializeToString()) as loaded:
        y = loaded(x=np.float32(3), n=np.array(numbers, np.int64))["y"]
    assert y.shape == shape and (y == 3).all()
