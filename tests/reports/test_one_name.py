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


@pytest.mark.parametrize("kind", ["mge", "onnx", "without names of tensors"])
def test_profiles_reports_comparisons_and_traces_agree(kind, run_json, tmp_path, capsys):
    path = str(DIGITS)
    if kind != "mge":
        path = str(tmp_path / "m.onnx")
        (tmp_path / "m.onnx").write_bytes(onnx_model())
    if kind == "without names of tensors":
        main(["convert", path, path := str(tmp_path / "m.mge")])
    capsys.readouterr()
    steps = run_json("profile", path, "--iter", 1)["steps"]
    assert kind == "mge" or {"relu", "sum"} <= {s["name"] for s in steps}
    (report,) = run_json("report", path, "--iter", 1)["reports"]
    layers = run_json("verify", path, "--layers")["layers"]["layers"]
    boxes = {(n["op"], n["name"]) for n in report["nodes"] if n["kind"] == "operator"}
    boxes |= {(v["op"], v["name"]) for n in report["nodes"] for v in n.get("views", ())}
    profiled = {(s["operator"], s["name"]) for s in steps}
    assert len(profiled & boxes) > 3 and len(layers) > 3
    assert all(name for _, name in profiled | boxes) and all(layer["name"] for layer in layers)
    # What a report counts to the operator that needs it, a profile has as a step of its own.
    assert {op for op, _ in profiled - boxes} <= {"Relayout"}, profiled - boxes
    assert {(layer["op"], layer["name"]) for layer in layers} <= boxes
    capsys.readouterr()
    main(["profile", path, "--iter", "1", "--output", str(tmp_path / "t.json")])
    events = [e for e in json.loads((tmp_path / "t.json").read_text())["traceEvents"] if e["ph"] == "X"]
    assert [e["name"] for e in events] == [s["name"] for s in steps]


def graph_of_copies() -> bytes:
    """Borders around images, concatenations, copies into which something is written, and outputs that are views."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1] * 4),
        helper.make_node("Concat", ["c", "x"], ["t"], axis=1),
        helper.make_node("Conv", ["t", "v"], ["d"], pads=[1] * 4),
        helper.make_node("MaxPool", ["d"], ["p"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Conv", ["p", "w"], ["e"], pads=[2] * 4, dilations=[2, 2]),
        helper.make_node("ScatterND", ["x", "places", "row"], ["s"]),
        helper.make_node("ScatterElements", ["x", "places4", "row4"], ["q"], axis=1),
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Identity", ["x"], ["same"]),
    ]
    names = ["e", "s", "q", "f", "same"]
    shapes = {"f": [1, 4 * 64]}
    numbers = {
        "w": np.ones((4, 4, 3, 3), np.float32), "v": np.ones((4, 8, 3, 3), np.float32),
        "places": np.zeros((1, 1), np.int64), "row": np.ones((1, 4, 8, 8), np.float32),
        "places4": np.zeros((1, 1, 8, 8), np.int64), "row4": np.ones((1, 1, 8, 8), np.float32),
    }  # fmt: skip
    outputs = [(name, 1, shapes.get(name, [1, 4, 8, 8])) for name in names]
    return onnx_models.make(nodes, [("x", 1, [1, 4, 8, 8])], outputs, numbers).SerializeToString()


@pytest.mark.parametrize("model", ["digits", "merged", "copies", "without names of tensors"])
def test_every_step_belongs_to_something_that_has_a_name(model, run_json, tmp_path, capsys):
    """An operator of the report, or a tensor of it that is copied; the steps of an operator stand together."""
    path = tmp_path / "m.onnx"
    if model == "digits":
        path = DIGITS
    else:
        path.write_bytes({"merged": onnx_model}.get(model, graph_of_copies)())
    if model == "without names of tensors":
        main(["convert", str(path), str(path := tmp_path / "m.mge")])
        capsys.readouterr()
    steps = run_json("profile", path, "--iter", 1)["steps"]
    (report,) = run_json("report", path, "--iter", 1)["reports"]
    boxes = {(n["op"], n["name"]) for n in report["nodes"]}
    tensors = {name for _, name in boxes} | {t.get("name") for n in report["nodes"] for t in n.get("outputs", ())}
    seen: list[tuple[str, str]] = []
    for step in steps:
        called = step["operator"], step["name"]
        if called not in boxes:
            assert step["operator"] in ("Relayout", "Copy") and step["name"] in tensors, step
        if called not in seen[-1:]:
            assert called not in seen, (called, steps)
            seen.append(called)
    kernels = {s["algorithm"] for s in steps}
    assert model == "merged" or "fill_halo_blocked" in kernels
    assert model in ("digits", "merged") or "copy_bytes" in kernels


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
