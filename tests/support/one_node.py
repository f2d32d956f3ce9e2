"""Runs one node through the planner and the kernels of one instruction set, for tests of kernels.

All memory is guarded, and filled with NaN before, so that reading what was never written shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from megengine_lite._core.compile.infer import infer_stage
from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.cpu.planner import build_plan
from megengine_lite._core.cpu.steps import HostStep
from megengine_lite._core.ir.dtype import FLOAT64, INT64, from_numpy
from megengine_lite._core.ir.fused import FusedConv
from megengine_lite._core.ir.graph import Constant, ConstantPool, Graph, Node, TensorSpec, Var
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.session_config import AlgoPolicy, SessionConfig
from support.guarded_memory import run_guarded
from support.instruction_sets import INSTRUCTION_SETS

__all__ = ["INSTRUCTION_SETS", "definition", "relative_error", "run_blocked", "run_graph", "run_node"]

NOTHING: Mapping[str, str] = MappingProxyType({})
WIDE = {np.dtype(np.int64): INT64, np.dtype(np.float64): FLOAT64}


def variable(number, array, constant=False):
    """A graph variable of an array's type."""
    const = Constant(array, ("weight", number)) if constant else None
    dtype = WIDE.get(array.dtype) or from_numpy(array.dtype)
    spec = TensorSpec(array.shape, dtype, array if constant else None)
    return Var(number, f"v{number}", spec, const)


def run_graph(
    graph: Graph,
    value_of: Callable[[Var], np.ndarray],
    isa: str,
    *,
    threads: int = 1,
    fuse: bool = False,
    forced: Mapping[str, str] = NOTHING,
    precision: str = "float32",
) -> tuple[list[np.ndarray], list[str | None]]:
    """The outputs of a graph, and the kernels that made them in order (None for Python steps).

    ``forced`` names the algorithm of an operator, as ``AlgoPolicy.forced`` does.
    """
    config = SessionConfig(threads=threads, isa=isa, fuse=fuse, precision=precision, algo=AlgoPolicy(forced=forced))

    def make_plan():
        stage = infer_stage(graph, 0, {v: v.spec for v in graph.inputs}, ConstantPool())
        return build_plan(stage, kernel_set(isa), ConstantPool(), config)

    arrays, plan = run_guarded(make_plan, value_of)
    outputs = {slot.var: array for slot, array in zip(plan.outputs, arrays, strict=True)}
    kernels = [None if isinstance(s, HostStep) else s.kernel.name for s in plan.steps]
    return [outputs[v] for v in graph.outputs], kernels


def attach_outputs(node, first):
    """Gives a node the outputs that its operator infers, numbered from ``first`` on."""
    specs = REGISTRY[node.op].infer(node, [v.spec for v in node.inputs])
    node.outputs = [Var(first + k, f"y{k}", spec) for k, spec in enumerate(specs)]


def run_node(op, params, inputs, constants, isa, threads=1, fuse=False, forced=NOTHING, precision="float32"):
    """The first output of a node, and the kernels that made it.

    ``inputs`` are arrays, ``constants`` the positions of those that the planner may look at.
    """
    variables = [variable(k, a, k in constants) for k, a in enumerate(inputs)]
    node = Node(op, params, variables, [], "node")
    attach_outputs(node, len(inputs))
    graph = Graph([node], [v for v in variables if v.const is None], node.outputs[:1], ["y"])
    (out,), kernels = run_graph(
        graph, lambda var: inputs[var.id], isa, threads=threads, fuse=fuse, forced=forced, precision=precision
    )
    return out, kernels


def run_blocked(op, params, inputs, isa, constants=(), threads=1, plain=(), output=0):
    """One output of a node whose float32 image inputs are blocked, and the names of all kernels that ran.

    The images come out of convolutions that change nothing. ``constants`` are the positions of inputs that the planner
    may look at, ``plain`` those of inputs that are left as they are; all others must be images [N, C, H, W].
    """
    variables = [variable(k, a, k in constants) for k, a in enumerate(inputs)]
    nodes, operands, number = [], [], len(inputs)
    for k, (v, array) in enumerate(zip(variables, inputs, strict=True)):
        if k in constants or k in plain:
            operands.append(v)
            continue
        channels = array.shape[1]
        weight = variable(number, np.eye(channels, dtype=np.float32).reshape(channels, channels, 1, 1), True)
        same = Var(number + 1, "", v.spec)
        nodes.append(Node("FusedConv", FusedConv(0, 0, 1, 1, 1, 1, 1), [v, weight], [same]))
        operands.append(same)
        number += 2
    node = Node(op, params, operands, [], "node")
    attach_outputs(node, number)
    free = [v for v in variables if v.const is None]
    graph = Graph([*nodes, node], free, [node.outputs[output]], ["y"])
    (out,), kernels = run_graph(graph, lambda var: inputs[var.id], isa, threads=threads)
    return out, kernels


def definition(op, params, inputs, constants=(), output=0):
    """One output of a node by its definition in numpy."""
    variables = [variable(k, a, k in constants) for k, a in enumerate(inputs)]
    node = Node(op, params, variables, (), "node")
    specs = [v.spec for v in variables]
    return REGISTRY[op].compute(node, inputs, specs, REGISTRY[op].infer(node, specs))[output]


def relative_error(actual, expected):
    return np.abs(actual - expected).max() / np.abs(expected).max()
