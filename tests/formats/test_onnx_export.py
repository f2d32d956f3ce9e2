"""Which sizes of an ONNX model may change, what is refused, and what lies in its files."""

from __future__ import annotations

import re

import numpy as np
import pytest
from support.api_samples import DIGITS
from support.graphs import GraphBuilder
from support.onnx_exports import FUNCTION, check_export, exported, floats, one_node, operators_of, run_onnx
from support.places import ROOT

import megengine_lite
from megengine_lite._api import onnx_export
from megengine_lite._core.formats.onnx.export.table import CONVERTERS
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import INT32
from megengine_lite._core.ir.params import (
    AxisDesc,
    AxisMethod,
    ConvolutionFormat,
    ElemwiseMode,
    InterpolationMode,
    ReduceMode,
)
from megengine_lite._core.operators import BUILT_IN
from megengine_lite.errors import InternalError, LiteError, LiteTypeError, LiteValueError, UnsupportedOperatorError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def flattening(batch=1):
    """A network of the usual form: images, a shape that follows from the input, a matrix product."""
    builder = GraphBuilder()
    x, w = builder.input("data", (batch, 2, 8, 8)), builder.constant(floats(4, 2, 3, 3))
    y = builder.node("Convolution", params.Convolution(pad_h=1, pad_w=1), [x, w])
    y = builder.node("Reduce", params.Reduce(mode=ReduceMode.MEAN, axis=3), [y])
    y = builder.node("Reduce", params.Reduce(mode=ReduceMode.MEAN, axis=2), [y])
    shape = builder.node("GetVarShape", params.OptionalAxisV1(axis=0), [x])
    target = builder.node("Concat", params.Axis(axis=0), [shape, builder.constant(np.array([4], np.int32))])
    y = builder.node("Reshape", params.OptionalAxisV1(), [y, target])
    y = builder.node("MatrixMul", params.MatrixMul(), [y, builder.constant(floats(4, 5))], name="prob")
    return builder.finish(y)


def dimensions(value):
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def test_batch_and_image_sizes_may_change_unless_they_are_fixed():
    model = check_export(flattening(), {"data": floats(1, 2, 8, 8)}, FUNCTION)
    assert dimensions(model.graph.input[0]) == ["batch", 2, "height", "width"]
    assert dimensions(model.graph.output[0]) == ["batch", 5]
    model = check_export(flattening(), {"data": floats(1, 2, 8, 8)}, FUNCTION, static=True)
    assert dimensions(model.graph.input[0]) == [1, 2, 8, 8]
    assert "Shape" not in operators_of(model)


def test_sizes_that_a_node_needs_are_fixed_and_others_are_not():
    p = params.Resize(imode=InterpolationMode.AREA, format=ConvolutionFormat.NHWC)
    model = one_node("Resize", p, floats(1, 8, 8, 3), np.array([4, 4], np.int32), constants=[1], tolerance=FUNCTION)
    assert dimensions(model.graph.input[0]) == ["batch", 8, 8, 3]


def test_axes_are_added_and_removed_step_by_step():
    steps = ((AxisMethod.ADD_1, 0), (AxisMethod.REMOVE, 2), (AxisMethod.ADD_1, 3))
    p = params.AxisAddRemove(desc=tuple(AxisDesc(*s) for s in steps))
    one_node("AxisAddRemove", p, floats(3, 1, 4))
    p = params.AxisAddRemove(desc=(AxisDesc(AxisMethod.REMOVE, 0),))
    one_node("AxisAddRemove", p, floats(1), static=True)


def test_outputs_may_be_inputs_constants_and_the_same_variable_twice():
    builder = GraphBuilder()
    x = builder.input("x", (2, 3))
    y = builder.node("Elemwise", params.Elemwise(mode=ElemwiseMode.RELU), [x], name="y")
    graph = builder.finish(y, x, builder.constant(floats(2)), y)
    graph.output_names = ["y", "x", "weights", "again"]
    content, _ = exported(graph)
    given = floats(2, 3)
    results = run_onnx(content, {"x": given})
    for got, want in zip(results, (np.maximum(given, 0), given, floats(2), np.maximum(given, 0)), strict=True):
        np.testing.assert_array_equal(got, want)


def test_an_output_that_is_an_input_has_its_name():
    import onnx

    builder = GraphBuilder()
    x = builder.input("x", (2, 3))
    y = builder.node("Elemwise", params.Elemwise(mode=ElemwiseMode.RELU), [x], name="y")
    graph = builder.finish(builder.node("Identity", params.Empty(), [x]), y, x)
    graph.output_names = ["x", "y", "again"]
    content, _ = exported(graph)
    assert [info.name for info in onnx.load_from_string(content).graph.output] == ["x", "y", "again"]
    given = floats(2, 3)
    for got, want in zip(run_onnx(content, {"x": given}), (given, np.maximum(given, 0), given), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("opset", [13, 15, 16, 17, 18, 19, 20, 21])
def test_every_operator_set_is_written_in_its_own_form(opset):
    import onnx

    model = check_export(flattening(), {"data": floats(1, 2, 8, 8)}, FUNCTION, opset=opset)
    assert model.opset_import[0].version == opset
    assert model.ir_version <= onnx.IR_VERSION
    p = params.LayerNorm(normalized_dim=1, normalized_size=5)
    values = floats(2, 5), floats(5, seed=1), floats(5, seed=2)
    one_node("LayerNorm", p, *values, constants=[1, 2], outputs=3, taken=1, tolerance=FUNCTION, opset=opset)
    if opset >= 16:
        p = params.Remap(format=ConvolutionFormat.NCHW)
        one_node("Remap", p, floats(1, 2, 5, 6), floats(1, 3, 3, 2), tolerance=FUNCTION, opset=opset)


def two_problems():
    builder = GraphBuilder()
    x = builder.input("x", (2, 3, 3))
    inverse = builder.node("MatrixInverse", params.Empty(), [x], name="inverse")
    values = builder.node("SVD", params.SVD(compute_uv=False), [inverse], name="values")
    return builder.finish(builder.node("Elemwise", params.Elemwise(mode=ElemwiseMode.RELU), [values]))


def test_nodes_without_counterpart_are_listed_all_at_once():
    with pytest.raises(UnsupportedOperatorError) as caught:
        exported(two_problems())
    assert "MatrixInverse 'inverse'" in str(caught.value) and "SVD 'values'" in str(caught.value)


READERS = {
    "Concat": (params.Axis(axis=0), 1),
    "Elemwise": (params.Elemwise(mode=ElemwiseMode.MUL), 1),
    "CondTake": (params.CondTake(), 2),
    "MatrixMul": (params.MatrixMul(), 1),
}


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("is_dead", [False, True])
@pytest.mark.parametrize("op", READERS)
def test_what_must_fit_a_shape_that_an_input_says_is_listed(op, is_dead, static):
    """Any shape that is guessed for it does not fit; what no output needs does not matter."""
    builder = GraphBuilder()
    x, other, shape = builder.input("x", (1, 1)), builder.input("other", (3, 5)), builder.input("shape", (2,), INT32)
    wide = builder.node("Broadcast", params.Empty(), [x, shape])
    parameters, outputs = READERS[op]
    made = builder.node(op, parameters, [wide, other], outputs, "joined")
    last = builder.node("Elemwise", params.Elemwise(), [made[0] if outputs > 1 else made], name="behind")
    last = builder.node("Elemwise", params.Elemwise(), [other]) if is_dead else last
    graph = builder.finish(last)
    if is_dead:
        x = floats(3, 5)
        given = {"x": floats(1, 1), "other": x, "shape": np.array([3, 5], np.int32)}
        (y,) = run_onnx(exported(graph, static)[0], given)
        np.testing.assert_array_equal(y, np.maximum(x, 0))
        return
    why = "its shape is known only when the model runs"
    with pytest.raises(UnsupportedOperatorError, match=rf"{op} 'joined' \({why}\); Elemwise 'behind' \({why}\)"):
        exported(graph, static)


def test_nodes_without_counterpart_are_written_in_a_domain_of_our_own_if_that_is_asked_for():
    import onnx

    content, _ = exported(two_problems(), custom_domain=True)
    model = onnx.load_from_string(content)
    assert [(n.domain, n.op_type) for n in model.graph.node][:2] == [
        ("megengine", "MatrixInverse"),
        ("megengine", "SVD"),
    ]
    attributes = {a.name: a.i for a in model.graph.node[1].attribute}
    assert attributes == {"full_matrices": 0, "compute_uv": 0}
    assert {o.domain for o in model.opset_import} == {"", "megengine"}


def test_operator_sets_that_are_too_old_are_refused_with_the_one_that_is_needed():
    with pytest.raises(LiteValueError, match="13 to 23"):
        exported(flattening(), opset=12)
    builder = GraphBuilder()
    x, where = builder.input("x", (1, 2, 5, 6)), builder.input("where", (1, 3, 3, 2))
    graph = builder.finish(builder.node("Remap", params.Remap(format=ConvolutionFormat.NCHW), [x, where]))
    with pytest.raises(UnsupportedOperatorError, match="operator set 16"):
        exported(graph, opset=15)


def test_every_converter_belongs_to_an_operator_and_is_on_the_page():
    assert CONVERTERS.keys() <= BUILT_IN.keys()
    text = (ROOT / "docs" / "onnx.md").read_text()
    _, _, part = text.partition("<!-- begin exported -->")
    listed = re.findall(r"`(\w+)`", part.partition("<!-- end exported -->")[0])
    assert listed == sorted(CONVERTERS)


@pytest.mark.parametrize(
    ("place", "name", "kind"),
    [
        (onnx.checker, "check_model", onnx.checker.ValidationError),
        (onnx.checker, "check_model", onnx.shape_inference.InferenceError),
        (onnx_export, "_runtime", RuntimeError),
    ],
)
def test_an_export_that_is_not_valid_is_our_fault(monkeypatch, place, name, kind):
    def fails(*arguments, **options):
        raise kind("no")

    monkeypatch.setattr(place, name, (lambda *arguments: fails) if place is onnx_export else fails)
    with pytest.raises(InternalError, match=r"the exported model.*: no; this is a fault of megengine_lite") as raised:
        onnx_export.exported(DIGITS, verify=True)
    assert type(raised.value.__cause__) is kind


def test_what_one_file_cannot_hold_has_its_weights_beside_it(tmp_path, monkeypatch):
    """Files of protobuf end at 2 GiB."""
    target = tmp_path / "digits.onnx"
    monkeypatch.setattr(onnx_export, "_LIMIT", 12_000)
    result = onnx_export.export_onnx(DIGITS, target)
    assert result.checked and len(result.compared) == 2 and not result.notes
    assert sorted(p.name for p in tmp_path.iterdir()) == ["digits.onnx", "digits.onnx.data"]
    proto = onnx.load(target, load_external_data=False)
    places = {t.name: {e.key: e.value for e in t.external_data} for t in proto.graph.initializer if t.external_data}
    assert places and target.stat().st_size < 12_000 < (tmp_path / "digits.onnx.data").stat().st_size
    assert all(p["location"] == "digits.onnx.data" and int(p["offset"]) % 4096 == 0 for p in places.values())
    monkeypatch.undo()
    whole = onnx_export.exported(DIGITS, verify=False).chunks
    expected = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load_from_string(b"".join(whole)).graph.initializer}
    for tensor in onnx.load(target).graph.initializer:
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), expected[tensor.name])
    x = floats(2, 1, 8, 8)
    ours, theirs = (megengine_lite.load(m)(x)[0] for m in (target, DIGITS))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_what_two_files_cannot_hold_is_refused_and_not_written(tmp_path, monkeypatch):
    target = tmp_path / "digits.onnx"
    monkeypatch.setattr(onnx_export, "_LIMIT", 1000)
    with pytest.raises(LiteError, match=r"the ONNX file would have \d+ bytes, and may have 1000"):
        onnx_export.export_onnx(DIGITS, target)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [(n, v, LiteTypeError) for n in ("static", "custom_domain", "verify") for v in ("x", None, 1.0, [])]
    + [("opset", v, LiteTypeError) for v in ("17", None, 17.0, True)]
    + [("opset", v, LiteValueError) for v in (12, 24, -1)],
)
def test_arguments_of_other_types_are_refused(name, value, error, tmp_path):
    with pytest.raises(error):
        onnx_export.export_onnx(DIGITS, tmp_path / "model.onnx", **{name: value})
    assert not (tmp_path / "model.onnx").exists()
    onnx_export.export_onnx(DIGITS, tmp_path / "model.onnx", opset=np.int64(17), static=np.bool_(True), verify=0)
