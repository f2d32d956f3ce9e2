"""benchmarks/operators.py: its cases are valid models, and it measures and judges them."""

import sys

import numpy as np
import pytest
from support.places import ROOT

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import operators

    yield operators
    for name in ("operators", "operator_cases"):
        sys.modules.pop(name, None)


def test_every_case_is_a_valid_model_with_a_name_of_its_own(benchmark):
    names = [case.name for case in benchmark.CASES]
    assert len(set(names)) == len(names) > 150
    context = onnx.checker.C.CheckerContext()
    for case in benchmark.CASES:
        model, _ = benchmark.model_of(case)
        context.ir_version, context.opset_imports = model.ir_version, {"": case.opset}
        onnx.checker.check_node(model.graph.node[0], context)


def test_results_are_compared(benchmark):
    case = next(c for c in benchmark.CASES if c.name == "TopK 5 of 8400")
    result = benchmark.measure(case, threads=1, rounds=1)
    assert result.fault == ""
    assert result.ratio == pytest.approx(result.ours / result.theirs)
    ones = [np.ones((2, 3))]
    assert benchmark.difference(ones, ones, 1e-3) == ""
    assert "differs by 1" in benchmark.difference([np.zeros((2, 3))], ones, 1e-3)
    assert "has the shape (3,), not (2, 3)" in benchmark.difference([np.ones(3)], ones, 1e-3)


def test_what_does_not_run_ends_with_an_error(benchmark, monkeypatch, capsys):
    unknown = benchmark.Case("NoSuchOperator", "NoSuchOperator", [])
    monkeypatch.setattr(benchmark, "CASES", [unknown])
    monkeypatch.setattr(sys, "argv", ["operators.py", "--rounds", "1"])
    assert benchmark.main() == 1
    assert "NoSuchOperator" in capsys.readouterr().out
