"""What reports and info say of an ONNX file: its own operators and tensors, not those of the graph made from it."""

from __future__ import annotations

import json
import re
from collections import Counter
from xml.etree import ElementTree

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


def test_one_is_told_as_one(capsys, tmp_path):
    """Whatever is counted."""
    model = onnx_models.make([helper.make_node("Neg", ["x"], ["y"])], [("x", FLOAT, [2])], [("y", FLOAT, [2])])
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    said = ""
    for command in (["info"], ["verify", "--layers"], ["profile"], ["report", "--iter=1"], ["run", "--input=[1,2]"]):
        assert main([command[0], str(tmp_path / "m.onnx"), *command[1:]]) == 0
        said += capsys.readouterr().out
    assert re.findall(r"(?<!of )(?<![\d.])1 (?:node|operator|result|step|core|round)s", said) == []
    assert "operators   1 node, imported as 1 operator\n" in said and "1 result compared;" in said
    profile = megengine_lite.load(model.SerializeToString()).profile(runs=1)
    assert repr(profile).startswith("<ModelProfile model, 1 step, ")


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
    assert "operators   2 nodes, imported as " in capsys.readouterr().out


def test_operators_in_branches_are_counted(run_json, tmp_path):
    text = """(float[4] x, bool c) => (float[4] y) {
        b = If(c) <then_branch = t () => (float[4] u) { a = Relu(x) u = Abs(a) }, else_branch = e () => (float[4] v) { v = Neg(x) }>
        y = Sigmoid(b)
    }"""  # noqa: E501
    (tmp_path / "m.onnx").write_bytes(onnx_models.bytes_of_text(text))
    assert run_json("info", tmp_path / "m.onnx")["file_operators"] == 5


FILES = {
    # sizes that are computed, and become constants
    "sizes": """(float[n, 4, 6] x) => (float[a, b] y) <float[24, 8] w, int64 zero = {0}, int64[1] rest = {-1}> {
        shape = Shape(x)
        first = Gather(shape, zero)
        row = Unsqueeze(first, zero_axis)
        zero_axis = Constant <value_ints = [0]> ()
        sizes = Concat <axis = 0> (row, rest)
        flat = Reshape(x, sizes)
        y = MatMul(flat, w)
    }""",
    # operators of other domains, and a function
    "domains": """(float[2, 4] x) => (float[2, 4] y) <float[4, 4] w> {
        g = com.microsoft.Gelu(x)
        m = own.twice(g, w)
        s = MatMul(m, w)
        y = own.twice(s, w)
    }
    <domain: "own", opset_import: ["": 20]> twice (a, w) => (c) { t = Gemm(a, w) c = Gemm(t, w) }""",
    "branches": """(float[4] x, bool c) => (float[4] y) {
        b = If(c) <
            then_branch = t () => (float[4] u) { a = Relu(x) u = Abs(a) },
            else_branch = e () => (float[4] v) { v = Neg(x) }
        >
        y = Sigmoid(b)
    }""",
    # the graph is made for the shapes of a run
    "later": "(float[1, n] x) => (float[k] y) { a = Relu(x) b = Squeeze(a) y = Relu(b) }",
    "unsupported": "(float[2] x) => (float[2] y) { a = Relu(x) b = other.Frobnicate(a) y = Relu(b) }",
}


def made_of(kind: str):
    """The model, in which the weights ``w`` are ones."""
    from onnx import numpy_helper, parser

    header = '<ir_version: 8, opset_import: ["": 20, "own": 1, "other": 1, "com.microsoft": 1]> graph '
    model = parser.parse_model(header + FILES[kind])
    for info in model.graph.value_info:
        shape = [d.dim_value for d in info.type.tensor_type.shape.dim]
        model.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), info.name))
    return model


def called(node) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def nodes_with_branches(graph):
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from nodes_with_branches(attribute.g)


@pytest.mark.parametrize("kind", sorted(FILES))
def test_info_tells_of_the_nodes_of_the_file(kind, run_json, capsys, tmp_path):
    """Their types, names and arrows are those of the package onnx, which reads the same file."""
    model = made_of(kind)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    found = run_json("info", path, "--layers", "--graph", tmp_path / "g.json")
    wanted = Counter(map(called, nodes_with_branches(model.graph)))
    assert found["operators_in_file"] == wanted and found["file_operators"] == wanted.total()

    nodes = list(model.graph.node)
    assert {(n["operator"], n["name"]) for n in found["file_layers"]} == {(called(n), n.output[0]) for n in nodes}
    whole = json.loads((tmp_path / "g.json").read_text())
    graph = whole.get("file", whole)
    boxes = graph["nodes"]
    assert sorted(b["op"] for b in boxes if b["kind"] == "operator") == sorted(map(called, nodes))
    makers = {n.output[0]: n.output[0] for n in nodes} | {i.name: i.name for i in model.graph.input}
    arrows = {(makers[i], n.output[0]) for n in nodes for i in n.input if i in makers}
    drawn = {(boxes[a]["name"], boxes[b]["name"]) for a, b in graph["edges"] if boxes[b]["kind"] != "output"}
    assert drawn >= arrows and all(a == "x" and b == "b" for a, b in drawn - arrows)  # a branch reads x
    assert [b["op"] for b in boxes if b.get("unknown")] == ["other.Frobnicate"] * (kind == "unsupported")

    assert main(["info", str(path), "--layers", "--graph", str(tmp_path / "g.svg")]) == 0
    shown = capsys.readouterr().out
    assert f"operators   {wanted.total()} nodes" in shown
    table = re.search(r"\noperator +count.*?\n-.*?\n(.*?)\n\n", shown, re.S)[1]
    counted = [line.split() for line in table.splitlines() if re.match(r"\S+ +\d+(  |$)", line)]
    assert {words[0]: int(words[1]) for words in counted if words[0] in wanted} == wanted
    titles = [e.text for e in ElementTree.parse(tmp_path / "g.svg").getroot().iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == 1 + len(boxes) and "GetVarShape" not in shown + "".join(titles)


def test_nodes_of_the_file_have_their_shapes_and_work(run_json, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(made_of("sizes").SerializeToString())
    arguments = ["info", path, "--shape", "x=5x4x6", "--layers", "--graph", tmp_path / "g.json"]
    found = run_json(*arguments)
    layers = {n["name"]: n for n in found["file_layers"]}
    assert layers["flat"]["inputs"][0] == [5, 4, 6] and layers["flat"]["outputs"] == [[5, 24]]
    assert layers["y"]["outputs"] == [[5, 8]] and layers["y"]["multiply_adds"] == 5 * 24 * 8
    assert found["multiply_adds_in_file"] == {"MatMul": 5 * 24 * 8}
    nodes = {n["name"]: n for n in json.loads((tmp_path / "g.json").read_text())["file"]["nodes"]}
    assert nodes["x"]["outputs"][0]["shape"] == [5, 4, 6]
    assert [t["type"] for t in nodes["flat"]["inputs"]] == ["float32", "int64"]
    assert nodes["y"]["outputs"][0]["shape"] == [5, 8]
    # what scripts read: the graph that is made of the file
    assert len(found["layers"]) == sum(found["operators"].values()) and "GetVarShape" in found["operators"]
    made = json.loads((tmp_path / "g.json").read_text())["nodes"]
    assert [n["op"] for n in made if n["kind"] == "operator"] == [n["operator"] for n in found["layers"]]


def test_work_inside_of_functions_is_told(run_json, capsys, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(made_of("domains").SerializeToString())
    found = run_json("info", path)
    assert found["multiply_adds_in_file"] == {"Gemm": 4 * 2 * 4 * 4, "MatMul": 2 * 4 * 4}
    assert main(["info", str(path)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"\nGemm +128 +80.0 %\n", shown) and "in functions of the model" in shown


def test_a_text_of_any_length_among_attributes_is_no_error(run_json, tmp_path):
    node = helper.make_node("Elu", ["x"], ["y"], alpha=2.0, name="e")
    node.attribute.append(helper.make_attribute("note", "t" * 50_000))
    model = onnx_models.make([node], [("x", FLOAT, [2])], [("y", FLOAT, [2])])
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    run_json("info", tmp_path / "m.onnx", "--graph", tmp_path / "g.json")
    graph = json.loads((tmp_path / "g.json").read_text())
    nodes = graph.get("file", graph)["nodes"]
    assert [n["parameters"]["alpha"] for n in nodes if n["kind"] == "operator"] == [2.0]


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
