"""Reports on models with loops and branches: times summed over rounds, and one graph with all its arrows."""

from __future__ import annotations

import numpy as np
import pytest
from support import onnx_models

import megengine_lite
from megengine_lite._core.reports.model_report import collect

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402

LOOP = """(float[4, 4] x, int64 n) => (float[4, 4] y) {
    a = Relu(x)
    go = Constant<value_int = 1>()
    cond = Cast<to = 9>(go)
    y = Loop(n, cond, a) <body = inside (int64 k, bool on, float[4, 4] s) => (bool next, float[4, 4] t) {
        next = Identity(on)
        where = NonZero(s)
        one = ReduceMax<keepdims = 0>(where)
        rank = Cast<to = 1>(one)
        added = Add(s, a)
        t = Add(added, rank)
    }>
}"""
GROWING = """(float[1, 4] x, int64 n) => (float[m, 4] y) {
    start = Relu(x)
    y = Loop(n, , start) <body = inside (int64 k, bool on, float[r, 4] s) => (bool next, float[p, 4] t) {
        next = Identity(on)
        b = Sigmoid(s)
        t = Concat<axis = 0>(b, x)
    }>
}"""
BOTH = """(float[4, 4] x, int64 n) => (float[4, 4] y) {
    two = Constant<value_int = 2>()
    y = Loop(n, , x) <body = inside (int64 k, bool on, float[4, 4] s) => (bool next, float[4, 4] t) {
        next = Identity(on)
        part = Mod(k, two)
        odd = Cast<to = 9>(part)
        chosen = If(odd) <
            then_branch = first () => (float[4, 4] u) { u = Softmax(s) },
            else_branch = second () => (float[4, 4] v) { v = MatMul(s, x) }
        >
        t = Softmax(chosen)
    }>
}"""
IF = """(float[4, 4] x) => (float[4, 4] y) {
    whole = ReduceSum<keepdims = 0>(x)
    zero = Constant<value_float = 0.0>()
    c = Greater(whole, zero)
    b = If(c) <
        then_branch = first () => (float[4, 4] u) { u = MatMul(x, x) },
        else_branch = second () => (float[4, 4] v) { v = Softmax(x) }
    >
    y = Softmax(b)
}"""


def report_of(text: str, runs: int = 2, **given) -> dict:
    return (
        megengine_lite.load(onnx_models.bytes_of_text(text)).report(runs=runs, warmup=0, **given).content["reports"][0]
    )


def node(report: dict, name: str) -> dict:
    (found,) = [n for n in report["nodes"] if n["name"] == name and n["kind"] == "operator"]
    return found


def arrows(report: dict) -> set[tuple[str, str]]:
    names = [n["name"] if n["kind"] != "output" else f"output {n['name']}" for n in report["nodes"]]
    assert all(source < target for source, target in report["edges"])
    return {(names[source], names[target]) for source, target in report["edges"]}


def check_sums(report: dict) -> None:
    nodes = [n for n in report["nodes"] if n["kind"] == "operator"]
    assert sum(n["ms"] for n in nodes) == pytest.approx(report["steps_ms"]) and report["steps_ms"] > 0
    assert sum(n["operations"] for n in nodes) == report["operations"]
    memory = report["memory"]
    for _, _, first, last in memory["pieces"]:
        assert 0 <= first <= last < memory["steps"]
    assert all(n["first_step"] <= memory["steps"] for n in nodes if "first_step" in n)


@pytest.mark.parametrize("rounds", [1, 3, 20])
def test_times_of_a_loop_are_sums_of_its_rounds(rounds):
    report = report_of(LOOP, x=np.eye(4, dtype=np.float32), n=np.array([rounds]))
    check_sums(report)
    found = node(report, "where")
    (kernel,) = found["kernels"]
    assert found["op"] == "NonZero" and kernel["kernel"] == "numpy" and found["ms"] > 0
    assert found["runs"] == kernel["steps"] == rounds
    assert next(n for n in report["nodes"] if n.get("rounds"))["rounds"] == rounds
    assert "runs" not in node(report, "a")


def test_operator_of_a_loop_moves_bytes_in_each_round():
    def moved(rounds: int) -> int:
        return node(report_of(LOOP, x=np.eye(4, dtype=np.float32), n=np.array([rounds])), "t")["bytes"]

    assert moved(5) == 5 * moved(1) > 0


@pytest.mark.parametrize("rounds", [1, 4])
def test_graph_of_a_loop_hangs_together(rounds):
    report = report_of(LOOP, x=np.eye(4, dtype=np.float32), n=np.array([rounds]))
    found = arrows(report)
    loop = next(n["name"] for n in report["nodes"] if "rounds" in n)
    assert {("x", "a"), ("a", "where"), ("a", "t"), ("t", loop), ("n", loop), (loop, "output y")} <= found


def test_loop_without_rounds_is_drawn():
    report = report_of(LOOP, x=np.eye(4, dtype=np.float32), n=np.array([0]))
    loop = next(n for n in report["nodes"] if "rounds" in n)
    assert loop["rounds"] == 0 and {("a", loop["name"]), (loop["name"], "output y")} <= arrows(report)


def test_rounds_of_different_shapes_are_one_operator():
    report = report_of(GROWING, x=np.ones((1, 4), np.float32), n=np.array([100]))
    check_sums(report)
    assert node(report, "b")["runs"] == 100
    # Each round reads and writes a row more.
    assert node(report, "b")["bytes"] == sum(2 * 4 * 4 * rows for rows in range(1, 101))


def test_both_branches_of_a_loop_lead_to_what_follows():
    report = report_of(BOTH, x=np.eye(4, dtype=np.float32), n=np.array([5]))
    check_sums(report)
    assert {name: node(report, name)["runs"] for name in "uvt"} == {"u": 2, "v": 3, "t": 5}
    kernels = node(report, "t")["kernels"]
    assert kernels[0]["steps"] == 5 and sum(k["ms"] for k in kernels) == pytest.approx(node(report, "t")["ms"])
    found = arrows(report)
    decides = {a for a, b in found if b == "u"} - {"x"}
    assert {("u", "t"), ("v", "t"), ("x", "v")} <= found and len(decides) == 1 and (*decides, "v") in found


def test_condition_of_a_branch_is_connected():
    report = report_of(IF, x=np.eye(4, dtype=np.float32))
    check_sums(report)
    names = [n["name"] for n in report["nodes"]]
    found = arrows(report)
    product = next(n["name"] for n in report["nodes"] if n["op"] == "MatrixMul")
    assert {("c", product), ("x", product), (product, "y"), ("y", "output y")} <= found, names
    assert ("c", "y") not in found and node(report, product)["merged"] == []


def test_scan_sums_its_rounds():
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "p"], ["t"]), helper.make_node("Softmax", ["t"], ["o"])],
        "body",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in ("s", "p")],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in ("t", "o")],
    )
    scan = helper.make_node("Scan", ["a", "x"], ["last", "all"], body=body, num_scan_inputs=1, name="scan")
    model = onnx_models.make([scan], [("a", 1, [4]), ("x", 1, ["n", 4])], [("last", 1, [4]), ("all", 1, ["n", 4])])
    given = {"a": np.ones(4, np.float32), "x": np.ones((500, 4), np.float32)}
    report = megengine_lite.load(model.SerializeToString()).report(runs=2, warmup=0, **given).content["reports"][0]
    check_sums(report)
    assert node(report, "o")["runs"] == node(report, "t")["runs"] == 500
    assert {("a", "t"), ("x", "t"), ("t", "o"), ("o", "scan"), ("scan", "output all")} <= {
        (a, "scan" if b in ("last", "all") else b) if a not in ("last", "all") else ("scan", b)
        for a, b in arrows(report)
    }


def test_two_reports_with_loops_stand_side_by_side():
    model = megengine_lite.load(onnx_models.bytes_of_text(LOOP))
    x = np.eye(4, dtype=np.float32)
    reports = [model.report(runs=1, warmup=0, x=x, n=np.array([rounds])) for rounds in (2, 4)]
    both = reports[0].beside(reports[1], ("two", "four"))
    numpy = next(k for k in both.content["comparison"]["kinds"] if k["op"] == "NonZero")
    assert all(ms > 0 for ms in numpy["ms"])
    text = both.to_markdown()
    assert "None: every step" not in text and "| runs |" in text and "2 rounds" in text and both.to_html()


def test_time_between_rounds_is_not_blamed_on_the_machine():
    seconds = [0.0023, 0.0023, 0.0024]
    note = collect._note(seconds, 0.0001, 200, is_bound=False)
    assert note is not None and "rounds of loops" in note and "machine" not in note
    assert "machine" in collect._note(seconds, 0.0001, 200, is_bound=True)
    assert "machine" in collect._note(seconds, 0.01, 200, is_bound=False)  # steps cannot take longer than the run
