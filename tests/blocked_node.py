"""Runs one node on blocked tensors: its image inputs come out of convolutions that change nothing."""

import numpy as np
from fuzz.guarded_memory import run_guarded

from megengine_lite._core.compile.infer import infer_stage
from megengine_lite._core.config import SessionConfig
from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.cpu.planner import build_plan
from megengine_lite._core.ir.dtype import from_numpy
from megengine_lite._core.ir.fused import FusedConv
from megengine_lite._core.ir.graph import Constant, ConstantPool, Graph, Node, TensorSpec, Var
from megengine_lite._core.operators import REGISTRY


def variable(number, array, constant=False):
    """A graph variable of an array's type."""
    const = Constant(array, ("weight", number)) if constant else None
    return Var(
        number, f"v{number}", TensorSpec(array.shape, from_numpy(array.dtype), array if constant else None), const
    )


def run_blocked(op, params, inputs, isa, constants=(), threads=1, plain=(), output=0):
    """One output of a node whose float32 image inputs are blocked, and the names of all kernels that ran.

    ``constants`` are the positions of inputs that the planner may look at, ``plain`` those of inputs that are left as
    they are; all others must be images [N, C, H, W].
    All memory is guarded, and filled with NaN before.
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
    specs = REGISTRY[op].infer(node, [v.spec for v in operands])
    node.outputs = [Var(number + k, f"y{k}", spec) for k, spec in enumerate(specs)]
    result = node.outputs[output]
    free = [v for k, v in enumerate(variables) if k not in constants]
    graph = Graph([*nodes, node], free, [result], ["y"])
    config = SessionConfig(threads=threads, isa=isa, fuse=False)

    def make_plan():
        stage = infer_stage(graph, 0, {v: v.spec for v in free}, ConstantPool())
        return build_plan(stage, kernel_set(isa), ConstantPool(), config)

    (out,), plan = run_guarded(make_plan, lambda var: inputs[var.id])
    return out, [getattr(s, "kernel", None) and s.kernel.name for s in plan.steps]


def definition(op, params, inputs, constants=()):
    """The first output of a node by its definition in numpy."""
    variables = [variable(k, a, k in constants) for k, a in enumerate(inputs)]
    node = Node(op, params, variables, (), "node")
    specs = [v.spec for v in variables]
    return REGISTRY[op].compute(node, inputs, specs, REGISTRY[op].infer(node, specs))[0]
