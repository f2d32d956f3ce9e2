"""The command convert from ONNX to a file of MegEngine's."""

import warnings

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.converted_files import node, written
from support.onnx_models import load, make, run

from megengine_lite._api import conversion
from megengine_lite._core.compile.infer import infer_stage
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.ir.graph import ConstantPool

pytestmark = pytest.mark.filterwarnings("ignore")
F, I64 = TensorProto.FLOAT, TensorProto.INT64
RNG = np.random.default_rng(3)


def network():
    """A classifier whose rows are as many as images: shapes are computed in it."""
    weights = {
        "w": RNG.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "v": RNG.standard_normal((5, 4)).astype(np.float32),
        "bias": RNG.standard_normal(5).astype(np.float32),
        "rest": np.array([-1]),
        "zero": np.array([0]),
        "far": np.array([2**40]),
        "one": np.array([1]),
    }
    nodes = [
        node("Conv", "x w", "a", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Relu", "a", "b"),
        node("Slice", "b one far one", "c"),
        node("GlobalAveragePool", "c", "d"),
        node("Shape", "d", "shape", start=0, end=1),
        node("Concat", "shape rest", "target", axis=0),
        node("Reshape", "d target", "e"),
        node("Slice", "e rest far zero", "last"),
        node("Gemm", "e v bias", "f", transB=1),
        node("Softmax", "f", "y", axis=1),
    ]
    nodes[2].input[:] = ["b", "zero", "far", "one"]
    return make(nodes, [("x", F, ["n", 3, "h", "w"])], [("y", F, None), ("last", F, None)], weights)


@pytest.mark.parametrize("flags", [(), ("--layout", "nchw44")])
def test_a_written_network_computes_the_same(tmp_path, flags):
    model = network()
    out = written(tmp_path, model, "--shape", "x=2x3x8x6", *flags)
    graph = load_model(out).graph
    assert [v.shape for v in graph.inputs] == [(2, 3, 8, 6)]
    x = RNG.standard_normal((2, 3, 8, 6)).astype(np.float32)
    ours = load(str(out))
    assert ours.get_all_output_name() == ["y", "last"]
    for a, b in zip(run(ours, x=x), run(load(model), x=x), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_what_is_written_has_nothing_that_files_do_not_have(tmp_path):
    graph = load_model(written(tmp_path, network(), "--shape", "x=2x3x8x6")).graph
    assert not {n.op for n in graph.nodes} & {"TargetShape", "OnnxElemwise"}
    assert [n.op for n in graph.nodes].count("GetVarShape") == 1  # for the check of the input
    limits = [v.const.array.item() for n in graph.nodes if n.op == "Subtensor" for v in n.inputs[1:]]
    assert limits and max(limits) <= 8  # the original refuses limits outside of the data
    modes = [n.params.mode.name for n in graph.nodes if n.op == "Elemwise"]
    assert "RELU" in modes and not any(m.startswith("NAN") for m in modes)


@pytest.mark.parametrize("shape", [(2, 6, 5), (2, 6, 4, 5), (2, 6, 2, 3, 4)])
@pytest.mark.parametrize("op", ["InstanceNormalization", "GroupNormalization"])
def test_groups_of_channels_are_normalized_in_four_dimensions(tmp_path, op, shape):
    """The original refuses all others when it runs."""
    flags = {"num_groups": 3} if op == "GroupNormalization" else {}
    weights = {"s": RNG.random(6).astype(np.float32), "b": RNG.random(6).astype(np.float32)}
    model = make([node(op, "x s b", "y", **flags)], [("x", F, list(shape))], [("y", F, None)], weights, 21)
    out = written(tmp_path, model)
    graph = load_model(out).graph
    ranks = {len(v.spec.shape) for n in _inferred(graph) if n.op in ("InstanceNorm", "GroupNorm") for v in n.inputs[:1]}
    assert ranks == {4}
    x = RNG.standard_normal(shape).astype(np.float32)
    (ours,), (theirs,) = run(load(str(out)), x=x), run(load(model), x=x)
    assert ours.shape == shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def _inferred(graph):
    return infer_stage(graph, 0, {v: v.spec for v in graph.inputs}, ConstantPool()).graph.nodes


def test_broadcasts_to_the_same_shape_are_left_out(tmp_path):
    """The original drops them itself while it loads a file, and then refuses the file because it misses them."""
    model = make(
        [node("MatMul", "x y", "p"), node("Relu", "p", "z")],
        [("x", F, [2, 3, 4, 5]), ("y", F, [2, 3, 5, 6])],
        [("z", F, None)],
    )
    out = written(tmp_path, model)
    nodes = load_model(out).graph.nodes
    assert [n.op for n in nodes if n.op == "Broadcast"] == [] and "BatchedMatrixMul" in [n.op for n in nodes]
    x, y = (RNG.standard_normal(shape, dtype=np.float32) for shape in [(2, 3, 4, 5), (2, 3, 5, 6)])
    np.testing.assert_allclose(run(load(str(out)), x=x, y=y)[0], np.maximum(x @ y, 0), rtol=1e-5, atol=1e-6)


def test_slices_backwards(tmp_path):
    numbers = {"b": np.array([-1]), "e": np.array([-(2**31)]), "a": np.array([1]), "s": np.array([-2])}
    model = make([node("Slice", "x b e a s", "y")], [("x", F, [2, 5])], [("y", F, None)], numbers)
    x = np.arange(10, dtype=np.float32).reshape(2, 5)
    np.testing.assert_array_equal(run(load(str(written(tmp_path, model))), x=x)[0], x[:, ::-2])


def refusal(tmp_path, error_of, model):
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    error = error_of("convert", tmp_path / "model.onnx", tmp_path / "out.mge")
    assert not (tmp_path / "out.mge").exists()
    return error


def test_all_nodes_without_counterpart_are_listed(tmp_path, error_of):
    """With the names that they have in the model, and no others."""
    nodes = [
        node("Det", "x", "a", "determines"),
        node("Erf", "a", "b", "fine"),
        node("Cast", "b", "d", "doubles", to=TensorProto.DOUBLE),
        node("Sin", "d", "e", "of_doubles"),
        node("Cast", "e", "f", "single", to=F),
        node("GridSample", "g points", "h", "cubic", mode="cubic"),
        node("Det", "x", "unused", "unused"),
    ]
    inputs = [("x", F, [5, 5]), ("g", F, [1, 1, 4, 4]), ("points", F, [1, 2, 2, 2])]
    error = refusal(tmp_path, error_of, make(nodes, inputs, [("f", F, []), ("h", F, None)], opset=20))
    for line in (
        "Det 'determines' (determinants of matrices of 5 rows are not written, of 1 to 4 are)",
        "Cast 'doubles' (there are no elements of float64)",
        "Sin 'of_doubles' (there are no elements of float64)",
        "GridSample 'cubic' (there is no such operator)",
    ):
        assert line in error
    assert not any(name in error for name in ("fine", "unused", "TypeCvt", "Elemwise"))


def test_nodes_behind_one_that_depends_on_data_are_listed_too(tmp_path, error_of):
    nodes = [
        node("NonZero", "x", "a", "finds"),
        node("Transpose", "a", "b", "turned"),
        node("Compress", "x mask", "c", "picks"),
        node("Det", "y", "d", "determines"),
        node("Unique", "c", "u", "differ"),
        node("Erf", "y", "e", "fine"),
    ]
    inputs = [("x", F, [3]), ("mask", TensorProto.BOOL, [3]), ("y", F, [5, 5])]
    outputs = [("b", I64, None), ("u", F, None), ("d", F, []), ("e", F, None)]
    error = refusal(tmp_path, error_of, make(nodes, inputs, outputs))
    for line in (
        "NonZero 'finds' (the shape of its results depends on data)",
        "Compress 'picks' (the shape of its results depends on data)",
        "Unique 'differ' (there is no such operator)",
        "Det 'determines' (determinants of matrices of 5 rows are not written, of 1 to 4 are)",
    ):
        assert line in error
    assert not any(name in error for name in ("fine", "turned", "CondTake", "Dimshuffle"))


def test_what_may_need_more_than_32_bits_is_refused_and_what_cannot_is_written(tmp_path, error_of, capsys):
    """Values of 64 bits whose range follows from types, shapes and constants are int32 in the file."""
    nodes = [node("ArgMax", "x", "a", axis=1, keepdims=0), node("Mul", "a three", "b"), node("Div", "b two", "c")]
    numbers = {"three": np.array(3), "two": np.array(-2)}
    model = make(nodes, [("x", F, [4, 9])], [("c", I64, None)], numbers)
    x = RNG.standard_normal((4, 9)).astype(np.float32)
    (ours,) = run(load(str(written(tmp_path, model))), x=x)
    np.testing.assert_array_equal(ours, -((3 * x.argmax(1)) // 2))
    capsys.readouterr()
    large = make([node("Mul", "x far", "y", "grows")], [("x", I64, [2])], [("y", I64, None)], {"far": np.array(2**20)})
    assert "Mul 'grows' (its numbers, elements of int64, may need more than 32 bits)" in refusal(
        tmp_path, error_of, large
    )


def test_inputs_and_outputs_that_the_original_cannot_have(tmp_path, error_of):
    shape = [1, 2, 1, 2, 1, 2, 1]
    error = refusal(tmp_path, error_of, make([node("Neg", "x", "y")], [("x", F, shape)], [("y", F, None)]))
    assert "input 'x' (the original has none of 7 dimensions)" in error
    assert "output 'y' (the original has none of 7 dimensions)" in error
    nodes = [node("Unsqueeze", "x axes", "a"), node("Neg", "a", "b"), node("Squeeze", "b axes", "y")]
    written(tmp_path, make(nodes, [("x", F, shape[1:])], [("y", F, None)], {"axes": np.array([0])}))


def test_truth_values_are_bytes_in_the_file(tmp_path):
    """The original has no tensors of them."""
    boolean = TensorProto.BOOL
    nodes = [node("And", "a b", "both"), node("Not", "a", "other"), node("Identity", "b", "same")]
    names = ("both", "other", "same")
    model = make(nodes, [("a", boolean, [4]), ("b", boolean, [4])], [(n, boolean, [4]) for n in names])
    graph = load_model(written(tmp_path, model)).graph
    assert {v.dtype.name for v in graph.inputs} == {"uint8"}
    a, b = np.array([0, 0, 1, 1], np.uint8), np.array([0, 1, 0, 7], np.uint8)
    ours = run(load(str(tmp_path / "model.mge")), a=a, b=b)
    for got, want in zip(ours, ([0, 0, 0, 1], [1, 1, 0, 0], [0, 1, 0, 1]), strict=True):
        np.testing.assert_array_equal(got, np.array(want, np.uint8))


def test_types_that_the_original_has_in_c_only_are_told(tmp_path, capsys):
    half = TensorProto.FLOAT16
    nodes = [node("Neg", "x", "y"), node("Cast", "x", "z", to=F)]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        written(tmp_path, make(nodes, [("x", half, [3])], [("y", half, None), ("z", F, None)]))
    error = capsys.readouterr().err
    assert "the original's Python package has no tensors of float16: 'x', 'y'" in error and "'z'" not in error


OUTPUTS_ALIKE = {
    "computed twice": ([node("Relu", "x", "a"), node("Relu", "x", "b")], "ab"),
    "the same": ([node("Relu", "x", "a"), node("Identity", "a", "b"), node("Identity", "a", "c")], "abc"),
    "an input": ([node("Identity", "x", "a"), node("Neg", "x", "b")], "ab"),
    "nothing but an input": ([node("Identity", "x", "a")], "a"),
    "constants": ([node("Identity", "k", "a"), node("Identity", "k", "b"), node("Neg", "x", "c")], "abc"),
    "equal weights": ([node("Mul", "x k", "a"), node("Mul", "x m", "b")], "ab"),
    "parts": ([node("Split", "x", "a b c", axis=1)], "abc"),
    "one of the other": ([node("Relu", "x", "a"), node("Neg", "a", "b"), node("Relu", "x", "c")], "cba"),
}


@pytest.mark.parametrize("name", OUTPUTS_ALIKE)
def test_each_output_is_a_variable_of_its_own(tmp_path, name):
    """The original makes one of variables that are computed alike, and of those that are the same as others."""
    nodes, outputs = OUTPUTS_ALIKE[name]
    constants = {k: np.arange(6, dtype=np.float32).reshape(2, 3) for k in "km"}
    used = {k: v for k, v in constants.items() if any(k in n.input for n in nodes)}
    model = make(nodes, [("x", F, [2, 3])], [(n, F, None) for n in outputs], used)
    graph = load_model(written(tmp_path, model)).graph
    makers = {v: n for n in graph.nodes for v in n.outputs}
    assert [v.name for v in graph.outputs] == list(outputs)
    assert {makers[v].op for v in graph.outputs} == {"VirtualDep"}
    assert len({makers[v].inputs[1].const.array.item() for v in graph.outputs}) == len(outputs)
    x = RNG.standard_normal((2, 3)).astype(np.float32)
    for ours, theirs in zip(run(load(str(tmp_path / "model.mge")), x=x), run(load(model), x=x), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_one_output_that_is_computed_needs_nothing_of_its_own(tmp_path):
    model = make([node("Neg", "x", "y")], [("x", F, [2])], [("y", F, None)])
    assert [n.op for n in load_model(written(tmp_path, model)).graph.nodes] == ["Elemwise"]


def test_the_file_is_compared_before_it_is_written(tmp_path, run_json, error_of, monkeypatch):
    source, out = tmp_path / "model.onnx", tmp_path / "model.mge"
    source.write_bytes(network().SerializeToString())
    result = run_json("convert", source, out, "--shape", "x=2x3x8x6")
    assert result["compared"] == [{"x": [2, 3, 8, 6]}] and result["notes"] == []
    result = run_json("convert", source, out, "--shape", "x=2x3x8x6", "--no-verify")
    assert result["compared"] == [] and result["notes"] == ["not verified"]
    out.write_bytes(b"before")
    right = conversion.rewritten

    def wrong(source, *settings):
        other = network()
        for tensor in other.graph.initializer:
            if tensor.name == "bias":
                tensor.CopyFrom(numpy_helper.from_array(np.arange(5, dtype=np.float32), "bias"))
        return right(other.SerializeToString(), *settings)

    monkeypatch.setattr(conversion, "rewritten", wrong)
    assert "differs by" in error_of("convert", source, out, "--shape", "x=2x3x8x6")
    assert out.read_bytes() == b"before"


def test_random_models_are_not_compared(tmp_path, run_json):
    (tmp_path / "a.onnx").write_bytes(
        make([node("RandomUniformLike", "x", "y")], [("x", F, [3])], [("y", F, None)]).SerializeToString()
    )
    result = run_json("convert", tmp_path / "a.onnx", tmp_path / "a.mge")
    assert result["compared"] == [] and "draws random numbers" in result["notes"][0]


def test_onnx_to_onnx_says_what_to_do(tmp_path, error_of):
    (tmp_path / "a.onnx").write_bytes(network().SerializeToString())
    assert "is an ONNX model already" in error_of("convert", tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]


def test_shapes_are_for_onnx_models(tmp_path, error_of, capsys):
    out = written(tmp_path, network(), "--shape", "x=1x3x4x4")
    capsys.readouterr()
    assert "--shape is for ONNX models" in error_of(
        "convert", out, tmp_path / "b.mge", "--shape", "x=1x3x4x4", status=2
    )
    source = tmp_path / "model.onnx"
    assert "--shape is for files" in error_of("convert", source, tmp_path / "b.onnx", "--shape", "x=1x3x4x4", status=2)
    assert "one of the inputs x" in error_of("convert", source, tmp_path / "b.mge", "--shape", "z=1x3x4x4")


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_padding_and_extremes_have_counterparts(tmp_path, mode):
    constants = {"pads": np.array([0, 1, 0, 2]), "value": np.float32(0.5), "axes": np.array([0, 1])}
    nodes = [
        node("Pad", "x pads value" if mode == "constant" else "x pads", "p", mode=mode),
        node("ReduceMax", "p", "high", axes=[1], keepdims=0),
        node("ReduceMin", "p", "low", axes=[0, 1]),
    ]
    outputs = [(name, F, None) for name in ("p", "high", "low")]
    model = make(nodes, [("x", F, [3, 4])], outputs, constants, 17)
    out = written(tmp_path, model)
    assert {n.op for n in load_model(out).graph.nodes} >= {"Padding", "Reduce"}
    x = RNG.standard_normal((3, 4)).astype(np.float32)
    for ours, theirs in zip(run(load(str(out)), x=x), run(load(model), x=x), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_comparisons_say_the_type_of_their_results(tmp_path):
    """The original does not load them otherwise."""
    nodes = [node("Less", "x y", "a"), node("Equal", "x y", "b"), node("IsNaN", "x", "c"), node("And", "a b", "d")]
    nodes += [node("Or", "c d", "e"), node("Cast", "e", "out", to=F)]
    out = written(tmp_path, make(nodes, [("x", F, [3]), ("y", F, [3])], [("out", F, None)]))
    compared = [n for n in load_model(out).graph.nodes if n.op == "ElemwiseMultiType"]
    assert compared and all(n.output_dtype is not None for n in compared)


def test_variables_of_outputs_have_the_names_of_the_outputs(tmp_path):
    """The original knows outputs by these names alone: two with one name are one to it."""
    nodes = [node("Split", "x", "left middle right", axis=1), node("Neg", "left", "minus"), node("Neg", "x", "other")]
    nodes[0].name = "right"  # that of a node is another matter
    outputs = [(name, F, None) for name in ("minus", "right", "middle")]
    graph = load_model(written(tmp_path, make(nodes, [("x", F, [2, 6])], outputs))).graph
    assert [v.name for v in graph.outputs] == list(graph.output_names) == ["minus", "right", "middle"]
    names = [v.name for n in graph.nodes for v in n.outputs]
    assert all(names.count(name) == 1 for name in graph.output_names)


@pytest.mark.parametrize("kind", [F, TensorProto.INT32])
@pytest.mark.parametrize("shapes", [([3, 4], [3, 4], [3, 4]), ([4], [3, 1], [1])], ids=["equal", "broadcast"])
def test_choices_by_a_mask_have_a_counterpart(tmp_path, kind, shapes):
    """Releases of the original that people have do not know Where. What is not chosen may be NaN."""
    nodes = [node("Greater", "m zero", "mask"), node("Where", "mask x y", "out")]
    inputs = [("m", F, shapes[0]), ("x", kind, shapes[1]), ("y", kind, shapes[2])]
    model = make(nodes, inputs, [("out", kind, None)], {"zero": np.float32([0])}, 17)
    out = written(tmp_path, model)
    assert "Where" not in {n.op for n in load_model(out).graph.nodes}
    dtype = np.float32 if kind == F else np.int32
    given = {
        k: (9 * RNG.standard_normal(shape)).astype(t)
        for k, t, shape in zip("mxy", (np.float32, dtype, dtype), shapes, strict=True)
    }
    if kind == F:
        given["x"].reshape(-1)[0] = np.nan
    np.testing.assert_array_equal(run(load(str(out)), **given)[0], run(load(model), **given)[0])


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (2, 3, 2, 4, 3)], ids=str)
def test_channels_are_normalized_in_four_dimensions(tmp_path, shape):
    """Batch normalization: the original refuses other data."""
    numbers = {k: RNG.uniform(0.5, 2, 3).astype(np.float32) for k in ("s", "b", "m", "v")}
    model = make([node("BatchNormalization", "x s b m v", "y")], [("x", F, shape)], [("y", F, None)], numbers, 17)
    out = written(tmp_path, model)
    found = [n for n in _inferred(load_model(out).graph) if n.op == "BatchNorm"]
    assert len(found) == 1 and all(len(v.spec.shape) == 4 for v in found[0].inputs)
    x = RNG.standard_normal(shape).astype(np.float32)
    np.testing.assert_allclose(run(load(str(out)), x=x)[0], run(load(model), x=x)[0], rtol=1e-5, atol=1e-6)


def test_open_sizes_that_become_one_are_told(tmp_path, capsys):
    nodes, outputs = [node("Neg", "x", "y")], [("y", F, None)]
    model = make(nodes, [("x", F, ["batch", 3, "h", None])], outputs)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        written(tmp_path, model)
        assert "sizes that the model leaves open are 1 in the file: 'x' has [1, 3, 1, 1]" in capsys.readouterr().err
        written(tmp_path, model, "--shape", "x=2x3x4x5")
        written(tmp_path, make(nodes, [("x", F, [2, 3])], outputs))
        assert "open" not in capsys.readouterr().err


def test_quantized_numbers_are_rounded_as_the_model_says_it(tmp_path):
    """Halves to even numbers: the quantized types of files round them away from zero."""
    numbers = {"s": np.float32(0.5), "z": np.uint8(3)}
    nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "y")]
    x = np.float32([0.25, 0.75, 1.25, -0.25, -0.75, -1.25, 0.24999999, 400, -400, 0.3])
    model = make(nodes, [("x", F, [10])], [("q", TensorProto.UINT8, None), ("y", F, None)], numbers)
    ours = run(load(str(written(tmp_path, model))), x=x)
    np.testing.assert_array_equal(ours[0], np.clip(np.rint(x / np.float32(0.5)) + 3, 0, 255).astype(np.uint8))
    np.testing.assert_array_equal(ours[1], (ours[0].astype(np.float32) - 3) * np.float32(0.5))


def test_numbers_are_rounded_to_even_ones_and_keep_what_is_no_number(tmp_path):
    x = np.float32([0.5, 1.5, 2.5, -0.5, -2.5, 0.49999997, 8388609, 4194304.5, np.inf, -np.inf, np.nan, 3e38, -0.3])
    model = make([node("Round", "x", "y")], [("x", F, [13])], [("y", F, None)])
    np.testing.assert_array_equal(run(load(str(written(tmp_path, model))), x=x)[0], np.rint(x))


def test_division_by_zero_is_no_difference(tmp_path, run_json):
    """Its result is not defined, and the file has another one."""
    i32 = TensorProto.INT32
    model = make([node("Mod", "x y", "z", fmod=1)], [("x", i32, [40]), ("y", i32, [40])], [("z", i32, None)])
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    assert run_json("convert", tmp_path / "a.onnx", tmp_path / "a.mge")["compared"] == [{"x": [40], "y": [40]}]


@pytest.mark.parametrize("op", ["MatMul", "Gemm", "Conv"])
def test_products_of_dequantized_numbers_are_those_of_real_numbers(tmp_path, op):
    """What is between both conversions is real in the file, and so is what comes behind."""
    shape = {"Conv": (2, 3, 1, 1)}.get(op, (3, 2))
    numbers = {"s": np.float32(0.1), "z": np.uint8(7), "q": RNG.integers(-128, 128, shape).astype(np.int8)}
    numbers |= {"t": np.float32(0.02)}
    nodes = [
        node("QuantizeLinear", "x s z", "a"),
        node("DequantizeLinear", "a s z", "b"),
        node("DequantizeLinear", "q t", "w"),
        node(op, "b w", "y"),
    ]
    x = RNG.standard_normal((1, 3, 4, 4) if op == "Conv" else (4, 3)).astype(np.float32)
    model = make(nodes, [("x", F, x.shape)], [("y", F, None)], numbers)
    found = run(load(str(written(tmp_path, model))), x=x)[0]
    real = ((np.clip(np.rint(x / np.float32(0.1)) + 7, 0, 255) - 7) * np.float32(0.1)).astype(np.float32)
    weights = numbers["q"].astype(np.float32) * np.float32(0.02)
    want = np.einsum("nchw,oc->nohw", real, weights[..., 0, 0]) if op == "Conv" else real @ weights
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)


WRONG_SHAPES = {
    "too few dimensions": (["x=2", "y=2x3"], "input 'x' is declared as [n, 3] and was given [2]: it must have 2"),
    "too many dimensions": (["x=2x3x1", "y=2x3"], "input 'x' is declared as [n, 3] and was given [2, 3, 1]"),
    "two sizes of one name": (["x=2x3", "y=4x3"], "'n' is 4 here and 2 in input 'x'"),
    "two shapes for one input": (["x=2x3", "y=2x3", "x=2x3"], "--shape gives input 'x' two shapes"),
    "no number": (["x=2x", "y=2x3"], "--shape takes NAME=NxCxHxW"),
}


@pytest.mark.parametrize("name", WRONG_SHAPES)
def test_shapes_that_the_model_does_not_declare_are_refused(tmp_path, error_of, name):
    """A file for them would not compute what the model does, and the model does not run with them."""
    shapes, message = WRONG_SHAPES[name]
    model = make([node("Add", "x y", "z")], [("x", F, ["n", 3]), ("y", F, ["n", 3])], [("z", F, None)])
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    flags = [flag for shape in shapes for flag in ("--shape", shape)]
    assert message in error_of("convert", tmp_path / "a.onnx", tmp_path / "a.mge", *flags)
    assert not (tmp_path / "a.mge").exists()


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("count", [2, 3, 9])
def test_conditions_that_are_constants_choose_known_places(tmp_path, axis, count):
    """Also where they are longer than what they choose from: the rest does not count."""
    mask = np.arange(count) % 2 == 1
    attributes = {} if axis is None else {"axis": axis}
    model = make([node("Compress", "x m", "y", **attributes)], [("x", F, ["n", 4])], [("y", F, None)], {"m": mask})
    out = written(tmp_path, model, "--shape", "x=3x4")
    x = RNG.standard_normal((3, 4)).astype(np.float32)
    size = x.size if axis is None else x.shape[axis]
    np.testing.assert_array_equal(run(load(str(out)), x=x)[0], np.compress(mask[:size], x, axis))


def _loop():
    inner = helper.make_graph(
        [node("Add", "v x", "next"), node("Identity", "go", "goes")],
        "round",
        [helper.make_tensor_value_info(*i) for i in (("k", I64, []), ("go", TensorProto.BOOL, []), ("v", F, [2, 2]))],
        [helper.make_tensor_value_info(*o) for o in (("goes", TensorProto.BOOL, []), ("next", F, [2, 2]))],
    )
    return node("Loop", "three  x", "y", body=inner)


OF_ONE_INPUT = {
    "an operator of our own": [node("MatrixInverse", "x", "y", domain="megengine")],
    "a graph that depends on shapes": [node("Shape", "x", "s"), node("Reshape", "x s", "a"), node("Squeeze", "a", "y")],
    "a loop": [_loop()],
}


@pytest.mark.parametrize("name", OF_ONE_INPUT)
def test_all_is_compared_that_gives_the_same_in_each_run(tmp_path, run_json, name):
    nodes = OF_ONE_INPUT[name]
    constants = {"three": np.array(3)} if name == "a loop" else {}
    own = [helper.make_opsetid("megengine", 1)]
    model = make(nodes, [("x", F, ["n", "m"])], [("y", F, None)], constants, opsets=own)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    result = run_json("convert", tmp_path / "a.onnx", tmp_path / "a.mge", "--shape", "x=2x2")
    assert result["compared"] == [{"x": [2, 2]}] and result["notes"] == []


@pytest.mark.parametrize("size", [1, 2, 5])
def test_models_whose_inputs_are_indexes_are_compared(tmp_path, run_json, size):
    """Random integers may be out of range."""
    model = make([node("Gather", "x i", "y")], [("x", F, [size, 3]), ("i", I64, [4])], [("y", F, None)])
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    for source, target in (("a.onnx", "a.mge"), ("a.mge", "b.onnx")):
        result = run_json("convert", tmp_path / source, tmp_path / target)
        assert {"x": [size, 3], "i": [4]} in result["compared"] and result["notes"] == []


def test_open_sizes_for_which_there_is_no_file_are_told(tmp_path, error_of):
    model = make(
        [node("Conv", "x w", "y")],
        [("x", F, [1, 1, "h", "w"])],
        [("y", F, None)],
        {"w": np.ones((1, 1, 3, 3), np.float32)},
    )
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    found = error_of("convert", tmp_path / "a.onnx", tmp_path / "a.mge")
    assert "taken to be 1: 'x' has [1, 1, 1, 1]; give others by shapes (--shape)" in found
    found = error_of("convert", tmp_path / "a.onnx", tmp_path / "a.mge", "--shape", "x=1x1x2x2")
    assert "does not fit" in found and "--shape" not in found


@pytest.mark.parametrize("factor", [1e20, 1e-30, 0, 1])
@pytest.mark.parametrize("more", [{}, {"p": 5}, {"dilations": [2, 1], "pads": [1, 0, 0, 1]}, {"strides": [2, 3]}])
def test_roots_of_powers_that_are_no_float32_are_written(tmp_path, run_json, factor, more):
    nodes = [node("Mul", "x k", "a"), node("LpPool", "a", "y", kernel_shape=[2, 3], **more)]
    model = make(nodes, [("x", F, [1, 2, 7, 9])], [("y", F, None)], {"k": np.float32(factor)})
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    assert run_json("convert", tmp_path / "a.onnx", tmp_path / "a.mge")["compared"] == [{"x": [1, 2, 7, 9]}]
    x = RNG.standard_normal((1, 2, 7, 9)).astype(np.float32)
    (got,), (want,) = (run(load(str(tmp_path / name)), x=x) for name in ("a.mge", "a.onnx"))
    assert np.isfinite(want).all() and want.any() == bool(factor)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_a_file_that_is_wrong_for_zeros_only_is_refused(tmp_path, error_of, monkeypatch):
    """Also if the model divides, but not by 0."""
    right = conversion.rewritten
    ends = [("x", TensorProto.INT32, [40])], [("y", TensorProto.INT32, None)]
    model, wrong = (
        make([node(op, "x one", "a"), node("Div", "a one", "y")], *ends, {"one": np.array([1], np.int32)})
        for op in ("Mul", "Max")
    )
    monkeypatch.setattr(conversion, "rewritten", lambda _, *more: right(wrong.SerializeToString(), *more))
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    assert "differs by 1" in error_of("convert", tmp_path / "a.onnx", tmp_path / "a.mge")
