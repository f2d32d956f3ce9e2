"""The command info: the graph as a file, and what will be slow here."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from support.api_samples import DIGITS, packed, two_inputs
from support.loader_samples import input_operator, operator, to_bytes
from support.places import TESTS

from megengine_lite import cpu_info
from megengine_lite._cli import info
from megengine_lite._core.cpu.algorithms.cache import category_name, serialize_cache
from megengine_lite._core.cpu.device import CpuDevice
from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT16
from megengine_lite._core.runtime.session import Session
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


def test_the_operator_that_shapes_do_not_fit_is_marked(run_json, tmp_path):
    (tmp_path / "m.mge").write_bytes(two_inputs((2, 3)))
    run_json("info", tmp_path / "m.mge", "--shape", "a=5x3", "--graph", tmp_path / "g.json")
    nodes = json.loads((tmp_path / "g.json").read_text())["nodes"]
    assert [n["kind"] for n in nodes if n.get("failed")] == ["operator"]


def test_wrong_names_and_places_of_graphs_are_errors(error_of, tmp_path):
    assert "g.png" in error_of("info", "no_such.mge", "--graph", "g.png", status=2)
    assert "cannot be written" in error_of("info", DIGITS, "--graph", tmp_path / "no" / "g.svg")
    model = tmp_path / "m.svg"
    model.write_bytes(DIGITS.read_bytes())
    assert "is the file that is read" in error_of("info", model, "--graph", model)
    assert model.read_bytes() == DIGITS.read_bytes()


# ---- what will be slow here -----------------------------------------------------------------------------------------


def line_of(capsys, path) -> str:
    """What is printed of it: one line, before the tables."""
    assert main(["info", str(path)]) == 0
    lines = capsys.readouterr().out.split("\n\n")[0].splitlines()
    found = [line for line in lines if line.startswith("slow here")]
    assert len(found) <= 1
    return found[0] if found else ""


def test_a_model_with_kernels_only_is_not_slow(run_json, capsys):
    assert run_json("info", DIGITS)["slow_here"] == []
    assert line_of(capsys, DIGITS) == "slow here   nothing: every step has a kernel"


def test_steps_in_numpy_are_told(run_json, capsys, tmp_path):
    path = tmp_path / "m.mge"
    path.write_bytes(to_bytes(record_of(operator("Diag", (0,), (1,), params.Diag(k=0)))))
    assert run_json("info", path)["slow_here"] == [
        {"what": "1 of 1 steps run in numpy: Diag float32", "do": "the command profile shows what they cost"}
    ]
    assert line_of(capsys, path) == (
        "slow here   1 of 1 steps run in numpy: Diag float32 (the command profile shows what they cost)"
    )


def test_conversions_of_float16_are_told(run_json, tmp_path):
    (tmp_path / "m.mge").write_bytes(two_inputs((2, 3), FLOAT16))
    (hint,) = run_json("info", tmp_path / "m.mge")["slow_here"]
    assert hint["what"] == "float16 is computed in float32, with 3 conversions in each run"


def test_products_of_bytes_are_told_where_there_is_no_instruction(run_json, monkeypatch):
    model = TESTS / "models" / "digits" / "digits_int8.mge"
    monkeypatch.setattr(CpuDevice, "slow_products_of_bytes", lambda *_: "it is slow")
    assert [hint["what"] for hint in run_json("info", model)["slow_here"]] == [
        "4 of 6 products are of 8-bit numbers, and it is slow"
    ]
    monkeypatch.setattr(CpuDevice, "slow_products_of_bytes", lambda *_: "")
    assert run_json("info", model)["slow_here"] == []


OWN = category_name("conv", cpu_info()["brand"], "base", 1).encode()
OTHER = category_name("conv", "another processor", "base", 1).encode()


@pytest.mark.parametrize(
    ("categories", "count"), [((OWN,), 0), ((OTHER,), 1), ((OTHER, OWN), 0), ((b"x",), 1), ((), 1)]
)
def test_a_package_measured_elsewhere_says_so(run_json, tmp_path, categories, count):
    cache = serialize_cache({name: {b"key": b"value"} for name in categories})
    (tmp_path / "m.lite").write_bytes(packed(is_fast_run_cache=True, algorithm_cache=cache))
    hints = run_json("info", tmp_path / "m.lite")["slow_here"]
    assert len(hints) == count
    assert all("no measurement that this version made on this processor" in hint["what"] for hint in hints)
    assert all(hint["do"].startswith("the command fit writes a package") for hint in hints)
    (tmp_path / "m.lite").write_bytes(packed())
    assert run_json("info", tmp_path / "m.lite")["slow_here"] == []


def test_a_model_that_cannot_be_planned_has_no_such_line(run_json, capsys, monkeypatch, tmp_path):
    path = tmp_path / "m.mge"
    path.write_bytes(to_bytes(record_of(operator("Frobnicate", (0,), (1,), params.Softmax(axis=1)))))
    assert run_json("info", path)["slow_here"] is None and line_of(capsys, path) == ""
    path.write_bytes(two_inputs((2, 3)))
    result = run_json("info", path, "--shape", "a=5x3")
    assert result["problem"] is not None and result["slow_here"] is None


def test_a_model_that_would_fill_the_memory_is_not_planned(run_json, monkeypatch):
    taken = run_json("info", DIGITS)["parameter_bytes"] + 360 * 64 * 4  # of weights and of the input
    monkeypatch.setattr(info, "memory_limit", lambda: 8 * taken)
    assert run_json("info", DIGITS)["slow_here"] == []
    monkeypatch.setattr(Session, "prepare", lambda _: pytest.fail("it is planned"))
    assert run_json("info", DIGITS, "--shape", "data=361x1x8x8")["slow_here"] is None
    monkeypatch.setattr(info, "memory_limit", lambda: 8 * taken - 8)
    assert run_json("info", DIGITS)["slow_here"] is None


def test_lack_of_memory_for_a_plan_leaves_the_rest(run_json, monkeypatch):
    monkeypatch.setattr(Session, "prepare", lambda _: (_ for _ in ()).throw(MemoryError()))
    assert run_json("info", DIGITS)["slow_here"] is None


def test_steps_that_depend_on_data_are_not_seen(run_json, tmp_path):
    operators = [
        input_operator(0, "x"),
        operator("CondTake", (0, 0), (1, 2), params.CondTake(val=0.0)),
        operator("Softmax", (1,), (3,), params.Softmax(axis=0)),
    ]
    (tmp_path / "m.mge").write_bytes(to_bytes(ModelRecord("v2", 101300, operators, [(3, "")], {3: "y"})))
    hints = run_json("info", tmp_path / "m.mge")["slow_here"]
    assert hints[-1] == {"what": "later steps depend on data", "do": "the command profile shows them"}
    assert hints[0]["what"] == "1 of 1 steps run in numpy: CondTake float32"
