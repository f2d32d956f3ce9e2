"""Which sizes the inputs of files may have that the command convert has made of ONNX models."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.converted_files import node, written
from support.onnx_models import load, make, run

from megengine_lite._core.compile.infer import infer_stage
from megengine_lite._core.compile.transform.for_original import for_original
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.ir.dtype import UINT8
from megengine_lite._core.ir.graph import ConstantPool, TensorSpec
from megengine_lite.errors import ShapeError

pytestmark = pytest.mark.filterwarnings("ignore")
F, I32, I64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
RNG = np.random.default_rng(3)


def enlarged(*nodes):
    """The first column as often as ``t`` says, which follows from ``s``, the width of the input."""
    ends = node("Slice", "x zero one one", "c"), node("Concat", "one t", "q", axis=0), node("Expand", "c q", "y")
    return [node("Shape", "x", "s", start=1), *nodes, *ends]


SIZES_IN_THE_FILE = {
    "a shape": ([0, 1], [
        node("Shape", "x", "s"), node("Cast", "s", "f", to=F), node("ReduceMax", "f", "m"), node("Mul", "x m", "y")
    ]),
    "a number of elements": ([0, 1], [
        node("Size", "x", "s"), node("Cast", "s", "f", to=F), node("Div", "x f", "y")
    ]),
    "a size": ([1], [
        node("Shape", "x", "s", start=1), node("Cast", "s", "f", to=F), node("Div", "x f", "y")
    ]),
    "a size after a transposition": ([0], [
        node("Transpose", "x", "t", perm=[1, 0]), node("Relu", "t", "r"), node("Shape", "r", "s", start=1),
        node("Cast", "s", "f", to=F), node("Div", "x f", "y")
    ]),
    "a slice that is cut": ([1], [node("Slice", "x zero many one", "y")]),
    "a slice backwards that is cut": ([1], [node("Slice", "x many before one back", "y")]),
    "a place of a maximum": ([0, 1], [
        node("ArgMax", "x", "a", axis=1), node("Mul", "a many", "b"), node("Cast", "b", "y", to=F)
    ]),
    "sorted rows": ([0, 1], [node("TopK", "x one", "y places", largest=0)]),
    "padding by the edge": ([1], [node("Pad", "x widths", "y", mode="wrap")]),
    "a sum of sizes": ([0, 1], enlarged(node("Add", "s one", "t"))),
    "a product of sizes": ([0, 1], enlarged(node("Mul", "s s", "t"))),
    "a large multiple": ([0, 1], enlarged(node("Mul", "s large", "t"))),
    "an input": ([0, 1], [node("Shape", "x", "s"), node("Cast", "s", "z", to=F), node("Identity", "x", "y")]),
    "rounds": ([1], [node("Scan", "x", "y", num_scan_inputs=1, scan_input_axes=[1], scan_output_axes=[1],
        body=helper.make_graph([node("Relu", "p", "q")], "body", [helper.make_tensor_value_info("p", F, ["n"])],
            [helper.make_tensor_value_info("q", F, ["n"])]))]),
}  # fmt: skip
NUMBERS = {k: np.array([n]) for k, n in {"zero": 0, "far": 2**40, "one": 1, "many": 100, "back": -1}.items()}
NUMBERS["large"] = np.array([2000])
NUMBERS["before"] = np.array([-100])
NUMBERS["widths"] = np.array([0, 1, 0, 2])


@pytest.mark.parametrize("name", SIZES_IN_THE_FILE)
def test_a_file_refuses_other_sizes_than_it_was_made_for(tmp_path, name):
    """What follows from sizes is a constant there, so that results would be wrong. All other sizes may change."""
    fixed, nodes = SIZES_IN_THE_FILE[name]
    used = {k: v for k, v in NUMBERS.items() if any(k in n.input for n in nodes)}
    outputs = [("y", F, None), *([("z", F, None)] if name == "an input" else [])]
    model = make(nodes, [("x", F, ["n", "m"])], outputs, used, 17)
    out = written(tmp_path, model, "--shape", "x=6x6")
    ours, theirs = load(str(out)), load(model)
    for shape in [(6, 6), (6, 5), (4, 6), (4, 9), (7, 6), (1, 6)]:
        x = RNG.standard_normal(shape).astype(np.float32)
        if all(shape[axis] == 6 for axis in fixed):
            for found, expected in zip(run(ours, x=x), run(theirs, x=x), strict=True):
                np.testing.assert_allclose(found, expected, rtol=1e-6)
        else:
            expected, came = (", ".join(str(sizes[axis]) for axis in fixed) for sizes in ((6, 6), shape))
            with pytest.raises(ShapeError, match=f"expected is {expected}, and {came} came"):
                run(ours, x=x)
    assert "AssertEqual" in [n.op for n in load_model(out).graph.nodes]


def branch(op, result):
    return helper.make_graph([node(op, "x", result)], result, [], [helper.make_tensor_value_info(result, F, None)])


SIZES_OF_ANOTHER = {
    "only its sizes": [
        node("Shape", "w", "s"), node("Cast", "s", "f", to=F), node("ReduceMax", "f", "m"), node("Mul", "x m", "y")
    ],
    "a broadcast that changes nothing": [node("Shape", "w", "s"), node("Expand", "x s", "t"), node("Relu", "t", "y")],
    "a branch": [
        node("Size", "w", "n"), node("Less", "n far", "b"),
        node("If", "b", "y", then_branch=branch("Relu", "p"), else_branch=branch("Neg", "q")),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES_OF_ANOTHER)
def test_sizes_of_an_input_are_checked_though_nobody_reads_it(tmp_path, name):
    nodes = SIZES_OF_ANOTHER[name]
    used = {k: v for k, v in NUMBERS.items() if any(k in n.input for n in nodes)}
    model = make(nodes, [("x", F, ["n", "m"]), ("w", F, ["a", "b"])], [("y", F, None)], used, 17)
    out = written(tmp_path, model, "--shape", "x=4x3", "--shape", "w=4x3")
    x, w = RNG.standard_normal((4, 3)).astype(np.float32), np.ones((4, 3), np.float32)
    ours = load(str(out))
    np.testing.assert_allclose(run(ours, x=x, w=w)[0], run(load(model), x=x, w=w)[0], rtol=1e-6)
    for shape in [(3, 4), (4, 6), (5, 3)]:
        with pytest.raises(ShapeError, match=f"expected is 4, 3, and {shape[0]}, {shape[1]} came"):
            run(ours, x=x, w=np.zeros(shape, np.float32))


def test_the_export_of_such_a_file_has_its_sizes(tmp_path, run_json):
    source, out = tmp_path / "model.onnx", tmp_path / "model.mge"
    model = make(SIZES_IN_THE_FILE["a shape"][1], [("x", F, ["n", "m"])], [("y", F, None)])
    source.write_bytes(model.SerializeToString())
    run_json("convert", source, out, "--shape", "x=2x3")
    result = run_json("convert", out, tmp_path / "again.onnx")
    assert result["free_dimensions"] == {} and result["compared"] == [{"x": [2, 3]}]


def test_a_file_in_which_nothing_follows_from_sizes_takes_all(tmp_path):
    weights = {"w": RNG.standard_normal((4, 3, 3, 3)).astype(np.float32)}
    nodes = [node("Conv", "x w", "a"), node("Relu", "a", "b"), node("Add", "b b", "y")]
    model = make(nodes, [("x", F, ["n", 3, "h", "w"])], [("y", F, None)], weights)
    out = written(tmp_path, model, "--shape", "x=1x3x8x8")
    assert "AssertEqual" not in [n.op for n in load_model(out).graph.nodes]
    x = RNG.standard_normal((2, 3, 7, 9)).astype(np.float32)
    np.testing.assert_allclose(run(load(str(out)), x=x)[0], run(load(model), x=x)[0], rtol=1e-5, atol=1e-5)


def case(op, inputs="x", opset=17, constants=(), kind=F, shapes=((3, 4), (5, 6), (2, 9)), before=(), **attributes):
    """A model of one operator, the shape that it is converted with, and others."""
    return [*before, node(op, inputs, "y", **attributes)], dict(constants), opset, kind, shapes


def sliced(begin, end, step, axis, shapes=((3, 4), (5, 6), (2, 9))):
    numbers = {"b": np.array([begin]), "e": np.array([end]), "a": np.array([axis]), "s": np.array([step])}
    return case("Slice", "x b e a s", constants=numbers, shapes=shapes)


IMAGES = ((2, 3, 8, 6), (3, 3, 7, 9), (1, 3, 4, 4))
WINDOW = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}
SEVEN = {"c": np.int32(7)}
OF_ALL_SIZES = {
    "first rows": sliced(0, 2, 1, 0),
    "all but the first": sliced(1, 2**40, 1, 0),
    "the last ones": sliced(-2, 2**62, 1, 1),
    "all but the last": sliced(0, -1, 1, 1),
    "in the middle": sliced(-3, -1, 1, 1, ((3, 4), (5, 6))),
    "every other": sliced(0, 2**31 - 1, 2, 1),
    "turned": sliced(2**40, -(2**40), -1, 0),
    "turned from the last": sliced(-1, -(2**63), -1, 1),
    "Round": case("Round"),
    "Shrink": case("Shrink"),
    "Gelu": case("Gelu", opset=20, approximate="tanh"),
    "LogSoftmax": case("LogSoftmax"),
    "LogSoftmax of columns": case("LogSoftmax", axis=0),
    "Hardmax": case("Hardmax"),
    "LpNormalization": case("LpNormalization", axis=1),
    "MeanVarianceNormalization": case("MeanVarianceNormalization", shapes=IMAGES),
    "ReduceMax": case("ReduceMax", axes=[1], opset=13),
    "ReduceLogSumExp": case("ReduceLogSumExp", opset=13),
    "Mul": case("Mul", "x c", constants=SEVEN, kind=I32),
    "Div": case("Div", "x c", constants=SEVEN, kind=I32),
    "Pow": case("Pow", "x c", constants={"c": np.int32(3)}, kind=I32),
    "no power": case("Pow", "x c", constants={"c": np.int32(0)}, kind=I32),
    "bfloat16": case("Cast", "b", to=F, before=[
        node("Cast", "x", "a", to=TensorProto.BFLOAT16), node("Neg", "a", "b")]),
    "Where": case("Where", "m x c", constants={"c": np.float32(0)}, before=[node("Greater", "x c", "m")]),
    "CumSum": case("CumSum", "x a", constants={"a": np.array(1)}),
    "Pad": case("Pad", "x p", constants={"p": np.array([1, 0, 0, 2])}, mode="reflect"),
    "MaxPool": case("MaxPool", shapes=IMAGES, **WINDOW),
    "AveragePool": case("AveragePool", shapes=IMAGES, **WINDOW, count_include_pad=1),
    "LRN": case("LRN", shapes=IMAGES, size=3),
    "quantized": case("DequantizeLinear", "q s", constants={"s": np.float32(0.1), "z": np.uint8(0)}, before=[
        node("QuantizeLinear", "x s z", "q")]),
    "bounds that are computed of constants": case(
        "Slice", "x one t", constants={"one": np.array([1]), "u": np.array([1.0])}, before=[
            node("Cast", "u", "v", to=I64), node("Add", "v one", "t")]),
    "Flatten": case("Flatten", shapes=((1, 3, 8, 6), (5, 3, 8, 6), (2, 3, 7, 9))),
    "Reshape that keeps an axis": case(
        "Reshape", "x t", constants={"t": np.array([0, -1])}, shapes=((1, 3, 8, 6), (5, 3, 8, 6), (2, 3, 7, 9))),
    "Reshape by a batch that is computed": case(
        "Reshape", "x t", constants={"z": np.array([0]), "m": np.array([-1])}, shapes=IMAGES, before=[
            node("Shape", "x", "s"), node("Gather", "s z", "b"), node("Concat", "b m", "t", axis=0)]),
    "Reshape and back": case("Reshape", "v s", constants={"two": np.array([2]), "z": np.array([0]),
        "m": np.array([-1])}, shapes=IMAGES, before=[
            node("Shape", "x", "s"), node("Slice", "s z two", "b"), node("Concat", "b m", "t", axis=0),
            node("Reshape", "x t", "u"), node("Softmax", "u", "v", axis=2)]),
    "Slice up to a size": case("Slice", "x z w o", constants={"z": np.array([0]), "o": np.array([1])}, before=[
        node("Shape", "x", "w", start=0, end=1)], shapes=((3, 4), (5, 6), (2, 9))),
    "Tile": case("Tile", "x r", constants={"r": np.array([2, 3])}),
    "BatchNormalization of rows": case("BatchNormalization", "x a a a a", constants={
        "a": np.float32([1, 2, 3])}, shapes=((2, 3, 4), (5, 3, 4), (1, 3, 9))),
    "Loop": case("Loop", "k  x", constants={"k": np.array(3)}, body=helper.make_graph(
        [node("Add", "p p", "q"), node("Identity", "c", "d")], "body",
        [helper.make_tensor_value_info(n, kind, shape) for n, kind, shape in (
            ("i", I64, []), ("c", TensorProto.BOOL, []), ("p", F, None))],
        [helper.make_tensor_value_info(n, kind, shape) for n, kind, shape in (
            ("d", TensorProto.BOOL, []), ("q", F, None))])),
    "multiples of a size": case("Reshape", "u q", constants={"three": np.array([3]), "two": np.array(2),
        "m": np.array([-1])}, before=[
            node("Concat", "x x x x x x", "u", axis=1), node("Shape", "x", "s", start=1), node("Mul", "three s", "a"),
            node("Mul", "a two", "t"), node("Concat", "t m", "q", axis=0)]),
    "Resize by whole factors": case("Resize", "x  f", constants={"f": np.float32([1, 1, 2, 3])}, mode="linear",
        shapes=IMAGES),
    "nearest pixels by whole factors": case("Resize", "x  f", constants={"f": np.float32([1, 1, 2, 2])}, mode="nearest",
        coordinate_transformation_mode="asymmetric", nearest_mode="floor", shapes=IMAGES),
    "Resize again": case("Resize", "b  f", constants={"f": np.float32([1, 1, 2, 2])}, mode="linear", shapes=IMAGES,
        before=[node("Resize", "x  f", "a", mode="linear"), node("Relu", "a", "b")]),
    "Upsample": case("Upsample", "x f", opset=9, constants={"f": np.float32([1, 1, 2, 2])}, shapes=IMAGES),
    "DepthToSpace": case("DepthToSpace", "c", blocksize=2, shapes=IMAGES, before=[
        node("Concat", "x x x x", "c", axis=1)]),
    "Reshape to what is there": case("Reshape", "x t", constants={"t": np.array([-1, 4])}, shapes=((3, 4), (5, 4))),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_ALL_SIZES)
def test_constants_of_a_counterpart_are_no_sizes(tmp_path, name):
    nodes, constants, opset, kind, (first, *others) = OF_ALL_SIZES[name]
    declared = [c if len(first) == 4 and k == 1 else f"d{k}" for k, c in enumerate(first)]
    result = I32 if kind == I32 else F
    model = make(nodes, [("x", kind, declared)], [("y", result, None)], constants, opset)
    out = written(tmp_path, model, "--shape", "x=" + "x".join(map(str, first)))
    assert "AssertEqual" not in [n.op for n in load_model(out).graph.nodes]
    ours, theirs = load(str(out)), load(model)
    for shape in (first, *others):
        x = RNG.standard_normal(shape).astype(np.float32) if kind == F else RNG.integers(-(2**31), 2**31, shape)
        x = x.astype(np.float32 if kind == F else np.int32)
        (found,), (expected,) = run(ours, x=x), run(theirs, x=x)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_sizes_that_float32_does_not_tell_apart_are_checked(tmp_path):
    large = 2**24 + 1
    model = make(
        [node("Shape", "x", "s"), node("Cast", "s", "y", to=F)], [("x", TensorProto.UINT8, ["n"])], [("y", F, None)]
    )
    source = load_model(model.SerializeToString())
    graph = for_original(source.graph, "model", {"x": (large,)})
    for size in (2**24, large + 1):
        with pytest.raises(ShapeError, match="the error is"):
            infer_stage(graph, 0, {graph.inputs[0]: TensorSpec((size,), UINT8)}, ConstantPool())
    stage = infer_stage(graph, 0, {graph.inputs[0]: TensorSpec((large,), UINT8)}, ConstantPool())
    assert stage.next_node == len(graph.nodes)


def test_sizes_that_a_model_is_made_for_are_checked(tmp_path):
    """The padding follows from the declared window of the filters."""
    nodes = [node("Conv", "x w", "y", auto_pad="SAME_UPPER")]
    inputs = [("x", F, ["n", 1, "h", "w"]), ("w", F, [2, 1, 3, 3])]
    model = make(nodes, inputs, [("y", F, None)])
    ours = load(str(written(tmp_path, model, "--shape", "x=1x1x6x6")))
    x, w = RNG.standard_normal((1, 1, 6, 6)).astype(np.float32), RNG.standard_normal((2, 1, 3, 3)).astype(np.float32)
    np.testing.assert_allclose(run(ours, x=x, w=w)[0], run(load(model), x=x, w=w)[0], rtol=1e-5, atol=1e-5)
    for network in (ours, load(model)):
        with pytest.raises(ShapeError):
            run(network, x=x, w=np.ones((2, 1, 5, 5), np.float32))


EXPORTED = {
    "a size of a converted file": (SIZES_IN_THE_FILE["a shape"][1], ()),
    "one size of a converted file": (SIZES_IN_THE_FILE["a size"][1], ()),
    "sorted rows": (SIZES_IN_THE_FILE["sorted rows"][1], ()),
    "static": ([node("Relu", "x", "y")], ("--static",)),
    "a function of elements": ([node("Relu", "x", "y")], ()),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_file_gives_the_models_results_or_refuses_the_sizes(tmp_path, run_json, name):
    """What follows from sizes is a constant there, too, and nothing checks it in ONNX: whoever loads it must."""
    nodes, flags = EXPORTED[name]
    used = {k: v for k, v in NUMBERS.items() if any(k in n.input for n in nodes)}
    model = make(nodes, [("x", F, ["n", "m"])], [("y", F, None)], used, 17)
    source, made, out = (tmp_path / name for name in ("model.onnx", "model.mge", "exported.onnx"))
    source.write_bytes(model.SerializeToString())
    run_json("convert", source, made, "--shape", "x=6x6")
    free = run_json("convert", made, out, *flags)["free_dimensions"]
    ours, theirs = load(str(out)), load(model)
    n_right = 0
    for shape in [(6, 6), (4, 6), (6, 5), (7, 9)]:
        x = RNG.standard_normal(shape).astype(np.float32)
        try:
            (found,) = run(ours, x=x)
        except ShapeError as error:
            assert "the model is made for this size" in str(error)
            continue
        n_right += 1
        np.testing.assert_allclose(found, run(theirs, x=x)[0], rtol=1e-6)
    assert n_right == {0: 1, 1: 2, 2: 4}[len(free)]
