"""The command convert from ONNX to a file of MegEngine's."""

import warnings

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import load, make, run

from megengine_lite._core.compile.infer import infer_stage
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.ir.graph import ConstantPool
from megengine_lite.cli import main

pytestmark = pytest.mark.filterwarnings("ignore")
F, I64 = TensorProto.FLOAT, TensorProto.INT64
RNG = np.random.default_rng(3)


def node(op, inputs, outputs, name="", **attributes):
    return helper.make_node(op, inputs.split(" "), outputs.split(" "), name, **attributes)


def written(tmp_path, model, *flags):
    """The file that the command makes."""
    source, out = tmp_path / "model.onnx", tmp_path / "model.mge"
    source.write_bytes(model.SerializeToString())
    assert main(["convert", str(source), str(out), *flags]) == 0
    return out


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
    assert not {n.op for n in graph.nodes} & {"GetVarShape", "TargetShape", "OnnxElemwise"}
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


def test_all_nodes_without_counterpart_are_listed(tmp_path, error_of):
    nodes = [node("Round", "x", "a", "rounds"), node("Det", "a", "b", "determines"), node("Erf", "b", "y", "fine")]
    (tmp_path / "model.onnx").write_bytes(make(nodes, [("x", F, [2, 2])], [("y", F, [])]).SerializeToString())
    error = error_of("convert", tmp_path / "model.onnx", tmp_path / "out.mge")
    assert "Elemwise 'rounds' (there is no function ROUND_EVEN)" in error
    assert "Det 'determines' (there is no such operator)" in error
    assert "fine" not in error
    assert not (tmp_path / "out.mge").exists()


def test_what_depends_on_data_is_refused(tmp_path, error_of):
    nodes = [node("NonZero", "x", "a"), node("Transpose", "a", "y", "turned")]
    (tmp_path / "model.onnx").write_bytes(make(nodes, [("x", F, [3])], [("y", I64, None)]).SerializeToString())
    error = error_of("convert", tmp_path / "model.onnx", tmp_path / "out.mge")
    assert "cannot have what depends on data from Dimshuffle 'turned' on" in error


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


def test_operators_that_no_release_of_the_original_knows_are_refused(tmp_path, error_of):
    nodes = [node("Cast", "x", "mask", to=TensorProto.BOOL), node("Where", "mask h h", "out")]
    model = make(nodes, [("x", F, [3]), ("h", TensorProto.FLOAT16, [3])], [("out", TensorProto.FLOAT16, None)])
    source = tmp_path / "model.onnx"
    source.write_bytes(model.SerializeToString())
    assert "no release of the original knows it" in error_of("convert", source, tmp_path / "model.mge")


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
