"""The command info: the graph as a file."""

from __future__ import annotations

import json
from xml.etree import ElementTree

from support.api_samples import DIGITS
from support.loader_samples import input_operator, operator, to_bytes

from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite._core.ir import params
from megengine_lite.cli import main


def record_of(*operators) -> ModelRecord:
    last = 1 + len(operators) - 1
    return ModelRecord("v2", 101300, [input_operator(0, "x", (2, 3)), *operators], [(last, "")], {last: "y"})


# ---- the graph ------------------------------------------------------------------------------------------------------


def test_graph_is_written_in_the_form_of_the_name(run_json, capsys, tmp_path):
    facts = run_json("info", DIGITS)
    assert facts["written"] == {}
    count = sum(facts["operators"].values()) + 2
    for name in ("g.svg", "g.dot", "g.json"):
        path = tmp_path / name
        assert run_json("info", DIGITS, "--graph", path)["written"] == {str(path): path.stat().st_size}
    root = ElementTree.parse(tmp_path / "g.svg").getroot()
    assert len([g for g in root.iter() if g.get("class") in ("input", "operator", "output")]) == count
    graph = json.loads((tmp_path / "g.json").read_text())
    assert len(graph["nodes"]) == count and graph["name"] == "digits.mge"
    assert (tmp_path / "g.dot").read_text().count(" -> ") == len(graph["edges"])
    assert main(["info", str(DIGITS), "--graph", str(tmp_path / "g.svg")]) == 0
    assert f"{tmp_path / 'g.svg'}: " in capsys.readouterr().out.splitlines()[-1]


def test_graph_has_the_shapes_that_are_asked_for(run_json, tmp_path):
    run_json("info", DIGITS, "--shape", "data=7x1x8x8", "--graph", tmp_path / "g.json")
    nodes = json.loads((tmp_path / "g.json").read_text())["nodes"]
    assert nodes[0]["outputs"][0]["shape"] == [7, 1, 8, 8] and nodes[-1]["outputs"][0]["shape"] == [7, 10]


def test_operators_that_are_not_known_are_marked(run_json, tmp_path):
    record = record_of(operator("Frobnicate<b>", (0,), (1,), params.Softmax(axis=1)))
    (tmp_path / "m.mge").write_bytes(to_bytes(record))
    run_json("info", tmp_path / "m.mge", "--graph", tmp_path / "g.svg")
    root = ElementTree.parse(tmp_path / "g.svg").getroot()
    (marked,) = [g for g in root.iter() if g.get("class") == "operator unknown"]
    assert next(t.text for t in marked.iter("{http://www.w3.org/2000/svg}text")) == "Frobnicate<b>"


def test_wrong_names_and_places_of_graphs_are_errors(error_of, tmp_path):
    assert "g.png" in error_of("info", "no_such.mge", "--graph", "g.png")
    assert "cannot be written" in error_of("info", DIGITS, "--graph", tmp_path / "no" / "g.svg")
    model = tmp_path / "m.svg"
    model.write_bytes(DIGITS.read_bytes())
    assert "is the file that is read" in error_of("info", model, "--graph", model)
    assert model.read_bytes() == DIGITS.read_bytes()
