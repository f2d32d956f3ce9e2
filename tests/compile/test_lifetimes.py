"""How long variables are needed in graphs whose nodes are replaced by graphs, again and again."""

import random

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import load, make, run

from megengine_lite._core.compile import lifetimes as module
from megengine_lite._core.compile.lifetimes import Lifetimes
from megengine_lite._core.ir.graph import AnyNode, AnyVar, ModelGraph
from megengine_lite._core.ir.params import Empty


class Graphs:
    """Random graphs, whose nodes read any of some variables."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.variables = [AnyVar(k, f"v{k}") for k in range(12)]

    def nodes(self, count):
        return [
            AnyNode("Identity", Empty(), self.random.sample(self.variables, self.random.randrange(3)), [], "")
            for _ in range(count)
        ]

    def graph(self, nodes, outputs):
        return ModelGraph(nodes, [], outputs, [""] * len(outputs))


@pytest.mark.parametrize("seed", range(200))
def test_they_are_those_of_the_graph_that_comes_out(seed):
    """Nodes are replaced from the front to the back, also inside of what has taken the place of others."""
    made = Graphs(seed)
    outputs = made.variables[:2]
    nodes, position = made.nodes(made.random.randrange(1, 12)), 0
    found = Lifetimes.of(made.graph(nodes, outputs))
    while position < len(nodes):
        if made.random.random() < 0.6 and len(nodes) < 60:
            inner = made.nodes(made.random.randrange(4))
            nodes = [*nodes[:position], *inner, *nodes[position + 1 :]]
            found = found.expanded(position, inner)
        position += made.random.randrange(2)
        expected = Lifetimes.of(made.graph(nodes, outputs))
        for later in range(position, len(nodes) + 1):
            for var in made.variables:
                assert found.is_read(var, later) == any(var in node.inputs for node in nodes[later:])
                assert found.is_read(var, later) == expected.is_read(var, later)
                assert found.is_needed(var, later) == (var in outputs or expected.is_read(var, later))


@pytest.mark.parametrize("count", [20, 80])
def test_branches_in_a_row_are_counted_once(count, monkeypatch):
    """Nodes that are looked at grow with the number of branches, not with its square."""
    F, BOOL = TensorProto.FLOAT, TensorProto.BOOL
    nodes = []
    for k in range(count):
        branches = [
            helper.make_graph(
                [helper.make_node(op, [f"y{k}"], ["r"])], op, [], [helper.make_tensor_value_info("r", F, [2])]
            )
            for op in ("Neg", "Abs")
        ]
        chosen = {"then_branch": branches[0], "else_branch": branches[1]}
        nodes.append(helper.make_node("If", ["c"], [f"y{k + 1}"], **chosen))
    network = load(make(nodes, [("y0", F, [2]), ("c", BOOL, [])], [(f"y{count}", F, [2])]))
    looked_at = []
    original = module._last_reads
    monkeypatch.setattr(module, "_last_reads", lambda nodes, end: looked_at.append(len(nodes)) or original(nodes, end))
    (y,) = run(network, y0=np.float32([1, -2]), c=np.uint8([1]))
    np.testing.assert_array_equal(y, np.float32([1, -2]) * (-1) ** count)
    assert 0 < sum(looked_at) <= 5 * count
