"""Plans that explain themselves: their nodes, and the results of these."""

from __future__ import annotations

import numpy as np
import pytest
from support.api_samples import DIGITS, IMAGES
from support.instruction_sets import INSTRUCTION_SETS
from support.places import TESTS

from megengine_lite._core.formats.load import load_model
from megengine_lite._core.operators.reference import run_reference
from megengine_lite._core.runtime.session import Session
from megengine_lite._core.session_config import SessionConfig


def explained(model, inputs, **config):
    session = Session(model, SessionConfig(explain=True, **config))
    for name, array in inputs.items():
        session.set_array(name, np.ascontiguousarray(array))
    session.run()
    return session


def test_plan_tells_its_nodes_and_steps():
    session = explained(load_model(DIGITS), {"data": IMAGES})
    (report,) = [plan.report() for plan in session.plans()]
    graph = report.graph
    assert graph is not None
    assert [graph.variables[place].name for place, _ in graph.inputs] == ["data"]
    assert [graph.variables[place].name for place, _ in graph.outputs] == ["prob"]
    ends = [0]
    known = {place for place, _ in graph.inputs}
    for node in graph.nodes:
        assert node.first == ends[-1] and node.first <= node.end
        assert set(node.reads) <= known
        known.update(node.makes)
        ends.append(node.end)
    assert ends[-1] <= len(report.steps) and known == set(range(len(graph.variables)))
    for node in graph.nodes:
        own = {s.origin.op for s in report.steps[node.first : node.end]}
        assert own <= {node.origin.op, "Relayout"}
    memory = {graph.variables[place].memory for node in graph.nodes for place in node.makes}
    assert "row-major" in memory and any("channels" in m for m in memory)


def test_plan_that_is_not_asked_explains_nothing():
    session = Session(load_model(DIGITS), SessionConfig())
    session.set_array("data", IMAGES)
    session.run()
    assert [plan.report().graph for plan in session.plans()] == [None]
    seen: list = []
    session.run_watched(seen.append)
    assert seen == []


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("fuse", [True, False])
def test_results_of_nodes_are_those_of_the_definitions(isa, fuse):
    model = load_model(DIGITS)
    session = explained(model, {"data": IMAGES}, isa=isa, fuse=fuse)
    seen = {}
    session.run_watched(lambda r: seen.update({r.variable.id: (r.op, r.array.copy())}))
    whole = load_model(DIGITS).graph
    whole.outputs = [v for node in whole.nodes for v in node.outputs if v.id in seen]
    assert len(whole.outputs) == len(seen) >= 8
    for var, expected in zip(whole.outputs, run_reference(whole, {"data": IMAGES}), strict=True):
        np.testing.assert_allclose(seen[var.id][1], expected, rtol=1e-4, atol=1e-4, err_msg=var.name)
    (prob,) = model.graph.outputs
    assert seen[prob.id][0] == "Softmax"


def test_results_of_all_parts_of_a_model_are_shown():
    """Sizes in this one depend on data, so it runs by two plans."""
    model = load_model(TESTS / "models" / "loader" / "nms_0.8.mge")
    session = explained(model, {v.name: np.ones(v.shape, v.dtype.storage) for v in model.graph.inputs})
    counts = [len(plan.report().graph.nodes) for plan in session.plans()]
    assert len(counts) == 2
    seen: dict[int, np.ndarray] = {}
    session.run_watched(lambda r: seen.update({r.variable.id: r.array.copy()}))
    (kept,) = model.graph.outputs
    np.testing.assert_array_equal(seen[kept.id], session.output(session.output_names[0]).array())
