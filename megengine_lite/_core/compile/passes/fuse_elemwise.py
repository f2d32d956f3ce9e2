"""Merges chains of elementwise functions into one node that reads its inputs and writes its result once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from megengine_lite._core.ir.dtype import DTypeCode
from megengine_lite._core.ir.fused import ElemwiseProgram, ElemwiseStep, FunctionOfOne
from megengine_lite._core.ir.graph import AnyNode, AnyVar, DynamicNode, Graph, Node, Var
from megengine_lite._core.operators.power import constant_exponent

# Less than kernels take: MAX_INPUTS and MAX_REGISTERS of ``elemwise``.
MAX_CHAIN_INPUTS = 10
MAX_CHAIN_STEPS = 24


def run(graph: Graph) -> None:
    consumers, producers = graph.consumers(), graph.producers()
    outputs: set[AnyVar] = set(graph.outputs)
    groups: dict[int, list[Node]] = {}  # id of the last node of a chain -> its nodes in order
    member: set[int] = set()
    order = {id(n): k for k, n in enumerate(graph.nodes)}
    for node in reversed(graph.nodes):
        if not isinstance(node, Node) or id(node) in member or not is_chainable(node):
            continue
        group = _grow(node, consumers, producers, outputs, member)
        group.sort(key=lambda n: order[id(n)])
        groups[id(node)] = group
        member.update(id(n) for n in group)
    nodes: list[Node | DynamicNode] = []
    for node in graph.nodes:
        if id(node) in groups:
            nodes.append(merge_chain(groups[id(node)]))
        elif id(node) not in member:
            nodes.append(node)
    graph.nodes = nodes


def is_chainable(node: Node) -> bool:
    """Whether a node is a float32 function that can be part of a chain."""
    if node.op != "Elemwise" or constant_exponent(node) is not None:
        return False
    return all(v.dtype.code == DTypeCode.FLOAT32 for v in (*node.inputs, *node.outputs))


def _grow(
    last: Node,
    consumers: Mapping[AnyVar, Sequence[AnyNode]],
    producers: Mapping[AnyVar, AnyNode],
    outputs: set[AnyVar],
    taken: set[int],
) -> list[Node]:
    """The chain that ends in ``last``: producers of the same shape that only the chain reads."""
    group = [last]
    ids = {id(last)}
    shape = last.outputs[0].shape
    grown = True
    while grown:
        grown = False
        for node in list(group):
            for v in node.inputs:
                p = producers.get(v)
                if not isinstance(p, Node) or id(p) in ids or id(p) in taken or v in outputs or v.const is not None:
                    continue
                if not is_chainable(p) or v.shape != shape or any(id(c) not in ids for c in consumers.get(v, [])):
                    continue
                if len(group) >= MAX_CHAIN_STEPS or len(_external([*group, p])) > MAX_CHAIN_INPUTS:
                    continue
                group.append(p)
                ids.add(id(p))
                grown = True
    return group


def _external(group: list[Node]) -> list[Var]:
    inside = {v for n in group for v in n.outputs}
    return list(dict.fromkeys(v for n in group for v in n.inputs if v not in inside))


def merge_chain(group: list[Node]) -> Node:
    """Functions, in their order, as one node."""
    inputs = _external(group)
    register = {v: k for k, v in enumerate(inputs)}
    steps = []
    for node in group:
        steps.append(ElemwiseStep(int(node.params.mode), tuple(register[v] for v in node.inputs)))
        register[node.outputs[0]] = len(inputs) + len(steps) - 1
    last = group[-1]
    return Node("FusedElemwise", ElemwiseProgram(tuple(steps)), inputs, last.outputs, last.name)


def function_of_one(node: Node) -> tuple[Var, FunctionOfOne] | None:
    """The one tensor that elementwise functions of a node read besides numbers, and the functions."""
    if node.op == "FusedElemwise":
        program: ElemwiseProgram = node.params
    elif node.op == "Elemwise":
        program = ElemwiseProgram((ElemwiseStep(int(node.params.mode), tuple(range(len(node.inputs)))),))
    else:
        return None
    numbers, tensors = [], []
    for k, v in enumerate(node.inputs):
        if v.const is not None and v.spec.size == 1 and v.dtype.code == DTypeCode.FLOAT32:
            numbers.append((k, float(v.const.array.reshape(-1)[0])))
        else:
            tensors.append(k)
    if not tensors or len({node.inputs[k] for k in tensors}) > 1:
        return None
    count, more = len(node.inputs), 1 + len(numbers)
    register = dict.fromkeys(tensors, 0) | {k: 1 + place for place, (k, _) in enumerate(numbers)}
    register |= {count + step: more + step for step in range(len(program.steps))}
    steps = tuple(ElemwiseStep(s.mode, tuple(register[a] for a in s.args)) for s in program.steps)
    return node.inputs[tensors[0]], FunctionOfOne(ElemwiseProgram(steps), tuple(n for _, n in numbers))
