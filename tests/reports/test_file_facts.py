"""What reports and info say of an ONNX file: its own operators and tensors, not those of the graph made from it."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper
from support import onnx_models

import megengine_lite
from megengine_lite.cli import main

FLOAT = 1


@pytest.fixture(scope="module")
def lstm() -> bytes:
    """Two operators, for which the graph has many."""
    rng = np.random.default_rng(0)
    weights = {"W": (1, 256, 40), "R": (1, 256, 64), "B": (1, 512)}
    stored = {name: rng.random(shape, np.float32) for name, shape in weights.items()}
    nodes = [
        helper.make_node("LSTM", ["x", "W", "R", "B"], ["all"], name="recurrent", hidden_size=64),
        helper.make_node("Relu", ["all"], ["y"]),
    ]
    model = onnx_models.make(nodes, [("x", FLOAT, [5, 1, 40])], [("y", FLOAT, [5, 1, 1, 64])], stored)
    return model.SerializeToString()


def test_operators_of_the_file_are_counted(lstm, run_json, capsys, tmp_path):
    model = megengine_lite.load(lstm)
    report = model.report(runs=1, warmup=0)
    (content,) = report.content["reports"]
    assert content["model"]["file_operators"] == 2 < sum(content["model"]["operators"].values())
    assert "| operators in the file | 2 |" in report.to_markdown()
    assert report.beside(report).content["comparison"]["file_operators"] == [2, 2]
    (tmp_path / "m.onnx").write_bytes(lstm)
    assert run_json("info", tmp_path / "m.onnx")["file_operators"] == 2
    assert main(["info", str(tmp_path / "m.onnx")]) == 0
    assert "operators   2, imported as " in capsys.readouterr().out


def test_operators_in_branches_are_counted(run_json, tmp_path):
    text = """(float[4] x, bool c) => (float[4] y) {
        b = If(c) <then_branch = t () => (float[4] u) { a = Relu(x) u = Abs(a) }, else_branch = e () => (float[4] v) { v = Neg(x) }>
        y = Sigmoid(b)
    }"""  # noqa: E501
    (tmp_path / "m.onnx").write_bytes(onnx_models.bytes_of_text(text))
    assert run_json("info", tmp_path / "m.onnx")["file_operators"] == 5


def test_weights_have_the_readers_of_the_file_once(lstm):
    (report,) = megengine_lite.load(lstm).report(runs=1, warmup=0).content["reports"]
    names = [w["name"] for w in report["weights"]]
    assert names == ["R", "W", "B"]
    assert [w["by"] for w in report["weights"]] == [["LSTM recurrent"]] * 3
    assert [w["shape"] for w in report["weights"]] == [[1, 256, 64], [1, 256, 40], [1, 512]]
    assert sum(w["bytes"] for w in report["weights"]) == report["model"]["parameter_bytes"]
    assert report["model"]["parameters"] == 256 * 64 + 256 * 40 + 512


STORED = {
    # quantized weights stay what the file has
    "quantized": (
        """(float[2, 4] x) => (float[2, 3] y)
        <int8[4, 3] w = {1,2,3,4,5,6,7,8,9,10,11,12}, float s = {0.5}, int8 z = {0}, float[3] b = {1, 2, 3}> {
            r = DequantizeLinear(w, s, z)
            m = MatMul(x, r)
            y = Add(m, b)
        }""",
        {"w": ("int8", 12, ["DequantizeLinear r"]), "b": ("float32", 3, ["Add y"])}
        | {"s": ("float32", 1, ["DequantizeLinear r"]), "z": ("int8", 1, ["DequantizeLinear r"])},
    ),
    # nodes of constants, one of which only a node reads that is computed at once
    "nodes": (
        """(float[2, 4] x) => (float[4, 2] y) {
            w = Constant <value = float[2, 4] {1, 2, 3, 4, 5, 6, 7, 8}> ()
            first = Constant <value_ints = [4]> ()
            second = Constant <value = int64[1] {2}> ()
            sizes = Concat <axis = 0> (first, second)
            s = Add(x, w)
            y = Reshape(s, sizes)
        }""",
        {"w": ("float32", 8, ["Add s"]), "first": ("int64", 1, ["Concat sizes"])}
        | {"second": ("int64", 1, ["Concat sizes"])},
    ),
    # a branch reads a tensor from outside, and has its own
    "branches": (
        """(float[4] x, bool c) => (float[4] y) <float[4] w = {1, 2, 3, 4}> {
            y = If(c) <
                then_branch = t () => (float[4] u) <float[4] v = {5, 6, 7, 8}> { a = Add(x, w) u = Mul(a, v) },
                else_branch = e () => (float[4] n) { n = Sub(x, w) }
            >
        }""",
        {"w": ("float32", 4, ["Add a", "Sub n"]), "v": ("float32", 4, ["Mul u"])},
    ),
    # each call of a function reads the tensor of its node
    "functions": (
        """(float[2] x) => (float[2] y) <float[2] w = {1, 2}> { m = own.shifted(x, w) y = own.shifted(m, w) }
        <domain: "own", opset_import: ["": 20]>
        shifted (a, b) => (c) { s = Constant <value = float[2] {3, 4}> () t = Add(a, s) c = Add(t, b) }""",
        {"w": ("float32", 2, ["Add c"]), "s": ("float32", 2, ["Add t"])},
    ),
    # nobody needs what the second reads
    "unread": (
        "(float[2] x) => (float[2] y) <float[2] w = {1, 2}, float[2] v = {1, 2}> { y = Add(x, w) z = Add(x, v) }",
        {"w": ("float32", 2, ["Add y"])},
    ),
    # the graph is made for the shapes of a run, because of the Squeeze
    "later": (
        """(float[1, n] x) => (float[k] y) <float[2] w = {1, 2}> {
            v = Constant <value = float[2] {3, 4}> ()
            a = Add(x, w)
            b = Add(a, v)
            y = Squeeze(b)
        }""",
        {"w": ("float32", 2, ["Add a"]), "v": ("float32", 2, ["Add b"])},
    ),
}


@pytest.mark.parametrize("kind", sorted(STORED))
def test_weights_are_the_tensors_that_the_file_stores(kind, run_json, tmp_path):
    text, wanted = STORED[kind]
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx_models.bytes_of_text(text))
    shapes = {"x": (1, 2)} if kind == "later" else {}
    model = megengine_lite.load(path)
    inputs = {d.name: np.ones(shapes.get(d.name, d.shape), d.dtype) for d in model.inputs}
    (report,) = model.report(inputs, runs=1, warmup=0).content["reports"]
    found = {w["name"]: (w["type"], int(np.prod(w["shape"])), w["by"]) for w in report["weights"]}
    assert found == wanted and len(report["weights"]) == len(wanted)
    facts = run_json("info", path)
    assert facts["parameters"] == report["model"]["parameters"] == sum(size for _, size, _ in wanted.values())
    assert facts["parameter_bytes"] == sum(w["bytes"] for w in report["weights"])


@pytest.mark.parametrize(
    ("op", "index", "attributes", "chosen"),
    [
        ("Gather", [3, 5], {"axis": 0}, 2 * 64),
        ("GatherND", [[3, 1], [5, 2]], {}, 2),
        ("GatherElements", [[3] * 64], {"axis": 0}, 64),
        ("Slice", [], {}, 2 * 64),
    ],
)
def test_bytes_of_indexing_are_those_of_what_is_chosen(op, index, attributes, chosen):
    numbers = {"i": np.array(index, np.int64)}
    given = {"Slice": {"from": np.array([3]), "to": np.array([5])}}.get(op, numbers)
    node = helper.make_node(op, ["table", *given], ["y"], **attributes)
    model = onnx_models.make([node], [("table", FLOAT, [1000, 64])], [("y", FLOAT, None)], given)
    (report,) = megengine_lite.load(model.SerializeToString()).report(runs=1, warmup=0).content["reports"]
    (found,) = [n for n in report["nodes"] if n["kind"] == "operator"]
    indexes = sum(np.prod(i["shape"]) * (4 if i["type"] == "int32" else 8) for i in found["inputs"][1:])
    assert found["bytes"] == 2 * 4 * chosen + indexes
