"""The command report for two models: which inputs each runs on."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper
from support import onnx_models
from support.api_samples import DIGITS

FEW = ("--iter", 1, "--warmup-iter", 0)
FLOAT = 1


def model(path, shape, name="x", op="Relu"):
    """A file with one operator that reads an input of this shape, which the graph depends on."""
    nodes = [helper.make_node(op, [name], ["a"]), helper.make_node("Reshape", ["a", "to"], ["y"])]
    to = {"to": np.array(shape, np.int64)}
    made = onnx_models.make(nodes, [(name, FLOAT, shape)], [("y", FLOAT, shape)], to)
    path.write_bytes(made.SerializeToString())
    return path


def inputs_of(result) -> list[dict[str, list[int]]]:
    assert [r["problem"] for r in result["reports"]] == [None, None]
    return [{i["name"]: i["shape"] for i in r["model"]["inputs"]} for r in result["reports"]]


PLACES = {
    "in two folders": ("old/net.onnx", "new/net.onnx", ["old/net.onnx", "new/net.onnx"]),
    "far apart": ("old/deep/net.onnx", "new/deep/net.onnx", ["old/deep/net.onnx", "new/deep/net.onnx"]),
    "of two names": ("old/a.onnx", "new/b.onnx", ["a.onnx", "b.onnx"]),
    "the same file": ("net.onnx", "net.onnx", ["net.onnx (A)", "net.onnx (B)"]),
}


@pytest.mark.parametrize("how", sorted(PLACES))
@pytest.mark.parametrize("form", ["html", "md", "json"])
def test_two_models_are_told_apart_in_all_forms(run_json, tmp_path, how, form):
    *places, names = PLACES[how]
    paths = [tmp_path / place for place in places]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        model(path, [2, 3])
    result = run_json("report", paths[0], "--against", paths[1], "--layers", *FEW, "-o", tmp_path / f"r.{form}")
    assert [r["name"] for r in result["reports"]] == names
    assert result["comparison"]["names"] == result["layers"]["names"] == names
    text = (tmp_path / f"r.{form}").read_text().replace("\\", "")
    assert all(name in text for name in names)


def test_what_only_one_model_has_takes_no_time_in_the_other(run_json, tmp_path):
    """An empty place, not zero milliseconds and a ratio."""
    a, b = model(tmp_path / "a.onnx", [2, 3], op="Softmax"), model(tmp_path / "b.onnx", [2, 3], op="Relu")
    result = run_json("report", a, "--against", b, *FEW, "-o", tmp_path / "r.md")
    kinds = {kind["op"]: kind["ms"] for kind in result["comparison"]["kinds"]}
    (softmax,), (other,) = ([ms for op, ms in kinds.items() if (op == "Softmax") == which] for which in (True, False))
    assert softmax[0] > 0 and softmax[1] is None and other[0] is None and other[1] > 0
    row = next(r for r in (tmp_path / "r.md").read_text().rpartition("# Comparison")[2].splitlines() if "Softmax" in r)
    assert [cell.strip() for cell in row.split("|")][3:] == ["", "", ""]


def test_one_model_with_two_settings_is_told_apart(run_json):
    found = run_json("report", DIGITS, "--other=", *FEW)["comparison"]["names"]
    assert found == ["digits.mge (A)", "digits.mge (B)"]
    found = run_json("report", DIGITS, "--other=--threads 1", *FEW)["comparison"]["names"]
    assert found == ["digits.mge", "digits.mge --threads 1"]


@pytest.mark.parametrize("name", ["x", "z"])
def test_each_model_runs_on_inputs_of_its_own(run_json, tmp_path, name):
    a, b = model(tmp_path / "a.onnx", [2, 3]), model(tmp_path / "b.onnx", [4, 5, 6], name)
    result = run_json("report", a, "--against", b, *FEW)
    assert inputs_of(result) == [{"x": [2, 3]}, {name: [4, 5, 6]}]
    assert all(ms > 0 for ms in result["comparison"]["ms"])


def test_flexible_model_is_not_measured_at_the_sizes_of_the_other(run_json, tmp_path):
    nodes = [helper.make_node("Relu", ["data"], ["y"])]
    for name, size in (("a.onnx", 8), ("b.onnx", 32)):
        made = onnx_models.make(nodes, [("data", FLOAT, [1, 3, size, size])], [("y", FLOAT, None)])
        (tmp_path / name).write_bytes(made.SerializeToString())
    result = run_json("report", tmp_path / "a.onnx", "--against", tmp_path / "b.onnx", *FEW)
    assert inputs_of(result) == [{"data": [1, 3, 8, 8]}, {"data": [1, 3, 32, 32]}]


def test_given_inputs_go_to_the_model_that_has_them(run_json, tmp_path):
    a, b = model(tmp_path / "a.onnx", [2, 3], "u"), model(tmp_path / "b.onnx", [4], "v")
    for first, second in ((a, b), (b, a)):
        given = ("--input", "u=[[1,2,3],[4,5,6]];v=[1,2,3,4]")
        result = run_json("report", first, "--against", second, *given, *FEW)
        assert {k: v for one in inputs_of(result) for k, v in one.items()} == {"u": [2, 3], "v": [4]}
    described = run_json("report", a, "--against", b, "--input-desc", "v:4", *FEW)
    assert inputs_of(described) == [{"u": [2, 3]}, {"v": [4]}]


def test_given_shape_goes_to_the_models_that_run_with_it(run_json, tmp_path):
    a = model(tmp_path / "a.onnx", [2, 3])
    flexible = onnx_models.make(
        [helper.make_node("Relu", ["x"], ["y"])], [("x", FLOAT, ["n", "m"])], [("y", FLOAT, ["n", "m"])]
    )
    (tmp_path / "b.onnx").write_bytes(flexible.SerializeToString())
    for first, second in ((a, tmp_path / "b.onnx"), (tmp_path / "b.onnx", a)):
        result = run_json("report", first, "--against", second, "--input-desc", "x:7,9", *FEW)
        assert {r["name"]: i["x"] for r, i in zip(result["reports"], inputs_of(result), strict=True)} == {
            "a.onnx": [2, 3],
            "b.onnx": [7, 9],
        }


def test_input_that_neither_has_is_an_error(error_of, tmp_path):
    a, b = model(tmp_path / "a.onnx", [2, 3], "u"), model(tmp_path / "b.onnx", [4], "v")
    assert "no input 'w'" in error_of("report", a, "--against", b, "--input", "w=[1]", *FEW)


def test_model_that_cannot_run_stands_beside_one_that_does(run_json, tmp_path):
    a = model(tmp_path / "a.onnx", [2, 3])
    bad = onnx_models.make(
        [helper.make_node("MatMul", ["p", "p"], ["y"])], [("p", FLOAT, [2, 3])], [("y", FLOAT, None)]
    )
    (tmp_path / "bad.onnx").write_bytes(bad.SerializeToString())
    for place, files in enumerate(((tmp_path / "bad.onnx", a), (a, tmp_path / "bad.onnx"))):
        result = run_json("report", files[0], "--against", files[1], *FEW)
        assert "MatMul" in result["reports"][place]["problem"] or "MatrixMul" in result["reports"][place]["problem"]
        assert result["reports"][1 - place]["ms"]["median"] > 0 and result["reports"][place]["nodes"]


def test_results_are_compared_for_the_same_inputs_only(error_of, tmp_path):
    a, b = model(tmp_path / "a.onnx", [2, 3], "u"), model(tmp_path / "b.onnx", [2, 3], "v")
    message = error_of("report", a, "--against", b, "--layers", *FEW)
    assert "b.onnx has the inputs v" in message and "the other model has u" in message
    assert "b.onnx has the inputs v" in error_of("verify", a, "--layers", "--against", b)


def test_two_settings_have_the_same_inputs(run_json):
    result = run_json("report", DIGITS, "--other=--threads 2", "--input-desc", "data:3,1,8,8", *FEW)
    assert inputs_of(result) == [{"data": [3, 1, 8, 8]}] * 2
