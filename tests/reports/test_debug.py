"""The debug ladder: what each level prints, that values are those of the steps, and that results stay the same."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from support.graphs import GraphBuilder, run, session_of
from support.instruction_sets import INSTRUCTION_SETS

from megengine_lite._core.compile import passes
from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.cpu.step_report import describe_values
from megengine_lite._core.ir.describe import describe_graph, describe_spec
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.graph import DynamicSpec
from megengine_lite._core.ir.params import CondTake, Convolution, Elemwise, ElemwiseMode
from megengine_lite._core.operators.reference import run_reference
from megengine_lite._core.system import debug
from megengine_lite.errors import InternalError, LiteValueError

RNG = np.random.default_rng(0)
STATISTICS = re.compile(r"step (\d+): (\w+) '(.*)' by (\w+) made (.*): min (\S+) max (\S+) mean (\S+) nan (\d+)")


@pytest.fixture
def at_level(monkeypatch):
    """Sets the level of the ladder as the environment of a new process would."""

    def set_level(text):
        monkeypatch.setenv(debug.VARIABLE, text)
        debug.level.cache_clear()

    yield set_level
    debug.level.cache_clear()


def conv_graph():
    """relu(conv(x)) of 3 to 5 channels, then twice of 5: blocked in between."""
    b = GraphBuilder()
    x = b.input("x", (1, 3, 8, 9))
    for oc, ic in ((5, 3), (5, 5), (5, 5)):
        w = b.constant(RNG.standard_normal((oc, ic, 3, 3), dtype=np.float32))
        x = b.node("Convolution", Convolution(pad_h=1, pad_w=1), [x, w], name="conv")
        x = b.node("Elemwise", Elemwise(mode=ElemwiseMode.RELU), [x], name="relu")
    return b.finish(x)


def take_graph():
    """Elements of x that are 1: their number depends on data."""
    b = GraphBuilder()
    x = b.input("x", (4, 5))
    taken, where = b.node("CondTake", CondTake(val=1.0), [x, x], outputs=2, name="take")
    return b.finish(taken, where)


X = RNG.standard_normal((1, 3, 8, 9), dtype=np.float32)


@pytest.mark.parametrize("text", ["", "0", " 0 "])
def test_nothing_is_printed_without_a_level(at_level, caplog, text):
    at_level(text)
    run(session_of(conv_graph()), x=X)
    assert caplog.messages == []


@pytest.mark.parametrize("text", ["5", "-1", "yes"])
def test_what_is_no_level_is_an_error(at_level, text):
    at_level(text)
    with pytest.raises(LiteValueError, match=f"MEGENGINE_LITE_DEBUG={text} is no level"):
        run(session_of(conv_graph()), x=X)


def test_level_1_has_a_line_for_each_plan(at_level, caplog):
    at_level("1")
    session = session_of(conv_graph())
    run(session, x=X)
    run(session, x=X)
    (plan,) = session.plans()
    (line,) = caplog.messages
    start = f"plan for 'x' [1, 3, 8, 9] on {kernel_set().name}: 6 nodes, 3 after passes, {len(plan.steps)} steps (0 by"
    assert line.startswith(start)
    weights = sum(s.nbytes for s in plan.constants()) / 1024
    assert f"arena {plan.arena_bytes / 1024:.1f} KiB, weights {weights:.1f} KiB, " in line
    assert re.search(r", \d+\.\d ms$", line)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_level_2_has_a_line_for_each_step(at_level, caplog, isa):
    at_level("2")
    session = session_of(conv_graph(), isa=isa)
    run(session, x=X)
    (plan,) = session.plans()
    _, *lines = caplog.messages
    assert [re.match(r"step \d+: \w+ '.*' by (\w+)", line)[1] for line in lines] == [s.kernel.name for s in plan.steps]
    convs = [line for line in lines if "FusedConv" in line and "fill_halo" not in line]
    assert len(convs) == 3
    block = f"float32[1, 5, 8, 9] blocked {kernel_set(isa).width}"
    assert all(block in line and " constant " in line for line in convs)


def test_level_2_names_python_steps(at_level, caplog):
    at_level("2")
    run(session_of(take_graph()), x=np.ones((4, 5), np.float32))
    assert any(re.search(r"step 0: CondTake 'take' by numpy, float32\[4, 5\]", line) for line in caplog.messages)


def test_level_3_shows_the_graph_after_every_pass(at_level, caplog):
    at_level("3")
    run(session_of(conv_graph()), x=X)
    shown = [m[1] for line in caplog.messages if (m := re.match(r"graph (?:after )?(.*?):", line))]
    assert shown == ["before the passes", *passes._ALL]
    text = "\n".join(caplog.messages)
    assert "graph after fuse_conv: 3 nodes\n  inputs %1 'x' float32[1, 3, 8, 9]\n" in text.replace("%0", "%1")
    assert "graph after fuse_matmul: unchanged" in text


def test_level_3_names_the_pass_that_damages_a_graph(at_level, caplog, monkeypatch):
    def damage(graph, pool):
        graph.nodes.reverse()

    monkeypatch.setitem(passes._ALL, "simplify", damage)
    at_level("3")
    with pytest.raises(InternalError, match="which is not computed before it"):
        run(session_of(conv_graph()), x=X)
    assert [line for line in caplog.messages if line.startswith("graph")][-1] == "graph after simplify: 6 nodes"


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_level_4_has_the_values_of_every_step(at_level, caplog, isa, threads):
    graph = conv_graph()
    expected = run(session_of(graph, isa=isa, threads=threads), x=X)[0]
    at_level("4")
    session = session_of(graph, isa=isa, threads=threads)
    for _ in range(2):
        caplog.clear()
        np.testing.assert_array_equal(run(session, x=X)[0], expected)
        found = [m.groups() for line in caplog.messages if (m := STATISTICS.match(line))]
        images = [run_reference(graph_up_to(graph, node), {"x": X})[0] for node in graph.nodes if node.op == "Elemwise"]
        made = [[float(n) for n in f[5:]] for f in found if f[1] == "FusedConv"]
        numbers = [[i.min(), i.max(), i.mean(), 0] for i in images]
        np.testing.assert_allclose(made, numbers, rtol=1e-4, atol=1e-5)


def graph_up_to(graph, node):
    """The nodes of a graph up to one, whose output is the only one."""
    nodes = graph.nodes[: graph.nodes.index(node) + 1]
    return type(graph)(nodes, graph.inputs, node.outputs, ["y"])


def test_level_4_counts_nan(at_level, caplog):
    at_level("4")
    b = GraphBuilder()
    x = b.input("x", (6,))
    y = b.node("Elemwise", Elemwise(mode=ElemwiseMode.EXP), [x], name="exp")
    run(session_of(b.finish(y)), x=np.array([0, np.nan, 1, np.nan, 0, 0], np.float32))
    (found,) = [m.groups() for line in caplog.messages if (m := STATISTICS.match(line))]
    assert found[1:3] == ("FusedElemwise", y.name)
    assert [float(n) for n in found[5:]] == pytest.approx([1, np.e, (3 + np.e) / 4, 2], rel=1e-5)


def test_level_4_gives_outputs_whose_shape_depends_on_data(at_level):
    x = np.array([[1, 0, 1, 1, 0]] * 4, np.float32)
    expected = run(session_of(take_graph()), x=x)
    at_level("4")
    for got, want in zip(run(session_of(take_graph()), x=x), expected, strict=True):
        np.testing.assert_array_equal(got, want)
    assert expected[0].size == 12


def test_lines_go_to_stderr_of_a_program_without_handlers():
    code = "import megengine_lite as m; m._core.system.debug.level(); m._core.system.debug.say('hello')"
    code = code.replace("import megengine_lite as m", "import megengine_lite as m, megengine_lite._core.system.debug")
    environment = {**os.environ, debug.VARIABLE: "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"LITE\[DBG\] [\d:.]+ hello\n", done.stderr)
    assert done.stdout == ""


def test_text_of_specs_graphs_and_values():
    assert describe_spec(None) == "?"
    assert describe_spec(DynamicSpec(FLOAT32)) == "float32[?]"
    b = GraphBuilder()
    x = b.input("x", (2, 3))
    y = b.node("Elemwise", Elemwise(mode=ElemwiseMode.ADD), [x, b.constant(np.zeros(3, np.float32))], name="sum")
    assert describe_graph(b.finish(y)) == [
        "inputs %1 'x' float32[2, 3]",
        "%3 ? = Elemwise 'sum' (%1, constant float32[3])",
        "outputs 'sum2' %3",
    ]
    assert describe_values(np.full(3, np.nan, np.float32)) == "no number, nan 3"
    assert describe_values(np.zeros(0, np.float32)) == "no number, nan 0"
    assert describe_values(np.array([-3, 5], np.int8)) == "min -3 max 5 mean 1 nan 0"
    assert describe_values(np.array([True, False])) == "min 0 max 1 mean 0.5 nan 0"
