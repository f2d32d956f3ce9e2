"""A copy of a model's graph whose variables have shapes, as far as these can be inferred without running it."""

from __future__ import annotations

from megengine_lite._core.compile.infer import infer_node, missing_value
from megengine_lite._core.ir.graph import ConstantPool, Graph, Node, TensorSpec, Var


def is_shaped(node: Node) -> bool:
    """Whether all shapes around a node are known."""
    return all(v.spec is not None and v.spec.shape is not None for v in (*node.inputs, *node.outputs))


def shaped_graph(source: Graph, pool: ConstantPool) -> Graph:
    """The copy; shapes are those for the inputs that the file describes.

    Nodes that compute only from weights are gone, their outputs are constants. Nodes that compute shapes stay, as
    another input would give them other values.
    """
    # Inference has variables of its own, whose values may follow from shapes. Variables of the copy never have those.
    inferred: dict[Var, Var] = {}
    copies: dict[Var, Var] = {}

    def define(var: Var, spec: TensorSpec | None) -> None:
        known = None if spec is None else TensorSpec(spec.shape, spec.dtype)
        inferred[var] = Var(var.id, var.name, spec, var.const)
        copies[var] = Var(var.id, var.name, known, var.const)

    for var in source.inputs:
        define(var, var.spec)
    nodes: list[Node] = []
    for node in source.nodes:
        for var in node.inputs:
            if var.const is not None and var not in copies:
                define(var, TensorSpec(var.const.array.shape, var.dtype, var.const.array))
        ins = [inferred[v] for v in node.inputs]
        outs = _infer(node, ins, pool)
        if outs is None:
            for var in node.outputs:
                define(var, None)
        elif all(copies[v].const is not None for v in node.inputs) and all(v.const is not None for v in outs):
            for var, out in zip(node.outputs, outs, strict=True):
                inferred[var] = out
                copies[var] = Var(var.id, var.name, TensorSpec(out.shape, out.dtype), out.const)
            continue
        else:
            for var, out in zip(node.outputs, outs, strict=True):
                inferred[var] = out
                copies[var] = Var(var.id, var.name, TensorSpec(out.spec.shape, out.spec.dtype))
        ins, outs = [copies[v] for v in node.inputs], [copies[v] for v in node.outputs]
        nodes.append(Node(node.op, node.params, ins, outs, node.name, node.output_dtype, node.payload))
    for var in source.outputs:
        if var not in copies:  # a constant that only the caller reads
            define(var, var.spec)
    outputs = [copies[v] for v in source.outputs]
    return Graph(nodes, [copies[v] for v in source.inputs], outputs, list(source.output_names))


def _infer(node: Node, ins: list[Var], pool: ConstantPool) -> list[Var] | None:
    """The outputs of a node, or None if they cannot be inferred without running the model."""
    if any(v.spec is None or v.spec.shape is None for v in ins) or missing_value(node, ins) is not None:
        return None
    return infer_node(node, ins, pool)
