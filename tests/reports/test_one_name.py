"""A step has one name wherever people see it: in a profile, a report, a comparison and a trace."""

import json

import numpy as np
import pytest
from support import onnx_models
from support.api_samples import DIGITS

from megengine_lite.cli import main

onnx = pytest.importorskip("onnx")
from onnx import helper  # noqa: E402


def onnx_model() -> bytes:
    """Nodes with names that are not those of their results, some of which are merged, or have several results."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Softmax", ["r"], ["s"]),
        helper.make_node("Split", ["s"], ["a", "b"], name="split", axis=1),
        helper.make_node("Tanh", ["a"], ["z"], name="tanh"),
        helper.make_node("Add", ["s", "r"], ["y"], name="sum"),
    ]
    outputs = [("y", 1, [1, 4, 8, 8]), ("z", 1, [1, 2, 8, 8])]
    weight = np.ones((4, 4, 3, 3), np.float32)
    return onnx_models.make(nodes, [("x", 1, [1, 4, 8, 8])], outputs, {"w": weight}).SerializeToString()


@pytest.mark.parametrize("kind", ["mge", "onnx"])
def test_profiles_reports_comparisons_and_traces_agree(kind, run_json, tmp_path, capsys):
    path = str(DIGITS)
    if kind == "onnx":
        path = str(tmp_path / "m.onnx")
        (tmp_path / "m.onnx").write_bytes(onnx_model())
    steps = run_json("profile", path, "--iter", 1)["steps"]
    (report,) = run_json("report", path, "--iter", 1)["reports"]
    layers = run_json("verify", path, "--layers")["layers"]["layers"]
    boxes = {(n["op"], n["name"]) for n in report["nodes"] if n["kind"] == "operator"}
    boxes |= {(v["op"], v["name"]) for n in report["nodes"] for v in n.get("views", ())}
    profiled = {(s["operator"], s["name"]) for s in steps}
    assert len(profiled & boxes) > 3 and len(layers) > 3
    # What a report counts to the operator that needs it, a profile has as a step of its own.
    assert {op for op, _ in profiled - boxes} <= {"Halo", "Relayout"}, profiled - boxes
    assert {(layer["op"], layer["name"]) for layer in layers} <= boxes
    capsys.readouterr()
    main(["profile", path, "--iter", "1", "--output", str(tmp_path / "t.json")])
    events = [e for e in json.loads((tmp_path / "t.json").read_text())["traceEvents"] if e["ph"] == "X"]
    assert [e["name"] for e in events] == [s["name"] for s in steps]


def test_a_model_without_steps_has_a_profile(run_json, capsys, tmp_path):
    """Its output follows from constants, or is the input."""
    for k, nodes in enumerate(([helper.make_node("Constant", [], ["y"], value_floats=[1.0, 2.0])], [])):
        outputs = [("y" if nodes else "x", 1, [2])]
        path = tmp_path / f"{k}.onnx"
        path.write_bytes(onnx_models.make(nodes, [("x", 1, [2])], outputs).SerializeToString())
        assert run_json("profile", path)["total_ms"] < 1
        for form in ("chrome", "megengine"):
            trace = tmp_path / f"{k}.{form}"
            assert main(["profile", str(path), "--output", str(trace), "--form", form]) == 0
            assert "all" in capsys.readouterr().out and json.loads(trace.read_text())
