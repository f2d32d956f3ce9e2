"""The fixed part: the same graphs of each family at every run, each at the defaults and at other settings by chance."""

import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from support.places import TESTS

from generated.check import Checker, check_case
from generated.files import model_bytes
from generated.grammar import FAMILIES, make_case, reorder
from generated.maker import Case, Maker, Rejected
from generated.settings import default_settings, every_setting, some_settings
from generated.shrink import describe, shrink
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.ir.graph import ModelGraph
from megengine_lite._core.ir.params import Axis, Elemwise, ElemwiseMode
from megengine_lite._core.operators.reference import run_reference
from megengine_lite._records import replace

GROUP = 10
GROUPS = 12
CHANCE = 3  # settings by chance for each graph
FULL = 2  # graphs of each family that are run at all settings

needs_guards = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs mprotect")


def report(failures, case):
    return f"{case.label}\n" + "\n".join(map(str, failures)) + "\n" + "\n".join(describe(case))


@needs_guards
@pytest.mark.parametrize("group", range(GROUPS))
@pytest.mark.parametrize("family", FAMILIES)
def test_graphs_are_right(family, group):
    for seed in range(group * GROUP, (group + 1) * GROUP):
        case = make_case(family, seed)
        settings = [*default_settings(), *some_settings(random.Random(case.label), CHANCE)]
        failures = check_case(case, settings)
        assert not failures, report(failures, case)


@needs_guards
@pytest.mark.parametrize("seed", range(1000, 1000 + FULL))
@pytest.mark.parametrize("family", FAMILIES)
def test_graphs_are_right_at_every_setting(family, seed):
    case = make_case(family, seed)
    failures = check_case(case, every_setting())
    assert not failures, report(failures, case)


# ---- the machine itself ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_seed_tells_graph(family):
    """Another process, with another seed of hashes, makes the same graph."""
    script = (
        "import json, zlib; from generated.grammar import make_case; from generated.shrink import describe\n"
        f"c = make_case({family!r}, 5)\n"
        "print(json.dumps([list(describe(c)), [zlib.crc32(a.tobytes()) for r in c.runs for a in r.values()]]))"
    )
    shown = []
    for hash_seed in "1", "2":
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", script]
        process = subprocess.run(command, env=environment, cwd=TESTS, capture_output=True, check=True)
        shown.append(json.loads(process.stdout))
    assert shown[0] == shown[1]
    assert shown[0][0] == list(describe(make_case(family, 5)))


def test_graphs_have_what_families_promise():
    """Several outputs, outputs that are read, that are inputs, that have two names; all types; other shapes."""
    kinds = set()
    types = set()
    for family in FAMILIES:
        for seed in range(40):
            case = make_case(family, seed)
            graph = case.graph
            read = {v for node in graph.nodes for v in node.inputs}
            kinds |= {"several"} if len(graph.outputs) > 1 else set()
            kinds |= {"read"} if any(v in read for v in graph.outputs) else set()
            kinds |= {"input"} if any(v in graph.inputs for v in graph.outputs) else set()
            kinds |= {"twice"} if len(set(graph.outputs)) < len(graph.outputs) else set()
            kinds |= {"shapes"} if len({run[graph.inputs[0].name].shape for run in case.runs}) == 3 else set()
            types |= {v.dtype.name for node in graph.nodes for v in node.outputs}
    assert kinds == {"several", "read", "input", "twice", "shapes"}
    assert types >= {"float32", "float16", "quantized_s8", "quantized8_asymm", "quantized_s32", "int32", "bool"}


def test_most_graphs_can_be_compared():
    checkers = [Checker(make_case(family, seed)) for family in FAMILIES for seed in range(10)]
    assert sum(c.uncertain for c in checkers) <= 3


def test_another_order_keeps_the_meaning():
    case = make_case("mixed", 3)
    nodes = reorder(case.graph.nodes, random.Random(1))
    assert nodes != case.graph.nodes and set(nodes) == set(case.graph.nodes)
    other = ModelGraph(nodes, case.graph.inputs, case.graph.outputs, case.graph.output_names)
    for got, want in zip(run_reference(other, case.runs[0]), run_reference(case.graph, case.runs[0]), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("family", FAMILIES)
def test_files_hold_the_graph(family, tmp_path):
    case = make_case(family, 7)
    path = tmp_path / "case.mge"
    path.write_bytes(model_bytes(case.graph))
    model = load_model(path)
    assert len(model.output_names) == len(case.graph.output_names)
    for got, want in zip(
        run_reference(model.graph, case.runs[0]), run_reference(case.graph, case.runs[0]), strict=True
    ):
        np.testing.assert_array_equal(got, want)


@needs_guards
def test_faults_are_found_and_made_small(monkeypatch):
    """A concatenation that forgets its last operand is seen, and little remains of the graph."""
    from megengine_lite._core.cpu import planner
    from megengine_lite._core.cpu.dispatch import DispatchTable

    (row,) = planner.TABLE.of("Concat")

    def forgetful(ctx, node):
        outcome = row.lower(ctx, node)
        if len(node.inputs) > 2:
            ctx.steps.pop()
        return outcome

    others = [r for r in planner.TABLE.rows if r is not row]
    monkeypatch.setattr(planner, "TABLE", DispatchTable([*others, replace(row, lower=forgetful)]))
    m = Maker("fault")
    x, y, z = (m.data((2, 3, 5)) for _ in range(3))
    total = m.op("Elemwise", Elemwise(mode=ElemwiseMode.ADD), x, y)
    joined = m.op("Concat", Axis(axis=1), total, y, z)
    last = m.op("Elemwise", Elemwise(mode=ElemwiseMode.RELU), joined)
    case = Case("fault", m.finish(last, total), [{v.name: m.values[v] for v in (x, y, z)}])
    failures = check_case(case, some_settings(random.Random(1), 4))
    assert failures and {f.kind for f in failures} == {"wrong"}
    small, failure = shrink(case, failures[0])
    assert [n.op for n in small.graph.nodes] == ["Concat"]
    assert failure.kind == "wrong"
    assert all(a.shape[0] == 1 for a in small.runs[0].values())


def test_steps_that_fail_leave_nothing():
    m = Maker("rejected")
    m.data((1, 2))

    def step(m):
        m.op("Elemwise", Elemwise(mode=ElemwiseMode.RELU), m.pool[0])
        raise Rejected

    assert not m.attempt(step)
    assert not m.nodes and len(m.pool) == 1
