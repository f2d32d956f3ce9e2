"""A copy of a model's graph whose variables have shapes, as far as these can be inferred without running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from megengine_lite._core.compile.infer import infer_node, missing_value
from megengine_lite._core.ir.graph import AnyNode, AnyVar, ConstantPool, ModelGraph, Node, TensorSpec, Var


def shaped_graph(source: ModelGraph, pool: ConstantPool) -> ModelGraph:
    """The copy; shapes are those for the inputs that the file describes.

    A node whose shapes are all known becomes a :class:`Node`. Nodes that compute only from weights are gone, their
    outputs are constants. Nodes that compute shapes stay, as another input would give them other values.
    """
    # Inference has variables of its own, whose values may follow from shapes. Variables of the copy never have those.
    inferred: dict[AnyVar, Var] = {}
    copies: dict[AnyVar, AnyVar] = {}

    def define(var: Var) -> None:
        value = None if var.const is None else var.const.array
        inferred[var] = Var(var.id, var.name, TensorSpec(var.shape, var.dtype, value), var.const)
        copies[var] = Var(var.id, var.name, TensorSpec(var.shape, var.dtype), var.const)

    for given in source.inputs:
        define(given)
    nodes: list[AnyNode] = []
    for node in source.nodes:
        for var in node.inputs:
            if isinstance(var, Var) and var.const is not None and var not in copies:
                define(var)
        outs = _infer(node, [inferred[v] for v in node.inputs if v in inferred], pool)
        folded = all(copies[v].const is not None for v in node.inputs) and all(v.const is not None for v in outs)
        for var, out in zip(node.outputs, outs, strict=True):
            if isinstance(out, Var):
                inferred[var] = out
                const = out.const if folded else None
                copies[var] = Var(var.id, var.name, TensorSpec(out.shape, out.dtype), const)
            else:
                copies[var] = AnyVar(var.id, var.name, out.spec)
        if not folded:
            nodes.append(_copied(node, copies))
    for var in source.outputs:
        if isinstance(var, Var) and var not in copies:  # a constant that only the caller reads
            copies[var] = Var(var.id, var.name, TensorSpec(var.shape, var.dtype), var.const)
    inputs = [v for v in map(copies.get, source.inputs) if isinstance(v, Var)]
    return ModelGraph(nodes, inputs, [copies[v] for v in source.outputs], list(source.output_names))


def _infer(node: AnyNode, ins: Sequence[Var], pool: ConstantPool) -> Sequence[AnyVar]:
    """The outputs of a node. Nothing is known of them if they cannot be inferred without running the model.

    ``ins`` are the inputs of known shape.
    """
    if len(ins) != len(node.inputs) or missing_value(node, ins) is not None:
        return [AnyVar(v.id, v.name) for v in node.outputs]
    return infer_node(node, ins, pool)


def _copied(node: AnyNode, copies: Mapping[AnyVar, AnyVar]) -> AnyNode:
    """A copy of a node that reads and computes the copies of its variables."""
    ins, outs = [copies[v] for v in node.inputs], [copies[v] for v in node.outputs]
    shaped_ins, shaped_outs = [v for v in ins if isinstance(v, Var)], [v for v in outs if isinstance(v, Var)]
    if len(shaped_ins) == len(ins) and len(shaped_outs) == len(outs):
        return Node(node.op, node.params, shaped_ins, shaped_outs, node.name, node.output_dtype, node.payload)
    return AnyNode(node.op, node.params, ins, outs, node.name, node.output_dtype, node.payload)
