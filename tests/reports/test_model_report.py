"""Reports on models: what they say, in all their forms."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.api_samples import DIGITS, IMAGES, PROB, close, loaded
from support.graphs import GraphBuilder, session_of
from support.loader_samples import constant_operator, input_operator, operator, to_bytes

import megengine_lite
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite._core.ir import params
from megengine_lite._core.reports import model_facts
from megengine_lite._core.reports.model_report import collect
from megengine_lite._core.reports.model_report.collect import with_runs, without_run
from megengine_lite._core.reports.model_report.report import ModelReport
from megengine_lite._core.runtime.session import Session
from megengine_lite._core.session_config import SessionConfig
from megengine_lite.errors import InternalError, LiteError, LiteMemoryError, LiteTypeError, LiteValueError, ShapeError

HOSTILE = "<script>alert(1)</script>\"'`|[x](javascript:y)\x1b[31m\u202e</title>{data}"


@pytest.fixture(scope="module")
def digits() -> ModelReport:
    network = loaded(DIGITS)
    network.get_io_tensor("data").set_data_by_copy(IMAGES)
    return network.report(runs=2, warmup=0)


def only(report: ModelReport) -> dict:
    (found,) = report.content["reports"]
    return found


def test_report_has_the_operators_that_run(digits):
    report = only(digits)
    nodes = report["nodes"]
    assert [n["name"] for n in nodes if n["kind"] != "operator"] == ["data", "prob"]
    assert [n["op"] for n in nodes].count("FusedConv") == 4
    softmax = next(n for n in nodes if n["op"] == "Softmax")
    assert softmax["outputs"] == [{"type": "float32", "shape": [360, 10], "name": "prob", "memory": "row-major"}]
    assert [k["kernel"] for k in softmax["kernels"]] == ["softmax_f32"]
    assert softmax["bytes"] == 2 * 360 * 10 * 4 and softmax["parameters"]["axis"] in (1, -1)
    conv = next(n for n in nodes if n["name"] == "c2.RELU")
    assert "channels" in conv["outputs"][0]["memory"]
    assert conv["merged"] == [
        "Convolution c2.conv.Convolution", "Elemwise c2.conv.ADD", "BatchNorm c2.bn.BatchNorm:o2", "Elemwise c2.RELU",
    ]  # fmt: skip
    reduced = next(n for n in nodes if n["name"] == "Reduce[0]")
    assert [v["name"] for v in reduced["views"]] == ["Reduce[1]"] and reduced["views"][0]["outputs"][0]["shape"] == [
        360, 64, 4,
    ]  # fmt: skip


def test_arrows_make_a_chain_of_the_operators(digits):
    report = only(digits)
    assert all(source < target for source, target in report["edges"])
    reached = {0}
    for source, target in sorted(report["edges"], key=lambda e: e[1]):
        assert source in reached
        reached.add(target)
    assert reached == set(range(len(report["nodes"])))


def test_sums_of_a_report_fit_its_parts(digits):
    report = only(digits)
    nodes = [n for n in report["nodes"] if n["kind"] == "operator"]
    assert sum(n["ms"] for n in nodes) == pytest.approx(report["steps_ms"])
    assert sum(n["operations"] for n in nodes) == report["operations"] > 0
    assert all(sum(k["ms"] for k in n["kernels"]) == pytest.approx(n["ms"]) for n in nodes)
    steps = report["memory"]["steps"]
    assert steps == sum(k["steps"] for n in nodes for k in n["kernels"])
    for offset, nbytes, first, last in report["memory"]["pieces"]:
        assert 0 <= first <= last < steps and offset + nbytes <= report["memory"]["arena"]
    assert report["memory"]["count"] == len(report["memory"]["pieces"])
    assert report["memory"]["bytes"] == sum(p[1] for p in report["memory"]["pieces"])
    sizes = [w["bytes"] for w in report["weights"]]
    assert sizes == sorted(sizes, reverse=True) and sum(sizes) == report["model"]["parameter_bytes"]
    assert report["roof"]["gflops"] > 0 and [b["name"] for b in report["roof"]["bandwidths"]] == ["memory", "cache"]
    assert report["machine"]["threads"] == 1 and report["problem"] is None


def test_what_is_left_out_is_counted(monkeypatch):
    """Five operators read one weight, and the arena has more pieces than are shown."""
    builder = GraphBuilder()
    x, weight = builder.input("data", (2, 64)), builder.constant(np.ones((64, 64), np.float32))
    for k in range(5):
        x = builder.node("MatrixMul", params.MatrixMul(), [x, weight], name=f"product{k}")
    session = session_of(builder.finish(x), explain=True)
    session.set_array("data", np.ones((2, 64), np.float32))
    monkeypatch.setattr(collect, "MOST_PIECES", 2)
    report = ModelReport(collect.with_runs(session, "five", 1, 0))
    (facts,) = only(report)["weights"]
    assert len(facts["by"]) == 3 and facts["more"] == 2
    assert f"{', '.join(facts['by'])} and 2 more" in report.to_markdown()
    memory = only(report)["memory"]
    assert len(memory["pieces"]) == 2 < memory["count"] and memory["bytes"] > sum(p[1] for p in memory["pieces"])


def test_report_leaves_the_network_as_it_is():
    network = loaded(DIGITS)
    tensor = network.get_io_tensor("data")
    tensor.set_data_by_copy(IMAGES)
    network.forward()
    network.wait()
    before = network.get_io_tensor("prob").to_numpy().copy()
    tensor.set_data_by_copy(IMAGES[:3])
    assert only(network.report(runs=1, warmup=0))["model"]["inputs"][0]["shape"] == [3, 1, 8, 8]
    np.testing.assert_array_equal(network.get_io_tensor("prob").to_numpy(), before)
    tensor.set_data_by_copy(IMAGES)
    network.forward()
    network.wait()
    assert close(network.get_io_tensor("prob").to_numpy(), PROB)


def test_model_reports_on_given_or_random_inputs():
    with megengine_lite.load(DIGITS, threads=1) as model:
        assert only(model.report(runs=1))["model"]["inputs"][0]["shape"] == [360, 1, 8, 8]
        report = model.report(IMAGES[:2], runs=1)
        assert only(report)["model"]["outputs"][0]["shape"] == [2, 10]
        assert re.fullmatch(r"<ModelReport \S+\.mge, 9 operators, [\d.]+ ms>", repr(report))
        with pytest.raises(LiteValueError, match="measures 1 run or more"):
            model.report(runs=0)
    with pytest.raises(LiteError, match="closed"):
        model.report()


def test_one_operator_is_no_plural():
    builder = GraphBuilder()
    x = builder.input("x", (2, 3))
    model = session_of(builder.finish(builder.node("Softmax", params.Softmax(axis=1), [x]))).model
    report = ModelReport(without_run(model, "m", {}))
    assert "<ModelReport m, 1 operator, " in repr(report)


def test_steps_in_numpy_are_named():
    builder = GraphBuilder()
    x = builder.input("x", (4, 4))
    graph = builder.finish(builder.node("MatrixInverse", None, [x], name="inverse"))
    session = session_of(graph, explain=True)
    session.set_array("x", np.eye(4, dtype=np.float32))
    report = ModelReport(with_runs(session, "m", 1, 0))
    node = next(n for n in only(report)["nodes"] if n["op"] == "MatrixInverse")
    assert [k["kernel"] for k in node["kernels"]] == ["numpy"]
    text = report.to_markdown()
    assert "MatrixInverse" in text.partition("## Operators that run in numpy")[2].partition("##")[0]


def test_parts_of_a_model_are_linked():
    """Sizes in this one depend on data, so it runs by two plans."""
    model = load_model(Path(__file__).parents[1] / "models" / "loader" / "nms_0.8.mge")
    session = Session(model, SessionConfig(explain=True))
    for var in model.graph.inputs:
        session.set_array(var.name, np.ones(var.shape, var.dtype.storage))
    report = with_runs(session, "nms", 1, 0)
    last = len(report["nodes"]) - 1
    assert report["nodes"][last]["kind"] == "output"
    backwards = {last}
    for source, target in sorted(report["edges"], key=lambda e: -e[1]):
        if target in backwards:
            backwards.add(source)
    assert {k for k, n in enumerate(report["nodes"]) if n["kind"] == "input"} & backwards


# ---- names ----------------------------------------------------------------------------------------------------------


def hostile_report() -> ModelReport:
    record = ModelRecord("v2", 101300, [input_operator(0, HOSTILE, (2, 3))], [(1, "")], {1: HOSTILE + "out"})
    record.operators.append(operator("Softmax", (0,), (1,), params.Softmax(axis=1)))
    model = load_model(to_bytes(record))
    session = Session(model, SessionConfig(explain=True))
    session.set_array(model.input_names[0], np.ones((2, 3), np.float32))
    return ModelReport(with_runs(session, HOSTILE, 1, 0))


def test_names_are_text_in_every_form():
    report = hostile_report()
    shown = HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    assert only(report)["nodes"][0]["name"] == shown
    assert json.loads(report.to_json()) == report.content
    page = report.to_html()
    assert page.count("<script") == 2 and page.count("</script>") == 2 and page.count("</title>") == 1
    assert "alert(1)</script>" not in page and "\x1b" not in page and "\u202e" not in page
    data = re.search(r'id="data">(.*?)</script>', page, re.S)
    assert data and json.loads(data[1])["reports"][0]["name"] == shown
    text = report.to_markdown()
    assert "\x1b" not in text and not re.search(r"(?<!\\)<", text) and r"\<script>" in text
    assert r"[x]\(javascript:y)" in text and not re.search(r"(?<!\\)\]\(", text)
    frame = report._repr_html_()
    assert frame.count("<") == 2 and 'sandbox="allow-scripts"' in frame and frame.startswith("<iframe ")


def test_page_has_everything_in_it_and_asks_for_nothing():
    page = hostile_report().to_html()
    assert re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", page) == []
    urls = set(re.findall(r"https?://[^\s\"'<]*", page))
    assert urls <= {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page and "unsafe-inline" not in page and "eval(" not in page


# ---- models that do not run -----------------------------------------------------------------------------------------


def unknown_model():
    builder = GraphBuilder()
    x = builder.input("x", (2, 3))
    y = builder.node("Softmax", params.Softmax(axis=1), [x], name="known")
    graph = builder.finish(builder.node("Frobnicate", None, [y], name="what"))
    session = session_of(GraphBuilder().finish())
    model = session.model
    model.graph, model.input_names, model.output_names = graph, ["x"], graph.output_names
    return model


def test_unknown_operators_are_marked():
    report = ModelReport(without_run(unknown_model(), "m", {}))
    content = only(report)
    assert content["problem"] == "1 operator is not supported"
    assert [(n["op"], n["unknown"]) for n in content["nodes"] if n["kind"] == "operator"] == [
        ("Softmax", False), ("Frobnicate", True),
    ]  # fmt: skip
    assert len(content["edges"]) == 3
    assert "Frobnicate" in report.to_markdown() and "Frobnicate" in report.to_html()


def test_model_that_cannot_run_says_why():
    record = ModelRecord("v2", 101300, [input_operator(0, "x", (3,))], [(2, "")], {2: "y"})
    record.operators.append(constant_operator(1, (3,), data=bytes(12)))
    record.operators.append(operator("Elemwise", (0, 1), (2,), params.Elemwise(mode=params.ElemwiseMode.ADD)))
    network = loaded(to_bytes(record))
    network.get_io_tensor("x").set_data_by_copy(np.zeros(5, np.float32))
    report = network.report(runs=1)
    content = only(report)
    assert "(5,)" in content["problem"] or "5" in content["problem"]
    assert [n["op"] for n in content["nodes"]] == ["Input", "Elemwise", "Output"] and "ms" not in content
    assert "Does not run" in report.to_markdown() and report.to_html()


@pytest.mark.parametrize(
    ("place", "error", "kind"),
    [
        ((collect, "_memory"), KeyError("no"), InternalError),
        ((collect, "without_run"), KeyError("no"), InternalError),
        ((collect, "measure_roof"), KeyError("no"), InternalError),
        ((collect, "measure_roof"), LiteMemoryError("no"), LiteMemoryError),
        ((model_facts, "first_stage"), InternalError("no"), InternalError),
        ((model_facts, "first_stage"), LiteMemoryError("no"), LiteMemoryError),
    ],
)
def test_our_faults_are_not_told_of_the_model(monkeypatch, place, error, kind):
    def fails(*arguments):
        raise error

    if place[1] == "without_run":
        monkeypatch.setattr(collect, "with_runs", lambda *arguments: fail_as_a_model())
    monkeypatch.setattr(*place, fails)
    with megengine_lite.load(DIGITS, threads=1) as model, pytest.raises(kind) as raised:
        model.report(IMAGES[:2], runs=1)
    assert raised.value is error or raised.value.__cause__ is error


def fail_as_a_model():
    raise ShapeError("the model does not run")


# ---- files ----------------------------------------------------------------------------------------------------------


def test_report_is_saved_in_the_form_of_its_name(digits, tmp_path):
    for name, begin in (("a.html", "<!doctype html>"), ("a.md", "# digits.mge"), ("a.json", "{"), ("a", "<!doctype")):
        digits.save(tmp_path / name)
        assert (tmp_path / name).read_text().startswith(begin)
    digits.save(tmp_path / "b.txt", "md")
    assert (tmp_path / "b.txt").read_text().startswith("# ")
    with pytest.raises(LiteValueError, match="html, md, json"):
        digits.save(tmp_path / "c", "pdf")
    with pytest.raises(LiteValueError, match=r"\.html, \.md or \.json, not '.*c\.pdf'"):
        digits.save(tmp_path / "c.pdf")
    assert not (tmp_path / "c.pdf").exists()
    with pytest.raises(LiteError, match="cannot be written"):
        digits.save(tmp_path / "no" / "c.html")


def test_two_reports_stand_side_by_side(digits):
    both = digits.beside(digits, ("a", "b"))
    found = both.content["comparison"]
    assert found["names"] == ["a", "b"] and found["operators"] == [9, 9]
    assert all(kind["ms"][0] == kind["ms"][1] for kind in found["kinds"])
    assert {p["name"] for p in found["pairs"]} >= {"c1.RELU", "prob"}
    assert "# Comparison" in both.to_markdown() and both.to_html()
    with pytest.raises(LiteValueError, match="two"):
        both.beside(digits)


@pytest.mark.parametrize("other", ["x", None, 3, {"reports": []}, ModelReport])
def test_only_reports_stand_beside_reports(digits, other):
    with pytest.raises(LiteTypeError, match=r"takes another report, as model.report\(\) makes it, not "):
        digits.beside(other)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("a",), LiteValueError),
        ((), LiteValueError),
        (["a", "b", "c"], LiteValueError),
        ("ab", LiteTypeError),
        (("a", 1), LiteTypeError),
        (3, LiteTypeError),
        ({"a": 1, "b": 2}, LiteTypeError),
    ],
)
def test_two_reports_have_two_names(digits, names, kind):
    with pytest.raises(kind, match=r"names=\('before', 'after'\)"):
        digits.beside(digits, names)


@pytest.mark.parametrize("place", [0, 1])
def test_model_that_does_not_run_has_no_times_beside_another(digits, place):
    alone = ModelReport(without_run(unknown_model(), "unknown", {}))
    both = alone.beside(digits) if place == 0 else digits.beside(alone)
    found = both.content["comparison"]
    ran = 1 - place
    assert found["ms"][place] is None and found["ms"][ran] > 0
    assert found["operators"][place] is None and found["operators"][ran] == 9 and found["pairs"] == []
    assert {kind["ms"][place] for kind in found["kinds"]} == {None}
    operators = {n["op"] for n in only(digits)["nodes"] if n["kind"] == "operator"}
    assert {kind["op"] for kind in found["kinds"]} == operators
    row = both.to_markdown().rpartition("\n| Softmax")[2].splitlines()[0]
    assert not row.split(" | ")[1 + place].strip() and float(row.split(" | ")[1 + ran]) >= 0
    neither = alone.beside(alone)
    assert neither.content["comparison"]["kinds"] == [] and "0.000" not in neither.to_markdown() and neither.to_html()


def test_nothing_of_reports_is_imported_before_one_is_asked_for():
    code = (
        "import sys, megengine_lite as m; n = m.LiteNetwork(); n.load(sys.argv[1]); n.forward(); n.wait();"
        "print([k for k in sys.modules if 'model_report' in k or 'planned_graph' in k or 'explanation' in k])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(DIGITS)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("seconds", "in_steps", "part"),
    [
        ([0.010, 0.011, 0.012], 0.0105, None),
        ([0.000150, 0.000154, 0.000160], 0.000235, None),  # the clock was read a thousand times
        ([0.00001, 0.00001, 0.00001], 0.000002, None),  # a run of a small model is more than its steps
        ([0.000001, 0.000001, 0.000006], 0.000001, None),  # a model of nothing
        ([0.000020, 0.000020, 0.000079], 0.000020, None),
        ([0.000020, 0.000020, 0.000081], 0.000020, "4.0 times as long"),
        ([0.010, 0.011, 0.016], 0.0105, "1.6 times as long"),
        ([0.030, 0.031, 0.032], 0.010, "a run takes 31 ms and its steps together 10 ms"),
        ([0.010, 0.010, 0.010], 0.020, "10 ms and its steps together 20 ms"),
        ([1.234, 1.234, 1.234], 0.4, "a run takes 1234 ms and its steps together 400 ms"),
    ],
)
def test_doubtful_times_are_told(seconds, in_steps, part):
    note = collect._note(seconds, in_steps, 1000)
    assert note is None if part is None else part in note and note.endswith("times are not reliable")
