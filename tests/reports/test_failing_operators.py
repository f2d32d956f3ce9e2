"""An operator that ends the run with an error is marked in the report, whatever finds the error."""

from __future__ import annotations

import numpy as np
import pytest
from support import onnx_models
from support.api_samples import loaded
from support.loader_samples import constant_operator, input_operator, operator, to_bytes

import megengine_lite
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite._core.ir import params
from megengine_lite._core.reports.model_report.collect import without_run
from megengine_lite._core.reports.model_report.graph_files import to_dot, to_svg
from megengine_lite._core.reports.model_report.report import ModelReport

FLOAT, INT = np.float32, np.int64

# A model, its inputs, and the type and the name of the node in the file that is to blame.
MODELS = {
    # when shapes are inferred
    "shape": (
        """(float[n, 4] x) => (float[a, b] y) <int64[2] sizes = {2, 6}> {
            r = Relu(x)
            bad = Reshape(r, sizes)
            y = Exp(bad)
        }""",
        {"x": np.zeros([5, 4], FLOAT)},
        ("Reshape", "bad"),
    ),
    # a kernel finds an index
    "index": (
        """(float[8, 4] x, int64[2] i) => (float[2, 4] y) {
            r = Relu(x)
            bad = Gather(r, i)
            y = Softmax(bad)
        }""",
        {"x": np.zeros([8, 4], FLOAT), "i": np.array([1, 9], INT)},
        ("Gather", "bad"),
    ),
    # numpy finds it
    "numpy": (
        """(double[8, 4] x, int64[2] i) => (double[2, 4] y) {
            r = Sin(x)
            bad = Gather(r, i)
            y = Sin(bad)
        }""",
        {"x": np.zeros([8, 4]), "i": np.array([1, 9], INT)},
        ("Gather", "bad"),
    ),
    # plans merge it with its neighbours
    "merged": (
        """(float[n, 4] x, float[4, m] w, float[k] bias) => (float[n, m] y) {
            product = MatMul(x, w)
            bad = Add(product, bias)
            y = Relu(bad)
        }""",
        {"x": np.zeros([3, 4], FLOAT), "w": np.zeros([4, 5], FLOAT), "bias": np.zeros(6, FLOAT)},
        ("Add", "bad"),
    ),
    # the node around it is marked
    "branch": (
        """(float[8, 4] x, int64[2] i, bool c) => (float[2, 4] y) {
            r = Relu(x)
            around = If(c) <
                then_branch = t () => (float[2, 4] u) { bad = Gather(r, i) u = Exp(bad) },
                else_branch = e () => (float[2, 4] v) { zero = Sub(r, r) v = Gather(zero, i) }
            >
            y = Exp(around)
        }""",
        {"x": np.zeros([8, 4], FLOAT), "i": np.array([1, 9], INT), "c": np.array(True)},
        ("If", "around"),
    ),
    "loop": (
        """(float[8, 4] x, int64 n, int64[8] i) => (float[8, 4] y) {
            around = Loop(n, , x) <body = inside (int64 k, bool on, float[8, 4] s) => (bool next, float[8, 4] t) {
                next = Identity(on)
                bad = Gather(s, i)
                t = Exp(bad)
            }>
            y = Exp(around)
        }""",
        {"x": np.zeros([8, 4], FLOAT), "n": np.array(3), "i": np.array([1, 2, 3, 4, 5, 6, 7, 8])},
        ("Loop", "around"),
    ),
    # the graph is made for the shapes of a run
    "later": (
        """(float[1, n] x, int64[2] i) => (float[k] y) {
            r = Relu(x)
            s = Squeeze(r)
            bad = Gather(s, i)
            y = Exp(bad)
        }""",
        {"x": np.zeros([1, 5], FLOAT), "i": np.array([1, 9], INT)},
        ("Gather", "bad"),
    ),
    # names in which there are quotes
    "quotes": (
        """(float[n, 4] x) => (float[a, b] y) <int64[2] sizes = {2, 6}> {
            bad = Reshape(x, sizes)
            y = Exp(bad)
        }""",
        {"x": np.zeros([5, 4], FLOAT)},
        ("Reshape", "a 'bad': one"),
    ),
}


@pytest.mark.parametrize("source", ["path", "bytes"])
@pytest.mark.parametrize("kind", MODELS)
def test_the_node_of_the_file_is_marked(kind, source, tmp_path):
    from onnx import load_model_from_string

    text, inputs, (op, name) = MODELS[kind]
    made = load_model_from_string(onnx_models.bytes_of_text(text))
    for node in made.graph.node:
        if kind == "quotes" and node.output[0] == "bad":
            node.name = name
    content = made.SerializeToString()
    (tmp_path / "m.onnx").write_bytes(content)
    with megengine_lite.load(tmp_path / "m.onnx" if source == "path" else content, threads=1) as model:
        report = model.report(inputs, runs=1, warmup=0)
    (found,) = report.content["reports"]
    assert found["problem"] is not None
    assert [(n["op"], n["name"]) for n in found["nodes"] if n.get("failed")] == [(op, name)], found["problem"]
    operators = [n["op"] for n in found["nodes"] if n["kind"] == "operator"]
    assert sorted(operators) == sorted(n.op_type for n in made.graph.node)
    assert "ends with an error" in report.to_markdown()
    assert to_svg(found).count('class="operator failed"') == 1 and to_dot(found).count("color=red") == 1


def test_shapes_that_the_file_says_for_other_inputs_are_not_shown():
    from onnx import load_model_from_string, shape_inference

    text = """(float[4, 6] x) => (float[3, 8] y) <int64[2] sizes = {3, 8}> {
        r = Relu(x)
        bad = Reshape(r, sizes)
        y = Exp(bad)
    }"""
    made = shape_inference.infer_shapes(load_model_from_string(onnx_models.bytes_of_text(text)))
    assert {info.name for info in made.graph.value_info} == {"r", "bad"}
    model = megengine_lite.load(made.SerializeToString(), threads=1)

    def shown(size):
        (found,) = model.report({"x": np.zeros([size, 6], FLOAT)}, runs=1, warmup=0).content["reports"]
        return {n["name"]: n["outputs"][0]["shape"] for n in found["nodes"] if n["kind"] != "output"}

    assert shown(5) == {"x": [5, 6], "r": None, "bad": None, "y": None}


@pytest.mark.parametrize("name", ["add", ""])
def test_the_operator_of_a_file_of_megengine_is_marked(name):
    record = ModelRecord("v2", 101300, [input_operator(0, "x", (3,))], [(3, "")], {3: "y"})
    record.operators.append(constant_operator(1, (3,), data=bytes(12)))
    record.operators.append(operator("Softmax", (0,), (2,), params.Softmax(axis=0)))
    add = params.Elemwise(mode=params.ElemwiseMode.ADD)
    record.operators.append(operator("Elemwise", (2, 1), (3,), add, name=name))
    network = loaded(to_bytes(record))
    network.get_io_tensor("x").set_data_by_copy(np.zeros(5, np.float32))
    (found,) = network.report(runs=1).content["reports"]
    assert [n["op"] for n in found["nodes"] if n.get("failed")] == ["Elemwise"], found["problem"]


def test_errors_about_no_operator_mark_none():
    text = "(float[2] input) => (float[2] y) { output = Relu(input) y = Exp(output) }"
    model = load_model(onnx_models.bytes_of_text(text), check=False)
    for problem in ("there is not enough memory", "input 'input' has 1 dimensions", "output 'output' is wrong", "'"):
        report = ModelReport(without_run(model, "m", {}, problem))
        assert not any(n.get("failed") for n in report.content["reports"][0]["nodes"])
