"""Runs one node through the planner and the kernels of one instruction set, for tests of kernels."""

import numpy as np
from fuzz.guarded_memory import INSTRUCTION_SETS, run_guarded

from megengine_lite._core.compile.infer import infer_stage
from megengine_lite._core.config import SessionConfig
from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.cpu.planner import build_plan
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.graph import Constant, ConstantPool, Graph, Node, TensorSpec, Var
from megengine_lite._core.operators import REGISTRY

__all__ = ["INSTRUCTION_SETS", "relative_error", "run_node"]


def variable(number, array, constant=False):
    """A graph variable for an array."""
    const = Constant(array, ("weight", number)) if constant else None
    return Var(number, f"v{number}", TensorSpec(array.shape, FLOAT32, array if constant else None), const)


def run_node(op, params, inputs, constants, isa, threads=1, fuse=False):
    """The only output of a node, and the kernels that made it.

    ``inputs`` are float32 arrays, ``constants`` the positions of those that the planner may look at. All memory
    is guarded, and filled with NaN before, so that reading what was never written shows.
    """
    variables = [variable(k, a, k in constants) for k, a in enumerate(inputs)]
    result = Var(len(inputs), "y")
    node = Node(op, params, variables, [result], "node")
    result.spec = REGISTRY[op].infer(node, [v.spec for v in variables])[0]
    free = [v for v in variables if v.const is None]
    graph = Graph([node], free, [result], ["y"])
    config = SessionConfig(threads=threads, isa=isa, fuse=fuse)

    def make_plan():
        stage = infer_stage(graph, 0, {v: v.spec for v in free}, ConstantPool())
        return build_plan(stage, kernel_set(isa), ConstantPool(), config)

    (out,), plan = run_guarded(make_plan, lambda var: inputs[var.id])
    return out, [getattr(s, "kernel", None) and s.kernel.name for s in plan.steps]


def relative_error(actual, expected):
    return np.abs(actual - expected).max() / np.abs(expected).max()
