"""The command report."""

from __future__ import annotations

import io
import json
import re
import sys

import numpy as np
import pytest
from onnx import helper
from support import onnx_models
from support.api_samples import DIGITS, IMAGES, loaded
from support.loader_samples import input_operator, operator, to_bytes

from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite._core.ir import params
from megengine_lite._core.reports.model_report.layers import layer_results
from megengine_lite.cli import main

FEW = ("--iter", 1, "--warmup-iter", 0, "--batch-size", 2)


def test_report_is_printed_as_markdown(capsys):
    assert main(["report", str(DIGITS), "--iter", "1", "--batch-size", "2"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# digits.mge\n") and "## Time by kind of operator" in text
    assert re.search(r"\nShares are parts of the [\d.]+ ms of all steps; a run takes [\d.]+ ms\.\n", text)
    assert "| input | data float32 2x1x8x8 |" in text


@pytest.mark.parametrize(
    ("name", "begin"), [("r.html", "<!doctype"), ("r.md", "# "), ("r.json", "{"), ("r", "<!doctype")]
)
def test_report_is_written_in_the_form_of_the_name(run_json, tmp_path, name, begin):
    result = run_json("report", DIGITS, "-o", tmp_path / name, *FEW)
    assert result["written"] == {str(tmp_path / name): (tmp_path / name).stat().st_size}
    assert (tmp_path / name).read_text().startswith(begin)


def test_format_goes_before_the_name(run_json, capsys, tmp_path):
    run_json("report", DIGITS, "-o", tmp_path / "r.txt", "--format", "json", *FEW)
    content = json.loads((tmp_path / "r.txt").read_text())
    assert content["reports"][0]["name"] == "digits.mge"
    assert main(["report", str(DIGITS), "--format", "json", *map(str, FEW)]) == 0
    assert json.loads(capsys.readouterr().out)["reports"][0]["settings"]["runs"] == 1


def test_two_settings_stand_side_by_side(run_json):
    result = run_json("report", DIGITS, "--other=--isa base --threads 2", "--layers", *FEW)
    assert [r["name"] for r in result["reports"]] == ["digits.mge", "digits.mge --isa base --threads 2"]
    assert [r["machine"]["threads"] for r in result["reports"]] == [1, 2]
    assert result["comparison"]["settings"] == [
        {"name": "kernels", "values": [result["reports"][0]["machine"]["kernels"], "base"]},
        {"name": "threads", "values": ["1", "2"]},
    ]
    assert result["reports"][1]["machine"]["kernels"] == "base"
    assert result["comparison"]["names"] == [r["name"] for r in result["reports"]]
    assert len(result["layers"]["layers"]) == 11 and result["layers"]["first"] is None


def test_two_models_stand_side_by_side(run_json, tmp_path):
    (tmp_path / "other.mge").write_bytes(DIGITS.read_bytes())
    result = run_json("report", DIGITS, "--against", tmp_path / "other.mge", *FEW)
    assert [r["name"] for r in result["reports"]] == ["digits.mge", "other.mge"] and "layers" not in result


def test_model_with_unknown_operators_gets_a_report(run_json, tmp_path):
    record = ModelRecord("v2", 101300, [input_operator(0, "x", (2, 3))], [(1, "")], {1: "y"})
    record.operators.append(operator("Frobnicate", (0,), (1,), params.Softmax(axis=1)))
    (tmp_path / "m.mge").write_bytes(to_bytes(record))
    result = run_json("report", tmp_path / "m.mge", "-o", tmp_path / "r.html")
    (report,) = result["reports"]
    assert report["problem"] == "1 operator is not supported"
    assert [n["op"] for n in report["nodes"]] == ["Input", "Frobnicate", "Output"]
    assert "Frobnicate" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_page_is_printed_as_it_is_written(run_json, tmp_path, monkeypatch, encoding):
    """In every encoding: a browser runs the script only if its digest is that in the page."""
    record = ModelRecord("v2", 101300, [input_operator(0, "größe×\u4e2d", (2, 3))], [(1, "")], {1: "y"})
    record.operators.append(operator("Frobnicate", (0,), (1,), params.Softmax(axis=1), name="µ"))
    model = tmp_path / "größe…\u4e2d.mge"
    model.write_bytes(to_bytes(record))
    run_json("report", model, "-o", tmp_path / "r.html")
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
    assert main(["report", str(model), "--format", "html"]) == 0
    sys.stdout.flush()
    assert raw.getvalue() == (tmp_path / "r.html").read_bytes() + b"\n"
    assert b"<title>gr&#246;&#223;e&#8230;&#20013;.mge</title>" in raw.getvalue()


FLOAT, STRING = 1, 8


def foreign_model(tmp_path, nodes, kind=FLOAT, opset=17):
    """A file with an ONNX model from x to y, which has a weight w."""
    sets = [helper.make_opsetid("other", 1)]
    ends = [("x", kind, ["n", 4])], [("y", kind, None)]
    model = onnx_models.make(nodes, *ends, {"w": np.zeros([4, 2], "float32")}, opset, opsets=sets)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    return tmp_path / "m.onnx"


UNKNOWN = [
    helper.make_node("Relu", ["x"], ["a"]),
    helper.make_node("Frobnicate", ["a"], ["b"], name="first", domain="other", alpha=0.5, how="so", sizes=[2, 3]),
    helper.make_node("MatMul", ["b", "w"], ["c"], name="product"),
    helper.make_node("Frobnicate", ["c"], ["y"], name="second", domain="other"),
]


def test_onnx_model_with_unknown_operators_gets_its_graph(run_json, tmp_path):
    (report,) = run_json("report", foreign_model(tmp_path, UNKNOWN), "-o", tmp_path / "r.html")["reports"]
    assert (
        report["problem"].startswith("these nodes cannot be run: other.Frobnicate 'first'")
        and "other.Frobnicate 'second'" in report["problem"]
    )
    operators = [n for n in report["nodes"] if n["kind"] == "operator"]
    assert [(n["op"], n["name"], n["unknown"]) for n in operators] == [
        ("Relu", "a", False),
        ("other.Frobnicate", "first", True),
        ("MatMul", "product", False),
        ("other.Frobnicate", "second", True),
    ]
    assert operators[1]["parameters"] == {"alpha": 0.5, "how": "so", "sizes": "2, 3"}
    assert report["edges"] == [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5]]
    assert report["nodes"][0]["outputs"] == [{"type": "float32", "shape": [1, 4]}]
    assert [(w["name"], w["shape"], w["by"]) for w in report["weights"]] == [("w", [4, 2], ["MatMul product"])]
    assert "other.Frobnicate" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    ("changes", "problem"), [({"opset": 99}, "operators of version 99"), ({"kind": STRING}, "elements of type STRING")]
)
def test_onnx_model_that_cannot_be_read_gets_its_graph(run_json, tmp_path, changes, problem):
    path = foreign_model(tmp_path, [UNKNOWN[0], helper.make_node("MatMul", ["a", "w"], ["y"])], **changes)
    (report,) = run_json("report", path)["reports"]
    assert problem in report["problem"]
    assert [n["op"] for n in report["nodes"]] == ["Input", "Relu", "MatMul", "Output"]
    assert not any(n.get("unknown") for n in report["nodes"])
    found = run_json("info", path)
    assert problem in found["problem"] and found["operators"] == {"Relu": 1, "MatMul": 1}
    assert found["slow_here"] is None and found["unsupported"] == [] and found["parameters"] == 8
    (given,) = run_json("info", path, "--shape", "x=3x4")["inputs"]
    assert given["shape"] == (None if "kind" in changes else [3, 4])


@pytest.mark.parametrize(
    ("nodes", "problem", "drawn", "failed"),
    [
        ([("Add", "x b", "y"), ("Neg", "y", "b")], "the nodes 'y' and 'b' need each other's results", "Add Neg", "y"),
        ([("Add", "x y", "y")], "the node 'y' needs its own result", "Add", "y"),
        ([("Neg", "none", "y")], "the value 'none' is read, and no node before it makes it", "Neg", ""),
        (
            [("Abs", "x", "y"), ("Neg", "x", "y")],
            "the result 'y' of Neg 'y' is the result of another node, too; give one of them another name",
            "Abs Neg", "y",
        ),
        ([("Abs", "x", "z")], "the value 'y' is read, and no node before it makes it", "", ""),
    ],
    ids=["cycle", "own result", "missing value", "one name", "missing output"],
)  # fmt: skip
def test_onnx_model_whose_parts_do_not_fit_gets_its_graph(run_json, tmp_path, nodes, problem, drawn, failed):
    made = [helper.make_node(op, read.split(), [name]) for op, read, name in nodes]
    path = foreign_model(tmp_path, made)
    (report,) = run_json("report", path, "-o", tmp_path / "r.html")["reports"]
    assert report["problem"] == problem == run_json("info", path)["problem"]
    operators = [n for n in report["nodes"] if n["kind"] == "operator"]
    assert [n["op"] for n in operators] == drawn.split()
    assert [n["name"] for n in operators if n.get("failed")] == failed.split()
    assert report["nodes"][0]["op"] == "Input" and report["nodes"][-1]["op"] == "Output"
    assert all(source < target for source, target in report["edges"])


def test_many_nodes_that_cannot_run_take_a_line_and_are_all_in_the_report(run_json, error_of, tmp_path):
    """Every operator is named, and of each the first nodes; JSON has all."""
    nodes, last = [], "x"
    for k in range(300):
        nodes.append(helper.make_node(f"Foo{k % 3}", [last], [f"n{k}"], domain="other"))
        last = f"n{k}"
    path = foreign_model(tmp_path, [*nodes, helper.make_node("Bar", [last], ["y"], domain="other")])
    nodes_of = [f"other.Foo{k} " + ", ".join(f"'n{k + 3 * i}'" for i in range(5)) + " and 95 more" for k in range(3)]
    why = "(there is no such operator here)"
    problem = f"these nodes cannot be run: {'; '.join(f'{n} {why}' for n in nodes_of)}; other.Bar 'y' {why}"
    assert error_of("run", path) == (
        f"megengine-lite: error: {path}: {problem}; register_operator('other.Foo0') defines one in Python\n"
    )
    (report,) = run_json("report", path)["reports"]
    assert report["problem"].startswith(problem) and len(report["model"]["unsupported"]) == 301
    assert len(run_json("info", path)["unsupported"]) == 301


@pytest.mark.parametrize("words", [["report", "-o", "x.pdf"], ["info", "--graph", "x.txt"]], ids=" ".join)
def test_names_that_say_no_form_are_wrong_usage(error_of, words, monkeypatch):
    monkeypatch.setattr("megengine_lite._core.formats.load.load_model", lambda *_: pytest.fail("the model is loaded"))
    assert "choose a name that ends so" in error_of(words[0], DIGITS, *words[1:], status=2)


def test_files_of_which_nothing_can_be_told_are_errors(error_of, run_json, tmp_path):
    (tmp_path / "cut.onnx").write_bytes(foreign_model(tmp_path, UNKNOWN[:1]).read_bytes()[:50])
    assert "cut.onnx" in error_of("report", tmp_path / "cut.onnx", "-o", tmp_path / "r.html")
    error = error_of("report", DIGITS, "--prepared", tmp_path / "cut.onnx")
    assert "not a prepared file" in error
    (tmp_path / "empty.onnx").write_bytes(onnx_models.make([], [], []).SerializeToString())
    (report,) = run_json("report", tmp_path / "empty.onnx", "-o", tmp_path / "r.html")["reports"]
    assert (report["problem"], report["nodes"]) == ("the model has no outputs", [])


def test_branches_and_functions_with_unknown_operators_are_marked(run_json, tmp_path):
    def branch(*nodes):
        return helper.make_graph(nodes, "branch", [], [helper.make_tensor_value_info("r", FLOAT, None)])

    inside = branch(helper.make_node("Frobnicate", ["x"], ["r"], domain="other"))
    plain = branch(helper.make_node("Neg", ["x"], ["r"]))
    nodes = [
        helper.make_node("Not", ["flag"], ["no"]),
        helper.make_node("If", ["no"], ["y"], name="choice", then_branch=inside, else_branch=plain),
    ]
    model = onnx_models.make(
        nodes, [("x", FLOAT, [4]), ("flag", 9, [])], [("y", FLOAT, None)], opsets=[helper.make_opsetid("other", 1)]
    )
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    (report,) = run_json("report", tmp_path / "m.onnx")["reports"]
    assert [(n["op"], n["inside"]) for n in report["nodes"] if n.get("unknown")] == [("If", ["other.Frobnicate r"])]
    assert report["model"]["unsupported"] == [{"operator": "other.Frobnicate", "name": "r", "inside": "If choice"}]
    names = {(report["nodes"][a]["name"], report["nodes"][b]["name"]) for a, b in report["edges"]}
    assert names == {("flag", "no"), ("no", "choice"), ("x", "choice"), ("choice", "y")}


def test_unknown_operators_in_functions_and_deep_in_branches_are_named(run_json, capsys, tmp_path):
    def branch(*nodes):
        return helper.make_graph(nodes, "branch", [], [helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, None)])

    sets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1), helper.make_opsetid("other", 1)]
    unknown = helper.make_node("Foo", ["a"], ["t"], name="foo", domain="other")
    functions = [
        helper.make_function("own", "Inner", ["a"], ["b"], [unknown, helper.make_node("Neg", ["t"], ["b"])], sets),
        helper.make_function(
            "own", "Outer", ["a"], ["b"], [helper.make_node("Inner", ["a"], ["b"], domain="own")], sets
        ),
    ]
    nodes = [
        helper.make_node("Outer", ["x"], ["u"], name="call", domain="own"),
        helper.make_node(
            "If", ["flag"], ["v"], name="choice",
            then_branch=branch(helper.make_node("Outer", ["x"], ["p"], domain="own")),
            else_branch=branch(
                helper.make_node("Bar", ["x"], ["q"], domain="other"), helper.make_node("Abs", ["x"], ["r"])
            ),
        ),
        helper.make_node("Add", ["u", "v"], ["y"], name="sum"),
    ]  # fmt: skip
    inputs = [("x", FLOAT, [4]), ("flag", 9, [])]
    model = onnx_models.make(nodes, inputs, [("y", FLOAT, None)], functions=functions, opsets=sets[1:])
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    found = run_json("info", path)["unsupported"]
    assert {"operator": "other.Foo", "name": "foo", "inside": "own.Outer call"} in found
    assert {"operator": "other.Foo", "name": "foo", "inside": "If choice"} in found
    assert {u["operator"] for u in found} == {"other.Foo"}  # nobody needs Bar
    assert main(["info", str(path)]) == 0 and "inside of" in capsys.readouterr().out
    assert main(["report", str(path)]) == 0 and "other.Foo foo" in capsys.readouterr().out
    (report,) = run_json("report", path)["reports"]
    assert [n["name"] for n in report["nodes"] if n.get("unknown")] == ["call", "choice"]


def test_stored_values_are_compared_in_the_report(run_json, capsys, tmp_path):
    network = loaded(DIGITS)
    network.get_io_tensor("data").set_data_by_copy(IMAGES[:3])
    values = {r.name: r.array for r in layer_results(network._engine.explained_session({}))}
    assert len(values) == 11
    stored = {name: values[name] for name in ("c1.RELU", "c2.RELU", "prob")}
    stored["c2.RELU"] = stored["c2.RELU"] + 1
    np.savez(tmp_path / "a.npz", in_data=IMAGES[:3], other=np.zeros(2), **stored)
    flags = ("--layers", "--against", tmp_path / "a.npz", "--iter", 1)
    result = run_json("report", DIGITS, *flags)
    assert len(result["reports"]) == 1 and "comparison" not in result
    layers = result["layers"]
    assert layers["names"] == ["digits.mge", "a.npz"]
    assert [(x["name"], x["equal"]) for x in layers["layers"]] == [
        ("c1.RELU", True),
        ("c2.RELU", False),
        ("prob", True),
    ]
    assert layers["first"] == 1 and layers["layers"][1]["difference"] == pytest.approx(1, abs=1e-6)
    assert main(["report", str(DIGITS), *map(str, flags)]) == 0
    assert "The first that differs: FusedConv c2.RELU" in capsys.readouterr().out


def test_layers_of_a_model_that_does_not_run_are_left_out(run_json, tmp_path):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    model = onnx_models.make(nodes, [("x", FLOAT, [2, 3])], [("y", FLOAT, None)], {"w": np.zeros([4, 2], "float32")})
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    result = run_json("report", tmp_path / "m.onnx", "--layers", "--other=--isa base")
    assert result["reports"][0]["problem"] == "MatrixMul 'y': a 2x3 matrix cannot be multiplied by a 4x2 matrix"
    assert "layers" not in result


def test_models_that_wait_for_shapes_show_the_graph_of_the_file(run_json, tmp_path):
    nodes = [
        helper.make_node("Squeeze", ["x"], ["s"]),  # of which dimensions there are decides the shapes behind it
        helper.make_node("MatMul", ["s", "w"], ["y"]),
    ]
    model = onnx_models.make(
        nodes, [("x", FLOAT, ["n", "a", 4])], [("y", FLOAT, None)], {"w": np.ones([4, 2], "float32")}
    )
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    (report,) = run_json("report", path, "--input-desc", "x:2,1,3", "--iter", 1)["reports"]
    assert report["problem"].endswith(
        "; with other sizes of x, which the model leaves open and which were 1, it may run"
    )
    assert [n["op"] for n in report["nodes"]] == ["Input", "Squeeze", "MatMul", "Output"]
    assert not any(n.get("unknown") for n in report["nodes"])
    assert report["model"]["parameters"] == 8 and [w["name"] for w in report["weights"]] == ["w"]
    assert report["model"]["inputs"] == [{"name": "x", "dtype": "float32", "shape": [2, 1, 3]}]
    (report,) = run_json("report", path, "--input-desc", "x:2,1,4", "--iter", 1)["reports"]
    assert report["problem"] is None and report["model"]["operators"] == {"Squeeze": 1, "MatMul": 1}
    assert str(tmp_path) not in json.dumps(report)


def test_wrong_usage_is_told_before_anything_is_measured(error_of, tmp_path):
    assert "--layers compares two runs" in error_of("report", DIGITS, "--layers", status=2)
    assert "report --other: error" in error_of("report", DIGITS, "--other=--bogus", status=2)
    assert "cannot be written" in error_of("report", DIGITS, "-o", tmp_path / "no" / "r.html", *FEW)
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    assert "--against names stored" in error_of(
        "report", DIGITS, "--layers", "--against", tmp_path / "a.npz", "--other=--threads 2", status=2
    )
    assert "Arrays are inputs" in error_of("report", DIGITS, "--against", tmp_path / "a.npz", *FEW)
