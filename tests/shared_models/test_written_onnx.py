"""Networks and operators of the shared collection, written as ONNX, against what the original computed."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from support.graphs import run, session_of
from support.onnx_exports import exported, run_onnx, tiled
from tolerance import DEVIATIONS, MODELS, check_outputs, find_cases, find_tolerance, load_case

from megengine_lite._core.formats.load import load_model
from megengine_lite._core.operators.reference import run_reference
from megengine_lite.errors import UnsupportedOperatorError

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not MODELS.is_dir(), reason="the shared model collection is absent"),
]

# What ONNX cannot say.
REFUSED = r"matinv.*|svd_values|deformable_psroi_pooling"
# QuantizeLinear rounds halves of a step to even numbers. Whole int8 networks with random weights make much of a step.
STEPS = r"q(?!at_).*"
INT8 = 0.1
# MAX and MIN of a number and NaN are NaN in ONNX.
NAN = "func_nan_inf"


def check(group, name, outputs, expected):
    """As the tolerances of the collection say; for int8 what its description says."""
    case = name.removesuffix(".v1")
    if not (group == "nets" and "int8" in case) and not (group == "ops" and re.fullmatch(STEPS, case)):
        check_outputs(group, name, outputs, expected)
        return
    for got, want in zip(outputs, expected, strict=True):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        difference = abs(got.astype(float) - want.astype(float)).max(initial=0)
        if group == "nets":
            assert difference <= INT8 * abs(want).max(initial=0)
        else:
            values = sorted(set(want.astype(float).reshape(-1).tolist()))
            step = min((b - a for a, b in pairwise(values)), default=0)
            assert difference <= 1.01 * step or find_tolerance(group, case).relative * abs(want).max() >= difference


CASES = [("nets", n) for n in find_cases("nets")] + [("ops", n) for n in find_cases("ops")]


@pytest.mark.parametrize(("group", "name"), CASES, ids=[f"{group}/{name}" for group, name in CASES])
def test_exported_model_gives_recorded_outputs(group, name):
    path, inputs, expected = load_case(group, name)
    graph = load_model(path).graph
    if group == "ops" and re.fullmatch(REFUSED, name):
        with pytest.raises(UnsupportedOperatorError):
            exported(graph)
        return
    if name.removesuffix(".v1") in DEVIATIONS:
        expected = run_reference(graph, inputs)
    content, known = exported(graph)
    if name != NAN:
        check(group, name, run_onnx(content, inputs), expected)
    if group == "nets":
        for sizes in known.sizes[1:2]:
            given = tiled(inputs, sizes)
            check(group, name, run_onnx(content, given), run_reference(graph, given))
    if name != NAN:
        check_import(group, name, content, inputs, expected)


def check_import(group, name, content, inputs, expected):
    """What is written is read again, and gives the same. A graph that waits for shapes has no definition before."""
    graph = load_model(content).graph
    session = session_of(graph)
    outputs = run(session, **{v.name: inputs[v.name] for v in graph.inputs})
    check(group, name, [o.astype(e.dtype) for o, e in zip(outputs, expected, strict=True)], expected)


@pytest.mark.parametrize("name", [n for n in find_cases("nets") if not n.endswith(".v1")])
def test_exported_network_may_be_optimized(name):
    """ONNX Runtime's own fusions recognise what is written, quantized operators among them."""
    path, inputs, expected = load_case("nets", name)
    content, _ = exported(load_model(path).graph)
    check("nets", name, run_onnx(content, inputs, optimized=True), expected)
