"""Computes in float32 what a model stores as float16.

Each float16 variable between operators gets a float32 twin. Conversions remain only where float16 enters or leaves the
graph. This is more exact than rounding after every operator, and no operator needs a second kernel.
"""

from __future__ import annotations

import numpy as np

from megengine_lite._core.compile.substitution import Substitution
from megengine_lite._core.ir.dtype import FLOAT32, DTypeCode
from megengine_lite._core.ir.graph import ConstantPool, DynamicVar, Graph, Node, TensorSpec, Var
from megengine_lite._core.ir.params import DTypeTable
from megengine_lite._core.operators import REGISTRY


def run(graph: Graph, pool: ConstantPool) -> None:
    """Rewrites the graph; does nothing to one without float16."""
    if not any(_is_half(v) for node in graph.nodes for v in node.outputs):
        return
    twins: dict[Var, Var] = {}
    nodes = Substitution(graph)
    for node in nodes:
        if node.op == "TypeCvt" and node.inputs[0] in twins and node.outputs[0].dtype == FLOAT32:
            nodes.replace(node.outputs[0], twins[node.inputs[0]])
            continue
        operator = REGISTRY[node.op]
        if not operator.runs_in_float32 or not any(map(_is_half, (*node.inputs, *node.outputs))):
            nodes.add(node)
            continue
        inputs = [_widened(v, twins, nodes, pool) if _is_half(v) else v for v in node.inputs]
        outputs = [Var(v.id, v.name, TensorSpec(v.shape, FLOAT32)) if _is_half(v) else v for v in node.outputs]
        params = operator.float32_params(node.params)
        nodes.add(Node(node.op, params, inputs, outputs, node.name, None, node.payload))
        for narrow, wide in zip(node.outputs, outputs, strict=True):
            if wide is not narrow:
                twins[narrow] = wide
                nodes.add(_conversion(wide, narrow))
    nodes.finish()


def _is_half(var: Var | DynamicVar) -> bool:
    return var.spec.dtype.code == DTypeCode.FLOAT16


def _widened(var: Var, twins: dict[Var, Var], nodes: Substitution, pool: ConstantPool) -> Var:
    twin = twins.get(var)
    if twin is None:
        twin = Var(var.id, var.name, TensorSpec(var.shape, FLOAT32))
        if var.const is not None:
            twin.const = pool.derive("float32", [var.const], lambda a: a.astype(np.float32))
        else:
            nodes.add(_conversion(var, twin))
        twins[var] = twin
    return twin


def _conversion(source: Var, target: Var) -> Node:
    return Node("TypeCvt", DTypeTable(dtype=target.dtype), [source], [target])
