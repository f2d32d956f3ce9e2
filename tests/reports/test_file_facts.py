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
    assert names[:3] == ["R", "W", "made for recurrent"]
    assert len({(w["name"], w["type"]) for w in report["weights"]}) == len(names)
    assert {reader.split()[0] for w in report["weights"] for reader in w["by"]} <= {"LSTM", "Relu"}
    sizes = [w["bytes"] for w in report["weights"]]
    assert sizes[:2] == [256 * 64 * 4, 256 * 40 * 4]
    assert sum(sizes) == report["model"]["parameter_bytes"]


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
