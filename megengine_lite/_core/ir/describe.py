"""Graphs as text, for people who look for a fault."""

from __future__ import annotations

from megengine_lite._core.ir.graph import AnyNode, AnyVar, Graph, Spec, TensorSpec


def describe_spec(spec: Spec | None) -> str:
    """Type and shape: ``float32[1, 3, 8, 8]``; a question mark for what is not known.

    >>> from megengine_lite._core.ir.dtype import FLOAT32
    >>> describe_spec(TensorSpec((2, 3), FLOAT32))
    'float32[2, 3]'
    """
    if spec is None:
        return "?"
    return f"{spec.dtype}{list(spec.shape) if isinstance(spec, TensorSpec) else '[?]'}"


def describe_node(node: AnyNode) -> str:
    """One line: what it computes from what."""
    inputs = ", ".join(map(_operand, node.inputs))
    outputs = ", ".join(f"%{v.id} {describe_spec(v.spec)}" for v in node.outputs)
    return f"{outputs} = {node.op} {node.name!r} ({inputs})"


def describe_graph(graph: Graph) -> list[str]:
    """A line for the inputs, one for each node, and one for the outputs."""
    inputs = ", ".join(f"%{v.id} {v.name!r} {describe_spec(v.spec)}" for v in graph.inputs)
    outputs = ", ".join(f"{name!r} {_operand(v)}" for name, v in zip(graph.output_names, graph.outputs, strict=True))
    return [f"inputs {inputs}", *map(describe_node, graph.nodes), f"outputs {outputs}"]


def _operand(var: AnyVar) -> str:
    return f"%{var.id}" if var.const is None else f"constant {describe_spec(var.spec)}"
